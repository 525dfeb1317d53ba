//! `neighbours`: for each image the others that are nearest to it, by the Euclidean distance of their features.
//!
//! Input: `features`, one vector an image, and `clusters` of them, as `kmeans` makes them, where not all images are looked at. Output: for each image a row
//! for each of its `count` nearest others, nearest first; fewer if there are not as many others. Metric: `recall`, where only some clusters are searched: the share of the true
//! neighbours that were found, of a sample of images.
//!
//! With a number of `probes`, an image's neighbours are looked for among the images of the clusters whose centroids are nearest to it (an inverted file),
//! and of more clusters where those hold too few. Among these the result is exact, as it is among all with `probes = "all"`: that of all
//! distances in f64 ([`nearest`](crate::nearest)), for any order of the rows, number of threads, and memory. Of equally distant images, the one whose `image_id` comes first is first. A row
//! with a NaN or an infinite value is an error.
//!
//! Memory: the features once in f32 and once in 8 or 16 bits, and some 60 bytes more an image and 8 for each neighbour. Under `memory`, features and neighbours go to nameless files that are
//! mapped, and codes are made again and again.

mod probes;

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::neighbours::{self, Neighbour};
use tessera_schemas::{IMAGE_ID, clusters};

use super::gathered::{Gathered, Incoming};
use super::search::{Lists, Values, Within, frame, waves};
use crate::config::Limits;
use crate::memory::Memory;
use crate::nearest::{Best, Frame, MOST_CENTRES, Panels};
use crate::numbers::{Numbers, Writer};
use crate::operator::{
    BindError, BindErrors, Binding, Column, ColumnKind, Context, Operator, Order, Port, RunError, Sink, Tables, Whole,
    read_all,
};
use crate::vectors;
use probes::Probes;

const FEATURES: &str = "features";
const CLUSTERS: &str = vectors::CENTROIDS.port;
/// Clusters that are searched where nothing is said.
const PROBES: usize = 16;
/// Images whose true neighbours are looked for, to say how many were found.
const SAMPLE: usize = 1000;
/// Images whose neighbours are written at once.
const WRITTEN: usize = 1024;
/// Bytes beside its features, its codes and its neighbours that an image takes: its id, and its places.
const ROW: usize = 60;

/// Keys of a `neighbours` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The most neighbours of an image.
    #[serde(default = "count")]
    count: usize,
    /// In how many clusters an image's neighbours are looked for: those whose centroids are nearest to it. `"all"` looks at all images.
    /// Default: 16 where there are `clusters`, else `"all"`.
    #[serde(default)]
    probes: Option<Probes>,
    /// The column of vectors.
    #[serde(default = "vectors::feature")]
    column: String,
    /// The most memory for features and neighbours, such as `"2GiB"`. What does not fit is kept in temporary files in the store, with the same
    /// result. Default: three quarters of what is free.
    #[serde(default)]
    memory: Option<Memory>,
}

fn count() -> usize {
    15
}

/// The bound operator.
pub struct Neighbours {
    config: Config,
    probes: Probes,
    dimension: usize,
}

impl Operator for Neighbours {
    const NAME: &'static str = "neighbours";
    const SUMMARY: &'static str = "for each image the others that are nearest to it";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", "whose neighbour it is: a row for each of them"),
        ("rank", "1 for the nearest"),
        ("neighbour", "the neighbour's `image_id`"),
        ("distance", "the Euclidean distance to it"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.near]
op = "neighbours"
inputs = { features = "features", clusters = "clusters" }
count = 15
probes = 16
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[
        Port::scan(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)]),
        Port::side(
            CLUSTERS,
            &[Column::new(clusters::CLUSTER, ColumnKind::Integer), Column::new(clusters::CENTROID, ColumnKind::Vector)],
        )
        .optional(),
    ];
    const NEUTRAL: &'static [&'static str] = &["memory"];
    const LIMITS: Limits = &[("count", 1e3), ("probes", MOST_CENTRES as f64), ("memory", 1e18)];
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn faults(config: &Config) -> Vec<BindError> {
        let mut faults = Vec::new();
        if config.count == 0 {
            faults.push(BindError::key("count", "0 neighbours are none: at least 1"));
        }
        if config.probes == Some(Probes::Some(0)) {
            faults.push(BindError::key("probes", "0 clusters hold no images: at least 1, or \"all\""));
        }
        faults
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = BindErrors::default();
        errors.extend(Self::faults(&config));
        let given = inputs.inputs.get(CLUSTERS).is_some();
        let dimension = errors.keep(vectors::dimension(inputs.inputs.required(FEATURES), &config.column));
        if given && dimension.is_some() {
            vectors::CENTROIDS.rows(inputs, FEATURES, &config.column, &mut errors);
        }
        let probes = config.probes.unwrap_or(if given { Probes::Some(PROBES) } else { Probes::All });
        if let (Probes::Some(probes), false) = (probes, given) {
            let fault =
                BindError::key("probes", format!("{probes} clusters are to be searched, and there is no input `clusters`"));
            errors.push(fault.help("name a stage of `kmeans` in `inputs`, or write probes = \"all\""));
        }
        errors.or(dimension.map(|dimension| Self { config, probes, dimension }))
    }

    fn schema(&self) -> SchemaRef {
        neighbours::schema()
    }

    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        match (input, self.probes) {
            (FEATURES, _) => vec![IMAGE_ID.to_owned(), self.config.column.clone()],
            _ => port.columns.iter().map(|column| column.name.to_owned()).collect(),
        }
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        let probes = serde_json::to_value(self.probes).expect("a number or a text");
        vec![("probes", probes)]
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Whole>, RunError> {
        Ok(Box::new(Run { operator: self, context: context.clone() }))
    }
}

