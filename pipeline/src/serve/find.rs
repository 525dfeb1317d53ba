//! `/find`: the images that are nearest to one that somebody drops on the page. It goes through the stages that made the vectors of the others.

use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array as _, ArrayRef, AsArray as _, BinaryArray, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use axum::extract::{Path, Query, State};
use axum::response::{Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use tessera_schemas::{BYTES, IMAGE_ID, text};
use tokio::task::spawn_blocking;

use super::failed::Failed;
use super::image::{Space, listed, spaces};
use super::posted::Image;
use super::shell::{Page, page};
use super::site::{Now, Shared, Site};
use super::{figures, links};
use crate::ask::meanwhile;
use crate::ask::page::answer::short;
use crate::ask::page::draw::shown;
use crate::ask::show::each;
use crate::engine::catalog::Catalog;
use crate::engine::request::{Request, Rows};

/// Images that are shown.
const FOUND: usize = 30;
/// What the dropped image is called while it goes through the stages.
const NAME: &str = "the dropped image";

/// In which table.
#[derive(Deserialize)]
pub struct In {
    table: Option<String>,
}

/// `GET /find`: the place to drop an image.
pub async fn ask(State(site): State<Shared>, Query(within): Query<In>) -> Result<Response, Failed> {
    let now = site.now().await?;
    let spaces = spaces(&now).await?;
    let body = html! { (place(&now, &spaces, within.table.as_deref().unwrap_or_default())) };
    Ok(whole(&site, &now, body))
}

/// `/find/in/TABLE`: the same, for one of several tables.
pub async fn within(Path(table): Path<String>) -> Redirect {
    Redirect::to(&links::with("/find", &[("table", &table)]))
}

/// `POST /find`: the images nearest to the one that is sent.
pub async fn answer(State(site): State<Shared>, Query(within): Query<In>, Image(bytes): Image) -> Result<Response, Failed> {
    let now = site.now().await?;
    let spaces = spaces(&now).await?;
    let wanted = within.table.as_deref().unwrap_or_default();
    let space = spaces.iter().find(|space| wanted.is_empty() || now.catalog.name(space.node) == wanted);
    let space = space.ok_or_else(|| Failed::missing(format!("no table of vectors is called `{wanted}`")))?;
    let _turn = site.queries.clone().acquire_owned().await.map_err(anyhow::Error::from)?;
    let vector = vector(&now.catalog, space, bytes.to_vec()).await.map_err(|error| Failed::wrong(format!("{error:#}")))?;
    let (found, count) = nearest(&now.catalog, space, &vector).await?;
    let images: Vec<(&str, String)> = found.iter().map(|(distance, id)| (id.as_str(), short(*distance))).collect();
    let body = html! {
        (place(&now, &spaces, wanted))
        h2 { "Nearest images" }
        p.about { "By the distance of vectors in " a href=(links::below("/stage", &[now.catalog.name(space.node)])) { (shown(now.catalog.name(space.node))) }
            ", exact, of all " (short(count as f64)) ". No query can name the dropped image, for no table has it." }
        (listed(&now, space.clusters, &images))
    };
    Ok(whole(&site, &now, body))
}

fn whole(site: &Site, now: &Now, body: Markup) -> Response {
    page(site, now, &Page { title: "Find an image", way: "/find", body, live: false })
}

fn place(now: &Now, spaces: &[Space], wanted: &str) -> Markup {
    let names: Vec<&str> = spaces.iter().map(|space| now.catalog.name(space.node)).collect();
    let can: Vec<(&str, Result<Vec<usize>>)> =
        spaces.iter().zip(&names).map(|(space, name)| (*name, steps(&now.catalog, space.node))).collect();
    html! {
        form.image action="/image" method="get" {
            label { "An image of the tables, by its id " input type="search" name="id" required; } " " button type="submit" { "Show" }
        }
        @if can.iter().any(|(_, steps)| steps.is_ok()) {
            @if can.len() > 1 { (figures::ways("/find/in", names.iter().copied(), wanted)) }
            form.drop data-find=(links::with("/find", &[("table", wanted)])) hidden {
                label { "Drop an image here, or choose one: " input type="file" accept="image/*"; }
                p.about { "It stays on this machine: the server decodes it, takes it through the stages, and forgets it." }
                output aria-live="polite" {}
            }
            noscript { p { "To search by an image of your own, the page needs its script." } }
        }
        @for (name, steps) in &can { @if let Err(error) = steps {
            p { "An image of your own cannot be looked for in " code { (shown(name)) } ": " (shown(&format!("{error:#}"))) "." }
        } }
        @if spaces.is_empty() { p { "No table of vectors is made that clusters are made of, so that no image can be looked for." } }
    }
}

/// The stages that an image goes through to become a vector, the first one first.
fn steps(catalog: &Catalog, node: usize) -> Result<Vec<usize>> {
    let graph = &catalog.plan.graph;
    let (mut steps, mut at) = (Vec::new(), node);
    while let Some(from) = catalog.stream_of(at) {
        if graph.nodes[at].spec.looks_back() {
            bail!("`{}` needs the image before it", catalog.name(at));
        }
        steps.push(at);
        at = from;
    }
    if !graph.nodes[at].spec.inputs().is_empty() {
        bail!("`{}` is made of a whole table, and not image by image", catalog.name(at));
    }
    if catalog.schema(at).column_with_name("source").is_none() {
        bail!("`{}` lists no files of images", catalog.name(at));
    }
    if steps.iter().any(|&step| catalog.plan.stages[step].recorded) {
        bail!("while the pipeline file has faults, its stages cannot be run");
    }
    // Vectors that were made by other stages than the file's are in another space.
    if let Some(stale) = meanwhile::notes(catalog, &BTreeSet::from([node]))?.first() {
        bail!("{stale}");
    }
    steps.reverse();
    Ok(steps)
}

/// An image's vector, by the stages that made those of a table.
async fn vector(catalog: &Arc<Catalog>, space: &Space, bytes: Vec<u8>) -> Result<Vec<f32>> {
    let nodes = steps(catalog, space.node)?;
    let mut steps = Vec::new();
    for node in nodes {
        steps.push(catalog.step(node).await?);
    }
    let first = steps.first().context("no stage makes vectors of images")?;
    let base = catalog.stream_of(catalog.plan.graph.find(&first.stage).context("the first stage is gone")?);
    let row = row(&catalog.schema(base.context("the first stage reads nothing")?), &first.columns, &bytes)?;
    let column = space.column.clone();
    let work = move || {
        let mut row = row;
        for step in &steps {
            let piece = step.call(&row, 0, None, &[]).with_context(|| format!("stage `{}`", step.stage))?;
            if let Some(dropped) = piece.dropped.first() {
                bail!("`{}` cannot handle the image: {}", step.stage, dropped.reason);
            }
            if piece.rest.is_some() || piece.rows.num_rows() != 1 {
                bail!("`{}` makes several rows of an image", step.stage);
            }
            row = piece.rows;
        }
        let values = row.column_by_name(&column).with_context(|| format!("there is no column `{column}`"))?;
        let values = values.as_fixed_size_list_opt().context("it is no vector")?.value(0);
        Ok(values.as_primitive_opt::<Float32Type>().context("it is no vector of floats")?.values().to_vec())
    };
    spawn_blocking(work).await.context("a stage panicked over the image")?
}

/// A row of the images' table with its bytes; what is not known of the image is null, or empty.
fn row(schema: &Schema, columns: &[String], bytes: &[u8]) -> Result<RecordBatch> {
    let (mut fields, mut values): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for field in schema.fields().iter().filter(|field| columns.contains(field.name())) {
        let value: ArrayRef = match (field.name().as_str(), field.data_type()) {
            (IMAGE_ID, _) => Arc::new(StringArray::from(vec![NAME])),
            (_, DataType::Utf8) if !field.is_nullable() => Arc::new(StringArray::from(vec![""])),
            (_, kind) => new_null_array(kind, 1),
        };
        fields.push(field.as_ref().clone().with_nullable(true));
        values.push(value);
    }
    fields.push(Field::new(BYTES, DataType::Binary, true));
    values.push(Arc::new(BinaryArray::from(vec![bytes])));
    Ok(RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())), values)?)
}

