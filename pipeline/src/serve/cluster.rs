//! `/clusters/TABLE/N`: one cluster: its images, its distances, its neighbours, its classes.

use std::sync::Arc;

use anyhow::Result;
use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use tessera_operators::operator::PortKind;

use super::clusters::{Clusters, figure, said};
use super::failed::Failed;
use super::links;
use super::shell::{Page, page};
use super::site::{Now, Shared, Site};
use crate::ask::page::answer::{Answer, name as quoted, short};
use crate::ask::page::draw::bars::{Bar, bars};
use crate::ask::page::draw::shown;
use crate::ask::page::report::source;

/// Images of a strip.
const IMAGES: usize = 24;
/// Bars of the distances.
const BINS: usize = 20;
/// Clusters that are shown as the nearest.
const NEAREST: usize = 12;

/// Kinds of strips: their names in addresses, and what they are.
const KINDS: [(&str, &str); 4] = [
    ("nearest", "Nearest to the centre"),
    ("farthest", "Farthest from the centre"),
    ("border", "At the border to another cluster"),
    ("random", "At random"),
];

/// The members of a cluster of one kind: in words, and the answer.
///
/// # Errors
/// There is no such kind, or the table cannot be read.
pub async fn row(
    site: &Site,
    now: &Now,
    found: &Clusters,
    cluster: i64,
    kind: &str,
) -> Result<(&'static str, Arc<Answer>), Failed> {
    let order = match kind {
        "nearest" => "distance, image_id",
        "farthest" => "distance DESC, image_id",
        "border" if found.subject.has_second => "second_distance - distance, image_id",
        "random" => "(row_number() OVER (ORDER BY distance, image_id) * 40503 + cluster * 30323) % 65536, image_id",
        _ => return Err(Failed::missing(format!("there are no images of the kind `{kind}`"))),
    };
    let (_, words) = KINDS.iter().find(|(name, _)| *name == kind).ok_or_else(|| Failed::missing("there is no such kind"))?;
    let sql = format!(
        "SELECT image_id, distance FROM {} WHERE cluster = {cluster} ORDER BY {order} LIMIT {IMAGES}",
        found.subject.table()
    );
    Ok((words, site.answer(now, sql).await?))
}

/// The page.
pub async fn cluster(State(site): State<Shared>, Path((name, cluster)): Path<(String, i64)>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let found = Clusters::of(&site, &now, &name).await?;
    let facts = found.facts.iter().find(|facts| facts.cluster == cluster);
    let facts = facts.ok_or_else(|| Failed::missing(format!("no image of `{name}` is in cluster {cluster}")))?;
    let has_images = crate::ask::show::pictures(&now.catalog, found.node).is_ok();
    let (mut strips, mut ids) = (Vec::new(), Vec::new());
    for (kind, _) in KINDS.iter().filter(|(kind, _)| *kind != "border" || found.subject.has_second) {
        let (words, answer) = row(&site, &now, &found, cluster, kind).await?;
        ids.extend(answer.texts("image_id")?.iter().flatten().map(str::to_owned));
        strips.push((*kind, words, answer));
    }
    if has_images {
        let (site, now, node) = (site.clone(), now.clone(), found.node);
        tokio::spawn(async move { site.strips.of(&now, node, &ids).await.map(|_| ()) });
    }
    let drawn =
        strips.iter().map(|(kind, words, answer)| drawn(&site, &now, (&name, cluster), (kind, words), answer, has_images));
    let drawn = drawn.collect::<Result<Vec<_>>>()?;
    let histogram = histogram(&site, &now, &found, cluster).await?;
    let nearest = nearest(&site, &now, &found, &name, cluster).await?;
    let classes = classes(&site, &now, &found, cluster).await?;
    let body = html! {
        p { (said(facts)) ", radius " (short(facts.radius)) "." }
        (source(&found.answers[0], true, &site.arguments))
        section aria-labelledby="images" { h2 id="images" { "Images" } div.strips { @for strip in &drawn { (strip) } } }
        @if let Some(classes) = &classes { section aria-labelledby="classes" { h2 id="classes" { "Classes" } (classes) } }
        section aria-labelledby="distances" { h2 id="distances" { "Distances to the centre" } (histogram) }
        @if let Some(nearest) = &nearest { section aria-labelledby="near" { h2 id="near" { "Nearest clusters" } (nearest) } }
        p { a href=(links::with("/sql", &[("q", &format!("SELECT * FROM {} WHERE cluster = {cluster} ORDER BY distance", found.subject.table()))])) { "All its images, by SQL" } }
    };
    let title = format!("Cluster {cluster} of {name}");
    Ok(page(&site, &now, &Page { title: &title, way: "/clusters", body, live: true }))
}

