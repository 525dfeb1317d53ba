//! `/compare/A/B`: two clusterings of the same images: how far they agree, which clusters split, merged, or dissolved, and where images went.

use std::collections::BTreeSet;

use arrow::array::Array as _;
use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use super::clusters::Clusters;
use super::failed::Failed;
use super::shell::{Page, page};
use super::site::{Now, Shared, Site};
use super::stage::find;
use super::{figures, links, table};
use crate::ask::page::answer::{Answer, literal, name as quoted, short};
use crate::ask::page::draw::shown;
use crate::ask::page::report::source;

/// Flows and clusters that are listed.
const LISTED: usize = 200;
/// What stands before a snapshot's key in an address.
const SNAPSHOT: &str = "snapshot:";

/// What is compared: the table in a query, and in words; and whether clusters of it have pages.
struct Side {
    table: String,
    words: String,
    name: Option<String>,
}

/// `/compare`: what can be compared.
pub async fn choose(State(site): State<Shared>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let found = figures::clustered(&now, &BTreeSet::new()).await?;
    let names: Vec<&str> = found.iter().map(|subject| subject.stage.as_str()).collect();
    let body = html! {
        @if names.is_empty() { p { "No table has clusters yet." } }
        @for (at, name) in names.iter().enumerate() {
            h2 { (shown(name)) }
            ul.ways {
                li { a href=(links::below("/compare", &[name, "previous"])) { "with the snapshot before" } }
                @for other in &names[at + 1..] { li { a href=(links::below("/compare", &[name, other])) { "with " (shown(other)) } } }
            }
        }
    };
    Ok(page(&site, &now, &Page { title: "Compare clusterings", way: "/clusters", body, live: false }))
}

async fn side(site: &Site, now: &Now, of: &str, name: &str) -> Result<Side, Failed> {
    let node = find(now, of)?;
    let snapshot = match name.strip_prefix(SNAPSHOT) {
        Some(key) => key,
        None if name == "previous" && now.catalog.plan.graph.find(name).is_none() => name,
        None => {
            Clusters::of(site, now, name).await?;
            return Ok(Side { table: quoted(name), words: name.to_owned(), name: Some(name.to_owned()) });
        }
    };
    // By its whole name, so that it stays the same.
    let found = now.catalog.store.resolve(of, snapshot).map_err(|error| Failed::missing(format!("{error:#}")))?;
    let has = |column: &str| found.schema.as_ref().is_none_or(|schema| schema.column_with_name(column).is_some());
    if !has("cluster") || !has("image_id") {
        return Err(Failed::missing(format!("the snapshot {} of `{}` has no clusters", found.id, now.catalog.name(node))));
    }
    let table = format!("snapshot({}, {})", literal(of), literal(&found.id));
    let made = crate::store::snapshots::utc(found.created);
    Ok(Side { table, words: format!("{of} as it was made {made}"), name: None })
}

