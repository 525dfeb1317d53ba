//! `kmeans`: clusters of features by Lloyd's algorithm, the paper's virtual categories (section 3, step b).
//!
//! Input: `features`, one vector an image, and optionally `centroids` to start from. Output: `clusters`. Metrics, with the
//! iteration as `epoch` (0: the start): `objective` (sum of squared Euclidean distances), `imbalance` (`k Σh² / (Σh)²`, 1 where
//! all clusters are of one size), `empty` (clusters without images) and `moved` (the share of images that changed cluster).
//! Those of the best restart are kept.
//!
//! Exact: every row gets the centroid that is nearest in f64 ([`nearest`](crate::nearest)). The result does not depend on the order of the rows, their
//! parts, or the number of threads: rows are sorted by `image_id`, sums are of whole numbers ([`lloyd`]), draws walk over
//! the sorted rows ([`start`]), and of equally near centroids the lower number wins. Empty clusters are split off big ones, as
//! faiss and DeepCluster (Caron et al., ECCV 2018) do.
//!
//! Memory: the features once in f32 and once in 8 bits (16, where the processor has no products of bytes or there are below 64
//! dimensions), some 50 bytes more an image, and 14 bytes for each value of the centroids. Reference: Lloyd, 1982; Arthur,
//! Vassilvitskii, "k-means++", SODA 2007.

mod lloyd;
mod rows;
mod start;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tessera_schemas::{IMAGE_ID, clusters, column, features, meta};

use crate::nearest::{self, CodedRows};
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Kernel, Operator, Order, Port, RunError, Sink, Tables, Whole,
};
use crate::random::Draw;
use lloyd::{Lloyd, Round};
use rows::Rows;

const FEATURES: &str = "features";
const CENTROIDS: &str = "centroids";

/// Keys of a `kmeans` stage.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The number of clusters. Required, unless `centroids` are given.
    #[serde(default)]
    k: Option<usize>,
    /// The column of vectors. Default `"feature"`.
    #[serde(default = "feature")]
    column: String,
    /// The most iterations; it stops before when no image moves. Default 100, which `tolerance` seldom lets it reach.
    #[serde(default = "iterations")]
    iterations: usize,
    /// It stops when an iteration lowers the objective by no more than this share of it; 0: only when no image moves.
    /// Default 1e-4.
    #[serde(default = "tolerance")]
    tolerance: f64,
    /// How it starts, where no `centroids` are given. Default `"k-means++"`.
    #[serde(default)]
    init: Init,
    /// How many starts to try; the lowest objective wins. Default 1.
    #[serde(default = "restarts")]
    restarts: usize,
}

/// Where the first centroids come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Init {
    /// Rows, each drawn in proportion to its squared distance from those drawn before.
    #[default]
    #[serde(rename = "k-means++")]
    PlusPlus,
    /// Rows, each as likely.
    #[serde(rename = "random")]
    Random,
}

fn feature() -> String {
    features::FEATURE.to_owned()
}

fn iterations() -> usize {
    100
}

fn tolerance() -> f64 {
    1e-4
}

fn restarts() -> usize {
    1
}

/// The bound operator.
pub struct Kmeans {
    config: Config,
    k: usize,
    dimension: usize,
    /// The columns of `centroids` that it reads; none if there is no such input.
    centroids: Vec<String>,
}

