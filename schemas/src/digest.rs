//! Fingerprints of tables that do not depend on the order of rows, nor on how they are cut into batches and parts.
//!
//! Each value is hashed together with its row's identity (the `image_id` where there is one, else the whole row), and a
//! column's digest is the sum of those hashes. Sums of parts are digests of the whole, so that a part is hashed once.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{AddAssign, SubAssign};

use arrow::array::{
    Array, AsArray, BinaryViewArray, FixedSizeListArray, ListArray, RecordBatch, StringViewArray, StructArray,
};
use arrow::datatypes::DataType;

use crate::{IMAGE_ID, SchemaError, meta};

/// An order-independent sum of 256-bit hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct Digest([u64; 4]);

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.wrapping_add(theirs);
        }
    }
}

impl SubAssign for Digest {
    fn sub_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.wrapping_sub(theirs);
        }
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        let mut lanes = [0; 4];
        for (lane, bytes) in lanes.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            *lane = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
        }
        Self(lanes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|lane| write!(f, "{lane:016x}"))
    }
}

impl std::str::FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no digest of 64 hexadecimal digits");
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut lanes = [0; 4];
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = u64::from_str_radix(&text[i * 16..(i + 1) * 16], 16).map_err(|_| bad())?;
        }
        Ok(Self(lanes))
    }
}

/// The digests of a table's columns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableDigest {
    /// How many rows.
    pub rows: u64,
    /// A digest a column; columns that only say where something lies are left out.
    pub columns: BTreeMap<String, Digest>,
}

impl TableDigest {
    /// Adds other rows of the same table.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        for (name, digest) in &other.columns {
            *self.columns.entry(name.clone()).or_default() += *digest;
        }
    }

    /// The digests of a batch's rows.
    ///
    /// # Errors
    /// A column has a type that no table of Tessera has (a map, a union, a dictionary).
    pub fn of(batch: &RecordBatch) -> Result<Self, SchemaError> {
        let schema = batch.schema_ref();
        let digested: Vec<usize> =
            (0..batch.num_columns()).filter(|&i| !schema.field(i).metadata().contains_key(meta::UNDIGESTED)).collect();
        let mut sums = vec![Digest::default(); digested.len()];
        let id = batch.column_by_name(IMAGE_ID);
        for row in 0..batch.num_rows() {
            let mut identity = blake3::Hasher::new();
            match id {
                Some(id) => value(&mut identity, id.as_ref(), row)?,
                None => {
                    for &i in &digested {
                        value(&mut identity, batch.column(i).as_ref(), row)?;
                    }
                }
            }
            for (sum, &i) in sums.iter_mut().zip(&digested) {
                let mut hasher = identity.clone();
                if id.is_some() {
                    value(&mut hasher, batch.column(i).as_ref(), row)?;
                }
                *sum += hasher.finalize().into();
            }
        }
        let columns = digested.iter().zip(sums).map(|(&i, sum)| (schema.field(i).name().clone(), sum)).collect();
        Ok(Self { rows: batch.num_rows() as u64, columns })
    }
}

/// A fingerprint of each row's values in some columns; columns that are not there, or have no digest, have no part in it.
///
/// # Errors
/// A column has a type that no table of Tessera has.
pub fn rows<'a>(batch: &RecordBatch, columns: impl IntoIterator<Item = &'a String>) -> Result<Vec<Digest>, SchemaError> {
    let mut names: Vec<&str> = columns.into_iter().map(String::as_str).collect();
    names.sort_unstable();
    let digested = |name: &&str| {
        batch.schema_ref().field_with_name(name).is_ok_and(|field| !field.metadata().contains_key(meta::UNDIGESTED))
    };
    let columns: Vec<_> = names.into_iter().filter(digested).filter_map(|name| batch.column_by_name(name)).collect();
    let one = |row: usize| {
        let mut hasher = blake3::Hasher::new();
        columns.iter().try_for_each(|column| value(&mut hasher, column.as_ref(), row))?;
        Ok(hasher.finalize().into())
    };
    (0..batch.num_rows()).map(one).collect()
}

