//! When a run's state is kept: every so many minutes, and where the run is interrupted.

use std::time::{Duration, Instant};

use super::checkpoint::{self, Position};
use super::state::State;
use crate::operator::{RunError, Sink};

/// Keeps the state of a run.
pub(super) struct Keeper {
    /// The time between two checkpoints.
    every: Duration,
    /// When the last one was written, or else when the run began: not when the epoch did, for many epochs may be shorter than the time
    /// between two checkpoints.
    kept: Instant,
}

impl Keeper {
    /// Of a run that begins now; with 0 minutes, the state is kept after each step.
    pub fn new(minutes: f64) -> Self {
        let every = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX);
        Self { every, kept: Instant::now() }
    }

    /// Writes a checkpoint, if the last one is old enough.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn keep_if_due(&mut self, state: &State, sink: &mut dyn Sink) -> Result<(), RunError> {
        if self.kept.elapsed() >= self.every { self.keep(state, sink) } else { Ok(()) }
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// It cannot be written, or the state has values that are no numbers: it is not kept, and the run is at its end.
    pub fn keep(&mut self, state: &State, sink: &mut dyn Sink) -> Result<(), RunError> {
        state.check()?;
        let position = Position {
            epoch: state.epoch,
            step: state.step,
            last: state.last.clone(),
            first: state.first,
            whole: state.whole.sums(),
            tally: state.tally.clone(),
            recent: state.recent.sums(),
        };
        sink.checkpoint(checkpoint::write(&position, &state.tensors, &state.optimizer)?)?;
        self.kept = Instant::now();
        Ok(())
    }
}
