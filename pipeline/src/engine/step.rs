//! A bound map, opened: what one [`OperatorExec`](super::operator_exec::OperatorExec) runs.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, BinaryBuilder, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tessera_datasets::{Read, UNREADABLE};
use tessera_operators::operator::{Dropped, Inputs, Map, MapFn, RunError, Scope};
use tessera_schemas::images::{self, Source};
use tessera_schemas::{BYTES, IMAGE_ID, meta, printable, text};

use super::Engine;
use super::shuffle::original;
use crate::store::{DroppedRow, key};

/// Bytes of an encoded image that are read at most: more than any that is decoded, and far below what a column can hold.
const MAX_BYTES: u64 = 1 << 30;

/// A stage's map with its sides, and the workers that it opened so far.
pub struct Step {
    /// The stage's name.
    pub stage: String,
    /// The table that it yields.
    pub schema: SchemaRef,
    /// The columns of its stream that it needs or hands on; without `bytes`.
    pub columns: Vec<String>,
    /// The folders that `source` paths are relative to, by the stage that listed them; empty when it reads no bytes.
    pub roots: BTreeMap<String, PathBuf>,
    /// Whether a row may look at the one before it in the shuffled order.
    pub looks_back: bool,
    /// The map.
    pub map: Box<dyn Map>,
    sides: Inputs<Vec<RecordBatch>>,
    idle: Mutex<Vec<Box<dyn MapFn>>>,
}

/// What a map made of a batch, or of a part of it.
pub struct Piece {
    /// The rows.
    pub rows: RecordBatch,
    /// Rows of the batch that were left out.
    pub dropped: Vec<DroppedRow>,
    /// The worker, if it has more rows of the batch.
    pub rest: Option<Box<dyn MapFn>>,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Step {
    /// A step with no worker yet.
    pub fn new(
        stage: String,
        schema: SchemaRef,
        columns: Vec<String>,
        roots: BTreeMap<String, PathBuf>,
        looks_back: bool,
        map: Box<dyn Map>,
        sides: Inputs<Vec<RecordBatch>>,
    ) -> Self {
        Self { stage, schema, columns, roots, looks_back, map, sides, idle: Mutex::default() }
    }

    /// Whether it needs the images' bytes.
    pub fn reads_bytes(&self) -> bool {
        !self.roots.is_empty()
    }

    /// Bytes of one output row, as far as its type tells.
    pub fn row_bytes(&self) -> usize {
        fn bytes(field: &Field) -> usize {
            match field.data_type() {
                DataType::FixedSizeList(item, length) => bytes(item) * *length as usize,
                other => other.primitive_width().unwrap_or(16),
            }
        }
        self.schema.fields().iter().map(|field| bytes(field)).sum()
    }

    /// Computes a batch on this thread, or its first piece.
    pub fn call(
        &self,
        batch: &RecordBatch,
        epoch: u64,
        lead: Option<&RecordBatch>,
        unread: &[(usize, String)],
    ) -> Result<Piece, RunError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let worker = match idle {
            Some(worker) => worker,
            None => self.map.open(&self.sides)?,
        };
        self.piece(worker, batch, |worker, dropped| worker.call(batch, &mut Scope { epoch, lead, unread, dropped }))
    }

    /// Computes the next piece of a batch on this thread, with the worker that computed the last.
    pub fn go_on(
        &self,
        worker: Box<dyn MapFn>,
        batch: &RecordBatch,
        epoch: u64,
        unread: &[(usize, String)],
    ) -> Result<Piece, RunError> {
        self.piece(worker, batch, |worker, dropped| worker.go_on(&mut Scope { epoch, lead: None, unread, dropped }))
    }

