//! The gallery of clusters: a card a cluster, with its images, its size, spread and margin, and its most frequent classes.

use std::collections::HashMap;

use anyhow::Result;
use arrow::array::Array as _;
use maud::{Markup, html};
use tessera_schemas::printable;

use super::answer::{Answer, short};
use super::draw::shown;
use super::figures::Shown;
use super::sprites::{ACROSS, Wanted};

/// Cards of one gallery.
const CARDS: usize = 3000;
/// Slots of the second row of a card's images.
const BORDER: usize = 6;
const RANDOM: usize = 8;
const FARTHEST: usize = 10;

/// A member of a cluster that is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Where: slot 7 is the second of the second row.
    pub slot: usize,
    /// Why it is shown: `nearest`, `border`, `random` or `farthest`.
    pub kind: String,
    /// The image.
    pub id: String,
    /// Its distance to the centre, as it is written.
    pub distance: String,
}

/// The members that are shown, by cluster.
///
/// # Errors
/// The answer is another query's.
pub fn members(answer: &Answer) -> Result<HashMap<i64, Vec<Member>>> {
    let (clusters, kinds, ids) = (answer.numbers("cluster")?, answer.texts("kind")?, answer.texts("image_id")?);
    let distances = answer.texts("distance")?;
    let has_border = kinds.iter().flatten().any(|kind| kind == "border");
    let mut found: HashMap<i64, Vec<Member>> = HashMap::new();
    for row in 0..answer.len() {
        let members = found.entry(clusters.value(row) as i64).or_default();
        let first = match kinds.value(row) {
            "nearest" => 0,
            "border" => BORDER,
            "random" if has_border => RANDOM,
            "random" => BORDER,
            _ => FARTHEST,
        };
        let before = members.iter().filter(|member| member.kind == kinds.value(row)).count();
        let distance = if distances.is_valid(row) { distances.value(row) } else { "" };
        members.push(Member {
            slot: first + before,
            kind: kinds.value(row).to_owned(),
            id: ids.value(row).to_owned(),
            distance: distance.to_owned(),
        });
    }
    Ok(found)
}

/// The images that a gallery shows, the largest clusters first.
///
/// # Errors
/// The answers are other queries'.
pub fn wanted(facts: &Answer, members_of: &Answer) -> Result<Vec<Wanted>> {
    let (clusters, mut members) = (facts.numbers("cluster")?, members(members_of)?);
    let images = |members: Vec<Member>| members.into_iter().map(|member| (member.slot, member.id)).collect();
    let shown = clusters.values().iter().take(CARDS).map(|&cluster| cluster as i64);
    Ok(shown.map(|cluster| (cluster, images(members.remove(&cluster).unwrap_or_default()))).collect())
}

/// Draws the cards.
///
/// # Errors
/// The answers are other queries'.
pub fn draw(page: &Shown<'_>) -> Result<Option<Markup>> {
    let [facts, of_members, more @ ..] = page.answers else { return Ok(None) };
    if facts.is_empty() {
        return Ok(None);
    }
    let members = members(of_members)?;
    let classes = more.first().map(classes).transpose()?.unwrap_or_default();
    let clusters = facts.numbers("cluster")?;
    let [sizes, spreads, radii, margins] = ["size", "spread", "radius", "margin"].map(|name| facts.numbers(name));
    let (sizes, spreads, radii, margins) = (sizes?, spreads?, radii?, margins?);
    let card = |row: usize| {
        let cluster = clusters.value(row) as i64;
        let members = members.get(&cluster).map_or(&[][..], Vec::as_slice);
        let classes = classes.get(&cluster).map_or(&[][..], Vec::as_slice);
        let margin = margins.is_valid(row).then(|| margins.value(row));
        let most = classes.first().map(|(_, images)| images / sizes.value(row));
        html! {
            article.card data-cluster=(cluster) data-size=(sizes.value(row)) data-spread=(spreads.value(row)) data-radius=(radii.value(row))
                data-margin=[margin] data-share=[most] {
                h4 { "Cluster " (cluster) }
                p { (short(sizes.value(row))) @if sizes.value(row) == 1.0 { " image" } @else { " images" } ", spread " (short(spreads.value(row)))
                    @if let Some(margin) = margin { ", margin " (short(margin)) } }
                @if let Some((jpeg, rows)) = page.sprites.and_then(|sprites| sprites.of.get(&cluster)) {
                    @let side = page.sprites.map_or(0, |sprites| sprites.side);
                    img loading="lazy" decoding="async" width=(ACROSS * side) height=(rows * side) alt=(alt(cluster, members, sizes.value(row), classes))
                        src=(format!("data:image/jpeg;base64,{jpeg}")) {}
                    @if *rows > 1 { p.kinds { @for kind in kinds(members) { span { (kind) } } } }
                }
                @if !classes.is_empty() {
                    p.classes { @for (at, (class, images)) in classes.iter().enumerate() { @if at > 0 { ", " } (shown(class)) " " (short(*images)) } }
                }
                details { summary { (members.len()) @if members.len() == 1 { " image" } @else { " images" } }
                    pre.members { @for member in members { (member.kind) "\t" (member.distance) "\t" (printable(&member.id)) "\n" } } }
            }
        }
    };
    let drawn = facts.len().min(CARDS);
    Ok(Some(html! {
        @if facts.len() > drawn { p { "Of " (short(facts.len() as f64)) " clusters the " (short(drawn as f64)) " largest." } }
        @if let Some(sprites) = page.sprites {
            @if sprites.of.len() < drawn { p { "The images of the " (short(sprites.of.len() as f64)) " largest are shown, for those of all would make the page too large." } }
            @if sprites.missing > 0 { p { (sprites.missing) " images could not be had: they were changed or are gone." } }
        }
        form.tools hidden {
            label { "Sort by " select name="by" {
                option value="size" { "size" }
                option value="spread" { "spread (mean distance to the centre)" }
                @if margins.null_count() < margins.len() { option value="margin" { "margin (mean distance to the border)" } }
                @if !classes.is_empty() { option value="share" { "share of the most frequent class" } }
                option value="cluster" { "number" }
            } }
            label { input type="checkbox" name="up"; " smallest first" }
            label { "Find " input type="search" name="find" placeholder="number, class or image"; }
            output aria-live="polite" {}
        }
        div.cards { @for row in 0..drawn { (card(row)) } }
    }))
}

/// The most frequent classes of each cluster, and of how many images.
///
/// # Errors
/// The answer is another query's.
pub fn classes(answer: &Answer) -> Result<HashMap<i64, Vec<(String, f64)>>> {
    let (clusters, labels, images) = (answer.numbers("cluster")?, answer.texts("label")?, answer.numbers("images")?);
    let mut found: HashMap<i64, Vec<(String, f64)>> = HashMap::new();
    for row in 0..answer.len() {
        found.entry(clusters.value(row) as i64).or_default().push((labels.value(row).to_owned(), images.value(row)));
    }
    Ok(found)
}

/// What the second row of a card has, in words.
pub fn kinds(members: &[Member]) -> &'static [&'static str] {
    let has_border = members.iter().any(|member| member.kind == "border");
    if has_border { &["border", "random", "farthest"] } else { &["random", "", "farthest"] }
}

/// A card's images in words.
pub fn alt(cluster: i64, members: &[Member], size: f64, classes: &[(String, f64)]) -> String {
    let mostly = classes.first().map(|(class, _)| format!(", mostly {}", printable(class))).unwrap_or_default();
    format!("cluster {cluster}: {} of {} images{mostly}", members.len(), short(size))
}
