//! What `plan`, `run` and `operators` print.

use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use tessera_schemas::printable;

use super::counted;
use crate::ask::sql::output::{Format, print};
use crate::run::{PlannedStage, Report};
use crate::store::DroppedRow;
use crate::store::gc::Garbage;
use crate::watch::progress::{duration, tell};

pub fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub fn numbers(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Int64Array>())
}

pub fn print_columns(out: &mut dyn Write, columns: Vec<(&str, ArrayRef)>, format: Format) -> Result<()> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?;
    print(out, &batch.schema(), &[batch], format)
}

/// What a run would do.
pub fn plan(out: &mut dyn Write, stages: &[PlannedStage], format: Format) -> Result<()> {
    let columns = vec![
        ("stage", texts(stages.iter().map(|s| &s.stage))),
        ("action", texts(stages.iter().map(|s| s.action.name()))),
        ("parts", numbers(stages.iter().map(|s| Some(s.parts as i64)))),
        ("stale_parts", numbers(stages.iter().map(|s| Some(s.stale_parts as i64)))),
        ("reasons", texts(stages.iter().map(|s| s.reasons.join("; ")))),
    ];
    print_columns(out, columns, format)
}

/// What a run did.
pub fn run(out: &mut dyn Write, report: &Report, format: Format) -> Result<()> {
    let stages = &report.stages;
    let seconds: ArrayRef = match format {
        Format::Text => texts(stages.iter().map(|s| duration(s.seconds))),
        _ => Arc::new(Float64Array::from_iter_values(stages.iter().map(|s| s.seconds))),
    };
    let count = |get: fn(&crate::run::StageReport) -> u64| numbers(stages.iter().map(|s| Some(get(s) as i64)));
    let columns = vec![
        ("stage", texts(stages.iter().map(|s| &s.stage))),
        ("action", texts(stages.iter().map(|s| s.action.name()))),
        ("parts_written", count(|s| s.parts_written as u64)),
        ("rows_out", numbers(stages.iter().map(|s| s.rows_out.map(|rows| rows as i64)))),
        ("rows_computed", count(|s| s.rows_computed)),
        ("rows_reused", count(|s| s.rows_reused)),
        ("rows_dropped", count(|s| s.rows_dropped)),
        ("seconds", seconds),
    ];
    print_columns(out, columns, format)?;
    if format == Format::Text {
        writeln!(out, "done in {}", duration(report.seconds))?;
        if stages.iter().any(|stage| stage.rows_dropped > 0) {
            writeln!(out, "some images were dropped: SELECT * FROM dropped says which, and why")?;
        }
    }
    Ok(())
}

/// The images that a query's views left out: the first few, and how many more.
pub fn left_out(dropped: &[DroppedRow]) {
    const SHOWN: usize = 5;
    for DroppedRow { stage, image_id, reason, .. } in dropped.iter().take(SHOWN) {
        tell(format_args!("left out by stage `{stage}`: image `{}`: {}", printable(image_id), printable(reason)));
    }
    if dropped.len() > SHOWN {
        tell(format_args!("and {} more", dropped.len() - SHOWN));
    }
}

/// What nothing needs.
pub fn garbage(out: &mut dyn Write, garbage: &[Garbage], deleted: bool, format: Format) -> Result<()> {
    let columns = vec![
        ("stage", texts(garbage.iter().map(|file| &file.stage))),
        ("kind", texts(garbage.iter().map(|file| file.kind))),
        ("bytes", numbers(garbage.iter().map(|file| Some(file.bytes as i64)))),
        ("path", texts(garbage.iter().map(|file| file.path.display().to_string()))),
    ];
    print_columns(out, columns, format)?;
    if format == Format::Text {
        let (bytes, count) = (garbage.iter().map(|file| file.bytes).sum::<u64>(), garbage.len());
        let done = if deleted { "deleted" } else { "could be deleted: --delete does it" };
        writeln!(out, "{}, {bytes} bytes {done}", counted(count, "file"))?;
    }
    Ok(())
}
