//! `pca`: the directions in which features vary most. `project` makes shorter features by them.
//!
//! Input: `features`. Output: [`components`](tessera_schemas::components), by falling variance; the largest value of a direction is
//! positive. Metrics: `explained` (the share of all variance that they have together), `images`. Config: `components`, `column`.
//!
//! All features are looked at, once, in the order in which they are stored; memory is needed for a few thousand of them and three
//! matrices of `dimension x dimension` values in f64 (0.7 GB each for 9,600). Products and sums are in f64, of differences from the
//! mean of the rows at hand: the same to 1e-6 for any order, number of threads, or constant that is added to a column.
//! Reference: Pearson, 1901; Jolliffe, 2002; Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
//! variances", 1979.

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use tessera_schemas::IMAGE_ID;
use tessera_schemas::components::{self, Components};

use crate::config::Limits;
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Operator, Port, RunError, Sink, Tables, Whole, read_all,
};
use crate::torch::threads::Threads;
use crate::vectors;

const FEATURES: &str = "features";
/// The most values of rows that are multiplied at once: 64 MiB.
const AT_ONCE: usize = 1 << 23;
/// The most rows that are multiplied at once.
const ROWS: usize = 4096;

/// Keys of a `pca` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many directions are kept, at most the features' dimensions. Default: 256, as DeepCluster has it, or all if there are fewer.
    #[serde(default)]
    components: Option<usize>,
    /// The column of vectors.
    #[serde(default = "vectors::feature")]
    column: String,
}

/// The bound operator.
pub struct Pca {
    column: String,
    components: usize,
    dimension: usize,
    threads: usize,
}

impl Operator for Pca {
    const NAME: &'static str = "pca";
    const SUMMARY: &'static str = "the directions in which features vary most";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("component", "its number, from 0, by falling variance"),
        ("variance", "the variance of the features in its direction"),
        ("share", "its variance as a part of all variance"),
        ("offset", "the features' mean, projected on its direction"),
        ("direction", "the direction, a vector of length 1"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.components]
op = "pca"
input = "features"
components = 256
"#;
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] = &[Port::scan(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)])];
    const LIMITS: Limits = &[("components", 1e6)];
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let dimension = vectors::dimension(inputs.inputs.required(FEATURES), &config.column);
        let dimension = dimension.map_err(|error| vec![error])?;
        let components = config.components.unwrap_or(dimension.min(256));
        if !(1..=dimension).contains(&components) {
            let message = format!("{components} components, but `{}` has {dimension} dimensions", config.column);
            return Err(vec![BindError::key("components", message).help(format!("1 to {dimension}"))]);
        }
        Ok(Self { column: config.column, components, dimension, threads: 1 })
    }

    fn schema(&self) -> SchemaRef {
        components::schema(self.components, self.dimension)
    }

    fn reads(&self, _: &str, _: &'static Port) -> Vec<String> {
        vec![IMAGE_ID.to_owned(), self.column.clone()]
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("components", self.components.into())]
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Whole>, RunError> {
        Ok(Box::new(Self { threads: context.threads, ..self }))
    }
}

impl Whole for Pca {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let _threads = Threads::new(self.threads)?;
        let mut moments = Moments::new(self.dimension)?;
        read_all(tables, FEATURES, sink, "reading features", |batch, _| {
            moments.add(&vectors::of_images(batch, &self.column)?.0)
        })?;
        let images = moments.count();
        if images <= self.components {
            let n = images;
            let message = format!("{} components, but {n} images vary in at most {}", self.components, n.saturating_sub(1));
            return Err(RunError::Input(message));
        }
        sink.progress(images, tables.rows(FEATURES)?, "finding directions");
        let (components, total) = moments.components(self.components)?;
        let kept: f64 = components.variances.iter().sum();
        sink.metric(0, 0, "images", images as f64);
        sink.metric(0, 0, "explained", if total > 0.0 { kept / total } else { 1.0 });
        sink.write(components.batch(total)?)
    }
}

