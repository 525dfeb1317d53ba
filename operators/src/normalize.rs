//! `normalize`: vectors of length 1, so that distances between them are of directions alone.
//!
//! Input: `features`. Output: the same table with each vector divided by its Euclidean length; one of zeros stays. Config: `column`.
//! Bit-exact. DeepCluster (Caron et al., ECCV 2018) does so behind a whitened PCA: `pca`, `project`, `normalize`, `kmeans`.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::{IMAGE_ID, features};

use crate::operator::{BindError, Binding, Column, ColumnKind, Context, Inputs, Map, MapFn, Operator, Port, RunError};
use crate::vectors;

const FEATURES: &str = "features";

/// Keys of a `normalize` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The column of vectors.
    #[serde(default = "vectors::feature")]
    column: String,
}

/// The bound operator.
pub struct Normalize {
    column: String,
    dimension: usize,
    schema: SchemaRef,
}

impl Operator for Normalize {
    const NAME: &'static str = "normalize";
    const SUMMARY: &'static str = "features brought to length 1";
    const OUTPUT: &'static [(&'static str, &'static str)] =
        &[("each of the input", "as it is; only the vectors are brought to length 1")];
    const EXAMPLE: &'static str = r#"
[stage.directions]
op = "normalize"
input = "short"
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[Port::stream(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)])];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let dimension = vectors::dimension(inputs.inputs.required(FEATURES), &config.column);
        let dimension = dimension.map_err(|error| vec![error])?;
        let schema = features::schema([(config.column.as_str(), dimension)]);
        Ok(Self { column: config.column, dimension, schema })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, _: &str, _: &'static Port) -> Vec<String> {
        vec![self.column.clone()]
    }

    fn passes(&self) -> Vec<String> {
        vec![IMAGE_ID.to_owned()]
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Map>, RunError> {
        Ok(Box::new(self))
    }
}

impl Map for Normalize {
    fn open(&self, _: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let dimension = self.dimension;
        Ok(vectors::worker(&self.column, &self.schema, move |values| {
            let mut values = values.into_owned();
            for row in values.chunks_exact_mut(dimension) {
                vectors::to_unit_length(row);
            }
            values
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::trial;

    fn call(rows: &RecordBatch) -> Result<RecordBatch, RunError> {
        let operator: Normalize = trial::bind(json!({}), &[(FEATURES, rows.schema())]).unwrap();
        trial::call(operator, &[], rows)
    }

    #[test]
    fn lengths_become_one() {
        let rows = trial::features(&[("a", &[3.0, 4.0]), ("b", &[0.0, 0.0]), ("c", &[-1e-20, 0.0]), ("d", &[1e14, 1e14])]);
        let half = 0.5f32.sqrt();
        let expected: [(&str, &[f32]); 4] =
            [("a", &[0.6, 0.8]), ("b", &[0.0, 0.0]), ("c", &[-1.0, 0.0]), ("d", &[half, half])];
        assert_eq!(call(&rows).unwrap(), trial::features(&expected));
    }

    #[test]
    fn a_value_that_is_no_number_names_its_image() {
        let error = call(&trial::features(&[("a", &[1.0]), ("b.jpg", &[f32::NAN])])).unwrap_err();
        assert!(error.to_string().starts_with("image `b.jpg`: `feature` has NaN"), "{error}");
    }
}
