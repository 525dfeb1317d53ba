//! `/clusters` and `/clusters/TABLE`: an article a cluster, with its images, its facts and its classes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use arrow::array::Array as _;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::failed::Failed;
use super::shell::{Page, page};
use super::site::{Now, Shared, Site};
use super::stage::{Of, find};
use super::strips::{SIDE, picture, strip};
use super::{figures, links};
use crate::ask::page::answer::{Answer, short};
use crate::ask::page::draw::shown;
use crate::ask::page::gallery::{self, Member, classes};
use crate::ask::page::report::source;
use crate::ask::page::sprites::ACROSS;
use crate::ask::page::subjects::Subject;

/// Clusters of a page.
const ON_PAGE: usize = 24;

/// Tables that are kept.
const TABLES: usize = 8;

/// What clusters can be sorted by: the name in addresses, in words, and whether the smallest comes first.
const SORTS: [(&str, &str, bool); 5] = [
    ("size", "size", false),
    ("spread", "spread", false),
    ("margin", "margin", true),
    ("purity", "purity", true),
    ("cluster", "number", true),
];

/// Which clusters, in which order.
#[derive(Deserialize)]
pub struct Order {
    sort: Option<String>,
    /// `up` or `down`.
    order: Option<String>,
    page: Option<usize>,
}

/// A cluster.
pub struct Facts {
    /// Its number.
    pub cluster: i64,
    /// Its images.
    pub size: f64,
    /// Mean distance to the centre.
    pub spread: f64,
    /// Largest distance to the centre.
    pub radius: f64,
    /// Mean distance to the border, if it is known.
    pub margin: Option<f64>,
    /// Its most frequent classes, and of how many images.
    pub classes: Vec<(String, f64)>,
}

impl Facts {
    /// The share of the most frequent class.
    pub fn purity(&self) -> Option<f64> {
        self.classes.first().map(|(_, images)| images / self.size)
    }

    fn value(&self, sort: &str) -> f64 {
        match sort {
            "spread" => self.spread,
            "margin" => self.margin.unwrap_or(f64::NAN),
            "purity" => self.purity().unwrap_or(f64::NAN),
            "cluster" => self.cluster as f64,
            _ => self.size,
        }
    }
}

/// A table's clusters: what it is about, the answers, and the facts in them.
pub struct Clusters {
    /// The table.
    pub subject: Subject,
    /// Its place in the plan.
    pub node: usize,
    /// The answers to the gallery's queries.
    pub answers: Vec<Arc<Answer>>,
    /// The clusters, the largest first.
    pub facts: Vec<Facts>,
    /// The members that cards show, by cluster.
    pub members: HashMap<i64, Vec<Member>>,
}

/// Tables of clusters of one generation, read before.
#[derive(Default)]
pub struct Known(Mutex<(String, HashMap<String, Arc<Clusters>>)>);

impl Known {
    fn of(&self, now: &Now) -> MutexGuard<'_, (String, HashMap<String, Arc<Clusters>>)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *known.0 != *now.version || known.1.len() >= TABLES {
            *known = (now.version.to_string(), HashMap::new());
        }
        known
    }
}

