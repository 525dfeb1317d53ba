//! `/label`: clusters to be named, those first of which a name says most. `POST /names` writes one decision.
//!
//! Each cluster is shown by the images nearest to its centre and some at random, and has a form that works without a script; with one, keys
//! name one after the other. A decision is on the disk before it is answered. Whoever decided otherwise meanwhile is asked, not overwritten.

mod state;
mod write;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use tessera_datasets::names::{Action, LONGEST, MOST_PARTS};

use super::clusters::figure;
use super::failed::Failed;
use super::links;
use super::shell::{Page, page};
use super::site::{Now, Shared, Site};
use super::stage::Of;
use super::strips::{picture, strip};
use crate::ask::page::answer::short;
use crate::ask::page::draw::shown;
use state::{Cluster, Labelling, Labels, Looked};

pub use write::names;

/// Clusters of the queue that are shown at once.
const SHOWN: usize = 12;
/// Decisions that are listed.
const LISTED: usize = 60;
/// Names that have a key.
const RECENT: usize = 9;
/// Into how many clusters one is split, unless somebody says.
const PARTS: u32 = 4;

/// Which stage, and which of its clusters.
#[derive(Deserialize)]
pub struct Asked {
    stage: Option<String>,
    q: Option<String>,
}

/// The page.
pub async fn label(State(site): State<Shared>, Query(asked): Query<Asked>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let stages = Labelling::all(&now);
    let of = match &asked.stage {
        Some(name) => stages
            .iter()
            .find(|stage| stage.name(&now) == name)
            .ok_or_else(|| Failed::missing(format!("`{name}` is no stage that reads names of clusters")))?,
        None => match stages.first() {
            Some(first) => first,
            None => return Ok(none(&site, &now)),
        },
    };
    let Some(labels) = of.labels(&site, &now).await? else { return Ok(unmade(&site, &now, of)) };
    let wanted = asked.q.unwrap_or_default().trim().to_lowercase();
    let queue: Vec<&Cluster> = labels.queue().filter(|cluster| cluster.fits(&wanted)).collect();
    let decided: Vec<&Cluster> = labels.decided().filter(|cluster| cluster.fits(&wanted)).collect();
    let numbers: Vec<i64> = queue.iter().take(SHOWN).map(|cluster| cluster.number).collect();
    let members = of.looked(&site, &now, &numbers).await?;
    let has_images = crate::ask::show::pictures(&now.catalog, of.assigned).is_ok();
    let recent = labels.recent(RECENT);
    let form = Forms { stage: of.name(&now), key: &labels.key, token: &site.token, edit: site.edit };
    let body = html! {
        (head(&site, &now, of, &stages, &labels, &wanted))
        (keys(site.edit))
        @if site.edit { (recents(&recent)) }
        datalist id="names" { @for name in labels.names() { option value=(name) {} } }
        section aria-labelledby="queue" {
            h2 id="queue" { "To be named" }
            @if queue.is_empty() { p { @if wanted.is_empty() { "Every cluster is named, or marked." } @else { "No such cluster is without a name." } } }
            @for cluster in queue.iter().take(SHOWN) {
                (card(&now, of, cluster, members.get(&cluster.number).map_or(&[], Vec::as_slice), has_images, &form))
            }
            @if queue.len() > SHOWN { p { "And " (queue.len() - SHOWN) " more, of which a name says less." } }
        }
        section aria-labelledby="decided" {
            h2 id="decided" { "Named" }
            (table(&now, of, &decided, &form))
        }
    };
    Ok(page(&site, &now, &Page { title: "Names of clusters", way: "/label", body, live: false }))
}

