//! What is measured and said behind an epoch's last step.

use super::Train;
use super::run::Run;
use super::validate::Unseen;
use crate::operator::RunError;
use crate::torch::examples::Content;

impl Run<'_> {
    /// Ends an epoch, which left so many examples that fill no step.
    ///
    /// # Errors
    /// Nothing can be learnt or measured, or the run was interrupted: then its state is kept.
    pub(super) fn end_epoch(&mut self, left: usize) -> Result<(), RunError> {
        let Train { settings, layout, .. } = &self.training.train;
        if matches!(layout.content, Content::Presence { .. }) && !self.state.tally.both() {
            let message = "no image of `examples` shows a class, or none is without one: a column of a class has 1 and -1, and 0 does not count";
            return Err(RunError::Input(message.to_owned()));
        }
        // All that takes long comes before the first number of the epoch's end: who interrupts it finds none of them twice.
        let unseen = self.validate()?;
        let known = self.probe()?;
        let (epoch, step) = (self.state.epoch, self.state.step);
        self.state.whole.report(self.sink, epoch, step, ["epoch_loss", "epoch_accuracy"]);
        if let Some(Unseen { values, .. }) = &unseen {
            values.iter().for_each(|(name, value)| self.sink.metric(epoch, step, name, *value));
        }
        known.into_iter().for_each(|accuracy| self.sink.metric(epoch, step, "knn_accuracy", accuracy));
        if epoch == 0 {
            self.say_what_is_left(left);
        }
        if epoch + 1 == settings.learning.epochs {
            self.judge(unseen.as_ref());
        }
        self.state.first.get_or_insert(self.state.whole.steps());
        self.state.turn();
        Ok(())
    }

    /// What the probe measures, if it is there and due.
    fn probe(&mut self) -> Result<Option<f64>, RunError> {
        let training = self.training;
        let Train { settings, probe, .. } = &training.train;
        let done = self.state.epoch + 1;
        let is_due = done.is_multiple_of(settings.probing.every) || done == settings.learning.epochs;
        let Some(probe) = probe.as_ref().filter(|_| is_due) else { return Ok(None) };
        let found = probe.accuracy(self.tables, &self.state.tensors, training.device, &|| self.sink.cancelled());
        match found {
            Err(RunError::Cancelled) => Err(self.interrupted()),
            found => found.map(Some),
        }
    }

    /// Says how the first epoch's examples filled its steps, unless they did exactly.
    fn say_what_is_left(&mut self, left: usize) {
        let (came, batch, rows) =
            (self.state.whole.images() + left, self.training.train.settings.learning.batch, self.pace.rows());
        if left > 0 {
            self.sink.say(&format!(
                "an epoch leaves out {left} of {came} examples, others each time: they do not fill a step (`batch` = {batch})"
            ));
        } else if came < batch && rows >= batch {
            self.sink.say(&format!("`batch` = {batch} is above the {came} of {rows} rows that came: an epoch is one step"));
        }
    }

    /// Warns of a training that has learnt nothing, or nothing that holds for others.
    fn judge(&mut self, unseen: Option<&Unseen>) {
        let Train { settings, layout, parameters, .. } = &self.training.train;
        let (state, learning) = (&self.state, &settings.learning);
        let (epoch, step) = (state.epoch, state.step);
        let (loss, accuracy) = state.whole.values();
        let chance = state.tally.chance(&layout.content, layout.classes, learning.smoothing, state.whole.images());
        if chance.holds(loss, accuracy) {
            let normed = parameters.iter().any(|parameter| parameter.name.ends_with("running_var"));
            self.sink.warn(&chance.line(&layout.content, loss, accuracy, learning.rate, normed));
            self.sink.metric(epoch, step, "at_chance", 1.0);
        } else if let Some(Unseen { loss, accuracy, chance, .. }) = unseen.filter(|unseen| unseen.is_at_chance()) {
            self.sink.warn(&chance.line_of_others(*loss, *accuracy));
            self.sink.metric(epoch, step, "validation_at_chance", 1.0);
        }
    }
}
