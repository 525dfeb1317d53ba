//! `place`: images on the map that `layout` made of others.
//!
//! Input: `features`, one vector an image, and `map`, as `layout` makes it of features of the same kind. Output: for each image its place. Config: `count`, `column`.
//!
//! An image starts at the mean of the places of its nearest landmarks, weighted by how near they are, and takes some steps: its neighbours pull it, and landmarks drawn
//! by chance push it, as in `layout`, and none of them moves. One with the very features of a landmark lies where that lies. Neighbours are exact. An image's place follows from
//! its features and the map alone, to the bit, so that new images cost no more than themselves.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::{IMAGE_ID, column, features, floats, points, text};

use super::gathered::Incoming;
use super::layout::{descend, graph};
use super::search::{Lists, Values, frame};
use crate::config::Limits;
use crate::nearest::Best;
use crate::operator::{
    BindError, BindErrors, Binding, Column, ColumnKind, Context, Inputs, Map, MapFn, Operator, Port, RunError, Scope,
};
use crate::shared::Shared;
use crate::vectors;

const FEATURES: &str = "features";
const MAP: &str = "map";

/// Keys of a `place` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many landmarks pull an image: those that are nearest to it.
    #[serde(default = "count")]
    count: usize,
    /// The column of vectors, of the features and of the map.
    #[serde(default = "vectors::feature")]
    column: String,
}

fn count() -> usize {
    15
}

/// The bound operator.
pub struct Place {
    config: Config,
}

impl Operator for Place {
    const NAME: &'static str = "place";
    const SUMMARY: &'static str = "images on the map that layout made of others";
    const OUTPUT: &'static [(&'static str, &'static str)] =
        &[("image_id", ""), ("x", "its place on the map from left to right"), ("y", "its place from bottom to top")];
    const EXAMPLE: &'static str = r#"
[stage.placed]
op = "place"
inputs = { features = "features", map = "map" }
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[
        Port::stream(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)]),
        Port::side(
            MAP,
            &[
                Column::new(IMAGE_ID, ColumnKind::Text),
                Column::new(points::X, ColumnKind::Any),
                Column::new(points::Y, ColumnKind::Any),
            ],
        ),
    ];
    const LIMITS: Limits = &[("count", 1e3)];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn faults(config: &Config) -> Vec<BindError> {
        let none = (config.count == 0).then(|| BindError::key("count", "0 landmarks pull nothing: at least 1"));
        none.into_iter().collect()
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = BindErrors::default();
        errors.extend(Self::faults(&config));
        let dimension = errors.keep(vectors::dimension(inputs.inputs.required(FEATURES), &config.column));
        let of_map = features::dimension(inputs.inputs.required(MAP), &config.column);
        let of_map = errors.keep(of_map.map_err(|error| {
            BindError::input(MAP, error.to_string()).help("`layout` makes a map with its landmarks' features")
        }));
        if let (Some(dimension), Some(of_map)) = (dimension, of_map)
            && dimension != of_map
        {
            let message = format!("its landmarks have {of_map} dimensions, but `{}` has {dimension}", config.column);
            errors.push(BindError::input(MAP, message).help("use a map of the same kind of features"));
        }
        errors.or(dimension.map(|_| Self { config }))
    }

    fn schema(&self) -> SchemaRef {
        points::schema()
    }

    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        match input {
            FEATURES => vec![self.config.column.clone()],
            _ => port.columns.iter().map(|column| column.name.to_owned()).chain([self.config.column.clone()]).collect(),
        }
    }

    fn passes(&self) -> Vec<String> {
        vec![IMAGE_ID.to_owned()]
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Map>, RunError> {
        Ok(Box::new(Placer { config: self.config, landmarks: Shared::default() }))
    }
}

struct Placer {
    config: Config,
    landmarks: Shared<Arc<Landmarks>>,
}

impl Map for Placer {
    fn open(&self, sides: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let make = || Landmarks::of(sides.required(MAP), &self.config.column).map(Arc::new);
        let landmarks = self.landmarks.handle(make, Arc::clone)?;
        let Config { count, ref column } = self.config;
        Ok(Box::new(Worker { count, column: column.clone(), landmarks }))
    }

    fn block(&self) -> usize {
        crate::nearest::BLOCK
    }
}

/// What others are placed by, in the order of ids.
struct Landmarks {
    places: Vec<[f32; 2]>,
    lists: Lists<'static>,
    dimension: usize,
}

impl Landmarks {
    fn of(batches: &[RecordBatch], column: &str) -> Result<Self, RunError> {
        let count = batches.iter().map(RecordBatch::num_rows).sum();
        let empty = || RunError::Input("the map is empty: there is nothing to place images by".into());
        let dimension = match batches.first() {
            Some(batch) => features::dimension(&batch.schema(), column)?,
            None => return Err(empty()),
        };
        let mut rows = Incoming::new(column, dimension, count, None)?;
        let mut of: Vec<(String, [f32; 2])> = Vec::with_capacity(count);
        for batch in batches {
            rows.add(batch, &|_| true)?;
            let (ids, [x, y]) = (text(batch, IMAGE_ID)?, [place(batch, points::X)?, place(batch, points::Y)?]);
            for (row, id) in ids.iter().enumerate().filter_map(|(row, id)| Some((row, id?))) {
                of.push((id.to_owned(), [x[row], y[row]]));
            }
        }
        let rows = rows.finish()?;
        if rows.count() == 0 {
            return Err(empty());
        }
        of.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some((id, place)) = of.iter().find(|(_, place)| place.iter().any(|value| !value.is_finite())) {
            let reason = format!("the map has it at x = {}, y = {}, which is no place", place[0], place[1]);
            return Err(RunError::Row { image_id: id.clone(), reason });
        }
        let frame = frame(&rows.values, dimension);
        let places = of.into_iter().map(|(_, place)| place).collect();
        Ok(Self { places, lists: Lists::one(Values::Own(rows.values), frame, true, 1), dimension })
    }

    /// The places of `n x D` rows.
    fn place(&self, values: &[f32], count: usize) -> Vec<[f32; 2]> {
        let of = |best: Best| {
            let near: Vec<(u32, f64)> = best.sorted().collect();
            match near[..] {
                [(landmark, 0.0), ..] => self.places[landmark as usize],
                _ => {
                    let targets: Vec<u32> = near.iter().map(|(landmark, _)| *landmark).collect();
                    let distances: Vec<f32> = near.iter().map(|(_, squared)| squared.sqrt() as f32).collect();
                    descend::settle(&targets, &graph::memberships(&distances, 1.0), &self.places)
                }
            }
        };
        let units = values.chunks(crate::nearest::UNIT * self.dimension);
        units.flat_map(|some| self.lists.nearest(some, count)).map(of).collect()
    }
}

fn place<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a [f32], RunError> {
    Ok(column::without_nulls(floats(batch, name)?, name)?.values())
}

struct Worker {
    count: usize,
    column: String,
    landmarks: Arc<Landmarks>,
}

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, _: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let (values, _) = vectors::of_images(batch, &self.column)?;
        let places = self.landmarks.place(&values, self.count);
        let ids = tessera_schemas::column(batch, IMAGE_ID)?.clone();
        Ok(points::batch(&points::schema(), ids, &places, None)?)
    }
}

#[cfg(test)]
mod tests;
