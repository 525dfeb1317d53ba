//! Writing a part of rows as they come.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use tessera_schemas::{IMAGE_ID, text};

use super::{Engine, convert};
use crate::store::{PartWriter, StageStore, WrittenPart};

/// A part that is being written. Encoding and hashing are CPU work: the writer travels to the pool and back with each batch.
pub struct Writing<'a> {
    engine: &'a Arc<Engine>,
    store: &'a StageStore,
    schema: &'a SchemaRef,
    key: &'a str,
    writer: Option<PartWriter>,
}

impl<'a> Writing<'a> {
    /// One of which nothing is written yet.
    pub fn new(engine: &'a Arc<Engine>, store: &'a StageStore, schema: &'a SchemaRef, key: &'a str) -> Self {
        Self { engine, store, schema, key, writer: None }
    }

    /// Adds rows that a job makes on the pool.
    ///
    /// # Errors
    /// The job fails, or the disk says no.
    pub async fn add(&mut self, rows: impl FnOnce() -> Result<RecordBatch> + Send + 'static) -> Result<()> {
        let (writer, store, schema, key) =
            (self.writer.take(), self.store.clone(), self.schema.clone(), self.key.to_owned());
        let job = move || -> Result<PartWriter> {
            let rows = rows()?;
            let mut writer = match writer {
                Some(writer) => writer,
                None => store.write(&key, schema)?,
            };
            writer.write(&rows)?;
            Ok(writer)
        };
        self.writer = Some(self.engine.pool.run(job).await??);
        Ok(())
    }

    /// Adds all rows of a stream. Those whose ids are not within `ids` belong to another part, and are refused.
    ///
    /// # Errors
    /// The stream fails, or the disk says no.
    pub async fn add_all(&mut self, mut rows: SendableRecordBatchStream, ids: Option<(&str, &str)>) -> Result<()> {
        while let Some(batch) = rows.try_next().await.map_err(convert::unwrap)? {
            if let Some(ids) = ids {
                refuse_strangers(&batch, ids)?;
            }
            self.add(move || Ok(batch)).await?;
        }
        Ok(())
    }

    /// Ends the part. One without rows is a part too: its file says what the columns are.
    ///
    /// # Errors
    /// The disk says no.
    pub async fn finish(self) -> Result<WrittenPart> {
        let (writer, store, schema, key) = (self.writer, self.store.clone(), self.schema.clone(), self.key.to_owned());
        let job = move || match writer {
            Some(writer) => writer.finish(),
            None => store.write(&key, schema)?.finish(),
        };
        // It waits for the disk, or for a bucket.
        tokio::task::spawn_blocking(job).await?
    }
}

/// Rows made from an image have its id, or one that begins with it.
fn refuse_strangers(batch: &RecordBatch, (low, high): (&str, &str)) -> Result<()> {
    let Ok(ids) = text(batch, IMAGE_ID) else { return Ok(()) };
    let at_home = |id: &str| id >= low && (id <= high || id.starts_with(high));
    match (0..ids.len()).map(|row| ids.value(row)).find(|id| !at_home(id)) {
        Some(id) => anyhow::bail!("image `{id}` belongs to another part than `{low}`..`{high}`"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    #[test]
    fn rows_of_another_part_are_refused() {
        let batch = |id: &str| {
            let ids: arrow::array::ArrayRef = Arc::new(StringArray::from(vec![id]));
            RecordBatch::try_from_iter([(IMAGE_ID, ids)]).unwrap()
        };
        for at_home in ["b", "c", "d.jpg", "d.jpg#00,01"] {
            refuse_strangers(&batch(at_home), ("b", "d.jpg")).unwrap();
        }
        for stranger in ["a", "e"] {
            assert!(refuse_strangers(&batch(stranger), ("b", "d.jpg")).is_err(), "{stranger}");
        }
    }
}
