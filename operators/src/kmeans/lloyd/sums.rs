//! What clusters' rows add up to, in whole numbers: the same in any order, and what was added can be taken away.
//!
//! A value is rounded to a multiple of a power of two that is chosen by the largest magnitude in its dimension, so that the sum of all
//! rows fits 64 bits: for 100,000 rows 2^-45 of the largest, which is finer than f32 for values above 2^-21 of it. Where values of a
//! dimension lie so far apart that some would lose what matters of them, as 0.25 beside 10^15, its sums are kept in 256 bits, of the
//! least f32 that there is: those round nothing.

use std::sync::Mutex;

use arrow::datatypes::i256;

use super::Given;
use crate::kmeans::rows::Rows;
use crate::nearest::{UNIT, squared_distance};
use crate::parallel;
use crate::wide::wide;

/// So many rows are added at most while other threads wait for the cluster's sums.
const FEW: usize = 8;
/// Added to an f64 below 2^51, it leaves that number, rounded to whole, in the lower bits.
const ROUNDER: f64 = 1.5 * (1u64 << 52) as f64;
/// The bits below one that the least f32 has.
const LEAST: i32 = 149;
/// Values with fewer bits than that above the unit are coarse: one in [`SHARE`] may be.
const COARSE: i32 = 20;
const SHARE: usize = 4096;
/// A value that keeps fewer bits than this is lost, and no value may be lost.
const LOST: i32 = 12;

/// A row that joins or leaves a cluster.
pub struct Move {
    pub cluster: u32,
    pub row: u32,
    pub joins: bool,
}

/// How the values of each dimension are added up.
pub struct Precision {
    /// Units in one, a power of two; 0 for dimensions with sums of 256 bits.
    scales: Vec<f64>,
    /// The dimensions with sums of 256 bits.
    exact: Vec<u32>,
}

impl Precision {
    /// What rows need.
    pub fn of(rows: &Rows, threads: usize) -> Self {
        let n = rows.count();
        // n values below 2^bits stay below 2^62 together, and each is below 2^51 as the rounding needs it.
        let bits = 50.min(61 - n.max(1).ilog2() as i32);
        // Of values that are spread as usual, even a normal distribution's, hardly any are so far below the largest.
        let limit = |below: i32| -> Vec<f32> {
            rows.peaks.iter().map(|&peak| (f64::from(peak) * 2f64.powi(-below)) as f32).collect()
        };
        let limits = [limit((bits - COARSE).max(16)), limit((bits - LOST).max(32))];
        let size = UNIT * rows.dimension;
        let counts = parallel::each(threads, n.div_ceil(UNIT), |unit| {
            let range = unit * size..rows.values.len().min((unit + 1) * size);
            let mut small = [vec![0u32; rows.dimension], vec![0; rows.dimension]];
            for row in rows.values[range.clone()].chunks_exact(rows.dimension) {
                let [coarse, lost] = &mut small;
                count(coarse, lost, row, &limits[0], &limits[1]);
            }
            rows.values.release(range);
            small
        });
        let mut all = [vec![0usize; rows.dimension], vec![0; rows.dimension]];
        for counts in counts {
            for (all, counts) in all.iter_mut().zip(counts) {
                all.iter_mut().zip(counts).for_each(|(all, count)| *all += count as usize);
            }
        }
        let is_exact = |&place: &usize| all[1][place] > 0 || all[0][place] > n / SHARE;
        let exact: Vec<usize> = (0..rows.dimension).filter(is_exact).collect();
        let mut scales: Vec<f64> = rows.peaks.iter().map(|&peak| 2f64.powi(bits - exponent(peak.into()))).collect();
        exact.iter().for_each(|&place| scales[place] = 0.0);
        Self { scales, exact: exact.into_iter().map(|place| place as u32).collect() }
    }

    /// The dimensions whose sums round nothing.
    #[cfg(test)]
    pub fn exact(&self) -> Vec<u32> {
        self.exact.clone()
    }
}

wide! {
    /// Counts the values of a row that are not zero and below one limit, and below the other.
    fn count(coarse: &mut [u32], lost: &mut [u32], row: &[f32], first: &[f32], second: &[f32]) {
        let counts = coarse.iter_mut().zip(lost);
        for (((coarse, lost), value), (first, second)) in counts.zip(row).zip(first.iter().zip(second)) {
            let (size, is) = (value.abs(), u32::from(*value != 0.0));
            *coarse += is & u32::from(size < *first);
            *lost += is & u32::from(size < *second);
        }
    }
}

/// The least `e` with `value < 2^e`; 0 for 0.
pub(super) fn exponent(value: f64) -> i32 {
    if value == 0.0 { 0 } else { ((value.to_bits() >> 52) & 0x7ff) as i32 - 1022 }
}

/// The sums of all clusters.
pub struct Sums<'a> {
    given: Given<'a>,
    /// Rows a cluster.
    pub sizes: Vec<i64>,
    /// Each cluster's sum of squared distances from the frame's centre, in units of `1 / square_scale`.
    squares: Vec<i128>,
    square_scale: f64,
    /// `k x dimension`, in units of `1 / scales`.
    rounded: Vec<i64>,
    /// `k x` as many dimensions as need them, in units of 2^-149.
    exact: Vec<i256>,
}

/// One cluster's.
struct Cluster<'a> {
    size: &'a mut i64,
    square: &'a mut i128,
    rounded: &'a mut [i64],
    exact: &'a mut [i256],
}

