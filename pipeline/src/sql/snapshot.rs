//! Snapshots in SQL: the table function `snapshot('stage', 'key')`, and the table `snapshots` that lists their keys.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::system;
use crate::catalog::Catalog;
use crate::engine::scan::{self, PartFile};
use crate::run;
use crate::store::Manifest;
use crate::store::snapshots::known;

/// The function's name.
pub const FUNCTION: &str = "snapshot";
/// The table's name.
pub const TABLE: &str = "snapshots";

fn external(error: anyhow::Error) -> DataFusionError {
    DataFusionError::External(error.into())
}

/// A snapshot's columns, as its parts have them: the stage may make others by now.
///
/// # Errors
/// It has no part, or one that cannot be read.
pub fn schema(catalog: &Catalog, manifest: &Manifest) -> anyhow::Result<SchemaRef> {
    let first = manifest.parts.first().with_context(|| format!("the snapshot {} has no part", manifest.id))?;
    let path = catalog.store.stage(&manifest.stage).part(first);
    let read = || -> anyhow::Result<SchemaRef> {
        Ok(ParquetRecordBatchReaderBuilder::try_new(File::open(&path)?)?.schema().clone())
    };
    read().with_context(|| format!("cannot read the part {}", path.display()))
}

/// The function `snapshot('stage', 'key')`.
pub struct Snapshot(Arc<Catalog>);

impl Snapshot {
    /// The function over a catalog's store.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self(catalog)
    }

    fn table(&self, arguments: &[Expr]) -> anyhow::Result<SnapshotTable> {
        const USAGE: &str = "snapshot takes a stage and a key, both in quotes: snapshot('features', '1a2b3c'); \
                             the table `snapshots` lists the keys, and their beginnings will do";
        let text = |expr: &Expr| match expr {
            Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => Ok(text.clone()),
            other => bail!("{USAGE}; found {other}"),
        };
        let texts = arguments.iter().map(text).collect::<anyhow::Result<Vec<_>>>()?;
        let [stage, rest @ ..] = &texts[..] else { bail!(USAGE) };
        let name = self.0.name(run::find(&self.0, stage)?);
        let store = self.0.store.stage(name);
        let manifest = match rest {
            [key] => store.resolve(name, key)?,
            _ => {
                let current = store.current()?.map(|manifest| manifest.id);
                bail!("{USAGE}; of `{name}` there are: {}", known(&store.snapshots()?, current.as_deref()));
            }
        };
        let files = manifest.parts.iter().map(|part| PartFile::of(&store, part)).collect();
        Ok(SnapshotTable { schema: schema(&self.0, &manifest)?, files })
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(FUNCTION)
    }
}

impl TableFunctionImpl for Snapshot {
    fn call_with_args(&self, arguments: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(self.table(arguments.exprs()).map_err(external)?))
    }
}

/// One snapshot as a table.
#[derive(Debug)]
struct SnapshotTable {
    schema: SchemaRef,
    files: Vec<PartFile>,
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let predicate = match conjunction(filters.to_vec()) {
            Some(filter) => Some(state.create_physical_expr(filter, &DFSchema::try_from(self.schema.clone())?)?),
            None => None,
        };
        // A limit behind a filter that is not exact could be reached too early.
        let limit = if filters.is_empty() { limit } else { None };
        scan::files(&self.schema, &self.files, projection.cloned(), predicate, limit)
    }
}

/// The table `snapshots`; its manifests are read when a query asks for them.
pub struct Snapshots {
    catalog: Arc<Catalog>,
    schema: SchemaRef,
}

impl Snapshots {
    /// The table over a catalog's store.
    ///
    /// # Errors
    /// Arrow refuses the columns (never).
    pub fn new(catalog: Arc<Catalog>) -> anyhow::Result<Self> {
        Ok(Self { catalog, schema: system::snapshot_rows(&[])?.schema() })
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(TABLE)
    }
}

#[async_trait]
impl TableProvider for Snapshots {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let batch = system::snapshots(&self.catalog).map_err(external)?;
        MemTable::try_new(batch.schema(), vec![vec![batch]])?.scan(state, projection, filters, limit).await
    }
}
