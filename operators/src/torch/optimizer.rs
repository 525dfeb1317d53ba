//! Steps down a gradient: SGD with momentum, and AdamW.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

use super::forward::Tape;

/// Added to a gradient's norm before something is divided by it (PyTorch's `clip_grad_norm_`).
const CLIP_EPSILON: f64 = 1e-6;
/// Added to the root of AdamW's second moment (PyTorch's default).
const ADAMW_EPSILON: f64 = 1e-8;
/// Shares of AdamW's moments that go on (PyTorch's defaults).
const BETAS: [f64; 2] = [0.9, 0.999];

/// The optimizers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// `v = momentum · v + gradient + decay · w`, `w = w - rate · v`.
    #[default]
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019, <https://arxiv.org/abs/1711.05101>).
    Adamw,
}

/// What an optimizer does, step by step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The method.
    pub method: Method,
    /// Of SGD: the share of the last update that goes on.
    pub momentum: f64,
    /// The pull of weights towards zero.
    pub decay: f64,
    /// The norm over all gradients that a step's are scaled down to, if theirs is larger.
    pub clip: Option<f64>,
}

/// An optimizer as PyTorch defines it, and what it remembers of earlier steps.
///
/// Biases and batch normalisation's scales and shifts are not decayed (as in the context-free network's solver, and most recipes of
/// AdamW; PyTorch and torchvision's recipes decay them unless told otherwise): they have one dimension, and pulling them to zero
/// does not make a network simpler.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    parameters: Vec<Tensor>,
    /// One list of tensors like the parameters each: the velocity, or the two moments.
    memory: Vec<Vec<Tensor>>,
    steps: usize,
}

impl Optimizer {
    /// For those parameters, all of which need gradients; it did `steps` steps before.
    ///
    /// # Errors
    /// libtorch refuses: memory is short.
    pub fn new(rule: Rule, parameters: Vec<Tensor>, steps: usize) -> Result<Self, TchError> {
        let kinds = match rule.method {
            Method::Sgd => 1,
            Method::Adamw => 2,
        };
        let zeros = || parameters.iter().map(|parameter| parameter.f_detach()?.f_zeros_like()).collect::<Result<_, _>>();
        let memory = (0..kinds).map(|_| zeros()).collect::<Result<_, _>>()?;
        Ok(Self { rule, parameters, memory, steps })
    }

    /// The optimizer's memory: kind by kind, each in the order of the parameters. An optimizer whose memory is filled in goes on from
    /// there.
    pub fn memory(&self) -> impl Iterator<Item = &[Tensor]> {
        self.memory.iter().map(Vec::as_slice)
    }

    /// One step down the loss's gradient.
    ///
    /// # Errors
    /// libtorch refuses: the loss does not depend on all parameters, or memory is short.
    pub fn step(&mut self, loss: &Tensor, tape: Tape, rate: f64) -> Result<(), TchError> {
        let mut gradients = tape.gradients(loss, &self.parameters)?;
        let _guard = tch::no_grad_guard();
        if let Some(most) = self.rule.clip {
            clip(&mut gradients, most)?;
        }
        self.steps += 1;
        match self.rule.method {
            Method::Sgd => self.sgd(gradients, rate),
            Method::Adamw => self.adamw(&gradients, rate),
        }
    }

    fn sgd(&mut self, gradients: Vec<Tensor>, rate: f64) -> Result<(), TchError> {
        let Rule { decay, momentum, .. } = self.rule;
        let (decayed, back) = (self.scalar(decay)?, self.scalar(-rate)?);
        let [velocities] = self.memory.as_mut_slice() else { unreachable!("SGD remembers velocities") };
        for ((parameter, velocity), mut gradient) in self.parameters.iter_mut().zip(velocities).zip(gradients) {
            if parameter.dim() > 1 && decay != 0.0 {
                gradient = gradient.f_addcmul_(parameter, &decayed)?;
            }
            // One pass over memory each, without a temporary.
            let _ = velocity.f_mul_scalar_(momentum)?.f_add_(&gradient)?;
            let _ = parameter.f_addcmul_(velocity, &back)?;
        }
        Ok(())
    }

