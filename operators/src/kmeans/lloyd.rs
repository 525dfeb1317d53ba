//! Lloyd's two steps, with sums that no order of rows and no number of threads can change.
//!
//! A centroid's sums are whole numbers, 64 bits a dimension: a value is rounded to a multiple of a power of two that is chosen by the
//! largest magnitude in its dimension (2^-45 of it for 100,000 rows: finer than f32 for values above 2^-21 of the largest, and
//! coarser below), so no sum can overflow. Whole numbers add up the same in any order, and take away exactly what was added: an
//! iteration only looks at the rows that changed cluster. Squared distances from the frame's centre add up likewise, in 128
//! bits, and with the sums give the objective.

use std::sync::Mutex;

use super::rows::Rows;
use crate::nearest::{Centres, CodedRows, squared_distance};
use crate::operator::RunError;
use crate::parallel;
use crate::vectors::to_unit_length;
use crate::wide::wide;

/// Rows that join or leave, in one unit of summing.
const MOVES: usize = 1024;
/// So few of them are added while others wait for the cluster's sums.
const FEW: usize = 8;
/// The cluster of a row before the first assignment.
const NONE: u32 = u32::MAX;
/// A cluster's objective that is below this share of its squares is not taken from them, but from each row: else the difference
/// would lose more than a part in 10^9.
const CANCELLED: f64 = 1e-6;
/// Added to an f64 below 2^51, it leaves that number, rounded to whole, in the lower bits.
const ROUNDER: f64 = 1.5 * (1u64 << 52) as f64;

/// What an assignment found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// Sum of squared distances.
    pub objective: f64,
    /// `k Σh² / (Σh)²` over the clusters' sizes.
    pub imbalance: f64,
    /// Clusters without rows.
    pub empty: usize,
    /// The share of rows that changed cluster.
    pub moved: f64,
}

impl Round {
    /// Names and values.
    pub fn metrics(self) -> [(&'static str, f64); 4] {
        [("objective", self.objective), ("imbalance", self.imbalance), ("empty", self.empty as f64), ("moved", self.moved)]
    }
}

/// A row that joins or leaves a cluster.
struct Move {
    cluster: u32,
    row: u32,
    joins: bool,
}

/// Centroids and the rows' clusters.
pub struct Lloyd<'a> {
    rows: &'a Rows,
    coded: &'a CodedRows<'a>,
    threads: usize,
    seed: u64,
    iteration: u64,
    /// `k x dimension`.
    centroids: Vec<f32>,
    /// Each row's cluster.
    labels: Vec<u32>,
    /// What a search finds.
    found: Vec<u32>,
    /// Rows a cluster.
    sizes: Vec<i64>,
    /// Each cluster's share of the objective.
    costs: Vec<f64>,
    /// Each cluster's sum of squared distances from the frame's centre, in units of `1 / square_scale`.
    squares: Vec<i128>,
    square_scale: f64,
    /// `k x dimension`, in units of `1 / scales`.
    sums: Vec<i64>,
    /// One a dimension, a power of two.
    scales: Vec<f64>,
    /// What has changed since the sums were brought up to date, in the order of rows.
    moves: Vec<Move>,
    /// Whether centroids have length 1.
    spherical: bool,
}

impl<'a> Lloyd<'a> {
    /// From `k x dimension` centroids; spherical if they are to have length 1, as they and the rows do then.
    pub fn new(
        rows: &'a Rows,
        coded: &'a CodedRows<'a>,
        centroids: Vec<f32>,
        spherical: bool,
        seed: u64,
        threads: usize,
    ) -> Self {
        let (n, k) = (rows.count(), centroids.len() / rows.dimension);
        // n values below 2^bits stay below 2^62 together, and each is below 2^51 as the rounding needs it.
        let bits = 50.min(61 - n.ilog2() as i32);
        let scales = rows.peaks.iter().map(|&peak| 2f64.powi(bits - exponent(peak.into()))).collect();
        let reach = rows.peaks.iter().zip(coded.frame().mean()).map(|(peak, mean)| f64::from(peak.max(mean.abs())));
        let farthest: f64 = reach.map(|reach| (2.0 * reach).powi(2)).sum();
        Self {
            rows,
            coded,
            threads,
            seed,
            iteration: 0,
            labels: vec![NONE; n],
            found: vec![NONE; n],
            sizes: vec![0; k],
            costs: vec![0.0; k],
            squares: vec![0; k],
            square_scale: 2f64.powi(90 - exponent(farthest)),
            sums: vec![0; centroids.len()],
            scales,
            moves: Vec::new(),
            spherical,
            centroids,
        }
    }

    /// Finds each row's nearest centroid.
    ///
    /// # Errors
    /// The run was cancelled.
    pub fn assign(&mut self, cancelled: &dyn Fn() -> bool) -> Result<Round, RunError> {
        let centres = Centres::within(self.coded.frame().clone(), &self.centroids);
        if !centres.search(self.coded, self.threads, &mut self.found, cancelled) {
            return Err(RunError::Cancelled);
        }
        let mut moved = 0;
        for (row, (label, &cluster)) in self.labels.iter_mut().zip(&self.found).enumerate() {
            let before = std::mem::replace(label, cluster);
            if cluster != before {
                moved += 1;
                for (cluster, joins) in [(before, false), (cluster, true)] {
                    if cluster != NONE {
                        self.sizes[cluster as usize] += if joins { 1 } else { -1 };
                        self.moves.push(Move { cluster, row: row as u32, joins });
                    }
                }
            }
        }
        self.sum();
        self.cost();
        let squares: f64 = self.sizes.iter().map(|&size| (size as f64).powi(2)).sum();
        let n = self.labels.len() as f64;
        Ok(Round {
            objective: self.objective(),
            imbalance: self.sizes.len() as f64 * squares / (n * n),
            empty: self.sizes.iter().filter(|&&size| size == 0).count(),
            moved: f64::from(moved) / n,
        })
    }

