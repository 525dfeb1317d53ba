//! First centroids from the stage's last table, so that clusters keep their numbers.
//!
//! Cluster `i` starts from the last table's centroid `i`, wherever that has one. Numbers that it lacks (it was made with
//! `empty = "drop"`, or a centroid has no direction) are drawn as k-means++ draws, given the others. A table of another `k` or of
//! features of another length does not fit. Nor does one of other features of the same length, as after another training of the
//! network: its centroids lie where no images are, which shows in clusters that lose all of theirs.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tessera_schemas::{clusters, column, features, meta};

use super::lloyd::{Given, Lloyd, Round};
use super::start;
use crate::operator::RunError;
use crate::random::Draw;
use crate::vectors::{self, to_unit_length};

/// Centroids of an earlier table.
#[derive(Debug, Clone, PartialEq)]
pub struct Previous {
    /// Their clusters' numbers, rising, below `k`.
    pub numbers: Vec<usize>,
    /// Images that each had.
    pub sizes: Vec<i64>,
    /// `numbers x dimension`.
    pub centroids: Vec<f32>,
}

/// Whether a table of that schema has `k` clusters in `dimension` dimensions.
///
/// # Errors
/// It has not; the message says what it has.
pub fn fits(last: &SchemaRef, k: usize, dimension: usize) -> Result<(), String> {
    let length = features::dimension(last, clusters::CENTROID).map_err(|error| error.to_string())?;
    if length != dimension {
        return Err(format!("they have {length} dimensions, and features have {dimension}"));
    }
    let field = column::field(last, clusters::CLUSTER).map_err(|error| error.to_string())?;
    match meta::number::<usize>(field, meta::CLASSES) {
        Ok(known) if known == k => Ok(()),
        Ok(known) => Err(format!("they are {known}, and k is {k}")),
        Err(error) => Err(error.to_string()),
    }
}

impl Previous {
    /// The centroids in a table that [`fits`]. Spherical: they are brought to length 1.
    ///
    /// # Errors It is not a table of clusters; the message says why, as the message of [`fits`] does.
    pub fn new(table: &[RecordBatch], k: usize, dimension: usize, spherical: bool) -> Result<Self, String> {
        let clusters::Sorted { numbers, sizes, mut centroids, dimension: found } =
            clusters::sorted(table).map_err(|error| error.to_string())?;
        if numbers.is_empty() || found != dimension {
            return Err(format!("there are {} of {found} dimensions", numbers.len()));
        }
        if let Err(fault) = vectors::check(&centroids, dimension) {
            return Err(format!("that of cluster {} {fault}", numbers[fault.row]));
        }
        let sizes = sizes.ok_or("their clusters' sizes are not known")?;
        let mut known = Self { numbers: Vec::new(), sizes: Vec::new(), centroids: Vec::new() };
        for ((number, size), centroid) in numbers.into_iter().zip(sizes).zip(centroids.chunks_exact_mut(dimension)) {
            let number = usize::try_from(number).ok().filter(|&number| number < k && known.numbers.last() != Some(&number));
            let number = number.ok_or_else(|| format!("their numbers are not those of {k} clusters"))?;
            // One without a direction is as good as none.
            if !spherical || to_unit_length(centroid) {
                known.numbers.push(number);
                known.sizes.push(size);
                known.centroids.extend_from_slice(centroid);
            }
        }
        if known.numbers.is_empty() { Err("none of them has a direction".to_owned()) } else { Ok(known) }
    }

    /// How many images each of `k` centroids stands for: what batches of images then move it by.
    pub fn counts(&self, k: usize) -> Vec<u64> {
        let mut counts = vec![0; k];
        for (&number, &size) in self.numbers.iter().zip(&self.sizes) {
            counts[number] = u64::try_from(size).unwrap_or_default();
        }
        counts
    }

