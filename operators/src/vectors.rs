//! What operators on vectors share: which column, which values, a vector's length, and the workers of maps from vectors to vectors.

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use tessera_schemas::{IMAGE_ID, SchemaError, clusters, column, features, meta, text, vector};

use crate::operator::{BindError, BindErrors, Binding, MapFn, RunError, Scope};

/// The largest magnitude that a value may have: squares of differences then fit f32 in 2^20 dimensions.
pub const LARGEST: f32 = 1e15;

/// The input with the column of vectors, in all operators that have one.
const FEATURES: &str = "features";

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
    /// The value.
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
/// There is no such column, it holds no vectors, or empty ones. If the table has none at all, it is said of
/// that: the input `features`, as all call it that have such a column.
pub fn dimension(schema: &SchemaRef, column: &str) -> Result<usize, BindError> {
    let fault = match features::dimension(schema, column) {
        Ok(0) => format!("column `{column}` holds vectors of no values"),
        Ok(dimension) => return Ok(dimension),
        Err(error) => error.to_string(),
    };
    let is_vector =
        |kind: &DataType| matches!(kind, DataType::FixedSizeList(item, 1..) if features::is_element(item.data_type()));
    let known: Vec<_> = schema.fields().iter().filter(|f| is_vector(f.data_type())).map(|f| f.name().as_str()).collect();
    if known.is_empty() && !matches!(features::dimension(schema, column), Ok(0)) {
        return Err(
            BindError::table(FEATURES, "has no column of vectors").help("`infer` and `hog` make stages that have one")
        );
    }
    Err(BindError::key("column", fault).help(format!("columns of vectors: {}", known.join(", "))))
}

/// A side whose rows are numbered vectors that features are held against: centroids, or directions.
pub struct Side {
    /// Its port.
    pub port: &'static str,
    /// Its column of numbers, whose field says how many rows there are.
    pub number: &'static str,
    /// Its column of vectors.
    pub vector: &'static str,
    /// What its rows are called.
    pub rows: &'static str,
    /// What to do where its vectors are not of the features' length.
    pub help: &'static str,
}

/// Centroids, as `kmeans` makes them.
pub const CENTROIDS: Side = Side {
    port: "clusters",
    number: clusters::CLUSTER,
    vector: clusters::CENTROID,
    rows: "centroids",
    help: "use clusters of the same features",
};

impl Side {
    /// How many rows its schema says. Adds what is wrong with it, and with the `column` of the input `features`.
    pub fn rows(&self, binding: &Binding<'_>, features: &str, column: &str, errors: &mut BindErrors) -> Option<usize> {
        let (features, side) = (binding.inputs.required(features), binding.inputs.required(self.port));
        let fault = |error: SchemaError| BindError::input(self.port, error.to_string());
        let of_features = errors.keep(dimension(features, column));
        let of_rows = errors.keep(features::dimension(side, self.vector).map_err(fault));
        let number = column::field(side, self.number).and_then(|field| meta::number(field, meta::CLASSES));
        let rows = errors.keep(number.map_err(fault));
        if let (Some(of_features), Some(of_rows)) = (of_features, of_rows)
            && of_features != of_rows
        {
            let message = format!("{} have {of_rows} dimensions, but `{column}` has {of_features}", self.rows);
            errors.push(BindError::input(self.port, message).help(self.help));
        }
        rows
    }
}

/// The values of a batch's column of vectors, `n x D`, and D.
///
/// # Errors
/// A vector or a value of one is null, or as [`check`] says; then the image is named. Or there is no such column of vectors.
pub fn of_images<'a>(batch: &'a RecordBatch, column: &str) -> Result<(Cow<'a, [f32]>, usize), RunError> {
    let refused = |row: usize, reason: String| -> RunError {
        let named = text(batch, IMAGE_ID).map(|ids| ids.value(row).to_owned());
        named.map_or_else(Into::into, |image_id| RunError::Row { image_id, reason })
    };
    let (values, dimension) = match vector(batch, column) {
        Err(SchemaError::Null { row, .. }) => {
            return Err(refused(row, format!("`{column}` has a null, which is no number")));
        }
        found => found?,
    };
    match check(&values, dimension) {
        Err(fault) => Err(refused(fault.row, format!("`{column}` {fault}"))),
        Ok(()) => Ok((values, dimension)),
    }
}

