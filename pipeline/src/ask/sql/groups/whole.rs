//! Numbers for whole numbers.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, ArrowNumericType, AsArray as _, PrimitiveArray};
use arrow::compute::{max, min};
use datafusion::common::HashMap;

use super::NONE;

/// Whole numbers that an array has room for, from the least to the greatest.
pub const WINDOW: i64 = 1 << 20;

/// Whole numbers.
#[derive(Debug, Default)]
pub struct Whole {
    /// The value of the first slot.
    low: i64,
    /// Numbers of the values from there on.
    slots: Vec<u32>,
    /// Numbers of the values that lie elsewhere.
    far: HashMap<i64, u32>,
    null: Option<u32>,
    pub values: Vec<Option<i64>>,
}

impl Whole {
    pub fn number<T: ArrowNumericType>(
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
                first.min(self.low.saturating_sub(slots)).max(last.saturating_sub(WINDOW - 1))
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

    pub fn one(&mut self, value: Option<i64>) -> u32 {
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

    pub fn array<T: ArrowNumericType>(&self, numbers: &[u32], narrow: impl Fn(i64) -> T::Native) -> ArrayRef {
        let value = |&number: &u32| self.values[number as usize].map(&narrow);
        Arc::new(numbers.iter().map(value).collect::<PrimitiveArray<T>>())
    }

    pub fn size(&self) -> usize {
        let far = self.far.capacity() * size_of::<(i64, u32, u8)>();
        self.slots.capacity() * size_of::<u32>() + far + self.values.capacity() * size_of::<Option<i64>>()
    }
}

/// The number of a value that was not seen before.
fn next(values: &mut Vec<Option<i64>>, value: i64) -> u32 {
    values.push(Some(value));
    values.len() as u32 - 1
}
