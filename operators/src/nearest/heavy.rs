//! Dimensions that would take all steps of a code for themselves, and are kept out of it.
//!
//! A vector's whole numbers share one step, its largest value by the kernel's levels. Where one dimension spreads a hundred times as
//! wide as the others, that step is as wide as the others are altogether: their codes say nothing, and bounds by them let hundreds of
//! centres through. Such a dimension is heavy: it has no part in the codes, and its share of the distance is computed as it is,
//! `(x - c)²` in f32 ([`bound`](super::bounds::bound)). That is as good as exact, however large the values or their offset, and costs
//! about as much as a dozen coded dimensions. Which dimensions are heavy changes how many centres are looked at, and never what is found.
//!
//! Whether it pays is measured on vectors like those to come: how many would a search among them look at closer?

use super::bounds::near_squared;
use super::kernel::Kernel;

/// The most heavy dimensions.
const MOST: usize = 32;
/// How many are tried.
const TRIED: [usize; 9] = [1, 2, 3, 4, 6, 8, 12, 20, MOST];
/// Vectors that stand for centres, and of them those that stand for rows.
const CENTRES: usize = 256;
const ROWS: usize = 64;
/// What rounding loses must fall below this share of itself without the heavy dimensions; otherwise nothing is measured.
const LESS: f32 = 0.5;
/// The cost must fall below this share.
const PAYS: f64 = 0.9;
/// A rounded value is off by the step by the square root of 12, on the average.
const ROUNDED: f32 = 0.288_675_13;
/// Operations on a vector of 16 centres: for a heavy dimension, and for a candidate's distance, beside 3 a value.
const HEAVY: f64 = 3.0;
const CANDIDATE: f64 = 480.0;

/// The dimensions that are heavy for vectors such as those, whose mean and largest distances from it are given; rising.
pub fn choose(kernel: Kernel, vectors: &[f32], mean: &[f32], peaks: &[f32]) -> Vec<usize> {
    let dimension = mean.len();
    let mut order: Vec<usize> = (0..dimension).collect();
    order.sort_by(|&a, &b| peaks[b].total_cmp(&peaks[a]));
    let most = MOST.min(dimension - 1);
    // Peaks bound what rounding loses: the next one's step, times the length of what is left.
    let lost = |heavy: usize| {
        let rest = order[heavy..].iter().map(|&place| (peaks[place] / peaks[order[0]]).powi(2)).sum::<f32>().sqrt();
        peaks[order[heavy]] / peaks[order[0]] * rest
    };
    if peaks[order[0]] == 0.0 || lost(most) >= LESS * lost(0) {
        return Vec::new();
    }
    let sample = Sample::of(vectors, mean, &order);
    let cost = |heavy: usize| {
        let candidates = sample.candidates(kernel.levels(dimension), heavy);
        (dimension / kernel.packing().values()) as f64
            + HEAVY * heavy as f64
            + candidates * (3.0 * dimension as f64 + CANDIDATE)
    };
    let best = TRIED.into_iter().filter(|&heavy| heavy <= most).map(|heavy| (heavy, cost(heavy)));
    let best = best.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, least)| *least < PAYS * cost(0));
    let mut heavy = order[..best.map_or(0, |(heavy, _)| heavy)].to_vec();
    heavy.sort_unstable();
    heavy
}

/// Vectors to measure on.
struct Sample {
    /// Rows' squared distances from all.
    squared: Vec<Vec<f32>>,
    /// For each number of heavy dimensions, the largest value and the length of each vector without them.
    rest: Vec<Vec<(f32, f32)>>,
    dimension: usize,
}

impl Sample {
    fn of(vectors: &[f32], mean: &[f32], order: &[usize]) -> Self {
        let dimension = mean.len();
        let step = (vectors.len() / dimension).div_ceil(CENTRES).max(1);
        let some: Vec<&[f32]> = vectors.chunks_exact(dimension).step_by(step).collect();
        let every = some.len().div_ceil(ROWS).max(1);
        let squared = some.iter().step_by(every).map(|row| some.iter().map(|other| near_squared(row, other)).collect());
        let rest = |vector: &&[f32]| {
            let mut rest = vec![(0.0f32, 0.0); MOST + 1];
            let (mut largest, mut square) = (0.0f32, 0.0f64);
            for (heavy, &place) in order.iter().enumerate().rev() {
                let value = (vector[place] - mean[place]).abs();
                largest = largest.max(value);
                square += f64::from(value) * f64::from(value);
                if let Some(rest) = rest.get_mut(heavy) {
                    *rest = (largest, square.sqrt() as f32);
                }
            }
            rest
        };
        Self { squared: squared.collect(), rest: some.iter().map(rest).collect(), dimension }
    }

    /// The share of the centres that have to be looked at beside the nearest, with the first so many dimensions heavy.
    fn candidates(&self, levels: f32, heavy: usize) -> f64 {
        let every = self.rest.len().div_ceil(ROWS).max(1);
        let lost = ROUNDED * ((self.dimension - heavy) as f32).sqrt() / levels;
        let mut candidates = 0;
        for (row, squared) in self.squared.iter().enumerate().map(|(number, squared)| (number * every, squared)) {
            let error = |other: usize| {
                let (of_row, of_other) = (self.rest[row][heavy], self.rest[other][heavy]);
                lost * (of_row.0 * of_other.1 + of_row.1 * of_other.0)
            };
            let others = || (0..squared.len()).filter(|&other| other != row);
            let upper = others().map(|other| squared[other] / 2.0 + error(other)).fold(f32::INFINITY, f32::min);
            let reach = others().filter(|&other| squared[other] / 2.0 - error(other) <= upper).count();
            candidates += reach.saturating_sub(1);
        }
        candidates as f64 / (self.squared.len() * self.rest.len()).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nearest::Frame;
    use crate::random::Draw;

    /// Normal values, those of some dimensions so many times as wide.
    fn vectors(count: usize, dimension: usize, wide: &[(usize, f32)]) -> Vec<f32> {
        let mut draw = Draw::new(5, "test", "wide", "", 0);
        let mut values: Vec<f32> =
            (0..count * dimension).map(|_| ((0..12).map(|_| draw.unit()).sum::<f64>() - 6.0) as f32).collect();
        for row in values.chunks_mut(dimension) {
            wide.iter().for_each(|&(place, factor)| row[place] *= factor);
        }
        values
    }

    #[test]
    fn wide_dimensions_are_heavy_and_usual_ones_are_not() {
        for kernel in Kernel::all(128) {
            let heavy = |wide: &[(usize, f32)]| Frame::with(kernel, &vectors(600, 128, wide), 128).heavy();
            assert_eq!(heavy(&[]), 0, "{kernel:?}");
            assert_eq!(heavy(&[(7, 2.0), (9, 0.1)]), 0, "{kernel:?}");
            assert_eq!(heavy(&[(7, 1e5)]), 1, "{kernel:?}");
            // 16 bits tell most vectors apart by two such dimensions alone.
            assert!(heavy(&[(0, 1e6), (100, 1e6)]) == 2 || kernel.levels(128) > 127.0, "{kernel:?}");
        }
    }

    #[test]
    fn vectors_of_any_number_have_a_frame() {
        for dimension in [1, 2, 70] {
            for count in [1, 2, 3, 65, 300] {
                for value in [0.0, 1e15, 1e-40] {
                    let alike = vec![value; count * dimension];
                    assert_eq!(Frame::around(&alike, dimension).heavy(), 0);
                }
            }
        }
    }
}
