//! `classify`: the class of each image, by a linear classifier of its features.
//!
//! Input: `features`, and a `classifier`, as the stage of that name makes it, of such features. Output: a row an image: the likeliest
//! class, its probability, and by how much that is above the next class's. Of a classifier that knows no class yet, all three are null;
//! of one that knows one class, every image is of it. Config: `column`. Sums are in f64, over padded blocks of rows: bit-exact for any
//! batching. New images alone are computed, as long as the classifier stays.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::classifier::{self, Classifier};
use tessera_schemas::{IMAGE_ID, column, features};

use crate::operator::{
    BindError, BindErrors, Binding, Column, ColumnKind, Context, Inputs, Map, MapFn, Operator, Port, RunError, Scope,
};
use crate::products::{BLOCK, Products};
use crate::shared::Shared;
use crate::vectors;

const FEATURES: &str = "features";
const CLASSIFIER: &str = "classifier";

/// Keys of a `classify` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The column of vectors.
    #[serde(default = "vectors::feature")]
    column: String,
}

/// The bound operator.
pub struct Classify {
    column: String,
}

impl Operator for Classify {
    const NAME: &'static str = "classify";
    const SUMMARY: &'static str = "the class of each image, by a linear classifier of its features";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", ""),
        ("label", "the likeliest class; null where the classifier knows none"),
        ("score", "its probability"),
        ("margin", "how far that is above the next class's probability: 0 where two are as likely"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.sorted]
op = "classify"
inputs = { features = "features", classifier = "classifier" }
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[
        Port::stream(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)]),
        Port::side(
            CLASSIFIER,
            &[
                Column::new(classifier::LABEL, ColumnKind::Text),
                Column::new(classifier::IMAGES, ColumnKind::Any),
                Column::new(classifier::BIAS, ColumnKind::Any),
                Column::new(classifier::WEIGHT, ColumnKind::Vector),
            ],
        ),
    ];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = BindErrors::default();
        let dimension = errors.keep(vectors::dimension(inputs.inputs.required(FEATURES), &config.column));
        let side = features::dimension(inputs.inputs.required(CLASSIFIER), classifier::WEIGHT);
        let weights = errors.keep(side.map_err(|error| BindError::input(CLASSIFIER, error.to_string())));
        if let (Some(dimension), Some(weights)) = (dimension, weights)
            && dimension != weights
        {
            let message = format!("weights have {weights} values, but `{}` has {dimension}", config.column);
            errors.push(BindError::input(CLASSIFIER, message).help("use a classifier of the same features"));
        }
        errors.or(Some(Self { column: config.column }))
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new(IMAGE_ID, DataType::Utf8, false),
            Field::new(classifier::LABEL, DataType::Utf8, true),
            Field::new("score", DataType::Float32, true),
            Field::new("margin", DataType::Float32, true),
        ]))
    }

    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        match input {
            FEATURES => vec![self.column.clone()],
            _ => port.columns.iter().map(|column| column.name.to_owned()).collect(),
        }
    }

    fn passes(&self) -> Vec<String> {
        vec![IMAGE_ID.to_owned()]
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Map>, RunError> {
        Ok(Box::new(Classes { operator: self, known: Shared::default() }))
    }
}

struct Classes {
    operator: Classify,
    known: Shared<Arc<Known>>,
}

/// The classes that a classifier knows.
struct Known {
    labels: Vec<String>,
    weights: Products,
    biases: Vec<f64>,
}

impl Map for Classes {
    fn open(&self, sides: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let make = || Known::of(sides.required(CLASSIFIER)).map(Arc::new);
        let known = self.known.handle(make, Arc::clone)?;
        Ok(Box::new(Worker { column: self.operator.column.clone(), schema: self.operator.schema(), known }))
    }

    fn block(&self) -> usize {
        BLOCK
    }
}

/// The likeliest class of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Likeliest {
    class: usize,
    score: f32,
    margin: f32,
}

