//! A file's columns as the table has them: one kind of text, one kind of vector.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, FixedSizeListArray, Float32Array, OffsetSizeTrait};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type};
use tessera_schemas::{IMAGE_ID, features};

/// A field's type in the table, as far as its type in the file decides that: lists of floats stay lists until [`width`] says
/// more.
pub fn settle(field: &Field) -> Result<Field, String> {
    let kind = field.data_type();
    if field.name() == IMAGE_ID {
        return if is_text(kind) || kind.is_integer() {
            Ok(Field::new(IMAGE_ID, DataType::Utf8, false))
        } else {
            Err(format!("column `{IMAGE_ID}` should be text or whole numbers, found {kind}"))
        };
    }
    Ok(match kind {
        DataType::FixedSizeList(item, width) if is_vector(item, *width) => vector_field(field, *width as usize),
        kind if is_text(kind) => field.clone().with_data_type(DataType::Utf8),
        _ => field.clone(),
    })
}

/// The same column, as vectors of that length.
pub fn vector_field(field: &Field, width: usize) -> Field {
    // The type that an extension's name stands for is gone.
    let metadata = field.metadata().iter().filter(|(key, _)| !key.starts_with("ARROW:extension:"));
    features::field(field.name(), width).with_metadata(metadata.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// Whether it is a column of lists of floats, whose length the rows decide.
pub fn is_open(kind: &DataType) -> bool {
    matches!(kind, DataType::List(item) | DataType::LargeList(item) if is_float(item))
}

/// Whether a file's column can be read as the table's.
pub fn fits(found: &Field, target: &Field) -> bool {
    let vector = |kind: &DataType| matches!(kind, DataType::FixedSizeList(item, width) if is_vector(item, *width));
    found.data_type() == &DataType::Null && target.is_nullable()
        || is_open(found.data_type()) && vector(target.data_type())
        || settle(found).is_ok_and(|settled| settled.data_type() == target.data_type())
}

/// The one length of all lists; none if they differ, or are empty.
pub fn width(lists: &ArrayRef) -> Option<usize> {
    fn of<O: OffsetSizeTrait>(lists: &ArrayRef) -> Option<usize> {
        let lists = lists.as_list_opt::<O>()?;
        let mut rows = (0..lists.len()).filter(|&row| lists.is_valid(row)).map(|row| lists.value_length(row).as_usize());
        let first = rows.next().filter(|&first| first > 0)?;
        rows.all(|length| length == first).then_some(first)
    }
    of::<i32>(lists).or_else(|| of::<i64>(lists))
}

/// A column as the table has it.
///
/// # Errors
/// A vector is missing, incomplete or of another length; the message names the row, counted from `row`.
pub fn column(array: &ArrayRef, field: &Field, row: u64) -> Result<ArrayRef, String> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    match field.data_type() {
        DataType::FixedSizeList(item, width) if is_vector(item, *width) => vectors(array, field.name(), item, *width, row),
        kind if kind == array.data_type() => Ok(array.clone()),
        kind => cast_with_options(array, kind, &strict).map_err(|error| format!("column `{}`: {error}", field.name())),
    }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// Whether lists of such a length are vectors: of nothing, they stay what they are.
fn is_vector(item: &Field, width: i32) -> bool {
    is_float(item) && width > 0
}

fn is_float(item: &Field) -> bool {
    item.data_type().is_floating()
}

fn vectors(array: &ArrayRef, name: &str, item: &FieldRef, width: i32, row: u64) -> Result<ArrayRef, String> {
    if let Some(missing) = array.logical_nulls().and_then(|nulls| (0..nulls.len()).find(|&at| nulls.is_null(at))) {
        return Err(format!("row {}: `{name}` is null where there should be {width} numbers", row + missing as u64));
    }
    let values = match array.data_type() {
        DataType::FixedSizeList(_, found) if *found == width => {
            let lists = array.as_fixed_size_list();
            lists.values().slice(lists.value_offset(0) as usize, lists.len() * width as usize)
        }
        DataType::List(_) => even::<i32>(array, name, width, row)?,
        DataType::LargeList(_) => even::<i64>(array, name, width, row)?,
        other => return Err(format!("column `{name}` should be lists of {width} floats, found {other}")),
    };
    if let Some(missing) = values.nulls().and_then(|nulls| (0..nulls.len()).find(|&at| nulls.is_null(at))) {
        return Err(format!("row {}: `{name}` has a null among its numbers", row + (missing / width as usize) as u64));
    }
    let values: Float32Array = match values.data_type() {
        DataType::Float16 => values.as_primitive::<Float16Type>().unary(|value| value.to_f32()),
        DataType::Float64 => values.as_primitive::<Float64Type>().unary(|value| value as f32),
        _ => Float32Array::new(values.as_primitive::<Float32Type>().values().clone(), None),
    };
    Ok(Arc::new(FixedSizeListArray::new(item.clone(), width, Arc::new(values), None)))
}

/// The values of lists that all have one length.
fn even<O: OffsetSizeTrait>(array: &ArrayRef, name: &str, width: i32, row: u64) -> Result<ArrayRef, String> {
    let lists = array.as_list::<O>();
    let offsets = lists.value_offsets();
    for (at, pair) in offsets.windows(2).enumerate() {
        let length = pair[1].as_usize() - pair[0].as_usize();
        if length != width as usize {
            return Err(format!("row {}: `{name}` has {length} numbers, and the rows before it {width}", row + at as u64));
        }
    }
    let (start, end) = (offsets[0].as_usize(), offsets[lists.len()].as_usize());
    Ok(lists.values().slice(start, end - start))
}

#[cfg(test)]
mod tests {
    use arrow::array::{LargeListArray, ListArray};

    use super::*;

    fn lists(rows: &[Option<&[f32]>]) -> ArrayRef {
        let rows = rows.iter().map(|row| row.map(|row| row.iter().map(|&value| Some(value)).collect::<Vec<_>>()));
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
    }

    fn to_vectors(array: &ArrayRef, width: usize, row: u64) -> Result<Vec<u32>, String> {
        let array = column(array, &features::field("feature", width), row)?;
        assert_eq!(array.data_type(), features::field("feature", width).data_type());
        assert_eq!(array.null_count(), 0);
        Ok(array.as_fixed_size_list().values().as_primitive::<Float32Type>().values().iter().map(|v| v.to_bits()).collect())
    }

    #[test]
    fn one_length_makes_vectors() {
        assert_eq!(width(&lists(&[Some(&[1., 2.]), None, Some(&[3., 4.])])), Some(2));
        assert_eq!(width(&lists(&[Some(&[1., 2.]), Some(&[3.])])), None);
        assert_eq!(width(&lists(&[Some(&[]), Some(&[])])), None);
        let large = LargeListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(1.), Some(2.), Some(3.)])]);
        assert_eq!(width(&(Arc::new(large) as ArrayRef)), Some(3));
    }

    #[test]
    fn vectors_keep_their_bits_in_slices_too() {
        let odd = f32::from_bits(0x7fc0_1234);
        let all = lists(&[Some(&[9., 9.]), Some(&[odd, -0.0]), Some(&[f32::INFINITY, 1e-45])]);
        let found = to_vectors(&all.slice(1, 2), 2, 0).unwrap();
        assert_eq!(found, [0x7fc0_1234, (-0.0_f32).to_bits(), f32::INFINITY.to_bits(), 1]);
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(
            [Some([Some(9.)]), Some([Some(0.1)]), Some([Some(1e300)])],
            1,
        ));
        assert_eq!(to_vectors(&fixed.slice(1, 2), 1, 0).unwrap(), [0.1_f32.to_bits(), f32::INFINITY.to_bits()]);
    }

    #[test]
    fn uneven_rows_are_named_from_the_files_start() {
        let error = to_vectors(&lists(&[Some(&[1., 2.]), Some(&[3.])]), 2, 100).unwrap_err();
        assert_eq!(error, "row 101: `feature` has 1 numbers, and the rows before it 2");
        let error = to_vectors(&lists(&[Some(&[1., 2.]), None]), 2, 5).unwrap_err();
        assert_eq!(error, "row 6: `feature` is null where there should be 2 numbers");
        let hole: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>([
            Some([Some(1.), Some(2.)]),
            Some([Some(3.), None]),
        ]));
        assert_eq!(to_vectors(&hole, 2, 0).unwrap_err(), "row 1: `feature` has a null among its numbers");
    }
}
