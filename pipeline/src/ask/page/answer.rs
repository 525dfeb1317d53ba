//! What a figure's query answered: its rows, as numbers to draw and as texts to show.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{Array as _, ArrayRef, AsArray as _, Float64Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type};

use crate::ask::sql;
use crate::ask::sql::output::{Format, print};
use crate::engine::catalog::Catalog;
use crate::store::DroppedRow;

/// A query and its rows.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The query, as `tessera sql` takes it.
    pub sql: String,
    /// Its rows.
    pub rows: RecordBatch,
    /// Images that views could not handle, and left out.
    pub dropped: Vec<DroppedRow>,
}

impl Answer {
    /// Asks.
    ///
    /// # Errors
    /// A table is not there or damaged, or the query takes more memory than there is.
    pub async fn of(catalog: &Arc<Catalog>, query: String) -> Result<Self> {
        let answer = sql::query(catalog, &query).await.with_context(|| format!("cannot answer `{query}`"))?;
        let rows = concat_batches(&answer.schema, &answer.batches)?;
        Ok(Self { sql: query, rows, dropped: answer.dropped })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn column(&self, name: &str) -> Result<&ArrayRef> {
        self.rows.column_by_name(name).with_context(|| format!("`{}` gives no column `{name}`", self.sql))
    }

    /// A column's numbers; a null is none.
    ///
    /// # Errors
    /// There is no such column, or it holds no numbers.
    pub fn numbers(&self, name: &str) -> Result<Float64Array> {
        Ok(cast(self.column(name)?, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    }

    /// A column's texts, of numbers as well; a null is none.
    ///
    /// # Errors
    /// There is no such column, or its values have no text.
    pub fn texts(&self, name: &str) -> Result<StringArray> {
        Ok(cast(self.column(name)?, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    /// One number.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub fn number(&self, name: &str, row: usize) -> Result<Option<f64>> {
        let numbers = self.numbers(name)?;
        Ok((row < numbers.len() && numbers.is_valid(row)).then(|| numbers.value(row)))
    }

    /// All rows as `tessera sql --format csv` prints them.
    ///
    /// # Errors
    /// A column's type has no text.
    pub fn csv(&self) -> Result<String> {
        let mut out = Vec::new();
        print(&mut out, self.rows.schema_ref(), std::slice::from_ref(&self.rows), Format::Csv)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

/// A name in a query.
pub fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in a query.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A number to read: whole ones as they are, others with four significant digits.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    if value == value.trunc() && value.abs() < 1e15 {
        return grouped(value);
    }
    match value.abs() {
        size if !(1e-4..1e6).contains(&size) => format!("{value:.3e}"),
        size => {
            let digits = (3 - size.log10().floor() as i32).clamp(0, 7) as usize;
            let text = format!("{value:.digits$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        }
    }
}

/// A whole number, its digits in groups of three.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value < 0.0 {
        out.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let found = [0.0, 7.0, -1_234_567.0, 0.724_49, 12.5, 1234.567, 0.000_012_34, 2.5e7, f64::NAN].map(short);
        assert_eq!(found, ["0", "7", "-1,234,567", "0.7245", "12.5", "1235", "1.234e-5", "25,000,000", "NaN"]);
    }

    #[test]
    fn names_and_texts_stay_whole_in_a_query() {
        assert_eq!((name("a\"b"), literal("it's")), ("\"a\"\"b\"".to_owned(), "'it''s'".to_owned()));
    }
}
