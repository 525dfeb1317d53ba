//! Rows as a table on a page.

use anyhow::Result;
use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use maud::{Markup, html};
use tessera_schemas::{IMAGE_ID, text};

use super::links;
use crate::ask::page::draw::{cut, shown};
use crate::ask::sql::output::to_look_at;

/// Characters of a value that are shown.
const MOST: usize = 300;

/// Draws rows; ids of images lead to their pages.
///
/// # Errors
/// A type has no text.
pub fn table(rows: &RecordBatch, label: &str) -> Result<Markup> {
    let short = to_look_at(rows)?;
    let options = FormatOptions::default();
    let formatters = short
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    let schema = rows.schema();
    let is_right: Vec<bool> = rows.columns().iter().map(|column| column.data_type().is_numeric()).collect();
    // The id itself, and not what is shown of it.
    let ids = text(rows, IMAGE_ID).ok();
    let cell = |column: usize, row: usize| {
        let array: &ArrayRef = short.column(column);
        if array.is_null(row) {
            return html! { td.null { "null" } };
        }
        let value = formatters[column].value(row).to_string();
        let is_id = schema.field(column).name() == IMAGE_ID;
        match ids.filter(|ids| is_id && ids.is_valid(row)) {
            Some(ids) => html! { td { a href=(links::image(ids.value(row))) { (shown(&value)) } } },
            None => html! { td.right[is_right[column]] { bdi { (cut(&value, MOST)) } } },
        }
    };
    Ok(html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table.numbers {
                thead { tr { @for (field, right) in schema.fields().iter().zip(&is_right) { th.right[*right] scope="col" { (shown(field.name())) } } } }
                tbody { @for row in 0..short.num_rows() { tr { @for column in 0..short.num_columns() { (cell(column, row)) } } } }
            }
        }
    })
}
