//! Keys of a `kmeans` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decode::OnError;
use crate::memory::Memory;
use crate::nearest;
use crate::operator::BindError;
use crate::vectors;

/// Keys of a `kmeans` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The number of clusters. Required, unless `centroids` are given.
    #[serde(default)]
    pub k: Option<usize>,
    /// The column of vectors.
    #[serde(default = "vectors::feature")]
    pub column: String,
    /// The most iterations. It stops earlier when no image changes cluster, or as `tolerance` says. With `mini_batch`, the number of
    /// batches.
    #[serde(default = "iterations")]
    pub iterations: usize,
    /// It stops when an iteration lowers the objective by no more than this share of it. With 0 it stops only when no image changes
    /// cluster.
    #[serde(default = "tolerance")]
    pub tolerance: f64,
    /// What the first centroids are, where no `centroids` are given.
    #[serde(default)]
    pub init: Init,
    /// How many starts to try; the lowest objective wins. From previous centroids there is one start.
    #[serde(default = "restarts")]
    pub restarts: usize,
    /// What happens to empty clusters, which are the nearest of no image. With `mini_batch` they keep their centroids.
    #[serde(default)]
    pub empty: Empty,
    /// Clusters by direction: features and centroids are brought to length 1 (Dhillon, Modha, 2001).
    #[serde(default)]
    pub spherical: bool,
    /// The number of images in a batch: the centroids are moved by batches, drawn at random (Sculley, WWW 2010), and not by all images
    /// at once. This is faster and less exact. Default: all images.
    #[serde(default)]
    pub mini_batch: Option<usize>,
    /// What happens to an image that cannot be placed: with `spherical`, one whose feature is all zeros and has no direction.
    #[serde(default)]
    pub on_error: OnError,
    /// The most memory for features, ids and clusters of the images, such as `"2GiB"`. What does not fit is kept in temporary files in
    /// the store, with the same result. Default: three quarters of what is free.
    #[serde(default)]
    pub memory: Option<Memory>,
}

/// Where the first centroids come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
pub enum Init {
    /// Images, drawn one after the other with probabilities in proportion to the squared distance from the nearest that was drawn
    /// before.
    #[default]
    #[serde(rename = "k-means++")]
    PlusPlus,
    /// Images, each with the same probability.
    #[serde(rename = "random")]
    Random,
    /// The centroids that this stage found last, so that clusters keep their numbers. If there are none, or none that fit, as
    /// `k-means++`.
    #[serde(rename = "previous")]
    Previous,
}

/// What becomes of empty clusters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Empty {
    /// They take the images that are farthest from their centroids, as in scikit-learn.
    #[default]
    Farthest,
    /// They take half of the biggest cluster, as in faiss.
    Split,
    /// They keep their centroids.
    Keep,
    /// They keep their centroids, and are left out of the table.
    Drop,
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

impl Config {
    /// The defaults, for so many clusters.
    pub fn of(k: usize, column: String) -> Self {
        Self {
            k: Some(k),
            column,
            iterations: iterations(),
            tolerance: tolerance(),
            init: Init::default(),
            restarts: restarts(),
            empty: Empty::default(),
            spherical: false,
            mini_batch: None,
            on_error: OnError::default(),
            memory: None,
        }
    }

    /// What is wrong with the keys alone.
    pub fn faults(&self, starts_given: bool) -> Vec<BindError> {
        let mut faults = Vec::new();
        let mut refuse = |key: &str, message: String| faults.push(BindError::key(key, message));
        match self.k {
            Some(0) => refuse("k", "0 clusters hold nothing: at least 1".into()),
            Some(k) if k > nearest::MOST_CENTRES => refuse("k", format!("{k} clusters: at most {}", nearest::MOST_CENTRES)),
            _ => {}
        }
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            refuse("tolerance", format!("{} is no share of the objective: 0 or more", self.tolerance));
        }
        if self.restarts == 0 {
            refuse("restarts", "0 starts find nothing: at least 1".into());
        }
        if self.mini_batch == Some(0) {
            refuse("mini_batch", "a batch of 0 images moves nothing: at least 1".into());
        }
        if starts_given && self.restarts > 1 && self.mini_batch.is_none() {
            let message = format!("{} starts from the same `centroids` find the same: leave it out", self.restarts);
            refuse("restarts", message);
        }
        faults
    }
}
