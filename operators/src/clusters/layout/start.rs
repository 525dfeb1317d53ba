//! Where the points start: the images' places in the two directions in which their features spread most (principal components).
//!
//! The directions come from powers of the covariance, a few times multiplied with some vectors (Halko, Martinsson, Tropp, SIAM Review 2011). All sums run
//! over fixed blocks of rows in their order, so that threads change no bit.

use crate::parallel;
use crate::random::Draw;
use crate::wide::wide;

/// Directions that are carried along: two, and some that take up what is between.
const CARRIED: usize = 6;
/// Times that they are multiplied with the covariance.
const POWERS: usize = 10;
/// The most rows that the directions come from, evenly spread.
const SAMPLE: usize = 20_000;
/// Rows in a block.
const BLOCK: usize = 512;
/// The points' largest distance from the middle along an axis.
const EXTENT: f64 = 10.0;
/// How far chance moves a point along an axis, so that no two lie at one place.
const APART: f64 = 0.01;

/// A place for each of the `n x D` rows.
pub fn places(values: &[f32], dimension: usize, seed: u64, threads: usize) -> Vec<[f32; 2]> {
    let count = values.len() / dimension.max(1);
    let step = count.div_ceil(SAMPLE).max(1);
    let sample: Vec<&[f32]> = values.chunks_exact(dimension).step_by(step).collect();
    let mean = mean(&sample, dimension);
    let mut draw = Draw::new(seed, "layout", "directions", "", 0);
    let mut directions: Vec<f64> = (0..CARRIED.min(dimension) * dimension).map(|_| draw.unit() - 0.5).collect();
    orthogonal(&mut directions, dimension);
    for _ in 0..POWERS {
        let blocks: Vec<_> = sample.chunks(BLOCK).collect();
        let sums = parallel::each(threads, blocks.len(), |block| {
            let mut sums = vec![0.0; directions.len()];
            multiply(blocks[block], &mean, &directions, &mut sums);
            sums
        });
        let mut next = vec![0.0; directions.len()];
        sums.iter().for_each(|sums| next.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum));
        // A direction in which nothing spreads stays what it was.
        directions = next;
        orthogonal(&mut directions, dimension);
    }
    let axes: Vec<&[f64]> = directions.chunks_exact(dimension).take(2).collect();
    let blocks: Vec<_> = values.chunks(BLOCK * dimension).collect();
    let placed = parallel::each(threads, blocks.len(), |block| {
        blocks[block]
            .chunks_exact(dimension)
            .map(|row| [0, 1].map(|axis| axes.get(axis).map_or(0.0, |axis| along(row, &mean, axis))))
            .collect::<Vec<_>>()
    });
    let placed: Vec<[f64; 2]> = placed.into_iter().flatten().collect();
    let largest = placed.iter().flatten().fold(0.0f64, |largest, place| largest.max(place.abs()));
    let scale = if largest > 0.0 { EXTENT / largest } else { 0.0 };
    let mut draw = Draw::new(seed, "layout", "apart", "", 0);
    placed.into_iter().map(|place| place.map(|place| (place * scale + APART * (2.0 * draw.unit() - 1.0)) as f32)).collect()
}

fn mean(rows: &[&[f32]], dimension: usize) -> Vec<f64> {
    let mut sums = vec![0.0; dimension];
    rows.iter().for_each(|row| sums.iter_mut().zip(*row).for_each(|(sum, &value)| *sum += f64::from(value)));
    sums.iter_mut().for_each(|sum| *sum /= rows.len().max(1) as f64);
    sums
}

wide! {
    /// Adds the rows' covariance times each direction.
    fn multiply(rows: &[&[f32]], mean: &[f64], directions: &[f64], sums: &mut [f64]) {
        let mut shifted = vec![0.0; mean.len()];
        for row in rows {
            shifted.iter_mut().zip(*row).zip(mean).for_each(|((to, &value), mean)| *to = f64::from(value) - mean);
            for (direction, sums) in directions.chunks_exact(mean.len()).zip(sums.chunks_exact_mut(mean.len())) {
                let product = dot(&shifted, direction);
                sums.iter_mut().zip(&shifted).for_each(|(sum, value)| *sum += product * value);
            }
        }
    }
}

wide! {
    /// A row's place in a direction.
    fn along(row: &[f32], mean: &[f64], axis: &[f64]) -> f64 {
        let shifted: Vec<f64> = row.iter().zip(mean).map(|(&value, mean)| f64::from(value) - mean).collect();
        dot(&shifted, axis)
    }
}

#[inline(always)]
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    for (x, y) in x.iter().zip(y) {
        sums = std::array::from_fn(|lane| sums[lane] + x[lane] * y[lane]);
    }
    sums.iter().sum::<f64>() + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f64>()
}

/// Makes directions orthogonal and of length 1, one after the other, each with its largest value above zero; what is left of none is zeros.
fn orthogonal(directions: &mut [f64], dimension: usize) {
    for number in 0..directions.len() / dimension.max(1) {
        let (before, rest) = directions.split_at_mut(number * dimension);
        let this = &mut rest[..dimension];
        let was = dot(this, this).sqrt();
        // Twice, for what rounding has left of the first time.
        for other in before.chunks_exact(dimension).chain(before.chunks_exact(dimension)) {
            let product = dot(this, other);
            this.iter_mut().zip(other).for_each(|(value, other)| *value -= product * other);
        }
        let length = dot(this, this).sqrt();
        let largest = this.iter().fold(0.0f64, |largest, &value| if value.abs() > largest.abs() { value } else { largest });
        let factor = if length > 1e-12 * was { largest.signum() / length } else { 0.0 };
        this.iter_mut().for_each(|value| *value *= factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_start_along_the_widest_directions() {
        // Five times as wide along the third value as along the first, and nothing else.
        let mut draw = Draw::new(1, "test", "wide", "", 0);
        let rows: Vec<f32> = (0..600).flat_map(|_| [7.0 + draw.unit() as f32, 3.0, 5.0 * draw.unit() as f32, 1.0]).collect();
        let placed = places(&rows, 4, 1, 1);
        for (place, row) in placed.iter().zip(rows.chunks(4)) {
            assert!((place[0] - (row[2] - 2.5) * 4.0).abs() < 0.8, "{place:?} {row:?}");
            assert!((place[1] - (row[0] - 7.5) * 4.0).abs() < 0.8, "{place:?} {row:?}");
        }
        for threads in 2..4 {
            assert_eq!(places(&rows, 4, 1, threads), placed);
        }
    }

    #[test]
    fn rows_that_are_all_alike_lie_apart() {
        for dimension in [1, 3] {
            let placed = places(&vec![0.5; 10 * dimension], dimension, 1, 1);
            assert!(placed.iter().flatten().all(|place| place.abs() <= 0.01));
            assert!((1..10).all(|number| placed[number] != placed[number - 1]));
        }
        assert!(places(&[], 3, 1, 1).is_empty());
    }
}