/// A table of vectors with those values, a column each, for the images of a batch.
///
/// # Errors
/// The batch names no images, or there are not that many values.
pub fn table(
    batch: &RecordBatch,
    schema: &SchemaRef,
    columns: impl IntoIterator<Item = Vec<f32>>,
) -> Result<RecordBatch, RunError> {
    let mut arrays = vec![column(batch, IMAGE_ID)?.clone()];
    for (field, values) in schema.fields()[1..].iter().zip(columns) {
        arrays.push(features::array(values, features::dimension(schema, field.name())?));
    }
    Ok(RecordBatch::try_new(schema.clone(), arrays)?)
}

/// A worker that makes vectors of vectors: `make` gets the values of a batch's column, `n x D`, and gives as many rows of the schema's
/// length.
pub fn worker(
    column: &str,
    schema: &SchemaRef,
    make: impl FnMut(Cow<'_, [f32]>) -> Vec<f32> + Send + 'static,
) -> Box<dyn MapFn> {
    Box::new(Worker { column: column.to_owned(), schema: schema.clone(), make })
}

struct Worker<F> {
    column: String,
    schema: SchemaRef,
    make: F,
}

impl<F: FnMut(Cow<'_, [f32]>) -> Vec<f32> + Send> MapFn for Worker<F> {
    fn call(&mut self, batch: &RecordBatch, _: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let (values, _) = of_images(batch, &self.column)?;
        table(batch, &self.schema, [(self.make)(values)])
    }
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
    use std::sync::Arc;

    use arrow::array::{ArrayRef, FixedSizeListBuilder, Float32Builder, StringArray};
    use serde_json::json;
    use tessera_schemas::components::Components;

    use super::*;
    use crate::trial;

    #[test]
    fn unfit_values_are_found() {
        assert_eq!(check(&[1.0, -LARGEST, 0.0, LARGEST], 2), Ok(()));
        let fault = check(&[1.0, 2.0, 3.0, f32::INFINITY, f32::NAN, 0.0], 2).unwrap_err();
        assert_eq!((fault.row, fault.dimension), (1, 1));
        assert_eq!(fault.to_string(), "has inf in dimension 1; values must be finite, of magnitude up to 1e15");
        assert_eq!(check(&[f32::NAN], 1).unwrap_err().row, 0);
        assert!(check(&[LARGEST * 1.01], 1).is_err());
    }

    /// Vectors of three values, the second of them null, or one of its values; a slice of a longer table.
    fn with_null(whole: bool) -> RecordBatch {
        let mut list = FixedSizeListBuilder::new(Float32Builder::new(), 3);
        for row in 0..4 {
            list.values().append_value(row as f32);
            list.values().append_option((whole || row != 2).then_some(1.0));
            list.values().append_value(0.5);
            list.append(!whole || row != 2);
        }
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["z", "a", "b/c.jpg", "d"]));
        let vectors: ArrayRef = Arc::new(list.finish());
        RecordBatch::try_from_iter([(IMAGE_ID, ids), ("feature", vectors)]).unwrap().slice(1, 3)
    }

    /// A null would look like a 0 to whoever reads the numbers.
    #[test]
    fn a_null_names_its_image_in_all_operators_on_vectors() {
        for whole in [false, true] {
            let table = with_null(whole);
            assert!(of_images(&table.slice(2, 1), "feature").is_ok());
            let expected = "image `b/c.jpg`: `feature` has a null, which is no number";
            assert_eq!(of_images(&table, "feature").unwrap_err().to_string(), expected);
            let refused = |name: &str, config, others: &[(&'static str, RecordBatch)]| {
                let inputs = [&[("features", table.clone())], others].concat();
                let error = trial::run(crate::find(name).unwrap(), config, &inputs).unwrap_err().to_string();
                assert_eq!(error, expected, "{name}");
            };
            let zeros = vec![0.0; 6];
            let clusters = clusters::batch(&clusters::schema(2, 3), vec![1; 2], zeros.clone()).unwrap();
            let two = Components { directions: zeros, variances: vec![1.0; 2], offsets: vec![0.0; 2], dimension: 3 };
            let labels =
                RecordBatch::try_from_iter([(IMAGE_ID, table.column(0).clone()), ("label", table.column(0).clone())]);
            refused("kmeans", json!({"k": 1}), &[]);
            refused("kmeans", json!({"k": 1, "memory": 1}), &[]);
            refused("pca", json!({"components": 1}), &[]);
            refused("normalize", json!({}), &[]);
            refused("assign", json!({}), &[("clusters", clusters)]);
            refused("project", json!({}), &[("components", two.batch(1.0).unwrap())]);
            refused("probe", json!({}), &[("labels", labels.unwrap())]);
        }
    }
}