impl Operator for Kmeans {
    const NAME: &'static str = "kmeans";
    const SUMMARY: &'static str = "clusters of features by exact k-means";
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] = &[
        Port::scan(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)]),
        Port::side(CENTROIDS, &[Column::new(clusters::CENTROID, ColumnKind::Vector)]).optional(),
    ];
    const SEEDED: bool = true;
    type Config = Config;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = Vec::new();
        let mut refuse = |key: &str, message: String| errors.push(BindError::key(key, message));
        match config.k {
            Some(0) => refuse("k", "0 clusters hold nothing: at least 1".into()),
            Some(k) if k > nearest::MOST_CENTRES => refuse("k", format!("{k} clusters: at most {}", nearest::MOST_CENTRES)),
            _ => {}
        }
        if !(config.tolerance >= 0.0 && config.tolerance.is_finite()) {
            refuse("tolerance", format!("{} is no share of the objective: 0 or more", config.tolerance));
        }
        if config.restarts == 0 {
            refuse("restarts", "0 starts find nothing: at least 1".into());
        }
        let given = inputs.inputs.get(CENTROIDS);
        if given.is_some() && config.restarts > 1 {
            refuse("restarts", format!("{} starts from the same `centroids` find the same: leave it out", config.restarts));
        }
        let dimension = nearest::dimension(inputs.inputs.required(FEATURES), &config.column);
        let dimension = dimension.map_err(|error| errors.push(error)).ok();
        if let (Some(given), Some(dimension)) = (given, dimension) {
            match features::dimension(given, clusters::CENTROID) {
                Ok(found) if found == dimension => {}
                Ok(found) => {
                    let message = format!("centroids have {found} dimensions, but `{}` has {dimension}", config.column);
                    errors.push(BindError::input(CENTROIDS, message).help("use clusters of the same features"));
                }
                Err(error) => errors.push(BindError::input(CENTROIDS, error.to_string())),
            }
        }
        let k = number_of_clusters(config.k, given).map_err(|error| errors.push(error)).ok();
        if let Some(k) = k.filter(|k| config.k.is_none() && !(1..=nearest::MOST_CENTRES).contains(k)) {
            errors.push(BindError::input(CENTROIDS, format!("{k} clusters: 1 to {}", nearest::MOST_CENTRES)));
        }
        match (k, dimension) {
            (Some(k), Some(dimension)) if errors.is_empty() => {
                let has = |name: &&str| given.is_some_and(|schema| schema.field_with_name(name).is_ok());
                let centroids = [clusters::CLUSTER, clusters::CENTROID].iter().filter(|name| has(name));
                let centroids = centroids.map(|name| (*name).to_owned()).collect();
                Ok(Self { config, k, dimension, centroids })
            }
            _ => Err(errors),
        }
    }

    fn schema(&self) -> SchemaRef {
        clusters::schema(self.k, self.dimension)
    }

    fn reads(&self, input: &str, _: &'static Port) -> Vec<String> {
        match input {
            FEATURES => vec![IMAGE_ID.to_owned(), self.config.column.clone()],
            _ => self.centroids.clone(),
        }
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("k", self.k.into())]
    }

    fn kernel(self, context: &Context) -> Result<Kernel, RunError> {
        Ok(Kernel::Whole(Box::new(Run { seed: context.seed, threads: context.threads, operator: self })))
    }
}

/// From the config, or from what a table of centroids says of itself; both may, and then must agree.
fn number_of_clusters(k: Option<usize>, centroids: Option<&SchemaRef>) -> Result<usize, BindError> {
    let field = centroids.and_then(|schema| column::field(schema, clusters::CLUSTER).ok());
    let known: Option<usize> = field.and_then(|field| meta::number(field, meta::CLASSES).ok());
    match (k, known) {
        (Some(k), Some(known)) if k != known => {
            let help = "leave `k` out, or leave `centroids` out to start afresh";
            Err(BindError::key("k", format!("{k} clusters, but `centroids` has {known}")).help(help))
        }
        (Some(k), _) | (None, Some(k)) => Ok(k),
        (None, None) if centroids.is_some() => {
            Err(BindError::stage("missing key `k`: its `centroids` do not say how many they are"))
        }
        (None, None) => Err(BindError::stage("missing key `k`").help("k = 2000 makes 2000 clusters")),
    }
}

struct Run {
    operator: Kmeans,
    seed: u64,
    threads: usize,
}