    fn adamw(&mut self, gradients: &[Tensor], rate: f64) -> Result<(), TchError> {
        let [first_share, second_share] = BETAS;
        let [first_bias, second_bias] = BETAS.map(|beta| 1.0 - beta.powi(self.steps as i32));
        let (new, back) = (self.scalar(1.0 - second_share)?, self.scalar(-rate / first_bias)?);
        let [firsts, seconds] = self.memory.as_mut_slice() else { unreachable!("AdamW remembers two moments") };
        for (((parameter, first), second), gradient) in self.parameters.iter_mut().zip(firsts).zip(seconds).zip(gradients) {
            if parameter.dim() > 1 && self.rule.decay != 0.0 {
                let _ = parameter.f_mul_scalar_(1.0 - rate * self.rule.decay)?;
            }
            let _ = first.f_lerp_(gradient, 1.0 - first_share)?;
            let _ = second.f_mul_scalar_(second_share)?.f_addcmul_(&gradient.f_mul(gradient)?, &new)?;
            let mut root = second.f_sqrt()?;
            let root = root.f_div_scalar_(second_bias.sqrt())?.f_add_scalar_(ADAMW_EPSILON)?;
            let _ = parameter.f_addcmul_(&first.f_div(&root)?, &back)?;
        }
        Ok(())
    }

    /// A number as a tensor beside the parameters: libtorch's fused operations take their factor so.
    fn scalar(&self, value: f64) -> Result<Tensor, TchError> {
        let device = self.parameters.first().map_or(tch::Device::Cpu, Tensor::device);
        Tensor::f_from_slice(&[value as f32])?.f_to_device(device)
    }
}

