//! `layout`: a map of images in the plane, on which those with like features lie near each other (UMAP).
//!
//! Input: `features`, one vector an image, and `near`, their neighbours, as `neighbours` makes them; without it, exact neighbours are looked for. Output: for each image its place, and its features, by which
//! `place` finds the place of others. Metric: `kept`, the share of true neighbours that are neighbours on the map, of a sample of images: a map is for finding one's
//! way, and this says how far to believe it.
//!
//! Of more images than `landmarks`, so many are chosen by hash(seed, `image_id`), and the map is of those; their neighbours among each other are looked for, and `near` is not read. `place` puts
//! all others on it.
//!
//! Exact: no bit depends on the order of the rows or the number of threads ([`descend`]); sums and roots are the only operations on the way whose
//! results could depend on the machine, and are the same on all. References: McInnes, Healy, Melville, "UMAP", 2018; the batches of uwot (Melville); start by principal
//! components ([`start`]).
//!
//! Memory: the landmarks' features once in f32, once in 8 or 16 bits where neighbours are looked for, and some 400 bytes more a landmark.

pub mod descend;
pub mod graph;
pub mod kept;
mod run;
pub mod start;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::{IMAGE_ID, neighbours, points};

use crate::config::Limits;
use crate::operator::{BindError, BindErrors, Binding, Column, ColumnKind, Context, Operator, Port, RunError, Whole};
use crate::vectors;

const FEATURES: &str = "features";
const NEAR: &str = "near";
/// Images up to which there are more epochs, and how many there are then and else, as in umap-learn.
const FEW: usize = 10_000;
const EPOCHS: [usize; 2] = [500, 200];

/// Keys of a `layout` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How images are laid out.
    #[serde(default)]
    method: Method,
    /// The most images that the map is made of. Of more, so many are chosen at random; `place` puts the others on the map.
    #[serde(default = "landmarks")]
    landmarks: usize,
    /// How many neighbours of an image pull it, of those that `near` has.
    #[serde(default = "count")]
    count: usize,
    /// How often all images are moved. Default: 500 times for up to 10,000 images, else 200 times.
    #[serde(default)]
    epochs: Option<usize>,
    /// The column of vectors.
    #[serde(default = "vectors::feature")]
    column: String,
}

/// How images are laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
enum Method {
    /// Neighbours pull each other together, and chance pairs push each other apart (McInnes, Healy, Melville, 2018).
    #[default]
    Umap,
}

fn landmarks() -> usize {
    100_000
}

fn count() -> usize {
    15
}

/// The bound operator.
pub struct Plane {
    config: Config,
    dimension: usize,
    /// Whether there is a table of neighbours.
    near: bool,
    schema: SchemaRef,
}

impl Operator for Plane {
    const NAME: &'static str = "layout";
    const SUMMARY: &'static str = "a map of images in the plane, like ones near each other (UMAP)";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", ""),
        ("x", "its place on the map from left to right"),
        ("y", "its place from bottom to top"),
        ("feature", "its feature, for `place`; under the name that `column` says"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.map]
op = "layout"
inputs = { features = "features", near = "near" }
landmarks = 100000
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[
        Port::scan(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)]),
        Port::scan(
            NEAR,
            &[
                Column::new(IMAGE_ID, ColumnKind::Text),
                Column::new(neighbours::RANK, ColumnKind::Integer),
                Column::new(neighbours::NEIGHBOUR, ColumnKind::Text),
                Column::new(neighbours::DISTANCE, ColumnKind::Any),
            ],
        )
        .optional(),
    ];
    const SEEDED: bool = true;
    const LIMITS: Limits = &[("landmarks", 1e8), ("count", 1e3), ("epochs", 1e6)];
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn faults(config: &Config) -> Vec<BindError> {
        let mut faults = Vec::new();
        for (key, value, what) in [
            ("landmarks", Some(config.landmarks), "a map of 0 images is empty"),
            ("count", Some(config.count), "0 neighbours pull nothing"),
            ("epochs", config.epochs, "0 epochs move nothing"),
        ] {
            if value == Some(0) {
                faults.push(BindError::key(key, format!("{what}: at least 1")));
            }
        }
        faults
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = BindErrors::default();
        errors.extend(Self::faults(&config));
        let dimension = errors.keep(vectors::dimension(inputs.inputs.required(FEATURES), &config.column));
        if [IMAGE_ID, points::X, points::Y].contains(&config.column.as_str()) {
            let fault = BindError::key("column", format!("`{}` is a column of the map itself", config.column));
            errors.push(fault.help("give the vectors another name, by a stage of `sql`"));
        }
        let near = inputs.inputs.get(NEAR).is_some();
        errors.or(dimension.map(|dimension| {
            let schema = points::with_features(&config.column, dimension);
            Self { config, dimension, near, schema }
        }))
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        match input {
            FEATURES => vec![IMAGE_ID.to_owned(), self.config.column.clone()],
            _ => port.columns.iter().map(|column| column.name.to_owned()).collect(),
        }
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Whole>, RunError> {
        Ok(Box::new(run::Run { operator: self, context: context.clone() }))
    }
}

impl Config {
    /// How often so many images are moved.
    fn epochs(&self, images: usize) -> usize {
        self.epochs.unwrap_or(EPOCHS[usize::from(images > FEW)])
    }
}

#[cfg(test)]
mod tests;
