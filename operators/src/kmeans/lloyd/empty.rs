//! What becomes of clusters that no row is nearest to.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Given, Lloyd, Move};
use crate::nearest::{UNIT, squared_distance};
use crate::numbers::Slots;
use crate::operator::RunError;
use crate::parallel;
use crate::random::Draw;
use crate::vectors::to_unit_length;

/// A row seen from its centroid: the farther the larger, and among equals that of the first id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Far {
    /// The bits of the squared distance, which sort as it does.
    distance: u64,
    place: Reverse<usize>,
}

impl Lloyd<'_> {
    /// Gives every empty cluster the row that is farthest from its centroid among those not yet given away, as scikit-learn does:
    /// to be called between assignment and update. Only rows stay, and rows on their centroid. The objective falls. Returns how many
    /// clusters took a row.
    ///
    /// # Errors
    /// The disk has no room for the distances.
    pub fn relocate(&mut self) -> Result<usize, RunError> {
        let empty: Vec<_> = (0..self.costs.len()).filter(|&cluster| self.sums.sizes[cluster] == 0).collect();
        if empty.is_empty() {
            return Ok(0);
        }
        // Each cluster keeps one row at most that is among the farthest.
        let farthest = self.farthest(empty.len() + self.costs.len())?;
        let (mut empty, mut moves, mut sizes) = (empty.into_iter(), Vec::new(), self.sums.sizes.clone());
        for Far { place: Reverse(place), .. } in farthest {
            let row = self.given.rows.at(place);
            let before = self.labels[row] - 1;
            if sizes[before as usize] < 2 {
                continue;
            }
            let Some(cluster) = empty.next() else { break };
            self.labels[row] = cluster as u32 + 1;
            sizes[before as usize] -= 1;
            sizes[cluster] = 1;
            moves.push(Move { cluster: before, row: row as u32, joins: false });
            moves.push(Move { cluster: cluster as u32, row: row as u32, joins: true });
        }
        let moved = moves.len() / 2;
        self.sums.shared().add(&mut moves);
        Ok(moved)
    }

    /// The `count` rows that are farthest from their centroids, the farthest first; rows that lie on their centroids are not among
    /// them.
    fn farthest(&self, count: usize) -> Result<Vec<Far>, RunError> {
        let Given { rows, threads, folder, .. } = self.given;
        let dimension = rows.dimension;
        let mut distances: Slots<f64> = Slots::new(rows.count(), folder)?;
        let units = distances.units(UNIT);
        parallel::each(threads, rows.count().div_ceil(UNIT), |unit| {
            let first = unit * UNIT;
            units.change(unit, |distances| {
                for (row, distance) in (first..).zip(distances.iter_mut()) {
                    let centroid = &self.centroids[(self.labels[row] as usize - 1) * dimension..][..dimension];
                    *distance = squared_distance(rows.row(row), centroid);
                }
                rows.values.release(first * dimension..(first + distances.len()) * dimension);
                self.labels.release(first..first + distances.len());
            });
        });
        drop(units);
        let mut farthest = BinaryHeap::new();
        for place in 0..rows.count() {
            let row = rows.at(place);
            let far = Far { distance: distances[row].to_bits(), place: Reverse(place) };
            if distances[row] > 0.0
                && farthest.peek().is_none_or(|Reverse(nearest)| farthest.len() < count || far > *nearest)
            {
                farthest.push(Reverse(far));
                if farthest.len() > count {
                    farthest.pop();
                }
            }
            distances.release(row..row + 1);
        }
        Ok(farthest.into_sorted_vec().into_iter().map(|Reverse(far)| far).collect())
    }

    /// Puts the centroid of every empty cluster a little beside that of the biggest cluster, which is then counted as half. The
    /// other centroids stay, so the objective cannot rise; a cluster whose rows are all alike is not split. Returns how often it
    /// split.
    ///
    /// A step of an eighth of the standard deviation in a random direction: the plane between the two cuts the cluster nearly in half.
    pub fn split(&mut self) -> usize {
        let dimension = self.given.rows.dimension;
        let (mut sizes, mut costs) = (self.sums.sizes.clone(), self.costs.clone());
        let mut split = 0;
        for empty in (0..sizes.len()).filter(|&cluster| self.sums.sizes[cluster] == 0) {
            let can_split = |&cluster: &usize| costs[cluster] > 0.0 && sizes[cluster] > 1;
            let biggest = (0..sizes.len()).filter(can_split).max_by_key(|&cluster| (sizes[cluster], Reverse(cluster)));
            let Some(biggest) = biggest else { break };
            let variance = costs[biggest] / sizes[biggest] as f64;
            let step = (variance.sqrt() / (8.0 * dimension as f64)) as f32;
            let mut draw = Draw::new(self.given.seed, "kmeans", "split", &empty.to_string(), self.iteration);
            let mut apart = false;
            for place in 0..dimension {
                let sign = if draw.chance(0.5) { 1.0 } else { -1.0 };
                let value = self.centroids[biggest * dimension + place];
                self.centroids[empty * dimension + place] = value + sign * step;
                apart |= value + sign * step != value;
            }
            if self.given.spherical {
                to_unit_length(&mut self.centroids[empty * dimension..][..dimension]);
            }
            if !apart {
                // The step is below what f32 can tell there: no other cluster will take rows of this one.
                costs[biggest] = 0.0;
                continue;
            }
            sizes[empty] = sizes[biggest] / 2;
            sizes[biggest] -= sizes[empty];
            costs[biggest] /= 2.0;
            costs[empty] = costs[biggest];
            split += 1;
        }
        split
    }
}
