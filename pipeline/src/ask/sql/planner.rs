//! Queries of a pipeline file: what they give and what they read, known while their stages are bound.
//!
//! The result of such a query is kept, and has to follow from its inputs alone. So it may read nothing else, and call no function that
//! answers otherwise at another time, and its orders leave nothing [open](super::settled).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{TableReference, plan_err};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, visit_expressions};
use tessera_operators::operator::{Inputs, QueryPlanner};
use tessera_schemas::{IMAGE_ID, meta};
use tokio::runtime::Handle;

use super::provider::{context, read_only, refuse_deep};
use super::settled::settled;
use crate::engine::convert;

/// Functions that give tables and read nothing.
const PURE_TABLES: [&str; 2] = ["generate_series", "range"];

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
        let (sql, inputs) = (sql.to_owned(), Inputs(inputs.0.clone()));
        let plan = async move {
            let context = context(1);
            for (name, schema) in &inputs.0 {
                context.register_table(TableReference::bare(name.as_str()), Arc::new(EmptyTable::new(schema.clone())))?;
            }
            refuse_deep(&sql)?;
            refuse_volatile(&context, &sql)?;
            let frame = read_only(&context, &sql).await?;
            refuse_parameters(frame.logical_plan())?;
            refuse_impure(frame.logical_plan(), &inputs)?;
            let schema = plain(frame.schema().as_arrow());
            let (state, plan) = frame.into_parts();
            let optimized = state.optimize(&settled(plan)?)?;
            Ok::<_, DataFusionError>((schema, reads(&optimized, &inputs)?))
        };
        let planned = self.runtime.block_on(self.runtime.spawn(plan));
        let planned = planned.unwrap_or_else(|error| plan_err!("the planner failed: {error}"));
        planned.map_err(|error| convert::words(&error))
    }
}

/// Refuses functions that answer otherwise at another time, wherever the text has them: arguments of functions that give tables become
/// values while they are planned.
fn refuse_volatile(context: &SessionContext, sql: &str) -> Result<()> {
    let state = context.state();
    let dialect = state.config_options().sql_parser.dialect;
    // What is no statement is told of when it is planned.
    let Ok(Statement::Statement(statement)) = state.sql_to_statement(sql, &dialect) else { return Ok(()) };
    let found = visit_expressions(statement.as_ref(), |expr| match expr {
        ast::Expr::Function(call) => {
            let name = call.name.to_string().to_lowercase();
            let known = state.scalar_functions().get(&name);
            match known.is_some_and(|function| function.signature().volatility != Volatility::Immutable) {
                true => ControlFlow::Break(name),
                false => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    });
    if let ControlFlow::Break(name) = found { impure(&name) } else { Ok(()) }
}

/// Refuses parameters, for which a stage has no values.
fn refuse_parameters(plan: &LogicalPlan) -> Result<()> {
    match plan.get_parameter_names()?.into_iter().min() {
        Some(name) => plan_err!("the query has the parameter `{name}`, and a stage's query has none: write the value there"),
        None => Ok(()),
    }
}

fn impure<T>(function: &str) -> Result<T> {
    plan_err!(
        "{function}() gives another answer at another time, and the result of this query is kept: it has to follow from its inputs alone"
    )
}

/// Refuses what a query's result would depend on beside its inputs.
fn refuse_impure(plan: &LogicalPlan, inputs: &Inputs<SchemaRef>) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let table = &scan.table_name;
            let name = table.table().trim_end_matches("()");
            if inputs.get(table.table()).is_none() && !PURE_TABLES.contains(&name) {
                let known: Vec<&str> = inputs.0.keys().map(String::as_str).collect();
                return plan_err!("the query reads `{table}`, and may read only its inputs: {}", known.join(", "));
            }
        }
        for expr in node.expressions() {
            expr.apply(|expr| match expr {
                Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                    impure(call.func.name())
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// The columns of each input that a plan reads.
///
/// # Errors
/// The plan cannot be walked (never).
pub fn reads(plan: &LogicalPlan, inputs: &Inputs<SchemaRef>) -> Result<BTreeMap<String, Vec<String>>> {
    let mut reads: BTreeMap<String, Vec<String>> = BTreeMap::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(schema) = inputs.get(scan.table_name.table())
        {
            let projected = match &scan.projection {
                Some(places) => places.iter().map(|&at| schema.field(at).name().clone()).collect(),
                None => schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>(),
            };
            let filtered = scan.filters.iter().flat_map(|filter| filter.column_refs().into_iter().map(|c| c.name.clone()));
            let columns = reads.entry(scan.table_name.table().to_owned()).or_default();
            columns.extend(projected.into_iter().chain(filtered));
            columns.extend(identity(schema));
            columns.sort();
            columns.dedup();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(reads)
}

/// The column that says which rows there are, on which every query depends, a count of them as well: the id, or else the first that has a
/// digest.
fn identity(schema: &SchemaRef) -> Option<String> {
    let digested = |field: &&Arc<Field>| !field.metadata().contains_key(meta::UNDIGESTED);
    let named = schema.fields().iter().find(|field| field.name() == IMAGE_ID);
    named.or_else(|| schema.fields().iter().find(digested)).map(|field| field.name().clone())
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
