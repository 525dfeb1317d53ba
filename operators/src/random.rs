//! Random numbers that depend on what they are for, and on nothing else.
//!
//! Every draw is a function of (seed, operator, purpose, image, epoch), so that results do not change with threads, batches,
//! parts, or which other images there are.

use std::collections::HashMap;

/// A stream of random numbers for one purpose.
#[derive(Debug, Clone)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// The stream for an operator's purpose, one image and one epoch. Without an image, use `""`.
    pub fn new(seed: u64, operator: &str, purpose: &str, image_id: &str, epoch: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        for number in [seed, epoch] {
            hasher.update(&number.to_le_bytes());
        }
        for text in [operator, purpose, image_id] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        let bytes = hasher.finalize();
        Self { state: u64::from_le_bytes(bytes.as_bytes()[..8].try_into().expect("eight of 32 bytes")) }
    }

    /// The next 64 bits (SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number in `0..bound`, each as likely (Lemire, 2019, without its rare rejection: the bias is below 2^-32).
    ///
    /// # Panics
    /// `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "nothing lies below zero");
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with that probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// `count` different numbers of `0..bound`, in random order.
    ///
    /// # Panics
    /// `count` is larger than `bound`.
    pub fn distinct(&mut self, count: usize, bound: usize) -> Vec<usize> {
        assert!(count <= bound, "{count} different numbers do not fit below {bound}");
        // The numbers in a row, of which only those are written down that a swap has moved.
        let mut moved: HashMap<usize, usize> = HashMap::with_capacity(count);
        let draw = |i: usize| {
            let j = i + self.below(bound - i);
            let first = moved.remove(&i).unwrap_or(i);
            if i == j { first } else { moved.insert(j, first).unwrap_or(j) }
        };
        (0..count).map(draw).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_every_part_of_their_name() {
        let first = |seed, op, purpose, id, epoch| Draw::new(seed, op, purpose, id, epoch).bits();
        let base = first(1, "jigsaw", "tile", "a", 0);
        assert_eq!(base, first(1, "jigsaw", "tile", "a", 0));
        for other in [
            first(2, "jigsaw", "tile", "a", 0),
            first(1, "augment", "tile", "a", 0),
            first(1, "jigsaw", "gray", "a", 0),
            first(1, "jigsaw", "tile", "b", 0),
            first(1, "jigsaw", "tile", "a", 1),
            first(1, "jigsawt", "ile", "a", 0),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn draws_are_fair() {
        let mut draw = Draw::new(7, "test", "fair", "", 0);
        let mut counts = [0; 10];
        for _ in 0..10_000 {
            counts[draw.below(10)] += 1;
        }
        assert!(counts.iter().all(|&n| (850..1150).contains(&n)), "{counts:?}");
        let heads = (0..10_000).filter(|_| draw.chance(0.7)).count();
        assert!((6800..7200).contains(&heads), "{heads}");
    }

    #[test]
    fn distinct_numbers_are_distinct() {
        let mut draw = Draw::new(7, "test", "distinct", "", 0);
        let mut all = draw.distinct(9, 9);
        all.sort_unstable();
        assert_eq!(all, (0..9).collect::<Vec<_>>());
        assert_eq!(draw.distinct(2, 9).len(), 2);
    }

    #[test]
    fn distinct_numbers_are_those_of_a_shuffled_row() {
        for (count, bound) in [(0, 0), (5, 1000), (70, 80), (64, 64)] {
            let draw = || Draw::new(7, "test", "shuffle", "", count as u64);
            let mut all: Vec<usize> = (0..bound).collect();
            let mut plain = draw();
            (0..count).for_each(|i| all.swap(i, i + plain.below(bound - i)));
            assert_eq!(draw().distinct(count, bound), all[..count]);
        }
    }
}
