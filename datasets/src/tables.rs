//! Table files to rows: Parquet and CSV.
//!
//! Rows come as they are, but for what Tessera's tables agree on: an `image_id` of text (without one, the row's number is it),
//! plain text and byte columns, and lists of floats that are all of one length as fixed-size lists of f32, as pandas, Polars and
//! DuckDB do not write them.

use std::collections::HashSet;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::csv;
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tessera_schemas::{IMAGE_ID, features, text};

use crate::{Entry, Error, Files};

/// Kinds of files, by their endings.
pub const EXTENSIONS: [&str; 2] = ["parquet", "csv"];
/// Rows of a batch.
const BATCH_ROWS: usize = 8192;
/// Rows of a CSV file that its types are guessed from.
const GUESSED_ROWS: usize = 10_000;

/// The table files among a listing.
///
/// # Errors
/// There is none; the message says what was there instead.
pub fn files(root: &Path, entries: Vec<Entry>) -> Result<Vec<Entry>, Error> {
    let all = entries.len();
    let tables: Vec<Entry> = entries.into_iter().filter(|entry| kind(&entry.path).is_some()).collect();
    if tables.is_empty() {
        let message = format!("no table among {all} files; tables end in {}", EXTENSIONS.join(", "));
        return Err(Error::format(root, message));
    }
    Ok(tables)
}

fn kind(path: &str) -> Option<&'static str> {
    let extension = Path::new(path).extension()?.to_str()?;
    EXTENSIONS.into_iter().find(|known| known.eq_ignore_ascii_case(extension))
}

/// The table's schema: of the first file, its rows read only where lists must be measured.
///
/// # Errors
/// The file cannot be read or understood.
pub fn schema(files: &dyn Files, path: &Path) -> Result<SchemaRef, Error> {
    let mut batches = open(files, path)?;
    let raw = batches.schema.clone();
    let floats = raw.fields().iter().any(|field| list_of_floats(field.data_type()));
    let first = if floats { batches.rows.next().transpose()? } else { None };
    let mut fields: Vec<Field> = Vec::new();
    if raw.field_with_name(IMAGE_ID).is_err() {
        fields.push(Field::new(IMAGE_ID, DataType::Utf8, false));
    }
    for (at, field) in raw.fields().iter().enumerate() {
        let rows = first.as_ref().map(|batch| batch.column(at));
        fields.push(plain(field, rows));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Reads files of one schema in their order.
///
/// # Errors
/// A file cannot be read or understood, has other columns, or an id stands twice.
pub fn read<E: From<Error>>(
    files: &dyn Files,
    root: &Path,
    paths: &[&str],
    schema: &SchemaRef,
    emit: &mut dyn FnMut(RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    let numbered = match paths.first() {
        Some(first) => open(files, &root.join(first))?.schema.field_with_name(IMAGE_ID).is_err(),
        None => false,
    };
    let total =
        if numbered { paths.iter().map(|path| count(files, &root.join(path))).sum::<Result<usize, Error>>()? } else { 0 };
    let width = total.saturating_sub(1).to_string().len();
    let mut number = 0;
    let mut seen: HashSet<String> = HashSet::new();
    for path in paths {
        let path = root.join(path);
        for batch in open(files, &path)?.rows {
            let batch = batch?;
            let rows = batch.num_rows();
            let columns = schema.fields().iter().map(|field| -> Result<ArrayRef, Error> {
                if numbered && field.name() == IMAGE_ID {
                    let ids = (number..number + rows).map(|at| format!("{at:0width$}"));
                    return Ok(Arc::new(StringArray::from_iter_values(ids)));
                }
                let missing =
                    || Error::format(&path, format!("the column `{}`, which the first file has, is missing", field.name()));
                convert(batch.column_by_name(field.name()).ok_or_else(missing)?, field).map_err(|m| Error::format(&path, m))
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            number += rows;
            let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|error| Error::format(&path, error))?;
            let ids = text(&batch, IMAGE_ID).map_err(|error| Error::format(&path, error))?;
            for id in (0..ids.len()).map(|row| ids.value(row)) {
                if !numbered && !seen.insert(id.to_owned()) {
                    return Err(Error::format(&path, format!("the image_id `{id}` stands twice")).into());
                }
            }
            emit(batch)?;
        }
    }
    Ok(())
}

type Rows = Box<dyn Iterator<Item = Result<RecordBatch, Error>>>;

struct Batches {
    schema: SchemaRef,
    rows: Rows,
}

fn open(files: &dyn Files, path: &Path) -> Result<Batches, Error> {
    let wrong = {
        let path = path.to_owned();
        move |error: String| Error::format(&path, format!("not a sound table: {error}"))
    };
    let bytes = files.read(path)?;
    match kind(&path.to_string_lossy()) {
        Some("parquet") => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes));
            let builder = builder.map_err(|error| wrong(error.to_string()))?;
            let schema = builder.schema().clone();
            let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| wrong(error.to_string()))?;
            Ok(Batches { schema, rows: Box::new(reader.map(move |batch| batch.map_err(|error| wrong(error.to_string())))) })
        }
        Some("csv") => {
            let format = csv::reader::Format::default().with_header(true);
            let (schema, _) =
                format.infer_schema(Cursor::new(&bytes), Some(GUESSED_ROWS)).map_err(|error| wrong(error.to_string()))?;
            // Guessed types would make `7` of the id `007`.
            let text = |field: &Arc<Field>| match field.name().as_str() {
                IMAGE_ID => Field::new(IMAGE_ID, DataType::Utf8, true),
                _ => field.as_ref().clone(),
            };
            let schema = Arc::new(Schema::new(schema.fields().iter().map(text).collect::<Vec<_>>()));
            let reader = csv::ReaderBuilder::new(schema.clone())
                .with_header(true)
                .with_batch_size(BATCH_ROWS)
                .build(Cursor::new(bytes))
                .map_err(|error| wrong(error.to_string()))?;
            Ok(Batches { schema, rows: Box::new(reader.map(move |batch| batch.map_err(|error| wrong(error.to_string())))) })
        }
        _ => Err(Error::format(path, format!("not a known kind of table; tables end in {}", EXTENSIONS.join(", ")))),
    }
}

