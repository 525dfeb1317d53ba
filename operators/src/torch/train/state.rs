//! The state of a training run: where it starts or goes on, and what a step adds.

use std::time::Duration;

use super::chance::Tally;
use super::checkpoint::{self, Position};
use super::mean::Mean;
use super::run::Training;
use super::step::Answered;
use super::{EXAMPLES, transfer};
use crate::operator::{RunError, Sink, Tables};
use crate::torch::examples::{Content, Examples};
use crate::torch::optimizer::Optimizer;
use crate::torch::tensors::Tensors;

/// Advice against numbers that are not finite.
pub(super) const ADVICE: &str =
    "try a `learning_rate` of a tenth, a `warmup` of an epoch, `clip = 1.0`, or a larger `batch`";

/// The state of a training, which changes in the course of a run.
pub(super) struct State {
    pub tensors: Tensors,
    pub optimizer: Optimizer,
    /// Passes over the data that are done.
    pub epoch: usize,
    /// Steps that are done.
    pub step: usize,
    /// The last example of this epoch's last step.
    pub last: Option<String>,
    /// Steps of the first epoch, once it is done.
    pub first: Option<usize>,
    /// This epoch's steps.
    pub whole: Mean,
    /// How often each answer was right in this epoch.
    pub tally: Tally,
    /// The steps since the last row of metrics.
    pub recent: Mean,
}

impl State {
    /// The state of the last checkpoint, else that before the first step.
    ///
    /// # Errors
    /// The weights to start from do not fit, or an input cannot be read.
    pub fn start(training: &Training, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<Self, RunError> {
        if let Some(bytes) = sink.resume() {
            match Self::resumed(training, &bytes, tables)? {
                Ok(state) => {
                    // Behind the last epoch only the table is left to be written.
                    let epoch = (state.epoch + 1).min(training.train.settings.learning.epochs);
                    sink.say(&format!("resumed at epoch {epoch}, step {}", state.step));
                    return Ok(state);
                }
                Err(reason) => sink.forget(&format!("the checkpoint cannot be used ({reason}); starting over")),
            }
        }
        let state = Self::before(training, 0)?;
        transfer::start(&training.train.settings, &training.train.form, &state.tensors, tables, sink)?;
        Ok(state)
    }

    /// The state in a checkpoint, or why the checkpoint cannot be of this training.
    fn resumed(training: &Training, bytes: &[u8], tables: &dyn Tables) -> Result<Result<Self, String>, RunError> {
        let Position { epoch, step, last, first, whole, tally, recent } = match checkpoint::position(bytes) {
            Ok(position) => position,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Some(last) = &last
            && tables.place(EXAMPLES, training.order(epoch, None), last)?.is_none()
        {
            return Ok(Err(format!("there is no row of `{last}` to start behind")));
        }
        let state = Self::before(training, step)?;
        if let Err(reason) = checkpoint::fill(bytes, &state.tensors, &state.optimizer) {
            return Ok(Err(reason));
        }
        if let Some(what) = checkpoint::unsound(&state.tensors, &state.optimizer)? {
            return Ok(Err(format!("{what} has values that are no numbers")));
        }
        Ok(Ok(Self { epoch, last, first, whole: whole.into(), tally, recent: recent.into(), ..state }))
    }

    /// Initial weights, and an optimizer that made `step` steps.
    fn before(training: &Training, step: usize) -> Result<Self, RunError> {
        let Training { train, device, seed, .. } = training;
        let tensors = Tensors::initial(&train.parameters, *seed, *device)?;
        let optimizer = Optimizer::new(train.settings.learning.rule(), tensors.trained(), step)?;
        Ok(Self {
            tensors,
            optimizer,
            epoch: 0,
            step,
            last: None,
            first: None,
            whole: Mean::new(),
            tally: Tally::default(),
            recent: Mean::new(),
        })
    }

    /// Adds what a step's examples gave, and how long it took.
    pub fn add(&mut self, answered: Answered, examples: Examples, content: &Content, took: Duration) {
        let Answered { loss, right, answers } = answered;
        self.whole.add(loss, examples.count, right, answers, took);
        self.recent.add(loss, examples.count, right, answers, took);
        self.tally.add(content, &examples.classes);
        self.last = Some(examples.last);
    }

    /// Looks whether all weights, and what the optimizer remembers, are finite numbers.
    ///
    /// # Errors
    /// They are not.
    pub fn check(&self) -> Result<(), RunError> {
        match checkpoint::unsound(&self.tensors, &self.optimizer)? {
            None => Ok(()),
            Some(what) => {
                let step = self.step;
                Err(RunError::Input(format!("{what} has values that are no numbers after step {step}: {ADVICE}")))
            }
        }
    }

    /// Begins the next epoch.
    pub fn turn(&mut self) {
        self.epoch += 1;
        self.last = None;
        self.whole = Mean::new();
        self.tally = Tally::default();
    }
}
