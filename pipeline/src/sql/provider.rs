//! Stages as SQL tables: snapshots from their parts, views computed while they are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, TableReference};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::{CastExpr, col};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::prelude::SessionContext;
use tessera_operators::operator::{Inputs, QueryPlanner};
use tokio::runtime::Handle;

use super::agreement;
use crate::catalog::{Catalog, Request};
use crate::engine::config;
use crate::engine::operator_exec::ScanState;
use crate::store::DroppedRow;

/// A context with Tessera's functions and no table.
pub fn context(threads: usize) -> SessionContext {
    let context = SessionContext::new_with_config(config(threads));
    for function in agreement::all() {
        context.register_udaf(function);
    }
    context
}

/// Plans a query that may only read.
///
/// # Errors
/// It is no query, or a wrong one.
pub async fn read_only(context: &SessionContext, sql: &str) -> Result<DataFrame> {
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    context.sql_with_options(sql, options).await
}

/// What the scans of one query share, for the rows that they left out.
#[derive(Debug, Clone, Default)]
pub struct Scans(Arc<Mutex<Vec<Arc<ScanState>>>>);

impl Scans {
    /// Rows that any of the scans left out.
    pub fn dropped(&self) -> Vec<DroppedRow> {
        let scans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<DroppedRow> =
            scans.iter().flat_map(|scan| (0..scan.dropped.len()).flat_map(|at| scan.take_dropped(at))).collect();
        rows.sort();
        rows.dedup();
        rows
    }

    /// Adds a scan.
    pub fn add(&self, scan: Arc<ScanState>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scan);
    }
}

/// A stage as a table.
pub struct StageTable {
    catalog: Arc<Catalog>,
    node: usize,
    scans: Scans,
    schema: SchemaRef,
}

impl StageTable {
    /// The table of a stage.
    pub fn new(catalog: Arc<Catalog>, node: usize, scans: Scans) -> Self {
        let schema = catalog.plan.stages[node].schema.clone();
        Self { catalog, node, scans, schema }
    }

    /// The same, its fields without metadata.
    pub fn without_metadata(self) -> Self {
        let bare = |field: &Arc<Field>| field.as_ref().clone().with_metadata(HashMap::new());
        let schema = Arc::new(Schema::new(self.schema.fields().iter().map(bare).collect::<Vec<_>>()));
        Self { schema, ..self }
    }

    fn is_view(&self) -> bool {
        self.catalog.plan.graph.nodes[self.node].view
    }
}

impl std::fmt::Debug for StageTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StageTable({})", self.catalog.name(self.node))
    }
}

#[async_trait]
impl TableProvider for StageTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        if self.is_view() { TableType::View } else { TableType::Base }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support =
            if self.is_view() { TableProviderFilterPushDown::Unsupported } else { TableProviderFilterPushDown::Inexact };
        Ok(vec![support; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let names = |places: &Vec<usize>| places.iter().map(|&at| schema.field(at).name().clone()).collect::<Vec<String>>();
        let predicate = match conjunction(filters.to_vec()) {
            Some(filter) => Some(state.create_physical_expr(filter, &DFSchema::try_from(schema.clone())?)?),
            None => None,
        };
        // A limit behind a filter that is not exact could be reached too early.
        let limit = if filters.is_empty() { limit } else { None };
        let request = Request { columns: projection.map(names), predicate, limit, ..Request::default() };
        let scan = self.catalog.scan(self.node, request).await.map_err(|error| DataFusionError::External(error.into()))?;
        self.scans.add(scan.state.clone());
        let found = scan.plan.schema();
        let all = (0..schema.fields().len()).collect();
        let places = projection.unwrap_or(&all);
        if projection.is_none() && found.fields() == schema.fields() {
            return Ok(scan.plan);
        }
        let exprs = places
            .iter()
            .map(|&at| {
                let field = &schema.fields()[at];
                let mut expr = col(field.name(), &found)?;
                if found.field_with_name(field.name())?.metadata() != field.metadata() {
                    expr = Arc::new(CastExpr::new_with_target_field(expr, field.clone(), None));
                }
                Ok((expr, field.name().clone()))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(exprs, scan.plan)?))
    }
}

/// Finds queries' schemas for operators while they are bound.
pub struct Planner {
    /// Drives DataFusion; must not be entered by the caller.
    pub runtime: Handle,
}

impl QueryPlanner for Planner {
    fn plan(
        &self,
        sql: &str,
        inputs: &Inputs<SchemaRef>,
    ) -> std::result::Result<(SchemaRef, BTreeMap<String, Vec<String>>), String> {
        let plan = async {
            let context = context(1);
            for (name, schema) in &inputs.0 {
                context.register_table(TableReference::bare(name.as_str()), Arc::new(EmptyTable::new(schema.clone())))?;
            }
            let frame = read_only(&context, sql).await?;
            let schema = plain(frame.schema().as_arrow());
            let optimized = context.state().optimize(frame.logical_plan())?;
            Ok::<_, DataFusionError>((schema, reads(&optimized, inputs)?))
        };
        self.runtime.block_on(plan).map_err(|error| error.strip_backtrace())
    }
}

/// The columns of each table that a plan reads.
fn reads(plan: &LogicalPlan, inputs: &Inputs<SchemaRef>) -> Result<BTreeMap<String, Vec<String>>> {
    let mut reads: BTreeMap<String, Vec<String>> = BTreeMap::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table().to_owned();
            let schema = inputs.get(&name).cloned().unwrap_or_else(|| Arc::new(Schema::empty()));
            let projected = match &scan.projection {
                Some(places) => places.iter().map(|&at| schema.field(at).name().clone()).collect(),
                None => schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>(),
            };
            let filtered = scan.filters.iter().flat_map(|filter| filter.column_refs().into_iter().map(|c| c.name.clone()));
            let columns = reads.entry(name).or_default();
            columns.extend(projected.into_iter().chain(filtered));
            // A count reads no column, and depends on which rows there are.
            columns.extend(schema.fields().first().map(|field| field.name().clone()));
            columns.sort();
            columns.dedup();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(reads)
}

/// Text and bytes in the layouts that Tessera's tables have.
fn plain(schema: &Schema) -> SchemaRef {
    let plain = |field: &Arc<Field>| -> Field {
        let kind = match field.data_type() {
            DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            DataType::Dictionary(_, value) => match value.as_ref() {
                DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
                other => other.clone(),
            },
            other => other.clone(),
        };
        Field::new(field.name(), kind, field.is_nullable()).with_metadata(field.metadata().clone())
    };
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}
