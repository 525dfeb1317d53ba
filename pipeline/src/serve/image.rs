//! `/image/ID`: an image: its picture, its row in every table, its clusters, and its true neighbours.

use std::collections::BTreeSet;

use anyhow::Result;
use arrow::datatypes::DataType;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use tessera_operators::operator::PortKind;
use tessera_schemas::{IMAGE_ID, pixels, printable};

use super::failed::Failed;
use super::shell::{Page, page};
use super::site::{Now, Shared, Site};
use super::stage::{Of, find};
use super::strips::{jpeg, picture};
use super::{figures, links, table};
use crate::ask::page::answer::{Answer, literal, name as quoted, short};
use crate::ask::page::draw::shown;
use crate::ask::page::report::source;
use crate::ask::show::{pictures, read_pictures};
use crate::ask::sql::cells::is_made;

/// Tables whose row of an image is shown.
const TABLES: usize = 24;
/// Neighbours that are shown.
const NEIGHBOURS: usize = 18;
/// Tables of features in which neighbours are looked for.
const SPACES: usize = 3;

/// A table of vectors that clusters were made of.
pub struct Space {
    /// Its place in the plan.
    pub node: usize,
    /// The column of vectors.
    pub column: String,
    /// The table of clusters that reads it.
    pub clusters: usize,
}

/// The tables of vectors that tables of clusters read, each once.
///
/// # Errors
/// There is no gallery (never).
pub async fn spaces(now: &Now) -> Result<Vec<Space>> {
    let (catalog, mut found): (_, Vec<Space>) = (&now.catalog, Vec::new());
    for clusters in figures::clustered(now, &BTreeSet::new()).await?.iter().filter_map(|subject| subject.node) {
        for edge in catalog.plan.graph.nodes[clusters].edges.iter().filter(|edge| edge.port.kind == PortKind::Stream) {
            let schema = catalog.schema(edge.from);
            let reads = catalog.plan.stages[clusters].reads.get(&edge.name).cloned().unwrap_or_default();
            let is_vector = |name: &&String| {
                let kind = schema.field_with_name(name).map(|field| field.data_type().clone());
                matches!(kind, Ok(DataType::FixedSizeList(item, _)) if *item.data_type() == DataType::Float32)
            };
            let known = found.iter().any(|space| space.node == edge.from);
            if let Some(column) = reads.iter().find(is_vector).filter(|_| !known && is_cheap(now, edge.from)) {
                found.push(Space { node: edge.from, column: column.clone(), clusters });
            }
        }
    }
    Ok(found)
}

/// Whether a table can be read whole while somebody waits: it is made, and no image is decoded for it.
fn is_cheap(now: &Now, node: usize) -> bool {
    let catalog = &now.catalog;
    let (base, views) = catalog.chain(node);
    !catalog.plan.graph.nodes[base].view
        && is_made(catalog, base)
        && views.iter().all(|&view| pixels::size(&catalog.schema(view)).is_err())
}

/// The page.
pub async fn image(State(site): State<Shared>, Path(id): Path<String>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let catalog = &now.catalog;
    let has_id = |node: &usize| catalog.schema(*node).column_with_name(IMAGE_ID).is_some();
    let tables: Vec<usize> = (0..catalog.plan.graph.nodes.len())
        .filter(|&node| !catalog.plan.graph.nodes[node].view && is_made(catalog, node))
        .filter(has_id)
        .collect();
    let mut rows: Vec<(usize, Markup)> = Vec::new();
    for &node in tables.iter().take(TABLES) {
        let name = catalog.name(node);
        let sql = format!("SELECT * FROM {} WHERE image_id = {}", quoted(name), literal(&id));
        let answer = site.answer(&now, sql).await?;
        if !answer.is_empty() {
            rows.push((node, row(&site, name, &answer)?));
        }
    }
    if rows.is_empty() {
        return Err(Failed::missing(format!("no table has an image `{}`", printable(&id))));
    }
    let clusters = clusters(&site, &now, &id).await?;
    let neighbours = neighbours(&site, &now, &id).await?;
    let last = rows.iter().rev().find_map(|(node, _)| pictures(catalog, *node).ok());
    let body = html! {
        @if let Some(stage) = last {
            @let name = catalog.name(stage);
            @let (height, width) = pixels::size(&catalog.schema(stage)).map_err(anyhow::Error::from)?;
            figure {
                img.picture alt=(printable(&id)) height=(height) width=(width) src=(format!("{}?v={}", links::below("/pixels", &[name, &id]), now.version));
                figcaption.about { "As " a href=(links::below("/stage", &[name])) { (shown(name)) } " decodes it." }
            }
        }
        @if let Some(clusters) = &clusters { section aria-labelledby="clusters" { h2 id="clusters" { "Its clusters" } (clusters) } }
        @for neighbours in &neighbours { (neighbours) }
        section aria-labelledby="rows" {
            h2 id="rows" { "Its rows" }
            @if tables.len() > TABLES { p.about { "Of " (tables.len()) " tables the first " (TABLES) "." } }
            @for (_, row) in &rows { (row) }
        }
    };
    Ok(page(&site, &now, &Page { title: &id, way: "", body, live: false }))
}

