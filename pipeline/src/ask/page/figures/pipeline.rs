//! Figures of the pipeline as a whole: its stages, what they left out, where the time went, and its runs.

use anyhow::Result;
use arrow::array::Array as _;
use maud::{Markup, html};

use super::{Shown, State};
use crate::ask::page::answer::{Answer, short};
use crate::ask::page::draw::bars::{Bar, bars};
use crate::ask::page::draw::graph::{Node, graph};
use crate::ask::page::draw::shown;
use crate::ask::page::subjects::Subject;
use crate::watch::progress::duration;

/// The stages; cells of a swept one together.
pub fn stages_sql(_: &Subject) -> Vec<String> {
    vec![
        "SELECT split_part(stage, '@', 1) AS stage_name, count(*) AS cells, count(snapshot) AS made, max(operator) AS operator,
  bool_or(is_view) AS is_view, sum(rows) AS rows, sum(bytes) AS bytes, sum(seconds) AS seconds
FROM stages GROUP BY split_part(stage, '@', 1) ORDER BY stage_name"
            .to_owned(),
    ]
}

/// A graph, and below it why stages are not up to date.
pub fn stages(page: &Shown<'_>) -> Result<Option<Markup>> {
    let answer = &page.answers[0];
    let names = answer.texts("stage_name")?;
    let operators = answer.texts("operator")?;
    let numbers = ["cells", "made", "rows", "seconds"].map(|name| answer.numbers(name));
    let [cells, made, rows, seconds] = numbers;
    let (cells, made, rows, seconds) = (cells?, made?, rows?, seconds?);
    let plan = &page.catalog.plan.graph;
    let families = plan.families();
    // In the order of the graph, so that each box stands behind those that it reads.
    let mut order: Vec<(usize, &str, &Vec<usize>)> =
        families.iter().map(|(name, nodes)| (nodes.iter().copied().min().unwrap_or(0), *name, nodes)).collect();
    order.sort();
    let place = |node: usize| order.iter().position(|(_, _, nodes)| nodes.contains(&node));
    let mut boxes = Vec::new();
    for (at, (_, name, nodes)) in order.iter().enumerate() {
        let Some(row) = (0..answer.len()).find(|&row| names.value(row) == *name) else { continue };
        let view = nodes.iter().any(|&node| plan.nodes[node].view);
        let state = state(page.states, nodes.iter().map(|&node| page.catalog.name(node)));
        let is_made = made.value(row) > 0.0;
        let (class, word) = match (view, is_made, state) {
            (true, ..) => ("view", "view"),
            (_, false, _) => ("missing", "not made yet"),
            (_, _, Some("run")) => ("stale", "to be made anew"),
            (_, _, Some("update")) => ("stale", "to be updated"),
            _ => ("made", ""),
        };
        let count = cells.value(row);
        let of = if count > 1.0 {
            format!("{} × {}", operators.value(row), short(count))
        } else {
            operators.value(row).to_owned()
        };
        let first = if word.is_empty() { of } else { format!("{of}, {word}") };
        let second = match (view, is_made) {
            (false, true) => format!("{} rows, {}", short(rows.value(row)), duration(seconds.value(row))),
            _ => String::new(),
        };
        let mut reads: Vec<usize> =
            nodes.iter().flat_map(|&node| &plan.nodes[node].edges).filter_map(|edge| place(edge.from)).collect();
        reads.sort_unstable();
        reads.dedup();
        reads.retain(|&from| from < at);
        boxes.push(Node { name: (*name).to_owned(), lines: [first, second], class, reads });
    }
    let reasons: Vec<(&str, &str)> = page
        .states
        .iter()
        .filter(|state| ["run", "update"].contains(&state.action.as_str()))
        .flat_map(|state| state.reasons.iter().map(|reason| (state.stage.as_str(), reason.as_str())))
        .collect();
    Ok(Some(html! {
        (graph(&boxes))
        @if !reasons.is_empty() {
            p { "What a run would make anew, and why (" code { "tessera plan" } "):" }
            ul.reasons { @for (_, reason) in reasons.iter().take(REASONS) { li { (shown(reason)) } } }
            @if reasons.len() > REASONS { p { "And " (reasons.len() - REASONS) " more." } }
        }
    }))
}

