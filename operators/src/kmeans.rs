//! `kmeans`: clusters of features by Lloyd's algorithm, the paper's virtual categories (section 3, step b).
//!
//! Input: `features`, one vector an image, and optionally `centroids` to start from. Output: `clusters`. Metrics, with the
//! iteration as `epoch` (0: the start): `objective` (sum of squared Euclidean distances), `imbalance` (`k Σh² / (Σh)²`, 1 where
//! all clusters are of one size), `empty` (clusters without images) and `moved` (the share of images that changed cluster).
//! Those of the best restart are kept.
//!
//! Exact: every row gets the centroid that is nearest in f64 ([`nearest`](crate::nearest)). The result does not depend on the
//! order of the rows, their parts, the number of threads, or whether memory held them: sums are of whole numbers ([`lloyd`]), draws
//! walk over the rows in the order of their `image_id` ([`start`]), and of equally near centroids the lower number wins. All images
//! are looked at, unless `mini_batch` asks for a choice of them ([`mini_batch`]). Empty clusters are split off big ones, as
//! faiss and DeepCluster (Caron et al., ECCV 2018) do, unless `empty` says otherwise.
//!
//! With `init = "previous"` it starts from the centroids that this stage found last ([`previous`]): cluster 7 is again what cluster 7
//! was, and few images change cluster when few images came or went. Without such a table it starts as `k-means++` does. What it
//! started from stands in the table `snapshots` and not in its key, so the clusters are then those of the images *and* of their history:
//! `tessera run --force` starts afresh.
//!
//! Memory: the features once in f32 and once in 8 bits (16, where the processor has no products of bytes or there are below 64
//! dimensions), some 70 bytes more an image, and 14 bytes for each value of the centroids. Under `memory`, all that grows with the
//! images goes to nameless files that are mapped. Centroids of a run that left out empty clusters keep their numbers. With `spherical`, centroids have length 1, so that the nearest to a feature, as `assign` finds it,
//! is that of the largest cosine. Reference: Lloyd, 1982; Arthur, Vassilvitskii, "k-means++", SODA 2007.

mod config;
mod few;
mod lloyd;
mod mini_batch;
mod previous;
mod rows;
mod run;
mod start;

use arrow::datatypes::SchemaRef;
use tessera_schemas::{IMAGE_ID, clusters, column, features, meta};

use crate::config::Limits;
use crate::decode::OnError;
use crate::nearest;
use crate::operator::{BindError, Binding, Column, ColumnKind, Context, Operator, Port, RunError, Whole};
use crate::vectors;
use config::{Config, Init};
pub use few::of_rows;

const FEATURES: &str = "features";
const CENTROIDS: &str = "centroids";

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
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("cluster", "its number, from 0"),
        ("centroid", "the mean of its features; with `spherical`, its direction"),
        ("size", "the number of images that are nearest to it"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.clusters]
op = "kmeans"
input = "features"
k = 2000
"#;
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] = &[
        Port::scan(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)]),
        Port::side(CENTROIDS, &[Column::new(clusters::CENTROID, ColumnKind::Vector)]).optional(),
    ];
    const SEEDED: bool = true;
    const NEUTRAL: &'static [&'static str] = &["memory", "on_error"];
    const LIMITS: Limits =
        &[("iterations", 1e6), ("tolerance", 1.0), ("restarts", 1e4), ("mini_batch", 1e6), ("memory", 1e18)];
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn faults(config: &Config) -> Vec<BindError> {
        config.faults(false)
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let given = inputs.inputs.get(CENTROIDS);
        let mut errors = config.faults(given.is_some());
        let dimension = vectors::dimension(inputs.inputs.required(FEATURES), &config.column);
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

    fn refuses_drops(&self) -> bool {
        self.config.on_error == OnError::Fail
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("k", self.k.into())]
    }

    fn goes_on_from(&self) -> Option<&'static str> {
        (self.config.init == Init::Previous && self.centroids.is_empty()).then_some("centroids")
    }

    fn fits(&self, last: &SchemaRef) -> Result<(), String> {
        previous::fits(last, self.k, self.dimension)
    }

    fn enough(&self, input: &str, rows: u64) -> Result<(), BindError> {
        match run::enough(self.k, usize::try_from(rows).unwrap_or(usize::MAX)) {
            Err(message) if input == FEATURES && self.config.k.is_some() => Err(BindError::key("k", message)),
            Err(message) if input == FEATURES => Err(BindError::input(CENTROIDS, message)),
            _ => Ok(()),
        }
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Whole>, RunError> {
        Ok(Box::new(run::Run { context: context.clone(), operator: self }))
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

#[cfg(test)]
mod bench;
#[cfg(test)]
mod tests;