impl Known {
    fn of(batches: &[RecordBatch]) -> Result<Self, RunError> {
        let Classifier { labels, biases, weights, dimension, .. } = Classifier::of(batches)?;
        if let Err(fault) = vectors::check(&weights, dimension.max(1)) {
            return Err(RunError::Input(format!("the weight of class `{}` {fault}", labels[fault.row])));
        }
        if let Some(class) = biases.iter().position(|bias| !bias.is_finite()) {
            return Err(RunError::Input(format!(
                "the bias of class `{}` is {}, which is no number",
                labels[class], biases[class]
            )));
        }
        Ok(Self { labels, weights: Products::with(&weights, dimension), biases })
    }

    /// The likeliest classes of rows, `n x D`; there must be a class.
    fn of_all(&self, values: &[f32]) -> Vec<Likeliest> {
        let mut found = Vec::new();
        self.weights.of_each(values, |products| found.push(self.likeliest(products)));
        found
    }

    /// By the products of one row. Of classes that are as likely, the first.
    fn likeliest(&self, products: &[f64]) -> Likeliest {
        let score = |class: usize| products[class] + self.biases[class];
        let class = (1..products.len()).fold(0, |best, class| if score(class) > score(best) { class } else { best });
        let odds = |other: usize| (score(other) - score(class)).exp();
        let all: f64 = (0..products.len()).map(odds).sum();
        let next = (0..products.len()).filter(|&other| other != class).map(odds).fold(0.0, f64::max);
        Likeliest { class, score: (1.0 / all) as f32, margin: ((1.0 - next) / all) as f32 }
    }
}