/// Reasons that are shown.
const REASONS: usize = 40;

/// What a run would do about the cells of a stage.
fn state<'a>(states: &'a [State], cells: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let of = |cell: &str| states.iter().find(|state| state.stage == cell).map(|state| state.action.as_str());
    let all: Vec<&str> = cells.filter_map(of).collect();
    ["run", "update", "reuse"].into_iter().find(|action| all.contains(action))
}

/// Reasons, and how many images each was given for.
pub fn dropped_sql(_: &Subject) -> Vec<String> {
    vec![
        "SELECT stage, reason, count(*) AS images FROM dropped GROUP BY stage, reason ORDER BY images DESC, stage, reason LIMIT 100"
            .to_owned(),
    ]
}

/// Bars.
pub fn dropped(page: &Shown<'_>) -> Result<Option<Markup>> {
    let answer = &page.answers[0];
    let (stages, reasons, images) = (answer.texts("stage")?, answer.texts("reason")?, answer.numbers("images")?);
    let bar = |row: usize| Bar {
        name: vec![stages.value(row).to_owned(), reasons.value(row).to_owned()],
        value: Some(images.value(row)),
        written: None,
    };
    Ok((!answer.is_empty()).then(|| bars(&["stage", "reason", "images"], &rows(answer, bar))))
}

/// Seconds of each stage; cells of a swept one together.
pub fn time_sql(_: &Subject) -> Vec<String> {
    vec![
        "SELECT split_part(stage, '@', 1) AS stage_name, sum(seconds) AS seconds
FROM stages WHERE seconds IS NOT NULL GROUP BY split_part(stage, '@', 1) ORDER BY seconds DESC, stage_name"
            .to_owned(),
    ]
}

/// Bars.
pub fn time(page: &Shown<'_>) -> Result<Option<Markup>> {
    let answer = &page.answers[0];
    let (stages, seconds) = (answer.texts("stage_name")?, answer.numbers("seconds")?);
    let bar = |row: usize| Bar {
        name: vec![stages.value(row).to_owned()],
        value: Some(seconds.value(row)),
        written: Some(duration(seconds.value(row))),
    };
    Ok((!answer.is_empty()).then(|| bars(&["stage", "time"], &rows(answer, bar))))
}

/// The latest runs.
pub fn runs_sql(_: &Subject) -> Vec<String> {
    vec![
        "SELECT run, min(started) AS started, sum(seconds) AS seconds, count(*) FILTER (WHERE action = 'run') AS made,
  count(*) FILTER (WHERE action = 'update') AS updated, count(*) FILTER (WHERE action = 'reuse') AS reused, max(error) AS error
FROM runs GROUP BY run ORDER BY run DESC LIMIT 20"
            .to_owned(),
    ]
}

/// Bars.
pub fn runs(page: &Shown<'_>) -> Result<Option<Markup>> {
    let answer = &page.answers[0];
    let (started, errors) = (answer.texts("started")?, answer.texts("error")?);
    let [seconds, made, updated, reused] = ["seconds", "made", "updated", "reused"].map(|name| answer.numbers(name));
    let (seconds, made, updated, reused) = (seconds?, made?, updated?, reused?);
    let bar = |row: usize| {
        let stages = format!(
            "{} made, {} updated, {} reused",
            short(made.value(row)),
            short(updated.value(row)),
            short(reused.value(row))
        );
        let error = if errors.is_valid(row) { errors.value(row).to_owned() } else { String::new() };
        Bar {
            name: vec![started.value(row).replace('T', " "), stages, error],
            value: Some(seconds.value(row)),
            written: Some(duration(seconds.value(row))),
        }
    };
    Ok((!answer.is_empty()).then(|| bars(&["started (UTC)", "stages", "error", "time"], &rows(answer, bar))))
}

fn rows(answer: &Answer, bar: impl Fn(usize) -> Bar) -> Vec<Bar> {
    (0..answer.len()).map(bar).collect()
}
