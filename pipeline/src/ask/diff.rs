//! What differs between two snapshots of a stage.
//!
//! Rows are told apart by `image_id` where both snapshots have one, and are then added, removed or changed, column by column; else by
//! all their values, and are added or removed. Parts that both snapshots list are not read. Of the others, digests of the rows are
//! compared, not the rows: in memory are the ids and 32 bytes a column of each row of the old snapshot, however wide the rows are.
//! Columns that only say where something lies have no part in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use serde::Serialize;
use tessera_operators::parallel;
use tessera_schemas::digest::{self, Digest};
use tessera_schemas::{IMAGE_ID, meta, text};

use crate::engine::catalog::Catalog;
use crate::store::{Manifest, Part, PartReader, part};

/// Rows that are read at once.
const BATCH_ROWS: usize = 1024;

/// What differs.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// The stage.
    pub stage: String,
    /// The snapshot that was compared with.
    pub old: String,
    /// The snapshot that was compared.
    pub new: String,
    /// Rows that only the new one has.
    pub added: u64,
    /// Rows that only the old one has.
    pub removed: u64,
    /// Rows of an `image_id` that both have, with other values; none where there are no ids.
    pub changed: Option<u64>,
    /// Rows that are the same.
    pub unchanged: u64,
    /// In how many of the changed rows each column differs; columns that differ in none are left out.
    pub columns: BTreeMap<String, u64>,
    /// Columns that only the new one has.
    pub added_columns: Vec<String>,
    /// Columns that only the old one has.
    pub removed_columns: Vec<String>,
    /// Row by row, by `image_id`.
    #[serde(skip)]
    pub rows: Vec<RowChange>,
}

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RowChange {
    /// Whose row; none where there are no ids.
    pub image_id: Option<String>,
    /// Where there are no ids: its place in its snapshot, from 0.
    pub row: Option<u64>,
    /// What became of it.
    pub change: Change,
    /// Of a changed row: the columns that differ.
    pub columns: Vec<String>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only the new snapshot has it.
    Added,
    /// Only the old snapshot has it.
    Removed,
    /// It has other values.
    Changed,
}

