//! Numbers for texts.

use std::sync::Arc;

use arrow::array::{Array as _, GenericStringArray, OffsetSizeTrait, StringViewArray};
use datafusion::common::HashMap;

/// Places of the texts that came last.
const RECENT: usize = 256;

/// Texts.
#[derive(Debug, Default)]
pub struct Text {
    numbers: HashMap<Arc<str>, u32>,
    null: Option<u32>,
    pub values: Vec<Option<Arc<str>>>,
    /// Bytes of all texts.
    bytes: usize,
}

impl Text {
    pub fn number<O: OffsetSizeTrait>(&mut self, values: &GenericStringArray<O>, numbers: &mut Vec<usize>) {
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

    /// Numbers the texts of an array of views. Within one array texts with equal views are equal, and each text of a dictionary has one
    /// view.
    pub fn number_views(&mut self, values: &StringViewArray, numbers: &mut Vec<usize>) {
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

    pub fn array<O: OffsetSizeTrait>(&self, numbers: &[u32]) -> GenericStringArray<O> {
        numbers.iter().map(|&number| self.values[number as usize].as_deref()).collect()
    }

    pub fn size(&self) -> usize {
        // A text that is shared has two counters before it.
        let shared = self.bytes + self.values.len() * 2 * size_of::<usize>();
        let known = self.numbers.capacity() * size_of::<(Arc<str>, u32, u8)>();
        shared + known + self.values.capacity() * size_of::<Option<Arc<str>>>()
    }
}
