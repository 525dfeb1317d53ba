//! A training run: epochs of steps, and what is measured between them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::mean::Mean;
use super::pace::{Pace, Reached};
use super::pass::Pass;
use super::state::{ADVICE, State};
use super::validate::Unseen;
use super::{EXAMPLES, Train};
use crate::operator::{Order, RunError, Sink, Tables, Whole};
use crate::random::Draw;
use crate::torch::examples::{Content, Examples, Steps};
use crate::torch::forward::Mode;
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

/// What a step's examples gave.
struct Answered {
    /// The mean over examples.
    loss: f64,
    /// Right answers.
    right: usize,
    /// All answers.
    answers: usize,
}

impl Whole for Training {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let _threads = Threads::new(self.threads)?;
        let mut state = State::start(&self, tables, sink)?;
        let rows = tables.rows(EXAMPLES)?;
        let Train { config, .. } = &self.train;
        if state.step == 0 && rows < config.batch {
            sink.say(&format!("`batch` = {} is above the {rows} rows of `{EXAMPLES}`: an epoch is one step", config.batch));
        }
        let pace = Pace::new(rows, config.batch, config.epochs);
        while state.epoch < config.epochs {
            self.epoch(&mut state, pace, tables, sink)?;
        }
        state.check()?;
        state.tensors.write(&self.train.schema)?.into_iter().try_for_each(|batch| sink.write(batch))
    }
}

impl Training {
    /// The order of an epoch's examples, from the first on or behind one.
    pub(super) fn order<'a>(&'a self, epoch: usize, after: Option<&'a str>) -> Order<'a> {
        Order::Shuffled { epoch: epoch as u64, after, classes: self.train.balanced() }
    }

    /// The rest of an epoch.
    fn epoch(&self, state: &mut State, pace: Pace, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Train { config, layout, .. } = &self.train;
        let epoch = state.epoch;
        let rates = config.rates(pace.epoch());
        let scan = tables.scan(EXAMPLES, self.order(epoch, state.last.as_deref()))?;
        let mut steps = Steps::new(scan, layout, config.batch);
        if state.last.is_some() {
            steps = steps.behind();
        }
        let mut since = Instant::now();
        for examples in steps.by_ref() {
            let examples = examples?;
            if sink.cancelled() {
                return Err(state.interrupted(sink));
            }
            let rate = rates.at(pace.at(self.reached(state, tables)?));
            let Answered { loss, right, answers } = self.step(state, &examples, rate)?;
            let took = since.elapsed();
            state.whole.add(loss, examples.count, right, answers, took);
            state.recent.add(loss, examples.count, right, answers, took);
            state.tally.add(&layout.content, &examples.classes);
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
            let total = pace.steps(self.reached(state, tables)?);
            sink.progress(step.min(total), total, &note);
            state.keep_if_older(self.interval(), sink)?;
            since = Instant::now();
        }
        if state.whole.steps() == 0 {
            return Err(RunError::Input("there are too few examples to learn from: at least 2 are needed".to_owned()));
        }
        self.end_epoch(state, (pace.rows(), steps.left()), tables, sink)
    }

    /// Down the gradient of some examples.
    fn step(&self, state: &mut State, examples: &Examples, rate: f64) -> Result<Answered, RunError> {
        let Train { config, layout, form, precision, .. } = &self.train;
        let outcome = {
            let _generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
            tch::manual_seed(Draw::new(self.seed, "train", "step", "", state.step as u64).bits() as i64);
            let reduced = precision.reduced().map(|kind| state.tensors.cast(kind)).transpose()?;
            let tensors = reduced.as_ref().unwrap_or(&state.tensors);
            let pass = Pass { form, tensors, layout, smoothing: config.label_smoothing, device: self.device };
            pass.forward(examples, Mode::Train)?
        };
        let (loss, right) = outcome.numbers()?;
        if !loss.is_finite() {
            return Err(diverged(loss, state.epoch, state.step, rate));
        }
        state.optimizer.step(&outcome.loss, outcome.tape, rate)?;
        state.step += 1;
        Ok(Answered { loss, right, answers: outcome.answers })
    }

