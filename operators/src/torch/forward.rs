//! A pass through a network's steps, and back.

use tch::{Kind, Reduction, TchError, Tensor};

use super::network::{Form, Layer, Step};
use super::response::Response;
use super::tensors::Tensors;

/// How much of a batch's statistics the running ones take over (PyTorch's and torchvision's value).
const MOMENTUM: f64 = 0.1;
/// Added to variances before their root is taken (the same).
pub const EPSILON: f64 = 1e-5;

/// Whether a pass learns: only then does dropout drop, and batch normalisation use and follow the batch's own statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The network learns.
    Train,
    /// The network does not learn, and rows have no influence on each other.
    Evaluate,
}

/// Runs the steps on `N x C x H x W` (or `N x D`), and shows each named step's output to `visit`. With gradients, the way back
/// is through `tape`.
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
    tape: &mut Tape,
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
            &Layer::LocalResponse { size, alpha, beta } => tape.response(value, Response { size, alpha, beta })?,
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
                let mut sum = run(steps, tensors, value.shallow_clone(), mode, tape, &mut none)?;
                sum.f_add_(&run(shortcut, tensors, value, mode, tape, &mut none)?)?
            }
        };
        if let Some(name) = step.name {
            visit(name, &value)?;
        }
    }
    Ok(value)
}

/// Where a learning pass went through something that libtorch does not know the gradient of: the pass is cut there, and
/// [`Tape::gradients`] goes backward piece by piece.
#[derive(Debug, Default)]
pub struct Tape {
    cuts: Vec<Cut>,
}

/// An end of one piece, and the beginning of the next.
#[derive(Debug)]
struct Cut {
    response: Response,
    /// The layer's input.
    before: Tensor,
    /// The layer's output, without its history.
    after: Tensor,
}

impl Tape {
    /// Local response normalisation of `N x C x H x W`. No step in place may follow: with gradients, the result is a leaf.
    ///
    /// Of maps of 16 bits too, squares and powers are of 32, as autocast has them: `1 + alpha / size · s` is 1 in eight bits until `s`
    /// is a hundred and more, and the normalisation would do nothing.
    fn response(&mut self, maps: Tensor, response: Response) -> Result<Tensor, TchError> {
        let kind = maps.kind();
        self.response_of_floats(maps.f_to_kind(Kind::Float)?, response)?.f_to_kind(kind)
    }

    fn response_of_floats(&mut self, maps: Tensor, response: Response) -> Result<Tensor, TchError> {
        if !Response::fits(&maps) {
            return product(&maps, response);
        }
        let out = response.forward(&maps)?;
        if !maps.requires_grad() {
            return Ok(out);
        }
        let after = out.f_set_requires_grad(true)?;
        self.cuts.push(Cut { response, before: maps, after: after.shallow_clone() });
        Ok(after)
    }

    /// The gradients of a loss by parameters, all of which it depends on. The pass is forgotten then.
    ///
    /// # Errors
    /// libtorch refuses: the loss does not depend on a parameter, or memory is short.
    pub fn gradients(self, loss: &Tensor, parameters: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        let mut found: Vec<Option<Tensor>> = parameters.iter().map(|_| None).collect();
        let mut root = loss.shallow_clone();
        // From the last piece to the first; what a piece does not depend on, libtorch leaves undefined.
        let mut back = |root: &Tensor, start: Option<&Tensor>| -> Result<Option<Tensor>, TchError> {
            let wanted: Vec<&Tensor> = start.into_iter().chain(parameters).collect();
            let mut gradients = Tensor::f_run_backward(&[root], &wanted, false, false)?.into_iter();
            let start = start.and_then(|_| gradients.next());
            for (found, gradient) in found.iter_mut().zip(gradients).filter(|(_, gradient)| gradient.defined()) {
                *found = Some(match found.take() {
                    Some(mut sum) => sum.f_add_(&gradient)?,
                    None => gradient,
                });
            }
            Ok(start)
        };
        for Cut { response, before, after } in self.cuts.into_iter().rev() {
            let gradient = back(&root, Some(&after))?.expect("a piece begins with what was asked for");
            let gradient = response.backward(&before, gradient)?;
            // A number whose gradient by `before` is that one.
            let line = |maps: &Tensor| maps.f_permute([0, 2, 3, 1])?.f_reshape([-1]);
            root = line(&before)?.f_dot(&line(&gradient)?)?;
        }
        back(&root, None)?;
        let missing = || TchError::Torch("the loss does not depend on all parameters".to_owned());
        found.into_iter().map(|gradient| gradient.ok_or_else(missing)).collect()
    }
}

/// Local response normalisation by libtorch's operations: where [`Response`] cannot work, as on a GPU.
///
/// The sums over channels are a product with a matrix that has ones about its diagonal.
fn product(maps: &Tensor, Response { size, alpha, beta }: Response) -> Result<Tensor, TchError> {
    let channels = maps.f_permute([0, 2, 3, 1])?;
    let (count, options) = (channels.size()[3], (channels.kind(), channels.device()));
    let (down, up) = (size as i64 / 2, (size as i64 - 1) / 2);
    let window = Tensor::f_ones([count, count], options)?.f_triu(-down)?.f_tril(up)?.f_mul_scalar(alpha / size as f64)?;
    let scale = channels.f_square()?.f_linear(&window, Some(&Tensor::f_ones([count], options)?))?;
    channels.f_mul(&scale.f_pow_tensor_scalar(-beta)?)?.f_permute([0, 3, 1, 2])
}

/// The scores `N x classes` of `N · pieces x C x H x W` pieces, an example's pieces side by side.
///
/// # Errors
/// As [`run`].
pub fn scores(form: &Form, tensors: &Tensors, pieces: Tensor, mode: Mode, tape: &mut Tape) -> Result<Tensor, TchError> {
    let mut none = |_: &str, _: &Tensor| Ok(());
    let (still, shared) = form.shared.split_at(form.frozen);
    let value = run(still, tensors, pieces, Mode::Evaluate, tape, &mut none)?;
    let mut value = run(shared, tensors, value, mode, tape, &mut none)?;
    if form.pieces > 1 {
        let examples = value.size()[0] / form.pieces as i64;
        value = value.f_reshape([examples, -1])?;
    }
    run(&form.joint, tensors, value, mode, tape, &mut none)
}

/// The mean cross-entropy of scores `N x classes` for the right classes, `N` of i64. Of a right class's weight, `smoothing` is spread
/// over all classes (Szegedy et al., 2016, <https://arxiv.org/abs/1512.00567>, section 7).
///
/// # Errors
/// libtorch refuses: a class is out of range.
pub fn loss(scores: &Tensor, classes: &Tensor, smoothing: f64) -> Result<Tensor, TchError> {
    scores.f_cross_entropy_loss(classes, None::<Tensor>, Reduction::Mean, -100, smoothing)
}

/// Each class's logistic loss, summed over classes, the mean over examples. Scores and `presence` are `N x classes`; presence is -1, 1,
/// or 0 for what does not count.
///
/// # Errors
/// libtorch refuses: shapes differ.
pub fn presence_loss(scores: &Tensor, presence: &Tensor) -> Result<Tensor, TchError> {
    // log(1 + exp(-t s)) where t is not 0.
    let losses = scores.f_mul(presence)?.f_neg()?.f_softplus()?.f_mul(&presence.f_abs()?)?;
    losses.f_sum(Kind::Float)?.f_div_scalar(scores.size()[0])
}

#[cfg(test)]
mod tests;