/// What stands above the clusters: how far it is, a filter, and what to do with the names.
fn head(site: &Site, now: &Now, of: &Labelling, stages: &[Labelling], labels: &Labels, wanted: &str) -> Markup {
    let name = of.name(now);
    html! {
        p.progress role="status" aria-live="polite" id="progress" { (labels.progress()) }
        @if !site.edit { p { "These pages only show: " code { "tessera serve " (site.arguments) " --edit" } " writes names." } }
        @if stages.len() > 1 { nav aria-label="Stages of names" { ul.ways { @for stage in stages {
            @let other = stage.name(now);
            li { a href=(links::with("/label", &[("stage", other)])) aria-current=[(other == name).then_some("true")] { (shown(other)) } }
        } } } }
        form.filter action="/label" method="get" role="search" {
            input type="hidden" name="stage" value=(name);
            label { "Filter " input type="search" name="q" value=(wanted) autocomplete="off" placeholder="a name, a class, a number"; }
            button { "Show" }
        }
        p.about { "Names are lines of " code { (shown(&of.file.path().to_string_lossy())) } ". "
            code { "tessera run " (site.arguments) } " gives them to the images, and splits what is to be split." }
    }
}

fn keys(edit: bool) -> Markup {
    let keys: &[(&str, &str)] = if edit {
        &[
            ("j k", "next, previous cluster"),
            ("n", "type a name; Enter writes it"),
            ("1–9", "a recent name"),
            ("s", "split"),
            ("x", "mixed: no name fits"),
            ("u", "undo the last"),
            ("/", "filter"),
            ("?", "these keys"),
        ]
    } else {
        &[("j k", "next, previous cluster"), ("/", "filter"), ("?", "these keys")]
    };
    html! {
        details.keys id="keys" open { summary { "Keys" }
            dl { @for (key, what) in keys { div { dt { kbd { (key) } } dd { (what) } } } } }
    }
}

fn recents(recent: &[String]) -> Markup {
    html! {
        ol.recent id="recent" aria-label="Recent names" { @for name in recent { li { (shown(name)) } } }
    }
}

/// What all forms of a page send.
struct Forms<'a> {
    stage: &'a str,
    key: &'a str,
    token: &'a str,
    edit: bool,
}

impl Forms<'_> {
    fn hidden(&self, cluster: &Cluster) -> Markup {
        html! {
            input type="hidden" name="token" value=(self.token);
            input type="hidden" name="stage" value=(self.stage);
            input type="hidden" name="key" value=(self.key);
            input type="hidden" name="cluster" value=(cluster.number);
            input type="hidden" name="version" value=(cluster.version);
        }
    }
}

fn card(now: &Now, of: &Labelling, cluster: &Cluster, images: &[Looked], has_images: bool, form: &Forms<'_>) -> Markup {
    let (number, assigned) = (cluster.number.to_string(), now.catalog.name(of.assigned));
    let classes: Vec<&str> = cluster.classes.iter().take(3).map(|(class, _)| class.as_str()).collect();
    let nearest = images.iter().filter(|image| image.is_near).count();
    let alt =
        format!("cluster {number}: {nearest} nearest and {} random of {}", images.len() - nearest, short(cluster.size));
    let words: Vec<(usize, &str, String)> =
        images.iter().enumerate().map(|(slot, image)| (slot, image.id.as_str(), image.id.clone())).collect();
    html! {
        article.card.naming data-cluster=(number) tabindex="-1" aria-labelledby=(format!("c{number}")) {
            h3 id=(format!("c{number}")) { a href=(links::below("/clusters", &[assigned, &number])) { "Cluster " (number) } }
            p { (short(cluster.size)) " images"
                @if let Some(maybe) = cluster.maybe() { ", of which some were named " bdi { (shown(maybe)) } }
                @if !classes.is_empty() { "; classes: " (shown(&classes.join(", "))) } }
            @if has_images && !images.is_empty() {
                (figure(&format!("{}?v={}", links::below("/label/strip", &[form.stage, &number]), now.version), &words, &alt))
            } @else { ul { @for image in images { li { a href=(links::image(&image.id)) { (shown(&image.id)) } } } } }
            @if form.edit { (writing(cluster, form)) }
        }
    }
}

