//! `refine`: clusters of which those that people want split are split.
//!
//! Input: `features`, their `clusters` as `kmeans` makes them, and `assigned`, each image's cluster. Output: the table of clusters, in
//! which each cluster that a line of `path` says to `split` is replaced by k-means of its images. New clusters have numbers behind all
//! others, and no number is used again; the others stay as they are, also those that are marked as mixed.
//!
//! Lines are followed in the order of their times (`at`), each on the clusters that the lines before it have left. A line about these
//! clusters, by their key, splits the cluster of its number; of any other, the images that were seen say which one is meant: three or
//! more of them, and two thirds of those that are there, are in one cluster. Else the line is left, which is said. So a part can be split
//! again, and clusters found anew from other images are split as before. Config: `path`, `column`. Exact, and drawn by the seed. The
//! table does not depend on names, and a new name does not make it anew.
//!
//! Memory: the features of the clusters that are split.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_datasets::names::votes::FEWEST_VOTES;
use tessera_datasets::names::{Action, Decision};
use tessera_schemas::{IMAGE_ID, clusters, column, features, ids, meta, text};

use super::decisions::{self, Decisions};
use super::names::each_image;
use crate::kmeans;
use crate::nearest::{Centres, Near};
use crate::operator::{
    BindError, BindErrors, Binding, Column, ColumnKind, Context, Operator, Order, Port, RunError, Sink, Tables, Whole,
    read_all,
};
use crate::random::Draw;
use crate::vectors;

const FEATURES: &str = "features";
const CLUSTERS: &str = "clusters";
const ASSIGNED: &str = "assigned";

/// Keys of a `refine` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file of names, which need not be there yet. Of its lines, those that split clusters are part of the key.
    #[serde(default = "decisions::usual")]
    path: PathBuf,
    /// The column of vectors.
    #[serde(default = "vectors::feature")]
    column: String,
}

/// The bound operator.
pub struct Refine {
    decisions: Decisions,
    column: String,
    /// How many clusters there are before, and the most that there can be: numbers are below.
    before: usize,
    after: usize,
    dimension: usize,
}

/// Whether a decision is one to be followed here, and into how many parts it splits.
fn parts(decision: &Decision) -> Option<u32> {
    if let Action::Split(parts) = decision.action { Some(parts) } else { None }
}

impl Operator for Refine {
    const NAME: &'static str = "refine";
    const SUMMARY: &'static str = "clusters of which those that people want split are split";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("cluster", "its number; those of the parts of a split cluster are new"),
        (
            "size",
            "the number of images that are nearest to it; of a part, of the images that were in the cluster that was split",
        ),
        ("centroid", "the mean of its features"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.refined]
op = "refine"
inputs = { features = "features", clusters = "clusters", assigned = "assigned" }
path = "names.csv"
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[
        Port::scan(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)]),
        Port::side(
            CLUSTERS,
            &[
                Column::new(clusters::CLUSTER, ColumnKind::Integer),
                Column::new(clusters::SIZE, ColumnKind::Any),
                Column::new(clusters::CENTROID, ColumnKind::Vector),
            ],
        ),
        Port::scan(
            ASSIGNED,
            &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(clusters::CLUSTER, ColumnKind::Integer)],
        ),
    ];
    const SEEDED: bool = true;
    // What the file says is in the key; where it lies is not.
    const NEUTRAL: &'static [&'static str] = &["path"];
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = BindErrors::default();
        let table = inputs.inputs.required(CLUSTERS);
        let fault = |error: tessera_schemas::SchemaError| BindError::input(CLUSTERS, error.to_string());
        let dimension = errors.keep(vectors::dimension(inputs.inputs.required(FEATURES), &config.column));
        let of_clusters = errors.keep(features::dimension(table, clusters::CENTROID).map_err(fault));
        if let (Some(dimension), Some(found)) = (dimension, of_clusters)
            && dimension != found
        {
            let message = format!("centroids have {found} dimensions, but `{}` has {dimension}", config.column);
            errors.push(BindError::input(CLUSTERS, message).help("use clusters of the same features"));
        }
        let number = column::field(table, clusters::CLUSTER).and_then(|field| meta::number(field, meta::CLASSES));
        let before = errors.keep(number.map_err(fault));
        let decisions = errors.keep(Decisions::new(&config.path, inputs));
        // How many clusters there may be is part of the table's schema.
        let more = decisions.as_ref().and_then(|decisions| {
            let names = decisions.names().map_err(|error| BindError::key("path", error.to_string()));
            Some(errors.keep(names)?.all().iter().filter_map(parts).map(|parts| parts as usize).sum::<usize>())
        });
        let after = before.zip(more).map(|(before, more)| before + more);
        if let Some(after) = after.filter(|&after| after > crate::nearest::MOST_CENTRES) {
            let most = crate::nearest::MOST_CENTRES;
            errors.push(BindError::key("path", format!("its lines split clusters into {after}, and at most {most} fit")));
        }
        match (decisions, before, after, dimension) {
            (Some(decisions), Some(before), Some(after), Some(dimension)) => {
                errors.or(Some(Self { decisions, column: config.column, before, after, dimension }))
            }
            _ => errors.or(None),
        }
    }

    fn schema(&self) -> SchemaRef {
        clusters::schema(self.after, self.dimension)
    }

    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        match input {
            FEATURES => vec![IMAGE_ID.to_owned(), self.column.clone()],
            _ => port.columns.iter().map(|column| column.name.to_owned()).collect(),
        }
    }

    fn content(&self) -> Result<Vec<String>, RunError> {
        self.decisions.content(|decision| parts(decision).is_some())
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Whole>, RunError> {
        Ok(Box::new(Run { refine: self, context: context.clone() }))
    }
}

