//! Numbers for the groups of rows.
//!
//! Clusters and classes are few, and clusters are whole numbers that lie close together. So a value finds its number in an array where it
//! can, and by hashing where it must; and so do pairs of numbers, where rows are grouped by several columns.

mod pairs;
mod text;
mod whole;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, BooleanArray, StringViewArray};
use arrow::datatypes::{
    DataType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::common::internal_err;
use datafusion::error::Result;

use pairs::Pairs;
use text::Text;
use whole::Whole;

/// What stands in an array where no group is yet.
const NONE: u32 = u32::MAX;

/// Whether groups by values of a type can be numbered. Values of these are of one group if and only if they are equal: zeros with signs
/// and values that are no numbers are not told apart everywhere.
pub fn has_groups(kind: &DataType) -> bool {
    let is_text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    is_text || kind.is_integer() || matches!(kind, DataType::Boolean | DataType::Date32)
}

/// The groups that were seen, numbered from 0 as they came.
#[derive(Debug)]
pub struct Groups {
    columns: Vec<Column>,
    /// For each column but the first, the groups by all columns up to it.
    pairs: Vec<Pairs>,
    /// Numbers of the rows of one column.
    numbers: Vec<usize>,
}

impl Groups {
    /// No groups so far, by columns of such types, of which there is one at least.
    ///
    /// # Errors
    /// A type [has no groups](has_groups).
    pub fn new(kinds: &[DataType]) -> Result<Self> {
        let columns = kinds.iter().map(Column::new).collect::<Result<Vec<_>>>()?;
        let pairs = kinds.iter().skip(1).map(|_| Pairs::default()).collect();
        Ok(Self { columns, pairs, numbers: Vec::new() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self.pairs.last() {
            Some(pairs) => pairs.parts.len(),
            None => self.columns.iter().map(Column::len).sum(),
        }
    }

    /// The groups of some rows, in place of what `ids` held.
    pub fn intern(&mut self, columns: &[ArrayRef], ids: &mut Vec<usize>) {
        ids.clear();
        for (at, (known, values)) in self.columns.iter_mut().zip(columns).enumerate() {
            match at.checked_sub(1).and_then(|at| self.pairs.get_mut(at)) {
                None => known.number(values, ids),
                Some(pairs) => {
                    self.numbers.clear();
                    known.number(values, &mut self.numbers);
                    pairs.number(known.len(), ids, &self.numbers);
                }
            }
        }
    }

    /// The values of each group, in the order of their numbers: an array a column.
    pub fn values(&self) -> Vec<ArrayRef> {
        let mut numbers: Vec<u32> = (0..self.len() as u32).collect();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for at in (0..self.columns.len()).rev() {
            let own = match at.checked_sub(1).and_then(|at| self.pairs.get(at)) {
                Some(pairs) => {
                    let parts = numbers.iter().map(|&number| pairs.parts[number as usize]);
                    let (before, own): (Vec<u32>, Vec<u32>) = parts.unzip();
                    numbers = before;
                    own
                }
                None => std::mem::take(&mut numbers),
            };
            arrays.push(self.columns[at].values(&own));
        }
        arrays.reverse();
        arrays
    }

    /// Bytes that they take.
    pub fn size(&self) -> usize {
        let columns = self.columns.iter().map(Column::size).sum::<usize>();
        columns + self.pairs.iter().map(Pairs::size).sum::<usize>() + self.numbers.capacity() * size_of::<usize>()
    }
}

/// The values of a column.
#[derive(Debug)]
enum Column {
    Whole(DataType, Whole),
    Text(DataType, Text),
}

impl Column {
    fn new(kind: &DataType) -> Result<Self> {
        match kind {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(Self::Text(kind.clone(), Text::default())),
            kind if has_groups(kind) => Ok(Self::Whole(kind.clone(), Whole::default())),
            kind => internal_err!("values of type {kind} have no numbers"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Whole(_, whole) => whole.values.len(),
            Self::Text(_, text) => text.values.len(),
        }
    }

    fn number(&mut self, values: &ArrayRef, numbers: &mut Vec<usize>) {
        match self {
            Self::Text(DataType::Utf8View, text) => text.number_views(values.as_string_view(), numbers),
            Self::Text(DataType::LargeUtf8, text) => text.number(values.as_string::<i64>(), numbers),
            Self::Text(_, text) => text.number(values.as_string::<i32>(), numbers),
            Self::Whole(kind, whole) => match kind {
                DataType::Int8 => whole.number::<Int8Type>(values, i64::from, numbers),
                DataType::Int16 => whole.number::<Int16Type>(values, i64::from, numbers),
                DataType::Int32 => whole.number::<Int32Type>(values, i64::from, numbers),
                DataType::Date32 => whole.number::<Date32Type>(values, i64::from, numbers),
                DataType::Int64 => whole.number::<Int64Type>(values, |value| value, numbers),
                DataType::UInt8 => whole.number::<UInt8Type>(values, i64::from, numbers),
                DataType::UInt16 => whole.number::<UInt16Type>(values, i64::from, numbers),
                DataType::UInt32 => whole.number::<UInt32Type>(values, i64::from, numbers),
                // Bit by bit: what is equal stays so.
                DataType::UInt64 => whole.number::<UInt64Type>(values, u64::cast_signed, numbers),
                _ => {
                    let values = values.as_boolean().iter().map(|value| value.map(i64::from));
                    numbers.extend(values.map(|value| whole.one(value) as usize));
                }
            },
        }
    }

    /// The values of such numbers.
    fn values(&self, numbers: &[u32]) -> ArrayRef {
        match self {
            Self::Text(DataType::LargeUtf8, text) => Arc::new(text.array::<i64>(numbers)),
            Self::Text(DataType::Utf8View, text) => {
                Arc::new(numbers.iter().map(|&number| text.values[number as usize].as_deref()).collect::<StringViewArray>())
            }
            Self::Text(_, text) => Arc::new(text.array::<i32>(numbers)),
            Self::Whole(kind, whole) => match kind {
                DataType::Int8 => whole.array::<Int8Type>(numbers, |value| value as i8),
                DataType::Int16 => whole.array::<Int16Type>(numbers, |value| value as i16),
                DataType::Int32 => whole.array::<Int32Type>(numbers, |value| value as i32),
                DataType::Date32 => whole.array::<Date32Type>(numbers, |value| value as i32),
                DataType::Int64 => whole.array::<Int64Type>(numbers, |value| value),
                DataType::UInt8 => whole.array::<UInt8Type>(numbers, |value| value as u8),
                DataType::UInt16 => whole.array::<UInt16Type>(numbers, |value| value as u16),
                DataType::UInt32 => whole.array::<UInt32Type>(numbers, |value| value as u32),
                DataType::UInt64 => whole.array::<UInt64Type>(numbers, i64::cast_unsigned),
                _ => {
                    let value = |&number: &u32| whole.values[number as usize].map(|value| value != 0);
                    Arc::new(numbers.iter().map(value).collect::<BooleanArray>())
                }
            },
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Whole(_, whole) => whole.size(),
            Self::Text(_, text) => text.size(),
        }
    }
}

#[cfg(test)]
mod tests;
