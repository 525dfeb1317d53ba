//! Writing a table that does not come part by part: sources, whole kernels, queries.

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;

use super::key;
use super::{DroppedRow, Part, PartWriter, StageStore};

/// Cuts rows into parts of a fixed number of rows.
pub struct TableWriter {
    store: StageStore,
    schema: SchemaRef,
    key: String,
    part_rows: usize,
    current: Option<PartWriter>,
    parts: Vec<Part>,
}

impl TableWriter {
    /// A writer for a stage's table under its key.
    pub fn new(store: StageStore, schema: SchemaRef, key: &str, part_rows: usize) -> Self {
        Self { store, schema, key: key.to_owned(), part_rows, current: None, parts: Vec::new() }
    }

    /// Adds rows; text and lists of other layouts are cast to the table's types.
    ///
    /// # Errors
    /// They have other columns, or the disk says no.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
        });
        let batch = RecordBatch::try_new(self.schema.clone(), columns.collect::<Result<_, _>>()?)?;
        let mut at = 0;
        while at < batch.num_rows() {
            let mut writer = match self.current.take() {
                Some(writer) => writer,
                None => self.begin()?,
            };
            let room = self.part_rows - writer.rows() as usize;
            let rows = room.min(batch.num_rows() - at);
            writer.write(&batch.slice(at, rows))?;
            self.current = Some(writer);
            at += rows;
            if rows == room {
                self.close(Vec::new())?;
            }
        }
        Ok(())
    }

    fn part_key(&self) -> String {
        key::hash([self.key.as_str(), &self.parts.len().to_string()])
    }

    fn begin(&self) -> Result<PartWriter> {
        self.store.write(&self.part_key(), self.schema.clone())
    }

    fn close(&mut self, dropped: Vec<DroppedRow>) -> Result<()> {
        let key = self.part_key();
        let writer = match self.current.take() {
            Some(writer) => writer,
            None => self.begin()?,
        };
        let part = writer.finish()?.entry(&key, "", Vec::new(), dropped);
        self.store.wrote(&part);
        self.parts.push(part);
        Ok(())
    }

    /// The parts; at least one, so that there is a file that says what the columns are.
    ///
    /// # Errors
    /// The disk says no.
    pub fn finish(mut self, dropped: Vec<DroppedRow>) -> Result<Vec<Part>> {
        if self.current.is_some() || self.parts.is_empty() {
            self.close(dropped)?;
        } else if let Some(last) = self.parts.last_mut() {
            last.dropped = dropped;
        }
        Ok(self.parts)
    }
}
