//! `tessera report`.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{ArrayRef, Float64Array, StringArray};
use clap::Args;
use glob::Pattern;

use super::page::Page;
use super::summary::{numbers, print_columns, texts};
use super::{InFile, Namespace, Output, Session, Usage, tell_notes};
use crate::ask::means::{self, Row, Spread, Summary};
use crate::ask::meanwhile;
use crate::ask::sql::cells;
use crate::ask::sql::output::Format;
use crate::engine::catalog::Catalog;
use crate::run;
use crate::run::decide::Action;
use crate::watch::progress::tell;

/// Which stages and metrics to report.
#[derive(Debug, Args)]
pub struct Report {
    #[command(flatten)]
    file: InFile,
    /// The stages; by default those that are swept and have metrics, or, without a sweep, all that have metrics.
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,
    /// Only this metric, or those of a pattern with `*`; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = Pattern::new)]
    metric: Vec<Pattern>,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    output: Output,
}

impl Report {
    pub(super) fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<()> {
        if let Some(to) = self.page.wanted()? {
            if !self.metric.is_empty() || self.output.format != Format::Text {
                bail!(Usage("-o writes figures: --metric and --format are of the printed metrics".to_owned()));
            }
            return self.page.write(&self.file, &self.stages, (threads, self.namespace.limit), to, out);
        }
        let session = Session::reading(&self.file, threads, self.namespace.limit)?;
        let (catalog, graph) = (&session.catalog, &session.catalog.plan.graph);
        let chosen = session.stages(&self.stages)?;
        let mut families = graph.families();
        if !chosen.is_empty() {
            families.iter_mut().for_each(|(_, cells)| cells.retain(|cell| chosen.contains(cell)));
            families.retain(|(_, cells)| !cells.is_empty());
        } else if !graph.file.axes.is_empty() {
            families.retain(|(_, cells)| !graph.declaration(cells[0]).cell.is_empty());
        }
        let sum = |(stage, cells): &(&str, Vec<usize>)| session.runtime.block_on(means::summary(catalog, stage, cells));
        let mut summaries = families.iter().map(sum).collect::<Result<Vec<Summary>>>()?;
        if chosen.is_empty() {
            summaries.retain(|summary| !summary.metrics.is_empty());
        }
        self.choose(catalog, &mut summaries)?;
        let reported = families.iter().filter(|(stage, _)| summaries.iter().any(|summary| summary.stage == *stage));
        let reported: Vec<&(&str, Vec<usize>)> = reported.collect();
        let nodes: Vec<usize> = reported.iter().flat_map(|(_, cells)| cells.iter().copied()).collect();
        // What a run would do is asked at the end: then stages have the tables that it would choose.
        let told = meanwhile::notes(catalog, &nodes.iter().copied().collect())?;
        match self.output.format {
            Format::Text => {
                for summary in &summaries {
                    print_columns(out, borrowed(&columns(std::slice::from_ref(summary), to_read)), Format::Text)?;
                }
            }
            format => print_columns(out, borrowed(&columns(&summaries, to_compute)), format)?,
        }
        for (stage, cells) in reported {
            if let Some(note) = cells::lacking(catalog, stage, cells) {
                tell(format_args!("note: {note}"));
            }
        }
        match earlier(catalog, &nodes) {
            Some(note) => tell_notes(&[note]),
            None => tell_notes(&told),
        }
        Ok(())
    }

    /// Leaves the metrics that are asked for.
    fn choose(&self, catalog: &Catalog, summaries: &mut Vec<Summary>) -> Result<()> {
        let known: Vec<String> = summaries.iter().flat_map(|summary| summary.metrics.iter().cloned()).collect();
        if known.is_empty() {
            bail!(unmeasured(catalog, summaries));
        }
        if let Some(unknown) = self.metric.iter().find(|pattern| !known.iter().any(|name| pattern.matches(name))) {
            let mut known = known;
            known.sort();
            known.dedup();
            bail!(Usage(format!("unknown metric `{unknown}`; metrics: {}", known.join(", "))));
        }
        if !self.metric.is_empty() {
            let asked = |name: &String| self.metric.iter().any(|pattern| pattern.matches(name));
            summaries.iter_mut().for_each(|summary| summary.metrics.retain(asked));
            summaries.retain(|summary| !summary.metrics.is_empty());
        }
        Ok(())
    }
}

/// Why there is nothing to report.
fn unmeasured(catalog: &Catalog, summaries: &[Summary]) -> String {
    let file = catalog.arguments();
    match summaries.iter().find(|summary| summary.rows.iter().any(|row| row.seeds > 0)) {
        Some(Summary { stage, .. }) => format!(
            "stage `{stage}` measured nothing; reported are metrics, and of queries whose tables have one row, that row's numbers: \
             `tessera sql {file} \"SELECT * FROM {stage}\"` shows its table"
        ),
        None => format!("nothing was measured yet; `tessera run {file}` makes the stages"),
    }
}

