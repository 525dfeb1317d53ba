//! A step's examples to scores, a loss, and how many answers were right.

use tch::{Kind, Tensor};

use crate::operator::RunError;
use crate::torch::examples::{Content, Examples, Layout};
use crate::torch::forward::{self, Mode, Tape};
use crate::torch::input::normalised;
use crate::torch::network::Form;
use crate::torch::tensors::Tensors;

/// The pass from examples to a loss.
pub struct Pass<'a> {
    pub form: &'a Form,
    pub tensors: &'a Tensors,
    pub layout: &'a Layout,
    pub smoothing: f64,
    pub device: tch::Device,
}

/// The outcome of one step's examples.
pub struct Outcome {
    /// The mean over examples, a scalar.
    pub loss: Tensor,
    /// How many answers were right, a scalar.
    right: Tensor,
    /// How many there were: one an example, or, of several classes, one for each that is known.
    pub answers: usize,
    /// `N x classes`, without their history.
    pub scores: Tensor,
    /// The way back from the loss.
    pub tape: Tape,
}

impl Outcome {
    /// The loss, and how many answers were right.
    pub fn numbers(&self) -> Result<(f64, usize), RunError> {
        Ok((self.loss.f_double_value(&[])?, self.right.f_int64_value(&[])? as usize))
    }
}

impl Pass<'_> {
    /// Loss and right answers of one step.
    pub fn forward(&self, examples: &Examples, mode: Mode) -> Result<Outcome, RunError> {
        let Self { form, tensors, layout, smoothing, device } = *self;
        let pieces = normalised(&examples.bytes, layout.side, layout.normalisation, device)?;
        // In the precision of the kernels that it meets first.
        let kind = tensors.named().find(|(_, tensor)| tensor.dim() > 1).map_or(Kind::Float, |(_, tensor)| tensor.kind());
        let classes = Tensor::f_from_slice(&examples.classes)?.f_to_device(device)?;
        let mut tape = Tape::default();
        let scores = forward::scores(form, tensors, pieces.f_to_kind(kind)?, mode, &mut tape)?.f_to_kind(Kind::Float)?;
        let (loss, right, answers) = match layout.content {
            Content::Presence { .. } => {
                let presence = classes.f_to_kind(Kind::Float)?.f_view_as(&scores)?;
                let right = scores.f_mul(&presence)?.f_gt(0.0)?;
                let known = examples.classes.iter().filter(|&&class| class != 0).count();
                (forward::presence_loss(&scores, &presence)?, right, known)
            }
            Content::Puzzles { .. } | Content::Images { .. } => {
                let right = scores.f_argmax(-1, false)?.f_eq_tensor(&classes)?;
                (forward::loss(&scores, &classes, smoothing)?, right, examples.count)
            }
        };
        Ok(Outcome { loss, right: right.f_sum(Kind::Int64)?, answers, scores: scores.f_detach()?, tape })
    }
}
