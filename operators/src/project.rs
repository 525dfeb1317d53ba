//! `project`: features in the directions that `pca` found.
//!
//! Input: `features`, and `components`, as `pca` makes them, of these features or of others of the same network. Output: features of
//! one value a component: the place in its direction, from the mean on. Config: `components` (only the first so many), `whiten`
//! (each is divided by its standard deviation), `column`. Sums are in f64, over padded blocks of rows: bit-exact for any batching.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::components::{self, Components};
use tessera_schemas::{IMAGE_ID, features};

use crate::config::Limits;
use crate::operator::{
    BindError, BindErrors, Binding, Column, ColumnKind, Context, Inputs, Map, MapFn, Operator, Port, RunError,
};
use crate::products::{BLOCK, Products};
use crate::shared::Shared;
use crate::vectors;

const FEATURES: &str = "features";
const COMPONENTS: &str = "components";
/// What features are held against.
const DIRECTIONS: vectors::Side = vectors::Side {
    port: COMPONENTS,
    number: components::COMPONENT,
    vector: components::DIRECTION,
    rows: "components",
    help: "use components of the same kind of features",
};
/// A variance below this share of the largest is rounding: nothing is divided by it.
const NOTHING: f64 = 1e-12;

/// Keys of a `project` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many components to use: the first ones. Default: all that `pca` made.
    #[serde(default)]
    components: Option<usize>,
    /// Whether each value is divided by its standard deviation.
    #[serde(default)]
    whiten: bool,
    /// The column of vectors.
    #[serde(default = "vectors::feature")]
    column: String,
}

/// The bound operator.
pub struct Project {
    config: Config,
    /// How many components are used.
    count: usize,
    schema: SchemaRef,
}

impl Operator for Project {
    const NAME: &'static str = "project";
    const SUMMARY: &'static str = "features in the directions that pca found";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", ""),
        ("feature", "one value a component: the feature less the features' mean, projected on the component's direction"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.short]
op = "project"
inputs = { features = "features", components = "components" }
whiten = true
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[
        Port::stream(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)]),
        Port::side(
            COMPONENTS,
            &[
                Column::new(components::COMPONENT, ColumnKind::Integer),
                Column::new(components::VARIANCE, ColumnKind::Any),
                Column::new(components::OFFSET, ColumnKind::Any),
                Column::new(components::DIRECTION, ColumnKind::Vector),
            ],
        ),
    ];
    const LIMITS: Limits = &[("components", 1e6)];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = BindErrors::default();
        let there = DIRECTIONS.rows(inputs, FEATURES, &config.column, &mut errors);
        let count = config.components.or(there);
        if let (Some(count), Some(there)) = (count, there)
            && !(1..=there).contains(&count)
        {
            errors
                .push(BindError::key("components", format!("{count} components of {there}")).help(format!("1 to {there}")));
        }
        errors.or(count.map(|count| {
            let schema = features::schema([(config.column.as_str(), count)]);
            Self { config, count, schema }
        }))
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        match input {
            FEATURES => vec![self.config.column.clone()],
            _ => port.columns.iter().map(|column| column.name.to_owned()).collect(),
        }
    }

    fn passes(&self) -> Vec<String> {
        vec![IMAGE_ID.to_owned()]
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("components", self.count.into())]
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Map>, RunError> {
        Ok(Box::new(Projector { operator: self, directions: Shared::default() }))
    }
}

struct Projector {
    operator: Project,
    directions: Shared<Arc<Directions>>,
}

/// What features are multiplied with.
struct Directions {
    products: Products,
    offsets: Vec<f64>,
    scales: Vec<f64>,
}

impl Map for Projector {
    fn open(&self, sides: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let Project { config: Config { whiten, column, .. }, count, .. } = &self.operator;
        let make = || {
            let found = Components::of(sides.required(COMPONENTS), Some(*count))?;
            Directions::new(found, *count, *whiten).map(Arc::new)
        };
        let directions = self.directions.handle(make, Arc::clone)?;
        Ok(vectors::worker(column, &self.operator.schema, move |values| directions.of_all(&values)))
    }

    fn block(&self) -> usize {
        BLOCK
    }
}

impl Directions {
    fn new(found: Components, wanted: usize, whiten: bool) -> Result<Self, RunError> {
        let count = found.variances.len();
        if count < wanted {
            return Err(RunError::Input(format!("components is {wanted}, but `{COMPONENTS}` has {count} rows")));
        }
        let least = NOTHING * found.variances.iter().fold(0.0f64, |largest, &variance| largest.max(variance));
        let scale = |&variance: &f64| match (whiten, variance > least) {
            (false, _) => 1.0,
            (true, true) => 1.0 / variance.sqrt(),
            (true, false) => 0.0,
        };
        Ok(Self {
            products: Products::with(&found.directions, found.dimension),
            scales: found.variances.iter().map(scale).collect(),
            offsets: found.offsets,
        })
    }

