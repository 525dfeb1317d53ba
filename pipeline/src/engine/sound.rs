//! Reading parts' files, each checked before its first byte is used.
//!
//! The check reads the whole file once a process; what is read after it comes out of the system's cache.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{DefaultParquetFileReaderFactory, ParquetFileReaderFactory};
use datafusion::error::Result;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use object_store::local::LocalFileSystem;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::scan::PartFile;
use crate::store::Damaged;

/// Opens parts' files.
#[derive(Debug)]
pub struct SoundFiles {
    files: DefaultParquetFileReaderFactory,
}

impl SoundFiles {
    /// Over the local disk.
    pub fn new() -> Self {
        Self { files: DefaultParquetFileReaderFactory::new(Arc::new(LocalFileSystem::new())) }
    }
}

impl Default for SoundFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl ParquetFileReaderFactory for SoundFiles {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let unchecked = file.extension::<PartFile>().cloned();
        let reader = self.files.create_reader(partition, file, hint, metrics)?;
        Ok(Box::new(SoundFile { reader, unchecked }))
    }
}

/// One part's file.
struct SoundFile {
    reader: Box<dyn AsyncFileReader + Send>,
    /// The part, until it is checked.
    unchecked: Option<PartFile>,
}

impl SoundFile {
    async fn check(&mut self) -> Result<(), ParquetError> {
        let Some(PartFile { path, part, health }) = self.unchecked.clone() else { return Ok(()) };
        // Hashing blocks.
        let work = tokio::task::spawn_blocking(move || health.check(&path, &part));
        let checked = work.await.map_err(|error| ParquetError::External(error.into()))?;
        checked.map_err(|error| match error.downcast::<Damaged>() {
            Ok(damaged) => ParquetError::External(damaged.into()),
            Err(error) => ParquetError::External(format!("{error:#}").into()),
        })?;
        self.unchecked = None;
        Ok(())
    }
}

impl AsyncFileReader for SoundFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            self.check().await?;
            self.reader.get_bytes(range).await
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            self.check().await?;
            self.reader.get_byte_ranges(ranges).await
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            self.check().await?;
            self.reader.get_metadata(options).await
        }
        .boxed()
    }
}