/// Feeds one value to the hasher, with enough framing that different values never feed the same bytes.
fn value(hasher: &mut blake3::Hasher, array: &dyn Array, row: usize) -> Result<(), SchemaError> {
    if array.is_null(row) {
        hasher.update(&[0]);
        return Ok(());
    }
    hasher.update(&[1]);
    let framed = |hasher: &mut blake3::Hasher, bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    match array.data_type() {
        DataType::Null => {}
        DataType::Boolean => {
            hasher.update(&[u8::from(array.as_boolean().value(row))]);
        }
        DataType::Utf8 => framed(hasher, array.as_string::<i32>().value(row).as_bytes()),
        DataType::LargeUtf8 => framed(hasher, array.as_string::<i64>().value(row).as_bytes()),
        DataType::Utf8View => {
            framed(hasher, array.as_any().downcast_ref::<StringViewArray>().expect("its type").value(row).as_bytes());
        }
        DataType::Binary => framed(hasher, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => framed(hasher, array.as_binary::<i64>().value(row)),
        DataType::BinaryView => {
            framed(hasher, array.as_any().downcast_ref::<BinaryViewArray>().expect("its type").value(row));
        }
        DataType::FixedSizeBinary(_) => framed(hasher, array.as_fixed_size_binary().value(row)),
        DataType::FixedSizeList(_, _) => {
            let list: &FixedSizeListArray = array.as_fixed_size_list();
            let start = list.value_offset(row) as usize;
            range(hasher, list.values().as_ref(), start, start + list.value_length() as usize)?;
        }
        DataType::List(_) => {
            let list: &ListArray = array.as_list();
            let offsets = list.value_offsets();
            range(hasher, list.values().as_ref(), offsets[row] as usize, offsets[row + 1] as usize)?;
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let offsets = list.value_offsets();
            range(hasher, list.values().as_ref(), offsets[row] as usize, offsets[row + 1] as usize)?;
        }
        DataType::Struct(_) => {
            let fields: &StructArray = array.as_struct();
            for field in fields.columns() {
                value(hasher, field.as_ref(), row)?;
            }
        }
        other => match other.primitive_width() {
            Some(width) => {
                let data = array.to_data();
                let at = (data.offset() + row) * width;
                hasher.update(&data.buffers()[0].as_slice()[at..at + width]);
            }
            None => return Err(SchemaError::Build(format!("a column of type {other} cannot be stored"))),
        },
    }
    Ok(())
}

/// Feeds the values `start..end`: at once where they lie side by side and none of them is null, else one by one. Values outside of the
/// range make no difference.
fn range(hasher: &mut blake3::Hasher, values: &dyn Array, start: usize, end: usize) -> Result<(), SchemaError> {
    hasher.update(&((end - start) as u64).to_le_bytes());
    let has_null = values.nulls().is_some_and(|nulls| nulls.slice(start, end - start).null_count() > 0);
    match values.data_type().primitive_width() {
        Some(width) if !has_null => {
            let data = values.to_data();
            let at = data.offset() * width;
            hasher.update(&data.buffers()[0].as_slice()[at + start * width..at + end * width]);
            Ok(())
        }
        _ => (start..end).try_for_each(|row| value(hasher, values, row)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, FixedSizeListArray, Int32Array, StringArray, UInt8Array};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::Field;
    use proptest::prelude::*;

    use super::*;
    use crate::features;

    fn table(rows: &[(String, Vec<i32>)]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.0)));
        let first: ArrayRef = Arc::new(rows.iter().map(|r| r.1.first().copied()).collect::<Int32Array>());
        let vector = features::array(rows.iter().flat_map(|r| [r.1.len() as f32, 0.5]).collect(), 2);
        RecordBatch::try_from_iter([(IMAGE_ID, ids), ("first", first), ("feature", vector)]).unwrap()
    }

    /// The bytes under a null, which a file leaves out, make no difference, and neither do nulls of other rows.
    #[test]
    fn a_lists_digest_is_of_its_own_values() {
        let of = |values: UInt8Array, present: &[bool]| {
            let item = Arc::new(Field::new("element", DataType::UInt8, true));
            let lists = FixedSizeListArray::try_new(item, 2, Arc::new(values), Some(NullBuffer::from(present))).unwrap();
            let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..present.len()).map(|row| row.to_string())));
            RecordBatch::try_from_iter([(IMAGE_ID, ids), ("mask", Arc::new(lists) as ArrayRef)]).unwrap()
        };
        let computed = of(UInt8Array::from(vec![1, 2, 9, 9, 5, 6]), &[true, false, true]);
        let stored = of(UInt8Array::from(vec![Some(1), Some(2), None, None, Some(5), Some(6)]), &[true, false, true]);
        let whole = TableDigest::of(&computed).unwrap();
        assert_eq!(TableDigest::of(&stored).unwrap(), whole);
        let mut sum = TableDigest::default();
        (0..3).for_each(|row| sum.add(&TableDigest::of(&stored.slice(row, 1)).unwrap()));
        assert_eq!(sum, whole);
        let holes = of(UInt8Array::from(vec![Some(1), None, None, None, Some(5), Some(6)]), &[true, false, true]);
        assert_ne!(TableDigest::of(&holes).unwrap(), whole);
    }

    proptest! {
        #[test]
        fn neither_order_nor_layout_matters(
            rows in prop::collection::vec(("[a-z]{0,3}", prop::collection::vec(any::<i32>(), 0..3)), 1..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = table(&rows);
            let cut = cut.index(rows.len());
            let mut sum = TableDigest::of(&whole.slice(cut, rows.len() - cut)).unwrap();
            sum.add(&TableDigest::of(&whole.slice(0, cut)).unwrap());
            prop_assert_eq!(&sum, &TableDigest::of(&whole).unwrap());
            let reversed: Vec<_> = rows.iter().rev().cloned().collect();
            prop_assert_eq!(&sum, &TableDigest::of(&table(&reversed)).unwrap());
        }
    }

    #[test]
    fn a_value_belongs_to_its_row() {
        let row = |id: &str, value| (id.to_owned(), vec![value]);
        let one = TableDigest::of(&table(&[row("a", 1), row("b", 2)])).unwrap();
        let swapped = TableDigest::of(&table(&[row("a", 2), row("b", 1)])).unwrap();
        assert_ne!(one.columns["first"], swapped.columns["first"]);
        assert_eq!(one.columns["feature"], swapped.columns["feature"]);
        assert_eq!(one.columns[IMAGE_ID], swapped.columns[IMAGE_ID]);
    }

    #[test]
    fn without_an_id_the_row_is_the_identity() {
        let table = |xs: [i32; 2], ys: [i32; 2]| {
            let column = |v: [i32; 2]| -> ArrayRef { Arc::new(Int32Array::from(v.to_vec())) };
            TableDigest::of(&RecordBatch::try_from_iter([("x", column(xs)), ("y", column(ys))]).unwrap()).unwrap()
        };
        assert_ne!(table([1, 1], [2, 3]), table([1, 2], [1, 3]));
        assert_ne!(table([1, 2], [3, 4]), table([1, 2], [4, 3]));
        assert_eq!(table([1, 2], [3, 4]), table([2, 1], [4, 3]));
    }

    #[test]
    fn text_round_trips() {
        let digest = Digest::from(blake3::hash(b"tessera"));
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("abc".parse::<Digest>().is_err());
    }
}
