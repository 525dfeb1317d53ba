//! `/confusion/TABLE/CLASSES`: clusters, or what a column says, against classes; a cell leads to its images.

use std::collections::{BTreeSet, HashMap};

use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::failed::Failed;
use super::image::listed;
use super::shell::{Page, page};
use super::site::{Now, Shared, Site};
use super::stage::find;
use super::{figures, links};
use crate::ask::page::answer::{literal, name as quoted, short};
use crate::ask::page::draw::shown;
use crate::ask::page::figures::clusters::places;
use crate::ask::page::report::source;
use crate::ask::page::subjects::is_text;

/// Rows and columns of the table: the largest of each.
const ROWS: usize = 100;
const CLASSES: usize = 40;
/// Images of a cell.
const IMAGES: usize = 60;

/// Which rows, and which cell.
#[derive(Deserialize)]
pub struct Cell {
    /// The column that rows are of; else `cluster`, or the first of texts.
    by: Option<String>,
    row: Option<String>,
    class: Option<String>,
}

/// What is compared: pairs of a row's name, a class and an image.
struct Pairs {
    node: usize,
    by: String,
    sql: String,
}

impl Pairs {
    fn of(now: &Now, name: &str, of: &str, by: Option<&str>) -> Result<Self, Failed> {
        let (catalog, node) = (&now.catalog, find(now, name)?);
        let schema = catalog.schema(node);
        if !crate::ask::sql::cells::is_made(catalog, node) || schema.column_with_name("image_id").is_none() {
            return Err(Failed::missing(format!("`{name}` is no table of images that is made")));
        }
        let texts: Vec<&str> =
            schema.fields().iter().filter(|field| is_text(field.data_type())).map(|field| field.name().as_str()).collect();
        let found = match by {
            Some(by) => schema.column_with_name(by).map(|_| by),
            None if schema.column_with_name("cluster").is_some() => Some("cluster"),
            None => texts.iter().find(|text| !["image_id", "digest", of].contains(text)).copied(),
        };
        let by =
            found.ok_or_else(|| Failed::missing(format!("`{name}` has no column whose values could be against classes")))?;
        let value = format!("CAST(a.{} AS VARCHAR)", quoted(by));
        let table = quoted(name);
        let own = of.strip_prefix(&format!("{name}.")).unwrap_or(of);
        let sql = if schema.field_with_name(own).is_ok_and(|field| is_text(field.data_type())) {
            format!("SELECT a.image_id, {value} AS row, a.{} AS class FROM {table} a", quoted(own))
        } else {
            let (stage, column) =
                of.rsplit_once('.').ok_or_else(|| Failed::missing(format!("`{name}` has no column of texts `{of}`")))?;
            let other = find(now, stage)?;
            let has =
                |column: &str| catalog.schema(other).field_with_name(column).is_ok_and(|field| is_text(field.data_type()));
            if !has(column) || !has("image_id") || !crate::ask::sql::cells::is_made(catalog, other) {
                return Err(Failed::missing(format!("`{stage}` has no classes `{column}`")));
            }
            format!(
                "SELECT a.image_id, {value} AS row, l.{} AS class FROM {table} a JOIN {} l ON a.image_id = l.image_id",
                quoted(column),
                quoted(stage)
            )
        };
        Ok(Self { node, by: by.to_owned(), sql })
    }
}

/// `/confusion`: the tables that have classes.
pub async fn choose(State(site): State<Shared>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let found = figures::subjects(&now, figures::kind("classes")?, &BTreeSet::new()).await?;
    let body = html! {
        @if found.is_empty() { p { "No table of clusters has classes." } }
        ul.ways { @for subject in &found { @if let Some((_, of)) = &subject.classes {
            li { a href=(links::below("/confusion", &[&subject.stage, of])) { (shown(&subject.stage)) " against " (shown(of)) } }
        } } }
    };
    Ok(page(&site, &now, &Page { title: "Against classes", way: "/clusters", body, live: false }))
}

