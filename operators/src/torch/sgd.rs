//! Stochastic gradient descent with momentum, and how its learning rate runs.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::forward::Tape;

/// How the learning rate runs over all steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Down to zero along half a cosine (Loshchilov and Hutter, 2017, <https://arxiv.org/abs/1608.03983>, without restarts).
    #[default]
    Cosine,
    /// As it starts.
    Constant,
    /// A tenth after each third, as the context-free network's solver has it.
    Step,
}

impl Schedule {
    /// The learning rate of a step, of so many in all.
    pub fn rate(self, start: f64, step: usize, steps: usize) -> f64 {
        let done = (step as f64 / steps.max(1) as f64).min(1.0);
        match self {
            Self::Cosine => start * 0.5 * (1.0 + (PI * done).cos()),
            Self::Constant => start,
            Self::Step => start * 0.1f64.powi((done * 3.0).min(2.0) as i32),
        }
    }
}

/// SGD as PyTorch defines it: `v = momentum · v + gradient + decay · w`, `w = w - rate · v`.
///
/// Biases and batch normalisation's scales and shifts are not decayed (as in the context-free network's solver): they have one
/// dimension, and pulling them to zero does not make a network simpler.
#[derive(Debug)]
pub struct Sgd {
    parameters: Vec<Tensor>,
    velocities: Vec<Tensor>,
    momentum: f64,
    decay: f64,
}

impl Sgd {
    /// For those parameters, all of which need gradients.
    ///
    /// # Errors
    /// libtorch refuses: memory is short.
    pub fn new(parameters: Vec<Tensor>, momentum: f64, decay: f64) -> Result<Self, TchError> {
        let zeros = |parameter: &Tensor| parameter.f_detach()?.f_zeros_like();
        let velocities = parameters.iter().map(zeros).collect::<Result<_, _>>()?;
        Ok(Self { parameters, velocities, momentum, decay })
    }

    /// One step down the loss's gradient.
    ///
    /// # Errors
    /// libtorch refuses: the loss does not depend on all parameters, or memory is short.
    pub fn step(&mut self, loss: Tensor, tape: Tape, rate: f64) -> Result<(), TchError> {
        let gradients = tape.gradients(&loss, &self.parameters)?;
        let _guard = tch::no_grad_guard();
        let device = loss.device();
        let scalar = |value: f64| Tensor::f_from_slice(&[value as f32])?.f_to_device(device);
        let (decay, back) = (scalar(self.decay)?, scalar(-rate)?);
        for ((parameter, velocity), mut gradient) in self.parameters.iter_mut().zip(&mut self.velocities).zip(gradients) {
            if parameter.dim() > 1 && self.decay != 0.0 {
                gradient = gradient.f_addcmul_(parameter, &decay)?;
            }
            // One pass over memory each, without a temporary.
            let _ = velocity.f_mul_scalar_(self.momentum)?.f_add_(&gradient)?;
            let _ = parameter.f_addcmul_(velocity, &back)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn rates_run_as_they_should() {
        let rates = |schedule: Schedule| [0, 3, 6, 9, 11, 12].map(|step| schedule.rate(0.4, step, 12));
        let close = |found: [f64; 6], expected: [f64; 6]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close(rates(Schedule::Constant), [0.4; 6]));
        assert!(close(rates(Schedule::Step), [0.4, 0.4, 0.04, 0.004, 0.004, 0.004]), "{:?}", rates(Schedule::Step));
        let cosine = rates(Schedule::Cosine);
        assert!((cosine[0] - 0.4).abs() < 1e-12 && (cosine[2] - 0.2).abs() < 1e-12 && cosine[5].abs() < 1e-12);
        assert!(cosine.is_sorted_by(|a, b| a > b));
    }

    /// Two steps of `torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.01)` on `(w · x).sum()`, done by hand.
    #[test]
    fn two_steps_by_hand() {
        let tensor = |values: &[f32], shape: &[i64]| Tensor::from_slice(values).view(shape);
        let weight = tensor(&[1.0, -2.0], &[1, 2]).set_requires_grad(true);
        let bias = tensor(&[3.0, 3.0], &[2]).set_requires_grad(true);
        let x = tensor(&[0.5, 1.0], &[1, 2]);
        let mut sgd = Sgd::new(vec![weight.shallow_clone(), bias.shallow_clone()], 0.9, 0.01).unwrap();
        for _ in 0..2 {
            sgd.step(((&weight + &bias) * &x).sum(Kind::Float), Tape::default(), 0.1).unwrap();
        }
        // w: v1 = .5 + .01 = .51, w1 = .949; v2 = .9 · .51 + .5 + .00949 = .96849, w2 = .852151; and alike.
        let close = |found: &Tensor, expected: [f64; 2]| {
            let found = Vec::<f32>::try_from(&found.detach().view(-1).to_device(Device::Cpu)).unwrap();
            assert!(found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{found:?}");
        };
        close(&weight, [0.852151, -2.284102]);
        close(&bias, [3.0 - 0.05 - 0.095, 3.0 - 0.1 - 0.19]);
    }
}
