//! The keys of a `train` stage by what they are of, with the defaults that depend on other keys; and what is wrong with them whatever
//! the inputs.

use serde_json::Value;

use super::config::{Config, Sampling, Take};
use crate::names::Names;
use crate::operator::BindError;
use crate::torch::device::Device;
use crate::torch::network::Name;
use crate::torch::normalisation::{IMAGENET, Normalisation};
use crate::torch::optimizer::{Method, Rule};
use crate::torch::precision::Precision;
use crate::torch::schedule::{Schedule, Shape};

/// All keys.
#[derive(Debug)]
pub struct Settings {
    pub network: Name,
    pub images: Images,
    pub start: Start,
    pub learning: Learning,
    pub probing: Probing,
    pub records: Records,
    pub device: Device,
}

/// Of images: what they show, and how they are normalised.
#[derive(Debug)]
pub struct Images {
    /// The columns of classes.
    pub target: Option<Names>,
    /// How many classes one column has.
    pub classes: Option<usize>,
    pub sampling: Sampling,
    pub mean: Option<[f32; 3]>,
    pub deviation: Option<[f32; 3]>,
}

/// What the network starts from.
#[derive(Debug)]
pub struct Start {
    /// The layer up to which it stays so.
    pub freeze: Option<String>,
    pub take: Option<Take>,
}

/// How it learns.
#[derive(Debug)]
pub struct Learning {
    pub epochs: usize,
    /// Examples a step.
    pub batch: usize,
    pub optimizer: Method,
    /// The learning rate that the course starts with.
    pub rate: f64,
    /// Of `sgd`.
    pub momentum: Option<f64>,
    pub weight_decay: f64,
    pub clip: Option<f64>,
    /// The share of a right class's weight that is spread over all classes.
    pub smoothing: f64,
    pub course: Course,
    pub precision: Precision,
}

/// How the learning rate goes on, in epochs.
#[derive(Debug)]
pub struct Course {
    pub shape: Shape,
    pub warmup: f64,
    /// Of [`Shape::Step`]: between two changes.
    pub step_every: Option<f64>,
    pub step_factor: f64,
}

/// What the input `probe` is measured by.
#[derive(Debug)]
pub struct Probing {
    /// Epochs between two measurements.
    pub every: usize,
    pub layer: Option<String>,
    pub label: String,
}

/// What is kept in the course of a run.
#[derive(Debug)]
pub struct Records {
    /// Steps between two rows of metrics.
    pub metrics_every: usize,
    pub checkpoint_minutes: f64,
}

impl From<Config> for Settings {
    fn from(config: Config) -> Self {
        let (rate, decay, momentum) = match config.optimizer {
            Method::Sgd => (0.05, 5e-4, Some(0.9)),
            Method::Adamw => (0.001, 0.01, None),
        };
        let of_step = (config.schedule == Shape::Step).then_some((config.epochs as f64 - config.warmup) / 3.0);
        Self {
            network: config.network,
            images: Images {
                target: config.target,
                classes: config.classes,
                sampling: config.sampling,
                mean: config.mean,
                deviation: config.deviation,
            },
            start: Start {
                take: config.take.or_else(|| config.freeze.is_some().then_some(Take::Frozen)),
                freeze: config.freeze,
            },
            learning: Learning {
                epochs: config.epochs,
                batch: config.batch,
                optimizer: config.optimizer,
                rate: config.learning_rate.unwrap_or(rate),
                momentum: config.momentum.or(momentum),
                weight_decay: config.weight_decay.unwrap_or(decay),
                clip: config.clip,
                smoothing: config.label_smoothing,
                course: Course {
                    shape: config.schedule,
                    warmup: config.warmup,
                    step_every: config.step_every.or(of_step),
                    step_factor: config.step_factor,
                },
                precision: config.precision,
            },
            probing: Probing { every: config.probe_every, layer: config.probe_layer, label: config.probe_label },
            records: Records { metrics_every: config.metrics_every, checkpoint_minutes: config.checkpoint_minutes },
            device: config.device,
        }
    }
}

impl Settings {
    /// The keys whose defaults depend on other keys, as they came out.
    pub fn settled(&self) -> Vec<(&'static str, Value)> {
        let number = |value: Option<f64>| value.map_or(Value::Null, Value::from);
        let Learning { rate, weight_decay, momentum, course, .. } = &self.learning;
        let mut settled = vec![
            ("learning_rate", (*rate).into()),
            ("weight_decay", (*weight_decay).into()),
            ("momentum", number(*momentum)),
            ("step_every", number(course.step_every)),
        ];
        settled.extend(self.start.take.map(|take| ("take", serde_json::json!(take))));
        settled
    }

