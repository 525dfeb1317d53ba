//! Numbers for pairs of numbers.

use datafusion::common::HashMap;

use super::NONE;

/// Pairs that an array has room for.
const PAIRS: usize = 1 << 20;

/// Pairs of numbers.
#[derive(Debug, Default)]
pub struct Pairs {
    /// How many slots the pairs with one first number have.
    width: usize,
    /// Numbers of pairs, by the first and then by the second; none if they would be too many.
    slots: Vec<u32>,
    /// Numbers of the pairs for which the array has no room.
    pub far: HashMap<(u32, u32), u32>,
    pub parts: Vec<(u32, u32)>,
}

impl Pairs {
    /// Puts the numbers of pairs into `ids`, which has the first numbers; the second ones are below `width`.
    pub fn number(&mut self, width: usize, ids: &mut [usize], seconds: &[usize]) {
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

    pub fn size(&self) -> usize {
        let far = self.far.capacity() * size_of::<((u32, u32), u32, u8)>();
        self.slots.capacity() * size_of::<u32>() + far + self.parts.capacity() * size_of::<(u32, u32)>()
    }
}
