//! `/`: the stages, what was left out, where the time went, and the runs.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use maud::html;

use super::failed::Failed;
use super::figures;
use super::foretold::Foretold;
use super::links;
use super::shell::{Page, page};
use super::site::Shared;
use crate::ask::page::draw::shown;

/// The figures of the whole pipeline, in their order.
const KINDS: [&str; 4] = ["stages", "dropped", "time", "runs"];

/// The page.
pub async fn overview(State(site): State<Shared>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let states = Foretold::of(&site, &now.version).await;
    let known = states.as_ref().map_or(&[][..], |states| states.as_slice());
    let sections = figures::sections(&site, &now, &KINDS, &BTreeSet::new(), known).await?;
    let graph = &now.catalog.plan.graph;
    let body = html! {
        @if states.is_none() { p.about { "What a run would do is being looked up: it is here when the page is loaded again." } }
        @for (at, (_, section)) in sections.iter().enumerate() {
            (section)
            @if at == 0 {
                h3 { "Tables" }
                ul.ways { @for node in &graph.nodes { li { a href=(links::below("/stage", &[&node.name])) { (shown(&node.name)) } } } }
            }
        }
    };
    Ok(page(&site, &now, &Page { title: "Stages", way: "/", body, live: true }))
}
