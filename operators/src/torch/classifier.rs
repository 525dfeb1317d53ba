//! `classifier`: a linear classifier, learnt from the images that have a label.
//!
//! Input: `features`, one vector an image, and `labels`, any table with `image_id` and a column of labels: what `names` makes, for one.
//! Output: a class a row, with the weights by which `classify` finds the class of any image with such features. Config: `column`,
//! `label`, `c`, `iterations`, `memory`. Images without a label are left out, and counted as the metric `unlabelled`; a label without
//! features is left out. Without any label the table is empty.
//!
//! A multinomial logistic regression on features that are standardised by the mean and the deviation of the labelled images, as `probe`
//! fits it: the objective is scikit-learn's `LogisticRegression(C=c)`, minimised by L-BFGS. The weights are for features as they are, not
//! standardised. Sums are in f32 on all threads: not the same to the last bit for another number of them.

use arrow::datatypes::{DataType, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::classifier::{self, Classifier as Found};
use tessera_schemas::{IMAGE_ID, column, named};

use super::linear::data::Split;
use super::linear::fit::Fitter;
use super::linear::read::read;
use super::linear::{FEATURES, LABELS, Splits, Target, Wanted};
use super::threads::Threads;
use crate::config::Limits;
use crate::memory::Memory;
use crate::operator::{
    BindError, BindErrors, Binding, Column, ColumnKind, Context, Operator, Port, RunError, Sink, Tables, Whole,
};
use crate::vectors;

/// What the regularisation is of one image: the pull towards zero is then as strong beside the mean loss, however many there are.
const STRENGTH: f64 = 3.0;
/// Bytes that an id takes, with what attaches to it: few take more.
const ID: usize = 60;
/// The column that features and labels both have.
const COLUMNS: [Column; 1] = [Column::new(IMAGE_ID, ColumnKind::Text)];

/// Keys of a `classifier` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The column of vectors.
    #[serde(default = "vectors::feature")]
    column: String,
    /// The column of `labels` with what an image shows: text or whole numbers.
    #[serde(default = "label")]
    label: String,
    /// The regularisation, as scikit-learn's C: a smaller number is a stronger one. Default: 3 divided by the number of labelled images,
    /// which suits a few labels as well as many that are not all right.
    #[serde(default)]
    c: Option<f64>,
    /// The most iterations of the fit.
    #[serde(default = "iterations")]
    iterations: usize,
    /// The most memory for the labelled images' features and ids, such as `"2GiB"`. What does not fit is kept in temporary files in the
    /// store, and read piece by piece, with the same result but for rounding. Default: three quarters of what is free.
    #[serde(default)]
    memory: Option<Memory>,
}

fn label() -> String {
    named::LABEL.to_owned()
}

fn iterations() -> usize {
    200
}

/// The bound operator.
pub struct Classifier {
    /// One column.
    columns: Vec<String>,
    target: Target,
    c: Option<f64>,
    iterations: usize,
    memory: Option<Memory>,
    dimension: usize,
}

