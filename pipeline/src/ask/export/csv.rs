//! A table as CSV: numbers that a reader can compute with, one a column.
//!
//! Vectors are spread over columns `feature_0`, `feature_1`, …; structs over `source.path`, … as pandas names them. Lists of different
//! lengths become JSON arrays. Nulls are empty.

use std::fs::File;
use std::io::{BufWriter, IntoInnerError};
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::writer::{EncoderOptions, make_encoder};

use super::{NewFile, Rows};
use crate::watch::progress::Bar;

/// Columns that a file may have: what spreadsheets can show.
const MOST_COLUMNS: usize = 16_384;

/// Writes rows as CSV with a header line. Returns how many there were.
///
/// # Errors
/// A column is of bytes, there would be too many columns, or a row cannot be made or written.
pub fn write(rows: &mut Rows<'_>, file: &NewFile, bar: &Bar) -> Result<u64> {
    let mut lines = Lines::new(file, &rows.schema)?;
    let (mut count, expected) = (0, rows.expected);
    for batch in rows {
        let batch = batch?;
        lines.write(&batch)?;
        count += batch.num_rows() as u64;
        bar.at(count, expected, "");
    }
    lines.finish()?;
    Ok(count)
}

/// A file of lines.
pub struct Lines(arrow::csv::Writer<BufWriter<File>>);

impl Lines {
    /// Begins a file with the header line of a table.
    ///
    /// # Errors
    /// CSV cannot hold such a table, or the file cannot be written.
    pub fn new(file: &NewFile, schema: &Schema) -> Result<Self> {
        check(schema)?;
        let mut writer = arrow::csv::Writer::new(BufWriter::with_capacity(1 << 20, file.file()?));
        // The header is there whether or not there are rows.
        writer.write(&spread(&RecordBatch::new_empty(Arc::new(schema.clone())))?)?;
        Ok(Self(writer))
    }

    /// Adds rows.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        Ok(self.0.write(&spread(batch)?)?)
    }

    /// Hands all lines to the system.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<()> {
        self.0.into_inner().into_inner().map_err(IntoInnerError::into_error)?;
        Ok(())
    }
}

/// Whether CSV can hold such a table.
///
/// # Errors
/// It cannot; the message says what can.
pub fn check(schema: &Schema) -> Result<()> {
    let mut count = 0;
    for field in schema.fields() {
        count += match field.data_type() {
            DataType::FixedSizeList(_, length) => *length as usize,
            DataType::Struct(fields) => fields.len(),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                bail!(
                    "column `{}` holds bytes, and CSV has none: leave it out by --columns, or write Parquet",
                    field.name()
                );
            }
            _ => 1,
        };
    }
    if count > MOST_COLUMNS {
        bail!(
            "{count} columns are more than the {MOST_COLUMNS} that CSV is of use for: choose by --columns, or write Parquet"
        );
    }
    Ok(())
}

/// Rows with their vectors and structs spread over plain columns.
fn spread(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        spread_column(field.name(), field, column, &mut columns)?;
    }
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

fn spread_column(name: &str, field: &Arc<Field>, column: &ArrayRef, out: &mut Vec<(String, ArrayRef)>) -> Result<()> {
    match field.data_type() {
        DataType::FixedSizeList(item, length) => {
            let (list, length) = (column.as_fixed_size_list(), *length as usize);
            for at in 0..length {
                let place = |row: usize| list.is_valid(row).then(|| (list.value_offset(row) as usize + at) as u32);
                let places: UInt32Array = (0..list.len()).map(place).collect();
                spread_column(&format!("{name}_{at}"), item, &take(list.values(), &places, None)?, out)?;
            }
        }
        DataType::Struct(fields) => {
            let parts = column.as_struct();
            for (field, part) in fields.iter().zip(parts.columns()) {
                spread_column(&format!("{name}.{}", field.name()), field, part, out)?;
            }
        }
        kind if kind.is_nested() => {
            let options = EncoderOptions::default().with_explicit_nulls(true);
            let mut encoder = make_encoder(field, column.as_ref(), &options)?;
            let mut one = |row: usize| -> Result<Option<String>> {
                if encoder.is_null(row) {
                    return Ok(None);
                }
                let mut json = Vec::new();
                encoder.encode(row, &mut json);
                Ok(Some(String::from_utf8(json)?))
            };
            let texts: StringArray = (0..column.len()).map(&mut one).collect::<Result<Vec<_>>>()?.into_iter().collect();
            out.push((name.to_owned(), Arc::new(texts)));
        }
        _ => out.push((name.to_owned(), column.clone())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray};
    use arrow::datatypes::Int64Type;
    use tessera_schemas::features;
    use tessera_schemas::images::{self, About, Image, Source};

    use super::*;

    fn text(batch: &RecordBatch) -> String {
        let mut writer = arrow::csv::Writer::new(Vec::new());
        writer.write(&spread(batch).unwrap()).unwrap();
        String::from_utf8(writer.into_inner()).unwrap()
    }

    #[test]
    fn vectors_and_structs_are_spread_and_lists_are_json() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        let batch = RecordBatch::try_from_iter([
            ("feature", features::array(vec![0.5, 1.0, 1.5, 2.0], 2)),
            ("shape", Arc::new(lists) as ArrayRef),
            ("n", Arc::new(Int64Array::from(vec![None, Some(3)]))),
        ]);
        assert_eq!(text(&batch.unwrap()), "feature_0,feature_1,shape,n\n0.5,1.0,\"[1,null]\",\n1.5,2.0,,3\n");
        let source = Source { path: "a.jpg", offset: None, length: Some(7), row: None };
        let images =
            images::batch([Image { image_id: "a.jpg", source, label: None, digest: "d".into(), about: About::default() }])
                .unwrap();
        assert_eq!(
            text(&images),
            "image_id,source.path,source.offset,source.length,source.row,label,digest,width,height,format,bytes,modified\n\
             a.jpg,a.jpg,,7,,,d,,,,,\n"
        );
        assert_eq!(text(&images.slice(1, 0)).lines().count(), 1);
    }

    #[test]
    fn what_csv_cannot_hold_is_refused() {
        let bytes = Schema::new(vec![Field::new("data", DataType::LargeBinary, false)]);
        assert!(check(&bytes).unwrap_err().to_string().starts_with("column `data` holds bytes, and CSV has none"));
        let wide = Schema::new(vec![features::field("f", 20_000)]);
        assert!(check(&wide).unwrap_err().to_string().contains("20000 columns"));
    }
}
