//! `/duplicates/TABLE`: pairs of images that are near to each other, the groups that they make, and what is left when one of each group is kept.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;
use tessera_schemas::IMAGE_ID;
use tessera_schemas::neighbours::{DISTANCE, NEIGHBOUR};

use super::failed::Failed;
use super::shell::{Page, page};
use super::site::{Now, Shared, Site};
use super::stage::find;
use super::{image, links};
use crate::ask::page::answer::{Answer, name as quoted, short};
use crate::ask::page::draw::shown;
use crate::ask::page::report::source;
use crate::ask::sql::cells::is_made;

/// Groups and pairs that are shown, and images of a group.
const SHOWN: usize = 50;
const OF_A_GROUP: usize = 12;
/// Pairs that groups are made of.
const PAIRS: usize = 500_000;

/// What an address asks for.
#[derive(Deserialize)]
pub struct Asked {
    below: Option<f64>,
}

/// `first` and `image_id` of each image that has near-duplicates, in groups by their first.
type Groups = BTreeMap<String, Vec<String>>;

fn tables(now: &Now) -> Vec<usize> {
    let (catalog, graph) = (&now.catalog, &now.catalog.plan.graph);
    let has = |node: usize| {
        let schema = catalog.schema(node);
        [IMAGE_ID, NEIGHBOUR, DISTANCE].iter().all(|name| schema.column_with_name(name).is_some())
    };
    (0..graph.nodes.len()).filter(|&node| !graph.nodes[node].view && is_made(catalog, node) && has(node)).collect()
}

fn table_of(now: &Now, name: &str) -> Result<usize, Failed> {
    let node = find(now, name)?;
    let is_one = tables(now).contains(&node);
    is_one.then_some(node).ok_or_else(|| Failed::missing(format!("`{name}` has no neighbours: `neighbours` makes them")))
}

/// `/duplicates`: the tables of neighbours that there are.
pub async fn choose(State(site): State<Shared>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let found = tables(&now);
    let body = html! {
        @if found.is_empty() { p { "No table has neighbours yet: stages of " code { "neighbours" } " make them." } }
        ul.ways { @for node in found { @let name = now.catalog.name(node); li { a href=(links::below("/duplicates", &[name])) { (shown(name)) } } } }
    };
    Ok(page(&site, &now, &Page { title: "Near-duplicates", way: "/duplicates", body, live: false }))
}

/// A distance that people ask for; by default that of one pair in a thousand.
async fn below(site: &Site, now: &Now, name: &str, asked: &Asked) -> Result<f64, Failed> {
    if let Some(below) = asked.below {
        return if below >= 0.0 && below.is_finite() {
            Ok(below)
        } else {
            Err(Failed::wrong("`below` is a distance, 0 or more"))
        };
    }
    let sql = format!("SELECT approx_percentile_cont({DISTANCE}, 0.001) AS below FROM {}", quoted(name));
    Ok(site.answer(now, sql).await?.number("below", 0)?.filter(|below| below.is_finite()).unwrap_or(0.0))
}

/// Pairs up to a distance, each once, nearest first.
fn pairs(name: &str, below: f64) -> String {
    format!(
        "SELECT least(image_id, {NEIGHBOUR}) AS image_id, greatest(image_id, {NEIGHBOUR}) AS {NEIGHBOUR}, min({DISTANCE}) AS {DISTANCE}
FROM {} WHERE {DISTANCE} <= {below} GROUP BY 1, 2 ORDER BY {DISTANCE}, 1, 2 LIMIT {PAIRS}",
        quoted(name)
    )
}

