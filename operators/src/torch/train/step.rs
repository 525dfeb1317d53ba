//! One step: down the gradient of some examples.

use std::sync::{Mutex, PoisonError};

use super::Train;
use super::pass::Pass;
use super::run::Training;
use super::state::{ADVICE, State};
use crate::operator::RunError;
use crate::random::Draw;
use crate::torch::examples::Examples;
use crate::torch::forward::Mode;

/// Held from the seeding of libtorch's generator, which is the process's, until a step's last draw from it.
static GENERATOR: Mutex<()> = Mutex::new(());

/// What a step's examples gave.
pub(super) struct Answered {
    /// The mean over examples.
    pub loss: f64,
    /// Right answers.
    pub right: usize,
    /// All answers.
    pub answers: usize,
}

impl Training {
    /// Changes weights and the optimizer's memory by what the examples say of them.
    ///
    /// # Errors
    /// The loss is no number, or libtorch refuses.
    pub(super) fn step(&self, state: &mut State, examples: &Examples, rate: f64) -> Result<Answered, RunError> {
        let Train { settings, layout, form, precision, .. } = &self.train;
        let outcome = {
            let _generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
            tch::manual_seed(Draw::new(self.seed, "train", "step", "", state.step as u64).bits() as i64);
            let reduced = precision.reduced().map(|kind| state.tensors.cast(kind)).transpose()?;
            let tensors = reduced.as_ref().unwrap_or(&state.tensors);
            let pass = Pass { form, tensors, layout, smoothing: settings.learning.smoothing, device: self.device };
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
}

fn diverged(loss: f64, epoch: usize, step: usize, rate: f64) -> RunError {
    RunError::Input(format!(
        "the loss is {loss} in epoch {}, step {}, with a learning rate of {rate:.3e}: {ADVICE}",
        epoch + 1,
        step + 1
    ))
}