/// The forms of a cluster: a name, a split, a mark.
fn writing(cluster: &Cluster, form: &Forms<'_>) -> Markup {
    let label = |what: &str| format!("{what} of cluster {}", cluster.number);
    html! {
        form.name action="/names" method="post" {
            (form.hidden(cluster)) input type="hidden" name="action" value="name";
            input type="text" name="value" list="names" maxlength=(LONGEST) required autocomplete="off" aria-label=(label("the name"));
            button { "Name" }
        }
        form.split action="/names" method="post" {
            (form.hidden(cluster)) input type="hidden" name="action" value="split";
            input type="number" name="value" min="2" max=(MOST_PARTS) value=(PARTS) required aria-label=(label("the number of parts"));
            button { "Split" }
        }
        form.mixed action="/names" method="post" {
            (form.hidden(cluster)) input type="hidden" name="action" value="mixed";
            button { "Mixed" }
        }
        p.said role="status" hidden {}
    }
}

/// Clusters that are decided about, the newest first.
fn table(now: &Now, of: &Labelling, decided: &[&Cluster], form: &Forms<'_>) -> Markup {
    let assigned = now.catalog.name(of.assigned);
    html! {
        @if decided.is_empty() { p { "None yet." } } @else {
        div.scroll { table.numbers id="done" {
            thead { tr { th scope="col" { "cluster" } th scope="col" { "images" } th scope="col" { "is" } th scope="col" { "by" } @if form.edit { th scope="col" { "change" } } } }
            tbody { @for cluster in decided.iter().take(LISTED) { tr data-cluster=(cluster.number) {
                td.right { a href=(links::below("/clusters", &[assigned, &cluster.number.to_string()])) { (cluster.number) } }
                td.right { (short(cluster.size)) }
                td { bdi { (shown(&cluster.words())) } }
                td { (shown(&cluster.whence())) }
                @if form.edit { td { (changing(cluster, form)) } }
            } } }
        } }
        @if decided.len() > LISTED { p { "And " (decided.len() - LISTED) " more: the filter finds them." } }
        }
    }
}

fn changing(cluster: &Cluster, form: &Forms<'_>) -> Markup {
    let name = if let Some(Action::Name(name)) = cluster.known.as_ref().and_then(|known| known.action()) {
        name.as_str()
    } else {
        ""
    };
    html! {
        form.name action="/names" method="post" {
            (form.hidden(cluster)) input type="hidden" name="action" value="name";
            input type="text" name="value" list="names" maxlength=(LONGEST) required autocomplete="off" value=(name) aria-label=(format!("the name of cluster {}", cluster.number));
            button { "Name" }
        }
        @if !cluster.version.is_empty() {
            form.undo action="/names" method="post" {
                (form.hidden(cluster)) input type="hidden" name="action" value="undo";
                button { "Undo" }
            }
        }
    }
}

fn none(site: &Site, now: &Now) -> Response {
    let body = html! {
        p { "No stage of this pipeline reads names of clusters. " code { "tessera init FOLDER --label" } " writes a pipeline that has one; to one that has clusters, add:" }
        pre { code { "[stage.named]\nop = \"names\"\ninputs = { clusters = \"clusters\", assigned = \"assigned\" }" } }
    };
    page(site, now, &Page { title: "Names of clusters", way: "/label", body, live: false })
}

fn unmade(site: &Site, now: &Now, of: &Labelling) -> Response {
    let body = html! {
        p { "There are no clusters to name yet: " code { "tessera run " (site.arguments) " --to " (now.catalog.name(of.assigned)) } " makes them." }
    };
    page(site, now, &Page { title: "Names of clusters", way: "/label", body, live: true })
}

/// `/label/strip/STAGE/CLUSTER`: the images by which a cluster is named, beside each other, as a JPEG.
pub async fn images(
    State(site): State<Shared>,
    Path((name, cluster)): Path<(String, i64)>,
    Query(asked): Query<Of>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    let of = Labelling::named(&now, &name)?;
    let mut found = of.looked(&site, &now, &[cluster]).await?;
    let images = found.remove(&cluster).unwrap_or_default();
    if images.is_empty() {
        return Err(Failed::missing(format!("no image is in cluster {cluster}")));
    }
    let images = images.into_iter().map(|image| image.id).enumerate().collect();
    let jpeg = strip(&site, &now, of.assigned, images).await?;
    Ok(picture("image/jpeg", jpeg, asked.is(&now)))
}
