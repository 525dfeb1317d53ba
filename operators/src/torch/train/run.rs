//! A training run: epochs of steps, what is measured on the way, and going on behind an interruption.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tch::{Kind, Tensor};

use super::checkpoint::{self, Position};
use super::mean::Mean;
use super::transfer;
use super::{EXAMPLES, Train, VALIDATION};
use crate::operator::{Order, RunError, Sink, Tables, Whole};
use crate::random::Draw;
use crate::torch::examples::{Content, Examples, Layout, Steps};
use crate::torch::forward::{self, Mode, Tape};
use crate::torch::input::normalised;
use crate::torch::network::Form;
use crate::torch::optimizer::Optimizer;
use crate::torch::score::{self, Score};
use crate::torch::tensors::Tensors;
use crate::torch::threads::Threads;

/// Held from the seeding of libtorch's generator, which is the process's, until a step's last draw from it.
static GENERATOR: Mutex<()> = Mutex::new(());

/// A bound operator with what the run gives it.
pub struct Training {
    pub train: Train,
    pub device: tch::Device,
    pub seed: u64,
    pub threads: usize,
}

/// What changes in the course of a run.
struct State {
    tensors: Tensors,
    optimizer: Optimizer,
    /// Passes over the data that are done.
    epoch: usize,
    /// Steps that are done.
    step: usize,
    /// The last example of this epoch's last step.
    last: Option<String>,
    /// This epoch's steps.
    whole: Mean,
    /// The steps since the last row of metrics.
    recent: Mean,
}

impl Whole for Training {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let _threads = Threads::new(self.threads)?;
        let mut state = self.start(tables, sink)?;
        while state.epoch < self.train.config.epochs {
            self.epoch(&mut state, tables, sink)?;
        }
        for (name, tensor) in state.tensors.named() {
            if !tensor.f_isfinite()?.f_all()?.f_double_value(&[])?.eq(&1.0) {
                return Err(RunError::Input(format!(
                    "the tensor `{name}` has values that are no numbers after the last step: {ADVICE}"
                )));
            }
        }
        state.tensors.write(&self.train.schema)?.into_iter().try_for_each(|batch| sink.write(batch))
    }
}