struct Run {
    operator: Neighbours,
    context: Context,
}

impl Whole for Run {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Neighbours { config, probes, dimension } = &self.operator;
        let (threads, expected) = (self.context.threads, tables.rows(FEATURES)?);
        let folder = self.spill(expected, sink);
        let mut rows = Incoming::new(&config.column, *dimension, expected, folder)?;
        read_all(tables, FEATURES, sink, "reading features", |batch, _| rows.add(batch, &|_| true))?;
        let rows = rows.finish()?;
        let width = config.count.min(rows.count().saturating_sub(1));
        if width == 0 {
            return Ok(());
        }
        let (frame, held) = (frame(&rows.values, *dimension), folder.is_none());
        let (lists, probed) = match probes {
            Probes::All => (Lists::one(Values::Of(&rows.values), frame, held, threads), None),
            Probes::Some(probes) => {
                let centroids = read_centroids(tables)?;
                let probed = Probed::new(&rows, &frame, centroids, *probes, threads, folder, sink)?;
                let nearest: Vec<u32> = probed.table.chunks_exact(probed.each).map(|row| row[0]).collect();
                let lists =
                    Lists::by(Values::Of(&rows.values), frame, &nearest, probed.centroids.len() / dimension, held, threads);
                (lists, Some(probed))
            }
        };
        let units = lists.units();
        let mut all = Writer::new(rows.count() * width, folder)?;
        let search = |unit: usize| {
            let members = &lists.members()[units[unit].clone()];
            match &probed {
                None => lists.others(members, &Within::All, width),
                Some(probed) => lists.others(members, &Within::Lists(&probed.of(members, &lists, width)), width),
            }
        };
        waves(units.len(), threads, sink, "units of images searched for", search, |_, best: Vec<Best>| {
            best.into_iter().try_for_each(|best| {
                let row: Vec<Found> = best.sorted().map(found).collect();
                all.extend(&row)
            })?;
            lists.release();
            Ok(())
        })?;
        let found = Table::new(all.finish()?, lists.members(), width);
        if probed.is_some() {
            sink.metric(0, 0, "recall", found.recall(&lists, threads));
        }
        found.write(&rows, sink)
    }
}

impl Run {
    /// The folder for features and neighbours, if they must go to files.
    fn spill(&self, rows: usize, sink: &mut dyn Sink) -> Option<&Path> {
        let Neighbours { config, dimension, .. } = &self.operator;
        let stored = rows * (size_of::<f32>() * dimension + size_of::<Found>() * config.count.min(rows));
        // At most 16 bits a value.
        let codes = rows * (size_of::<u16>() * dimension + Panels::BESIDE);
        let needed = Memory((stored + codes + rows * ROW) as u64);
        Memory::exceeded(config.memory, needed, Memory(stored as u64), sink).map(|_| self.context.scratch.as_path())
    }
}

fn read_centroids(tables: &dyn Tables) -> Result<Vec<f32>, RunError> {
    let batches = tables.scan(CLUSTERS, Order::Stored)?.collect::<Result<Vec<_>, _>>()?;
    let clusters::Sorted { numbers, centroids, dimension, .. } = clusters::sorted(&batches)?;
    if numbers.is_empty() {
        return Err(RunError::Input("the table of clusters is empty: there is nothing to search in".into()));
    }
    match vectors::check(&centroids, dimension) {
        Ok(()) => Ok(centroids),
        Err(fault) => Err(RunError::Input(format!("the centroid of cluster {} {fault}", numbers[fault.row]))),
    }
}

/// For each row the clusters that are searched, nearest first.
struct Probed<'a> {
    table: Numbers<u32>,
    /// How many of each row.
    each: usize,
    rows: &'a Gathered,
    centroids: Vec<f32>,
}

