//! `tessera diff`.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use tessera_schemas::printable;

use super::summary::{numbers, print_columns, texts};
use super::{InFile, Namespace, Output, Session, Usage};
use crate::ask::diff::{Difference, RowChange, diff};
use crate::ask::meanwhile;
use crate::ask::sql::output::Format;

/// Which snapshots to compare, and what to say.
#[derive(Debug, Args)]
pub struct Diff {
    #[command(flatten)]
    file: InFile,
    /// The stage whose snapshots are compared.
    stage: String,
    /// The older snapshot: a key or its beginning, or `previous`, the one that was current before.
    #[arg(default_value = "previous")]
    old: String,
    /// The newer snapshot.
    #[arg(default_value = "current")]
    new: String,
    /// List the rows too, at most N of them; in JSON, as `rows`.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "100")]
    rows: Option<usize>,
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    output: Output,
}

impl Diff {
    pub(super) fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<()> {
        let session = Session::reading(&self.file, threads, self.namespace.limit)?;
        let catalog = &session.catalog;
        let node = session.stage(&self.stage)?;
        if catalog.plan.graph.nodes[node].view {
            let (stage, base) = (&self.stage, catalog.name(catalog.chain(node).0));
            let message = format!(
                "stage `{stage}` is a view and has no snapshots; `keep = true` gives it some, and `{base}` has them"
            );
            return Err(Usage(message).into());
        }
        // As every reader, it has no answer from a table that was made without what --set says.
        if [&self.old, &self.new].iter().any(|key| ["current", "previous"].contains(&key.as_str())) {
            meanwhile::notes(catalog, &BTreeSet::from([node]))?;
        }
        let stage = catalog.name(node);
        let (old, new) = (catalog.store.resolve(stage, &self.old)?, catalog.store.resolve(stage, &self.new)?);
        let difference = diff(catalog, &old, &new)?;
        let listed = &difference.rows[..self.rows.unwrap_or(0).min(difference.rows.len())];
        match self.output.format {
            Format::Json => {
                let mut document = serde_json::to_value(&difference)?;
                if self.rows.is_some() {
                    document["rows"] = json!(listed);
                }
                writeln!(out, "{document}")?;
            }
            Format::Csv if self.rows.is_some() => list(out, listed, Format::Csv)?,
            Format::Csv => {
                let one = |count: u64| numbers([Some(count as i64)]);
                let columns = vec![
                    ("stage", texts([&difference.stage])),
                    ("old", texts([&difference.old])),
                    ("new", texts([&difference.new])),
                    ("added", one(difference.added)),
                    ("removed", one(difference.removed)),
                    ("changed", numbers([difference.changed.map(|count| count as i64)])),
                    ("unchanged", one(difference.unchanged)),
                ];
                print_columns(out, columns, Format::Csv)?;
            }
            Format::Text => {
                summary(out, &difference)?;
                if self.rows.is_some() && !listed.is_empty() {
                    list(out, listed, Format::Text)?;
                    if listed.len() < difference.rows.len() {
                        let more = difference.rows.len() - listed.len();
                        writeln!(out, "and {more} more: --rows {} lists all", difference.rows.len())?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn summary(out: &mut dyn Write, difference: &Difference) -> Result<()> {
    let Difference { stage, old, new, added, removed, changed, unchanged, .. } = difference;
    let changed = changed.map_or_else(String::new, |changed| format!("{changed} changed, "));
    writeln!(out, "{stage}: {old} -> {new}")?;
    writeln!(out, "rows: {added} added, {removed} removed, {changed}{unchanged} unchanged")?;
    for (column, rows) in &difference.columns {
        writeln!(out, "`{}` differs in {rows}", printable(column))?;
    }
    for (what, columns) in [("added", &difference.added_columns), ("removed", &difference.removed_columns)] {
        if !columns.is_empty() {
            writeln!(out, "columns {what}: {}", printable(&columns.join(", ")))?;
        }
    }
    Ok(())
}

fn list(out: &mut dyn Write, rows: &[RowChange], format: Format) -> Result<()> {
    let change = ("change", texts(rows.iter().map(|row| row.change.name())));
    let keyed = rows.iter().all(|row| row.image_id.is_some());
    let columns = if keyed {
        let ids = texts(rows.iter().map(|row| row.image_id.as_deref().unwrap_or_default()));
        vec![change, ("image_id", ids), ("columns", texts(rows.iter().map(|row| row.columns.join(", "))))]
    } else {
        vec![change, ("row", numbers(rows.iter().map(|row| row.row.map(|row| row as i64))))]
    };
    print_columns(out, columns, format)
}
