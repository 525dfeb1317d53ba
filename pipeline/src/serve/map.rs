//! `/map/TABLE`: images in the plane, as `layout` and `place` put them there; and `/points/TABLE`, their places in one piece.

use std::collections::HashMap;

use anyhow::Result;
use arrow::array::{Array as _, StringArray};
use arrow::datatypes::DataType;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;
use tessera_schemas::IMAGE_ID;
use tessera_schemas::neighbours::{DISTANCE, NEIGHBOUR, RANK};
use tessera_schemas::points::{X, Y};

use super::failed::Failed;
use super::shell::{Page, map_address, page};
use super::site::{Now, Shared, Site};
use super::stage::{Of, find};
use super::{image, links};
use crate::ask::page::answer::{Answer, literal, name as quoted, short};
use crate::ask::page::draw::shown;
use crate::ask::page::report::source;
use crate::ask::show::pictures;
use crate::ask::sql::cells::is_made;

/// Values that have colours of their own.
const HUES: usize = 8;
/// The value of what has none, and of all behind those that are counted.
const NONE: u16 = u16::MAX;
/// Columns that points are coloured by, and how many are offered.
const COLOURS: [&str; 4] = ["cluster", "label", "name", "class"];
const OFFERED: usize = 24;
/// True neighbours that are shown beside a point's image.
const NEIGHBOURS: usize = 6;
/// Tables upstream that a map's measure is looked for in.
const STEPS: usize = 32;

/// What a map's address asks for.
#[derive(Deserialize)]
pub struct Asked {
    /// `TABLE.COLUMN`: what points are coloured by.
    color: Option<String>,
    v: Option<String>,
}

fn has(now: &Now, node: usize, columns: &[&str]) -> bool {
    let (catalog, graph) = (&now.catalog, &now.catalog.plan.graph);
    let schema = catalog.schema(node);
    !graph.nodes[node].view && is_made(catalog, node) && columns.iter().all(|name| schema.column_with_name(name).is_some())
}

/// Tables of points.
fn maps(now: &Now) -> Vec<usize> {
    let number = |node: usize, name: &str| {
        let schema = now.catalog.schema(node);
        schema.field_with_name(name).is_ok_and(|field| field.data_type().is_numeric())
    };
    let all = 0..now.catalog.plan.graph.nodes.len();
    all.filter(|&node| has(now, node, &[IMAGE_ID, X, Y]) && number(node, X) && number(node, Y)).collect()
}

fn map_of(now: &Now, name: &str) -> Result<usize, Failed> {
    let node = find(now, name)?;
    let is_map = maps(now).contains(&node);
    is_map
        .then_some(node)
        .ok_or_else(|| Failed::missing(format!("`{name}` has no places of images: `layout` and `place` make them")))
}

/// What points can be coloured by: a table and its column.
fn colours(now: &Now) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for node in 0..now.catalog.plan.graph.nodes.len() {
        let schema = now.catalog.schema(node);
        let plain = |name: &str| {
            schema
                .field_with_name(name)
                .is_ok_and(|field| matches!(field.data_type(), DataType::Utf8 | DataType::Int32 | DataType::Int64))
        };
        let of_image = has(now, node, &[IMAGE_ID]) && schema.column_with_name(NEIGHBOUR).is_none();
        found.extend(COLOURS.into_iter().filter(|name| of_image && plain(name)).map(|name| (node, name)));
    }
    found.truncate(OFFERED);
    found
}

/// `/map`: the maps that there are.
pub async fn choose(State(site): State<Shared>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let found = maps(&now);
    let body = html! {
        @if found.is_empty() { p { "No table has places of images yet: stages of " code { "layout" } " and " code { "place" } " make them." } }
        ul.ways { @for node in found { @let name = now.catalog.name(node); li { a href=(links::below("/map", &[name])) { (shown(name)) } } } }
    };
    Ok(page(&site, &now, &Page { title: "Maps", way: "/map", body, live: false }))
}

