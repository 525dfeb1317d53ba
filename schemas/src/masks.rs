//! `mask`: of each pixel of an image, the index of a class.
//!
//! In a table of images it says where the mask's file lies, in the data set whose paths `source` has, and what its bytes hash to: the bytes
//! stay there. A mask is of the stored image, before an orientation in Exif's data is applied. In a table of pixels it is the indices
//! themselves, `H x W` bytes an image. A null is an image without a mask.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, FixedSizeListArray, RecordBatch, StringArray, StructArray, UInt8Array, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, UInt64Type};

use crate::{SchemaError, column, meta, pixels};

/// The name of the column of masks.
pub const MASK: &str = "mask";
/// What a column of masks' places is.
const LOCATED: &str = "Struct{path, length, digest}";
/// What a column of masks' indices is.
const INDICES: &str = "FixedSizeList<UInt8> with a shape";

/// Where a mask's file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<'a> {
    /// Relative to the data set's root.
    pub path: &'a str,
    /// Number of bytes.
    pub length: u64,
    /// Fingerprint of the bytes, as text.
    pub digest: &'a str,
}

/// Each part is null where the mask is null: a query that asks for one part may not look at the mask.
fn parts() -> Fields {
    Fields::from(vec![
        Field::new("path", DataType::Utf8, true),
        Field::new("length", DataType::UInt64, true),
        Field::new("digest", DataType::Utf8, true),
    ])
}

/// The column of a table of images.
pub fn located_field() -> Field {
    meta::with(Field::new(MASK, DataType::Struct(parts()), true), meta::OF_FILE, "true")
}

/// Whether a column says where masks lie.
pub fn is_located(field: &Field) -> bool {
    let DataType::Struct(fields) = field.data_type() else { return false };
    let same = |(one, other): (&Arc<Field>, &Arc<Field>)| one.name() == other.name() && one.data_type() == other.data_type();
    field.name() == MASK && fields.len() == parts().len() && fields.iter().zip(&parts()).all(same)
}

/// The column for [`located_field`]; `None` stands for an image without a mask.
///
/// # Errors
/// Arrow refuses it (never).
pub fn locate<D: AsRef<str>>(masks: &[Option<(&str, u64, D)>]) -> Result<ArrayRef, SchemaError> {
    let present: NullBuffer = masks.iter().map(Option::is_some).collect::<Vec<bool>>().into();
    let paths: StringArray = masks.iter().map(|mask| mask.as_ref().map(|mask| mask.0)).collect();
    let lengths: UInt64Array = masks.iter().map(|mask| mask.as_ref().map(|mask| mask.1)).collect();
    let digests: StringArray = masks.iter().map(|mask| mask.as_ref().map(|mask| mask.2.as_ref())).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(paths), Arc::new(lengths), Arc::new(digests)];
    Ok(Arc::new(StructArray::try_new(parts(), columns, Some(present))?))
}

/// Where the masks of a batch's rows lie.
///
/// # Errors
/// The column is missing or has another type, or a mask lacks one of its values.
pub fn located(batch: &RecordBatch) -> Result<impl ExactSizeIterator<Item = Option<Located<'_>>>, SchemaError> {
    let array = column(batch, MASK)?;
    let wrong = || crate::column::wrong(MASK, LOCATED, array.data_type());
    let all = array.as_struct_opt().ok_or_else(wrong)?;
    let text = |name| all.column_by_name(name).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(wrong);
    let lengths = all.column_by_name("length").and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let (paths, lengths, digests) = (text("path")?, lengths.ok_or_else(wrong)?, text("digest")?);
    let lacks = |&row: &usize| {
        all.is_valid(row)
            && [paths.nulls(), lengths.nulls(), digests.nulls()].into_iter().flatten().any(|nulls| nulls.is_null(row))
    };
    if let Some(row) = (0..all.len()).find(lacks) {
        return Err(SchemaError::Null { column: MASK.to_owned(), row });
    }
    let one = |row: usize| Located { path: paths.value(row), length: lengths.value(row), digest: digests.value(row) };
    Ok((0..all.len()).map(move |row| all.is_valid(row).then(|| one(row))))
}

/// The column of a table of pixels, of masks of that size.
pub fn field(height: usize, width: usize) -> Field {
    pixels::tensor_field(MASK, &[height, width]).with_nullable(true)
}

/// Whether a column has the indices of masks of that size.
pub fn is_of(field: &Field, height: usize, width: usize) -> bool {
    let shape = meta::array::<usize, 2>(field, meta::SHAPE);
    let octets = matches!(field.data_type(), DataType::FixedSizeList(item, _) if item.data_type() == &DataType::UInt8);
    field.name() == MASK && octets && shape.is_ok_and(|shape| shape == [height, width])
}

/// The column for [`field`], from `N x H x W` bytes (no copy), of which those of images without a mask are of no meaning.
///
/// # Errors
/// There are not as many bytes.
pub fn array(bytes: Vec<u8>, present: Vec<bool>, height: usize, width: usize) -> Result<ArrayRef, SchemaError> {
    let item = Arc::new(Field::new("element", DataType::UInt8, false));
    let values = Arc::new(UInt8Array::from(bytes));
    let nulls = NullBuffer::from(present);
    Ok(Arc::new(FixedSizeListArray::try_new(item, (height * width) as i32, values, Some(nulls))?))
}

