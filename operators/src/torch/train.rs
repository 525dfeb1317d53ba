//! `train`: a network that solves puzzles.
//!
//! Input: `puzzles` (`permutation`, `tiles`; its metadata says how tiles are normalised). Output: the network's weights, with its
//! name and the normalisation as metadata. Config: below. Metrics: `loss`, `accuracy` (share of a step's puzzles solved),
//! `learning_rate`, `images_per_second` every `metrics_every` steps, and at each epoch's end `epoch_loss` and `epoch_accuracy`.
//! With a `validation` input, puzzles that it does not learn from: also `validation_loss` and `validation_accuracy`, over the same
//! puzzles each time.
//!
//! Each epoch is one shuffled scan. The network is the paper's puzzle form: see [`PuzzleHead`](super::network::PuzzleHead).
//! Weights start by seed and tensor name; libtorch's generator (dropout) is seeded anew each step. The result is exact for one
//! device and number of threads.
//!
//! Noroozi, Vinjimoor, Favaro, Pirsiavash, "Boosting Self-Supervised Learning via Knowledge Transfer", section 4,
//! <https://arxiv.org/abs/1805.00385>.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};
use tessera_schemas::{puzzles, weights};

use super::device::Device;
use super::examples::{Examples, Layout, Steps};
use super::forward::{self, Mode, Tape};
use super::input::normalised;
use super::network::{Form, Name, Parameter};
use super::sgd::{Schedule, Sgd};
use super::tensors::Tensors;
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Kernel, Operator, Order, Port, RunError, Sink, Tables, Whole,
};
use crate::random::Draw;

/// Held from the seeding of libtorch's generator, which is the process's, until a step's last draw from it.
static GENERATOR: Mutex<()> = Mutex::new(());
/// The port of puzzles.
const PUZZLES: &str = "puzzles";

/// The port of puzzles that are not learnt from.
const VALIDATION: &str = "validation";
/// What either has.
const COLUMNS: [Column; 2] =
    [Column::new(puzzles::PERMUTATION, ColumnKind::Integer), Column::new(puzzles::TILES, ColumnKind::Octets)];

/// Keys of a `train` stage.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network: `small`, `alexnet` (the paper's), `alexnet-torchvision`, `vgg16`, `vgg16-bn`, `resnet18` or `resnet50`.
    network: Name,
    /// Passes over the data. Default: 10.
    #[serde(default = "defaults::epochs")]
    epochs: usize,
    /// Puzzles a step, at least 2. Default: 128.
    #[serde(default = "defaults::batch")]
    batch: usize,
    /// The first step's learning rate. Default: 0.05, for networks with batch normalisation; 0.01 suits those without.
    #[serde(default = "defaults::learning_rate")]
    learning_rate: f64,
    /// Share of the last update that goes on. Default: 0.9.
    #[serde(default = "defaults::momentum")]
    momentum: f64,
    /// Pull of weights (not biases) towards zero. Default: 0.0005.
    #[serde(default = "defaults::weight_decay")]
    weight_decay: f64,
    /// `cosine` (default), `constant`, or `step`: a tenth after each third.
    #[serde(default)]
    schedule: Schedule,
    /// Steps between two rows of metrics, each the mean since the one before. Default: 10.
    #[serde(default = "defaults::metrics_every")]
    metrics_every: usize,
    /// `auto` (default: the first CUDA device, else the CPU), `cpu` or `cuda:N`.
    #[serde(default)]
    device: Device,
}

mod defaults {
    pub fn epochs() -> usize {
        10
    }
    pub fn batch() -> usize {
        128
    }
    pub fn learning_rate() -> f64 {
        0.05
    }
    pub fn momentum() -> f64 {
        0.9
    }
    pub fn weight_decay() -> f64 {
        5e-4
    }
    pub fn metrics_every() -> usize {
        10
    }
}

impl Config {
    fn faults(&self) -> Vec<BindError> {
        let counts = [("epochs", self.epochs, 1), ("batch", self.batch, 2), ("metrics_every", self.metrics_every, 1)];
        let few = counts.into_iter().filter(|(_, value, least)| value < least);
        let fault = |(key, value, least)| BindError::key(key, format!("must be at least {least}, is {value}"));
        let mut faults: Vec<_> = few.map(fault).collect();
        let mut within = |key, value: f64, fits: bool, range: &str| {
            if !fits {
                faults.push(BindError::key(key, format!("must be {range}, is {value}")));
            }
        };
        let rate = self.learning_rate;
        within("learning_rate", rate, rate > 0.0 && rate.is_finite(), "above 0");
        within("momentum", self.momentum, (0.0..1.0).contains(&self.momentum), "at least 0 and below 1");
        within("weight_decay", self.weight_decay, (0.0..1.0).contains(&self.weight_decay), "at least 0 and below 1");
        faults
    }
}