impl Clusters {
    /// Those of a table.
    ///
    /// # Errors
    /// It has no clusters of images, or cannot be read.
    pub async fn of(site: &Site, now: &Now, name: &str) -> Result<Arc<Self>, Failed> {
        let known = site.clusters.of(now).1.get(name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let read = Arc::new(Self::read(site, now, name).await?);
        site.clusters.of(now).1.insert(name.to_owned(), read.clone());
        Ok(read)
    }

    async fn read(site: &Site, now: &Now, name: &str) -> Result<Self, Failed> {
        let node = find(now, name)?;
        let subject = figures::clustered(now, &BTreeSet::from([node])).await?.into_iter().next();
        let subject = subject.ok_or_else(|| {
            Failed::missing(format!(
                "`{name}` has no clusters: a table of them has image_id, cluster and distance, and is made"
            ))
        })?;
        let mut answers = Vec::new();
        for query in (figures::kind("gallery")?.sql)(&subject) {
            answers.push(site.answer(now, query).await?);
        }
        let facts = facts(&answers)?;
        let members = gallery::members(answers.get(1).context("the gallery asks for members")?)?;
        Ok(Self { subject, node, answers, facts, members })
    }
}

fn facts(answers: &[Arc<Answer>]) -> Result<Vec<Facts>> {
    let facts = answers.first().context("the gallery asks for facts")?;
    let mut of_classes = answers.get(2).map(|answer| classes(answer)).transpose()?.unwrap_or_default();
    let [clusters, sizes, spreads, radii, margins] =
        ["cluster", "size", "spread", "radius", "margin"].map(|name| facts.numbers(name));
    let (clusters, sizes, spreads, radii, margins) = (clusters?, sizes?, spreads?, radii?, margins?);
    let one = |row: usize| {
        let cluster = clusters.value(row) as i64;
        Facts {
            cluster,
            size: sizes.value(row),
            spread: spreads.value(row),
            radius: radii.value(row),
            margin: margins.is_valid(row).then(|| margins.value(row)),
            classes: of_classes.remove(&cluster).unwrap_or_default(),
        }
    };
    Ok((0..facts.len()).map(one).collect())
}

/// `/clusters`: the tables that have some; where it is one, that one.
pub async fn tables(State(site): State<Shared>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let found = figures::clustered(&now, &BTreeSet::new()).await?;
    if let [only] = found.as_slice() {
        return Ok(Redirect::to(&links::below("/clusters", &[&only.stage])).into_response());
    }
    let body = html! {
        @if found.is_empty() {
            p { "No table has clusters of images yet: one needs the columns " code { "image_id" } ", " code { "cluster" } " and " code { "distance" } ", as " code { "assign" } " makes them." }
        } @else {
            p { "These tables have clusters of images:" }
            (figures::ways("/clusters", found.iter().map(|subject| subject.stage.as_str()), ""))
        }
    };
    Ok(page(&site, &now, &Page { title: "Clusters", way: "/clusters", body, live: true }))
}

/// `/clusters/TABLE`.
pub async fn clusters(
    State(site): State<Shared>,
    Path(name): Path<String>,
    Query(order): Query<Order>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    let found = Clusters::of(&site, &now, &name).await?;
    let sort = order.sort.as_deref().unwrap_or("size");
    let (sort, _, first_up) = *SORTS.iter().find(|(name, ..)| *name == sort).ok_or_else(|| {
        let names: Vec<&str> = SORTS.iter().map(|(name, ..)| *name).collect();
        Failed::wrong(format!("clusters are sorted by {}, and not by `{sort}`", names.join(", ")))
    })?;
    let is_up = order.order.as_deref().map_or(first_up, |order| order == "up");
    let mut sorted: Vec<&Facts> = found.facts.iter().collect();
    // What has no number comes last.
    sorted.sort_by(|a, b| {
        let (a, b) = (a.value(sort), b.value(sort));
        let order = a.is_nan().cmp(&b.is_nan());
        order.then(if is_up { a.total_cmp(&b) } else { b.total_cmp(&a) })
    });
    let pages = sorted.len().div_ceil(ON_PAGE).max(1);
    let at = order.page.unwrap_or(1).clamp(1, pages);
    let start = (at - 1) * ON_PAGE;
    let cards = &sorted[start..(start + ON_PAGE).min(sorted.len())];
    let members = &found.members;
    let has_images = crate::ask::show::pictures(&now.catalog, found.node).is_ok();
    if has_images {
        // They are read together, and are there when the browser asks for them row by row.
        let ids: Vec<String> =
            cards.iter().filter_map(|facts| members.get(&facts.cluster)).flatten().map(|member| member.id.clone()).collect();
        let (site, now, node) = (site.clone(), now.clone(), found.node);
        tokio::spawn(async move { site.strips.of(&now, node, &ids).await.map(|_| ()) });
    }
    let base = links::below("/clusters", &[&name]);
    let order_name = |is_up: bool| if is_up { "up" } else { "down" };
    let here =
        |page: usize| links::with(&base, &[("sort", sort), ("order", order_name(is_up)), ("page", &page.to_string())]);
    let all = figures::clustered(&now, &BTreeSet::new()).await?;
    let is_there = |sort: &str| match sort {
        "margin" => found.facts.iter().any(|facts| facts.margin.is_some()),
        "purity" => found.facts.iter().any(|facts| !facts.classes.is_empty()),
        _ => true,
    };
    let body = html! {
        @if all.len() > 1 { (figures::ways("/clusters", all.iter().map(|subject| subject.stage.as_str()), &name)) }
        p { (short(found.facts.len() as f64)) @if found.facts.len() == 1 { " cluster" } @else { " clusters" } ". Each shows the images nearest to its centre, and below them some at the border, at random, and the farthest." }
        nav aria-label="Order" { ul.ways {
            @for (key, word, first_up) in SORTS.iter().filter(|(key, ..)| is_there(key)) {
                @let is_here = *key == sort;
                @let up = if is_here { !is_up } else { *first_up };
                li { a href=(links::with(&base, &[("sort", key), ("order", order_name(up))])) aria-current=[is_here.then_some("true")] {
                    "by " (word) @if is_here { (if is_up { ", smallest first" } else { ", largest first" }) }
                } }
            }
            li { a href=(links::below("/compare", &[&name, "previous"])) { "compare" } }
            @if let Some((_, of)) = &found.subject.classes { li { a href=(links::below("/confusion", &[&name, of])) { "against classes" } } }
        } }
        (pager(at, pages, &here))
        div.cards { @for facts in cards { (card(&now, &name, facts, members.get(&facts.cluster).map_or(&[], Vec::as_slice), has_images)) } }
        (pager(at, pages, &here))
        @for (at, answer) in found.answers.iter().enumerate() { (source(answer, at > 0, &site.arguments)) }
    };
    Ok(page(&site, &now, &Page { title: &format!("Clusters of {name}"), way: "/clusters", body, live: true }))
}

/// Ways to the pages before and behind.
fn pager(at: usize, pages: usize, link: &dyn Fn(usize) -> String) -> Markup {
    html! {
        @if pages > 1 {
            nav.pager aria-label=(format!("Pages of clusters, {at} of {pages}")) {
                @if at > 1 { a rel="prev" href=(link(at - 1)) { "← before" } }
                span { "page " (at) " of " (pages) }
                @if at < pages { a rel="next" href=(link(at + 1)) { "next →" } }
            }
        }
    }
}

fn card(now: &Now, name: &str, facts: &Facts, members: &[Member], has_images: bool) -> Markup {
    let cluster = facts.cluster.to_string();
    html! {
        article.card data-cluster=(cluster) {
            h3 { a href=(links::below("/clusters", &[name, &cluster])) { "Cluster " (cluster) } }
            p { (said(facts)) }
            @if has_images && !members.is_empty() {
                @let images: Vec<(usize, &str, String)> = members.iter().map(|member| (member.slot, member.id.as_str(), said_of(member))).collect();
                (figure(&format!("{}/card?v={}", links::below("/strip", &[name, &cluster]), now.version), &images, &gallery::alt(facts.cluster, members, facts.size, &facts.classes)))
            }
            @if !facts.classes.is_empty() {
                p.classes { @for (at, (class, images)) in facts.classes.iter().enumerate() { @if at > 0 { ", " } (shown(class)) " " (short(*images)) } }
            }
        }
    }
}

/// A cluster's facts in words.
pub fn said(facts: &Facts) -> String {
    let margin = facts.margin.map(|margin| format!(", margin {}", short(margin))).unwrap_or_default();
    let images = if facts.size == 1.0 { "image" } else { "images" };
    let purity = facts.purity().map(|purity| format!(", purity {}", short(purity))).unwrap_or_default();
    format!("{} {images}, spread {}{margin}{purity}", short(facts.size), short(facts.spread))
}

fn said_of(member: &Member) -> String {
    format!("{} ({}, {})", member.id, member.kind, member.distance)
}

/// Images beside each other, each a way to its page. `images` are their slots, ids and words.
pub fn figure(address: &str, images: &[(usize, &str, String)], alt: &str) -> Markup {
    let rows = images.iter().map(|(slot, ..)| slot / ACROSS + 1).max().unwrap_or(1);
    let mut slots: Vec<Option<&(usize, &str, String)>> = vec![None; rows * ACROSS];
    images.iter().for_each(|image| slots[image.0] = Some(image));
    html! {
        figure.strip {
            img loading="lazy" decoding="async" width=(ACROSS * SIDE) height=(rows * SIDE) alt=(alt) src=(address);
            div.over { @for slot in slots { @match slot {
                Some((_, id, words)) => a href=(links::image(id)) title=(tessera_schemas::printable(words)) aria-label=(tessera_schemas::printable(words)) {},
                None => span {},
            } } }
        }
    }
}

/// `/strip/TABLE/CLUSTER/KIND`: images of a cluster beside each other, as a JPEG.
pub async fn strips(
    State(site): State<Shared>,
    Path((name, cluster, kind)): Path<(String, i64, String)>,
    Query(of): Query<Of>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    let found = Clusters::of(&site, &now, &name).await?;
    let images: Vec<(usize, String)> = if kind == "card" {
        let members = found.members.get(&cluster).map_or(&[][..], Vec::as_slice);
        members.iter().map(|member| (member.slot, member.id.clone())).collect()
    } else {
        let (_, answer) = super::cluster::row(&site, &now, &found, cluster, &kind).await?;
        answer.texts("image_id")?.iter().flatten().map(str::to_owned).enumerate().collect()
    };
    if images.is_empty() {
        return Err(Failed::missing(format!("`{name}` has no such images in cluster {cluster}")));
    }
    let jpeg = strip(&site, &now, found.node, images).await?;
    Ok(picture("image/jpeg", jpeg, of.is(&now)))
}