    /// How far a run is.
    fn reached(&self, state: &State, tables: &dyn Tables) -> Result<Reached, RunError> {
        let (epoch, images) = (state.epoch, state.whole.images());
        let place = match (&state.last, state.first) {
            (Some(last), None) => tables.place(EXAMPLES, self.order(epoch, None), last)?.map_or(images, |place| place + 1),
            _ => 0,
        };
        Ok(Reached { epoch, steps: state.whole.steps(), images, first: state.first, place })
    }

    /// What is measured and said behind an epoch's last step: of so many rows, and with so many examples left that fill no step.
    fn end_epoch(
        &self,
        state: &mut State,
        (rows, left): (usize, usize),
        tables: &dyn Tables,
        sink: &mut dyn Sink,
    ) -> Result<(), RunError> {
        let Train { config, layout, .. } = &self.train;
        if matches!(layout.content, Content::Presence { .. }) && !state.tally.both() {
            let message = "no image of `examples` shows a class, or none is without one: a column of a class has 1 and -1, and 0 does not count";
            return Err(RunError::Input(message.to_owned()));
        }
        // All that takes long comes before the first number of the epoch's end: who interrupts it finds none of them twice.
        let unseen = self.validate(state, tables, sink)?;
        let (epoch, step, last) = (state.epoch, state.step, state.epoch + 1 == config.epochs);
        let due = (epoch + 1).is_multiple_of(config.probe_every) || last;
        let known = match self.train.probe.as_ref().filter(|_| due) {
            None => None,
            Some(probe) => {
                let found = probe.accuracy(tables, &state.tensors, self.device, &|| sink.cancelled());
                match found {
                    Err(RunError::Cancelled) => return Err(state.interrupted(sink)),
                    found => Some(found?),
                }
            }
        };
        state.whole.report(sink, epoch, step, ["epoch_loss", "epoch_accuracy"]);
        if let Some(Unseen { values, .. }) = &unseen {
            values.iter().for_each(|(name, value)| sink.metric(epoch, step, name, *value));
        }
        known.into_iter().for_each(|accuracy| sink.metric(epoch, step, "knn_accuracy", accuracy));
        if epoch == 0 {
            let (came, batch) = (state.whole.images() + left, config.batch);
            if left > 0 {
                sink.say(&format!(
                    "an epoch leaves out {left} of {came} examples, others each time: they do not fill a step (`batch` = {batch})"
                ));
            } else if came < batch && rows >= batch {
                sink.say(&format!("`batch` = {batch} is above the {came} of {rows} rows that came: an epoch is one step"));
            }
        }
        if last {
            self.judge(state, unseen.as_ref(), sink);
        }
        state.first.get_or_insert(state.whole.steps());
        state.turn();
        state.keep_if_older(self.interval(), sink)
    }

    /// Warns of a training that has learnt nothing, or nothing that holds for others.
    fn judge(&self, state: &State, unseen: Option<&Unseen>, sink: &mut dyn Sink) {
        let Train { config, layout, parameters, .. } = &self.train;
        let (epoch, step) = (state.epoch, state.step);
        let (loss, accuracy) = state.whole.values();
        let chance = state.tally.chance(&layout.content, layout.classes, config.label_smoothing, state.whole.images());
        if chance.holds(loss, accuracy) {
            let normed = parameters.iter().any(|parameter| parameter.name.ends_with("running_var"));
            sink.warn(&chance.line(&layout.content, loss, accuracy, config.rate(), normed));
            sink.metric(epoch, step, "at_chance", 1.0);
        } else if let Some(Unseen { loss, accuracy, chance, .. }) = unseen.filter(|unseen| unseen.is_at_chance()) {
            sink.warn(&chance.line_of_others(*loss, *accuracy));
            sink.metric(epoch, step, "validation_at_chance", 1.0);
        }
    }

    /// The time between two checkpoints.
    pub(super) fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(self.train.config.checkpoint_minutes * 60.0).unwrap_or(Duration::MAX)
    }
}

fn diverged(loss: f64, epoch: usize, step: usize, rate: f64) -> RunError {
    RunError::Input(format!(
        "the loss is {loss} in epoch {}, step {}, with a learning rate of {rate:.3e}: {ADVICE}",
        epoch + 1,
        step + 1
    ))
}
