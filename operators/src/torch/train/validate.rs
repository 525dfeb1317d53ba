//! Measures the weights by examples that are not learnt from.

use std::time::Duration;

use super::chance::{Chance, Tally};
use super::mean::Mean;
use super::pass::Pass;
use super::run::Training;
use super::state::State;
use super::{Train, VALIDATION};
use crate::operator::{Order, RunError, Sink, Tables};
use crate::torch::examples::{Content, Steps};
use crate::torch::forward::Mode;
use crate::torch::score::{self, Score};

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

impl Training {
    /// What the validation set, as epoch 0 has it, says of the weights; none without such a set. Computes in the precision of training.
    ///
    /// # Errors
    /// The set cannot be read or has nothing to measure, or the run was interrupted: then its state is kept.
    pub(super) fn validate(
        &self,
        state: &mut State,
        tables: &dyn Tables,
        sink: &mut dyn Sink,
    ) -> Result<Option<Unseen>, RunError> {
        if tables.schema(VALIDATION).is_none() {
            return Ok(None);
        }
        let Train { config, layout, form, precision, .. } = &self.train;
        let reduced = precision.reduced().map(|kind| tch::no_grad(|| state.tensors.cast(kind))).transpose()?;
        let (mut mean, mut tally, mut scores, mut shown) = (Mean::new(), Tally::default(), Vec::new(), Vec::new());
        let mut among = 0.0;
        let names_one = matches!(layout.content, Content::Images { .. }) && layout.classes > 5;
        let scan = tables.scan(VALIDATION, Order::Shuffled { epoch: 0, after: None, classes: None })?;
        for examples in Steps::new(scan, layout, config.batch).all() {
            let examples = examples?;
            if sink.cancelled() {
                return Err(state.interrupted(sink));
            }
            state.keep_if_older(self.interval(), sink)?;
            let tensors = reduced.as_ref().unwrap_or(&state.tensors);
            let pass = Pass { form, tensors, layout, smoothing: 0.0, device: self.device };
            let outcome = tch::no_grad(|| pass.forward(&examples, Mode::Evaluate))?;
            let (loss, right) = outcome.numbers()?;
            mean.add(loss, examples.count, right, outcome.answers, Duration::ZERO);
            tally.add(&layout.content, &examples.classes);
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
        if mean.steps() == 0 {
            return Err(RunError::Input("there is no example to validate with".to_owned()));
        }
        let (loss, accuracy) = mean.values();
        let mut values = vec![("validation_loss".to_owned(), loss), ("validation_accuracy".to_owned(), accuracy)];
        if names_one {
            values.push(("validation_top5".to_owned(), among / mean.images() as f64));
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
            values.extend(precisions.into_iter().map(|Score { metric, class, value, .. }| {
                let of = class.map_or(String::new(), |class| format!("_{class}"));
                (format!("validation_{metric}{of}"), value)
            }));
        }
        let chance = tally.chance(&layout.content, layout.classes, 0.0, mean.images());
        Ok(Some(Unseen { values, loss, accuracy, chance }))
    }
}