fn row(site: &Site, name: &str, answer: &Answer) -> Result<Markup> {
    Ok(html! {
        h3 { a href=(links::below("/stage", &[name])) { (shown(name)) } }
        (table::table(&answer.rows, &format!("row of {}", printable(name)))?)
        (source(answer, true, &site.arguments))
    })
}

/// The clusters that it is in.
async fn clusters(site: &Site, now: &Now, id: &str) -> Result<Option<Markup>> {
    let all = figures::clustered(now, &BTreeSet::new()).await?;
    let one = |stage: &str| {
        format!(
            "SELECT {} AS stage, CAST(cluster AS BIGINT) AS cluster, CAST(distance AS DOUBLE) AS distance FROM {} WHERE image_id = {}",
            literal(stage),
            quoted(stage),
            literal(id)
        )
    };
    let queries: Vec<String> = all.iter().take(TABLES).map(|subject| one(&subject.stage)).collect();
    if queries.is_empty() {
        return Ok(None);
    }
    let answer = site.answer(now, queries.join("\nUNION ALL\n")).await?;
    let (stages, numbers, distances) = (answer.texts("stage")?, answer.texts("cluster")?, answer.numbers("distance")?);
    Ok(Some(html! {
        ul.ways { @for row in 0..answer.len() {
            li { a href=(links::below("/clusters", &[stages.value(row), numbers.value(row)])) { "cluster " (numbers.value(row)) " of " (shown(stages.value(row))) } ", distance " (short(distances.value(row))) }
        } }
        (source(&answer, true, &site.arguments))
    }))
}

/// The images whose vectors are nearest to its own, of all.
async fn neighbours(site: &Site, now: &Now, id: &str) -> Result<Vec<Markup>> {
    let mut found = Vec::new();
    for space in spaces(now).await?.into_iter().take(SPACES) {
        let (stage, column) = (now.catalog.name(space.node), quoted(&space.column));
        let table = quoted(stage);
        let sql = format!(
            "SELECT f.image_id, array_distance(f.{column}, q.{column}) AS distance
FROM {table} f CROSS JOIN (SELECT {column} FROM {table} WHERE image_id = {id}) q
WHERE f.image_id <> {id} ORDER BY distance, f.image_id LIMIT {NEIGHBOURS}",
            id = literal(id)
        );
        let answer = site.answer(now, sql).await?;
        if answer.is_empty() {
            continue;
        }
        let name = format!("near-{}", found.len());
        found.push(html! {
            section aria-labelledby=(name) {
                h2 id=(name) { "Nearest images in " (shown(stage)) }
                p.about { "By the distance of their vectors, of all images; exact." }
                (thumbs(now, space.clusters, &answer)?)
                (source(&answer, true, &site.arguments))
            }
        });
    }
    Ok(found)
}

/// Images of an answer with their distances, small, each a way to its page. `node` is a table that comes from their pixels.
///
/// # Errors
/// The answer has no ids and distances.
pub fn thumbs(now: &Now, node: usize, answer: &Answer) -> Result<Markup> {
    let (ids, distances) = (answer.texts("image_id")?, answer.numbers("distance")?);
    let all = (0..answer.len()).map(|row| (ids.value(row), short(distances.value(row))));
    Ok(listed(now, node, &all.collect::<Vec<_>>()))
}

/// Small images, each with a word below it.
pub fn listed(now: &Now, node: usize, images: &[(&str, String)]) -> Markup {
    let name = now.catalog.name(node);
    let has_images = pictures(&now.catalog, node).is_ok();
    html! {
        ul.thumbs { @for (id, word) in images { li { a href=(links::image(id)) {
            @if has_images { img loading="lazy" decoding="async" alt="" width="96" height="96" src=(links::thumb(name, id, &now.version)); }
            (shown(id))
        } @if !word.is_empty() { br; (word) } } } }
    }
}

/// `/pixels/STAGE/ID`: an image as a stage decodes it, encoded anew.
pub async fn pixels_of(
    State(site): State<Shared>,
    Path((name, id)): Path<(String, String)>,
    Query(of): Query<Of>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    let node = find(&now, &name)?;
    let no = || Failed::missing(format!("`{}` has no image `{}`", printable(&name), printable(&id)));
    let size = pixels::size(&now.catalog.schema(node)).map_err(|_| no())?;
    let mut found: Option<Vec<u8>> = None;
    let leads = |lead: &str| id.starts_with(lead);
    read_pictures(&now.catalog, node, leads, |at, pixels| {
        if at == id {
            found = Some(pixels.to_vec());
        }
        Ok(found.is_none())
    })
    .await?;
    let pixels = found.ok_or_else(no)?;
    let encoded = tokio::task::spawn_blocking(move || jpeg(&pixels, size)).await.map_err(anyhow::Error::from)??;
    Ok(picture("image/jpeg", encoded, of.is(&now)))
}
