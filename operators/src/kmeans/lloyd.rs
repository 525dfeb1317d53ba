//! Lloyd's two steps, with sums that no order of rows and no number of threads can change ([`sums`]).
//!
//! An iteration only adds the rows that changed cluster, to the cluster they join, and takes them away from the one they leave.
//! Squared distances from the frame's centre are added up likewise, in 128 bits, and with the sums give the objective.

mod empty;
mod sums;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::rows::Rows;
use crate::nearest::{Centres, CodedRows, UNIT, squared_distance};
use crate::numbers::Slots;
use crate::operator::RunError;
use crate::vectors::to_unit_length;
pub use sums::Precision;
use sums::{Move, Sums};

/// A cluster's objective that is below this share of its squares is not taken from them, but from each row: else the difference
/// would lose more than a part in 10^9.
const CANCELLED: f64 = 1e-6;
/// So it is where a row's share of the squares is below that many of the units that they are counted in.
const COARSE: i128 = 1 << 30;

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

/// What does not change from start to start.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The rows.
    pub rows: &'a Rows,
    /// Their codes.
    pub coded: &'a CodedRows<'a>,
    /// How they are added up.
    pub precision: &'a Precision,
    /// Whether rows and centroids have length 1.
    pub spherical: bool,
    /// The seed of what is drawn at random.
    pub seed: u64,
    /// How many threads work.
    pub threads: usize,
    /// Where what a row takes goes, if not to memory.
    pub folder: Option<&'a Path>,
}

/// Centroids and the rows' clusters.
pub struct Lloyd<'a> {
    given: Given<'a>,
    iteration: u64,
    /// `k x dimension`.
    centroids: Vec<f32>,
    /// Each row's cluster and one: 0 before the first assignment.
    labels: Slots<u32>,
    /// What the clusters' rows add up to.
    sums: Sums<'a>,
    /// Each cluster's share of the objective.
    costs: Vec<f64>,
}

impl<'a> Lloyd<'a> {
    /// From `k x dimension` centroids.
    ///
    /// # Errors
    /// The disk has no room for the rows' clusters.
    pub fn new(given: Given<'a>, centroids: Vec<f32>) -> Result<Self, RunError> {
        let (n, k) = (given.rows.count(), centroids.len() / given.rows.dimension);
        let (labels, sums) = (Slots::new(n, given.folder)?, Sums::new(given, k));
        Ok(Self { given, iteration: 0, labels, sums, costs: vec![0.0; k], centroids })
    }

    /// Finds each row's nearest centroid.
    ///
    /// # Errors
    /// The run was cancelled.
    pub fn assign(&mut self, cancelled: &dyn Fn() -> bool) -> Result<Round, RunError> {
        let Given { coded, threads, .. } = self.given;
        let centres = Centres::within(coded.frame().clone(), &self.centroids);
        let (moved, labels, sums) = (AtomicUsize::new(0), self.labels.units(UNIT), self.sums.shared());
        let settle = |start: usize, found: &[u32]| {
            let mut moves = Vec::new();
            labels.change(start / UNIT, |labels| {
                for (row, (label, &cluster)) in (start as u32..).zip(labels.iter_mut().zip(found)) {
                    let before = std::mem::replace(label, cluster + 1);
                    if before != cluster + 1 {
                        moved.fetch_add(1, Ordering::Relaxed);
                        moves.extend(before.checked_sub(1).map(|cluster| Move { cluster, row, joins: false }));
                        moves.push(Move { cluster, row, joins: true });
                    }
                }
            });
            sums.add(&mut moves);
        };
        let whole = centres.search(coded, threads, &settle, cancelled);
        drop((labels, sums));
        if !whole {
            return Err(RunError::Cancelled);
        }
        self.cost();
        let squares: f64 = self.sizes().iter().map(|&size| (size as f64).powi(2)).sum();
        let n = self.labels.len() as f64;
        Ok(Round {
            objective: self.objective(),
            imbalance: self.costs.len() as f64 * squares / (n * n),
            empty: self.sizes().iter().filter(|&&size| size == 0).count(),
            moved: moved.into_inner() as f64 / n,
        })
    }

    /// Moves each centroid to the mean of its rows. An empty cluster's stays.
    pub fn update(&mut self) {
        self.iteration += 1;
        let dimension = self.given.rows.dimension;
        let mut mean = vec![0.0; dimension];
        for (cluster, centroid) in self.centroids.chunks_exact_mut(dimension).enumerate() {
            let size = self.sums.sizes[cluster];
            if size == 0 {
                continue;
            }
            for (place, value) in mean.iter_mut().enumerate() {
                *value = (self.sums.value(cluster, place) / size as f64) as f32;
            }
            // Directions that cancel out leave no mean one: then it stays where it was.
            if !self.given.spherical || to_unit_length(&mut mean) {
                centroid.copy_from_slice(&mean);
            }
        }
    }

    /// Brings the costs up to date: `Σ|x - c|² = Σ|x - m|² - 2 (c - m)·Σ(x - m) + n |c - m|²`, with the frame's centre for m.
    fn cost(&mut self) {
        let Given { rows, coded, .. } = self.given;
        let dimension = rows.dimension;
        let mean: Vec<f64> = coded.frame().mean().iter().map(|&value| value.into()).collect();
        let mut unsure = vec![false; self.costs.len()];
        for (cluster, centroid) in self.centroids.chunks_exact(dimension).enumerate() {
            let (squares, size) = (self.sums.squares(cluster), self.sums.sizes[cluster] as f64);
            let one = |((place, value), mean): ((usize, &f32), &f64)| {
                let offset = f64::from(*value) - mean;
                offset * (size * offset - 2.0 * (self.sums.value(cluster, place) - size * mean))
            };
            let rest: f64 = centroid.iter().enumerate().zip(&mean).map(one).sum();
            self.costs[cluster] = squares + rest;
            unsure[cluster] = self.costs[cluster] < CANCELLED * squares || self.sums.are_squares_below(cluster, COARSE);
        }
        if unsure.contains(&true) {
            // Row by row in the order of their ids.
            let mut exact = vec![0.0; unsure.len()];
            for place in 0..rows.count() {
                let row = rows.at(place);
                let label = self.labels[row] as usize - 1;
                if unsure[label] {
                    exact[label] += squared_distance(rows.row(row), &self.centroids[label * dimension..][..dimension]);
                }
                self.labels.release(row..row + 1);
                rows.values.release(row * dimension..(row + 1) * dimension);
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
        &self.sums.sizes
    }

    /// `k x dimension`.
    pub fn into_centroids(self) -> Vec<f32> {
        self.centroids
    }
}

#[cfg(test)]
mod tests;
