//! Swept stages as tables: the union of the cells that are made, with a column for each axis.
//!
//! The table has the stage's name. Its columns are those that all cells have in one type; vectors of different lengths become lists.
//! Fields have no metadata: cells' differ (k, where a data set lies), and DataFusion wants one for all.
//! An axis' column has the axis' name, or, where the stage's table has such a column, its path: `clusters.k`. Since the values are
//! constants of the cells, a query with `WHERE k = 500` reads no other cell.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, Union, cast, lit};
use datafusion::prelude::{SessionContext, ident};
use serde_json::Value;

use super::provider::{Scans, StageTable};
use crate::declare::sweep::Coordinate;
use crate::engine::catalog::Catalog;

/// Makes a table of each swept stage.
///
/// # Errors
/// DataFusion refuses the columns (never).
pub fn register(catalog: &Arc<Catalog>, context: &SessionContext, scans: &Scans) -> Result<()> {
    for (name, cells) in swept(catalog) {
        let view = view(catalog, context, scans, &cells)?;
        context.register_table(TableReference::bare(name), view)?;
    }
    Ok(())
}

/// The swept stages and their cells.
fn swept(catalog: &Catalog) -> Vec<(&str, Vec<usize>)> {
    let graph = &catalog.plan.graph;
    graph.families().into_iter().filter(|(_, cells)| !graph.declaration(cells[0]).cell.is_empty()).collect()
}

/// Whether a stage's table can be read.
pub fn is_made(catalog: &Catalog, node: usize) -> bool {
    let node_of = &catalog.plan.graph.nodes[node];
    if node_of.view { node_of.edges.iter().all(|edge| is_made(catalog, edge.from)) } else { catalog.table(node).is_some() }
}

/// What to tell the asker of some tables: which cells they do not have.
pub fn missing(catalog: &Catalog, tables: &BTreeSet<String>) -> Vec<String> {
    let asked = swept(catalog).into_iter().filter(|(name, _)| tables.contains(*name));
    asked.filter_map(|(name, cells)| lacking(catalog, name, &cells)).collect()
}

/// Which cells of a stage are not made, if any.
pub fn lacking(catalog: &Catalog, name: &str, cells: &[usize]) -> Option<String> {
    const NAMED: usize = 5;
    let absent: Vec<&str> = cells.iter().filter(|&&cell| !is_made(catalog, cell)).map(|&cell| catalog.name(cell)).collect();
    let named = absent.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let more = if absent.len() > NAMED { ", …" } else { "" };
    let count = format!("{} of {} cells of `{name}` are not made yet", absent.len(), cells.len());
    (!absent.is_empty()).then(|| format!("{count}: {named}{more}"))
}

/// The table of a swept stage.
pub struct Swept {
    /// The columns that all cells have, and the types that cells' columns are cast to where theirs differ.
    pub columns: Vec<(String, Option<DataType>)>,
    /// The axes' columns, each with a value for every cell.
    pub axes: Vec<(String, ArrayRef)>,
    /// The cells.
    pub cells: Vec<usize>,
    /// Which of the cells are made, by their places among them.
    pub made: Vec<usize>,
}

impl Swept {
    /// Of these cells of a stage.
    pub fn of(catalog: &Catalog, cells: &[usize]) -> Self {
        let graph = &catalog.plan.graph;
        let mut columns = columns(catalog, cells);
        let coordinates = |cell: usize| &graph.declaration(cell).cell;
        let axes: Vec<(String, ArrayRef)> = (0..coordinates(cells[0]).len())
            .map(|at| {
                let Coordinate { axis, name, .. } = &coordinates(cells[0])[at];
                let clash = columns.iter().any(|(column, _)| column == name);
                let name = if clash { &graph.file.axes[*axis].path } else { name };
                let values: Vec<Option<&Value>> = cells.iter().map(|&cell| Some(&coordinates(cell)[at].value)).collect();
                (name.clone(), array(&values))
            })
            .collect();
        columns.retain(|(name, _)| axes.iter().all(|(axis, _)| axis != name));
        let made = (0..cells.len()).filter(|&at| is_made(catalog, cells[at])).collect();
        Self { columns, axes, cells: cells.to_vec(), made }
    }

    /// The table's columns, without metadata.
    pub fn schema(&self, catalog: &Catalog) -> SchemaRef {
        let first = catalog.schema(self.cells[0]);
        let shared = self.columns.iter().filter_map(|(name, kind)| {
            let field = first.field_with_name(name).ok()?;
            Some(Field::new(name, kind.clone().unwrap_or_else(|| field.data_type().clone()), true))
        });
        let axes = self.axes.iter().map(|(name, values)| Field::new(name, values.data_type().clone(), true));
        Arc::new(Schema::new(shared.chain(axes).collect::<Vec<_>>()))
    }
}

