//! Means over some steps.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::operator::Sink;

/// Sums over some steps, as far as they have come.
#[derive(Debug, Clone)]
pub struct Mean {
    /// What the steps took, with the reading of their examples; what is done between steps does not count.
    took: Duration,
    steps: usize,
    images: usize,
    loss: f64,
    right: usize,
    answers: usize,
}

/// A [`Mean`] in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    nanos: u64,
    steps: usize,
    images: usize,
    /// Bits of the sum of images' losses: no number changes on the way through text.
    loss: u64,
    right: usize,
    answers: usize,
}

impl Mean {
    /// Means of no step yet.
    pub fn new() -> Self {
        Self { took: Duration::ZERO, steps: 0, images: 0, loss: 0.0, right: 0, answers: 0 }
    }

    /// Adds a step's mean loss over its images, how many of its answers were right, and how long it took.
    pub fn add(&mut self, loss: f64, images: usize, right: usize, answers: usize, took: Duration) {
        self.took += took;
        self.steps += 1;
        self.images += images;
        self.loss += loss * images as f64;
        self.right += right;
        self.answers += answers;
    }

    /// How many steps there were.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// How many images they had.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Mean loss of an image, and share of answers that were right.
    pub fn values(&self) -> (f64, f64) {
        (self.loss / self.images as f64, self.right as f64 / self.answers.max(1) as f64)
    }

    /// Images a second.
    pub fn rate(&self) -> f64 {
        self.images as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Records both values under those names.
    pub fn report(&self, sink: &mut dyn Sink, epoch: usize, step: usize, names: [&str; 2]) {
        let (loss, accuracy) = self.values();
        sink.metric(epoch, step, names[0], loss);
        sink.metric(epoch, step, names[1], accuracy);
    }

    /// What a checkpoint keeps.
    pub fn sums(&self) -> Sums {
        Sums {
            nanos: self.took.as_nanos() as u64,
            steps: self.steps,
            images: self.images,
            loss: self.loss.to_bits(),
            right: self.right,
            answers: self.answers,
        }
    }
}

impl From<Sums> for Mean {
    fn from(sums: Sums) -> Self {
        Self {
            took: Duration::from_nanos(sums.nanos),
            steps: sums.steps,
            images: sums.images,
            loss: f64::from_bits(sums.loss),
            right: sums.right,
            answers: sums.answers,
        }
    }
}
