//! Measures the weights by examples that are not learnt from.

use std::time::Duration;

use super::chance::{Chance, Tally};
use super::mean::Mean;
use super::pass::{Outcome, Pass};
use super::run::Run;
use super::{Train, VALIDATION};
use crate::operator::{Order, RunError, Sink};
use crate::torch::examples::{Content, Examples, Layout, Steps};
use crate::torch::forward::Mode;
use crate::torch::score::{self, Score};

/// Of images in more classes than that, the share whose class is among the five most likely is measured too.
const FEW_CLASSES: usize = 5;

/// The numbers that validation found.
pub(super) struct Unseen {
    /// Names and values for the table of metrics.
    pub values: Vec<(String, f64)>,
    /// The mean loss of an example.
    pub loss: f64,
    /// The share of right answers.
    pub accuracy: f64,
    /// Both by chance.
    pub chance: Chance,
}

impl Unseen {
    /// Whether the answers are no better than chance's.
    pub fn is_at_chance(&self) -> bool {
        self.chance.holds(self.loss, self.accuracy)
    }
}

impl Run<'_> {
    /// What the validation set, as epoch 0 has it, says of the weights; none without such a set. Computes in the precision of training.
    ///
    /// # Errors
    /// The set cannot be read or has nothing to measure, or the run was interrupted: then its state is kept.
    pub(super) fn validate(&mut self) -> Result<Option<Unseen>, RunError> {
        if self.tables.schema(VALIDATION).is_none() {
            return Ok(None);
        }
        let training = self.training;
        let Train { settings, layout, form, precision, .. } = &training.train;
        let reduced = precision.reduced().map(|kind| tch::no_grad(|| self.state.tensors.cast(kind))).transpose()?;
        let mut seen = Seen::of(layout);
        let scan = self.tables.scan(VALIDATION, Order::Shuffled { epoch: 0, after: None, classes: None })?;
        for examples in Steps::new(scan, layout, settings.learning.batch).all() {
            let examples = examples?;
            self.stop_if_cancelled()?;
            self.keeper.keep_if_due(&self.state, self.sink)?;
            let tensors = reduced.as_ref().unwrap_or(&self.state.tensors);
            let pass = Pass { form, tensors, layout, smoothing: 0.0, device: training.device };
            let outcome = tch::no_grad(|| pass.forward(&examples, Mode::Evaluate))?;
            seen.add(&examples, &outcome)?;
        }
        seen.finish(self.state.epoch == 0, self.sink).map(Some)
    }
}

/// What was seen of the validation set so far.
struct Seen<'a> {
    layout: &'a Layout,
    mean: Mean,
    tally: Tally,
    /// Of images in many classes: those whose class was among the five most likely.
    among: Option<f64>,
    /// Of images with a column a class: all scores, `n x classes`, and what is shown.
    scores: Vec<f32>,
    shown: Vec<Vec<i32>>,
}

impl<'a> Seen<'a> {
    fn of(layout: &'a Layout) -> Self {
        let many = matches!(layout.content, Content::Images { .. }) && layout.classes > FEW_CLASSES;
        let among = many.then_some(0.0);
        Self { layout, mean: Mean::new(), tally: Tally::default(), among, scores: Vec::new(), shown: Vec::new() }
    }

    fn add(&mut self, examples: &Examples, outcome: &Outcome) -> Result<(), RunError> {
        let (loss, right) = outcome.numbers()?;
        self.mean.add(loss, examples.count, right, outcome.answers, Duration::ZERO);
        self.tally.add(&self.layout.content, &examples.classes);
        if let Some(among) = &mut self.among {
            let classes: Vec<i32> = examples.classes.iter().map(|&class| class as i32).collect();
            let [_, top5] = score::top(&outcome.scores.f_to_device(tch::Device::Cpu)?, &classes)?;
            *among += top5.value * examples.count as f64;
        }
        if let Content::Presence { targets } = &self.layout.content {
            self.scores.extend(Vec::<f32>::try_from(&outcome.scores.f_contiguous()?.f_view([-1])?)?);
            let presence = examples.classes.chunks(targets.len());
            self.shown.extend(presence.map(|row| row.iter().map(|&shown| shown as i32).collect::<Vec<_>>()));
        }
        Ok(())
    }

    /// The numbers; with `tells`, says which classes could not be measured.
    fn finish(self, tells: bool, sink: &mut dyn Sink) -> Result<Unseen, RunError> {
        let Self { layout, mean, tally, among, scores, shown } = self;
        if mean.steps() == 0 {
            return Err(RunError::Input("there is no example to validate with".to_owned()));
        }
        let (loss, accuracy) = mean.values();
        let mut values = vec![("validation_loss".to_owned(), loss), ("validation_accuracy".to_owned(), accuracy)];
        values.extend(among.map(|among| ("validation_top5".to_owned(), among / mean.images() as f64)));
        if let Content::Presence { targets } = &layout.content {
            let precisions = score::precisions(&scores, &shown, targets);
            if precisions.iter().all(|score| score.class.is_none()) {
                let message = "no class has images of `validation` that show it and others that do not";
                return Err(RunError::Input(format!("{message}: what is not known (0, or null) cannot be measured")));
            }
            if let Some(line) = score::unmeasured(&precisions, targets).filter(|_| tells) {
                sink.say(&format!("{VALIDATION}: {line}"));
            }
            values.extend(precisions.into_iter().map(|Score { metric, class, value, .. }| {
                let of = class.map_or(String::new(), |class| format!("_{class}"));
                (format!("validation_{metric}{of}"), value)
            }));
        }
        let chance = tally.chance(&layout.content, layout.classes, 0.0, mean.images());
        Ok(Unseen { values, loss, accuracy, chance })
    }
}