/// Rows' mean, and the products of their differences from it, in f64.
struct Moments {
    dimension: usize,
    rows: usize,
    /// The first of the rows that wait to be multiplied, D.
    first: Vec<f64>,
    /// What those rows differ from it by.
    pending: Vec<f64>,
    /// The mean of those that do not wait, D.
    mean: Tensor,
    /// The sum of their differences' products, D x D.
    products: Tensor,
}

impl Moments {
    fn new(dimension: usize) -> Result<Self, RunError> {
        let (side, double) = (dimension as i64, (Kind::Double, Device::Cpu));
        let (mean, products) = (Tensor::f_zeros([side], double)?, Tensor::f_zeros([side, side], double)?);
        Ok(Self { dimension, rows: 0, first: vec![0.0; dimension], pending: Vec::new(), mean, products })
    }

    fn add(&mut self, values: &[f32]) -> Result<(), RunError> {
        let most = (AT_ONCE / self.dimension).clamp(1, ROWS) * self.dimension;
        for row in values.chunks_exact(self.dimension) {
            if self.pending.is_empty() {
                self.first.iter_mut().zip(row).for_each(|(first, &value)| *first = value.into());
            }
            self.pending.extend(row.iter().zip(&self.first).map(|(&value, first)| f64::from(value) - first));
            if self.pending.len() == most {
                self.multiply()?;
            }
        }
        Ok(())
    }

    /// How many rows came.
    fn count(&self) -> usize {
        self.rows + self.pending.len() / self.dimension
    }