struct Worker {
    column: String,
    schema: SchemaRef,
    known: Arc<Known>,
}

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, _: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let (values, _) = vectors::of_images(batch, &self.column)?;
        let ids = column(batch, IMAGE_ID)?.clone();
        let found = if self.known.labels.is_empty() {
            vec![None; ids.len()]
        } else {
            self.known.of_all(&values).into_iter().map(Some).collect()
        };
        let label = |found: &Option<Likeliest>| found.map(|found| self.known.labels[found.class].as_str());
        let columns: Vec<ArrayRef> = vec![
            ids,
            Arc::new(found.iter().map(label).collect::<StringArray>()),
            Arc::new(found.iter().map(|found| found.map(|found| found.score)).collect::<Float32Array>()),
            Arc::new(found.iter().map(|found| found.map(|found| found.margin)).collect::<Float32Array>()),
        ];
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, AsArray as _};
    use arrow::datatypes::Float32Type;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::random::Draw;
    use crate::trial;

    fn classifier(labels: &[&str], biases: &[f64], weights: &[f32], dimension: usize) -> RecordBatch {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>();
        let (images, biases, weights) = (vec![1; labels.len()], biases.to_vec(), weights.to_vec());
        Classifier { labels, images, biases, weights, dimension }.batch().unwrap()
    }

    fn open(rows: &RecordBatch, side: &RecordBatch) -> Result<Box<dyn MapFn>, RunError> {
        let schemas = [(FEATURES, rows.schema()), (CLASSIFIER, side.schema())];
        trial::open(trial::bind::<Classify>(json!({}), &schemas).unwrap(), &[(CLASSIFIER, vec![side.clone()])])
    }

    #[test]
    fn the_likeliest_class_comes_with_its_margin() {
        let rows = trial::features(&[("a", &[1.0, 0.0]), ("b", &[0.0, 2.0]), ("c", &[0.0, 0.0])]);
        let side = classifier(&["x", "y"], &[0.0, 0.0], &[1.0, 0.0, 0.0, 1.0], 2);
        let found = trial::call_worker(&mut *open(&rows, &side).unwrap(), &rows).unwrap();
        let labels: Vec<_> = found.column(1).as_string::<i32>().iter().flatten().collect();
        assert_eq!(labels, ["x", "y", "x"], "of two as likely, the first");
        let values = |column: usize| found.column(column).as_primitive::<Float32Type>().values().to_vec();
        let expected = |off: f32| 1.0 / (1.0 + (-off).exp());
        for (row, off) in [1.0, 2.0, 0.0].into_iter().enumerate() {
            let score = expected(off);
            assert!((values(2)[row] - score).abs() < 1e-6 && (values(3)[row] - (2.0 * score - 1.0)).abs() < 1e-6);
        }
        // Far off, nothing overflows.
        let rows = trial::features(&[("a", &[1e6, -1e6])]);
        let found = trial::call_worker(&mut *open(&rows, &side).unwrap(), &rows).unwrap();
        assert_eq!(found.column(2).as_primitive::<Float32Type>().value(0), 1.0);
    }

    #[test]
    fn a_classifier_of_no_class_says_nothing_and_of_one_always_the_same() {
        let rows = trial::features(&[("a", &[1.0, 0.0]), ("b", &[0.0, 2.0])]);
        let none = trial::call_worker(&mut *open(&rows, &classifier(&[], &[], &[], 2)).unwrap(), &rows).unwrap();
        assert_eq!((none.num_rows(), none.column(1).null_count(), none.column(3).null_count()), (2, 2, 2));
        let one = classifier(&["x"], &[0.5], &[1.0, 0.0], 2);
        let one = trial::call_worker(&mut *open(&rows, &one).unwrap(), &rows).unwrap();
        assert_eq!(one.column(3).as_primitive::<Float32Type>().values(), &[1.0, 1.0]);
    }

    #[test]
    fn faults_name_what_was_found() {
        let rows = trial::features(&[("a", &[0.0, 1.0])]);
        let other = classifier(&["x"], &[0.0], &[1.0; 3], 3);
        let schemas = [(FEATURES, rows.schema()), (CLASSIFIER, other.schema())];
        let errors = trial::bind::<Classify>(json!({}), &schemas).err().unwrap();
        assert_eq!(errors[0].message, "weights have 3 values, but `feature` has 2");
        let error = open(&rows, &classifier(&["x", "y"], &[0.0; 2], &[1.0, 0.0, 0.0, f32::NAN], 2)).err().unwrap();
        assert!(error.to_string().starts_with("the weight of class `y` has NaN in dimension 1"), "{error}");
        let error = open(&rows, &classifier(&["x"], &[f64::NAN], &[1.0, 0.0], 2)).err().unwrap();
        assert!(error.to_string().starts_with("the bias of class `x` is NaN"), "{error}");
        let side = classifier(&["x"], &[0.0], &[1.0, 0.0], 2);
        let bad = trial::features(&[("b/c.jpg", &[0.0, f32::NAN])]);
        let error = trial::call_worker(&mut *open(&rows, &side).unwrap(), &bad).unwrap_err();
        assert!(matches!(&error, RunError::Row { image_id, .. } if image_id == "b/c.jpg"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn batches_change_no_bit(cut in 1usize..199, d in 1usize..40, k in 1usize..9, seed: u64) {
            let mut draw = Draw::new(seed, "test", "values", "", 0);
            let mut values = |count: usize| (0..count).map(|_| draw.unit() as f32 - 0.5).collect::<Vec<_>>();
            let labels: Vec<String> = (0..k).map(|class| class.to_string()).collect();
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let side = classifier(&labels, &vec![0.25; k], &values(k * d), d);
            let rows: Vec<_> = (0..200).map(|number| (format!("{number:03}"), values(d))).collect();
            let rows = trial::features(&rows.iter().map(|(id, row)| (id.as_str(), row.as_slice())).collect::<Vec<_>>());
            let mut worker = open(&rows, &side).unwrap();
            let mut call = |rows: &RecordBatch| trial::call_worker(&mut *worker, rows).unwrap();
            let whole = call(&rows);
            prop_assert_eq!(call(&rows.slice(0, cut)), whole.slice(0, cut));
            prop_assert_eq!(call(&rows.slice(cut, 200 - cut)), whole.slice(cut, 200 - cut));
        }
    }
}
