//! `probe`: how well a linear classifier tells labelled images apart by their features, layer by layer (paper, tables 4 and 6).
//!
//! Input: `features`, one or more vectors an image, and `labels`, any table with `image_id` and what its images show: a column
//! `label`, or one column a class with -1, 0 (difficult: ignored) and 1, as PASCAL VOC has it, named by `classes` or marked as such
//! ([`presence`]: `images` makes them of VOC). Images that `labels` says nothing of are left out, and counted as the metric `unlabelled`.
//!
//! Each layer's features are standardised by the training images' mean and deviation; a multinomial logistic regression is fitted for
//! each `c`, one against the rest with `classes`; from the strongest on, until two in a row are worse than the best. The one that is best
//! on the images of the split `validation` is chosen and measured on those of `test`. Without images for the test, those for validation are
//! the test: what was chosen by them says too much of them. Without (other) validation images a fifth of the training images takes their
//! part, and learns with the others once the choice is made. Without a column `split` a fifth of all images, drawn by seed and
//! `image_id`, is the test.
//!
//! Output: a number a row: `layer`, `c`, `chosen`, `split`, `metric` (`top1` and `top5`; with `classes` `ap`, for each `class`, and
//! `map`), `value`, `images`. AP is VOC 2007's, over 11 recalls. Metrics of the run: each layer's on the test, such as `conv4_top1`.
//!
//! Memory: the labelled images' features, those of one layer twice more, and their ids. Under `memory` they go to nameless files.
//!
//! The objective is scikit-learn's `LogisticRegression(C=c)`, minimised by L-BFGS (Liu, Nocedal, 1989). Sums are in f32 on all threads:
//! not the same to the last bit for another number of them.

mod run;
mod table;

use arrow::datatypes::{DataType, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::{IMAGE_ID, column, features, presence};

use super::linear::{FEATURES, LABELS, Splits, Target, Wanted};
use crate::config::Limits;
use crate::memory::Memory;
use crate::operator::{BindError, Binding, Column, ColumnKind, Context, Operator, Port, RunError, Sink, Tables, Whole};
use crate::vectors;
use run::Run;

/// Bytes that an id takes, with what attaches to it: few take more.
const ID: usize = 60;
/// The column that features and labels both have.
const COLUMNS: [Column; 1] = [Column::new(IMAGE_ID, ColumnKind::Text)];

/// Keys of a `probe` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The columns of vectors, each probed by itself. Default: all that `features` has.
    #[serde(default)]
    columns: Option<Vec<String>>,
    /// The column of `labels` with what an image shows: text or whole numbers. Default: `"label"`, unless there are classes.
    #[serde(default)]
    label: Option<String>,
    /// In place of `label`: columns of `labels` that say for one class each whether an image shows it: 1, -1, or 0 for one that is
    /// not to count. Default: those that are marked as such, if there are some and `label` is not given.
    #[serde(default)]
    classes: Option<Vec<String>>,
    /// The column of `labels` with `train`, `validation` (or `val`) or `test`; images of other splits are left out. Default: `"split"`
    /// if there is one. Two of the three are enough: one to learn from, and one to measure.
    #[serde(default)]
    split: Option<String>,
    /// Regularisations to try, as scikit-learn's C: a smaller number is a stronger one. They are tried from the strongest on, until two
    /// in a row are worse on validation than the best.
    #[serde(default = "strengths")]
    c: Vec<f64>,
    /// The most iterations of one classifier's fit.
    #[serde(default = "iterations")]
    iterations: usize,
    /// The most memory for the images' features and ids, such as `"2GiB"`. What does not fit is kept in temporary files in the store,
    /// and read piece by piece, with the same result but for rounding. Default: three quarters of what is free.
    #[serde(default)]
    memory: Option<Memory>,
}