/// The bound operator.
#[derive(Debug)]
pub struct Train {
    config: Config,
    layout: Layout,
    form: Form,
    parameters: Vec<Parameter>,
    schema: SchemaRef,
}

impl Operator for Train {
    const NAME: &'static str = "train";
    const SUMMARY: &'static str = "a network's weights, from learning to solve puzzles";
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] = &[Port::scan(PUZZLES, &COLUMNS), Port::scan(VALIDATION, &COLUMNS).optional()];
    const SEEDED: bool = true;
    const NEUTRAL: &'static [&'static str] = &["device", "metrics_every"];
    type Config = Config;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut faults = config.faults();
        let layout = match Layout::of_puzzles(inputs.inputs.required(PUZZLES)) {
            Ok(layout) => layout,
            Err(message) => {
                faults.push(BindError::input(PUZZLES, message).help("`jigsaw` makes puzzles"));
                return Err(faults);
            }
        };
        let form = config.network.network().puzzle(layout.pieces, layout.side[0], layout.classes);
        let parameters = form.parameters().unwrap_or_else(|error| {
            let (name, tile) = (config.network.text(), layout.side[0]);
            let fault = BindError::key("network", format!("`{name}` cannot take tiles of {tile} px: {error}"));
            faults.push(fault.help("larger tiles (of larger images), or a network with less pooling"));
            Vec::new()
        });
        match inputs.inputs.get(VALIDATION).map(Layout::of_puzzles) {
            None => {}
            Some(Ok(found)) if found == layout => {}
            Some(Ok(_)) => {
                let fault = BindError::input(VALIDATION, "its puzzles are not like those of `puzzles`");
                faults.push(fault.help("make both by `jigsaw` stages of the same keys, from images of one size"));
            }
            Some(Err(message)) => faults.push(BindError::input(VALIDATION, message).help("`jigsaw` makes puzzles")),
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let schema = weights::schema(&weights::Network {
            name: Some(config.network.text().to_owned()),
            normalisation: Some(layout.normalisation_name.clone()),
            ..weights::Network::default()
        });
        Ok(Self { config, layout, form, parameters, schema })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn kernel(self, context: &Context) -> Result<Kernel, RunError> {
        let device = self.config.device.find()?;
        Ok(Kernel::Whole(Box::new(Training { train: self, device, seed: context.seed, threads: context.threads })))
    }
}

/// A training run.
struct Training {
    train: Train,
    device: tch::Device,
    seed: u64,
    threads: usize,
}

impl Whole for Training {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        // Of this thread, and of those that libtorch starts for it.
        tch::set_num_threads(self.threads.max(1) as i32);
        let Train { config, layout, form, parameters, schema } = &self.train;
        let tensors = Tensors::initial(parameters, self.seed, self.device)?;
        let mut sgd = Sgd::new(tensors.trained(), config.momentum, config.weight_decay)?;
        let total = config.epochs * (tables.rows(PUZZLES)? / config.batch).max(1);
        let mut step = 0;
        for epoch in 0..config.epochs {
            let (mut whole, mut recent) = (Mean::new(), Mean::new());
            let scan = tables.scan(PUZZLES, Order::Shuffled { epoch: epoch as u64 })?;
            for examples in Steps::new(scan, layout, config.batch) {
                let examples = examples?;
                if sink.cancelled() {
                    return Err(RunError::Cancelled);
                }
                let rate = config.schedule.rate(config.learning_rate, step, total);
                let outcome = {
                    let _generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
                    tch::manual_seed(Draw::new(self.seed, "train", "step", "", step as u64).bits() as i64);
                    forward(form, &tensors, layout, &examples, Mode::Train, self.device)?
                };
                let (loss, solved) = outcome.numbers()?;
                if !loss.is_finite() {
                    return Err(diverged(loss, step, epoch, rate));
                }
                sgd.step(outcome.loss, outcome.tape, rate)?;
                for mean in [&mut whole, &mut recent] {
                    mean.add(loss, solved, examples.classes.len());
                }
                step += 1;
                if step % config.metrics_every == 0 {
                    recent.report(sink, epoch, step, ["loss", "accuracy"]);
                    sink.metric(epoch, step, "learning_rate", rate);
                    sink.metric(epoch, step, "images_per_second", recent.images_per_second());
                    recent = Mean::new();
                }
                let (loss, accuracy) = whole.values();
                let note =
                    format!("epoch {}/{}, loss {loss:.3}, {:.1} % solved", epoch + 1, config.epochs, accuracy * 100.0);
                sink.progress(step.min(total), total, &note);
            }
            if whole.steps == 0 {
                return Err(RunError::Input("there are too few puzzles to learn from: at least 2 are needed".to_owned()));
            }
            whole.report(sink, epoch, step, ["epoch_loss", "epoch_accuracy"]);
            if tables.schema(VALIDATION).is_some() {
                let unseen = self.validate(tables, &tensors)?;
                unseen.report(sink, epoch, step, ["validation_loss", "validation_accuracy"]);
            }
        }
        tensors.write(schema)?.into_iter().try_for_each(|batch| sink.write(batch))
    }
}

