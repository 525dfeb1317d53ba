//! What operators on vectors share: which column, which values, and a vector's length.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use tessera_schemas::{IMAGE_ID, features, text};

use crate::operator::{BindError, RunError};

/// The largest magnitude that a value may have: squares of differences then fit f32 in 2^20 dimensions.
pub const LARGEST: f32 = 1e15;

/// The column of vectors that stages read where nothing is said.
pub fn feature() -> String {
    features::FEATURE.to_owned()
}

/// A value that vectors may not have.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("has {value:?} in dimension {dimension}; values must be finite, of magnitude up to {LARGEST:e}")]
pub struct Unfit {
    /// Its row.
    pub row: usize,
    /// Its place in the row.
    pub dimension: usize,
    /// What it is.
    pub value: f32,
}

/// Checks `n x dimension` values.
///
/// # Errors
/// One is not finite, or its magnitude is above [`LARGEST`]: the first such.
pub fn check(rows: &[f32], dimension: usize) -> Result<(), Unfit> {
    let fits = |value: &f32| value.abs() <= LARGEST;
    if rows.iter().fold(true, |all, value| all & fits(value)) {
        return Ok(());
    }
    let at = rows.iter().position(|value| !fits(value)).expect("the fold found one");
    Err(Unfit { row: at / dimension, dimension: at % dimension, value: rows[at] })
}

/// The length of the vectors in the column that a stage's `column` names.
///
/// # Errors
/// There is no such column, it holds no vectors, or empty ones.
pub fn dimension(schema: &SchemaRef, column: &str) -> Result<usize, BindError> {
    let fault = match features::dimension(schema, column) {
        Ok(0) => format!("column `{column}` holds vectors of no values"),
        Ok(dimension) => return Ok(dimension),
        Err(error) => error.to_string(),
    };
    let is_vector =
        |kind: &DataType| matches!(kind, DataType::FixedSizeList(item, 1..) if features::is_element(item.data_type()));
    let known: Vec<_> = schema.fields().iter().filter(|f| is_vector(f.data_type())).map(|f| f.name().as_str()).collect();
    let help = if known.is_empty() {
        "the input has no column of vectors; `infer` makes one".to_owned()
    } else {
        format!("columns of vectors: {}", known.join(", "))
    };
    Err(BindError::key("column", fault).help(help))
}

/// Checks the values of a batch's column.
///
/// # Errors
/// As [`check`]; the image is named.
pub fn check_images(batch: &RecordBatch, column: &str, values: &[f32], dimension: usize) -> Result<(), RunError> {
    let Err(fault) = check(values, dimension) else { return Ok(()) };
    let image_id = text(batch, IMAGE_ID)?.value(fault.row).to_owned();
    Err(RunError::Row { image_id, reason: format!("`{column}` {fault}") })
}

/// Divides a vector by its Euclidean length, in f64; false, and nothing is done, if that is zero.
pub fn to_unit_length(vector: &mut [f32]) -> bool {
    let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
    length > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfit_values_are_found() {
        assert_eq!(check(&[1.0, -LARGEST, 0.0, LARGEST], 2), Ok(()));
        let fault = check(&[1.0, 2.0, 3.0, f32::INFINITY, f32::NAN, 0.0], 2).unwrap_err();
        assert_eq!((fault.row, fault.dimension), (1, 1));
        assert_eq!(fault.to_string(), "has inf in dimension 1; values must be finite, of magnitude up to 1e15");
        assert_eq!(check(&[f32::NAN], 1).unwrap_err().row, 0);
        assert!(check(&[LARGEST * 1.01], 1).is_err());
    }
}
