//! The keys of a `train` stage, and what is wrong with them whatever the inputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::Names;
use crate::operator::BindError;
use crate::torch::device::Device;
use crate::torch::input::{IMAGENET, Normalisation};
use crate::torch::network::Name;
use crate::torch::optimizer::{Method, Rule};
use crate::torch::precision::Precision;
use crate::torch::schedule::{Schedule, Shape};

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

impl Config {
    /// The config with the defaults that depend on the optimizer.
    pub fn settle(&mut self) {
        let (rate, decay) = match self.optimizer {
            Method::Sgd => (0.05, 5e-4),
            Method::Adamw => (0.001, 0.01),
        };
        self.learning_rate.get_or_insert(rate);
        self.weight_decay.get_or_insert(decay);
        if self.optimizer == Method::Sgd {
            self.momentum.get_or_insert(0.9);
        }
        if self.freeze.is_some() {
            self.take.get_or_insert(Take::Frozen);
        }
        if self.schedule == Shape::Step {
            self.step_every.get_or_insert((self.epochs as f64 - self.warmup) / 3.0);
        }
    }

    /// The fields that [`settle`](Self::settle) sets.
    pub fn settled(&self) -> Vec<(&'static str, Value)> {
        let number = |value: Option<f64>| value.map_or(Value::Null, Value::from);
        let mut settled = vec![
            ("learning_rate", number(self.learning_rate)),
            ("weight_decay", number(self.weight_decay)),
            ("momentum", number(self.momentum)),
            ("step_every", number(self.step_every)),
        ];
        settled.extend(self.take.map(|take| ("take", serde_json::json!(take))));
        settled
    }

    /// Everything that is wrong, whatever the inputs. The config is settled.
    pub fn faults(&self) -> Vec<BindError> {
        let counts = [
            ("epochs", self.epochs, 1),
            ("batch", self.batch, 2),
            ("classes", self.classes.unwrap_or(2), 2),
            ("metrics_every", self.metrics_every, 1),
            ("probe_every", self.probe_every, 1),
        ];
        let few = counts.into_iter().filter(|(_, value, least)| value < least);
        let fault = |(key, value, least)| BindError::key(key, format!("must be at least {least}, is {value}"));
        let mut faults: Vec<_> = few.map(fault).collect();
        let mut within = |key, value: f64, fits: fn(f64) -> bool, range: &str| {
            if !fits(value) {
                faults.push(BindError::key(key, format!("must be {range}, is {value}")));
            }
        };
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let share = |value: f64| (0.0..1.0).contains(&value);
        let rule = self.rule();
        within("learning_rate", self.rate(), positive, "above 0");
        within("momentum", rule.momentum, share, "at least 0 and below 1");
        within("weight_decay", rule.decay, share, "at least 0 and below 1");
        within("clip", rule.clip.unwrap_or(1.0), positive, "above 0");
        within("label_smoothing", self.label_smoothing, share, "at least 0 and below 1");
        within("step_every", self.step_every.unwrap_or(1.0), positive, "above 0");
        within("step_factor", self.step_factor, |value| value > 0.0 && value <= 1.0, "above 0 and at most 1");
        within("checkpoint_minutes", self.checkpoint_minutes, |value| value >= 0.0, "at least 0");
        if !(self.warmup >= 0.0 && self.warmup < self.epochs.max(1) as f64) {
            let message = format!("must be at least 0 and below `epochs` = {}, is {}", self.epochs, self.warmup);
            faults.push(BindError::key("warmup", message));
        }
        if self.optimizer == Method::Adamw && self.momentum.is_some() {
            let fault = BindError::key("momentum", "is of `sgd`, and the optimizer is `adamw`");
            faults.push(fault.help("remove it: `adamw` has moments of its own, of 0.9 and 0.999"));
        }
        if self.schedule != Shape::Step && self.step_every.is_some() {
            let fault = BindError::key("step_every", "is of the schedule `step`, and the stage has another");
            faults.push(fault.help("schedule = \"step\", or remove it"));
        }
        if self.take == Some(Take::Frozen) && self.freeze.is_none() {
            let fault = BindError::key("take", "is `frozen`, and no layers are");
            faults.push(fault.help("freeze = \"conv3\", say, or take = \"all\""));
        }
        faults
    }

    /// The learning rate.
    pub fn rate(&self) -> f64 {
        self.learning_rate.unwrap_or_default()
    }

    /// What the optimizer does.
    pub fn rule(&self) -> Rule {
        Rule {
            method: self.optimizer,
            momentum: self.momentum.unwrap_or_default(),
            decay: self.weight_decay.unwrap_or_default(),
            clip: self.clip,
        }
    }

    /// Mean and deviation that images are normalised with.
    pub fn normalisation(&self) -> Normalisation {
        Normalisation::Fixed { mean: self.mean.unwrap_or(IMAGENET.0), deviation: self.deviation.unwrap_or(IMAGENET.1) }
    }

    /// The learning rates, for epochs of so many steps.
    pub fn rates(&self, epoch: usize) -> Schedule {
        let steps = |epochs: f64| (epochs * epoch as f64).round() as usize;
        Schedule {
            shape: self.schedule,
            rate: self.rate(),
            steps: self.epochs * epoch,
            warmup: steps(self.warmup),
            every: steps(self.step_every.unwrap_or_default()).max(1),
            factor: self.step_factor,
        }
    }
}