/// The page.
pub async fn compare(State(site): State<Shared>, Path((a, b)): Path<(String, String)>) -> Result<Response, Failed> {
    let now = site.now().await?;
    Clusters::of(&site, &now, &a).await?;
    let (one, other) =
        (Side { table: quoted(&a), words: a.clone(), name: Some(a.clone()) }, side(&site, &now, &a, &b).await?);
    // What was comes first.
    let (from, to) = if other.name.is_none() { (other, one) } else { (one, other) };
    let pairs = format!(
        "SELECT a.cluster AS a, b.cluster AS b FROM {} a JOIN {} b ON a.image_id = b.image_id WHERE a.cluster IS NOT NULL AND b.cluster IS NOT NULL",
        from.table, to.table
    );
    let agreement = format!(
        "SELECT count(*) AS images, count(DISTINCT a) AS a_clusters, count(DISTINCT b) AS b_clusters, ami(a, b) AS ami, nmi(a, b) AS nmi, ari(a, b) AS ari
FROM ({pairs})"
    );
    let agreement = site.answer(&now, agreement).await?;
    let flows = format!(
        "SELECT a, b, count(*) AS images, CAST(count(*) AS DOUBLE) / sum(count(*)) OVER (PARTITION BY a) AS share_of_a,
  CAST(count(*) AS DOUBLE) / sum(count(*)) OVER (PARTITION BY b) AS share_of_b
FROM ({pairs}) GROUP BY a, b ORDER BY images DESC, a, b LIMIT {LISTED}"
    );
    let flows = site.answer(&now, flows).await?;
    let fates = site.answer(&now, fates(&pairs)).await?;
    let number =
        |name: &str| -> Result<String, Failed> { Ok(agreement.number(name, 0)?.map_or_else(|| "–".to_owned(), short)) };
    let images = agreement.number("images", 0)?.unwrap_or_default();
    let body = html! {
        p { "From " b { (shown(&from.words)) } " (a) to " b { (shown(&to.words)) } " (b)." }
        @if images == 0.0 { p { "They have no image in common." } } @else {
            p { (short(images)) " images are in both: AMI " (number("ami")?) ", NMI " (number("nmi")?) ", ARI " (number("ari")?) "; " (number("a_clusters")?) " clusters became " (number("b_clusters")?) "." }
        }
        (source(&agreement, true, &site.arguments))
        section aria-labelledby="fates" {
            h2 id="fates" { "What became of clusters" }
            p.about { "A cluster that sends at least half of its images to one other is kept, or merged if others do that with the same one. It is split if two or more take at least a fifth each, and else dissolved." }
            (summary(&fates)?)
            @for word in ["split", "merged", "dissolved"] { (fate(&fates, word, &from, &to)?) }
            (source(&fates, false, &site.arguments))
        }
        section aria-labelledby="flows" {
            h2 id="flows" { "Where images went" }
            (table::table(&flows.rows, "flows, the largest first")?)
            (source(&flows, true, &site.arguments))
        }
    };
    let title = format!("{} and {}", from.words, to.words);
    Ok(page(&site, &now, &Page { title: &title, way: "/clusters", body, live: false }))
}

fn fates(pairs: &str) -> String {
    format!(
        "WITH flows AS (SELECT a, b, count(*) AS images FROM ({pairs}) GROUP BY a, b),
shares AS (SELECT a, b, images, CAST(images AS DOUBLE) / sum(images) OVER (PARTITION BY a) AS share, sum(images) OVER (PARTITION BY a) AS size FROM flows),
best AS (
  SELECT a, max(size) AS size, max(share) AS share, count(*) FILTER (WHERE share >= 0.2) AS parts,
    first_value(b ORDER BY images DESC, b) AS b FROM shares GROUP BY a),
crowd AS (SELECT b, count(*) AS others FROM best WHERE share >= 0.5 GROUP BY b)
SELECT best.a AS cluster, CAST(best.size AS BIGINT) AS images, best.b AS most_to, best.share, best.parts,
  CASE WHEN best.share >= 0.5 AND crowd.others > 1 THEN 'merged' WHEN best.share >= 0.5 THEN 'kept'
    WHEN best.parts >= 2 THEN 'split' ELSE 'dissolved' END AS fate
FROM best LEFT JOIN crowd ON best.b = crowd.b ORDER BY fate, images DESC, cluster"
    )
}

fn summary(fates: &Answer) -> Result<Markup, Failed> {
    let words = fates.texts("fate")?;
    let count = |fate: &str| words.iter().flatten().filter(|word| *word == fate).count();
    Ok(
        html! { p { (count("kept")) " kept, " (count("merged")) " merged, " (count("split")) " split, " (count("dissolved")) " dissolved." } },
    )
}

fn fate(fates: &Answer, word: &str, from: &Side, to: &Side) -> Result<Markup, Failed> {
    let (clusters, words, images) = (fates.numbers("cluster")?, fates.texts("fate")?, fates.numbers("images")?);
    let (most, shares) = (fates.numbers("most_to")?, fates.numbers("share")?);
    let rows: Vec<usize> = (0..fates.len()).filter(|&row| words.is_valid(row) && words.value(row) == word).collect();
    let cluster = |side: &Side, number: f64| {
        let number = (number as i64).to_string();
        html! { @match &side.name { Some(name) => a href=(links::below("/clusters", &[name, &number])) { (number) }, None => (number) } }
    };
    Ok(html! {
        @if !rows.is_empty() {
            h3 { (word[..1].to_uppercase()) (word[1..]) }
            ul.ways { @for &row in rows.iter().take(LISTED) {
                li { (cluster(from, clusters.value(row))) " → " (cluster(to, most.value(row))) " (" (short(shares.value(row) * 100.0)) " % of " (short(images.value(row))) ")" }
            } }
            @if rows.len() > LISTED { p { "And " (rows.len() - LISTED) " more." } }
        }
    })
}