/// Scales gradients down so that the norm over all of them is at most `most`; tells the norm that it was.
fn clip(gradients: &mut [Tensor], most: f64) -> Result<f64, TchError> {
    let norms = gradients.iter().map(Tensor::f_norm).collect::<Result<Vec<_>, _>>()?;
    let norm = match norms.is_empty() {
        true => 0.0,
        false => Tensor::f_stack(&norms, 0)?.f_to_kind(Kind::Double)?.f_norm()?.f_double_value(&[])?,
    };
    let factor = most / (norm + CLIP_EPSILON);
    if factor < 1.0 {
        for gradient in gradients {
            let _ = gradient.f_mul_scalar_(factor)?;
        }
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SGD: Rule = Rule { method: Method::Sgd, momentum: 0.9, decay: 0.01, clip: None };

    fn tensor(values: &[f32], shape: &[i64]) -> Tensor {
        Tensor::from_slice(values).view(shape)
    }

    fn close(found: &Tensor, expected: &[f64]) {
        let found = Vec::<f32>::try_from(&found.detach().view(-1)).unwrap();
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{found:?}, not {expected:?}");
    }

    /// Weights, a bias and inputs of a linear layer of two classes.
    fn problem() -> (Tensor, Tensor, Tensor, Tensor) {
        let weight = tensor(&[1.0, -2.0, 0.5, 0.25, 1.5, -0.75], &[2, 3]).set_requires_grad(true);
        let bias = tensor(&[0.3, -0.1], &[2]).set_requires_grad(true);
        let x = tensor(&[0.5, 1.0, -1.0, 2.0, 0.0, 0.25, -1.5, 0.5, 1.0], &[3, 3]);
        (weight, bias, x, Tensor::from_slice(&[0i64, 1, 1]))
    }

    /// Two steps of a rule on the problem, and the parameters behind each.
    fn two_steps(rule: Rule, rate: f64, smoothing: f64) -> [(Tensor, Tensor); 2] {
        let (weight, bias, x, classes) = problem();
        let mut optimizer = Optimizer::new(rule, vec![weight.shallow_clone(), bias.shallow_clone()], 0).unwrap();
        [0, 1].map(|_| {
            let scores = x.linear(&weight, Some(&bias));
            let loss = super::super::forward::loss(&scores, &classes, smoothing).unwrap();
            optimizer.step(&loss, Tape::default(), rate).unwrap();
            (weight.detach().copy(), bias.detach().copy())
        })
    }

    /// Two steps of `torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.01)` on `(w · x).sum()`, done by hand.
    #[test]
    fn two_steps_by_hand() {
        let weight = tensor(&[1.0, -2.0], &[1, 2]).set_requires_grad(true);
        let bias = tensor(&[3.0, 3.0], &[2]).set_requires_grad(true);
        let x = tensor(&[0.5, 1.0], &[1, 2]);
        let mut sgd = Optimizer::new(SGD, vec![weight.shallow_clone(), bias.shallow_clone()], 0).unwrap();
        for _ in 0..2 {
            sgd.step(&((&weight + &bias) * &x).sum(Kind::Float), Tape::default(), 0.1).unwrap();
        }
        // w: v1 = .5 + .01 = .51, w1 = .949; v2 = .9 · .51 + .5 + .00949 = .96849, w2 = .852151; and alike.
        close(&weight, &[0.852151, -2.284102]);
        close(&bias, &[3.0 - 0.05 - 0.095, 3.0 - 0.1 - 0.19]);
    }

    #[test]
    fn gradients_are_clipped_together() {
        let mut gradients = [tensor(&[3.0, 0.0], &[2]), tensor(&[0.0, 4.0], &[1, 2])];
        assert!((clip(&mut gradients, 10.0).unwrap() - 5.0).abs() < 1e-6);
        close(&gradients[0], &[3.0, 0.0]);
        clip(&mut gradients, 1.0).unwrap();
        close(&gradients[0], &[0.6, 0.0]);
        close(&gradients[1], &[0.0, 0.8]);
    }

    #[test]
    fn what_is_remembered_can_be_given_to_another() {
        for method in [Method::Sgd, Method::Adamw] {
            let rule = Rule { method, ..SGD };
            let whole = two_steps(rule, 0.1, 0.0);
            let (weight, bias, x, classes) = problem();
            let mut kept: Vec<Vec<Tensor>> = Vec::new();
            for steps in 0..2 {
                let parameters = vec![weight.shallow_clone(), bias.shallow_clone()];
                let mut optimizer = Optimizer::new(rule, parameters, steps).unwrap();
                for (empty, kept) in optimizer.memory().zip(&kept) {
                    for (empty, kept) in empty.iter().zip(kept) {
                        empty.shallow_clone().copy_(kept);
                    }
                }
                let loss = super::super::forward::loss(&x.linear(&weight, Some(&bias)), &classes, 0.0).unwrap();
                optimizer.step(&loss, Tape::default(), 0.1).unwrap();
                kept = optimizer.memory().map(|kind| kind.iter().map(Tensor::copy).collect()).collect();
            }
            assert!(weight.equal(&whole[1].0) && bias.equal(&whole[1].1), "{method:?}");
        }
    }

    /// PyTorch in double precision on [`problem`]: `cross_entropy` and then `clip_grad_norm_([w, b], 0.1)`,
    /// `SGD([{"params": w, "weight_decay": 0.01}, {"params": b, "weight_decay": 0}], lr=0.5, momentum=0.9)` with
    /// `label_smoothing=0.1`, and `AdamW` of the same groups with `lr=0.1`, without clipping or smoothing
    /// (`tests/peers/golden/optimizers.py`).
    #[test]
    fn steps_are_pytorchs() {
        let clipped = two_steps(Rule { clip: Some(0.1), ..SGD }, 0.5, 0.1);
        let adamw = two_steps(Rule { method: Method::Adamw, ..SGD }, 0.1, 0.0);
        for ((weight, bias), golden) in clipped.iter().chain(&adamw).zip(GOLDEN) {
            close(weight, &golden[..6]);
            close(bias, &golden[6..]);
        }
    }

    /// Weights and biases behind two steps of SGD, then of AdamW.
    const GOLDEN: [[f64; 8]; 4] = [
        [0.97640208, -1.97385902, 0.47219893, 0.26734792, 1.47635902, -0.72094893, 0.29814555, -0.09814555],
        [0.93201302, -1.9242706, 0.41930649, 0.29989323, 1.4315081, -0.66568774, 0.29466817, -0.09466817],
        [0.899, -1.898, 0.3995, 0.34975, 1.3985, -0.64925, 0.20000002, -0.00000002],
        [0.79887797, -1.79610848, 0.29914048, 0.44862328, 1.29710798, -0.54864073, 0.10662661, 0.09337339],
    ];
}
