//! `components`: the directions in which features vary most, by which `project` makes shorter ones.

use std::sync::Arc;

use arrow::array::{Float64Array, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{SchemaError, column, features, int32, meta, vector};

/// The column with a component's number: 0 is the one of the largest variance.
pub const COMPONENT: &str = "component";
/// The column with its direction, of length 1.
pub const DIRECTION: &str = "direction";
/// The column with the features' variance in that direction.
pub const VARIANCE: &str = "variance";
/// The column with the place of the features' mean in that direction.
pub const OFFSET: &str = "offset";

/// `component`, `variance`, `share` (of all variance), `offset`, `direction` of `count` components in `dimension` dimensions.
pub fn schema(count: usize, dimension: usize) -> SchemaRef {
    Arc::new(Schema::new(vec![
        meta::with(Field::new(COMPONENT, DataType::Int32, false), meta::CLASSES, count.to_string()),
        Field::new(VARIANCE, DataType::Float64, false),
        Field::new("share", DataType::Float64, false),
        Field::new(OFFSET, DataType::Float64, false),
        features::field(DIRECTION, dimension),
    ]))
}

/// Components, by falling variance.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Components {
    /// `c x dimension`.
    pub directions: Vec<f32>,
    /// `c`.
    pub variances: Vec<f64>,
    /// `c`.
    pub offsets: Vec<f64>,
    /// The length of a direction.
    pub dimension: usize,
}

impl Components {
    /// The table; `total` is the variance in all directions together.
    ///
    /// # Errors
    /// The lengths do not fit each other.
    pub fn batch(self, total: f64) -> Result<RecordBatch, SchemaError> {
        let share = |&variance: &f64| if total > 0.0 { variance / total } else { 0.0 };
        let schema = schema(self.variances.len(), self.dimension);
        let shares: Float64Array = self.variances.iter().map(share).collect::<Vec<_>>().into();
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values(0..self.variances.len() as i32)),
            Arc::new(Float64Array::from(self.variances)),
            Arc::new(shares),
            Arc::new(Float64Array::from(self.offsets)),
            features::array(self.directions, self.dimension),
        ];
        Ok(RecordBatch::try_new(schema, columns)?)
    }

    /// From a table in whatever batches and order; the first `most`, if that is said.
    ///
    /// # Errors
    /// A column is missing, has another type or a null, or two batches differ in dimension.
    pub fn of(batches: &[RecordBatch], most: Option<usize>) -> Result<Self, SchemaError> {
        let (mut rows, mut all) = (Vec::new(), Self::default());
        for batch in batches {
            let (directions, dimension) = vector(batch, DIRECTION)?;
            if !rows.is_empty() && dimension != all.dimension {
                return Err(SchemaError::Build(format!("column `{DIRECTION}` has vectors of several lengths")));
            }
            all.dimension = dimension;
            let numbers = column::without_nulls(int32(batch, COMPONENT)?, COMPONENT)?;
            rows.extend((all.variances.len()..).zip(numbers.values()).map(|(row, number)| (*number, row)));
            all.directions.extend_from_slice(&directions);
            all.variances.extend_from_slice(column::doubles(batch, VARIANCE)?.values());
            all.offsets.extend_from_slice(column::doubles(batch, OFFSET)?.values());
        }
        rows.sort_unstable();
        rows.truncate(most.unwrap_or(usize::MAX));
        let places = || rows.iter().map(|&(_, row)| row);
        Ok(Self {
            directions: places().flat_map(|row| &all.directions[row * all.dimension..][..all.dimension]).copied().collect(),
            variances: places().map(|row| all.variances[row]).collect(),
            offsets: places().map(|row| all.offsets[row]).collect(),
            dimension: all.dimension,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_come_back_in_order() {
        let three = Components {
            directions: vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8],
            variances: vec![4.0, 2.0, 1.0],
            offsets: vec![0.5, 1.5, 2.5],
            dimension: 2,
        };
        let table = three.clone().batch(8.0).unwrap();
        let parts = [table.slice(2, 1), table.slice(0, 2)];
        assert_eq!(Components::of(&parts, None).unwrap(), three);
        let two = Components::of(&parts, Some(2)).unwrap();
        assert_eq!((two.variances, two.directions.len()), (vec![4.0, 2.0], 4));
        assert_eq!(column::doubles(&table, "share").unwrap().values(), &[0.5, 0.25, 0.125]);
        assert!(Components::of(&[table.project(&[0, 1, 3]).unwrap()], None).is_err());
    }
}