impl Training {
    /// The validation set as epoch 0 has it, less what does not fill a step, without learning.
    fn validate(&self, tables: &dyn Tables, tensors: &Tensors) -> Result<Mean, RunError> {
        let Train { config, layout, form, .. } = &self.train;
        let mut mean = Mean::new();
        for examples in Steps::new(tables.scan(VALIDATION, Order::Shuffled { epoch: 0 })?, layout, config.batch) {
            let examples = examples?;
            let outcome = tch::no_grad(|| forward(form, tensors, layout, &examples, Mode::Evaluate, self.device))?;
            let (loss, solved) = outcome.numbers()?;
            mean.add(loss, solved, examples.classes.len());
        }
        if mean.steps == 0 {
            return Err(RunError::Input("there are too few puzzles to validate with: at least 2 are needed".to_owned()));
        }
        Ok(mean)
    }
}

/// What one step's puzzles gave.
struct Outcome {
    /// Mean cross-entropy, a scalar.
    loss: Tensor,
    /// How many puzzles were solved, a scalar.
    solved: Tensor,
    /// The way back from the loss.
    tape: Tape,
}

impl Outcome {
    fn numbers(&self) -> Result<(f64, f64), RunError> {
        Ok((self.loss.f_double_value(&[])?, self.solved.f_double_value(&[])?))
    }
}

/// Loss and solved puzzles of one step.
fn forward(
    form: &Form,
    tensors: &Tensors,
    layout: &Layout,
    examples: &Examples,
    mode: Mode,
    device: tch::Device,
) -> Result<Outcome, RunError> {
    let pieces = normalised(&examples.bytes, layout.side, layout.normalisation, device)?;
    let classes = Tensor::f_from_slice(&examples.classes)?.f_to_device(device)?;
    let mut tape = Tape::default();
    let scores = forward::scores(form, tensors, pieces, mode, &mut tape)?;
    let solved = scores.f_argmax(-1, false)?.f_eq_tensor(&classes)?.f_sum(Kind::Int64)?;
    Ok(Outcome { loss: forward::loss(&scores, &classes)?, solved, tape })
}

fn diverged(loss: f64, step: usize, epoch: usize, rate: f64) -> RunError {
    RunError::Input(format!(
        "the loss is {loss} at step {step} (epoch {epoch}), with a learning rate of {rate:.3e}: try a `learning_rate` of a tenth, \
         or a larger `batch`"
    ))
}

/// Means over some steps.
struct Mean {
    since: Instant,
    steps: usize,
    images: usize,
    loss: f64,
    solved: f64,
}

impl Mean {
    fn new() -> Self {
        Self { since: Instant::now(), steps: 0, images: 0, loss: 0.0, solved: 0.0 }
    }

    fn add(&mut self, loss: f64, solved: f64, images: usize) {
        self.steps += 1;
        self.images += images;
        self.loss += loss;
        self.solved += solved;
    }

    /// Mean loss of a step, and share of puzzles solved.
    fn values(&self) -> (f64, f64) {
        (self.loss / self.steps as f64, self.solved / self.images as f64)
    }

    fn images_per_second(&self) -> f64 {
        self.images as f64 / self.since.elapsed().as_secs_f64()
    }

    fn report(&self, sink: &mut dyn Sink, epoch: usize, step: usize, names: [&str; 2]) {
        let (loss, accuracy) = self.values();
        sink.metric(epoch, step, names[0], loss);
        sink.metric(epoch, step, names[1], accuracy);
    }
}

#[cfg(test)]
mod tests;