    /// Moves each centroid to the mean of its rows. An empty cluster's stays.
    pub fn update(&mut self) {
        self.iteration += 1;
        let dimension = self.rows.dimension;
        let centroids = self.centroids.chunks_exact_mut(dimension).zip(self.sums.chunks_exact(dimension));
        let mut mean = vec![0.0; dimension];
        for ((centroid, sums), &size) in centroids.zip(&self.sizes).filter(|(_, size)| **size > 0) {
            for ((value, &sum), scale) in mean.iter_mut().zip(sums).zip(&self.scales) {
                *value = (sum as f64 / scale / size as f64) as f32;
            }
            // Directions that cancel out leave no mean one: then it stays where it was.
            if !self.spherical || to_unit_length(&mut mean) {
                centroid.copy_from_slice(&mean);
            }
        }
    }

    /// Brings the sums up to date.
    fn sum(&mut self) {
        let mut moves = std::mem::take(&mut self.moves);
        let units: Vec<_> = moves.chunks_mut(MOVES).map(Mutex::new).collect();
        let sums = self.sums.chunks_exact_mut(self.rows.dimension).zip(&mut self.squares);
        let sums: Vec<_> = sums.map(Mutex::new).collect();
        let (rows, scales, mean, square_scale) = (self.rows, &self.scales, self.coded.frame().mean(), self.square_scale);
        parallel::each(self.threads, units.len(), |unit| {
            let moves = &mut *units[unit].lock().expect("each unit is locked once");
            let read = moves[0].row as usize..moves[moves.len() - 1].row as usize + 1;
            moves.sort_unstable_by_key(|change| (change.cluster, change.row));
            let mut change = vec![0; rows.dimension];
            for moves in moves.chunk_by(|a, b| a.cluster == b.cluster) {
                let add = |to: &mut [i64]| {
                    let mut squares = 0;
                    for Move { row, joins, .. } in moves {
                        let (row, sign) = (rows.row(*row as usize), if *joins { 1.0 } else { -1.0 });
                        add(to, row, scales, sign);
                        squares += (squared_distance(row, mean) * sign * square_scale) as i128;
                    }
                    squares
                };
                let cluster = &sums[moves[0].cluster as usize];
                if moves.len() < FEW {
                    let (sums, squares) = &mut *cluster.lock().expect("adding does not panic");
                    **squares += add(sums);
                } else {
                    change.fill(0);
                    let more = add(&mut change);
                    let (sums, squares) = &mut *cluster.lock().expect("adding does not panic");
                    **squares += more;
                    sums.iter_mut().zip(&change).for_each(|(sum, change)| *sum += change);
                }
            }
            rows.values.release(read.start * rows.dimension..read.end * rows.dimension);
        });
    }

    /// Brings the costs up to date: `Σ|x - c|² = Σ|x - m|² - 2 (c - m)·Σ(x - m) + n |c - m|²`, with the frame's centre for m.
    fn cost(&mut self) {
        let dimension = self.rows.dimension;
        let mean: Vec<f64> = self.coded.frame().mean().iter().map(|&value| value.into()).collect();
        let parts = self.centroids.chunks_exact(dimension).zip(self.sums.chunks_exact(dimension));
        let mut unsure = vec![false; self.sizes.len()];
        for (cluster, (centroid, sums)) in parts.enumerate() {
            let squares = self.squares[cluster] as f64 / self.square_scale;
            let size = self.sizes[cluster] as f64;
            let one = |(((value, &sum), scale), mean): (((&f32, &i64), &f64), &f64)| {
                let offset = f64::from(*value) - mean;
                offset * (size * offset - 2.0 * (sum as f64 / scale - size * mean))
            };
            let rest: f64 = centroid.iter().zip(sums).zip(&self.scales).zip(&mean).map(one).sum();
            self.costs[cluster] = squares + rest;
            unsure[cluster] = self.costs[cluster] < CANCELLED * squares;
        }
        if unsure.contains(&true) {
            // Row by row in the order of their ids.
            let mut exact = vec![0.0; unsure.len()];
            for row in self.rows.order.iter().map(|&row| row as usize) {
                let label = self.labels[row] as usize;
                if unsure[label] {
                    exact[label] += squared_distance(self.rows.row(row), &self.centroids[label * dimension..][..dimension]);
                }
            }
            for cluster in (0..unsure.len()).filter(|&cluster| unsure[cluster]) {
                self.costs[cluster] = exact[cluster];
            }
        }
    }

    /// The sum of squared distances of the last assignment.
    pub fn objective(&self) -> f64 {
        self.costs.iter().sum()
    }

    /// Rows a cluster.
    pub fn sizes(&self) -> &[i64] {
        &self.sizes
    }

    /// `k x dimension`.
    pub fn into_centroids(self) -> Vec<f32> {
        self.centroids
    }
}

/// The least `e` with `value < 2^e`; 0 for 0.
fn exponent(value: f64) -> i32 {
    if value == 0.0 { 0 } else { ((value.to_bits() >> 52) & 0x7ff) as i32 - 1022 }
}

wide! {
    /// Adds a row, scaled, rounded to whole numbers, and negated where `sign` is -1.
    fn add(sums: &mut [i64], row: &[f32], scales: &[f64], sign: f64) {
        for ((sum, value), scale) in sums.iter_mut().zip(row).zip(scales) {
            let rounded = f64::from(*value) * scale * sign + ROUNDER;
            *sum += rounded.to_bits() as i64 - ROUNDER.to_bits() as i64;
        }
    }
}

mod empty;
#[cfg(test)]
mod tests;