    /// Everything that is wrong, whatever the inputs.
    pub fn faults(&self) -> Vec<BindError> {
        let Self { images, learning, records, probing, .. } = self;
        let counts = [
            ("epochs", learning.epochs, 1),
            ("batch", learning.batch, 2),
            ("classes", images.classes.unwrap_or(2), 2),
            ("metrics_every", records.metrics_every, 1),
            ("probe_every", probing.every, 1),
        ];
        let few = counts.into_iter().filter(|(_, value, least)| value < least);
        let fault = |(key, value, least)| BindError::key(key, format!("must be at least {least}, is {value}"));
        let mut faults: Vec<_> = few.map(fault).collect();
        faults.extend(learning.out_of_range());
        if !(0.0..).contains(&records.checkpoint_minutes) {
            let message = format!("must be at least 0, is {}", records.checkpoint_minutes);
            faults.push(BindError::key("checkpoint_minutes", message));
        }
        faults.extend(learning.unfit());
        if self.start.take == Some(Take::Frozen) && self.start.freeze.is_none() {
            let fault = BindError::key("take", "is `frozen`, and no layers are");
            faults.push(fault.help("freeze = \"conv3\", say, or take = \"all\""));
        }
        faults
    }
}

impl Images {
    /// Mean and deviation that they are normalised with.
    pub fn normalisation(&self) -> Normalisation {
        Normalisation::Fixed { mean: self.mean.unwrap_or(IMAGENET.0), deviation: self.deviation.unwrap_or(IMAGENET.1) }
    }
}

impl Learning {
    /// Numbers that are too small, or too large.
    fn out_of_range(&self) -> Vec<BindError> {
        let mut faults = Vec::new();
        let mut within = |key, value: f64, fits: fn(f64) -> bool, range: &str| {
            if !fits(value) {
                faults.push(BindError::key(key, format!("must be {range}, is {value}")));
            }
        };
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let share = |value: f64| (0.0..1.0).contains(&value);
        within("learning_rate", self.rate, positive, "above 0");
        within("momentum", self.momentum.unwrap_or_default(), share, "at least 0 and below 1");
        within("weight_decay", self.weight_decay, share, "at least 0 and below 1");
        within("clip", self.clip.unwrap_or(1.0), positive, "above 0");
        within("label_smoothing", self.smoothing, share, "at least 0 and below 1");
        within("step_every", self.course.step_every.unwrap_or(1.0), positive, "above 0");
        within("step_factor", self.course.step_factor, |value| value > 0.0 && value <= 1.0, "above 0 and at most 1");
        faults
    }

    /// Keys that do not go together.
    fn unfit(&self) -> Vec<BindError> {
        let Self { epochs, course, .. } = self;
        let mut faults = Vec::new();
        if !(course.warmup >= 0.0 && course.warmup < (*epochs).max(1) as f64) {
            let message = format!("must be at least 0 and below `epochs` = {epochs}, is {}", course.warmup);
            faults.push(BindError::key("warmup", message));
        }
        if self.optimizer == Method::Adamw && self.momentum.is_some() {
            let fault = BindError::key("momentum", "is of `sgd`, and the optimizer is `adamw`");
            faults.push(fault.help("remove it: `adamw` has moments of its own, of 0.9 and 0.999"));
        }
        if course.shape != Shape::Step && course.step_every.is_some() {
            let fault = BindError::key("step_every", "is of the schedule `step`, and the stage has another");
            faults.push(fault.help("schedule = \"step\", or remove it"));
        }
        faults
    }

    /// What the optimizer does.
    pub fn rule(&self) -> Rule {
        Rule {
            method: self.optimizer,
            momentum: self.momentum.unwrap_or_default(),
            decay: self.weight_decay,
            clip: self.clip,
        }
    }

    /// The learning rates, for epochs of so many steps.
    pub fn rates(&self, epoch: usize) -> Schedule {
        let steps = |epochs: f64| (epochs * epoch as f64).round() as usize;
        let Course { shape, warmup, step_every, step_factor } = self.course;
        Schedule {
            shape,
            rate: self.rate,
            steps: self.epochs * epoch,
            warmup: steps(warmup),
            every: steps(step_every.unwrap_or_default()).max(1),
            factor: step_factor,
        }
    }
}