impl<'a> Probed<'a> {
    fn new(
        rows: &'a Gathered,
        frame: &Arc<Frame>,
        centroids: Vec<f32>,
        probes: usize,
        threads: usize,
        folder: Option<&Path>,
        sink: &mut dyn Sink,
    ) -> Result<Self, RunError> {
        let (dimension, unit) = (rows.dimension, crate::nearest::UNIT);
        let each = probes.min(centroids.len() / dimension);
        let all = Lists::one(Values::Own(centroids.clone().into()), Arc::clone(frame), true, threads);
        let mut table = Writer::new(rows.count() * each, folder)?;
        let find = |number: usize| {
            let range = number * unit * dimension..rows.values.len().min((number + 1) * unit * dimension);
            all.nearest(&rows.values[range], each)
        };
        waves(rows.count().div_ceil(unit), threads, sink, "units of images assigned", find, |_, best: Vec<Best>| {
            best.into_iter().try_for_each(|best| {
                let near: Vec<u32> = best.sorted().map(|(cluster, _)| cluster).collect();
                table.extend(&near)
            })?;
            rows.values.release(0..rows.values.len());
            Ok(())
        })?;
        Ok(Self { table: table.finish()?, each, rows, centroids })
    }

    /// The clusters for each of those rows; more than asked for where they hold no more than `width` others.
    fn of(&self, members: &[u32], lists: &Lists<'_>, width: usize) -> Vec<Vec<u32>> {
        let of = |&row: &u32| {
            let probes = self.table[row as usize * self.each..][..self.each].to_vec();
            let held = |probes: &[u32]| probes.iter().map(|&list| lists.size(list as usize)).sum::<usize>();
            if held(&probes) > width {
                return probes;
            }
            let (dimension, vector) = (self.rows.dimension, self.rows.row(row as usize));
            let squared = |(number, centroid): (usize, &[f32])| {
                (crate::nearest::squared_distance(vector, centroid).to_bits(), number as u32)
            };
            let mut order: Vec<_> = self.centroids.chunks_exact(dimension).enumerate().map(squared).collect();
            order.sort_unstable();
            let mut there = 0;
            let mut enough = |list: u32| {
                let before = there;
                there += lists.size(list as usize);
                before <= width
            };
            order.into_iter().map(|(_, list)| list).take_while(|&list| enough(list)).collect()
        };
        members.iter().map(of).collect()
    }
}

/// A neighbour that was found: its row, and the bits of its distance.
type Found = [u32; 2];

fn found((row, squared): (u32, f64)) -> Found {
    [row, (squared.sqrt() as f32).to_bits()]
}

/// All neighbours that were found.
struct Table {
    /// In the order of lists.
    found: Numbers<Found>,
    /// Where each row's are.
    places: Vec<u32>,
    /// How many each row has.
    width: usize,
}

impl Table {
    fn new(found: Numbers<Found>, members: &[u32], width: usize) -> Self {
        let mut places = vec![0; members.len()];
        members.iter().enumerate().for_each(|(place, &row)| places[row as usize] = place as u32);
        Self { found, places, width }
    }

    fn of(&self, row: usize) -> &[Found] {
        &self.found[self.places[row] as usize * self.width..][..self.width]
    }

    /// The share of the true neighbours of a sample of rows, evenly spread, that were found.
    fn recall(&self, lists: &Lists<'_>, threads: usize) -> f64 {
        let step = self.places.len().div_ceil(SAMPLE);
        let sample: Vec<u32> = (0..self.places.len() as u32).step_by(step).collect();
        let some: Vec<&[u32]> = sample.chunks(sample.len().div_ceil(threads.max(1))).collect();
        let best = crate::parallel::each(threads, some.len(), |part| lists.others(some[part], &Within::All, self.width));
        lists.release();
        let mut found = 0;
        for (&row, best) in sample.iter().zip(best.into_iter().flatten()) {
            found += best.sorted().filter(|(near, _)| self.of(row as usize).iter().any(|[row, _]| row == near)).count();
        }
        found as f64 / (sample.len() * self.width) as f64
    }

    fn write(&self, rows: &Gathered, sink: &mut dyn Sink) -> Result<(), RunError> {
        let count = rows.count();
        for first in (0..count).step_by(WRITTEN) {
            let neighbours = (first..count.min(first + WRITTEN)).flat_map(|row| {
                let neighbour = move |(place, &[neighbour, distance]): (usize, &Found)| Neighbour {
                    image_id: rows.ids.get(row),
                    rank: place as i32 + 1,
                    neighbour: rows.ids.get(neighbour as usize),
                    distance: f32::from_bits(distance),
                };
                self.of(row).iter().enumerate().map(neighbour)
            });
            sink.write(neighbours::batch(&neighbours.collect::<Vec<_>>())?)?;
            self.found.release(0..self.found.len());
            sink.progress(first, count, "writing");
            if sink.cancelled() {
                return Err(RunError::Cancelled);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