impl Training {
    /// The state of the last checkpoint, else that before the first step.
    fn start(&self, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<State, RunError> {
        let resumed = sink.resume().and_then(|bytes| match checkpoint::position(&bytes) {
            Ok(position) => Some((bytes, position)),
            Err(error) => {
                sink.say(&format!("the checkpoint cannot be used ({error}); starting over"));
                None
            }
        });
        let steps = resumed.as_ref().map_or(0, |(_, position)| position.step);
        let tensors = Tensors::initial(&self.train.parameters, self.seed, self.device)?;
        let optimizer = Optimizer::new(self.train.config.rule(), tensors.trained(), steps)?;
        let Some((bytes, position)) = resumed else {
            transfer::start(&self.train.config, &self.train.form, &tensors, tables, sink)?;
            let (whole, recent) = (Mean::new(), Mean::new());
            return Ok(State { tensors, optimizer, epoch: 0, step: 0, last: None, whole, recent });
        };
        checkpoint::fill(&bytes, &tensors, &optimizer)
            .map_err(|error| RunError::Engine(format!("the checkpoint is not of this network: {error}")))?;
        let Position { epoch, step, last, whole, recent } = position;
        sink.say(&format!("resumed at epoch {}, step {step}", epoch + 1));
        Ok(State { tensors, optimizer, epoch, step, last, whole: whole.into(), recent: recent.into() })
    }

    /// The rest of an epoch.
    fn epoch(&self, state: &mut State, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Train { config, layout, form, .. } = &self.train;
        let per_epoch = (tables.rows(EXAMPLES)? / config.batch).max(1);
        let (rates, total) = (config.rates(per_epoch), config.epochs * per_epoch);
        let interval = Duration::try_from_secs_f64(config.checkpoint_minutes * 60.0).unwrap_or(Duration::MAX);
        let epoch = state.epoch;
        let scan = tables.scan(
            EXAMPLES,
            Order::Shuffled { epoch: epoch as u64, after: state.last.as_deref(), classes: self.train.balanced() },
        )?;
        let steps = Steps::new(scan, layout, config.batch);
        let steps = if state.last.is_some() { steps.behind() } else { steps };
        let mut kept = Instant::now();
        // Of an epoch that was not interrupted: whether some example shows a class, and some does not.
        let (whole, mut shown, mut absent) = (state.last.is_none(), false, false);
        for examples in steps {
            let examples = examples?;
            shown |= examples.classes.contains(&1);
            absent |= examples.classes.contains(&-1);
            if sink.cancelled() {
                state.keep(sink)?;
                return Err(RunError::Cancelled);
            }
            let rate = rates.at(state.step);
            let outcome = {
                let _generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
                tch::manual_seed(Draw::new(self.seed, "train", "step", "", state.step as u64).bits() as i64);
                let reduced = config.precision.reduced(self.device).map(|kind| state.tensors.cast(kind)).transpose()?;
                let tensors = reduced.as_ref().unwrap_or(&state.tensors);
                let pass = Pass { form, tensors, layout, smoothing: config.label_smoothing, device: self.device };
                pass.forward(&examples, Mode::Train)?
            };
            let (loss, right) = outcome.numbers()?;
            if !loss.is_finite() {
                return Err(diverged(loss, epoch, state.step, rate));
            }
            state.optimizer.step(&outcome.loss, outcome.tape, rate)?;
            state.whole.add(loss, examples.count, right, outcome.answers);
            state.recent.add(loss, examples.count, right, outcome.answers);
            state.step += 1;
            state.last = Some(examples.last);
            let step = state.step;
            if step.is_multiple_of(config.metrics_every) {
                state.recent.report(sink, epoch, step, ["loss", "accuracy"]);
                sink.metric(epoch, step, "learning_rate", rate);
                sink.metric(epoch, step, "images_per_second", state.recent.rate());
                state.recent = Mean::new();
            }
            let (loss, accuracy) = state.whole.values();
            let note = format!(
                "epoch {}/{}, loss {loss:.3}, {:.1} % right, {:.0} images/s",
                epoch + 1,
                config.epochs,
                accuracy * 100.0,
                state.whole.rate()
            );
            sink.progress(step.min(total), total, &note);
            if kept.elapsed() >= interval {
                state.keep(sink)?;
                kept = Instant::now();
            }
        }
        if state.whole.is_empty() {
            return Err(RunError::Input("there are too few examples to learn from: at least 2 are needed".to_owned()));
        }
        if whole && matches!(layout.content, Content::Presence { .. }) && !(shown && absent) {
            let message = "no image of `examples` shows a class, or none is without one: a column of a class has 1 and -1, and 0 does not count";
            return Err(RunError::Input(message.to_owned()));
        }
        let unseen = if tables.schema(VALIDATION).is_some() { self.validate(state, tables, sink)? } else { Vec::new() };
        state.whole.report(sink, epoch, state.step, ["epoch_loss", "epoch_accuracy"]);
        unseen.iter().for_each(|(name, value)| sink.metric(epoch, state.step, name, *value));
        let due = (epoch + 1).is_multiple_of(config.probe_every) || epoch + 1 == config.epochs;
        if let Some(probe) = self.train.probe.as_ref().filter(|_| due) {
            sink.metric(epoch, state.step, "knn_accuracy", probe.accuracy(tables, &state.tensors, self.device)?);
        }
        state.epoch += 1;
        state.last = None;
        state.whole = Mean::new();
        Ok(())
    }

    /// What the validation set, as epoch 0 has it, says of the weights.
    fn validate(&self, state: &State, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<Vec<(String, f64)>, RunError> {
        let Train { config, layout, form, .. } = &self.train;
        let pass = Pass { form, tensors: &state.tensors, layout, smoothing: 0.0, device: self.device };
        let (mut mean, mut scores, mut shown) = (Mean::new(), Vec::new(), Vec::new());
        let (mut among, mut images) = (0.0, 0);
        let names_one = matches!(layout.content, Content::Images { .. }) && layout.classes > 5;
        let scan = tables.scan(VALIDATION, Order::Shuffled { epoch: 0, after: None, classes: None })?;
        for examples in Steps::new(scan, layout, config.batch).all() {
            let examples = examples?;
            if sink.cancelled() {
                state.keep(sink)?;
                return Err(RunError::Cancelled);
            }
            let outcome = tch::no_grad(|| pass.forward(&examples, Mode::Evaluate))?;
            let (loss, right) = outcome.numbers()?;
            mean.add(loss, examples.count, right, outcome.answers);
            images += examples.count;
            if names_one {
                let classes: Vec<i32> = examples.classes.iter().map(|&class| class as i32).collect();
                let [_, top5] = score::top(&outcome.scores.f_to_device(tch::Device::Cpu)?, &classes)?;
                among += top5.value * examples.count as f64;
            }
            if let Content::Presence { targets } = &layout.content {
                scores.extend(Vec::<f32>::try_from(&outcome.scores.f_contiguous()?.f_view([-1])?)?);
                let presence = examples.classes.chunks(targets.len());
                shown.extend(presence.map(|row| row.iter().map(|&shown| shown as i32).collect::<Vec<_>>()));
            }
        }
        if mean.is_empty() {
            return Err(RunError::Input("there is no example to validate with".to_owned()));
        }
        let (loss, accuracy) = mean.values();
        let mut found = vec![("validation_loss".to_owned(), loss), ("validation_accuracy".to_owned(), accuracy)];
        if names_one {
            found.push(("validation_top5".to_owned(), among / images as f64));
        }
        if let Content::Presence { targets } = &layout.content {
            let precisions = score::precisions(&scores, &shown, targets);
            if precisions.iter().all(|score| score.class.is_none()) {
                let message = "no class has images of `validation` that show it and others that do not";
                return Err(RunError::Input(format!("{message}: what is not known (0, or null) cannot be measured")));
            }
            if let Some(line) = score::unmeasured(&precisions, targets).filter(|_| state.epoch == 0) {
                sink.say(&format!("{VALIDATION}: {line}"));
            }
            found.extend(precisions.into_iter().map(|Score { metric, class, value, .. }| {
                let of = class.map_or(String::new(), |class| format!("_{class}"));
                (format!("validation_{metric}{of}"), value)
            }));
        }
        Ok(found)
    }
}

impl State {
    /// Writes a checkpoint.
    fn keep(&self, sink: &mut dyn Sink) -> Result<(), RunError> {
        let (whole, recent) = (self.whole.sums(), self.recent.sums());
        let position = Position { epoch: self.epoch, step: self.step, last: self.last.clone(), whole, recent };
        sink.checkpoint(checkpoint::write(&position, &self.tensors, &self.optimizer)?)
    }
}

/// What goes from examples to a loss.
pub(super) struct Pass<'a> {
    pub form: &'a Form,
    pub tensors: &'a Tensors,
    pub layout: &'a Layout,
    pub smoothing: f64,
    pub device: tch::Device,
}

/// What one step's examples gave.
pub(super) struct Outcome {
    /// The mean over examples, a scalar.
    pub loss: Tensor,
    /// How many answers were right, a scalar.
    right: Tensor,
    /// How many there were: one an example, or, of several classes, one for each that is known.
    answers: usize,
    /// `N x classes`, without their history.
    scores: Tensor,
    /// The way back from the loss.
    pub tape: Tape,
}

impl Outcome {
    /// The loss, and how many answers were right.
    pub(super) fn numbers(&self) -> Result<(f64, usize), RunError> {
        Ok((self.loss.f_double_value(&[])?, self.right.f_int64_value(&[])? as usize))
    }
}

impl Pass<'_> {
    /// Loss and right answers of one step.
    pub(super) fn forward(&self, examples: &Examples, mode: Mode) -> Result<Outcome, RunError> {
        let Self { form, tensors, layout, smoothing, device } = *self;
        let pieces = normalised(&examples.bytes, layout.side, layout.normalisation, device)?;
        // In the precision of the kernels that it meets first.
        let kind = tensors.named().find(|(_, tensor)| tensor.dim() > 1).map_or(Kind::Float, |(_, tensor)| tensor.kind());
        let classes = Tensor::f_from_slice(&examples.classes)?.f_to_device(device)?;
        let mut tape = Tape::default();
        let scores = forward::scores(form, tensors, pieces.f_to_kind(kind)?, mode, &mut tape)?.f_to_kind(Kind::Float)?;
        let (loss, right, answers) = match layout.content {
            Content::Presence { .. } => {
                let presence = classes.f_to_kind(Kind::Float)?.f_view_as(&scores)?;
                let right = scores.f_mul(&presence)?.f_gt(0.0)?;
                let known = examples.classes.iter().filter(|&&class| class != 0).count();
                (forward::presence_loss(&scores, &presence)?, right, known)
            }
            Content::Puzzles { .. } | Content::Images { .. } => {
                let right = scores.f_argmax(-1, false)?.f_eq_tensor(&classes)?;
                (forward::loss(&scores, &classes, smoothing)?, right, examples.count)
            }
        };
        Ok(Outcome { loss, right: right.f_sum(Kind::Int64)?, answers, scores: scores.f_detach()?, tape })
    }
}

/// What helps against numbers that are none.
const ADVICE: &str = "try a `learning_rate` of a tenth, a `warmup` of an epoch, `clip = 1.0`, or a larger `batch`";

fn diverged(loss: f64, epoch: usize, step: usize, rate: f64) -> RunError {
    RunError::Input(format!(
        "the loss is {loss} in epoch {}, step {}, with a learning rate of {rate:.3e}: {ADVICE}",
        epoch + 1,
        step + 1
    ))
}
