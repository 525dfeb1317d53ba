//! Snapshots in SQL: the table function `snapshot('stage', 'key')`.

use std::sync::Arc;

use anyhow::bail;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::provider::pushed_down;
use crate::engine::catalog::Catalog;
use crate::engine::scan;
use crate::store::PartReader;
use crate::store::snapshots::known;

/// The function's name.
pub const FUNCTION: &str = "snapshot";

fn external(error: anyhow::Error) -> DataFusionError {
    DataFusionError::External(error.into())
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
        let name = self.0.name(self.0.plan.graph.only(stage)?);
        let store = self.0.store.stage(name);
        let manifest = match rest {
            [key] => self.0.store.resolve(name, key)?,
            _ => {
                let current = store.current()?.map(|manifest| manifest.id);
                bail!("{USAGE}; of `{name}` there are: {}", known(&store.snapshots()?, current.as_deref()));
            }
        };
        let files = manifest.parts.iter().map(|part| store.open(part)).collect();
        Ok(SnapshotTable { schema: store.schema_of(&manifest)?, files })
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
    files: Vec<PartReader>,
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
        let (predicate, limit) = pushed_down(state, &self.schema, filters, limit)?;
        let groups = scan::grouped(self.files.clone(), state.config().target_partitions());
        scan::files(&self.schema, &groups, projection.cloned(), predicate, limit)
    }
}