fn count(files: &dyn Files, path: &Path) -> Result<usize, Error> {
    open(files, path)?.rows.map(|batch| batch.map(|batch| batch.num_rows())).sum()
}

fn list_of_floats(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_floating()
        }
        _ => false,
    }
}

/// The field as Tessera has it; `rows` are the file's first.
fn plain(field: &Field, rows: Option<&ArrayRef>) -> Field {
    if field.name() == IMAGE_ID {
        return Field::new(IMAGE_ID, DataType::Utf8, false);
    }
    let kind = match field.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Dictionary(_, value)
            if matches!(value.as_ref(), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) =>
        {
            DataType::Utf8
        }
        DataType::BinaryView => DataType::Binary,
        kind if list_of_floats(kind) => match rows.and_then(one_length) {
            Some(length) => return features::field(field.name(), length),
            None => kind.clone(),
        },
        other => other.clone(),
    };
    Field::new(field.name(), kind, field.is_nullable()).with_metadata(field.metadata().clone())
}

/// The length that all lists have, if there is no null among them.
fn one_length(rows: &ArrayRef) -> Option<usize> {
    if rows.null_count() > 0 || rows.is_empty() {
        return None;
    }
    let lengths: HashSet<usize> = match rows.data_type() {
        DataType::FixedSizeList(_, length) => HashSet::from([*length as usize]),
        DataType::List(_) => (0..rows.len()).map(|row| rows.as_list::<i32>().value_length(row) as usize).collect(),
        DataType::LargeList(_) => (0..rows.len()).map(|row| rows.as_list::<i64>().value_length(row) as usize).collect(),
        _ => return None,
    };
    let mut lengths = lengths.into_iter();
    lengths.next().filter(|&length| lengths.next().is_none() && length > 0)
}

