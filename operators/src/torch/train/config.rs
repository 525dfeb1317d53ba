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
    /// Of images with one column of classes: how many there are. Default: the number that the input's metadata have for the column, as
    /// those of `assign` do.
    #[serde(default)]
    pub classes: Option<usize>,
    /// Whether an epoch has each image once, or each class equally often. In both cases an epoch has as many examples as there are
    /// images.
    #[serde(default)]
    pub sampling: Sampling,
    /// Of images: the mean to normalise them with, red, green, blue, in 0..1. Default: ImageNet's.
    #[serde(default)]
    pub mean: Option<[f32; 3]>,
    /// Of images: the standard deviation to normalise them with. Default: ImageNet's.
    #[serde(default)]
    pub deviation: Option<[f32; 3]>,
    /// The layer (`conv1` to `conv5`) up to which the network stays as it starts: only what follows is trained. Default: none.
    #[serde(default)]
    pub freeze: Option<String>,
    /// Which tensors of the input `weights` the network starts from; its other tensors start at random. Default: `"frozen"` with
    /// `freeze`, else `"all"`.
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
    /// The largest norm of all gradients of a step together: larger ones are scaled down to it. Default: no limit.
    #[serde(default)]
    pub clip: Option<f64>,
    /// The share of the right class's probability that is spread over all classes. It is not for images with a column a class.
    #[serde(default)]
    pub label_smoothing: f64,
    /// How the learning rate changes after the warm-up.
    #[serde(default)]
    pub schedule: Shape,
    /// Epochs, or parts of one, over which the learning rate grows linearly from a hundredth of itself.
    #[serde(default)]
    pub warmup: f64,
    /// Epochs, or parts of them, between two changes of the schedule `step`. Default: a third of those behind the warm-up.
    #[serde(default)]
    pub step_every: Option<f64>,
    /// The number that each change of the schedule `step` multiplies the learning rate by.
    #[serde(default = "defaults::step_factor")]
    pub step_factor: f64,
    /// The numbers that convolutions and matrix products compute with. Weights, sums and the optimizer are of 32 bits in any case.
    #[serde(default)]
    pub precision: Precision,
    /// Epochs between two measurements on the input `probe`.
    #[serde(default = "defaults::probe_every")]
    pub probe_every: usize,
    /// The layer whose features are measured. Default: the network's last.
    #[serde(default)]
    pub probe_layer: Option<String>,
    /// The column of `probe` with the labels of its images.
    #[serde(default = "defaults::probe_label")]
    pub probe_label: String,
    /// Steps between two values of a metric; each is the mean over the steps since the one before.
    #[serde(default = "defaults::metrics_every")]
    pub metrics_every: usize,
    /// Minutes between two checkpoints: an interrupted run loses the work of so many minutes at most. 0 writes one after each step.
    #[serde(default = "defaults::checkpoint_minutes")]
    pub checkpoint_minutes: f64,
    /// Where it computes: `auto` (the first CUDA device, else the CPU), `cpu` or `cuda:N`.
    #[serde(default)]
    pub device: Device,
}

/// Which tensors a network takes of the weights that it starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Take {
    /// All whose name and shape fit. This is the default without `freeze`.
    All,
    /// Those up to the layer of `freeze`, which are not trained; the layers behind it are learnt anew. This is the default with
    /// `freeze`.
    Frozen,
}

/// What an epoch has equally many examples of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Each image comes once.
    #[default]
    Images,
    /// Each class comes equally often, as in DeepCluster (Caron et al., ECCV 2018, section 3.3): of a large class other images come in
    /// each epoch, and the images of a small class come several times.
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
