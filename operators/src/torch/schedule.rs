//! How a learning rate runs over the steps.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a warm-up starts, as a share of the learning rate that it leads to: torchvision's recipes' value.
const WARMUP_FROM: f64 = 0.01;

/// The course of the learning rate behind the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Down to zero along half a cosine (Loshchilov and Hutter, 2017, <https://arxiv.org/abs/1608.03983>, without restarts).
    #[default]
    Cosine,
    /// The rate stays as it starts.
    Constant,
    /// The rate is multiplied by `step_factor` after every `step_every` epochs.
    Step,
}

/// A learning rate for each step.
///
/// PyTorch has the same as `SequentialLR([LinearLR(0.01, total_iters=warmup), …], [warmup])` of `CosineAnnealingLR(steps - warmup)`,
/// `ConstantLR(1)` or `StepLR(every, factor)`, stepped after each batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The course behind the warm-up.
    pub shape: Shape,
    /// The learning rate that a warm-up leads to and the course starts with.
    pub rate: f64,
    /// Steps in all.
    pub steps: usize,
    /// Steps over which the rate grows linearly, from a hundredth.
    pub warmup: usize,
    /// Of [`Shape::Step`]: steps, not counting the warm-up, between two changes.
    pub every: usize,
    /// Of [`Shape::Step`]: what the rate is multiplied with.
    pub factor: f64,
}

impl Schedule {
    /// The learning rate of a step, counted from 0; or between two of them.
    pub fn at(&self, step: f64) -> f64 {
        let behind = step - self.warmup as f64;
        if behind < 0.0 {
            return self.rate * (WARMUP_FROM + (1.0 - WARMUP_FROM) * step / self.warmup as f64);
        }
        match self.shape {
            Shape::Cosine => {
                let done = behind / self.steps.saturating_sub(self.warmup).max(1) as f64;
                self.rate * 0.5 * (1.0 + (PI * done.min(1.0)).cos())
            }
            Shape::Constant => self.rate,
            Shape::Step => self.rate * self.factor.powi((behind / self.every.max(1) as f64).floor() as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Schedule = Schedule { shape: Shape::Cosine, rate: 0.4, steps: 12, warmup: 0, every: 4, factor: 0.1 };

    fn rates<const N: usize>(schedule: Schedule, steps: [u32; N], expected: [f64; N]) {
        for (step, expected) in steps.into_iter().zip(expected) {
            let found = schedule.at(step.into());
            assert!((found - expected).abs() < 1e-12, "{schedule:?} at {step}: {found}, not {expected}");
        }
    }

    #[test]
    fn without_a_warmup() {
        rates(Schedule { shape: Shape::Constant, ..BASE }, [0, 6, 12], [0.4; 3]);
        rates(Schedule { shape: Shape::Step, ..BASE }, [0, 3, 4, 7, 8, 11], [0.4, 0.4, 0.04, 0.04, 0.004, 0.004]);
        rates(BASE, [0, 6, 12, 13], [0.4, 0.2, 0.0, 0.0]);
        assert!((0..12).map(|step| BASE.at(step.into())).is_sorted_by(|a, b| a > b));
        assert!((BASE.at(8.4) - 0.4 * 0.5 * (1.0 + (PI * 0.7).cos())).abs() < 1e-12, "between two steps");
    }

    /// PyTorch's schedulers as [`Schedule`] names them, with `lr=0.4`, 12 steps and a warm-up of 4, `every=3`, `factor=0.5`:
    /// `optimizer.param_groups[0]["lr"]` before each step (`tests/peers/golden/optimizers.py`).
    #[test]
    fn rates_are_pytorchs() {
        let all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        let warm = Schedule { warmup: 4, ..BASE };
        rates(warm, all, GOLDEN_COSINE);
        rates(Schedule { shape: Shape::Step, every: 3, factor: 0.5, ..warm }, all, GOLDEN_STEP);
    }

    #[rustfmt::skip]
    const GOLDEN_COSINE: [f64; 12] = [
        0.004, 0.103, 0.202, 0.301, 0.4, 0.38477590650225735, 0.3414213562373095, 0.276536686473018, 0.2,
        0.12346331352698206, 0.05857864376269051, 0.015224093497742654,
    ];
    const GOLDEN_STEP: [f64; 12] = [0.004, 0.103, 0.202, 0.301, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1];
}
