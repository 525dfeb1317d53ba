//! Rows as text, JSON and CSV.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use tessera_schemas::printable;

/// Values of a list that text output shows.
const SHOWN: usize = 4;

/// How printed data looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table to look at.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// CSV with a header line.
    Csv,
}

/// Prints rows.
///
/// # Errors
/// The output is closed, or a type cannot be printed so.
pub fn print(out: &mut dyn Write, schema: &SchemaRef, batches: &[RecordBatch], format: Format) -> Result<()> {
    print_all(out, schema, batches.iter().cloned().map(Ok), format)
}

/// Prints rows as they come: of CSV and JSON, some are in memory; of text, what is shown of all of them, for columns are as wide as their
/// widest value.
///
/// # Errors
/// As [`print`]; or a row could not be made.
pub fn print_all(
    out: &mut dyn Write,
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
    format: Format,
) -> Result<()> {
    let mut out = Checked { out, failure: None };
    let printed = print_checked(&mut out, schema, batches, format);
    match out.failure {
        Some(failure) => Err(failure.into()),
        None => printed,
    }
}

/// Keeps what the system said: Arrow's writers make text of it, and a reader who left is no failure.
struct Checked<'a> {
    out: &'a mut dyn Write,
    failure: Option<io::Error>,
}

impl Checked<'_> {
    fn keep<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        done.map_err(|error| {
            let kind = error.kind();
            // The writers try again what a signal interrupted.
            if kind != io::ErrorKind::Interrupted {
                self.failure.get_or_insert(error);
            }
            kind.into()
        })
    }
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.out.write(bytes);
        self.keep(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.out.flush();
        self.keep(done)
    }
}

fn print_checked(
    out: &mut Checked<'_>,
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
    format: Format,
) -> Result<()> {
    match format {
        Format::Text => {
            let short = batches.map(|batch| to_look_at(&batch?)).collect::<Result<Vec<_>>>()?;
            let short = if short.is_empty() { vec![harmless(&RecordBatch::new_empty(schema.clone()))?] } else { short };
            writeln!(out, "{}", pretty_format_batches_with_options(&short, &options())?)?;
        }
        Format::Json => {
            let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut *out);
            for batch in batches {
                let batch = with_distinct(&batch?)?;
                if batch.num_rows() > 0 {
                    writer.write(&batch)?;
                }
            }
            writer.finish()?;
            drop(writer);
            writeln!(out)?;
        }
        Format::Csv => {
            let mut writer = arrow::csv::Writer::new(&mut *out);
            let mut none = true;
            for batch in batches {
                writer.write(&flattened(&with_distinct(&batch?)?)?)?;
                none = false;
            }
            if none {
                writer.write(&flattened(&RecordBatch::new_empty(distinct(schema)))?)?;
            }
        }
    }
    Ok(())
}

/// Columns by names that differ, as DuckDB tells them apart: a second `cluster` is `cluster_1`.
pub fn distinct(schema: &SchemaRef) -> SchemaRef {
    let mut taken: HashSet<String> = HashSet::new();
    let one = |field: &FieldRef| {
        let mut name = field.name().clone();
        let mut count = 0;
        while !taken.insert(name.clone()) {
            count += 1;
            name = format!("{}_{count}", field.name());
        }
        if name == *field.name() { field.clone() } else { Arc::new(field.as_ref().clone().with_name(name)) }
    };
    let fields: Vec<FieldRef> = schema.fields().iter().map(one).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Rows under the names of [`distinct`].
///
/// # Errors
/// Arrow refuses them (never).
pub fn with_distinct(batch: &RecordBatch) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(distinct(batch.schema_ref()), batch.columns().to_vec())?)
}

/// Rows as a person looks at them: long lists and bytes cut short, texts harmless and each on one line.
///
/// # Errors
/// A type has no text.
pub fn to_look_at(batch: &RecordBatch) -> Result<RecordBatch> {
    harmless(&shortened(batch)?)
}

fn options() -> FormatOptions<'static> {
    FormatOptions::default().with_null("NULL")
}

/// Long lists and bytes by their beginning and their length.
fn shortened(batch: &RecordBatch) -> Result<RecordBatch> {
    texts(batch, |column, row| match column.data_type() {
        DataType::FixedSizeList(_, _) => {
            let list: &FixedSizeListArray = column.as_fixed_size_list();
            Some(list.value(row))
        }
        DataType::List(_) => Some(column.as_list::<i32>().value(row)),
        _ => None,
    })
}

/// Columns' names and texts as a terminal may show them, each on one line.
fn harmless(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| -> Result<_> {
        let text = match column.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => {
                cast(column, &DataType::Utf8)?
            }
            _ => column.clone(),
        };
        let text: ArrayRef = match text.as_string_opt::<i32>() {
            Some(texts) => Arc::new(texts.iter().map(|text| text.map(printable)).collect::<StringArray>()),
            None => text,
        };
        Ok((printable(field.name()).into_owned(), text, true))
    });
    Ok(RecordBatch::try_from_iter_with_nullable(columns.collect::<Result<Vec<_>>>()?)?)
}

/// Lists, structs and bytes as text, since CSV has none.
fn flattened(batch: &RecordBatch) -> Result<RecordBatch> {
    texts(batch, |_, _| None)
}

/// Nested columns and bytes as text; `list` gives the values of those that are to be cut short.
fn texts(batch: &RecordBatch, list: impl Fn(&ArrayRef, usize) -> Option<ArrayRef>) -> Result<RecordBatch> {
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let bytes = matches!(field.data_type(), DataType::Binary | DataType::LargeBinary);
        if !field.data_type().is_nested() && !bytes {
            columns.push((field.name().clone(), column.clone()));
            continue;
        }
        let options = options();
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
        let one = |row: usize| -> Result<Option<String>> {
            if column.is_null(row) {
                return Ok(None);
            }
            if bytes {
                let length = match field.data_type() {
                    DataType::Binary => column.as_binary::<i32>().value(row).len(),
                    _ => column.as_binary::<i64>().value(row).len(),
                };
                return Ok(Some(format!("{length} bytes")));
            }
            match list(column, row) {
                Some(values) if values.len() > SHOWN => {
                    let formatter = ArrayFormatter::try_new(values.as_ref(), &options)?;
                    let begin: Vec<String> = (0..SHOWN).map(|at| formatter.value(at).to_string()).collect();
                    Ok(Some(format!("[{}, … {} values]", begin.join(", "), values.len())))
                }
                _ => Ok(Some(formatter.value(row).to_string())),
            }
        };
        let array: StringArray = (0..column.len()).map(one).collect::<Result<Vec<_>>>()?.into_iter().collect();
        columns.push((field.name().clone(), Arc::new(array)));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn columns_of_one_name_are_told_apart() {
        let named = |names: &[&str]| -> Vec<String> {
            let field = |name: &&str| Field::new(*name, DataType::Int64, true);
            let schema = Schema::new(names.iter().map(field).collect::<Vec<_>>());
            distinct(&Arc::new(schema)).fields().iter().map(|field| field.name().clone()).collect()
        };
        assert_eq!(named(&["a", "a", "b", "a_1", "a", "A"]), ["a", "a_1", "b", "a_1_1", "a_2", "A"]);
        assert_eq!(named(&["a", "b"]), ["a", "b"]);
    }
}
