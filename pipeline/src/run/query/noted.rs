//! Columns of a view, noted while a query reads it: its rows are made once, though checks and counts ask for them as well.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{MemTable, Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _, SendableRecordBatchStream};
use futures::{StreamExt as _, stream};

use crate::ask::sql::provider::StageTable;

/// A view of which some columns are noted while it is read.
#[derive(Debug)]
pub struct Noted {
    view: StageTable,
    columns: Vec<String>,
    scans: Mutex<Vec<Arc<Notes>>>,
}

/// What is noted of one scan, by partition.
#[derive(Debug)]
struct Notes {
    schema: SchemaRef,
    partitions: Vec<Mutex<Partition>>,
}

#[derive(Debug, Default)]
struct Partition {
    rows: Vec<RecordBatch>,
    /// Whether all rows were read: a join may stop before.
    ended: bool,
}

impl Noted {
    /// Nothing is noted yet.
    pub fn new(view: StageTable, columns: Vec<String>) -> Self {
        Self { view, columns, scans: Mutex::default() }
    }

    /// The noted columns as a table; none unless a scan came to the end of all partitions.
    ///
    /// # Errors
    /// The rows have other columns than the view (never).
    pub fn table(&self) -> Result<Option<MemTable>> {
        let scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(notes) = scans.iter().find(|notes| notes.partitions.iter().all(|part| locked(part).ended)) else {
            return Ok(None);
        };
        let partitions = notes.partitions.iter().map(|part| locked(part).rows.clone()).collect();
        MemTable::try_new(notes.schema.clone(), partitions).map(Some)
    }
}

fn locked(partition: &Mutex<Partition>) -> MutexGuard<'_, Partition> {
    partition.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl TableProvider for Noted {
    fn schema(&self) -> SchemaRef {
        self.view.schema()
    }

    fn table_type(&self) -> TableType {
        self.view.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.view.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.view.scan(state, projection, filters, limit).await?;
        let found = plan.schema();
        let places: Option<Vec<usize>> = self.columns.iter().map(|name| found.index_of(name).ok()).collect();
        let Some(places) = places.filter(|_| filters.is_empty() && limit.is_none()) else { return Ok(plan) };
        let count = plan.output_partitioning().partition_count();
        let partitions = std::iter::repeat_with(Mutex::default).take(count).collect();
        let notes = Arc::new(Notes { schema: Arc::new(found.project(&places)?), partitions });
        self.scans.lock().unwrap_or_else(PoisonError::into_inner).push(notes.clone());
        let noting = |partition| -> Arc<dyn PartitionStream> {
            Arc::new(Noting {
                plan: plan.clone(),
                schema: found.clone(),
                partition,
                places: places.clone(),
                notes: notes.clone(),
            })
        };
        StreamingTable::try_new(found.clone(), (0..count).map(noting).collect())?.scan(state, None, &[], None).await
    }
}

/// One partition's rows, noted as they go by.
struct Noting {
    plan: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    partition: usize,
    places: Vec<usize>,
    notes: Arc<Notes>,
}

impl fmt::Debug for Noting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Noting({}, {:?})", self.partition, self.places)
    }
}

impl PartitionStream for Noting {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = match self.plan.execute(self.partition, context) {
            Ok(rows) => rows,
            Err(error) => {
                let failed = stream::iter([Err(error)]);
                return Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), failed));
            }
        };
        let (notes, partition, places) = (self.notes.clone(), self.partition, self.places.clone());
        let told = notes.clone();
        let noted = rows.map(move |batch| {
            let batch = batch?;
            locked(&notes.partitions[partition]).rows.push(batch.project(&places)?);
            Ok(batch)
        });
        let end = stream::once(async move {
            locked(&told.partitions[partition]).ended = true;
            None
        });
        let rows = noted.map(Some).chain(end).filter_map(std::future::ready);
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}