    /// Projects rows, `n x D` to `n x c`.
    fn of_all(&self, values: &[f32]) -> Vec<f32> {
        let mut projected = Vec::new();
        self.products.of_each(values, |products| {
            let place = |((value, offset), scale): ((&f64, &f64), &f64)| ((value - offset) * scale) as f32;
            projected.extend(products.iter().zip(&self.offsets).zip(&self.scales).map(place));
        });
        projected
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::random::Draw;
    use crate::trial;

    fn axes() -> RecordBatch {
        let two = Components {
            directions: vec![0.5, 0.75, -0.75, 0.5],
            variances: vec![4.0, 0.0],
            offsets: vec![4.5, -1.0],
            dimension: 2,
        };
        two.batch(4.0).unwrap()
    }

    fn bound(config: serde_json::Value, rows: &RecordBatch) -> Result<Project, Vec<BindError>> {
        trial::bind(config, &[(FEATURES, rows.schema()), (COMPONENTS, axes().schema())])
    }

    fn call(config: serde_json::Value, rows: &RecordBatch) -> Result<RecordBatch, RunError> {
        trial::call(bound(config, rows).unwrap(), &[(COMPONENTS, vec![axes()])], rows)
    }

    #[test]
    fn values_are_places_in_their_directions() {
        let rows = trial::features(&[("a", &[3.0, 4.0]), ("b", &[0.0, 10.0])]);
        let plain = call(json!({}), &rows).unwrap();
        assert_eq!(plain, trial::features(&[("a", &[0.0, 0.75]), ("b", &[3.0, 6.0])]));
        let white = call(json!({"components": 2, "whiten": true}), &rows).unwrap();
        assert_eq!(white, trial::features(&[("a", &[0.0, 0.0]), ("b", &[1.5, 0.0])]));
        let one = call(json!({"components": 1}), &rows).unwrap();
        assert_eq!(one, trial::features(&[("a", &[0.0]), ("b", &[3.0])]));
    }

    #[test]
    fn faults_are_named() {
        let three = trial::features(&[("a", &[1.0, 2.0, 3.0])]);
        let error = bound(json!({"components": 2}), &three).err().unwrap();
        assert_eq!(error[0].message, "components have 2 dimensions, but `feature` has 3");
        let two = trial::features(&[("a", &[1.0, 2.0])]);
        assert_eq!(
            bound(json!({"components": 3}), &two).err().unwrap()[0].at,
            crate::operator::At::Key("components".into())
        );
        let operator = bound(json!({}), &two).unwrap();
        let error = trial::call(operator, &[(COMPONENTS, vec![axes().slice(0, 1)])], &two).unwrap_err();
        assert_eq!(error.to_string(), "components is 2, but `components` has 1 rows");
        let error = call(json!({"components": 1}), &trial::features(&[("x.jpg", &[0.0, f32::INFINITY])])).unwrap_err();
        assert!(error.to_string().starts_with("image `x.jpg`: `feature` has inf"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn batches_change_no_bit(cut in 1usize..199, d in 1usize..40, seed: u64) {
            let mut draw = Draw::new(seed, "test", "values", "", 0);
            let mut values = |count: usize| (0..count).map(|_| draw.unit() as f32 - 0.5).collect::<Vec<_>>();
            let c = d.div_ceil(2);
            let found = Components { directions: values(c * d), variances: vec![1.0; c], offsets: vec![0.25; c], dimension: d };
            let directions = Arc::new(Directions::new(found, c, false).unwrap());
            let rows: Vec<_> = (0..200).map(|number| (format!("{number:03}"), values(d))).collect();
            let rows = trial::features(&rows.iter().map(|(id, row)| (id.as_str(), row.as_slice())).collect::<Vec<_>>());
            let schema = features::schema([("feature", c)]);
            let mut worker = vectors::worker("feature", &schema, move |values| directions.of_all(&values));
            let mut call = |rows: &RecordBatch| trial::call_worker(&mut *worker, rows).unwrap();
            let whole = call(&rows);
            prop_assert_eq!(call(&rows.slice(0, cut)), whole.slice(0, cut));
            prop_assert_eq!(call(&rows.slice(cut, 200 - cut)), whole.slice(cut, 200 - cut));
        }
    }
}
