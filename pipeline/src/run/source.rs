//! Making a source's snapshot: where files have rows of their own, parts whose rows persist stay, and only files that changed are
//! read again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use tessera_datasets::Fingerprint;
use tessera_operators::operator::RunError;
use tessera_schemas::{IMAGE_ID, images, text};

use super::writer::TableWriter;
use crate::catalog::Catalog;
use crate::store::{Manifest, Part};

/// Makes the parts of a source's table, and says how many rows were read for it.
///
/// # Errors
/// A file cannot be read or understood, or the disk says no.
pub async fn read(
    catalog: &Arc<Catalog>,
    node: usize,
    mut writer: TableWriter,
    prints: Vec<Fingerprint>,
    previous: Option<Arc<Manifest>>,
) -> Result<(Vec<Part>, u64)> {
    let catalog = catalog.clone();
    let work = move || {
        let previous = previous.filter(|_| catalog.source(node).is_ok_and(|source| source.row_per_file()));
        let Some(previous) = previous else {
            emit(&catalog, node, &prints, &mut |batch| writer.write(batch))?;
            let parts = writer.finish(Vec::new())?;
            let rows = parts.iter().map(|part| part.rows).sum();
            return Ok((parts, rows));
        };
        update(&catalog, node, writer, &prints, &previous)
    };
    tokio::task::spawn_blocking(work).await?
}

/// Has the operator read files.
fn emit(
    catalog: &Catalog,
    node: usize,
    prints: &[Fingerprint],
    write: &mut dyn FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let mut emit = |batch: RecordBatch| write(&batch).map_err(|error| RunError::Engine(format!("{error:#}")));
    let (source, files) = (catalog.source(node)?, catalog.engine.files.as_ref());
    let fail = |error: RunError| catalog.failed(node, error);
    source.read(files, prints, &mut emit).map_err(fail)?;
    if !source.row_per_file() {
        // The rows came out of files that were hashed before they were read.
        let now = source.list(files).map_err(fail)?;
        if let Some(changed) = prints.iter().map(|print| &print.entry).find(|entry| !now.contains(entry)) {
            bail!("stage `{}`: {} changed while it was read; run again", catalog.name(node), changed.path);
        }
    }
    Ok(())
}

/// Keeps the parts of which every row holds, unless they are damaged. Rows of the others that hold, rows of files that changed and of new ones, and rows of
/// parts that have become small, form new parts.
fn update(
    catalog: &Catalog,
    node: usize,
    mut writer: TableWriter,
    prints: &[Fingerprint],
    previous: &Manifest,
) -> Result<(Vec<Part>, u64)> {
    let store = catalog.store.stage(catalog.name(node));
    let schema = &catalog.plan.stages[node].schema;
    let mut open: BTreeMap<&str, &Fingerprint> = prints.iter().map(|print| (print.entry.path.as_str(), print)).collect();
    let small = |rows: usize| rows * 2 < catalog.plan.graph.file.part_rows;
    let mut kept = Vec::new();
    let mut loose: Vec<RecordBatch> = Vec::new();
    for part in previous.parts.iter().filter(|part| store.holds(part)) {
        let rows = store.read(part)?;
        let rows = RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?;
        let (ids, digests) = (text(&rows, IMAGE_ID)?, text(&rows, "digest")?);
        let mut holds = Vec::new();
        for row in 0..rows.num_rows() {
            if open.get(ids.value(row)).is_some_and(|print| print.digest == digests.value(row)) {
                open.remove(ids.value(row));
                holds.push(row as u32);
            }
        }
        if holds.len() == rows.num_rows() && !small(holds.len()) {
            kept.push(part.clone());
        } else if !holds.is_empty() {
            loose.push(take_record_batch(&rows, &UInt32Array::from(holds))?);
        }
    }
    let fresh: BTreeSet<&str> = open.into_keys().collect();
    let fresh: Vec<Fingerprint> = prints.iter().filter(|print| fresh.contains(print.entry.path.as_str())).cloned().collect();
    emit(catalog, node, &fresh, &mut |batch| {
        loose.push(batch.clone());
        Ok(())
    })?;
    let loose = loose.iter().map(|batch| RecordBatch::try_new(schema.clone(), batch.columns().to_vec()));
    let loose = concat_batches(schema, &loose.collect::<Result<Vec<_>, _>>()?)?;
    let ids = images::ids(&loose)?;
    let mut order: Vec<u32> = (0..loose.num_rows() as u32).collect();
    order.sort_by_key(|&row| ids.value(row as usize));
    if !order.is_empty() || kept.is_empty() {
        writer.write(&take_record_batch(&loose, &UInt32Array::from(order))?)?;
        kept.extend(writer.finish(Vec::new())?);
    }
    kept.sort_by(|a, b| a.ids.cmp(&b.ids));
    Ok((kept, fresh.len() as u64))
}
