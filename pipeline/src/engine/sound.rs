//! Reading parts' files for DataFusion, each block checked before it is used.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::internal_datafusion_err;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::store::PartReader;
use crate::store::health::external;

/// Opens parts' files.
#[derive(Debug, Default)]
pub struct SoundFiles;

impl ParquetFileReaderFactory for SoundFiles {
    fn create_reader(
        &self,
        _: usize,
        file: PartitionedFile,
        _: Option<usize>,
        _: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let part = file.extension::<PartReader>().cloned();
        Ok(Box::new(SoundFile(part.ok_or_else(|| internal_datafusion_err!("a file is no part"))?)))
    }
}

/// One part's file.
struct SoundFile(PartReader);

impl AsyncFileReader for SoundFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let read = self.get_byte_ranges(vec![range]).await?;
            read.into_iter().next().ok_or_else(|| ParquetError::General("nothing was read".into()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        let part = self.0.clone();
        // Reading and hashing block the thread, so they have one of their own.
        let work = move || ranges.into_iter().map(|range| part.read(range).map_err(external)).collect();
        async move { tokio::task::spawn_blocking(work).await.map_err(|error| ParquetError::External(error.into()))? }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let part = self.0.clone();
        let work = move || ParquetMetaDataReader::new().parse_and_finish(&part).map(Arc::new);
        async move { tokio::task::spawn_blocking(work).await.map_err(|error| ParquetError::External(error.into()))? }.boxed()
    }
}
