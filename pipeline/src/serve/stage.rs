//! `/stage/NAME`: a stage's columns, its first rows, its pictures, its key, and its figures.

use std::collections::BTreeSet;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};
use maud::{Markup, html};
use serde::Deserialize;

use super::failed::Failed;
use super::links;
use super::shell::{Page, page};
use super::site::{Now, Shared};
use super::strips::{self, picture};
use super::{figures, table};
use crate::ask::page::answer::name as quoted;
use crate::ask::page::draw::shown;
use crate::ask::page::report::source;
use crate::ask::show::{Ask, is_shown, show};
use crate::store::key::compact;
use crate::store::snapshots::utc;
use crate::watch::progress::duration;

/// Rows that are shown.
const ROWS: usize = 20;
/// Images of a picture; of clusters, of each one.
const IMAGES: usize = 24;

/// The generation that an address is of.
#[derive(Deserialize)]
pub struct Of {
    /// Its version.
    pub v: Option<String>,
}

impl Of {
    /// Whether it is that one.
    pub fn is(&self, now: &Now) -> bool {
        self.v.as_deref() == Some(&now.version)
    }
}

/// The stage of that name.
///
/// # Errors
/// There is none.
pub fn find(now: &Now, name: &str) -> Result<usize, Failed> {
    let found = now.catalog.plan.graph.find(name);
    found.ok_or_else(|| Failed::missing(format!("there is no stage `{name}`")))
}

/// The page.
pub async fn stage(State(site): State<Shared>, Path(name): Path<String>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let node = find(&now, &name)?;
    let catalog = &now.catalog;
    let (spec, view) = (&catalog.plan.graph.nodes[node].spec, catalog.plan.graph.nodes[node].view);
    let manifest = catalog.table(node).and_then(|table| table.manifest);
    let schema = catalog.schema(node);
    let is_made = view || manifest.is_some();
    let rows = if is_made { Some(rows(&site, &now, &name).await) } else { None };
    let figures = figures::sections(&site, &now, &figures::of_stages(), &BTreeSet::from([node]), &[]).await?;
    let clustered = !figures::clustered(&now, &BTreeSet::from([node])).await?.is_empty();
    let edges: Vec<&str> = catalog.plan.graph.nodes[node].edges.iter().map(|edge| catalog.name(edge.from)).collect();
    let body = html! {
        dl.facts {
            dt { "operator" } dd { code { (spec.name()) } ": " (spec.summary()) }
            @if !edges.is_empty() { dt { "reads" } dd { @for (at, edge) in edges.iter().enumerate() { @if at > 0 { ", " } a href=(links::below("/stage", &[edge])) { (shown(edge)) } } } }
            @if view { dt { "table" } dd { "a view: it is computed whenever it is read" } }
            @if let Some(manifest) = &manifest {
                dt { "rows" } dd { (manifest.rows()) " in " (manifest.parts.len()) @if manifest.parts.len() == 1 { " part" } @else { " parts" } }
                dt { "made" } dd { (utc(manifest.created)) ", in " (duration(manifest.seconds)) }
                dt { "snapshot" } dd { code { (manifest.id) } }
                dt { "key" } dd { code { (manifest.key) } }
                @for (key, value) in &manifest.parts_of_key.config { dt { code { (shown(key)) } } dd { code { (shown(&compact(value))) } } }
            } @else if !view { dt { "table" } dd { "not made yet" } }
        }
        @if clustered { p { a href=(links::below("/clusters", &[&name])) { "Its clusters, one by one" } } }
        @if is_made && is_shown(catalog, node) {
            section aria-labelledby="pictures" {
                h2 id="pictures" { "Pictures" }
                p.about { "As " code { "tessera show" } " draws them." }
                img.picture loading="lazy" alt=(format!("pictures of {name}")) src=(format!("{}?v={}", links::below("/picture", &[&name]), now.version));
            }
        }
        section aria-labelledby="columns" {
            h2 id="columns" { "Columns" }
            div.scroll tabindex="0" role="region" aria-label="columns" { table.numbers {
                thead { tr { th scope="col" { "column" } th scope="col" { "type" } } }
                tbody { @for field in schema.fields() { tr { th scope="row" { (shown(field.name())) } td { (shown(&field.data_type().to_string())) } } } }
            } }
        }
        @if let Some(rows) = rows {
            section aria-labelledby="rows" { h2 id="rows" { "First rows" }
                @match rows { Ok(rows) => (rows), Err(Failed { why, .. }) => p.error { (shown(&why)) } }
            }
        }
        @for (_, section) in &figures { (section) }
    };
    Ok(page(&site, &now, &Page { title: &name, way: "/", body, live: true }))
}

async fn rows(site: &Shared, now: &Now, name: &str) -> Result<Markup, Failed> {
    let answer = site.answer(now, format!("SELECT * FROM {} LIMIT {ROWS}", quoted(name))).await?;
    Ok(html! { (table::table(&answer.rows, "first rows")?) (source(&answer, true, &site.arguments)) })
}

/// `/picture/NAME`: what `tessera show` draws, as a PNG.
pub async fn pictures(
    State(site): State<Shared>,
    Path(name): Path<String>,
    Query(of): Query<Of>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    let node = find(&now, &name)?;
    if !is_shown(&now.catalog, node) {
        return Err(Failed::missing(format!("the table of `{name}` cannot be drawn")));
    }
    let shown = show(&now.catalog, node, &Ask { count: Some(IMAGES), ..Ask::default() }).await?;
    let canvas = shown.canvas;
    let work = move || {
        let mut png = Vec::new();
        let encoder = PngEncoder::new(&mut png);
        encoder.write_image(&canvas.pixels, canvas.width as u32, canvas.height as u32, ExtendedColorType::Rgb8)?;
        anyhow::Ok(png)
    };
    let png = tokio::task::spawn_blocking(work).await.map_err(anyhow::Error::from)??;
    Ok(picture("image/png", png, of.is(&now)))
}

/// `/thumb/TABLE/ID`: an image of a table, small, as a JPEG.
pub async fn thumb(
    State(site): State<Shared>,
    Path((name, id)): Path<(String, String)>,
    Query(of): Query<Of>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    let node = find(&now, &name)?;
    let jpeg = strips::single(&site, &now, node, &id).await?;
    let jpeg = jpeg.ok_or_else(|| Failed::missing(format!("`{name}` has no image `{id}`")))?;
    Ok(picture("image/jpeg", jpeg, of.is(&now)))
}
