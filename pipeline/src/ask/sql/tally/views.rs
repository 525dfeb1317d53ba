//! Texts by which rows are grouped, read as views.
//!
//! In a file, a column of classes is a dictionary and a number a row. Read as text, each row gets a copy of its class; read as a view, a
//! reference to it, which is the same for all rows of a class.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSource as _, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::recompute;

/// A step's input, that gives views of the texts by which it groups, where these come from a file and are used for nothing else.
pub fn input(step: &AggregateExec) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = step.input().schema();
    let functions = step.aggr_expr().iter().flat_map(|function| function.expressions());
    let others: Vec<_> = functions.chain(step.filter_expr().iter().flatten().cloned()).collect();
    let groups = step.group_expr().input_exprs();
    let texts = groups.iter().filter_map(place).filter(|&at| {
        let is_used = |expr: &Arc<dyn PhysicalExpr>| place(expr) != Some(at) && uses(expr, at);
        schema.field(at).data_type() == &DataType::Utf8
            && !groups.iter().any(is_used)
            && !others.iter().any(|expr| uses(expr, at))
    });
    let mut input = step.input().clone();
    for at in texts.collect::<Vec<_>>() {
        input = with_view(&input, at)?.unwrap_or(input);
    }
    Ok(input)
}

/// Rows with columns of another schema's types.
pub fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| match field.data_type() {
        kind if kind == column.data_type() => Ok(column.clone()),
        kind => cast(column, kind),
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<std::result::Result<Vec<_>, _>>()?)?)
}

/// The column that an expression is.
fn place(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

fn uses(expr: &Arc<dyn PhysicalExpr>, at: usize) -> bool {
    collect_columns(expr).iter().any(|column| column.index() == at)
}

/// The plan with views in one of its columns, if that column comes from files as it is.
fn with_view(plan: &Arc<dyn ExecutionPlan>, at: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let Some(from) = projection.expr().get(at).and_then(|one| place(&one.expr)) else { return Ok(None) };
        let elsewhere = projection.expr().iter().enumerate().filter(|(other, _)| *other != at);
        if elsewhere.into_iter().any(|(_, one)| uses(&one.expr, from)) {
            return Ok(None);
        }
        let Some(input) = with_view(projection.input(), from)? else { return Ok(None) };
        return Ok(Some(plan.clone().replace_children(vec![input], recompute())?));
    }
    let Some(scan) = plan.downcast_ref::<DataSourceExec>() else { return Ok(None) };
    let Some((config, source)) = scan.downcast_to_file_source::<ParquetSource>() else { return Ok(None) };
    let (Some(projection), Some(files)) = (source.projection(), source.parquet_file_reader_factory()) else {
        return Ok(None);
    };
    let Some(from) = projection.iter().nth(at).and_then(|one| place(&one.expr)) else { return Ok(None) };
    let is_read_twice = projection.iter().enumerate().any(|(other, one)| other != at && uses(&one.expr, from));
    if source.filter().is_some() || is_read_twice {
        return Ok(None);
    }
    let schema = source.table_schema().table_schema();
    let view = |(place, field): (usize, &Arc<Field>)| match place == from {
        true => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        false => field.clone(),
    };
    let fields: Vec<_> = schema.fields().iter().enumerate().map(view).collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let read = ParquetSource::new(schema).with_parquet_file_reader_factory(files.clone());
    let Some(read) = read.try_pushdown_projection(projection)? else { return Ok(None) };
    let config: FileScanConfig = FileScanConfigBuilder::from(config.clone()).with_source(read).build();
    Ok(Some(DataSourceExec::from_data_source(config)))
}