/// A column as the field has it.
fn convert(column: &ArrayRef, field: &Field) -> Result<ArrayRef, String> {
    let name = field.name();
    if !field.is_nullable() && column.null_count() > 0 {
        return Err(format!("the column `{name}` has a null"));
    }
    let DataType::FixedSizeList(item, length) = field.data_type() else {
        return cast(column, field.data_type()).map_err(|error| format!("the column `{name}`: {error}"));
    };
    if !column.is_empty() && one_length(column) != Some(*length as usize) {
        return Err(format!("the column `{name}` has lists of {length} values and of others"));
    }
    let values: ArrayRef = match column.data_type() {
        DataType::FixedSizeList(_, _) => {
            let list = column.as_fixed_size_list();
            let width = list.value_length() as usize;
            list.values().slice(list.value_offset(0) as usize, list.len() * width)
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let (first, last) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
            list.values().slice(first as usize, (last - first) as usize)
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let (first, last) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
            list.values().slice(first as usize, (last - first) as usize)
        }
        other => return Err(format!("the column `{name}` is {other}, and {} before", field.data_type())),
    };
    let values = cast(&values, item.data_type()).map_err(|error| format!("the column `{name}`: {error}"))?;
    if values.null_count() > 0 {
        return Err(format!("the column `{name}` has a null in a list"));
    }
    let values = Arc::new(values.as_primitive::<Float32Type>().clone());
    Ok(Arc::new(FixedSizeListArray::new(item.clone(), *length, values, None)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use arrow::array::{Float64Array, Int64Array, ListArray};
    use arrow::buffer::OffsetBuffer;
    use parquet::arrow::ArrowWriter;
    use tessera_schemas::vector;

    use super::*;
    use crate::local::LocalFiles;

    fn parquet(path: &Path, batch: &RecordBatch) {
        let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
    }

    fn lists(lengths: &[usize]) -> ArrayRef {
        let values: Vec<f64> = (0..lengths.iter().sum::<usize>()).map(|at| at as f64 / 2.0).collect();
        let item = Arc::new(Field::new("item", DataType::Float64, true));
        let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
        Arc::new(ListArray::new(item, offsets, Arc::new(Float64Array::from(values)), None))
    }

    fn all(root: &Path, paths: &[&str]) -> Result<Vec<RecordBatch>, Error> {
        let schema = schema(&LocalFiles, &root.join(paths[0]))?;
        let mut batches = Vec::new();
        read::<Error>(&LocalFiles, root, paths, &schema, &mut |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }

    #[test]
    fn lists_become_vectors_and_rows_get_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..11));
        let batch = RecordBatch::try_from_iter([("n", rows), ("feature", lists(&[3; 11]))]).unwrap();
        parquet(&dir.path().join("a.parquet"), &batch);
        let read = all(dir.path(), &["a.parquet"]).unwrap();
        assert_eq!(text(&read[0], IMAGE_ID).unwrap().value(9), "09");
        let (values, length) = vector(&read[0], "feature").unwrap();
        assert_eq!((length, values[4]), (3, 2.0));
        assert!(!read[0].schema().field_with_name("feature").unwrap().is_nullable());
    }

    #[test]
    fn csv_has_its_types_guessed_and_its_ids_checked() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.csv"), "image_id,label,score\n7,cat,0.5\n008,dog,1.5\n").unwrap();
        let read = all(dir.path(), &["a.csv"]).unwrap();
        assert_eq!(text(&read[0], IMAGE_ID).unwrap().value(1), "008");
        assert_eq!(read[0].schema().field(2).data_type(), &DataType::Float64);
        fs::write(dir.path().join("b.csv"), "image_id,label,score\n008,cow,0.5\n").unwrap();
        let error = all(dir.path(), &["a.csv", "b.csv"]).unwrap_err().to_string();
        assert!(error.ends_with("b.csv: the image_id `008` stands twice"), "{error}");
    }

    #[test]
    fn what_is_wrong_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.parquet"), b"PAR1junk").unwrap();
        assert!(all(dir.path(), &["a.parquet"]).unwrap_err().to_string().contains("a.parquet: not a sound table"));
        parquet(&dir.path().join("b.parquet"), &RecordBatch::try_from_iter([("feature", lists(&[2, 2]))]).unwrap());
        parquet(&dir.path().join("c.parquet"), &RecordBatch::try_from_iter([("feature", lists(&[2, 3]))]).unwrap());
        let error = all(dir.path(), &["b.parquet", "c.parquet"]).unwrap_err().to_string();
        assert!(error.contains("c.parquet: the column `feature` has lists of 2 values and of others"), "{error}");
        let error =
            files(dir.path(), vec![Entry { path: "x.txt".into(), size: 1, modified_ns: 0 }]).unwrap_err().to_string();
        assert!(error.contains("no table among 1 files; tables end in parquet, csv"), "{error}");
    }
}
