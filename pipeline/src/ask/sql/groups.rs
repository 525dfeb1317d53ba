//! Numbers for the groups of rows.
//!
//! Clusters and classes are few, and clusters are whole numbers that lie close together. So a value finds its number in an array where it
//! can, and by hashing where it must; and so do pairs of numbers, where rows are grouped by several columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNumericType, AsArray as _, BooleanArray, GenericStringArray, OffsetSizeTrait, PrimitiveArray,
    StringViewArray,
};
use arrow::compute::{max, min};
use arrow::datatypes::{
    DataType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::common::{HashMap, internal_err};
use datafusion::error::Result;

/// Whole numbers that an array has room for, from the least to the greatest.
const WINDOW: i64 = 1 << 20;
/// Pairs that an array has room for.
const PAIRS: usize = 1 << 20;
/// Places of the texts that came last.
const RECENT: usize = 256;
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
    /// Of each column but the first: the groups of all columns up to it.
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

/// Whole numbers.
#[derive(Debug, Default)]
struct Whole {
    /// The value of the first slot.
    low: i64,
    /// Numbers of the values from there on.
    slots: Vec<u32>,
    /// Numbers of the values that lie elsewhere.
    far: HashMap<i64, u32>,
    null: Option<u32>,
    values: Vec<Option<i64>>,
}

impl Whole {
    fn number<T: ArrowNumericType>(
        &mut self,
        values: &ArrayRef,
        whole: impl Fn(T::Native) -> i64,
        numbers: &mut Vec<usize>,
    ) {
        let values = values.as_primitive::<T>();
        let ends = min(values).zip(max(values)).map(|(low, high)| (whole(low), whole(high)));
        let is_dense = values.null_count() == 0 && ends.is_some_and(|(low, high)| self.widen(low, high));
        if !is_dense {
            return numbers.extend(values.iter().map(|value| self.one(value.map(&whole)) as usize));
        }
        let Self { low, slots, values: known, .. } = self;
        numbers.extend(values.values().iter().map(|&value| {
            let value = whole(value);
            let slot = &mut slots[(value - *low) as usize];
            if *slot == NONE {
                *slot = next(known, value);
            }
            *slot as usize
        }));
    }

    /// Makes slots for all values between two; not if they would be too many.
    fn widen(&mut self, low: i64, high: i64) -> bool {
        // Bits of numbers without a sign may not be in order.
        if low > high {
            return false;
        }
        let slots = self.slots.len() as i64;
        let (first, last) = if slots == 0 { (low, high) } else { (low.min(self.low), high.max(self.low + (slots - 1))) };
        if last.checked_sub(first).is_none_or(|width| width >= WINDOW) {
            return false;
        }
        if slots == 0 || first < self.low || last - self.low >= slots {
            // Values that go down one by one move what is there seldom.
            let first = if slots > 0 && first < self.low {
                first.min(self.low.saturating_sub(slots)).max(last - (WINDOW - 1))
            } else {
                first
            };
            let before = if slots == 0 { 0 } else { (self.low - first) as usize };
            self.slots.splice(0..0, std::iter::repeat_n(NONE, before));
            self.slots.resize((last - first) as usize + 1, NONE);
            self.low = first;
            let slots = &mut self.slots;
            self.far.retain(|&value, number| {
                let place = value.checked_sub(first).and_then(|place| usize::try_from(place).ok());
                let slot = place.and_then(|place| slots.get_mut(place));
                slot.map(|slot| *slot = *number).is_none()
            });
        }
        true
    }

    fn one(&mut self, value: Option<i64>) -> u32 {
        let Some(value) = value else {
            return *self.null.get_or_insert_with(|| {
                self.values.push(None);
                self.values.len() as u32 - 1
            });
        };
        let place = value.checked_sub(self.low).and_then(|place| usize::try_from(place).ok());
        let number = match place.and_then(|place| self.slots.get_mut(place)) {
            Some(slot) => slot,
            None => self.far.entry(value).or_insert(NONE),
        };
        if *number == NONE {
            *number = next(&mut self.values, value);
        }
        *number
    }

    fn array<T: ArrowNumericType>(&self, numbers: &[u32], narrow: impl Fn(i64) -> T::Native) -> ArrayRef {
        let value = |&number: &u32| self.values[number as usize].map(&narrow);
        Arc::new(numbers.iter().map(value).collect::<PrimitiveArray<T>>())
    }

    fn size(&self) -> usize {
        let far = self.far.capacity() * size_of::<(i64, u32, u8)>();
        self.slots.capacity() * size_of::<u32>() + far + self.values.capacity() * size_of::<Option<i64>>()
    }
}

/// The number of a value that was not seen before.
fn next(values: &mut Vec<Option<i64>>, value: i64) -> u32 {
    values.push(Some(value));
    values.len() as u32 - 1
}

/// Texts.
#[derive(Debug, Default)]
struct Text {
    numbers: HashMap<Arc<str>, u32>,
    null: Option<u32>,
    values: Vec<Option<Arc<str>>>,
    /// Bytes of all texts.
    bytes: usize,
}

impl Text {
    fn number<O: OffsetSizeTrait>(&mut self, values: &GenericStringArray<O>, numbers: &mut Vec<usize>) {
        let mut last: Option<(Option<&str>, u32)> = None;
        numbers.extend(values.iter().map(|value| {
            let number = match last {
                Some((before, number)) if before == value => number,
                _ => self.one(value),
            };
            last = Some((value, number));
            number as usize
        }));
    }

    /// The same of views. Within an array, texts whose views are the same are the same, and a dictionary's texts have one view each.
    fn number_views(&mut self, values: &StringViewArray, numbers: &mut Vec<usize>) {
        let mut recent: [Option<(u128, u32)>; RECENT] = [None; RECENT];
        numbers.extend(values.views().iter().enumerate().map(|(row, &view)| {
            if values.is_null(row) {
                return self.one(None) as usize;
            }
            // Its length and first bytes, and its last bytes or where it lies.
            let mixed = (view as u64 ^ (view >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let place = &mut recent[(mixed >> 56) as usize % RECENT];
            match place {
                Some((seen, number)) if *seen == view => *number as usize,
                _ => {
                    let number = self.one(Some(values.value(row)));
                    *place = Some((view, number));
                    number as usize
                }
            }
        }));
    }

    fn one(&mut self, value: Option<&str>) -> u32 {
        let fresh = self.values.len() as u32;
        let Some(value) = value else {
            return *self.null.get_or_insert_with(|| {
                self.values.push(None);
                fresh
            });
        };
        if let Some(&number) = self.numbers.get(value) {
            return number;
        }
        let value: Arc<str> = value.into();
        self.bytes += value.len();
        self.values.push(Some(value.clone()));
        self.numbers.insert(value, fresh);
        fresh
    }

    fn array<O: OffsetSizeTrait>(&self, numbers: &[u32]) -> GenericStringArray<O> {
        numbers.iter().map(|&number| self.values[number as usize].as_deref()).collect()
    }

    fn size(&self) -> usize {
        // A text that is shared has two counters before it.
        let shared = self.bytes + self.values.len() * 2 * size_of::<usize>();
        let known = self.numbers.capacity() * size_of::<(Arc<str>, u32, u8)>();
        shared + known + self.values.capacity() * size_of::<Option<Arc<str>>>()
    }
}

/// Pairs of numbers.
#[derive(Debug, Default)]
struct Pairs {
    /// How many slots the pairs with one first number have.
    width: usize,
    /// Numbers of pairs, by the first and then by the second; none if they would be too many.
    slots: Vec<u32>,
    /// The same where an array has no room.
    far: HashMap<(u32, u32), u32>,
    parts: Vec<(u32, u32)>,
}

impl Pairs {
    /// Puts the numbers of pairs into `ids`, which has the first numbers; the second ones are below `width`.
    fn number(&mut self, width: usize, ids: &mut [usize], seconds: &[usize]) {
        let highest = ids.iter().copied().max().unwrap_or(0);
        let is_dense = self.widen(highest + 1, width);
        for (id, &second) in ids.iter_mut().zip(seconds) {
            let pair = (*id as u32, second as u32);
            let slot =
                if is_dense { &mut self.slots[*id * self.width + second] } else { self.far.entry(pair).or_insert(NONE) };
            if *slot == NONE {
                *slot = self.parts.len() as u32;
                self.parts.push(pair);
            }
            *id = *slot as usize;
        }
    }

    /// Makes slots for so many first numbers and so many second ones; not if they would be too many, and never again then.
    fn widen(&mut self, firsts: usize, width: usize) -> bool {
        if !self.far.is_empty() {
            return false;
        }
        if width > self.width || self.slots.len() < firsts * self.width {
            let width = width.max(self.width).next_power_of_two();
            let firsts = firsts.next_power_of_two().max(self.slots.len() / self.width.max(1));
            let numbered = self.parts.iter().enumerate().map(|(number, &pair)| (pair, number as u32));
            if firsts.saturating_mul(width) > PAIRS {
                self.far = numbered.collect();
                self.slots = Vec::new();
                return false;
            }
            let mut slots = vec![NONE; firsts * width];
            for ((first, second), number) in numbered {
                slots[first as usize * width + second as usize] = number;
            }
            (self.slots, self.width) = (slots, width);
        }
        true
    }

    fn size(&self) -> usize {
        let far = self.far.capacity() * size_of::<((u32, u32), u32, u8)>();
        self.slots.capacity() * size_of::<u32>() + far + self.parts.capacity() * size_of::<(u32, u32)>()
    }
}

#[cfg(test)]
mod tests;
