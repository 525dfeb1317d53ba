//! Parquet as Hugging Face's `datasets` loads it: images with their names, classes by number and name.

use std::collections::BTreeSet;
use std::io::{BufWriter, IntoInnerError};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BinaryBuilder, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::{Map, Value, json};

use super::super::NewFile;
use super::{Images, Wanted};
use crate::watch::progress::Bar;

/// Images of a row group, as `datasets` writes them.
const GROUP_ROWS: usize = 100;
/// Columns that say where bytes lay, which are here now.
const LEFT_AWAY: [&str; 2] = ["source", "digest"];
const IMAGE: &str = "image";

/// Writes all images into one file.
pub(super) fn write(all: &Images<'_>, to: &Path, wanted: &Wanted, bar: &Bar) -> Result<u64> {
    let file = NewFile::create(to, wanted.force)?;
    let classes: Option<Vec<String>> = all.classes.as_ref().map(|classes| {
        let names: BTreeSet<&str> = classes.iter().flatten().collect();
        names.into_iter().map(str::to_owned).collect()
    });
    let by = wanted.by.as_deref().filter(|_| classes.is_some());
    let schema = schema(all, by, classes.as_deref());
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let sink = BufWriter::with_capacity(1 << 20, file.file()?);
    let mut writer = ArrowWriter::try_new(sink, schema.clone(), Some(properties))?;
    let (mut bytes, mut names, mut rows) = (BinaryBuilder::new(), Vec::new(), Vec::new());
    let count = all.each(bar, |image| {
        bytes.append_value(image.bytes);
        names.push(image.file_name());
        rows.push(image.row);
        if rows.len() == GROUP_ROWS {
            writer.write(&batch(all, &schema, by, classes.as_deref(), &mut bytes, &mut names, &mut rows)?)?;
            writer.flush()?;
        }
        Ok(())
    })?;
    writer.write(&batch(all, &schema, by, classes.as_deref(), &mut bytes, &mut names, &mut rows)?)?;
    writer.into_inner()?.into_inner().map_err(IntoInnerError::into_error)?;
    file.finish()?;
    Ok(count)
}

fn image_fields() -> Fields {
    Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
}

/// The columns, and what `datasets` is to know of them.
fn schema(all: &Images<'_>, by: Option<&str>, classes: Option<&[String]>) -> SchemaRef {
    let mut fields = vec![Field::new(IMAGE, DataType::Struct(image_fields()), true)];
    let mut features = Map::new();
    features.insert(IMAGE.to_owned(), json!({ "_type": "Image" }));
    for field in all.rows.schema().fields() {
        let name = field.name();
        if LEFT_AWAY.contains(&name.as_str()) || name == IMAGE {
            continue;
        }
        if Some(name.as_str()) == by {
            fields.push(Field::new(name, DataType::Int64, true));
            features.insert(name.clone(), json!({ "names": classes.unwrap_or_default(), "_type": "ClassLabel" }));
        } else {
            fields.push(Field::new(name, field.data_type().clone(), true));
            if let Some(kind) = feature(field.data_type()) {
                features.insert(name.clone(), json!({ "dtype": kind, "_type": "Value" }));
            } else {
                fields.pop();
            }
        }
    }
    let known = json!({ "info": { "features": Value::Object(features) } });
    Arc::new(Schema::new_with_metadata(fields, [("huggingface".to_owned(), known.to_string())].into()))
}

/// What `datasets` calls a type; none of one that it has no plain name for.
fn feature(kind: &DataType) -> Option<&'static str> {
    Some(match kind {
        DataType::Utf8 => "string",
        DataType::Boolean => "bool",
        DataType::Int8 => "int8",
        DataType::Int16 => "int16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt8 => "uint8",
        DataType::UInt16 => "uint16",
        DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float32 => "float32",
        DataType::Float64 => "float64",
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some(_)) => "timestamp[us, tz=+00:00]",
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None) => "timestamp[us]",
        _ => return None,
    })
}

/// The rows that were gathered.
fn batch(
    all: &Images<'_>,
    schema: &SchemaRef,
    by: Option<&str>,
    classes: Option<&[String]>,
    bytes: &mut BinaryBuilder,
    names: &mut Vec<String>,
    rows: &mut Vec<usize>,
) -> Result<RecordBatch> {
    let start = rows.first().copied().unwrap_or(0);
    let here = all.rows.slice(start, rows.len());
    let path: ArrayRef = Arc::new(StringArray::from(std::mem::take(names)));
    let image = StructArray::try_new(image_fields(), vec![Arc::new(bytes.finish()), path], None)?;
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef> {
        if field.name() == IMAGE {
            return Ok(Arc::new(image.clone()));
        }
        if Some(field.name().as_str()) == by {
            let known =
                all.classes.as_ref().map(|known| known.slice(start, rows.len())).unwrap_or_else(|| StringArray::new_null(0));
            let number = |class: Option<&str>| {
                class.and_then(|class| classes?.binary_search_by(|known| known.as_str().cmp(class)).ok()).map(|at| at as i64)
            };
            return Ok(Arc::new(known.iter().map(number).collect::<Int64Array>()));
        }
        Ok(here.column(here.schema().index_of(field.name())?).clone())
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    rows.clear();
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
