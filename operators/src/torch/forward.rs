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
        value = match &step.layer {
            &Layer::Convolution { stride, padding, groups, bias, .. } => {
                let bias = bias.then(|| tensor("bias")).transpose()?;
                let (stride, padding) = ([stride as i64; 2], [padding as i64; 2]);
                value.f_conv2d(tensor("weight")?, bias, stride, padding, [1, 1], groups as i64)?
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
            &Layer::LocalResponse { size, alpha, beta } => local_response(&value, size, alpha, beta)?,
            &Layer::MaxPool { kernel, stride, padding, ceil } => {
                let (kernel, stride, padding) = ([kernel as i64; 2], [stride as i64; 2], [padding as i64; 2]);
                value.f_max_pool2d(kernel, stride, padding, [1, 1], ceil)?
            }
            &Layer::AveragePool { side } => value.f_adaptive_avg_pool2d([side as i64; 2])?,
            Layer::Flatten => value.f_flatten(1, -1)?,
            &Layer::Dropout(probability) => value.f_dropout(probability, train)?,
            Layer::Linear { .. } => value.f_linear(tensor("weight")?, Some(tensor("bias")?))?,
            Layer::Residual { steps, shortcut } => {
                let mut none = |_: &str, _: &Tensor| Ok(());
                let mut sum = run(steps, tensors, value.shallow_clone(), mode, &mut none)?;
                sum.f_add_(&run(shortcut, tensors, value, mode, &mut none)?)?
            }
        };
        if let Some(name) = step.name {
            visit(name, &value)?;
        }
    }
    Ok(value)
}

/// Local response normalisation of `N x C x H x W`: see [`Layer::LocalResponse`].
///
/// The sums over channels are a product with a matrix that has ones about its diagonal: libtorch's own (an average pooling in three
/// dimensions) takes longer than the convolutions.
fn local_response(maps: &Tensor, size: usize, alpha: f64, beta: f64) -> Result<Tensor, TchError> {
    let channels = maps.f_permute([0, 2, 3, 1])?;
    let count = channels.size()[3];
    let window = Tensor::f_ones([count, count], (channels.kind(), channels.device()))?;
    let half = size as i64 / 2;
    let window = window.f_triu(-half)?.f_tril(size as i64 - 1 - half)?.f_mul_scalar(alpha / size as f64)?;
    let ones = Tensor::f_ones([count], (channels.kind(), channels.device()))?;
    let scale = channels.f_square()?.f_linear(&window, Some(&ones))?.f_pow_tensor_scalar(-beta)?;
    channels.f_mul(&scale)?.f_permute([0, 3, 1, 2])
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

/// The mean cross-entropy of scores `N x classes` for the right classes, `N` of i64.
///
/// # Errors
/// libtorch refuses: a class is out of range.
pub fn loss(scores: &Tensor, classes: &Tensor) -> Result<Tensor, TchError> {
    scores.f_cross_entropy_loss(classes, None::<Tensor>, Reduction::Mean, -100, 0.0)
}
