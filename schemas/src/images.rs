//! `images`: which images there are and where their bytes lie; the bytes stay there.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::{IMAGE_ID, SchemaError, column, masks, meta, text};

/// Where an image's bytes lie: a whole file, a range of one, or a row of a Parquet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source<'a> {
    /// Relative to the data set's root.
    pub path: &'a str,
    /// First byte of a range; `None` for a whole file, or a row of one.
    pub offset: Option<u64>,
    /// Number of bytes, where it is known before reading: the engine bounds its memory with it.
    pub length: Option<u64>,
    /// Row of a Parquet file.
    pub row: Option<u64>,
}

/// One image, as [`batch`] takes it.
#[derive(Debug, Clone)]
pub struct Image<'a> {
    /// Stable and relative to the data set.
    pub image_id: &'a str,
    /// Where the bytes lie.
    pub source: Source<'a>,
    /// The class, where the data set has one.
    pub label: Option<&'a str>,
    /// Fingerprint of the bytes, as text.
    pub digest: Cow<'a, str>,
    /// What its file says of itself.
    pub about: About<'a>,
}

/// What an image's file says of itself, as far as it could be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// Pixels a row, as they are stored: before an orientation is applied.
    pub width: Option<i64>,
    /// Rows of pixels, as they are stored.
    pub height: Option<i64>,
    /// What the bytes are, whatever the file's ending: `jpeg`, `png`, ….
    pub format: Option<&'a str>,
    /// The file's length.
    pub bytes: Option<i64>,
    /// When the file was last written to, in microseconds since 1970.
    pub modified_us: Option<i64>,
}

/// The column of the time at which a file was written.
pub const MODIFIED: &str = "modified";
/// The time zone of `modified`.
const UTC: &str = "+00:00";

/// The columns of [`About`]. They are marked, for they describe a file, and say nothing of pixels that are made of it.
fn about_fields() -> [Field; 5] {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
    let field = |name, kind| meta::with(Field::new(name, kind, true), meta::OF_FILE, "true");
    // Whole numbers of 64 bits: width * height fits, and so does width - height.
    [
        field("width", DataType::Int64),
        field("height", DataType::Int64),
        field("format", DataType::Utf8),
        field("bytes", DataType::Int64),
        field(MODIFIED, time),
    ]
}

/// Whether a column describes a file rather than the image: under the name that it has here, for one that a query renamed is
/// meant to stay. Where a [mask](masks) lies describes a file, too.
pub fn describes_file(field: &Field) -> bool {
    let is_known = |name: &str| name == masks::MASK || about_fields().iter().any(|about| about.name() == name);
    field.metadata().contains_key(meta::OF_FILE) && is_known(field.name())
}

fn source_fields() -> Fields {
    Fields::from(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("offset", DataType::UInt64, true),
        Field::new("length", DataType::UInt64, true),
        Field::new("row", DataType::UInt64, true),
    ])
}

/// `image_id`, `source`, `label`, `digest`, and what the file says of itself: `width`, `height`, `format`, `bytes`, `modified`.
pub fn schema() -> SchemaRef {
    let source = Field::new("source", DataType::Struct(source_fields()), false);
    let mut fields = vec![
        Field::new(IMAGE_ID, DataType::Utf8, false),
        meta::with(source, meta::UNDIGESTED, "true"),
        Field::new("label", DataType::Utf8, true),
        Field::new("digest", DataType::Utf8, false),
    ];
    fields.extend(about_fields());
    Arc::new(Schema::new(fields))
}

/// Builds a batch of [`schema`].
///
/// # Errors
/// Arrow refuses the columns (never, for a well-formed iterator).
pub fn batch<'a>(images: impl IntoIterator<Item = Image<'a>>) -> Result<RecordBatch, SchemaError> {
    let images: Vec<Image<'a>> = images.into_iter().collect();
    let texts =
        |get: fn(&Image<'a>) -> &'a str| -> ArrayRef { Arc::new(StringArray::from_iter_values(images.iter().map(get))) };
    let numbers = |get: fn(&Source<'a>) -> Option<u64>| -> ArrayRef {
        Arc::new(images.iter().map(|image| get(&image.source)).collect::<UInt64Array>())
    };
    let source = StructArray::try_new(
        source_fields(),
        vec![texts(|i| i.source.path), numbers(|s| s.offset), numbers(|s| s.length), numbers(|s| s.row)],
        None,
    )?;
    let label: ArrayRef = Arc::new(images.iter().map(|image| image.label).collect::<StringArray>());
    let about = |get: fn(&About<'a>) -> Option<i64>| images.iter().map(move |image| get(&image.about));
    let whole = |get| -> ArrayRef { Arc::new(about(get).collect::<Int64Array>()) };
    let format: ArrayRef = Arc::new(images.iter().map(|image| image.about.format).collect::<StringArray>());
    let modified: ArrayRef = Arc::new(about(|a| a.modified_us).collect::<TimestampMicrosecondArray>().with_timezone(UTC));
    let columns = vec![
        texts(|i| i.image_id),
        Arc::new(source),
        label,
        Arc::new(StringArray::from_iter_values(images.iter().map(|image| &image.digest))),
        whole(|a| a.width),
        whole(|a| a.height),
        format,
        whole(|a| a.bytes),
        modified,
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// The `source` column, row by row.
///
/// # Errors
/// The column is missing or has another type.
pub fn sources(batch: &RecordBatch) -> Result<impl ExactSizeIterator<Item = Source<'_>>, SchemaError> {
    let array = column(batch, "source")?;
    let wrong = || crate::column::wrong("source", "Struct{path, offset, length, row}", array.data_type());
    let parts = array.as_any().downcast_ref::<StructArray>().ok_or_else(wrong)?;
    let path = parts.column_by_name("path").and_then(|c| c.as_any().downcast_ref::<StringArray>()).ok_or_else(wrong)?;
    let number = |name| parts.column_by_name(name).and_then(|c| c.as_any().downcast_ref::<UInt64Array>()).ok_or_else(wrong);
    let (offset, length, row) = (number("offset")?, number("length")?, number("row")?);
    fn get(array: &UInt64Array, i: usize) -> Option<u64> {
        array.is_valid(i).then(|| array.value(i))
    }
    Ok((0..parts.len()).map(move |i| Source {
        path: path.value(i),
        offset: get(offset, i),
        length: get(length, i),
        row: get(row, i),
    }))
}

/// The `image_id` column.
///
/// # Errors
/// The column is missing or has another type.
pub fn ids(batch: &RecordBatch) -> Result<&StringArray, SchemaError> {
    text(batch, IMAGE_ID)
}