/// The page.
pub async fn map(
    State(site): State<Shared>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    let node = map_of(&now, &name)?;
    let colour = colour(&now, asked.color.as_deref())?;
    let values = match &colour {
        Some(colour) => Some(site.answer(&now, counted(&name, colour)).await?),
        None => None,
    };
    let mut src = vec![("v", &*now.version)];
    let word = colour.as_ref().map(|(table, column)| format!("{table}.{column}"));
    if let Some(word) = &word {
        src.push(("color", word));
    }
    let body = html! {
        (believed(&site, &now, node).await?)
        nav aria-label="Colours" { ul.ways {
            li { a href=(links::below("/map", &[&name])) aria-current=[word.is_none().then_some("true")] { "one colour" } }
            @for (node, column) in colours(&now) {
                @let this = format!("{}.{column}", now.catalog.name(node));
                li { a href=(links::with(&links::below("/map", &[&name]), &[("color", &this)])) aria-current=[(word.as_ref() == Some(&this)).then_some("true")] { (shown(&this)) } }
            }
        } }
        @if let Some(values) = &values { (legend(values)?) }
        div.mapped {
            canvas.map tabindex="0" role="img" aria-label=(format!("map of {name}")) aria-describedby="map-keys"
                data-src=(links::with(&links::below("/points", &[&name]), &src)) data-at=(links::below("/map", &[&name, "at"])) data-table=(quoted(&name)) {}
            aside id="map-image" aria-live="polite" { p.about { "Point at an image to see it and its true neighbours." } }
        }
        p { button id="map-lasso" type="button" aria-pressed="false" { "Lasso" } " " span id="map-status" role="status" {} " "
            a id="map-chosen" href="/sql" hidden { "Ask for them" } }
        pre { code id="map-query" {} }
        p.about id="map-keys" { "Drag to move, turn the wheel or pinch to zoom; arrows, + and - do the same, and 0 shows all. Lasso, or Shift and drag, chooses images." }
        @if let Some(values) = &values { (source(values, false, &site.arguments)) }
        noscript { p { "The map needs a script; " a href=(links::below("/stage", &[&name])) { "its table" } " does not." } }
        script type="module" src=(map_address()) {}
    };
    Ok(page(&site, &now, &Page { title: &format!("Map of {name}"), way: "/map", body, live: false }))
}

/// The table and column of `TABLE.COLUMN`.
fn colour(now: &Now, word: Option<&str>) -> Result<Option<(String, String)>, Failed> {
    let Some(word) = word.filter(|word| !word.is_empty()) else { return Ok(None) };
    let known = colours(now).into_iter().map(|(node, column)| (now.catalog.name(node).to_owned(), column.to_owned()));
    let found = known.into_iter().find(|(table, column)| format!("{table}.{column}") == word);
    found.map(Some).ok_or_else(|| Failed::missing(format!("points cannot be coloured by `{word}`: there is no such column")))
}

/// How many points have each value, most first.
fn counted(name: &str, (table, column): &(String, String)) -> String {
    let (name, table, column) = (quoted(name), quoted(table), quoted(column));
    format!(
        "SELECT CAST(c.{column} AS VARCHAR) AS value, count(*) AS images FROM {name} p JOIN {table} c ON p.image_id = c.image_id
WHERE c.{column} IS NOT NULL GROUP BY 1 ORDER BY images DESC, value"
    )
}

fn legend(values: &Answer) -> Result<Markup, Failed> {
    let (texts, images) = (values.texts("value")?, values.numbers("images")?);
    Ok(html! {
        ul.ways.legend aria-label="Values" { @for row in 0..values.len().min(HUES) { li {
            button type="button" data-value=(row) aria-pressed="false" { span.swatch {} " " (shown(texts.value(row))) " (" (short(images.value(row))) ")" }
        } } }
        @if values.len() > HUES { p.about { "And " (values.len() - HUES) " more values, in grey." } }
    })
}

