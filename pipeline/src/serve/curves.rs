//! `/train`, `/train/STAGE` and `/sweep`: what stages measured while they were made, and against what was swept.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::html;

use super::failed::Failed;
use super::figures;
use super::shell::{Page, page};
use super::site::Shared;

/// The figure of curves, and that of sweeps.
const CURVES: &str = "curves";
const SWEEP: &str = "sweep";

/// `/train`: the stages that measured something again and again.
pub async fn stages(State(site): State<Shared>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let found = figures::subjects(&now, figures::kind(CURVES)?, &BTreeSet::new()).await?;
    let body = html! {
        @if found.is_empty() { p { "No stage has measured anything more than once yet. " code { "train" } " and " code { "kmeans" } " do, while they run." } }
        @else { p { "These stages measured something again and again:" } (figures::ways("/train", found.iter().map(|subject| subject.stage.as_str()), "")) }
    };
    Ok(page(&site, &now, &Page { title: "Curves", way: "/train", body, live: true }))
}

/// `/train/STAGE`: its curves, also while it is made.
pub async fn curves(State(site): State<Shared>, Path(name): Path<String>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let nodes: BTreeSet<usize> = now.catalog.plan.graph.matching(&name).into_iter().collect();
    if nodes.is_empty() {
        return Err(Failed::missing(format!("there is no stage `{name}`")));
    }
    let all = figures::subjects(&now, figures::kind(CURVES)?, &BTreeSet::new()).await?;
    let sections = figures::sections(&site, &now, &[CURVES], &nodes, &[]).await?;
    let body = html! {
        @if all.len() > 1 { (figures::ways("/train", all.iter().map(|subject| subject.stage.as_str()), &name)) }
        @if sections.is_empty() { p { "It has measured nothing more than once yet. This page shows it as it comes." } }
        @for (_, section) in &sections { (section) }
    };
    Ok(page(&site, &now, &Page { title: &format!("Curves of {name}"), way: "/train", body, live: true }))
}

/// `/sweep`: metrics against what was swept.
pub async fn sweep(State(site): State<Shared>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let sections = figures::sections(&site, &now, &[SWEEP], &BTreeSet::new(), &[]).await?;
    let body = html! {
        @if sections.is_empty() { p { "The file sweeps over nothing but seeds, or no cell has measured anything yet." } }
        @for (_, section) in &sections { (section) }
    };
    Ok(page(&site, &now, &Page { title: "Sweeps", way: "/sweep", body, live: true }))
}