/// Sums that several threads add to.
pub struct Shared<'a> {
    given: Given<'a>,
    square_scale: f64,
    clusters: Vec<Mutex<Cluster<'a>>>,
}

impl<'a> Sums<'a> {
    /// The sums of `k` clusters that have no rows yet.
    pub fn new(given: Given<'a>, k: usize) -> Self {
        let Given { rows, coded, precision, .. } = given;
        let reach = rows.peaks.iter().zip(coded.frame().mean()).map(|(peak, mean)| f64::from(peak.max(mean.abs())));
        let farthest: f64 = reach.map(|reach| (2.0 * reach).powi(2)).sum();
        Self {
            given,
            sizes: vec![0; k],
            squares: vec![0; k],
            square_scale: 2f64.powi(90 - exponent(farthest)),
            rounded: vec![0; k * rows.dimension],
            exact: vec![i256::ZERO; k * precision.exact.len()],
        }
    }

    /// The sums in a form that several threads can add to.
    pub fn shared(&mut self) -> Shared<'_> {
        let mut exact = self.exact.chunks_exact_mut(self.given.precision.exact.len().max(1));
        let sums = self.rounded.chunks_exact_mut(self.given.rows.dimension);
        let clusters = self.sizes.iter_mut().zip(&mut self.squares).zip(sums).map(|((size, square), rounded)| {
            Mutex::new(Cluster { size, square, rounded, exact: exact.next().unwrap_or_default() })
        });
        Shared { given: self.given, square_scale: self.square_scale, clusters: clusters.collect() }
    }

    /// The sum of a cluster's values in one dimension.
    pub fn value(&self, cluster: usize, place: usize) -> f64 {
        let Precision { scales, exact } = self.given.precision;
        if scales[place] > 0.0 {
            return self.rounded[cluster * scales.len() + place] as f64 / scales[place];
        }
        let at = exact.binary_search(&(place as u32)).expect("a dimension without a scale is exact");
        let sum = self.exact[cluster * exact.len() + at];
        let (low, high) = sum.wrapping_abs().to_parts();
        let size = high as f64 * 2f64.powi(128 - LEAST) + low as f64 * 2f64.powi(-LEAST);
        if sum.is_negative() { -size } else { size }
    }

    /// The sum of a cluster's squared distances from the frame's centre.
    pub fn squares(&self, cluster: usize) -> f64 {
        self.squares[cluster] as f64 / self.square_scale
    }

    /// Whether the squares of a cluster's rows are below that many of their units, on the average.
    pub fn are_squares_below(&self, cluster: usize, units: i128) -> bool {
        self.squares[cluster] < i128::from(self.sizes[cluster]) * units
    }
}

impl Shared<'_> {
    /// Adds rows, and takes rows away.
    pub fn add(&self, moves: &mut [Move]) {
        let Given { rows, coded, precision: Precision { scales, exact }, .. } = self.given;
        moves.sort_unstable_by_key(|change| (change.cluster, change.row));
        let mut change = vec![0; rows.dimension];
        for moves in moves.chunk_by(|a, b| a.cluster == b.cluster) {
            let values = || moves.iter().map(|Move { row, joins, .. }| (rows.row(*row as usize), *joins));
            let squares = values().map(|(row, joins)| {
                let square = (squared_distance(row, coded.frame().mean()) * self.square_scale) as i128;
                if joins { square } else { -square }
            });
            let squares: i128 = squares.sum();
            let sign = |joins: bool| if joins { 1 } else { -1 };
            let cluster = &self.clusters[moves[0].cluster as usize];
            let lock = || cluster.lock().expect("adding does not panic");
            let mut cluster = if moves.len() < FEW {
                let mut cluster = lock();
                values().for_each(|(row, joins)| add(cluster.rounded, row, scales, f64::from(sign(joins))));
                cluster
            } else {
                change.fill(0);
                values().for_each(|(row, joins)| add(&mut change, row, scales, f64::from(sign(joins))));
                let mut cluster = lock();
                cluster.rounded.iter_mut().zip(&change).for_each(|(sum, change)| *sum += change);
                cluster
            };
            *cluster.size += values().map(|(_, joins)| i64::from(sign(joins))).sum::<i64>();
            *cluster.square += squares;
            for (sum, &place) in cluster.exact.iter_mut().zip(exact) {
                for (row, joins) in values() {
                    let value = row[place as usize];
                    *sum = sum.wrapping_add(units(if joins { value } else { -value }));
                }
            }
        }
    }
}

/// A value in units of 2^-149, exactly.
pub(super) fn units(value: f32) -> i256 {
    let bits = value.to_bits();
    let (fraction, exponent) = (bits & 0x7f_ffff, (bits >> 23) & 0xff);
    // Numbers below the normal ones lack the leading bit, and have the least exponent all the same.
    let whole = if exponent == 0 { fraction } else { fraction | 0x80_0000 };
    let size = i256::from_i128(whole.into()) << exponent.saturating_sub(1) as u8;
    if value.is_sign_negative() { size.wrapping_neg() } else { size }
}

wide! {
    /// Adds a row, scaled, rounded to whole numbers, and negated where `sign` is -1.
    pub(super) fn add(sums: &mut [i64], row: &[f32], scales: &[f64], sign: f64) {
        for ((sum, value), scale) in sums.iter_mut().zip(row).zip(scales) {
            let rounded = f64::from(*value) * scale * sign + ROUNDER;
            *sum += rounded.to_bits() as i64 - ROUNDER.to_bits() as i64;
        }
    }
}