impl Change {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// One side of a comparison: the parts that the other lacks.
struct Side {
    parts: Vec<PartReader>,
    /// The row, counted in the snapshot, that each of them begins with.
    starts: Vec<u64>,
    /// Rows of the parts that both have.
    shared: u64,
    /// The columns that have a digest.
    columns: BTreeSet<String>,
}

impl Side {
    fn new(catalog: &Catalog, manifest: &Manifest, schema: &SchemaRef, other: &Manifest) -> Self {
        let theirs: BTreeSet<String> = other.parts.iter().map(Part::content).collect();
        let store = catalog.store.stage(&manifest.stage);
        let (mut parts, mut starts, mut shared, mut at) = (Vec::new(), Vec::new(), 0, 0);
        for part in &manifest.parts {
            if theirs.contains(&part.content()) {
                shared += part.rows;
            } else {
                parts.push(store.open(part));
                starts.push(at);
            }
            at += part.rows;
        }
        let digested = schema.fields().iter().filter(|field| !field.metadata().contains_key(meta::UNDIGESTED));
        Self { parts, starts, shared, columns: digested.map(|field| field.name().clone()).collect() }
    }
}

/// Compares two snapshots of a stage.
///
/// # Errors
/// A part cannot be read.
pub fn diff(catalog: &Catalog, old: &Manifest, new: &Manifest) -> Result<Difference> {
    let schema = |manifest: &Manifest| catalog.store.stage(&manifest.stage).schema_of(manifest);
    let (old_schema, new_schema) = (schema(old)?, schema(new)?);
    let before = Side::new(catalog, old, &old_schema, new);
    let after = Side::new(catalog, new, &new_schema, old);
    let mut difference = Difference {
        stage: new.stage.clone(),
        old: old.id.clone(),
        new: new.id.clone(),
        added: 0,
        removed: 0,
        changed: None,
        unchanged: after.shared,
        columns: BTreeMap::new(),
        added_columns: after.columns.difference(&before.columns).cloned().collect(),
        removed_columns: before.columns.difference(&after.columns).cloned().collect(),
        rows: Vec::new(),
    };
    let threads = catalog.engine.threads;
    if before.columns.contains(IMAGE_ID) && after.columns.contains(IMAGE_ID) {
        by_id(&mut difference, &before, &after, threads)?;
    } else {
        by_values(&mut difference, &before, &after, threads)?;
    }
    difference.rows.sort();
    Ok(difference)
}

fn by_id(difference: &mut Difference, before: &Side, after: &Side, threads: usize) -> Result<()> {
    let columns: Vec<String> =
        before.columns.intersection(&after.columns).filter(|name| *name != IMAGE_ID).cloned().collect();
    let rows_of = |part: &PartReader| -> Result<(Vec<String>, Vec<Digest>)> {
        let (mut ids, mut digests) = (Vec::new(), Vec::new());
        read(part, &columns, |batch| {
            ids.extend(text(batch, IMAGE_ID)?.iter().flatten().map(str::to_owned));
            let by_column = columns.iter().map(|column| digest::rows(batch, [column])).collect::<Result<Vec<_>, _>>()?;
            digests.extend((0..batch.num_rows()).flat_map(|row| by_column.iter().map(move |column| column[row])));
            Ok(())
        })?;
        Ok((ids, digests))
    };
    let width = columns.len();
    let (mut known, mut digests) = (HashMap::new(), Vec::new());
    for part in parallel::each(threads, before.parts.len(), |at| rows_of(&before.parts[at])) {
        let (ids, more) = part?;
        for id in ids {
            let place = known.len();
            known.insert(id, place);
        }
        digests.extend(more);
    }
    let seen: Vec<AtomicBool> = (0..known.len()).map(|_| AtomicBool::new(false)).collect();
    let compare = |at: usize| -> Result<(u64, Vec<RowChange>)> {
        let (ids, digests_of) = rows_of(&after.parts[at])?;
        let (mut same, mut changes) = (0, Vec::new());
        for (row, id) in ids.into_iter().enumerate() {
            let mine = &digests_of[row * width..][..width];
            let Some(&place) = known.get(&id) else {
                changes.push(RowChange { image_id: Some(id), row: None, change: Change::Added, columns: Vec::new() });
                continue;
            };
            seen[place].store(true, Ordering::Relaxed);
            let theirs = &digests[place * width..][..width];
            let differing = (0..width).filter(|&column| mine[column] != theirs[column]);
            let differing: Vec<String> = differing.map(|column| columns[column].clone()).collect();
            if differing.is_empty() {
                same += 1;
            } else {
                changes.push(RowChange { image_id: Some(id), row: None, change: Change::Changed, columns: differing });
            }
        }
        Ok((same, changes))
    };
    let mut changed = 0;
    for part in parallel::each(threads, after.parts.len(), compare) {
        let (same, changes) = part?;
        difference.unchanged += same;
        for change in &changes {
            match change.change {
                Change::Changed => changed += 1,
                _ => difference.added += 1,
            }
            for column in &change.columns {
                *difference.columns.entry(column.clone()).or_default() += 1;
            }
        }
        difference.rows.extend(changes);
    }
    difference.changed = Some(changed);
    let gone = known.into_iter().filter(|(_, place)| !seen[*place].load(Ordering::Relaxed));
    let gone = gone.map(|(id, _)| RowChange { image_id: Some(id), row: None, change: Change::Removed, columns: Vec::new() });
    let before = difference.rows.len();
    difference.rows.extend(gone);
    difference.removed = (difference.rows.len() - before) as u64;
    Ok(())
}

fn by_values(difference: &mut Difference, before: &Side, after: &Side, threads: usize) -> Result<()> {
    let rows_of = |side: &Side| -> Result<Vec<(u64, Digest)>> {
        let columns: Vec<String> = side.columns.iter().cloned().collect();
        let one = |at: usize| -> Result<Vec<Digest>> {
            let mut digests = Vec::new();
            read(&side.parts[at], &columns, |batch| {
                digests.extend(digest::rows(batch, &columns)?);
                Ok(())
            })?;
            Ok(digests)
        };
        let mut rows = Vec::new();
        for (part, start) in parallel::each(threads, side.parts.len(), one).into_iter().zip(&side.starts) {
            rows.extend((*start..).zip(part?));
        }
        Ok(rows)
    };
    let mut known: HashMap<Digest, Vec<u64>> = HashMap::new();
    for (row, digest) in rows_of(before)?.into_iter().rev() {
        known.entry(digest).or_default().push(row);
    }
    let one = |row, change| RowChange { image_id: None, row: Some(row), change, columns: Vec::new() };
    for (row, digest) in rows_of(after)? {
        if known.get_mut(&digest).and_then(Vec::pop).is_some() {
            difference.unchanged += 1;
        } else {
            difference.added += 1;
            difference.rows.push(one(row, Change::Added));
        }
    }
    let gone: Vec<u64> = known.into_values().flatten().collect();
    difference.removed = gone.len() as u64;
    difference.rows.extend(gone.into_iter().map(|row| one(row, Change::Removed)));
    Ok(())
}

/// Reads some columns of a part, and its ids where it has them, batch by batch.
fn read(part: &PartReader, columns: &[String], mut each: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
    let mut read = || -> Result<()> {
        let builder = part::rows(part.clone())?.with_batch_size(BATCH_ROWS);
        let fields = builder.schema().fields().iter().enumerate();
        let wanted =
            fields.filter(|(_, field)| field.name() == IMAGE_ID || columns.contains(field.name())).map(|(at, _)| at);
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        for batch in builder.with_projection(mask).build()? {
            each(&batch?)?;
        }
        Ok(())
    };
    read().with_context(|| format!("cannot read the part {}", part.part().file))
}
