//! Figures of metrics: curves, and sweeps.

use std::collections::BTreeMap;

use anyhow::Result;
use arrow::array::Array as _;
use maud::{Markup, html};

use super::Shown;
use crate::ask::page::answer::{literal, name};
use crate::ask::page::draw::lines::{Below, Chart, Line, Point, chart, coloured};
use crate::ask::page::subjects::{Subject, value};

/// What is said before a metric's name of how it was measured: such metrics are in one chart.
const MEASURED: [(&str, &str); 2] = [("validation_", "validation"), ("epoch_", "whole epoch")];
/// Charts of one figure.
const CHARTS: usize = 60;

/// All that a stage told more than once.
pub fn curves_sql(subject: &Subject) -> Vec<String> {
    let stage = literal(&subject.stage);
    let of = format!("split_part(stage, '@', 1) = {stage}");
    let again =
        format!("name IN (SELECT name FROM metrics WHERE {of} GROUP BY stage, name HAVING count(DISTINCT step) > 1)");
    vec![match subject.coarse {
        true => format!(
            "SELECT stage, name, epoch, max(step) AS step, avg(value) AS value FROM metrics
WHERE {of} AND {again}
GROUP BY stage, name, epoch ORDER BY name, stage, epoch"
        ),
        false => format!(
            "SELECT stage, name, epoch, step, value FROM metrics
WHERE {of} AND {again}
ORDER BY name, stage, epoch, step"
        ),
    }]
}

/// A chart a metric; of the cells of a swept stage, a line each.
pub fn curves(page: &Shown<'_>) -> Result<Option<Markup>> {
    let answer = &page.answers[0];
    let (stages, names) = (answer.texts("stage")?, answer.texts("name")?);
    let (steps, values) = (answer.numbers("step")?, answer.numbers("value")?);
    let several = page.subject.cells.len() > 1;
    let mut charts: Vec<(String, Vec<Line>)> = Vec::new();
    for row in 0..answer.len() {
        let how = MEASURED.into_iter().find_map(|(before, how)| Some((names.value(row).strip_prefix(before)?, how)));
        let (title, how) = how.unwrap_or((names.value(row), ""));
        let cell = stages.value(row).split_once('@').map_or("", |(_, cell)| cell);
        let line = match (several, how) {
            (true, how) => format!("{cell} {how}").trim_end().to_owned(),
            (false, "") => "step by step".to_owned(),
            (false, how) => how.to_owned(),
        };
        let at = charts.iter().position(|(known, _)| known == title).unwrap_or_else(|| {
            charts.push((title.to_owned(), Vec::new()));
            charts.len() - 1
        });
        let lines = &mut charts[at].1;
        let at = lines.iter().position(|known| known.name == line).unwrap_or_else(|| {
            lines.push(Line { name: line, dashed: how == MEASURED[0].1, ..Line::default() });
            lines.len() - 1
        });
        let value = if values.is_valid(row) { values.value(row) } else { f64::NAN };
        lines[at].points.push((steps.value(row), value, None));
    }
    let drawn = charts.into_iter().take(CHARTS).map(|(title, mut lines)| {
        lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        coloured(&mut lines);
        chart(&Chart { title, below: (Below::Numbers, "step".to_owned()), lines })
    });
    let drawn: Vec<Markup> = drawn.collect();
    Ok((!drawn.is_empty()).then(|| html! { div.charts { @for chart in &drawn { (chart) } } }))
}

/// The last values of all cells' metrics, by what they were swept over.
pub fn sweep_sql(subject: &Subject) -> Vec<String> {
    let axes: Vec<String> = subject.axes.iter().map(|axis| name(axis)).collect();
    let axes = axes.join(", ");
    let cell = |(stage, values): &(String, Vec<serde_json::Value>)| {
        let values: Vec<String> = values.iter().map(value).collect();
        format!("({}, {})", literal(stage), values.join(", "))
    };
    let cells: Vec<String> = subject.cells.iter().map(cell).collect();
    vec![format!(
        "WITH cells (stage, {axes}) AS (VALUES
  {}),
last AS (
  SELECT stage, name, value, row_number() OVER (PARTITION BY stage, name ORDER BY epoch DESC, step DESC) AS place FROM metrics)
SELECT name, {axes}, avg(value) AS mean, stddev(value) AS deviation, count(*) AS seeds
FROM last JOIN cells USING (stage) WHERE place = 1 GROUP BY name, {axes} ORDER BY name, {axes}",
        cells.join(",\n  ")
    )]
}

/// A chart a metric and value of the second axis: the metric against the first axis.
pub fn sweep(page: &Shown<'_>) -> Result<Option<Markup>> {
    let (answer, axes) = (&page.answers[0], &page.subject.axes);
    let Some(first) = across(page.subject) else { return Ok(None) };
    let (names, means, deviations) = (answer.texts("name")?, answer.numbers("mean")?, answer.numbers("deviation")?);
    let texts = axes.iter().map(|axis| answer.texts(axis)).collect::<Result<Vec<_>>>()?;
    let settings = answer.numbers(&axes[first]).ok().filter(|settings| settings.null_count() == 0);
    // The order in which the file has them.
    let mut words: Vec<String> = Vec::new();
    for (_, values) in &page.subject.cells {
        let word = plain(&values[first]);
        if !words.contains(&word) {
            words.push(word);
        }
    }
    let mut charts: BTreeMap<(String, Vec<String>), Vec<Point>> = BTreeMap::new();
    for row in 0..answer.len() {
        let others = (0..axes.len()).filter(|&axis| axis != first);
        let others = others
            .filter(|&axis| texts[axis].is_valid(row))
            .map(|axis| format!("{} {}", axes[axis], texts[axis].value(row)));
        let at = match &settings {
            Some(settings) => settings.value(row),
            None => {
                let word = if texts[first].is_valid(row) { texts[first].value(row) } else { "" };
                words.iter().position(|known| known == word).unwrap_or(words.len()) as f64
            }
        };
        let mean = if means.is_valid(row) { means.value(row) } else { f64::NAN };
        let deviation = deviations.is_valid(row).then(|| deviations.value(row));
        charts.entry((names.value(row).to_owned(), others.collect())).or_default().push((at, mean, deviation));
    }
    let below = |is_number: bool| if is_number { Below::Settings } else { Below::Names(words.clone()) };
    let drawn = charts.into_iter().take(CHARTS).map(|((metric, others), mut points)| {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let title = if others.is_empty() { metric.clone() } else { format!("{metric}, {}", others.join(", ")) };
        let line = Line { name: metric, class: "c0".to_owned(), points, ..Line::default() };
        chart(&Chart { title, below: (below(settings.is_some()), axes[first].clone()), lines: vec![line] })
    });
    let drawn: Vec<Markup> = drawn.collect();
    Ok((!drawn.is_empty()).then(|| html! { div.charts { @for chart in &drawn { (chart) } } }))
}

/// The axis that a chart has below it: one of numbers, or else the first.
fn across(subject: &Subject) -> Option<usize> {
    let is_number = |axis: usize| subject.cells.iter().all(|(_, values)| values[axis].is_number());
    let numbers = (0..subject.axes.len()).find(|&axis| is_number(axis));
    numbers.or((!subject.axes.is_empty()).then_some(0))
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