/// The page.
pub async fn duplicates(
    State(site): State<Shared>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    let node = table_of(&now, &name)?;
    let below = below(&site, &now, &name, &asked).await?;
    let answer = site.answer(&now, pairs(&name, below)).await?;
    let groups = groups(&answer)?;
    let images: usize = groups.values().map(Vec::len).sum();
    let mut largest: Vec<&Vec<String>> = groups.values().collect();
    largest.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let seen = now.catalog.stream_of(node).unwrap_or(node);
    let seen = now.catalog.plan.graph.nodes[node].edges.first().map_or(seen, |edge| edge.from);
    let keep = links::with(&links::below("/duplicates", &[&name, "keep.csv"]), &[("below", &below.to_string())]);
    let body = html! {
        form method="get" { label { "Images at most this far from each other: " input name="below" type="number" min="0" step="any" value=(below); } " " button { "Show" } }
        p { (answer.len()) " pairs make " (groups.len()) " groups of " (images) " images; without " (images - groups.len()) " of them, one of each group is kept." }
        @if answer.len() == PAIRS { p { "There are more pairs: a stage of " code { "groups" } " takes all of them." } }
        p { a href=(keep) { "What is left out, as CSV" } ": each image with the first of its group, which is kept. A stage of " code { "groups" } " with below = " (below) " makes the same groups." }
        (source(&answer, false, &site.arguments))
        section aria-labelledby="groups" {
            h2 id="groups" { "Groups, largest first" }
            @for group in largest.iter().take(SHOWN) {
                h3 { (group.len()) " images" }
                (image::listed(&now, seen, &group.iter().take(OF_A_GROUP).map(|id| (id.as_str(), String::new())).collect::<Vec<_>>()))
                @if group.len() > OF_A_GROUP { p.about { "And " (group.len() - OF_A_GROUP) " more." } }
            }
            @if largest.len() > SHOWN { p.about { "And " (largest.len() - SHOWN) " more groups." } }
        }
        section aria-labelledby="pairs" {
            h2 id="pairs" { "Pairs, farthest first" }
            p.about { "Where these are no near-duplicates any more, the distance is too large." }
            (last(&now, seen, &answer)?)
        }
    };
    Ok(page(&site, &now, &Page { title: &format!("Near-duplicates in {name}"), way: "/duplicates", body, live: false }))
}

/// The pairs that are farthest apart.
fn last(now: &Now, seen: usize, answer: &Answer) -> Result<Markup, Failed> {
    let (ids, others, distances) = (answer.texts(IMAGE_ID)?, answer.texts(NEIGHBOUR)?, answer.numbers(DISTANCE)?);
    Ok(html! { @for row in (0..answer.len()).rev().take(SHOWN / 2) {
        (image::listed(now, seen, &[(ids.value(row), short(distances.value(row))), (others.value(row), String::new())]))
    } })
}

/// `/duplicates/TABLE/keep.csv`: images that are left out, each with the one that is kept in its place.
pub async fn keep(
    State(site): State<Shared>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    table_of(&now, &name)?;
    let below = below(&site, &now, &name, &asked).await?;
    let groups = groups(&*site.answer(&now, pairs(&name, below)).await?)?;
    let mut text = String::from("image_id,first\n");
    for (first, group) in &groups {
        for id in group.iter().filter(|id| *id != first) {
            text.extend([&field(id), ",", &field(first), "\n"]);
        }
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"duplicates.csv\"")),
    ];
    Ok((headers, text).into_response())
}

/// A text as a field of CSV.
fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Images that hang together over pairs, by the first of each group.
fn groups(pairs: &Answer) -> Result<Groups> {
    let (ids, others) = (pairs.texts(IMAGE_ID)?, pairs.texts(NEIGHBOUR)?);
    Ok(joined(ids.iter().flatten().zip(others.iter().flatten())))
}

fn joined<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Groups {
    let (mut numbers, mut names, mut above): (HashMap<&str, usize>, Vec<&str>, Vec<usize>) = Default::default();
    let root = |above: &mut Vec<usize>, mut at: usize| {
        while above[at] != at {
            above[at] = above[above[at]];
            at = above[at];
        }
        at
    };
    for (a, b) in pairs {
        let [a, b] = [a, b].map(|id| {
            let number = *numbers.entry(id).or_insert(above.len());
            if number == above.len() {
                above.push(number);
                names.push(id);
            }
            root(&mut above, number)
        });
        above[a.max(b)] = a.min(b);
    }
    let mut by_root: HashMap<usize, Vec<String>> = HashMap::new();
    for (number, name) in names.iter().enumerate() {
        by_root.entry(root(&mut above, number)).or_default().push((*name).to_owned());
    }
    let first = |mut group: Vec<String>| {
        group.sort_unstable();
        (group[0].clone(), group)
    };
    by_root.into_values().map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_hang_together_are_one_group() {
        let found = joined([("d", "b"), ("x", "y"), ("b", "c"), ("a", "d"), ("a", "c")].into_iter());
        let expected = [("a", vec!["a", "b", "c", "d"]), ("x", vec!["x", "y"])];
        let expected = expected.map(|(first, all)| (first.to_owned(), all.into_iter().map(str::to_owned).collect()));
        assert_eq!(found, Groups::from(expected));
        assert!(joined(std::iter::empty()).is_empty());
        assert_eq!((field("a.jpg"), field("a,\"b\".jpg")), ("a.jpg".into(), "\"a,\"\"b\"\".jpg\"".into()));
    }
}