/// The `H x W` indices of each row's mask.
///
/// # Errors
/// The column is missing or has another type, or a mask has a null.
pub fn indices(batch: &RecordBatch) -> Result<impl ExactSizeIterator<Item = Option<&[u8]>>, SchemaError> {
    let array = column(batch, MASK)?;
    let wrong = || crate::column::wrong(MASK, INDICES, array.data_type());
    let list = array.as_fixed_size_list_opt().ok_or_else(wrong)?;
    let values = list.values().as_any().downcast_ref::<UInt8Array>().ok_or_else(wrong)?;
    let length = list.value_length() as usize;
    let range = move |row: usize| {
        let start = list.value_offset(row) as usize;
        start..start + length
    };
    if let Some(nulls) = values.nulls().filter(|nulls| nulls.null_count() > 0)
        && let Some(row) = (0..list.len()).find(|&row| list.is_valid(row) && range(row).any(|at| nulls.is_null(at)))
    {
        return Err(SchemaError::Null { column: MASK.to_owned(), row });
    }
    Ok((0..list.len()).map(move |row| list.is_valid(row).then(|| &values.values()[range(row)])))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int32Array};
    use arrow::compute::filter_record_batch;
    use arrow::datatypes::Schema;

    use super::*;
    use crate::digest::TableDigest;
    use crate::images;

    fn table(field: Field, column: ArrayRef) -> RecordBatch {
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap()
    }

    #[test]
    fn places_are_read_as_they_were_written() {
        let masks = [Some(("masks/a.png", 7, "d1")), None, Some(("masks/b.png", 0, "d2"))];
        let batch = table(located_field(), locate(&masks).unwrap());
        let read: Vec<Option<Located<'_>>> = located(&batch).unwrap().collect();
        let expected = masks.map(|mask| mask.map(|(path, length, digest)| Located { path, length, digest }));
        assert_eq!(read, expected);
        assert_eq!(located(&batch.slice(1, 2)).unwrap().collect::<Vec<_>>(), expected[1..]);
        assert!(batch[MASK].as_struct().columns().iter().all(|part| part.null_count() == 1), "SQL's mask['path'] is null");
        assert!(is_located(&located_field()) && images::describes_file(&located_field()));
        let renamed = located_field().with_name("segments");
        assert!(!is_located(&renamed) && !images::describes_file(&renamed), "a query that renames it keeps it");
        // Other bytes under the same path are another row.
        let other = [masks[0], None, Some(("masks/b.png", 0, "d3"))];
        let other = table(located_field(), locate(&other).unwrap());
        assert_ne!(TableDigest::of(&batch).unwrap(), TableDigest::of(&other).unwrap());
    }

    #[test]
    fn indices_are_read_as_they_were_written() {
        let bytes: Vec<u8> = (0..18).collect();
        let batch = table(field(2, 3), array(bytes.clone(), vec![true, false, true], 2, 3).unwrap());
        let expected = [Some(&bytes[..6]), None, Some(&bytes[12..])];
        assert_eq!(indices(&batch).unwrap().collect::<Vec<_>>(), expected);
        assert_eq!(indices(&batch.slice(1, 2)).unwrap().collect::<Vec<_>>(), expected[1..]);
        let kept = filter_record_batch(&batch, &BooleanArray::from(vec![false, true, true])).unwrap();
        assert_eq!(indices(&kept).unwrap().collect::<Vec<_>>(), expected[1..]);
        assert!(is_of(&field(2, 3), 2, 3) && !is_of(&field(2, 3), 3, 2) && !is_of(&located_field(), 2, 3));
        assert!(array(bytes, vec![true], 2, 3).is_err());
    }

    #[test]
    fn other_columns_are_refused() {
        let other = table(Field::new(MASK, DataType::Int32, true), Arc::new(Int32Array::from(vec![1])));
        let said = |error: SchemaError| error.to_string();
        let message = "column `mask` should be Struct{path, length, digest}, found Int32";
        assert_eq!(located(&other).err().map(said).unwrap(), message);
        let message = "column `mask` should be FixedSizeList<UInt8> with a shape, found Int32";
        assert_eq!(indices(&other).err().map(said).unwrap(), message);
        assert!(located(&other.project(&[]).unwrap()).is_err());
        // Another program may write a mask without its digest.
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["a", "b"])),
            Arc::new(UInt64Array::from(vec![1, 2])),
            Arc::new(StringArray::from(vec![Some("d"), None])),
        ];
        let places = StructArray::try_new(parts(), columns, None).unwrap();
        let batch = table(Field::new(MASK, places.data_type().clone(), true), Arc::new(places));
        assert_eq!(located(&batch).err(), Some(SchemaError::Null { column: MASK.to_owned(), row: 1 }));
        assert_eq!(located(&batch.slice(0, 1)).unwrap().len(), 1);
    }
}