/// The page.
pub async fn confusion(
    State(site): State<Shared>,
    Path((name, of)): Path<(String, String)>,
    Query(cell): Query<Cell>,
) -> Result<Response, Failed> {
    let now = site.now().await?;
    let pairs = Pairs::of(&now, &name, &of, cell.by.as_deref())?;
    if let (Some(row), Some(class)) = (&cell.row, &cell.class) {
        return images(&site, &now, (&name, &of), &pairs, (row, class)).await;
    }
    let agreement = format!(
        "SELECT count(*) AS images, ami(row, class) AS ami, purity(row, class) AS purity, accuracy(row, class) AS accuracy,
  CAST(sum(CASE WHEN row = class THEN 1 ELSE 0 END) AS DOUBLE) / count(*) AS equal
FROM ({}) WHERE row IS NOT NULL AND class IS NOT NULL",
        pairs.sql
    );
    let counts = format!(
        "WITH pairs AS ({})
SELECT row AS cluster, class AS label, count(*) AS images FROM pairs
WHERE row IN (SELECT row FROM pairs GROUP BY row ORDER BY count(*) DESC, row LIMIT {ROWS})
  AND class IN (SELECT class FROM pairs GROUP BY class ORDER BY count(*) DESC, class LIMIT {CLASSES})
GROUP BY row, class ORDER BY images DESC, row, class",
        pairs.sql
    );
    let (agreement, counts) = (site.answer(&now, agreement).await?, site.answer(&now, counts).await?);
    let number =
        |name: &str| -> Result<String, Failed> { Ok(agreement.number(name, 0)?.map_or_else(|| "–".to_owned(), short)) };
    let (rows, classes, cells) = places(&counts)?;
    let link = |row: &str, class: &str| {
        links::with(&links::below("/confusion", &[&name, &of]), &[("by", &pairs.by), ("row", row), ("class", class)])
    };
    let body = html! {
        p { "Rows are by " code { (shown(&pairs.by)) } " of " a href=(links::below("/stage", &[&name])) { (shown(&name)) } ", columns by " code { (shown(&of)) } ": "
            (number("images")?) " images, AMI " (number("ami")?) ", purity " (number("purity")?) ", accuracy of the best match " (number("accuracy")?) ", equal names " (number("equal")?) "." }
        p.about { "The " (rows.len()) " largest rows and the " (classes.len()) " most frequent classes. A cell leads to its images; its shade is its share of the row." }
        (source(&agreement, true, &site.arguments))
        (heat(&rows, &classes, &cells, &link))
        (source(&counts, false, &site.arguments))
    };
    let title = format!("{name} against {of}");
    Ok(page(&site, &now, &Page { title: &title, way: "/clusters", body, live: false }))
}

/// A table of counts, each a way to its images.
fn heat(
    rows: &[String],
    columns: &[String],
    counts: &HashMap<(usize, usize), f64>,
    link: &dyn Fn(&str, &str) -> String,
) -> Markup {
    let total = |row: usize| (0..columns.len()).filter_map(|column| counts.get(&(row, column))).sum::<f64>();
    html! {
        div.scroll tabindex="0" role="region" aria-label="rows against classes" { table.heat {
            thead { tr { th scope="col" { "row" } @for column in columns { th.turned scope="col" { span { (shown(column)) } } } } }
            tbody { @for (row, name) in rows.iter().enumerate() {
                @let total = total(row);
                tr { th scope="row" { (shown(name)) } @for (column, class) in columns.iter().enumerate() {
                    @match counts.get(&(row, column)) {
                        Some(&count) => td class=(format!("h{}", (count / total.max(1.0) * 10.0).ceil().clamp(0.0, 10.0))) {
                            a href=(link(name, class)) aria-label=(format!("{count} images of {} in {}", tessera_schemas::printable(class), tessera_schemas::printable(name))) { (short(count)) }
                        },
                        None => td {},
                    }
                } }
            } }
        } }
    }
}

/// The images of a cell.
async fn images(
    site: &Site,
    now: &Now,
    (name, of): (&str, &str),
    pairs: &Pairs,
    (row, class): (&str, &str),
) -> Result<Response, Failed> {
    let condition = format!("row = {} AND class = {}", literal(row), literal(class));
    let count = site.answer(now, format!("SELECT count(*) AS images FROM ({}) WHERE {condition}", pairs.sql)).await?;
    let sql = format!("SELECT image_id FROM ({}) WHERE {condition} ORDER BY image_id LIMIT {IMAGES}", pairs.sql);
    let answer = site.answer(now, sql).await?;
    let ids = answer.texts("image_id")?;
    let images: Vec<(&str, String)> = ids.iter().flatten().map(|id| (id, String::new())).collect();
    let total = count.number("images", 0)?.unwrap_or_default();
    let body = html! {
        p { (short(total)) " images have " code { (shown(&pairs.by)) } " " b { (shown(row)) } " and " code { (shown(of)) } " " b { (shown(class)) }
            @if total > images.len() as f64 { "; the first " (images.len()) " are shown" } "." }
        (listed(now, pairs.node, &images))
        (source(&count, true, &site.arguments)) (source(&answer, true, &site.arguments))
        p { a href=(links::with(&links::below("/confusion", &[name, of]), &[("by", &pairs.by)])) { "All of the table" } }
    };
    let title = format!("{row} and {class}");
    Ok(page(site, now, &Page { title: &title, way: "/clusters", body, live: false }))
}