    fn piece(
        &self,
        mut worker: Box<dyn MapFn>,
        batch: &RecordBatch,
        work: impl FnOnce(&mut dyn MapFn, &mut Vec<Dropped>) -> Result<RecordBatch, RunError>,
    ) -> Result<Piece, RunError> {
        let mut dropped = Vec::new();
        // A worker that failed or panicked is not used again.
        let rows = work(worker.as_mut(), &mut dropped).map_err(|error| match error {
            RunError::Row { image_id, reason } => RunError::Row { image_id: original(&image_id).to_owned(), reason },
            error => error,
        })?;
        let dropped = if dropped.is_empty() { Vec::new() } else { self.locate(batch, dropped)? };
        let rest = if worker.is_done() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
            None
        } else {
            Some(worker)
        };
        Ok(Piece { rows, dropped, rest })
    }

    /// Adds the paths of dropped images, where their rows have any.
    fn locate(&self, batch: &RecordBatch, dropped: Vec<Dropped>) -> Result<Vec<DroppedRow>, RunError> {
        let ids = text(batch, IMAGE_ID)?;
        let sources: Option<Vec<Source<'_>>> = images::sources(batch).ok().map(Iterator::collect);
        let path = |id: &str| {
            let row = (0..ids.len()).find(|&row| ids.value(row) == id)?;
            sources.as_ref().map(|sources| sources[row].path.to_owned())
        };
        Ok(dropped
            .into_iter()
            .map(|d| DroppedRow {
                stage: self.stage.clone(),
                path: path(&d.image_id),
                image_id: original(&d.image_id).to_owned(),
                reason: d.reason,
            })
            .collect())
    }

    /// Adds the column of bytes that the batch's `source` points at. Blocks on IO.
    ///
    /// A table may have rows of several data sets (a `UNION ALL`), and a row does not say of which: then its file is looked for in each,
    /// and the digest tells which one is meant.
    ///
    /// # Errors
    /// An image is not what was listed: its bytes have another digest, or can no longer be read. Its row would be kept under the
    /// key of what it was, so that it is no bad row to leave out.
    pub fn fetch(&self, engine: &Engine, batch: &RecordBatch) -> Result<(RecordBatch, Vec<(usize, String)>), RunError> {
        let files = engine.files.as_ref();
        let schema = batch.schema();
        let stage = schema.field_with_name("source").ok().and_then(|field| field.metadata().get(meta::STAGE));
        let named = stage.and_then(|stage| self.roots.get(stage));
        let others = self.roots.values().filter(|root| named.is_none_or(|named| named != *root));
        let roots: Vec<&PathBuf> = named.into_iter().chain(others).collect();
        if roots.is_empty() {
            return Err(RunError::Engine("no data set is known for the column `source`".into()));
        }
        let mut bytes = BinaryBuilder::new();
        let mut unread = Vec::new();
        let digests = text(batch, "digest").ok();
        let ids = text(batch, IMAGE_ID)?;
        let sources: Vec<Source<'_>> = images::sources(batch)?.collect();
        let wanted: Vec<Result<Read, String>> = sources.iter().map(|source| located(roots[0], source)).collect();
        let lanes = files.at_once(roots[0]).max(1);
        for (chunk, wanted) in wanted.chunks(lanes).enumerate() {
            let reads: Vec<Read> = wanted.iter().filter_map(|read| read.as_ref().ok().cloned()).collect();
            let mut outcomes = files.read_each(&reads).into_iter();
            for (row, wanted) in (chunk * lanes..).zip(wanted) {
                if let Err(reason) = wanted {
                    bytes.append_null();
                    unread.push((row, reason.clone()));
                    continue;
                }
                let mut outcome = outcomes.next().unwrap_or_else(|| Err(cut_short(roots[0])));
                let source = &sources[row];
                let whole = source.offset.is_none();
                let listed = digests.filter(|digests| whole && digests.is_valid(row)).map(|digests| digests.value(row));
                let changed = |reason: String| RunError::Row { image_id: ids.value(row).to_owned(), reason };
                let is_listed = |read: &[u8]| listed.is_none_or(|digest| digest == key::short(&blake3::hash(read)));
                let mut fits = outcome.as_ref().is_ok_and(|read| is_listed(read));
                for root in &roots[1..] {
                    if fits {
                        break;
                    }
                    let Ok(elsewhere) = located(root, source) else { break };
                    match files.read_each(&[elsewhere]).pop().unwrap_or_else(|| Err(cut_short(root))) {
                        Ok(other) if is_listed(&other) => (outcome, fits) = (Ok(other), true),
                        Err(error) if listed.is_some_and(|digest| digest.starts_with(UNREADABLE)) => outcome = Err(error),
                        _ => {}
                    }
                }
                match outcome {
                    Ok(read) if fits => bytes.append_value(read),
                    Ok(_) => {
                        let mut voided = engine.voided.lock().unwrap_or_else(PoisonError::into_inner);
                        voided.extend(self.roots.keys().map(|stage| (stage.clone(), source.path.to_owned())));
                        let path = roots[0].join(source.path);
                        let path = path.to_string_lossy();
                        return Err(changed(format!("{} changed after it was listed; run again", printable(&path))));
                    }
                    Err(error) if listed.is_some_and(|digest| !digest.starts_with(UNREADABLE)) => {
                        let reason = format!("cannot be read, and could be when it was listed: {error}; run again");
                        return Err(changed(reason));
                    }
                    Err(error) => {
                        bytes.append_null();
                        unread.push((row, format!("cannot be read: {error}")));
                    }
                }
            }
        }
        let mut fields: Vec<Arc<Field>> = schema.fields().to_vec();
        fields.push(Arc::new(Field::new(BYTES, DataType::Binary, true)));
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(bytes.finish()));
        Ok((RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?, unread))
    }
}

