//! The table of a swept stage, for a file: the rows of its cells, one cell after the other, with their values on the axes.

use std::sync::{Arc, PoisonError};

use anyhow::{Context as _, Result};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use tokio::runtime::Handle;

use super::{Rows, Scans};
use crate::ask::sql::cells::Swept;
use crate::engine::catalog::Catalog;

/// Begins to read some columns of a swept stage's table. Cells that are not made are left out.
///
/// # Errors
/// None of the cells is made.
pub fn open(catalog: &Arc<Catalog>, swept: &Swept, schema: &SchemaRef, handle: &Handle) -> Result<Rows<'static>> {
    if swept.made.is_empty() {
        catalog.manifest(swept.cells[0])?;
    }
    let rows = |&at: &usize| Some(catalog.table(swept.cells[at])?.manifest?.rows());
    let expected = swept.made.iter().filter_map(rows).sum();
    let cell = |&at: &usize| -> Result<Cell> {
        let value = |(name, values): &(String, ArrayRef)| Ok((name.clone(), ScalarValue::try_from_array(values, at)?));
        let axes = swept.axes.iter().map(value).collect::<Result<_>>()?;
        Ok(Cell { node: swept.cells[at], wanted: schema.clone(), axes })
    };
    let cells: Vec<Cell> = swept.made.iter().map(cell).collect::<Result<_>>()?;
    let scans = Scans::default();
    let (catalog, handle, known) = (catalog.clone(), handle.clone(), scans.clone());
    let batches = cells.into_iter().flat_map(move |cell| -> Box<dyn Iterator<Item = Result<RecordBatch>> + Send> {
        match cell.open(&catalog, &handle) {
            Ok(rows) => {
                let states = std::mem::take(&mut *rows.scans.lock().unwrap_or_else(PoisonError::into_inner));
                known.lock().unwrap_or_else(PoisonError::into_inner).extend(states);
                Box::new(rows.map(move |batch| cell.table(&batch?)))
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    });
    Ok(Rows { schema: schema.clone(), expected, batches: Box::new(batches), scans })
}

/// A cell, as rows of the stage's table.
struct Cell {
    node: usize,
    /// The columns that are wanted of the stage's table.
    wanted: SchemaRef,
    /// Its values on the axes, by their columns.
    axes: Vec<(String, ScalarValue)>,
}

impl Cell {
    /// Begins to read what is wanted of the cell's own columns.
    fn open(&self, catalog: &Arc<Catalog>, handle: &Handle) -> Result<Rows<'static>> {
        let schema = catalog.schema(self.node);
        let is_axis = |name: &str| self.axes.iter().any(|(axis, _)| axis == name);
        let own = self.wanted.fields().iter().filter(|field| !is_axis(field.name()));
        let mut fields = own.map(|field| schema.field_with_name(field.name()).cloned()).collect::<Result<Vec<_>, _>>()?;
        if fields.is_empty() {
            // How many rows there are, any column says.
            fields.extend(schema.fields().first().map(|field| field.as_ref().clone()));
        }
        handle.block_on(Rows::open(catalog, self.node, &Arc::new(Schema::new(fields))))
    }

    /// Rows of the cell as rows of the stage's table.
    fn table(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        for field in self.wanted.fields() {
            columns.push(match self.axes.iter().find(|(axis, _)| axis == field.name()) {
                Some((_, value)) => value.to_array_of_size(batch.num_rows())?,
                None => {
                    let column = batch.column_by_name(field.name());
                    cast(column.with_context(|| format!("the scan gives no column `{}`", field.name()))?, field.data_type())?
                }
            });
        }
        Ok(RecordBatch::try_new(self.wanted.clone(), columns)?)
    }
}