struct Run {
    refine: Refine,
    context: Context,
}

/// Images of one cluster.
#[derive(Default)]
struct Members {
    ids: Vec<String>,
    /// `n x dimension`.
    values: Vec<f32>,
}

/// The clusters that some lines have left.
struct State {
    clusters: clusters::Sorted,
    /// The next cluster's number.
    next: i32,
    /// The keys of this table and of those before it: a number means the same in all of them.
    keys: HashSet<String>,
    /// The clusters that may be split.
    members: BTreeMap<i32, Members>,
    /// The clusters of images that were seen, by their canonical ids.
    places: HashMap<String, i32>,
}

impl Whole for Run {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Self { refine, context } = *self;
        let centres = tables.scan(CLUSTERS, Order::Stored)?.collect::<Result<Vec<_>, _>>()?;
        let (sorted, key) = decisions::keyed(&centres)?;
        refine.decisions.check(&key, &sorted)?;
        let mut lines: Vec<&Decision> =
            refine.decisions.names()?.all().iter().filter(|decision| parts(decision).is_some()).collect();
        lines.sort_by(|one, other| one.at.cmp(&other.at).then_with(|| by_cluster(one, other)));
        let places = if lines.is_empty() { HashMap::new() } else { places(&lines, tables, sink)? };
        let mut state =
            State { next: refine.before as i32, keys: [key].into(), members: BTreeMap::new(), places, clusters: sorted };
        if !lines.is_empty() {
            state.members = members(&refine.column, &state.candidates(&lines), tables, sink)?;
        }
        let mut split = 0;
        for (done, line) in lines.iter().enumerate() {
            sink.progress(done, lines.len(), "splitting clusters");
            if sink.cancelled() {
                return Err(RunError::Cancelled);
            }
            match state.follow(line, &refine, &context, sink)? {
                Ok(()) => split += 1,
                Err(why) => sink.say(&format!("the line that splits {} is left: {why}", line.subject)),
            }
        }
        sink.metric(0, 0, "split", f64::from(split));
        sink.metric(0, 0, "left", lines.len() as f64 - f64::from(split));
        let clusters::Sorted { numbers, sizes, centroids, .. } = state.clusters;
        let sizes = sizes.ok_or_else(|| RunError::Input(format!("`{CLUSTERS}` does not say how many images they have")))?;
        sink.metric(0, 0, "clusters", numbers.len() as f64);
        sink.write(clusters::numbered(&refine.schema(), numbers, sizes, centroids)?)
    }
}

fn by_cluster(one: &Decision, other: &Decision) -> Ordering {
    one.cluster().cmp(&other.cluster())
}

/// The clusters of the images that were seen.
fn places(lines: &[&Decision], tables: &dyn Tables, sink: &mut dyn Sink) -> Result<HashMap<String, i32>, RunError> {
    let seen: HashSet<String> = lines.iter().flat_map(|line| &line.seen).map(|id| ids::canonical(id).into_owned()).collect();
    let mut places = HashMap::new();
    each_image(tables, sink, "looking for images that were seen", |id, cluster| {
        let id = ids::canonical(id);
        if seen.contains(&*id) {
            places.insert(id.into_owned(), cluster);
        }
    })?;
    Ok(places)
}

/// The images of some clusters, with their features.
fn members(
    column: &str,
    clusters: &BTreeSet<i32>,
    tables: &dyn Tables,
    sink: &mut dyn Sink,
) -> Result<BTreeMap<i32, Members>, RunError> {
    let mut of: HashMap<String, i32> = HashMap::new();
    each_image(tables, sink, "looking for the images of clusters", |id, cluster| {
        if clusters.contains(&cluster) {
            of.insert(id.to_owned(), cluster);
        }
    })?;
    let mut all: BTreeMap<i32, Members> = BTreeMap::new();
    read_all(tables, FEATURES, sink, "reading features", |batch, _| {
        let (values, dimension) = vectors::of_images(batch, column)?;
        let ids = column::without_nulls(text(batch, IMAGE_ID)?, IMAGE_ID)?;
        for (id, row) in ids.iter().flatten().zip(values.chunks_exact(dimension)) {
            if let Some(cluster) = of.get(id) {
                let members = all.entry(*cluster).or_default();
                members.ids.push(id.to_owned());
                members.values.extend_from_slice(row);
            }
        }
        Ok(())
    })?;
    Ok(all)
}