/// How far the map can be believed: what the `layout` measured that it comes from.
async fn believed(site: &Site, now: &Now, node: usize) -> Result<Markup, Failed> {
    let graph = &now.catalog.plan.graph;
    let (mut names, mut open) = (Vec::new(), vec![node]);
    while let Some(at) = open.pop().filter(|_| names.len() < STEPS) {
        names.push(literal(now.catalog.name(at)));
        open.extend(graph.nodes[at].edges.iter().map(|edge| edge.from));
    }
    let sql =
        format!("SELECT stage, value FROM metrics WHERE name = 'kept' AND stage IN ({}) ORDER BY stage", names.join(", "));
    let answer = site.answer(now, sql).await?;
    let value = answer.number("value", 0)?;
    Ok(html! {
        @match value {
            Some(value) => p { "Of an image's true neighbours, " b { (short((value * 1000.0).round() / 10.0)) " %" } " are its neighbours on this map: find images here, and judge them by their neighbours." },
            None => p { "Nobody has measured how many of an image's true neighbours are its neighbours on this map." },
        }
        @if value.is_some() { (source(&answer, true, &site.arguments)) }
    })
}

fn ordered(name: &str) -> String {
    format!("SELECT image_id, CAST({X} AS REAL) AS {X}, CAST({Y} AS REAL) AS {Y} FROM {} ORDER BY image_id", quoted(name))
}

/// `/points/TABLE`: how many points there are (u32), the least and the largest x and y (f32), and then x, y and value of all (u16), in the order of their
/// ids. Values are numbered by how many points have them.
pub async fn points(
    State(site): State<Shared>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    map_of(&now, &name)?;
    let places = site.answer(&now, ordered(&name)).await?;
    let values = match colour(&now, asked.color.as_deref())? {
        None => None,
        Some(colour) => {
            let counted = site.answer(&now, counted(&name, &colour)).await?;
            let (name, table, column) = (quoted(&name), quoted(&colour.0), quoted(&colour.1));
            let each = format!(
                "SELECT p.image_id, CAST(min(c.{column}) AS VARCHAR) AS value FROM {name} p LEFT JOIN {table} c ON p.image_id = c.image_id
GROUP BY p.image_id ORDER BY p.image_id"
            );
            Some((counted.texts("value")?, site.answer(&now, each).await?.texts("value")?))
        }
    };
    let (xs, ys) = (places.numbers(X)?, places.numbers(Y)?);
    let bytes = packed(xs.values(), ys.values(), values.as_ref());
    let is_asked = Of { v: asked.v }.is(&now);
    let keep = if is_asked { "private, max-age=604800, immutable" } else { "no-store" };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static(keep)),
    ];
    Ok((headers, bytes).into_response())
}