impl Operator for Classifier {
    const NAME: &'static str = "classifier";
    const SUMMARY: &'static str = "a linear classifier of features, learnt from the images that have a label";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("label", "a class"),
        ("images", "how many images it was learnt from"),
        ("bias", "what is added to the product of a feature and the weights"),
        ("weight", "what a feature is multiplied with, value by value"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.classifier]
op = "classifier"
inputs = { features = "features", labels = "named" }
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[Port::scan(FEATURES, &COLUMNS), Port::scan(LABELS, &COLUMNS)];
    const NEUTRAL: &'static [&'static str] = &["memory"];
    const LIMITS: Limits = &[("c", 1e12), ("iterations", 1e6), ("memory", 1e18)];
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn faults(config: &Config) -> Vec<BindError> {
        let mut faults = Vec::new();
        if let Some(c) = config.c.filter(|&c| !(c > 0.0 && c.is_finite())) {
            faults.push(BindError::key("c", format!("c is {c}, and should be above 0")));
        }
        if config.iterations == 0 {
            faults.push(BindError::key("iterations", "0 iterations fit nothing: at least 1"));
        }
        faults
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = BindErrors::default();
        errors.extend(Self::faults(&config));
        let dimension = errors.keep(vectors::dimension(inputs.inputs.required(FEATURES), &config.column));
        match column::field(inputs.inputs.required(LABELS), &config.label) {
            Ok(field) if *field.data_type() == DataType::Utf8 || field.data_type().is_integer() => {}
            Ok(field) => {
                let message =
                    format!("`{}` of `{LABELS}` should be text or whole numbers, found {}", config.label, field.data_type());
                errors.push(BindError::key("label", message));
            }
            Err(error) => errors.push(BindError::key("label", format!("`{LABELS}`: {error}"))),
        }
        let Config { column, label, c, iterations, memory } = config;
        errors.or(dimension.map(|dimension| Self {
            columns: vec![column],
            target: Target::One(label),
            c,
            iterations,
            memory,
            dimension,
        }))
    }

    fn schema(&self) -> SchemaRef {
        classifier::schema(self.dimension)
    }

    fn reads(&self, input: &str, _: &'static Port) -> Vec<String> {
        let column = match (&self.target, input) {
            (Target::One(label), LABELS) => label,
            _ => &self.columns[0],
        };
        vec![IMAGE_ID.to_owned(), column.clone()]
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Whole>, RunError> {
        Ok(Box::new(Run { classifier: self, context: context.clone() }))
    }
}

struct Run {
    classifier: Classifier,
    context: Context,
}

impl Whole for Run {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Self { classifier, context } = *self;
        let Classifier { columns, target, c, iterations, dimension, .. } = &classifier;
        let _threads = Threads::new(context.threads)?;
        let _guard = tch::no_grad_guard();
        let spill = classifier.exceeds(tables, sink)?.map(|most| (context.scratch.as_path(), most));
        let wanted = Wanted { columns, target, splits: &Splits::All };
        let (examples, layers) = read(wanted, tables, context.seed, spill, sink)?;
        sink.metric(0, 0, "unlabelled", examples.unlabelled as f64);
        sink.metric(0, 0, "labelled", examples.len() as f64);
        if examples.classes.is_empty() {
            sink.say("no image has a label yet: the classifier knows no class");
        } else if examples.len() == 0 {
            let message = format!("no image of `{LABELS}` is in `{FEATURES}`: they should have the same `{IMAGE_ID}`");
            return Err(RunError::Input(message));
        }
        let mut found = Found { dimension: *dimension, ..Found::default() };
        if examples.len() > 0 {
            sink.progress(0, 1, "fitting");
            let mut fitter = Fitter::new(&layers[0], &examples, &[Split::Train])?;
            fitter.fit(c.unwrap_or(STRENGTH / examples.len() as f64), *iterations, &|| sink.cancelled())?;
            let (weights, biases) = fitter.plain()?;
            let mut images = vec![0; biases.len()];
            examples.targets.iter().for_each(|class| images[*class as usize] += 1);
            // A class of which no image has features was not learnt.
            for (class, label) in examples.classes.iter().enumerate().filter(|(class, _)| images[*class] > 0) {
                found.labels.push(label.clone());
                found.images.push(images[class]);
                found.biases.push(biases[class]);
                found.weights.extend_from_slice(&weights[class * dimension..][..*dimension]);
            }
        }
        sink.metric(0, 0, "classes", found.labels.len() as f64);
        sink.write(found.batch()?)
    }
}

impl Classifier {
    /// Whether what images take must go to files; then it says so, and how many bytes may be held.
    fn exceeds(&self, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<Option<usize>, RunError> {
        let rows = tables.rows(FEATURES)?.min(tables.rows(LABELS)?);
        let stored = size_of::<f32>() * self.dimension + size_of::<i32>() + 1;
        // Sorted copies, what is learnt of them, and two ids.
        let needed = stored + 2 * size_of::<f32>() * (self.dimension + 1) + 2 * ID;
        Ok(Memory::exceeded(self.memory, Memory((rows * needed) as u64), Memory((rows * stored) as u64), sink))
    }
}

#[cfg(test)]
mod tests;