fn strengths() -> Vec<f64> {
    vec![1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
}

fn iterations() -> usize {
    200
}

/// The bound operator.
pub struct Probe {
    columns: Vec<String>,
    target: Target,
    splits: Splits,
    strengths: Vec<f64>,
    iterations: usize,
    memory: Option<Memory>,
    /// Values that an image has in all columns, and in the one with most.
    values: [usize; 2],
}

impl Operator for Probe {
    const NAME: &'static str = "probe";
    const SUMMARY: &'static str = "how well linear classifiers tell labelled images apart by their features";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("layer", "the column of features"),
        ("c", "the regularisation, of those that were tried"),
        ("chosen", "whether it was the best on validation"),
        ("split", "what it was measured on"),
        (
            "metric",
            "`top1`, `top5`: the share of images whose class is the likeliest, or one of the likeliest five; with `classes`, `ap`: VOC \
             2007's average precision of a class, over 11 recalls, and `map`: its mean over the classes",
        ),
        ("class", "the class that `ap` is of"),
        ("value", "from 0 to 1"),
        ("images", "how many it was measured on"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.probes]
op = "probe"
inputs = { features = "layers", labels = "images" }
"#;
    const VERSION: u32 = 4;
    const INPUTS: &'static [Port] = &[Port::scan(FEATURES, &COLUMNS), Port::scan(LABELS, &COLUMNS)];
    const SEEDED: bool = true;
    const NEUTRAL: &'static [&'static str] = &["memory"];
    const LIMITS: Limits = &[("c", 1e12), ("iterations", 1e6), ("memory", 1e18)];
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let (rows, labels) = (inputs.inputs.required(FEATURES), inputs.inputs.required(LABELS));
        let mut errors = Vec::new();
        let columns = config.columns.unwrap_or_else(|| vectors_of(rows));
        if columns.is_empty() {
            let error =
                BindError::table(FEATURES, "has no column of vectors").help("`infer` and `hog` make stages that have one");
            errors.push(error);
        }
        let mut values = [0; 2];
        for name in &columns {
            match vectors::dimension(rows, name) {
                Ok(dimension) => values = [values[0] + dimension, values[1].max(dimension)],
                Err(BindError { message, help, .. }) => {
                    errors.push(BindError { help, ..BindError::key("columns", message) });
                }
            }
        }
        let marked = || Some(presence::names(labels)).filter(|names| config.label.is_none() && !names.is_empty());
        let classes = config.classes.or_else(marked);
        let target = target(config.label, classes, labels).map_err(|more| errors.extend(more)).ok();
        let split = match config.split {
            None => labels.field_with_name("split").is_ok().then(|| "split".to_owned()),
            some => some,
        };
        if let Some(split) = &split
            && let Err(fault) = of_kind(labels, split, |kind| kind == &DataType::Utf8, "text")
        {
            errors.push(BindError::key("split", fault));
        }
        if config.c.is_empty() || !config.c.iter().all(|&c| c > 0.0 && c.is_finite()) {
            errors.push(BindError::key("c", "should be one or more numbers above 0"));
        }
        if config.iterations == 0 {
            errors.push(BindError::key("iterations", "0 iterations fit nothing: at least 1"));
        }
        let mut strengths = config.c;
        strengths.sort_by(f64::total_cmp);
        match target {
            Some(target) if errors.is_empty() => {
                let (iterations, memory) = (config.iterations, config.memory);
                let splits = split.map_or(Splits::Drawn, Splits::Column);
                Ok(Self { columns, target, splits, strengths, iterations, memory, values })
            }
            _ => Err(errors),
        }
    }

    fn schema(&self) -> SchemaRef {
        table::schema()
    }

    fn reads(&self, input: &str, _: &'static Port) -> Vec<String> {
        let of_labels = || {
            let targets = match &self.target {
                Target::One(label) => vec![label.clone()],
                Target::Each(classes) => classes.clone(),
            };
            targets.into_iter().chain(self.split().map(str::to_owned)).collect()
        };
        let more = if input == FEATURES { self.columns.clone() } else { of_labels() };
        std::iter::once(IMAGE_ID.to_owned()).chain(more).collect()
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        let (label, classes) = match &self.target {
            Target::One(label) => (Some(label.clone()), None),
            Target::Each(classes) => (None, Some(classes.clone())),
        };
        vec![
            ("columns", self.columns.clone().into()),
            ("label", label.into()),
            ("classes", classes.into()),
            ("split", self.split().into()),
        ]
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Whole>, RunError> {
        Ok(Box::new(Run { probe: self, context: context.clone() }))
    }
}

impl Probe {
    /// The column of splits.
    fn split(&self) -> Option<&str> {
        if let Splits::Column(name) = &self.splits { Some(name) } else { None }
    }

    /// What is read.
    fn wanted(&self) -> Wanted<'_> {
        Wanted { columns: &self.columns, target: &self.target, splits: &self.splits }
    }

    /// Whether what images take must go to files; then it says so, and how many bytes may be held.
    fn exceeds(&self, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<Option<usize>, RunError> {
        let rows = tables.rows(FEATURES)?.min(tables.rows(LABELS)?);
        let targets = match &self.target {
            Target::One(_) => 1,
            Target::Each(classes) => classes.len(),
        };
        let stored = size_of::<f32>() * self.values[0] + size_of::<i32>() * targets + 1;
        // Sorted copies of one layer, what is learnt of it, and two ids.
        let needed = stored + 2 * size_of::<f32>() * (self.values[1] + 1) + 2 * ID;
        Ok(Memory::exceeded(self.memory, Memory((rows * needed) as u64), Memory((rows * stored) as u64), sink))
    }
}

/// The names of all columns of vectors.
fn vectors_of(schema: &SchemaRef) -> Vec<String> {
    let names = schema.fields().iter().map(|field| field.name());
    names.filter(|name| features::dimension(schema, name).is_ok()).cloned().collect()
}

/// Which columns say what images show.
fn target(label: Option<String>, classes: Option<Vec<String>>, labels: &SchemaRef) -> Result<Target, Vec<BindError>> {
    let Some(classes) = classes else {
        let label = label.unwrap_or_else(|| "label".to_owned());
        let fits = |kind: &DataType| kind == &DataType::Utf8 || kind.is_integer();
        let fault = of_kind(labels, &label, fits, "text or whole numbers").err();
        return match fault {
            Some(fault) => Err(vec![BindError::key("label", fault)]),
            None => Ok(Target::One(label)),
        };
    };
    let mut errors = Vec::new();
    if label.is_some() {
        errors.push(BindError::key("label", "`classes` takes its place: remove one of them"));
    }
    if classes.is_empty() {
        errors.push(BindError::key("classes", "should name one column or more"));
    }
    let faults = classes.iter().filter_map(|class| of_kind(labels, class, DataType::is_integer, "whole numbers").err());
    errors.extend(faults.map(|fault| BindError::key("classes", fault)));
    if errors.is_empty() { Ok(Target::Each(classes)) } else { Err(errors) }
}

/// Complains about a column of `labels` that is missing or of another type.
fn of_kind(labels: &SchemaRef, name: &str, fits: impl Fn(&DataType) -> bool, what: &str) -> Result<(), String> {
    let field = column::field(labels, name).map_err(|error| format!("`{LABELS}`: {error}"))?;
    if fits(field.data_type()) {
        return Ok(());
    }
    Err(format!("`{name}` of `{LABELS}` should be {what}, found {}", field.data_type()))
}

#[cfg(test)]
mod tests;
