//! Images with their features, in the order of their ids: what follows from them does not depend on the order in which rows came.

use std::path::Path;

use arrow::array::{Array as _, RecordBatch};
use tessera_schemas::{IMAGE_ID, SchemaError, text};

use crate::numbers::{Numbers, Writer};
use crate::operator::RunError;
use crate::vectors;

/// The most images.
const MOST: usize = (1 << 31) - 1;
/// Rows that are looked up here and there before memory is given back.
const FAR: usize = 64;

/// Ids of images in their order, each once.
#[derive(Debug, Default)]
pub struct Ids {
    text: String,
    ends: Vec<usize>,
}

impl Ids {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// One of them.
    pub fn get(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }

    /// The number of an id, if it is there.
    pub fn find(&self, id: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).cmp(id) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn push(&mut self, id: &str) {
        self.text.push_str(id);
        self.ends.push(self.text.len());
    }

    /// Brings them into their order. The numbers by which they came, in that order; none if they came so.
    fn sort(&mut self) -> Result<Option<Vec<u32>>, RunError> {
        let risen = (1..self.count()).all(|number| self.get(number - 1) < self.get(number));
        if risen {
            return Ok(None);
        }
        let mut order: Vec<u32> = (0..self.count() as u32).collect();
        order.sort_by(|&a, &b| self.get(a as usize).cmp(self.get(b as usize)));
        let mut sorted = Self { text: String::with_capacity(self.text.len()), ends: Vec::with_capacity(self.count()) };
        order.iter().for_each(|&number| sorted.push(self.get(number as usize)));
        if let Some(number) = (1..sorted.count()).find(|&number| sorted.get(number - 1) == sorted.get(number)) {
            let (image_id, reason) = (sorted.get(number).to_owned(), "it is there twice: an image has one row".to_owned());
            return Err(RunError::Row { image_id, reason });
        }
        *self = sorted;
        Ok(Some(order))
    }
}

/// Images as they come.
pub struct Incoming<'a> {
    ids: Ids,
    values: Writer<f32>,
    column: &'a str,
    dimension: usize,
    folder: Option<&'a Path>,
}

/// Images, all there.
pub struct Gathered {
    /// Rising.
    pub ids: Ids,
    /// `n x dimension`, in that order.
    pub values: Numbers<f32>,
    /// Values in a row.
    pub dimension: usize,
}

impl<'a> Incoming<'a> {
    /// Room for `expected` rows, their values in files in a folder, if one is given.
    ///
    /// # Errors
    /// A file cannot be made, or there are 2^31 rows or more.
    pub fn new(column: &'a str, dimension: usize, expected: usize, folder: Option<&'a Path>) -> Result<Self, RunError> {
        if expected > MOST {
            return Err(RunError::Input(format!("{expected} images: at most {MOST}")));
        }
        Ok(Self { ids: Ids::default(), values: Writer::new(expected * dimension, folder)?, column, dimension, folder })
    }

    /// Adds the rows of a batch that are wanted by their ids.
    ///
    /// # Errors
    /// A column is not what it should be, or a value cannot be measured; then the image is named.
    pub fn add(&mut self, batch: &RecordBatch, wanted: &dyn Fn(&str) -> bool) -> Result<(), RunError> {
        let (ids, (values, dimension)) = (text(batch, IMAGE_ID)?, vectors::of_images(batch, self.column)?);
        if dimension != self.dimension {
            let message = format!("column `{}` has {dimension} dimensions, not {}", self.column, self.dimension);
            return Err(SchemaError::Build(message).into());
        }
        for (number, row) in values.chunks_exact(dimension).enumerate() {
            let id = ids.value(number);
            if ids.is_valid(number) && wanted(id) {
                self.ids.push(id);
                self.values.extend(row)?;
            }
        }
        if self.ids.count() > MOST {
            return Err(RunError::Input(format!("more than {MOST} images")));
        }
        Ok(())
    }

    /// All images, in the order of their ids.
    ///
    /// # Errors
    /// Two have the same id, or a file cannot be written.
    pub fn finish(self) -> Result<Gathered, RunError> {
        let Self { mut ids, values, dimension, folder, .. } = self;
        let values = values.finish()?;
        let Some(order) = ids.sort()? else { return Ok(Gathered { ids, values, dimension }) };
        let mut sorted = Writer::new(values.len(), folder)?;
        for some in order.chunks(FAR) {
            for &number in some {
                sorted.extend(&values[number as usize * dimension..][..dimension])?;
            }
            values.release(0..values.len());
        }
        Ok(Gathered { ids, values: sorted.finish()?, dimension })
    }
}

impl Gathered {
    /// How many images there are.
    pub fn count(&self) -> usize {
        self.ids.count()
    }

    /// The values of one.
    pub fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.dimension..][..self.dimension]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial;

    #[test]
    fn images_come_in_the_order_of_their_ids() {
        let folder = tempfile::tempdir().unwrap();
        for folder in [None, Some(folder.path())] {
            let mut rows = Incoming::new("feature", 2, 4, folder).unwrap();
            rows.add(&trial::features(&[("c", &[3.0, 0.5]), ("x", &[9.0, 9.0]), ("a", &[1.0, 0.0])]), &|id| id != "x")
                .unwrap();
            rows.add(&trial::features(&[("b", &[2.0, 0.25])]), &|_| true).unwrap();
            let rows = rows.finish().unwrap();
            assert_eq!((0..rows.count()).map(|number| rows.ids.get(number)).collect::<Vec<_>>(), ["a", "b", "c"]);
            assert_eq!(*rows.values, [1.0, 0.0, 2.0, 0.25, 3.0, 0.5]);
            let found = ["a", "b", "c", "", "bb", "d"].map(|id| rows.ids.find(id));
            assert_eq!(found, [Some(0), Some(1), Some(2), None, None, None]);
        }
    }

    #[test]
    fn an_image_that_is_there_twice_is_named() {
        let mut rows = Incoming::new("feature", 1, 3, None).unwrap();
        rows.add(&trial::features(&[("b", &[1.0]), ("a", &[1.0]), ("b", &[2.0])]), &|_| true).unwrap();
        let error = rows.finish().err().unwrap().to_string();
        assert_eq!(error, "image `b`: it is there twice: an image has one row");
        let nan = trial::features(&[("b", &[f32::NAN])]);
        let error = Incoming::new("feature", 1, 1, None).unwrap().add(&nan, &|_| true).unwrap_err().to_string();
        assert!(error.starts_with("image `b`: `feature` has NaN in dimension 0"), "{error}");
    }
}
