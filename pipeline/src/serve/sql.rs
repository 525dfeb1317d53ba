//! `/sql`: a box for a query, the table of its answer, and the answer as a file.
//!
//! A query is asked by POST alone, so that no address makes a browser ask one.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use arrow::array::{Array as _, RecordBatch, StringArray};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;
use tessera_schemas::printable_lines;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use super::child::{self, Answered};
use super::failed::Failed;
use super::links;
use super::posted::Asked;
use super::shell::{Page, page};
use super::site::{Now, Shared, Site};
use crate::ask::page::draw::{cut, shown};

/// Bytes of a query at most.
pub const TEXT: usize = 64 << 10;
/// Rows of an answer that are shown, and bytes that are read for that.
const ROWS: usize = 10_000;
const BYTES: usize = 16 << 20;
/// Bytes of a file at most.
const FILE: usize = 1 << 30;
/// How long a query waits for its turn.
const TURN: Duration = Duration::from_secs(6);
/// Pieces of a file that wait for whoever downloads it.
const AHEAD: usize = 4;

/// A query that the box begins with.
#[derive(Deserialize)]
pub struct Begun {
    q: Option<String>,
}

/// What the form sends.
#[derive(Deserialize)]
pub struct Sent {
    q: String,
    /// `csv` or `parquet`: a file.
    file: Option<String>,
}

/// `GET /sql`: the box. Nothing is asked.
pub async fn sql_box(State(site): State<Shared>, Query(begun): Query<Begun>) -> Result<Response, Failed> {
    let now = site.now().await?;
    Ok(whole(&site, &now, begun.q.as_deref().unwrap_or_default(), &html! {}))
}

/// `POST /sql`: the answer.
pub async fn answer(State(site): State<Shared>, Asked(sent): Asked<Sent>) -> Result<Response, Failed> {
    if sent.q.len() > TEXT {
        return Err(Failed { status: StatusCode::PAYLOAD_TOO_LARGE, why: "a query has at most 64 KiB".to_owned() });
    }
    let now = site.now().await?;
    let turn = tokio::time::timeout(TURN, site.queries.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        let why = "two queries are being answered: ask again when one has ended";
        return Err(Failed { status: StatusCode::SERVICE_UNAVAILABLE, why: why.to_owned() });
    };
    match sent.file.as_deref() {
        None | Some("") => look(&site, &now, &sent.q, turn).await,
        Some("csv") => file(&site, &now, &sent.q, turn, ("csv", "text/csv; charset=utf-8")).await,
        Some("parquet") => file(&site, &now, &sent.q, turn, ("parquet", "application/vnd.apache.parquet")).await,
        Some(_) => Err(Failed::wrong("an answer is a csv or a parquet file")),
    }
}

fn threads(now: &Now) -> usize {
    now.catalog.engine.threads
}

async fn look(site: &Arc<Site>, now: &Now, sql: &str, turn: OwnedSemaphorePermit) -> Result<Response, Failed> {
    let asked = child::Asked::begin(&site.words, sql, "csv", threads(now))?;
    let _ender = asked.ender();
    let answered = spawn_blocking(move || {
        let _turn = turn;
        asked.first(BYTES)
    });
    let answered = answered.await.map_err(anyhow::Error::from)?;
    let notes = said(&answered);
    if !answered.is_whole {
        let body = html! { p.error role="alert" { (printable_lines(&notes)) } };
        let mut response = whole(site, now, sql, &body);
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    }
    let (rows, is_more) = parsed(&answered.bytes, ROWS)?;
    let body = html! {
        @if !notes.is_empty() { p.notes { (printable_lines(&notes)) } }
        p role="status" {
            (rows.num_rows()) @if rows.num_rows() == 1 { " row" } @else { " rows" }
            @if is_more || answered.is_cut { ", and there are more: the files below have all of them" } "."
        }
        (table(&rows))
    };
    Ok(whole(site, now, sql, &body))
}

/// What a query said, without the words that a terminal needs.
fn said(answered: &Answered) -> String {
    let lines =
        answered.said.lines().map(|line| line.strip_prefix("error: ").or(line.strip_prefix("note: ")).unwrap_or(line));
    let mut text = lines.collect::<Vec<_>>().join("\n");
    // What the command line calls its options.
    for (option, here) in [
        ("that --timeout gives it", "that it may take here"),
        (
            "that --memory gives it: ask for fewer rows or columns, or give it more",
            "that it may take here: ask for fewer rows or columns",
        ),
    ] {
        text = text.replace(option, here);
    }
    if text.is_empty() && !answered.is_whole {
        "the query was ended: it took more memory than it may".to_owned()
    } else {
        text
    }
}

/// The rows of CSV, at most so many, and whether there are more. The last row may be cut off.
fn parsed(bytes: &[u8], most: usize) -> Result<(RecordBatch, bool)> {
    let format = Format::default().with_header(true);
    let (found, _) = format.infer_schema(Cursor::new(bytes), Some(1)).context("the answer has no columns")?;
    let text = |field: &Arc<Field>| Field::new(field.name(), DataType::Utf8, true);
    let schema = Arc::new(Schema::new(found.fields().iter().map(text).collect::<Vec<_>>()));
    let reader = ReaderBuilder::new(schema.clone()).with_format(format).with_batch_size(1000).build(Cursor::new(bytes))?;
    let (mut batches, mut rows) = (Vec::new(), 0);
    // One that is cut off is the end.
    for batch in reader.map_while(Result::ok) {
        rows += batch.num_rows();
        batches.push(batch);
        if rows > most {
            break;
        }
    }
    let all = arrow::compute::concat_batches(&schema, &batches)?;
    Ok((all.slice(0, all.num_rows().min(most)), all.num_rows() > most))
}