fn drawn(
    site: &Site,
    now: &Now,
    (name, cluster): (&str, i64),
    (kind, words): (&str, &str),
    answer: &Answer,
    has_images: bool,
) -> Result<Markup> {
    let (ids, distances) = (answer.texts("image_id")?, answer.texts("distance")?);
    let images =
        (0..answer.len()).map(|row| (row, ids.value(row), format!("{} ({})", ids.value(row), distances.value(row))));
    let images: Vec<(usize, &str, String)> = images.collect();
    let number = cluster.to_string();
    let address = format!("{}?v={}", links::below("/strip", &[name, &number, kind]), now.version);
    let alt = format!("cluster {cluster}, {}: {} images", words.to_lowercase(), images.len());
    Ok(html! {
        div {
            h3 { (words) }
            @if has_images { (figure(&address, &images, &alt)) }
            @else { ul { @for (_, id, words) in &images { li { a href=(links::image(id)) { (shown(words)) } } } } }
            (source(answer, false, &site.arguments))
        }
    })
}

/// How many members are how far from the centre.
async fn histogram(site: &Site, now: &Now, found: &Clusters, cluster: i64) -> Result<Markup> {
    let table = found.subject.table();
    let sql = format!(
        "WITH members AS (SELECT CAST(distance AS DOUBLE) AS distance FROM {table} WHERE cluster = {cluster}),
ends AS (SELECT min(distance) AS low, max(distance) AS high FROM members),
bins AS (
  SELECT low, high, CASE WHEN high > low THEN least(CAST(floor((distance - low) / (high - low) * {BINS}) AS BIGINT), {last}) ELSE 0 END AS bin
  FROM members CROSS JOIN ends)
SELECT bin, min(low) + bin * (min(high) - min(low)) / {BINS} AS from_distance, count(*) AS images FROM bins GROUP BY bin ORDER BY bin",
        last = BINS - 1
    );
    let answer = site.answer(now, sql).await?;
    let (from, images) = (answer.numbers("from_distance")?, answer.numbers("images")?);
    let bar = |row: usize| Bar { name: vec![short(from.value(row))], value: Some(images.value(row)), written: None };
    let rows: Vec<Bar> = (0..answer.len()).map(bar).collect();
    Ok(html! { (bars(&["from distance", "images"], &rows)) (source(&answer, true, &site.arguments)) })
}

/// The clusters whose centres are nearest; where there is no table of centres, those that members would be in next.
async fn nearest(site: &Site, now: &Now, found: &Clusters, name: &str, cluster: i64) -> Result<Option<Markup>> {
    let edges = &now.catalog.plan.graph.nodes[found.node].edges;
    let has = |node: usize, column: &str| now.catalog.schema(node).column_with_name(column).is_some();
    let is_made = |node: usize| crate::ask::sql::cells::is_made(&now.catalog, node);
    let mut centres = edges.iter().filter(|edge| edge.port.kind != PortKind::Stream).map(|edge| edge.from);
    let centres = centres.rfind(|&node| has(node, "centroid") && has(node, "cluster") && is_made(node));
    let (sql, what) = match centres {
        Some(node) => {
            let table = quoted(now.catalog.name(node));
            let sql = format!(
                "SELECT o.cluster, array_distance(o.centroid, c.centroid) AS value
FROM {table} o CROSS JOIN (SELECT centroid FROM {table} WHERE cluster = {cluster}) c
WHERE o.cluster <> {cluster} ORDER BY value, o.cluster LIMIT {NEAREST}"
            );
            (sql, "distance of the centres")
        }
        None if found.subject.has_second => {
            let sql = format!(
                "SELECT second_cluster AS cluster, count(*) AS value FROM {} WHERE cluster = {cluster} AND second_cluster IS NOT NULL
GROUP BY second_cluster ORDER BY value DESC, cluster LIMIT {NEAREST}",
                found.subject.table()
            );
            (sql, "members that would be in it next")
        }
        None => return Ok(None),
    };
    let answer = site.answer(now, sql).await?;
    if answer.is_empty() {
        return Ok(None);
    }
    let (clusters, values) = (answer.numbers("cluster")?, answer.numbers("value")?);
    Ok(Some(html! {
        p.about { "By " (what) "." }
        ul.ways { @for row in 0..answer.len() {
            @let number = (clusters.value(row) as i64).to_string();
            li { a href=(links::below("/clusters", &[name, &number])) { "cluster " (number) } " (" (short(values.value(row))) ")" }
        } }
        (source(&answer, true, &site.arguments))
    }))
}

/// Its members' classes.
async fn classes(site: &Site, now: &Now, found: &Clusters, cluster: i64) -> Result<Option<Markup>> {
    let Some((pairs, of)) = &found.subject.classes else { return Ok(None) };
    let sql = format!(
        "SELECT label, count(*) AS images FROM ({pairs}) WHERE cluster = {cluster} GROUP BY label ORDER BY images DESC, label LIMIT 100"
    );
    let answer = site.answer(now, sql).await?;
    if answer.is_empty() {
        return Ok(None);
    }
    let (labels, images) = (answer.texts("label")?, answer.numbers("images")?);
    let bar = |row: usize| Bar { name: vec![labels.value(row).to_owned()], value: Some(images.value(row)), written: None };
    let rows: Vec<Bar> = (0..answer.len()).map(bar).collect();
    Ok(Some(
        html! { p.about { "By " code { (shown(of)) } "." } (bars(&["class", "images"], &rows)) (source(&answer, true, &site.arguments)) },
    ))
}