    /// Adds the rows that wait. Products of the rows themselves would drown small differences in the square of a large mean; so
    /// each block's are of differences from its own mean, and one more row says how far that lies from the mean before.
    fn multiply(&mut self) -> Result<(), RunError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut rows = Tensor::f_from_slice(&self.pending)?.f_view([-1, self.dimension as i64])?;
        let (before, count) = (self.rows as f64, rows.size()[0] as f64);
        let mean = rows.f_mean_dim([0i64].as_slice(), false, Kind::Double)?;
        let _ = rows.f_sub_(&mean)?;
        let apart = Tensor::f_from_slice(&self.first)?.f_add_(&mean)?.f_sub(&self.mean)?;
        let all = before + count;
        let between = (&apart * (before * count / all).sqrt()).f_unsqueeze(0)?;
        let rows = Tensor::f_cat(&[rows, between], 0)?;
        let _ = self.products.f_addmm_(&rows.f_tr()?, &rows)?;
        let _ = self.mean.f_add_(&(apart * (count / all)))?;
        self.rows += count as usize;
        self.pending.clear();
        Ok(())
    }

    /// The first `count` components, and the variance in all directions together.
    fn components(mut self, count: usize) -> Result<(Components, f64), RunError> {
        self.multiply()?;
        let covariance = self.products.f_div_scalar_(self.rows as f64 - 1.0)?;
        let total = covariance.f_trace()?.f_double_value(&[])?.max(0.0);
        // By rising variance, a direction a column.
        let (values, directions) = covariance.f_linalg_eigh("L")?;
        let count = count as i64;
        let variances = values.f_narrow(0, values.size()[0] - count, count)?.f_flip([0])?;
        let directions = directions.f_narrow(1, values.size()[0] - count, count)?.f_flip([1])?.f_tr()?;
        let largest = directions.f_abs()?.f_argmax(1, true)?;
        let directions = &directions * directions.f_gather(1, &largest, false)?.f_sign()?;
        let directions = directions.f_to_kind(Kind::Float)?.f_contiguous()?;
        // The mean's places in the directions as they are kept: what features are multiplied with.
        let offsets = directions.f_to_kind(Kind::Double)?.f_mv(&self.mean)?;
        let list = |tensor: &Tensor| -> Result<Vec<f64>, RunError> { Ok(Vec::try_from(tensor.f_contiguous()?)?) };
        let components = Components {
            directions: Vec::try_from(directions.f_view([-1])?)?,
            variances: list(&variances)?.into_iter().map(|variance| variance.max(0.0)).collect(),
            offsets: list(&offsets)?,
            dimension: self.dimension,
        };
        // By rounding, the parts may be more than the whole.
        let total = total.max(components.variances.iter().sum());
        Ok((components, total))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::random::Draw;
    use crate::trial::{self, Memory, Record};

    fn run(config: serde_json::Value, rows: &[arrow::array::RecordBatch]) -> Result<Record, RunError> {
        let operator: Pca = trial::bind(config, &[(FEATURES, rows[0].schema())]).unwrap();
        let kernel = trial::kernel(operator, 0, 2)?;
        let mut record = Record::default();
        kernel.run(&Memory([(FEATURES, rows.to_vec())].into()), &mut record)?;
        Ok(record)
    }

    #[test]
    fn directions_are_those_of_an_ellipse() {
        // Points on the axes (0.6, 0.8) and (-0.8, 0.6) around (10, -5), three and one away.
        let points = [[1.8f32, 2.4], [-1.8, -2.4], [-0.8, 0.6], [0.8, -0.6]].map(|[x, y]| [10.0 + x, y - 5.0]);
        let rows: Vec<_> = ["a", "b", "c", "d"].into_iter().zip(points.iter().map(|point| point.as_slice())).collect();
        let record = run(json!({"components": 2}), &[trial::features(&rows)]).unwrap();
        let found = Components::of(&record.batches, None).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} {b}");
        [18.0 / 3.0, 2.0 / 3.0].iter().zip(&found.variances).for_each(|(a, b)| close(*a, *b));
        [0.6, 0.8, 0.8, -0.6].iter().zip(&found.directions).for_each(|(a, b)| close(*a, f64::from(*b)));
        [6.0 - 4.0, 8.0 + 3.0].iter().zip(&found.offsets).for_each(|(a, b)| close(*a, *b));
        assert_eq!(record.values("images"), [4.0]);
        close(record.values("explained")[0], 1.0);
    }

    /// Values of scikit-learn, for rows that lie far from zero.
    #[test]
    fn components_are_scikit_learns() {
        let value = |i: f64, j: f64| (0.7 * i * (j + 1.0)).sin() * (1.0 + j) + i % 3.0 * j.cos() * 0.8 + 10.0 * j;
        let row = |i: u8| [0.0, 1.0, 2.0, 3.0].map(|j| value(i.into(), j) as f32);
        let rows: Vec<_> = (0..90).map(|i| (format!("{i:02}"), row(i))).collect();
        let table = trial::features(&rows.iter().map(|(id, row)| (id.as_str(), row.as_slice())).collect::<Vec<_>>());
        let record = run(json!({"components": 3}), &[table]).unwrap();
        let found = Components::of(&record.batches, None).unwrap();
        let close = |found: &[f64], expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}, not {expected:?}");
        };
        close(&found.directions.iter().map(|&value| value.into()).collect::<Vec<_>>(), &DIRECTIONS);
        close(&found.variances, &VARIANCES);
        close(&found.offsets, &OFFSETS);
        close(&record.values("explained"), &[EXPLAINED]);
    }

    /// Three directions, a row each, and what goes with them (`tests/peers/golden/pca.py`).
    const DIRECTIONS: [f64; 12] = [
        -0.0986667, -0.0641909, 0.3388952, 0.9334316, -0.2067182, -0.1630874, 0.8957194, -0.3582693, 0.0210816, 0.9825396,
        0.184836, 0.0026891,
    ];
    const VARIANCES: [f64; 3] = [9.0947782, 5.3382869, 2.0397564];
    const OFFSETS: [f64; 3] = [33.1659541, 5.2842518, 13.9764884];
    const EXPLAINED: f64 = 0.961753494;

    #[test]
    fn many_batches_give_what_one_gives() {
        let mut draw = Draw::new(1, "test", "pca", "", 0);
        let rows: Vec<(String, Vec<f32>)> = (0..5000)
            .map(|number| {
                (format!("{number:04}"), (0..6).map(|place| (draw.unit() * f64::from(place + 1)) as f32).collect())
            })
            .collect();
        let table = trial::features(&rows.iter().map(|(id, row)| (id.as_str(), row.as_slice())).collect::<Vec<_>>());
        let one = run(json!({"components": 3}), std::slice::from_ref(&table)).unwrap();
        let parts: Vec<_> = (0..50).map(|part| table.slice((49 - part) * 100, 100)).collect();
        let many = run(json!({"components": 3}), &parts).unwrap();
        let [one, many] = [one, many].map(|record| Components::of(&record.batches, None).unwrap());
        for (a, b) in one.variances.iter().zip(&many.variances) {
            assert!((a / b - 1.0).abs() < 1e-6, "{a} {b}");
        }
        // Uniform over a width of 6 varies by 36 / 12.
        assert!((one.variances[0] - 3.0).abs() < 0.15, "{:?}", one.variances);
        assert!(one.directions.iter().zip(&many.directions).all(|(a, b)| (a - b).abs() < 1e-4));
    }

    #[test]
    fn a_constant_that_is_added_changes_nothing() {
        let mut draw = Draw::new(2, "test", "pca", "", 0);
        let mut normal = || (0..12).map(|_| draw.unit()).sum::<f64>() - 6.0;
        // Ten columns, two of them constant and large; multiples of 2^-10, so that offsets round nothing.
        let noise: Vec<f32> = (0..6000 * 8).map(|_| ((normal() * 10.24).round() / 1024.0) as f32).collect();
        let table = |offset: f32, constants: [f32; 2]| {
            let rows: Vec<(String, Vec<f32>)> = noise
                .chunks(8)
                .enumerate()
                .map(|(number, row)| {
                    let row = row.iter().map(|value| value + offset).chain(constants);
                    (format!("{number:04}"), row.collect())
                })
                .collect();
            trial::features(&rows.iter().map(|(id, row)| (id.as_str(), row.as_slice())).collect::<Vec<_>>())
        };
        let found = |table: arrow::array::RecordBatch| {
            let record = run(json!({"components": 10}), &[table]).unwrap();
            let explained = record.values("explained")[0];
            assert!(explained <= 1.0 && explained > 1.0 - 1e-9, "{explained}");
            Components::of(&record.batches, None).unwrap()
        };
        let plain = found(table(0.0, [0.0, 0.0]));
        for (offset, constants) in [(0.0, [54321.98, 18107.33]), (8192.0, [1e9, -1e15])] {
            let moved = found(table(offset, constants));
            for (a, b) in plain.variances.iter().zip(&moved.variances) {
                assert!((a - b).abs() < 1e-6 * plain.variances[0], "{a} {b} at {offset}");
            }
            assert!(moved.variances[8] < 1e-12 * plain.variances[0], "{:?}", moved.variances);
        }
    }

    #[test]
    fn variances_at_the_end_of_precision_explain_no_more_than_all() {
        let mut draw = Draw::new(3, "test", "pca", "", 0);
        let rows: Vec<(String, [f32; 3])> =
            (0..500).map(|n| (format!("{n:03}"), [1e9 + draw.below(5) as f32 * 64.0, 1e9, draw.unit() as f32])).collect();
        let rows: Vec<_> = rows.iter().map(|(id, row)| (id.as_str(), row.as_slice())).collect();
        for components in 1..=3 {
            let record = run(json!({"components": components}), &[trial::features(&rows)]).unwrap();
            let explained = record.values("explained")[0];
            assert!(explained <= 1.0 && explained > 0.99, "{explained}");
        }
    }

    #[test]
    fn too_few_images_or_dimensions_are_said() {
        let rows = trial::features(&[("a", &[1.0, 2.0]), ("b", &[2.0, 2.0])]);
        let error = run(json!({}), std::slice::from_ref(&rows)).err().unwrap();
        assert_eq!(error.to_string(), "2 components, but 2 images vary in at most 1");
        let error = trial::bind::<Pca>(json!({"components": 3}), &[(FEATURES, rows.schema())]).err().unwrap();
        assert_eq!(error[0].message, "3 components, but `feature` has 2 dimensions");
    }
}