fn table(rows: &RecordBatch) -> Markup {
    let columns: Vec<StringArray> = rows.columns().iter().map(|column| column.to_data().into()).collect();
    let schema = rows.schema();
    let is_id: Vec<bool> = schema.fields().iter().map(|field| field.name() == tessera_schemas::IMAGE_ID).collect();
    let is_number: Vec<bool> = columns
        .iter()
        .map(|column| {
            column.iter().flatten().take(50).all(|value| value.parse::<f64>().is_ok()) && column.null_count() < column.len()
        })
        .collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label="answer" { table.numbers {
            thead { tr { @for (field, right) in schema.fields().iter().zip(&is_number) { th.right[*right] scope="col" { (shown(field.name())) } } } }
            tbody { @for row in 0..rows.num_rows() { tr { @for (at, column) in columns.iter().enumerate() {
                @if column.is_null(row) { td {} }
                @else if is_id[at] { td { a href=(links::image(column.value(row))) { (shown(column.value(row))) } } }
                @else { td.right[is_number[at]] { bdi { (cut(column.value(row), 300)) } } }
            } } } }
        } }
    }
}

fn whole(site: &Site, now: &Now, sql: &str, answer: &Markup) -> Response {
    let nodes = &now.catalog.plan.graph.nodes;
    let tables =
        nodes.iter().map(|node| node.name.as_str()).chain(crate::ask::sql::system::TABLES.iter().map(|kind| kind.name));
    let body = html! {
        form.query method="post" action="/sql" {
            input type="hidden" name="token" value=(site.token);
            label for="q" { "Query" }
            textarea id="q" name="q" spellcheck="false" autocomplete="off" required maxlength=(TEXT) { "\n" (sql) }
            div.buttons {
                button type="submit" { "Ask" }
                button type="submit" name="file" value="csv" { "As CSV" }
                button type="submit" name="file" value="parquet" { "As Parquet" }
            }
            p.about { "Queries only read; each may take " (child::seconds()) " seconds and " (child::MEMORY) ". Ctrl+Enter asks." }
        }
        details { summary { "Tables" } ul.ways { @for table in tables { li { code { (shown(table)) } } } } }
        (answer)
    };
    page(site, now, &Page { title: "SQL", way: "/sql", body, live: false })
}

/// The answer as a file, as it comes.
async fn file(
    site: &Arc<Site>,
    now: &Now,
    sql: &str,
    turn: OwnedSemaphorePermit,
    (format, kind): (&'static str, &'static str),
) -> Result<Response, Failed> {
    let asked = child::Asked::begin(&site.words, sql, format, threads(now))?;
    let ender = asked.ender();
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<Bytes>(AHEAD);
    let work = spawn_blocking(move || {
        let _turn = turn;
        let mut bytes = 0;
        asked.read(|more| {
            bytes += more.len();
            bytes <= FILE && sender.blocking_send(Bytes::copy_from_slice(more)).is_ok()
        })
    });
    // Before the first piece it may still fail, and say why.
    let Some(first) = pieces.recv().await else {
        let answered = work.await.map_err(anyhow::Error::from)?;
        let body = html! { p.error role="alert" { (printable_lines(&said(&answered))) } };
        let mut response = whole(site, now, sql, &body);
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    let state = (Some(first), pieces, Some(work), ender);
    let stream = futures::stream::unfold(state, |(first, mut pieces, mut work, ender)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, pieces, work, ender)));
        }
        if let Some(piece) = pieces.recv().await {
            return Some((Ok(piece), (None, pieces, work, ender)));
        }
        // A file that breaks off is none: the browser is told.
        let answered = work.take()?.await;
        match answered {
            Ok(answered) if answered.is_whole && !answered.is_cut => None,
            _ => Some((Err(std::io::Error::other("the query did not come to its end")), (None, pieces, None, ender))),
        }
    });
    let name = format!("attachment; filename=\"answer.{format}\"");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_str(&name).map_err(anyhow::Error::from)?),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_far_as_they_are_whole() {
        let (rows, more) = parsed(b"a,b\n1,\"x\n,\"\"y\"\n2,\n3,z\n", 2).unwrap();
        assert_eq!((rows.num_rows(), more), (2, true));
        let column = rows.column(1).to_data();
        assert_eq!(StringArray::from(column).iter().collect::<Vec<_>>(), [Some("x\n,\"y"), None]);
        let (rows, more) = parsed(b"a,b\n", 2).unwrap();
        assert_eq!((rows.num_rows(), rows.num_columns(), more), (0, 2, false));
        assert!(parsed(b"a,b\n1,2\n3,\"cut", 9).unwrap().0.num_rows() <= 2);
    }
}
