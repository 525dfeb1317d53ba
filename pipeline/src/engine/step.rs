//! A bound map, opened: what one [`OperatorExec`](super::operator_exec::OperatorExec) runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tessera_operators::operator::{Dropped, Inputs, Map, MapFn, RunError, Scope};
use tessera_schemas::images::{self, Source};
use tessera_schemas::{IMAGE_ID, masks, text};

use super::Engine;
use super::fetch::{Place, fetch, fetch_masks};
use super::shuffle::original;
use crate::store::DroppedRow;

/// A stage's map with its sides, and the workers that it opened so far.
pub struct Step {
    /// The stage's name.
    pub stage: String,
    /// The table that it yields.
    pub schema: SchemaRef,
    /// The columns of its stream that it needs or hands on; without `bytes`.
    pub columns: Vec<String>,
    /// Where the data sets lie that `source` points into, by the stage that listed them; empty when it reads no bytes.
    pub roots: BTreeMap<String, Place>,
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
    /// Lines for the user.
    pub heard: Vec<String>,
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
        roots: BTreeMap<String, Place>,
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
        let heard = worker.heard();
        let rest = if worker.is_done() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
            None
        } else {
            Some(worker)
        };
        Ok(Piece { rows, dropped, heard, rest })
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

    /// Adds the column of bytes that the batch's `source` points at, and those of masks, if it needs these. Blocks on IO.
    ///
    /// # Errors
    /// As [`fetch`](super::fetch::fetch).
    pub fn fetch(&self, engine: &Engine, batch: &RecordBatch) -> Result<(RecordBatch, Vec<(usize, String)>), RunError> {
        let (batch, unread) = fetch(engine, &self.roots, batch)?;
        let with_masks = self.columns.iter().any(|column| column == masks::MASK);
        Ok((if with_masks { fetch_masks(engine, &self.roots, &batch)? } else { batch }, unread))
    }
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
