//! What becomes of clusters that no row is nearest to.

use std::sync::Mutex;

use super::{Lloyd, Move};
use crate::nearest::squared_distance;
use crate::parallel;
use crate::random::Draw;
use crate::vectors::to_unit_length;

/// Rows in one unit of measuring distances.
const ROWS: usize = 1024;

impl Lloyd<'_> {
    /// Gives every empty cluster the row that is farthest from its centroid among those not yet given away, as scikit-learn does:
    /// to be called between assignment and update. Only rows stay, and rows on their centroid. The objective falls. Returns how many
    /// clusters took a row.
    pub fn relocate(&mut self) -> usize {
        let empty: Vec<_> = (0..self.sizes.len()).filter(|&cluster| self.sizes[cluster] == 0).collect();
        if empty.is_empty() {
            return 0;
        }
        let distances = self.distances();
        // Among equals, the first id.
        let mut rows = self.rows.order.clone();
        rows.retain(|&row| distances[row as usize] > 0.0);
        rows.sort_by(|&a, &b| distances[b as usize].total_cmp(&distances[a as usize]));
        let mut empty = empty.into_iter();
        for row in rows {
            let label = &mut self.labels[row as usize];
            let before = *label;
            if self.sizes[before as usize] < 2 {
                continue;
            }
            let Some(cluster) = empty.next() else { break };
            *label = cluster as u32;
            self.sizes[before as usize] -= 1;
            self.sizes[cluster] = 1;
            self.moves.push(Move { cluster: before, row, joins: false });
            self.moves.push(Move { cluster: *label, row, joins: true });
        }
        self.moves.sort_by_key(|change| change.row);
        let moved = self.moves.len() / 2;
        self.sum();
        moved
    }

    /// Each row's squared distance from its centroid.
    fn distances(&self) -> Vec<f64> {
        let (rows, dimension) = (self.rows, self.rows.dimension);
        let mut distances = vec![0.0; rows.count()];
        let units: Vec<_> = distances.chunks_mut(ROWS).map(Mutex::new).collect();
        parallel::each(self.threads, units.len(), |unit| {
            let first = unit * ROWS;
            let mut distances = units[unit].lock().expect("each unit is locked once");
            for (row, distance) in (first..).zip(distances.iter_mut()) {
                let centroid = &self.centroids[self.labels[row] as usize * dimension..][..dimension];
                *distance = squared_distance(rows.row(row), centroid);
            }
            rows.values.release(first * dimension..(first + distances.len()) * dimension);
        });
        drop(units);
        distances
    }

    /// Puts the centroid of every empty cluster a little beside that of the biggest cluster, which is then counted as half. The
    /// other centroids stay, so the objective cannot rise; a cluster whose rows are all alike is not split. Returns how often it
    /// split.
    ///
    /// A step of an eighth of the standard deviation in a random direction: the plane between the two cuts the cluster nearly in half.
    pub fn split(&mut self) -> usize {
        let dimension = self.rows.dimension;
        let (mut sizes, mut costs) = (self.sizes.clone(), self.costs.clone());
        let mut split = 0;
        for empty in (0..sizes.len()).filter(|&cluster| self.sizes[cluster] == 0) {
            let can_split = |&cluster: &usize| costs[cluster] > 0.0 && sizes[cluster] > 1;
            let biggest =
                (0..sizes.len()).filter(can_split).max_by_key(|&cluster| (sizes[cluster], std::cmp::Reverse(cluster)));
            let Some(biggest) = biggest else { break };
            let variance = costs[biggest] / sizes[biggest] as f64;
            let step = (variance.sqrt() / (8.0 * dimension as f64)) as f32;
            let mut draw = Draw::new(self.seed, "kmeans", "split", &empty.to_string(), self.iteration);
            let mut apart = false;
            for place in 0..dimension {
                let sign = if draw.chance(0.5) { 1.0 } else { -1.0 };
                let value = self.centroids[biggest * dimension + place];
                self.centroids[empty * dimension + place] = value + sign * step;
                apart |= value + sign * step != value;
            }
            if self.spherical {
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
