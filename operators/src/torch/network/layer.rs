//! What networks are made of: steps, the shapes on their way, and the tensors that they need.

/// One step of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does.
    pub layer: Layer,
    /// Its tensors' names start so, then `.weight` and so on; empty without tensors.
    pub tensor: String,
    /// The name under which `infer` gives its output.
    pub name: Option<&'static str>,
}

/// What a step does. Images are `C x H x W`, and everything is square.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// A convolution.
    Convolution {
        /// Output channels.
        channels: usize,
        /// The kernel's side.
        kernel: usize,
        /// Pixels between two of its places.
        stride: usize,
        /// Zeros on each side.
        padding: usize,
        /// Parts that channels fall into, in and out; each part of the output sees its part of the input.
        groups: usize,
        /// Whether it adds a bias (not before a batch normalisation).
        bias: bool,
    },
    /// Batch normalisation over channels (Ioffe and Szegedy, 2015).
    BatchNorm,
    /// `max(x, 0)`.
    Relu,
    /// Local response normalisation over channels: `x / (1 + alpha / size · s)^beta`, `s` the sum of squares of the `size` channels
    /// around (Krizhevsky, Sutskever, Hinton, 2012; as Caffe and PyTorch define `alpha`).
    LocalResponse {
        /// Channels of a window.
        size: usize,
        /// See the formula.
        alpha: f64,
        /// See the formula.
        beta: f64,
    },
    /// The maximum of a window.
    MaxPool {
        /// The window's side.
        kernel: usize,
        /// Pixels between two windows.
        stride: usize,
        /// Places on each side that never are the maximum.
        padding: usize,
        /// Whether a window that lies partly beyond the map's end counts, as in Caffe.
        ceil: bool,
    },
    /// What the steps yield, plus the input, which may go through steps of its own (He et al., 2015,
    /// <https://arxiv.org/abs/1512.03385>). The last step of neither is a [`Layer::Relu`]. Names within are not seen.
    Residual {
        /// The steps.
        steps: Vec<Step>,
        /// What the input goes through; nothing, if it has the output's shape.
        shortcut: Vec<Step>,
    },
    /// Means of as many windows a side as asked for, whatever the size of the map.
    AveragePool {
        /// Windows a side.
        side: usize,
    },
    /// `C x H x W` to one vector.
    Flatten,
    /// In training, zeroes values with that probability, and scales the others up.
    Dropout(f64),
    /// A product with a matrix, plus a bias.
    Linear {
        /// Length of the output.
        outputs: usize,
        /// How its weights start.
        start: Start,
    },
}

/// How a tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
    /// `N(0, 2 / fan-in)`: keeps a signal's size through ReLUs (He et al., 2015, <https://arxiv.org/abs/1502.01852>).
    Kaiming,
    /// `N(0, deviation²)`.
    Normal {
        /// The deviation.
        deviation: f64,
    },
}

/// The start of a network's last layer: all classes about equally likely, so that the first steps are not wasted on
/// unlearning a guess.
pub const LAST: Start = Start::Normal { deviation: 0.001 };

/// The start of wide layers without normalisation, as the released context-free network has it: the next layer's inputs are small, and
/// steps of the usual length do not overshoot. (Puzzles of four tiles of photographs, learning rate 0.01: two thirds were solved after
/// 100 steps of 16; from Kaiming's start, which suits convolutions, a quarter, which is chance.)
pub const FULLY: Start = Start::Normal { deviation: 0.005 };

/// A tensor that a network needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it starts.
    pub start: Start,
    /// Whether training follows its gradient; running statistics have none.
    pub trained: bool,
}

/// An input that a network cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} needs {needed}, and gets {found}")]
pub struct ShapeError {
    what: String,
    needed: String,
    found: String,
}

impl Step {
    /// A step that yields no named output.
    pub fn new(layer: Layer, tensor: &str) -> Self {
        Self { layer, tensor: tensor.to_owned(), name: None }
    }

    /// The step whose output has that name.
    pub fn named(layer: Layer, name: &'static str) -> Self {
        Self { layer, tensor: String::new(), name: Some(name) }
    }

