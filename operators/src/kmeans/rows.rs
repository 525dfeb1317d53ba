//! All features in one piece of memory, sorted by `image_id`.

use arrow::array::RecordBatch;
use tessera_schemas::{IMAGE_ID, SchemaError, text, vector};

use crate::nearest::{self, Frame};
use crate::operator::RunError;

/// Features as they come.
pub struct Rows {
    ids: Vec<String>,
    sorted: Sorted,
}

/// Features in the order of their ids.
pub struct Sorted {
    /// `n x dimension`.
    pub values: Vec<f32>,
    /// Values in a row.
    pub dimension: usize,
    /// The largest magnitude in each dimension.
    pub peaks: Vec<f32>,
}

impl Rows {
    /// Room for `expected` rows, so that they are copied once.
    pub fn new(dimension: usize, expected: usize) -> Self {
        let values = Vec::with_capacity(expected * dimension);
        let sorted = Sorted { values, dimension, peaks: vec![0.0; dimension] };
        Self { ids: Vec::with_capacity(expected), sorted }
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// A column is not what it should be, or a value cannot be clustered; then the image is named.
    pub fn add(&mut self, batch: &RecordBatch, column: &str) -> Result<(), RunError> {
        let (ids, (values, dimension)) = (text(batch, IMAGE_ID)?, vector(batch, column)?);
        if dimension != self.sorted.dimension {
            let message = format!("column `{column}` has {dimension} dimensions, not {}", self.sorted.dimension);
            return Err(SchemaError::Build(message).into());
        }
        if let Err(fault) = nearest::check(values, dimension) {
            let image_id = ids.value(fault.row).to_owned();
            return Err(RunError::Row { image_id, reason: format!("`{column}` {fault}") });
        }
        for row in values.chunks_exact(dimension) {
            for (peak, value) in self.sorted.peaks.iter_mut().zip(row) {
                *peak = peak.max(value.abs());
            }
        }
        self.sorted.values.extend_from_slice(values);
        self.ids.extend(ids.iter().map(|id| id.unwrap_or_default().to_owned()));
        Ok(())
    }

    /// All rows, sorted where they lie.
    pub fn sorted(self) -> Sorted {
        let Self { ids, mut sorted } = self;
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by(|&a, &b| ids[a].cmp(&ids[b]));
        permute(&mut sorted.values, sorted.dimension, order);
        sorted
    }
}

/// Rows that a frame is made around.
const SAMPLE: usize = 4096;

impl Sorted {
    /// A frame around a sample of the rows, evenly spread.
    pub fn frame(&self) -> Frame {
        let step = self.count().div_ceil(SAMPLE).max(1);
        let sample: Vec<f32> = (0..self.count()).step_by(step).flat_map(|row| self.row(row)).copied().collect();
        Frame::around(&sample, self.dimension)
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// One row.
    pub fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.dimension..][..self.dimension]
    }
}

/// Puts row `order[i]` at place `i` for all `i`, cycle by cycle, with room for one more row.
fn permute(values: &mut [f32], dimension: usize, mut order: Vec<usize>) {
    let range = |row: usize| row * dimension..(row + 1) * dimension;
    let mut first = vec![0.0; dimension];
    for start in 0..order.len() {
        if order[start] == start {
            continue;
        }
        first.copy_from_slice(&values[range(start)]);
        let mut place = start;
        loop {
            let from = std::mem::replace(&mut order[place], place);
            if from == start {
                values[range(place)].copy_from_slice(&first);
                break;
            }
            values.copy_within(range(from), place * dimension);
            place = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trial;

    proptest! {
        #[test]
        fn rows_end_up_sorted(ids in proptest::collection::hash_set("[a-z]{1,3}", 0..40)) {
            let mut rows = Rows::new(2, 0);
            for (number, id) in ids.iter().enumerate() {
                let values = [number as f32, id.len() as f32];
                rows.add(&trial::features(&[(id, &values)]), "feature").unwrap();
            }
            let ids: Vec<_> = ids.into_iter().collect();
            let sorted = rows.sorted();
            prop_assert_eq!(sorted.count(), ids.len());
            let came: Vec<_> = (0..ids.len()).map(|place| &ids[sorted.row(place)[0] as usize]).collect();
            prop_assert!(came.is_sorted());
            prop_assert!((0..ids.len()).all(|place| sorted.row(place)[1] == came[place].len() as f32));
        }
    }

    #[test]
    fn peaks_are_of_columns() {
        let mut rows = Rows::new(2, 2);
        rows.add(&trial::features(&[("a", &[1.0, -8.0]), ("b", &[-3.0, 5.0])]), "feature").unwrap();
        assert_eq!(rows.sorted().peaks, [3.0, 8.0]);
    }

    #[test]
    fn a_value_that_is_no_number_names_its_image() {
        let batch = trial::features(&[("a", &[1.0, 2.0]), ("x/y.jpg", &[1.0, f32::NEG_INFINITY])]);
        let error = Rows::new(2, 2).add(&batch, "feature").unwrap_err();
        assert!(error.to_string().starts_with("image `x/y.jpg`: `feature` has -inf in dimension 1"), "{error}");
    }
}