impl Whole for Run {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Self { operator: Kmeans { config, k, dimension, centroids }, seed, threads } = *self;
        let given = if centroids.is_empty() { None } else { Some(given(tables, k)?) };
        let mut rows = Rows::new(dimension, tables.rows(FEATURES)?);
        for batch in tables.scan(FEATURES, Order::Stored)? {
            rows.add(&batch?, &config.column)?;
            if sink.cancelled() {
                return Err(RunError::Cancelled);
            }
        }
        let rows = rows.sorted();
        if k > rows.count() {
            let (message, n) = (format!("k is {k}, but"), rows.count());
            return Err(RunError::Input(format!("{message} there are {n} images: a cluster needs at least one")));
        }
        let coded = CodedRows::new(rows.frame(), &rows.values, threads);
        let mut best: Option<Found> = None;
        for restart in 0..config.restarts {
            let done = restart * config.iterations;
            sink.progress(done, config.restarts * config.iterations, "first centroids");
            let mut draw = Draw::new(seed, Kmeans::NAME, "start", "", restart as u64);
            let centroids = match (&given, config.init) {
                (Some(given), _) => given.clone(),
                (None, Init::PlusPlus) => start::plus_plus(&rows, &coded, k, &mut draw, threads, &|| sink.cancelled())?,
                (None, Init::Random) => start::random(&rows, k, &mut draw),
            };
            let found = climb(Lloyd::new(&rows, &coded, centroids, seed, threads), &config, done, sink)?;
            if best.as_ref().is_none_or(|best| found.objective < best.objective) {
                best = Some(found);
            }
        }
        let best = best.expect("there is at least one start");
        for (iteration, round) in best.rounds.iter().enumerate() {
            for (name, value) in round.metrics() {
                sink.metric(iteration, iteration, name, value);
            }
        }
        sink.write(clusters::batch(&clusters::schema(k, dimension), best.sizes, best.centroids)?)
    }
}

/// The centroids to start from, `k x dimension`.
fn given(tables: &dyn Tables, k: usize) -> Result<Vec<f32>, RunError> {
    let batches = tables.scan(CENTROIDS, Order::Stored)?.collect::<Result<Vec<_>, _>>()?;
    let clusters::Sorted { numbers, centroids, dimension } = clusters::sorted(&batches)?;
    if numbers.len() != k {
        return Err(RunError::Input(format!("k is {k}, but `{CENTROIDS}` has {} rows", numbers.len())));
    }
    if let Err(fault) = nearest::check(&centroids, dimension) {
        return Err(RunError::Input(format!("row {} of `{CENTROIDS}` {fault}", fault.row)));
    }
    Ok(centroids)
}

/// What one start led to.
struct Found {
    objective: f64,
    sizes: Vec<i64>,
    centroids: Vec<f32>,
    rounds: Vec<Round>,
}

/// Iterates until nothing is left to gain.
fn climb(mut lloyd: Lloyd<'_>, config: &Config, done: usize, sink: &mut dyn Sink) -> Result<Found, RunError> {
    let mut rounds = vec![lloyd.assign(&|| sink.cancelled())?];
    for iteration in 1..=config.iterations {
        let split = lloyd.update();
        let (before, round) = (rounds[iteration - 1], lloyd.assign(&|| sink.cancelled())?);
        rounds.push(round);
        let note = format!("objective {:.6e}, {:.2} % moved", round.objective, 100.0 * round.moved);
        sink.progress(done + iteration, config.restarts * config.iterations, &note);
        let gained = before.objective - round.objective;
        if round.moved == 0.0 || (config.tolerance > 0.0 && split == 0 && gained <= config.tolerance * before.objective) {
            break;
        }
    }
    let (objective, sizes) = (lloyd.objective(), lloyd.sizes().to_vec());
    Ok(Found { objective, sizes, centroids: lloyd.into_centroids(), rounds })
}

#[cfg(test)]
mod tests;