/// Points as [`points`] sends them; `values` are all values in their order, and that of each point.
fn packed(xs: &[f64], ys: &[f64], values: Option<&(StringArray, StringArray)>) -> Vec<u8> {
    let bounds = |all: &[f64]| {
        let finite = all.iter().copied().filter(|value| value.is_finite());
        let (low, high) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low < high {
            (low, high)
        } else if low == high {
            (low - 1.0, low + 1.0)
        } else {
            (0.0, 1.0)
        }
    };
    let ((left, right), (bottom, top)) = (bounds(xs), bounds(ys));
    let mut bytes = Vec::with_capacity(20 + 6 * xs.len());
    bytes.extend((xs.len() as u32).to_le_bytes());
    // One scale for both axes, so that distances are what they are.
    let half = (right - left).max(top - bottom) / 2.0;
    let ((x, y), side) = (((left + right) / 2.0 - half, (bottom + top) / 2.0 - half), 2.0 * half);
    [x, x + side, y, y + side].into_iter().for_each(|bound| bytes.extend((bound as f32).to_le_bytes()));
    for (all, low) in [(xs, x), (ys, y)] {
        all.iter().for_each(|value| bytes.extend((((value - low) / side * 65535.0).round() as u16).to_le_bytes()));
    }
    let numbers: HashMap<&str, u16> =
        values.map_or_else(HashMap::new, |(all, _)| all.iter().flatten().zip(0..NONE).collect());
    for row in 0..xs.len() {
        let value = values.and_then(|(_, each)| (row < each.len() && each.is_valid(row)).then(|| each.value(row)));
        // Without a colour all have the first.
        let number = if values.is_none() { 0 } else { value.and_then(|value| numbers.get(value).copied()).unwrap_or(NONE) };
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

/// `/map/TABLE/at/N`: the image of a point and its true neighbours, to be put beside the map.
pub async fn at(State(site): State<Shared>, Path((name, point)): Path<(String, usize)>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let node = map_of(&now, &name)?;
    let ids = site.answer(&now, ordered(&name)).await?.texts("image_id")?;
    if point >= ids.len() {
        return Err(Failed::missing(format!("the map has {} points", ids.len())));
    }
    let id = ids.value(point);
    let mut neighbours = Vec::new();
    let near = (0..now.catalog.plan.graph.nodes.len()).find(|&node| has(&now, node, &[IMAGE_ID, RANK, NEIGHBOUR, DISTANCE]));
    if let Some(near) = near {
        let sql = format!(
            "SELECT {NEIGHBOUR}, {DISTANCE} FROM {} WHERE image_id = {} ORDER BY {RANK} LIMIT {NEIGHBOURS}",
            quoted(now.catalog.name(near)),
            literal(id)
        );
        let answer = site.answer(&now, sql).await?;
        let (others, distances) = (answer.texts(NEIGHBOUR)?, answer.numbers(DISTANCE)?);
        neighbours.extend((0..answer.len()).map(|row| (others.value(row).to_owned(), short(distances.value(row)))));
    }
    // `place` and `layout` read features, which come from pixels.
    let shown_by = seen(&now, node);
    let near: Vec<(&str, String)> = neighbours.iter().map(|(id, distance)| (id.as_str(), distance.clone())).collect();
    let body = html! {
        (image::listed(&now, shown_by, &[(id, String::new())]))
        @if !near.is_empty() { p { "Its true neighbours:" } (image::listed(&now, shown_by, &near)) }
    };
    Ok(Html(body.into_string()).into_response())
}

/// A table upstream that comes from pixels, or the map itself.
fn seen(now: &Now, node: usize) -> usize {
    let graph = &now.catalog.plan.graph;
    let (mut open, mut done) = (vec![node], 0);
    while let Some(at) = open.pop().filter(|_| done < STEPS) {
        if pictures(&now.catalog, at).is_ok() {
            return at;
        }
        done += 1;
        open.extend(graph.nodes[at].edges.iter().rev().map(|edge| edge.from));
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_packed_side_by_side() {
        let values = (StringArray::from(vec!["b", "a"]), StringArray::from(vec![Some("a"), None, Some("b")]));
        let bytes = packed(&[0.0, 4.0, 2.0], &[1.0, 1.0, 3.0], Some(&values));
        assert_eq!(bytes.len(), 20 + 18);
        assert_eq!(bytes[..4], 3u32.to_le_bytes());
        let bounds: Vec<f32> = bytes[4..20].chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(bounds, [0.0, 4.0, 0.0, 4.0]);
        let all: Vec<u16> = bytes[20..].chunks(2).map(|two| u16::from_le_bytes(two.try_into().unwrap())).collect();
        assert_eq!(all, [0, 65535, 32768, 16384, 16384, 49151, 1, NONE, 0]);
        assert_eq!(packed(&[7.0], &[7.0], None)[20..].len(), 6);
        assert_eq!(packed(&[], &[], None).len(), 20);
    }
}
