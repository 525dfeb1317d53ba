//! A pass through a network's steps.

use tch::{Reduction, TchError, Tensor};

use super::network::{Form, Layer, Step};
use super::tensors::Tensors;

/// How much of a batch's statistics the running ones take over (PyTorch's and torchvision's value).
const MOMENTUM: f64 = 0.1;
/// Added to variances before their root is taken (the same).
const EPSILON: f64 = 1e-5;

/// Whether a pass learns: only then does dropout drop, and batch normalisation use and follow the batch's own statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It learns.
    Train,
    /// It does not, and rows have no influence on each other.
    Evaluate,
}

/// Runs the steps on `N x C x H x W` (or `N x D`), and shows each named step's output to `visit`.
///
/// Takes its input by value and may overwrite what a step yielded once the next has it, save for what is named.
///
/// # Errors
/// A tensor is not there, or does not fit: libtorch says which.
pub fn run<'a>(
    steps: impl IntoIterator<Item = &'a Step>,
    tensors: &Tensors,
    input: Tensor,
    mode: Mode,
    visit: &mut dyn FnMut(&str, &Tensor) -> Result<(), TchError>,
) -> Result<Tensor, TchError> {
    let train = mode == Mode::Train;
    let mut value = input;
    for step in steps {
        let tensor = |end: &str| tensors.find(&format!("{}.{end}", step.tensor));
        value = match step.layer {
            Layer::Convolution { stride, padding, bias, .. } => {
                let bias = bias.then(|| tensor("bias")).transpose()?;
                let (stride, padding) = ([stride as i64; 2], [padding as i64; 2]);
                value.f_conv2d(tensor("weight")?, bias, stride, padding, [1, 1], 1)?
            }
            Layer::BatchNorm => value.f_batch_norm(
                Some(tensor("weight")?),
                Some(tensor("bias")?),
                Some(tensor("running_mean")?),
                Some(tensor("running_var")?),
                train,
                MOMENTUM,
                EPSILON,
                true,
            )?,
            Layer::Relu => value.f_relu_()?,
            Layer::MaxPool { kernel, stride } => {
                value.f_max_pool2d([kernel as i64; 2], [stride as i64; 2], [0, 0], [1, 1], false)?
            }
            Layer::AveragePool { side } => value.f_adaptive_avg_pool2d([side as i64; 2])?,
            Layer::Flatten => value.f_flatten(1, -1)?,
            Layer::Dropout(probability) => value.f_dropout(probability, train)?,
            Layer::Linear { .. } => value.f_linear(tensor("weight")?, Some(tensor("bias")?))?,
        };
        if let Some(name) = step.name {
            visit(name, &value)?;
        }
    }
    Ok(value)
}

/// The scores `N x classes` of `N · pieces x C x H x W` pieces, an example's pieces side by side.
///
/// # Errors
/// As [`run`].
pub fn scores(form: &Form, tensors: &Tensors, pieces: Tensor, mode: Mode) -> Result<Tensor, TchError> {
    let mut none = |_: &str, _: &Tensor| Ok(());
    let mut value = run(&form.shared, tensors, pieces, mode, &mut none)?;
    if form.pieces > 1 {
        let examples = value.size()[0] / form.pieces as i64;
        value = value.f_reshape([examples, -1])?;
    }
    run(&form.joint, tensors, value, mode, &mut none)
}

/// The mean cross-entropy of scores `N x classes` for the right classes, `N` of i64. Of a right class's weight, `smoothing` is spread
/// over all classes (Szegedy et al., 2016, <https://arxiv.org/abs/1512.00567>, section 7).
///
/// # Errors
/// libtorch refuses: a class is out of range.
pub fn loss(scores: &Tensor, classes: &Tensor, smoothing: f64) -> Result<Tensor, TchError> {
    scores.f_cross_entropy_loss(classes, None::<Tensor>, Reduction::Mean, -100, smoothing)
}