/// Says if stages were made of an earlier state of the file or the images. What cannot be decided is not complained about here.
fn earlier(catalog: &Catalog, stages: &[usize]) -> Option<String> {
    let made = stages.iter().copied().filter(|&stage| catalog.table(stage).is_some_and(|table| table.manifest.is_some()));
    let made: Vec<usize> = made.collect();
    let to = made.iter().map(|&stage| catalog.name(stage).to_owned()).collect::<Vec<_>>();
    if to.is_empty() {
        return None;
    }
    let planned = run::plan(catalog, &run::Options { to, force: Vec::new() }).ok()?;
    let changes = |planned: &&run::PlannedStage| matches!(planned.action, Action::Run | Action::Update);
    let changed: BTreeSet<&str> = planned.iter().filter(changes).map(|planned| planned.stage.as_str()).collect();
    let stale: Vec<usize> = made.into_iter().filter(|&stage| changed.contains(catalog.name(stage))).collect();
    let upstream = catalog.plan.graph.upstream(&stale);
    let cause =
        planned.iter().filter(changes).find(|planned| upstream.iter().any(|&at| catalog.name(at) == planned.stage))?;
    let names: Vec<&str> = stale.iter().map(|&stage| catalog.name(stage)).collect();
    Some(format!(
        "made from an earlier file or other images: {}; a run would begin with {}",
        names.join(", "),
        cause.reasons.join("; ")
    ))
}

/// A metric's columns: of its name, and each row's spread.
type Metric = fn(&str, &[Option<Spread>]) -> Vec<(String, ArrayRef)>;

/// `stage`, the axes, `seeds`, and the metrics; what a stage does not have is NULL.
fn columns(summaries: &[Summary], of_metric: Metric) -> Vec<(String, ArrayRef)> {
    let rows: Vec<(&Summary, &Row)> =
        summaries.iter().flat_map(|summary| summary.rows.iter().map(move |row| (summary, row))).collect();
    let rows = || rows.iter().copied();
    let names = |of: fn(&Summary) -> &Vec<String>| {
        let mut names: Vec<&String> = Vec::new();
        for name in summaries.iter().flat_map(of) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    let mut columns = vec![("stage".to_owned(), texts(rows().map(|(summary, _)| &summary.stage)))];
    for axis in names(|summary| &summary.axes) {
        let value = |(summary, row): (&Summary, &'_ Row)| {
            summary.axes.iter().position(|name| name == axis).map(|at| row.values[at].clone())
        };
        let values: Vec<_> = rows().map(value).collect();
        columns.push((axis.clone(), cells::array(&values.iter().map(Option::as_ref).collect::<Vec<_>>())));
    }
    columns.push(("seeds".to_owned(), numbers(rows().map(|(_, row)| Some(row.seeds as i64)))));
    for metric in names(|summary| &summary.metrics) {
        let spreads: Vec<_> = rows().map(|(_, row)| row.metrics.get(metric).copied()).collect();
        columns.extend(of_metric(metric, &spreads));
    }
    columns
}

/// Mean and deviation, a column each.
fn to_compute(metric: &str, spreads: &[Option<Spread>]) -> Vec<(String, ArrayRef)> {
    let of = |get: fn(Spread) -> Option<f64>| -> ArrayRef {
        Arc::new(spreads.iter().map(|spread| spread.and_then(get)).collect::<Float64Array>())
    };
    vec![(format!("{metric}_mean"), of(|spread| Some(spread.mean))), (format!("{metric}_sd"), of(|spread| spread.deviation))]
}

/// Both in one column, `0.7245 ±0.0071`.
fn to_read(metric: &str, spreads: &[Option<Spread>]) -> Vec<(String, ArrayRef)> {
    let text = |Spread { mean, deviation }: Spread| match deviation {
        Some(deviation) => format!("{} ±{}", short(mean), short(deviation)),
        None => short(mean),
    };
    let texts = spreads.iter().map(|spread| spread.map(text)).collect::<StringArray>();
    vec![(metric.to_owned(), Arc::new(texts))]
}

/// A number to read: four decimals, or four significant digits where that would say little or look odd.
fn short(value: f64) -> String {
    match value.abs() {
        _ if value == value.trunc() && value.abs() < 1e9 => format!("{value}"),
        size if (1e-3..1e4).contains(&size) => format!("{value:.4}"),
        _ => format!("{value:.3e}"),
    }
}

fn borrowed(columns: &[(String, ArrayRef)]) -> Vec<(&str, ArrayRef)> {
    columns.iter().map(|(name, column)| (name.as_str(), column.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let found = [0.0, -3.0, 0.724_49, 12.5, 0.000_012_34, 123_456.7, f64::NAN].map(short);
        assert_eq!(found, ["0", "-3", "0.7245", "12.5000", "1.234e-5", "1.235e5", "NaN"]);
    }
}
