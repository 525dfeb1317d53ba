//! All features in one piece, in memory or in a file, in the order in which they came; and their order by `image_id`.

use std::path::Path;

use arrow::array::RecordBatch;
use tessera_schemas::{IMAGE_ID, SchemaError, text, vector};

use crate::nearest::Frame;
use crate::numbers::{Numbers, Writer};
use crate::operator::RunError;
use crate::vectors::{self, to_unit_length};

/// Features as they come.
pub struct Incoming {
    ids: Vec<String>,
    values: Writer<f32>,
    dimension: usize,
    peaks: Vec<f32>,
    spherical: bool,
}

/// Features, all there.
pub struct Rows {
    /// `n x dimension`, as they came.
    pub values: Numbers<f32>,
    /// Values in a row.
    pub dimension: usize,
    /// The largest magnitude in each dimension.
    pub peaks: Vec<f32>,
    /// The rows' numbers in the order of their ids. Only what must not depend on how rows came looks at it.
    pub order: Vec<u32>,
}

impl Incoming {
    /// Room for `expected` rows, in a file in `folder` if one is given. Spherical: rows are brought to length 1.
    ///
    /// # Errors
    /// The file cannot be made, or there are 2^31 rows or more.
    pub fn new(dimension: usize, expected: usize, spherical: bool, folder: Option<&Path>) -> Result<Self, RunError> {
        if expected >= 1 << 31 {
            return Err(RunError::Input(format!("{expected} images: at most {}", (1u32 << 31) - 1)));
        }
        let values = Writer::new(expected * dimension, folder)?;
        Ok(Self { ids: Vec::with_capacity(expected), values, dimension, peaks: vec![0.0; dimension], spherical })
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// A column is not what it should be, or a value cannot be clustered; then the image is named.
    pub fn add(&mut self, batch: &RecordBatch, column: &str) -> Result<(), RunError> {
        let (ids, (mut values, dimension)) = (text(batch, IMAGE_ID)?, vector(batch, column)?);
        if dimension != self.dimension {
            let message = format!("column `{column}` has {dimension} dimensions, not {}", self.dimension);
            return Err(SchemaError::Build(message).into());
        }
        vectors::check_images(batch, column, &values, dimension)?;
        if self.spherical {
            for (number, row) in values.to_mut().chunks_exact_mut(dimension).enumerate() {
                if !to_unit_length(row) {
                    let reason = format!("`{column}` is all zeros, which have no direction: `spherical` cannot place it");
                    return Err(RunError::Row { image_id: ids.value(number).to_owned(), reason });
                }
            }
        }
        for row in values.chunks_exact(dimension) {
            for (peak, value) in self.peaks.iter_mut().zip(row) {
                *peak = peak.max(value.abs());
            }
        }
        self.values.extend(&values)?;
        self.ids.extend(ids.iter().map(|id| id.unwrap_or_default().to_owned()));
        Ok(())
    }

    /// All rows.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<Rows, RunError> {
        let Self { ids, values, dimension, peaks, .. } = self;
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by(|&a, &b| ids[a as usize].cmp(&ids[b as usize]));
        Ok(Rows { values: values.finish()?, dimension, peaks, order })
    }
}

/// Rows that are looked up here and there before memory is given back.
const FAR: usize = 8;
/// Rows that a frame is made around.
const SAMPLE: usize = 4096;

impl Rows {
    /// A frame around a sample of the rows, evenly spread over their ids.
    pub fn frame(&self) -> Frame {
        let step = self.count().div_ceil(SAMPLE).max(1);
        let places: Vec<_> = (0..self.count()).step_by(step).collect();
        Frame::around(&self.gather(&places), self.dimension)
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// One row, by its number as it came.
    pub fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.dimension..][..self.dimension]
    }

    /// Copies of the rows at those places in the order of ids.
    pub fn gather(&self, places: &[usize]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(places.len() * self.dimension);
        for some in places.chunks(FAR) {
            some.iter().for_each(|&place| rows.extend_from_slice(self.row(self.order[place] as usize)));
            // The system may have brought in megabytes around each of them.
            self.values.release(0..self.values.len());
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trial;

    fn incoming(dimension: usize, spherical: bool) -> Incoming {
        Incoming::new(dimension, 0, spherical, None).unwrap()
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_ids(ids in proptest::collection::hash_set("[a-z]{1,3}", 0..40)) {
            let mut rows = incoming(2, false);
            for (number, id) in ids.iter().enumerate() {
                let values = [number as f32, id.len() as f32];
                rows.add(&trial::features(&[(id, &values)]), "feature").unwrap();
            }
            let ids: Vec<_> = ids.into_iter().collect();
            let rows = rows.finish().unwrap();
            prop_assert_eq!(rows.count(), ids.len());
            let places: Vec<_> = (0..ids.len()).collect();
            let sorted = rows.gather(&places);
            let came: Vec<_> = sorted.chunks(2).map(|row| &ids[row[0] as usize]).collect();
            prop_assert!(came.is_sorted());
            prop_assert!(sorted.chunks(2).zip(&came).all(|(row, id)| row[1] == id.len() as f32));
        }
    }

    #[test]
    fn peaks_are_of_columns() {
        let mut rows = incoming(2, false);
        rows.add(&trial::features(&[("a", &[1.0, -8.0]), ("b", &[-3.0, 5.0])]), "feature").unwrap();
        assert_eq!(rows.finish().unwrap().peaks, [3.0, 8.0]);
    }

    #[test]
    fn a_value_that_is_no_number_names_its_image() {
        let batch = trial::features(&[("a", &[1.0, 2.0]), ("x/y.jpg", &[1.0, f32::NEG_INFINITY])]);
        let error = incoming(2, false).add(&batch, "feature").unwrap_err();
        assert!(error.to_string().starts_with("image `x/y.jpg`: `feature` has -inf in dimension 1"), "{error}");
    }

    #[test]
    fn spherical_rows_have_length_one() {
        let mut rows = incoming(2, true);
        rows.add(&trial::features(&[("a", &[3.0, -4.0])]), "feature").unwrap();
        let error = rows.add(&trial::features(&[("b", &[1.0, 0.0]), ("c", &[0.0, -0.0])]), "feature").unwrap_err();
        assert!(error.to_string().starts_with("image `c`: `feature` is all zeros"), "{error}");
        assert_eq!(*rows.finish().unwrap().values, [0.6, -0.8]);
    }
}