    /// `k x dimension` centroids: those that are known, and for the other numbers rows, drawn.
    ///
    /// # Errors
    /// The run was cancelled.
    pub fn complete(
        &self,
        same: Given<'_>,
        k: usize,
        draw: &mut Draw,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>, RunError> {
        let dimension = same.rows.dimension;
        let drawn = start::plus_plus(same, &self.centroids, k - self.numbers.len(), draw, cancelled)?;
        let mut centroids = vec![0.0; k * dimension];
        let mut drawn = drawn.chunks_exact(dimension);
        let mut known = self.numbers.iter().zip(self.centroids.chunks_exact(dimension)).peekable();
        for (number, centroid) in centroids.chunks_exact_mut(dimension).enumerate() {
            let known = known.next_if(|(known, _)| **known == number).map(|(_, centroid)| centroid);
            centroid.copy_from_slice(known.or_else(|| drawn.next()).expect("each number is known or drawn"));
        }
        Ok(centroids)
    }

    /// Whether most clusters that had images have none under these sizes; then how many of how many.
    pub fn emptied(&self, sizes: &[i64]) -> Option<(usize, usize)> {
        let had = || self.numbers.iter().zip(&self.sizes).filter(|(_, size)| **size > 0);
        let (lost, all) = (had().filter(|(number, _)| sizes[**number] == 0).count(), had().count());
        (2 * lost > all).then_some((lost, all))
    }

    /// Assigns rows to the known centroids. Returns what to go on with, or why that would be of no use.
    ///
    /// # Errors
    /// The run was cancelled.
    pub fn assign<'a>(
        &self,
        mut lloyd: Lloyd<'a>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Result<(Lloyd<'a>, Round), String>, RunError> {
        let round = lloyd.assign(cancelled)?;
        Ok(match self.emptied(lloyd.sizes()) {
            Some((lost, all)) => Err(format!("no image is near to {lost} of {all} of them")),
            None => Ok((lloyd, round)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(k: usize, sizes: Vec<i64>, centroids: Vec<f32>) -> RecordBatch {
        clusters::batch(&clusters::schema(k, 2), sizes, centroids).unwrap()
    }

    #[test]
    fn other_numbers_and_lengths_do_not_fit() {
        assert_eq!(fits(&clusters::schema(3, 2), 3, 2), Ok(()));
        assert_eq!(fits(&clusters::schema(3, 2), 4, 2).unwrap_err(), "they are 3, and k is 4");
        assert_eq!(fits(&clusters::schema(3, 2), 3, 5).unwrap_err(), "they have 2 dimensions, and features have 5");
        assert!(fits(&features::schema([("feature", 2)]), 3, 2).is_err());
    }

    #[test]
    fn gaps_are_left_and_nonsense_is_named() {
        let whole = table(3, vec![4, 0, 6], vec![0.0, 1.0, 0.0, 0.0, 3.0, 4.0]);
        let previous = Previous::new(&[whole.slice(2, 1), whole.slice(0, 1)], 3, 2, false).unwrap();
        assert_eq!((&previous.numbers[..], &previous.sizes[..]), (&[0, 2][..], &[4, 6][..]));
        assert_eq!((previous.centroids.clone(), previous.counts(3)), (vec![0.0, 1.0, 3.0, 4.0], vec![4, 0, 6]));
        let directions = Previous::new(std::slice::from_ref(&whole), 3, 2, true).unwrap();
        assert_eq!((directions.numbers, directions.centroids), (vec![0, 2], vec![0.0, 1.0, 0.6, 0.8]));
        let refused = |table: RecordBatch, k| Previous::new(&[table], k, 2, false).unwrap_err();
        assert_eq!(refused(whole.clone(), 2), "their numbers are not those of 2 clusters");
        assert_eq!(refused(whole.slice(0, 0), 2), "there are 0 of 2 dimensions");
        let infinite = refused(table(1, vec![1], vec![0.0, f32::INFINITY]), 1);
        assert!(infinite.starts_with("that of cluster 0 has inf"), "{infinite}");
    }

    #[test]
    fn most_clusters_must_keep_images() {
        let previous = Previous { numbers: vec![0, 2, 3, 4], sizes: vec![9, 0, 9, 9], centroids: vec![0.0; 8] };
        assert_eq!(previous.emptied(&[1, 0, 0, 5, 0]), None);
        assert_eq!(previous.emptied(&[1, 0, 7, 0, 0]), Some((2, 3)));
    }
}