fn view(catalog: &Arc<Catalog>, context: &SessionContext, scans: &Scans, cells: &[usize]) -> Result<Arc<dyn TableProvider>> {
    let Swept { columns, axes, made, .. } = Swept::of(catalog, cells);
    // Of none, the first says what is missing when it is read.
    let read = if made.is_empty() { (0..cells.len()).collect() } else { made };
    let mut plans: Vec<Arc<LogicalPlan>> = Vec::new();
    for at in read {
        let mut exprs: Vec<Expr> = Vec::new();
        for (name, kind) in &columns {
            exprs.push(match kind {
                Some(kind) => cast(ident(name), kind.clone()).alias(name),
                None => ident(name),
            });
        }
        for (name, values) in &axes {
            exprs.push(lit(ScalarValue::try_from_array(values, at)?).alias(name));
        }
        let table = StageTable::new(catalog.clone(), cells[at], scans.clone()).without_metadata();
        plans.push(Arc::new(context.read_table(Arc::new(table))?.select(exprs)?.into_unoptimized_plan()));
    }
    let plan = match plans.as_slice() {
        [one] => one.as_ref().clone(),
        _ => LogicalPlan::Union(Union::try_new(plans)?),
    };
    Ok(DataFrame::new(context.state(), plan).into_view())
}

/// The columns that all cells have, and what they are to be cast to.
fn columns(catalog: &Catalog, cells: &[usize]) -> Vec<(String, Option<DataType>)> {
    let schemas: Vec<_> = cells.iter().map(|&cell| catalog.schema(cell)).collect();
    let shared = |field: &Arc<Field>| {
        let kinds: Option<BTreeSet<&DataType>> =
            schemas.iter().map(|schema| Some(schema.field_with_name(field.name()).ok()?.data_type())).collect();
        let kinds = kinds?;
        if kinds.len() == 1 {
            return Some((field.name().clone(), None));
        }
        let item = |kind: &&DataType| match kind {
            DataType::FixedSizeList(item, _) => Some(item.clone()),
            _ => None,
        };
        let items: Option<BTreeSet<_>> = kinds.iter().map(item).collect();
        let mut items = items?.into_iter();
        let item = items.next()?;
        items.next().is_none().then(|| (field.name().clone(), Some(DataType::List(item))))
    };
    schemas[0].fields().iter().filter_map(shared).collect()
}

/// Values of one axis: booleans, whole numbers, numbers, or text; null where there is none.
pub fn array(values: &[Option<&Value>]) -> ArrayRef {
    let values: Vec<Option<&Value>> = values.iter().map(|value| value.filter(|value| !value.is_null())).collect();
    let all = |fits: fn(&Value) -> bool| values.iter().flatten().all(|value| fits(value));
    if all(Value::is_boolean) {
        return Arc::new(values.iter().map(|value| value.and_then(Value::as_bool)).collect::<BooleanArray>());
    }
    if all(Value::is_i64) {
        return Arc::new(values.iter().map(|value| value.and_then(Value::as_i64)).collect::<Int64Array>());
    }
    if all(Value::is_number) {
        return Arc::new(values.iter().map(|value| value.and_then(Value::as_f64)).collect::<Float64Array>());
    }
    let text = |value: &&Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Arc::new(values.iter().map(|value| value.as_ref().map(text)).collect::<StringArray>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_axis_has_the_plainest_type_that_holds_its_values() {
        let kind =
            |values: Value| array(&values.as_array().unwrap().iter().map(Some).collect::<Vec<_>>()).data_type().clone();
        assert_eq!(kind(json!([1, 2])), DataType::Int64);
        assert_eq!(kind(json!([1, 0.5])), DataType::Float64);
        assert_eq!(kind(json!([true, false])), DataType::Boolean);
        assert_eq!(kind(json!(["a", 1])), DataType::Utf8);
        let mixed = array(&[Some(&json!("a")), None, Some(&json!([1, 2])), Some(&Value::Null)]);
        let mixed: &StringArray = mixed.as_any().downcast_ref().unwrap();
        assert_eq!(mixed.iter().collect::<Vec<_>>(), [Some("a"), None, Some("[1,2]"), None]);
        assert_eq!(kind(json!([null, 2])), DataType::Int64);
    }
}
