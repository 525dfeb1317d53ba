//! A training run: epochs of steps. What a step does is in `step`, what is measured behind an epoch in `measure`, and when the state is
//! kept in `keeper`.

use std::time::Instant;

use super::keeper::Keeper;
use super::mean::Mean;
use super::pace::{Pace, Reached};
use super::state::State;
use super::{EXAMPLES, Train};
use crate::operator::{Order, RunError, Sink, Tables, Whole};
use crate::torch::examples::Steps;
use crate::torch::threads::Threads;

/// A bound operator with what the run gives it.
pub struct Training {
    pub train: Train,
    pub device: tch::Device,
    pub seed: u64,
    pub threads: usize,
}

/// A run under way.
pub(super) struct Run<'a> {
    /// What does not change.
    pub training: &'a Training,
    pub pace: Pace,
    pub state: State,
    pub keeper: Keeper,
    pub tables: &'a dyn Tables,
    pub sink: &'a mut dyn Sink,
}

impl Whole for Training {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let _threads = Threads::new(self.threads)?;
        let Train { settings, schema, .. } = &self.train;
        let learning = &settings.learning;
        let keeper = Keeper::new(settings.records.checkpoint_minutes);
        let state = State::start(&self, tables, sink)?;
        let rows = tables.rows(EXAMPLES)?;
        if state.step == 0 && rows < learning.batch {
            let batch = learning.batch;
            sink.say(&format!("`batch` = {batch} is above the {rows} rows of `{EXAMPLES}`: an epoch is one step"));
        }
        let pace = Pace::new(rows, learning.batch, learning.epochs);
        let mut run = Run { training: &self, pace, state, keeper, tables, sink };
        while run.state.epoch < learning.epochs {
            run.epoch()?;
        }
        run.state.check()?;
        run.state.tensors.write(schema)?.into_iter().try_for_each(|batch| run.sink.write(batch))
    }
}

impl Training {
    /// The order of an epoch's examples, from the first on or behind one.
    pub(super) fn order<'a>(&'a self, epoch: usize, after: Option<&'a str>) -> Order<'a> {
        Order::Shuffled { epoch: epoch as u64, after, classes: self.train.balanced() }
    }
}

impl Run<'_> {
    /// The rest of an epoch.
    fn epoch(&mut self) -> Result<(), RunError> {
        let training = self.training;
        let Train { settings, layout, .. } = &training.train;
        let rates = settings.learning.rates(self.pace.epoch());
        let scan = self.tables.scan(EXAMPLES, training.order(self.state.epoch, self.state.last.as_deref()))?;
        let mut steps = Steps::new(scan, layout, settings.learning.batch);
        if self.state.last.is_some() {
            steps = steps.behind();
        }
        let mut since = Instant::now();
        for examples in steps.by_ref() {
            let examples = examples?;
            self.stop_if_cancelled()?;
            let rate = rates.at(self.pace.at(self.reached()?));
            let answered = training.step(&mut self.state, &examples, rate)?;
            self.state.add(answered, examples, &layout.content, since.elapsed());
            self.report(rate)?;
            self.keeper.keep_if_due(&self.state, self.sink)?;
            since = Instant::now();
        }
        if self.state.whole.steps() == 0 {
            return Err(RunError::Input("there are too few examples to learn from: at least 2 are needed".to_owned()));
        }
        self.end_epoch(steps.left())?;
        self.keeper.keep_if_due(&self.state, self.sink)
    }

    /// Ends a run that was interrupted; its state is kept.
    ///
    /// # Errors
    /// It was interrupted.
    pub(super) fn stop_if_cancelled(&mut self) -> Result<(), RunError> {
        if self.sink.cancelled() { Err(self.interrupted()) } else { Ok(()) }
    }

    /// Keeps the state of a run that was interrupted. Returns [`RunError::Cancelled`], unless the state cannot be kept.
    pub(super) fn interrupted(&mut self) -> RunError {
        self.keeper.keep(&self.state, self.sink).err().unwrap_or(RunError::Cancelled)
    }

    /// How far the run is.
    fn reached(&self) -> Result<Reached, RunError> {
        let State { epoch, whole, last, first, .. } = &self.state;
        let place = match (last, first) {
            (Some(last), None) => {
                let place = self.tables.place(EXAMPLES, self.training.order(*epoch, None), last)?;
                place.map_or(whole.images(), |place| place + 1)
            }
            _ => 0,
        };
        Ok(Reached { epoch: *epoch, steps: whole.steps(), images: whole.images(), first: *first, place })
    }

    /// Says how far it is behind a step, and records a row of metrics if one is due.
    fn report(&mut self, rate: f64) -> Result<(), RunError> {
        let settings = &self.training.train.settings;
        let (epoch, step) = (self.state.epoch, self.state.step);
        if step.is_multiple_of(settings.records.metrics_every) {
            let recent = std::mem::replace(&mut self.state.recent, Mean::new());
            recent.report(self.sink, epoch, step, ["loss", "accuracy"]);
            self.sink.metric(epoch, step, "learning_rate", rate);
            self.sink.metric(epoch, step, "images_per_second", recent.rate());
        }
        let (loss, accuracy) = self.state.whole.values();
        let note = format!(
            "epoch {}/{}, loss {loss:.3}, {:.1} % right, {:.0} images/s",
            epoch + 1,
            settings.learning.epochs,
            accuracy * 100.0,
            self.state.whole.rate()
        );
        let total = self.pace.steps(self.reached()?);
        self.sink.progress(step.min(total), total, &note);
        Ok(())
    }
}