/// How far an image is, and which: ordered by distance, then by id.
#[derive(PartialEq)]
struct Near(f64, String);

impl Eq for Near {}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then_with(|| self.1.cmp(&other.1))
    }
}

/// The images whose vectors are nearest, of all, and how many that are.
async fn nearest(catalog: &Arc<Catalog>, space: &Space, vector: &[f32]) -> Result<(Vec<(f64, String)>, usize)> {
    let columns = Some(vec![IMAGE_ID.to_owned(), space.column.clone()]);
    let request = Request { columns, rows: Rows::Few { partitions: 1, predicate: None, limit: None }, top: None };
    let (mut heap, mut count) = (BinaryHeap::new(), 0);
    each(catalog, space.node, request, |batch| {
        let ids = text(batch, IMAGE_ID)?;
        let lists = batch.column_by_name(&space.column).context("the vectors are gone")?.as_fixed_size_list();
        let values = lists.values().as_primitive_opt::<Float32Type>().context("the vectors are no floats")?.values();
        let length = lists.value_length() as usize;
        if length != vector.len() {
            bail!(
                "the table has vectors of {length} numbers, and the image one of {}: run the pipeline again",
                vector.len()
            );
        }
        count += batch.num_rows();
        for row in (0..batch.num_rows()).filter(|&row| lists.is_valid(row)) {
            let start = (lists.offset() + row) * length;
            let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            let distance = values[start..start + length].iter().zip(vector).map(square).sum::<f64>().sqrt();
            if heap.len() < FOUND || heap.peek().is_some_and(|Near(most, _)| distance < *most) {
                heap.push(Near(distance, ids.value(row).to_owned()));
                if heap.len() > FOUND {
                    heap.pop();
                }
            }
        }
        Ok(true)
    })
    .await?;
    Ok((heap.into_sorted_vec().into_iter().map(|Near(distance, id)| (distance, id)).collect(), count))
}
