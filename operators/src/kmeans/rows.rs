//! All features in one piece, in memory or in a file, in the order in which they came; and their order by `image_id`.

use std::path::Path;

use arrow::array::{Array as _, RecordBatch};
use tessera_schemas::{IMAGE_ID, SchemaError, text};

use crate::nearest::Frame;
use crate::numbers::{Numbers, Writer};
use crate::operator::{Dropped, RunError};
use crate::sorted::Sorter;
use crate::vectors::{self, to_unit_length};

/// The share of the memory that sorting ids may take.
const IDS: usize = 8;

/// Features as they come.
pub struct Incoming {
    ids: Sorter,
    count: u32,
    values: Writer<f32>,
    dimension: usize,
    peaks: Vec<f32>,
    directions: Option<Directions>,
}

/// Rows are brought to length 1.
pub struct Directions {
    /// Whether rows of zeros, which have no direction, are left out.
    pub drop: bool,
    /// Rows that were left out and not reported yet.
    pub dropped: Vec<Dropped>,
}

/// Features, all there.
pub struct Rows {
    /// `n x dimension`, as they came.
    pub values: Numbers<f32>,
    /// Values in a row.
    pub dimension: usize,
    /// The largest magnitude in each dimension.
    pub peaks: Vec<f32>,
    /// How many rows there are.
    pub count: usize,
    /// The rows' numbers in the order of their ids; `None` if the rows came in that order. It is looked at only where a result must not
    /// depend on the order in which rows came.
    pub order: Option<Numbers<u32>>,
}

impl Incoming {
    /// Room for `expected` rows, in files in a folder, but for so many bytes, if that is given. Rows are brought to length 1 if
    /// directions are asked for.
    ///
    /// # Errors
    /// A file cannot be made, or there are 2^31 rows or more.
    pub fn new(
        dimension: usize,
        expected: usize,
        directions: Option<Directions>,
        spill: Option<(&Path, usize)>,
    ) -> Result<Self, RunError> {
        if expected >= 1 << 31 {
            return Err(RunError::Input(format!("{expected} images: at most {}", (1u32 << 31) - 1)));
        }
        let values = Writer::new(expected * dimension, spill.map(|(folder, _)| folder))?;
        let ids = Sorter::new(spill.map(|(folder, most)| (folder, most / IDS)))?;
        Ok(Self { ids, count: 0, values, dimension, peaks: vec![0.0; dimension], directions })
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// A column is not what it should be, or a value cannot be clustered; then the image is named.
    pub fn add(&mut self, batch: &RecordBatch, column: &str) -> Result<(), RunError> {
        let (ids, (mut values, dimension)) = (text(batch, IMAGE_ID)?, vectors::of_images(batch, column)?);
        if dimension != self.dimension {
            let message = format!("column `{column}` has {dimension} dimensions, not {}", self.dimension);
            return Err(SchemaError::Build(message).into());
        }
        let mut left_out = vec![false; ids.len()];
        if let Some(directions) = &mut self.directions {
            for (number, row) in values.to_mut().chunks_exact_mut(dimension).enumerate() {
                if to_unit_length(row) {
                    continue;
                }
                let image_id = ids.value(number).to_owned();
                let reason = format!("`{column}` is all zeros, which have no direction: `spherical` cannot place it");
                if !directions.drop {
                    return Err(RunError::Row { image_id, reason: reason + " (on_error = \"drop\" leaves it out)" });
                }
                directions.dropped.push(Dropped { image_id, reason });
                left_out[number] = true;
            }
        }
        for (number, row) in values.chunks_exact(dimension).enumerate().filter(|(number, _)| !left_out[*number]) {
            for (peak, value) in self.peaks.iter_mut().zip(row) {
                *peak = peak.max(value.abs());
            }
            self.values.extend(row)?;
            self.ids.push(ids.value(number), &self.count.to_ne_bytes())?;
            self.count += 1;
        }
        Ok(())
    }

    /// Rows that were left out since this was asked last.
    pub fn dropped(&mut self) -> impl Iterator<Item = Dropped> {
        self.directions.iter_mut().flat_map(|directions| directions.dropped.drain(..))
    }

    /// All rows; their order goes to a file in a folder, if one is given.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self, folder: Option<&Path>) -> Result<Rows, RunError> {
        let Self { ids, count, values, dimension, peaks, .. } = self;
        let (mut order, mut came_so) = (Writer::new(count as usize, folder)?, true);
        for (place, item) in ids.finish()?.enumerate() {
            let row = u32::from_ne_bytes(item?.1.try_into().expect("four bytes were attached"));
            came_so &= row as usize == place;
            order.extend(&[row])?;
        }
        let order = if came_so { None } else { Some(order.finish()?) };
        Ok(Rows { values: values.finish()?, dimension, peaks, count: count as usize, order })
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
        self.count
    }

    /// The number of the row at that place in the order of ids.
    pub fn at(&self, place: usize) -> usize {
        self.order.as_ref().map_or(place, |order| {
            let row = order[place] as usize;
            order.release(place..place + 1);
            row
        })
    }

    /// One row, by its number as it came.
    pub fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.dimension..][..self.dimension]
    }

    /// Copies of the rows at those places in the order of ids.
    pub fn gather(&self, places: &[usize]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(places.len() * self.dimension);
        for some in places.chunks(FAR) {
            some.iter().for_each(|&place| rows.extend_from_slice(self.row(self.at(place))));
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
        Incoming::new(dimension, 0, spherical.then_some(Directions { drop: false, dropped: Vec::new() }), None).unwrap()
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
            let rows = rows.finish(None).unwrap();
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
        assert_eq!(rows.finish(None).unwrap().peaks, [3.0, 8.0]);
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
        let mut rows = Incoming::new(2, 0, Some(Directions { drop: true, dropped: Vec::new() }), None).unwrap();
        rows.add(&trial::features(&[("a", &[3.0, -4.0]), ("b", &[0.0, 0.0]), ("c", &[0.0, 2.0])]), "feature").unwrap();
        let dropped: Vec<_> = rows.dropped().map(|row| row.image_id).collect();
        assert_eq!((dropped, rows.dropped().count()), (vec!["b".to_owned()], 0));
        let rows = rows.finish(None).unwrap();
        assert_eq!((&*rows.values, rows.count()), (&[0.6, -0.8, 0.0, 1.0][..], 2));
    }
}