/// Where a row's bytes are, or why they are not read.
fn located(root: &Path, source: &Source<'_>) -> Result<Read, String> {
    if let Some(length) = source.length.filter(|&length| length > MAX_BYTES) {
        return Err(format!("has {} MiB, and at most {} MiB are read of an image", length >> 20, MAX_BYTES >> 20));
    }
    if !is_within(source.path) {
        let path = printable(source.path);
        return Err(format!("cannot be read: its path `{path}` leads out of the data set's folder"));
    }
    if source.row.is_some() {
        return Err("cannot be read: rows of table files hold no images yet".to_owned());
    }
    let range = source.offset.map(|offset| (offset, source.length.unwrap_or(0)));
    Ok(Read { path: root.join(source.path), range })
}

fn cut_short(root: &Path) -> tessera_datasets::Error {
    tessera_datasets::Error::format(root, "fewer files were read than were asked for")
}

/// Whether a path stays in the folder that it starts from, as far as it says itself: a table of a user's may say anything.
fn is_within(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Walks along the order of a shuffled scan, and says for each row that comes which image stood before it.
pub struct Trail {
    order: StringArray,
    at: usize,
}

impl Trail {
    /// A trail over ids in their order; the first one only leads.
    pub fn new(order: StringArray) -> Self {
        Self { order, at: 0 }
    }

    /// Adds the `previous` column. Rows must come in the trail's order; some may be missing.
    pub fn previous(&mut self, batch: &RecordBatch) -> Result<RecordBatch, RunError> {
        let ids = text(batch, IMAGE_ID)?;
        let mut previous: Vec<Option<&str>> = Vec::with_capacity(ids.len());
        for row in 0..ids.len() {
            while self.at < self.order.len() && self.order.value(self.at) != ids.value(row) {
                self.at += 1;
            }
            if self.at == self.order.len() {
                return Err(RunError::Engine(format!("image `{}` came out of order", ids.value(row))));
            }
            previous.push((self.at > 0).then(|| self.order.value(self.at - 1)));
            self.at += 1;
        }
        let mut fields: Vec<Arc<Field>> = batch.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(tessera_schemas::PREVIOUS, DataType::Utf8, true)));
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(StringArray::from(previous)));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}