impl State {
    /// The clusters that may have to be split, as far as that can be told before the first is.
    fn candidates(&self, lines: &[&Decision]) -> BTreeSet<i32> {
        let named = lines.iter().filter_map(|line| line.cluster()).map(|(_, cluster)| cluster);
        let named = named.filter(|cluster| self.clusters.numbers.binary_search(cluster).is_ok());
        named.chain(lines.iter().filter_map(|line| self.meant(line))).collect()
    }

    /// The cluster in which the images are that were seen for a line.
    fn meant(&self, line: &Decision) -> Option<i32> {
        let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
        let seen: BTreeSet<String> = line.seen.iter().map(|id| ids::canonical(id).into_owned()).collect();
        seen.iter().filter_map(|id| self.places.get(id)).for_each(|place| *counts.entry(*place).or_default() += 1);
        let all: usize = counts.values().sum();
        let most = counts.into_iter().max_by_key(|(cluster, count)| (*count, std::cmp::Reverse(*cluster)))?;
        (most.1 >= FEWEST_VOTES && 3 * most.1 >= 2 * all).then_some(most.0)
    }

    /// Splits the cluster that a line means, or says why not.
    fn follow(
        &mut self,
        line: &Decision,
        refine: &Refine,
        context: &Context,
        sink: &mut dyn Sink,
    ) -> Result<Result<(), String>, RunError> {
        let (Some(parts), Some((key, number))) = (parts(line), line.cluster()) else {
            return Ok(Err("it is about no cluster".to_owned()));
        };
        let numbered = self.keys.contains(key) && self.clusters.numbers.binary_search(&number).is_ok();
        let cluster = if numbered { Some(number) } else { self.meant(line) };
        let Some(cluster) = cluster else {
            return Ok(Err("the images that were seen are in several clusters by now, or are too few".to_owned()));
        };
        let first = self.next;
        self.next += parts as i32;
        let Some(members) = self.members.get(&cluster).filter(|members| members.ids.len() > 1) else {
            return Ok(Err(format!("cluster {cluster} has less than two images")));
        };
        let k = (parts as usize).min(members.ids.len());
        let seed = Draw::new(context.seed, Refine::NAME, "split", "", cluster as u64).bits();
        let context = Context { seed, ..context.clone() };
        let (sizes, centroids) = kmeans::of_rows(&members.ids, &members.values, k, &context, &|| sink.cancelled())?;
        let kept: Vec<usize> = (0..k).filter(|&part| sizes[part] > 0).collect();
        if kept.len() < 2 {
            return Ok(Err(format!("the images of cluster {cluster} are all alike")));
        }
        let d = refine.dimension;
        let centroids: Vec<f32> = kept.iter().flat_map(|part| &centroids[part * d..][..d]).copied().collect();
        let sizes: Vec<i64> = kept.iter().map(|&part| sizes[part]).collect();
        self.replace(cluster, first, sizes, centroids, context.threads);
        Ok(Ok(()))
    }

    /// Puts clusters, numbered from `first` on, in the place of one.
    fn replace(&mut self, cluster: i32, first: i32, sizes: Vec<i64>, centroids: Vec<f32>, threads: usize) {
        let table = &mut self.clusters;
        let d = table.dimension;
        if let Ok(row) = table.numbers.binary_search(&cluster) {
            table.numbers.remove(row);
            table.centroids.drain(row * d..(row + 1) * d);
            if let Some(sizes) = &mut table.sizes {
                sizes.remove(row);
            }
        }
        table.numbers.extend((first..).take(sizes.len()));
        table.centroids.extend_from_slice(&centroids);
        table.sizes.iter_mut().for_each(|all| all.extend_from_slice(&sizes));
        self.keys.insert(self.clusters.key());
        let Members { ids: members, values } = self.members.remove(&cluster).unwrap_or_default();
        let nearest = Centres::new(centroids, d).find::<Near>(&values, threads);
        for ((id, row), near) in members.into_iter().zip(values.chunks_exact(d)).zip(nearest) {
            let part = first + near.centre as i32;
            if let Some(place) = self.places.get_mut(&*ids::canonical(&id)) {
                *place = part;
            }
            let members = self.members.entry(part).or_default();
            members.ids.push(id);
            members.values.extend_from_slice(row);
        }
    }
}

#[cfg(test)]
mod tests;