    /// The shape of its output (`[C, H, W]` or `[D]`), for an input of that shape.
    ///
    /// # Errors
    /// The input is too small, or a vector where a map must be.
    pub fn shape(&self, input: &[usize]) -> Result<Vec<usize>, ShapeError> {
        let window = |what: &str, kernel: usize, stride: usize, padding: usize, ceil: bool| {
            let fault = || ShapeError {
                what: format!("{what} of {kernel}x{kernel}{}", self.place()),
                needed: format!("maps of at least {0}x{0}", kernel.saturating_sub(2 * padding).max(1)),
                found: dimensions(input),
            };
            let &[channels, height, width] = input else { return Err(fault()) };
            if height.min(width) == 0 || height.min(width) + 2 * padding < kernel {
                return Err(fault());
            }
            let places = |side: usize| {
                let free = side + 2 * padding - kernel;
                // A window that starts beyond the map would see nothing.
                let beyond = ceil && !free.is_multiple_of(stride) && (free / stride + 1) * stride < side + padding;
                free / stride + 1 + usize::from(beyond)
            };
            Ok((channels, places(height), places(width)))
        };
        match &self.layer {
            &Layer::Convolution { channels, kernel, stride, padding, .. } => {
                let (_, height, width) = window("a convolution", kernel, stride, padding, false)?;
                Ok(vec![channels, height, width])
            }
            &Layer::MaxPool { kernel, stride, padding, ceil } => {
                let (channels, height, width) = window("a pooling", kernel, stride, padding, ceil)?;
                Ok(vec![channels, height, width])
            }
            &Layer::AveragePool { side } => {
                window("a pooling", 1, 1, 0, false).map(|(channels, _, _)| vec![channels, side, side])
            }
            Layer::Residual { steps, shortcut } => {
                let (through, around) = (walk(steps, input)?.0, walk(shortcut, input)?.0);
                let of = |shapes: Vec<Vec<usize>>| shapes.last().cloned().unwrap_or_else(|| input.to_vec());
                let (through, around) = (of(through), of(around));
                if through == around {
                    return Ok(through);
                }
                Err(ShapeError { what: "a sum".to_owned(), needed: dimensions(&through), found: dimensions(&around) })
            }
            Layer::BatchNorm | Layer::Relu | Layer::LocalResponse { .. } | Layer::Dropout(_) => Ok(input.to_vec()),
            Layer::Flatten => Ok(vec![input.iter().product()]),
            &Layer::Linear { outputs, .. } => match input {
                [_] => Ok(vec![outputs]),
                _ => Err(ShapeError {
                    what: format!("a matrix{}", self.place()),
                    needed: "a vector".to_owned(),
                    found: dimensions(input),
                }),
            },
        }
    }

    /// Its tensors, for an input of that shape.
    ///
    /// # Errors
    /// As [`Step::shape`], of a step within.
    pub fn parameters(&self, input: &[usize]) -> Result<Vec<Parameter>, ShapeError> {
        let features = input.first().copied().unwrap_or_default();
        let parameter = |end: &str, shape: Vec<usize>, start, trained| Parameter {
            name: format!("{}.{end}", self.tensor),
            shape,
            start,
            trained,
        };
        Ok(match &self.layer {
            &Layer::Convolution { channels, kernel, groups, bias, .. } => {
                let weight = parameter("weight", vec![channels, features / groups, kernel, kernel], Start::Kaiming, true);
                let bias = bias.then(|| parameter("bias", vec![channels], Start::Zeros, true));
                std::iter::once(weight).chain(bias).collect()
            }
            Layer::BatchNorm => vec![
                parameter("weight", vec![features], Start::Ones, true),
                parameter("bias", vec![features], Start::Zeros, true),
                parameter("running_mean", vec![features], Start::Zeros, false),
                parameter("running_var", vec![features], Start::Ones, false),
            ],
            &Layer::Linear { outputs, start } => vec![
                parameter("weight", vec![outputs, features], start, true),
                parameter("bias", vec![outputs], Start::Zeros, true),
            ],
            Layer::Residual { steps, shortcut } => {
                let mut all = walk(steps, input)?.1;
                all.extend(walk(shortcut, input)?.1);
                all
            }
            Layer::Relu
            | Layer::LocalResponse { .. }
            | Layer::MaxPool { .. }
            | Layer::AveragePool { .. }
            | Layer::Flatten
            | Layer::Dropout(_) => Vec::new(),
        })
    }

    fn place(&self) -> String {
        if self.tensor.is_empty() { String::new() } else { format!(" (`{}`)", self.tensor) }
    }
}

/// A shape as messages show it.
pub fn dimensions(shape: &[usize]) -> String {
    match shape {
        [] => "a scalar".to_owned(),
        [length] => format!("{length} values"),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    }
}

/// The shapes of all steps' outputs, and the tensors of all steps.
///
/// # Errors
/// A step cannot take what the one before yields.
pub fn walk<'a>(
    steps: impl IntoIterator<Item = &'a Step>,
    input: &[usize],
) -> Result<(Vec<Vec<usize>>, Vec<Parameter>), ShapeError> {
    let (mut shapes, mut parameters) = (Vec::new(), Vec::new());
    let mut shape = input.to_vec();
    for step in steps {
        parameters.extend(step.parameters(&shape)?);
        shape = step.shape(&shape)?;
        shapes.push(shape.clone());
    }
    Ok((shapes, parameters))
}
