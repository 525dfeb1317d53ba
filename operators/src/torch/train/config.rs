//! The keys of a `train` stage, as its file has them. What a run works with are [`Settings`](super::settings::Settings): the same by what
//! they are of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::Names;
use crate::torch::device::Device;
use crate::torch::network::Name;
use crate::torch::optimizer::Method;
use crate::torch::precision::Precision;
use crate::torch::schedule::Shape;

/// Keys of a `train` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network.
    pub network: Name,
    /// Of images: the column of whole numbers that are their classes; or a list of columns, one a class, that say whether an image
    /// shows it: 1, -1, or 0 for one that is not to count. Default: `cluster`, else `label`, else the columns that are marked as
    /// classes (`images` makes them of PASCAL VOC).
    #[serde(default)]
    pub target: Option<Names>,
    /// Of images with one column of classes: how many there are. Default: what the input says of the column, as `assign` does.
    #[serde(default)]
    pub classes: Option<usize>,
    /// What an epoch has equally many examples of. There are as many examples as images in any case.
    #[serde(default)]
    pub sampling: Sampling,
    /// Of images: the mean to normalise them with, red, green, blue, in 0..1. Default: ImageNet's.
    #[serde(default)]
    pub mean: Option<[f32; 3]>,
    /// Of images: the standard deviation of the same. Default: ImageNet's.
    #[serde(default)]
    pub deviation: Option<[f32; 3]>,
    /// The layer (`conv1` to `conv5`) up to which the network stays as it starts: only what follows is trained. Default: none.
    #[serde(default)]
    pub freeze: Option<String>,
    /// Which tensors of the input `weights` the network starts from. Default: as `freeze` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<Take>,
    /// Passes over the data.
    #[serde(default = "defaults::epochs")]
    pub epochs: usize,
    /// Examples a step, at least 2.
    #[serde(default = "defaults::batch")]
    pub batch: usize,
    /// How gradients change weights.
    #[serde(default)]
    pub optimizer: Method,
    /// The learning rate that a warm-up leads to, and the schedule starts with. Default: 0.05 for `sgd`, which suits networks with
    /// batch normalisation (0.01 suits those without); 0.001 for `adamw`.
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// Of `sgd`: the share of the last update that goes on. Default: 0.9.
    #[serde(default)]
    pub momentum: Option<f64>,
    /// Pull of weights (not of biases, nor batch normalisation's) towards zero. Default: 0.0005 for `sgd`, 0.01 for `adamw`.
    #[serde(default)]
    pub weight_decay: Option<f64>,
    /// The norm over all gradients that a step's are scaled down to, if theirs is larger. Default: none.
    #[serde(default)]
    pub clip: Option<f64>,
    /// The share of a right class's weight that is spread over all classes. Not for several columns of classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// How the learning rate goes on behind the warm-up.
    #[serde(default)]
    pub schedule: Shape,
    /// Epochs, or parts of them, over which the learning rate grows linearly from a hundredth.
    #[serde(default)]
    pub warmup: f64,
    /// Epochs, or parts of them, between two changes of the schedule `step`. Default: a third of those behind the warm-up.
    #[serde(default)]
    pub step_every: Option<f64>,
    /// What each change of the schedule `step` multiplies the learning rate with.
    #[serde(default = "defaults::step_factor")]
    pub step_factor: f64,
    /// What convolutions and matrix products compute in. Weights, sums and the optimizer are of 32 bits in any case.
    #[serde(default)]
    pub precision: Precision,
    /// Epochs between two measurements on the input `probe`.
    #[serde(default = "defaults::probe_every")]
    pub probe_every: usize,
    /// The layer whose features are measured. Default: the network's last.
    #[serde(default)]
    pub probe_layer: Option<String>,
    /// The column of `probe` with what its images show.
    #[serde(default = "defaults::probe_label")]
    pub probe_label: String,
    /// Steps between two rows of metrics, each the mean since the one before.
    #[serde(default = "defaults::metrics_every")]
    pub metrics_every: usize,
    /// Minutes between two checkpoints: an interrupted run loses no more. 0 writes one after each step.
    #[serde(default = "defaults::checkpoint_minutes")]
    pub checkpoint_minutes: f64,
    /// Where it computes: `auto` (the first CUDA device, else the CPU), `cpu` or `cuda:N`.
    #[serde(default)]
    pub device: Device,
}

/// What is taken of weights to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Take {
    /// All that fit. The default without `freeze`.
    All,
    /// Those that are not trained, so that the others are learnt anew. The default with `freeze`.
    Frozen,
}

/// What comes equally often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Images: each comes once.
    #[default]
    Images,
    /// Classes, as DeepCluster has it (Caron et al., ECCV 2018, section 3.3): of a large class other images come each time, those of a
    /// small one come several times.
    Classes,
}

mod defaults {
    pub fn epochs() -> usize {
        10
    }
    pub fn batch() -> usize {
        128
    }
    pub fn step_factor() -> f64 {
        0.1
    }
    pub fn probe_every() -> usize {
        1
    }
    pub fn probe_label() -> String {
        "label".to_owned()
    }
    pub fn metrics_every() -> usize {
        10
    }
    pub fn checkpoint_minutes() -> f64 {
        5.0
    }
}
