//! `classifier`: a linear classifier of features, a class a row.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::column::without_nulls;
use crate::{SchemaError, features, text, vector};

/// The column with a class's name.
pub const LABEL: &str = "label";
/// The column with how many images it was learnt from.
pub const IMAGES: &str = "images";
/// The column with what is added to the product of a feature and the weights.
pub const BIAS: &str = "bias";
/// The column with what a feature is multiplied with.
pub const WEIGHT: &str = "weight";

/// `label`, `images`, `bias`, `weight` for features of `dimension` values.
pub fn schema(dimension: usize) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(LABEL, DataType::Utf8, false),
        Field::new(IMAGES, DataType::Int64, false),
        Field::new(BIAS, DataType::Float64, false),
        features::field(WEIGHT, dimension),
    ]))
}

/// A linear classifier: a feature is of the class of the largest product with its weights, and bias added.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Classifier {
    /// The classes' names, sorted.
    pub labels: Vec<String>,
    /// How many images each was learnt from.
    pub images: Vec<i64>,
    /// A number a class.
    pub biases: Vec<f64>,
    /// `classes x dimension`.
    pub weights: Vec<f32>,
    /// The length of a feature.
    pub dimension: usize,
}

impl Classifier {
    /// The table.
    ///
    /// # Errors
    /// The lengths do not fit each other.
    pub fn batch(self) -> Result<RecordBatch, SchemaError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(self.labels)),
            Arc::new(Int64Array::from(self.images)),
            Arc::new(Float64Array::from(self.biases)),
            features::array(self.weights, self.dimension),
        ];
        Ok(RecordBatch::try_new(schema(self.dimension), columns)?)
    }

    /// From a table in whatever batches and order.
    ///
    /// # Errors
    /// A column is missing, has another type or a null, two batches differ in dimension, or a class is there twice.
    pub fn of(batches: &[RecordBatch]) -> Result<Self, SchemaError> {
        let mut all = Self::default();
        for batch in batches {
            let (weights, dimension) = vector(batch, WEIGHT)?;
            if !all.weights.is_empty() && dimension != all.dimension {
                return Err(SchemaError::Build(format!("column `{WEIGHT}` has vectors of several lengths")));
            }
            all.dimension = dimension;
            all.weights.extend_from_slice(&weights);
            let labels = without_nulls(text(batch, LABEL)?, LABEL)?;
            all.labels.extend(labels.iter().flatten().map(str::to_owned));
            all.images.extend_from_slice(without_nulls(crate::int64(batch, IMAGES)?, IMAGES)?.values());
            all.biases.extend_from_slice(crate::column::doubles(batch, BIAS)?.values());
        }
        let mut order: Vec<usize> = (0..all.labels.len()).collect();
        order.sort_by(|&one, &other| all.labels[one].cmp(&all.labels[other]));
        if let Some(pair) = order.windows(2).find(|pair| all.labels[pair[0]] == all.labels[pair[1]]) {
            return Err(SchemaError::Build(format!("column `{LABEL}` has the class `{}` twice", all.labels[pair[0]])));
        }
        let of = |row: &usize| &all.weights[row * all.dimension..][..all.dimension];
        Ok(Self {
            labels: order.iter().map(|&row| all.labels[row].clone()).collect(),
            images: order.iter().map(|&row| all.images[row]).collect(),
            biases: order.iter().map(|&row| all.biases[row]).collect(),
            weights: order.iter().flat_map(of).copied().collect(),
            dimension: all.dimension,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_back_in_order() {
        let two = Classifier {
            labels: vec!["a".into(), "b".into()],
            images: vec![4, 5],
            biases: vec![0.5, -0.5],
            weights: vec![1.0, 2.0, 3.0, 4.0],
            dimension: 2,
        };
        let table = two.clone().batch().unwrap();
        assert_eq!(Classifier::of(&[table.slice(1, 1), table.slice(0, 1)]).unwrap(), two);
        assert_eq!(Classifier::of(&[]).unwrap(), Classifier::default());
        let error = Classifier::of(&[table.clone(), table.slice(0, 1)]).unwrap_err().to_string();
        assert_eq!(error, "column `label` has the class `a` twice");
        assert!(Classifier::of(&[table.project(&[0, 1, 2]).unwrap()]).is_err());
    }
}
