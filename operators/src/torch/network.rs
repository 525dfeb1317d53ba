//! Networks as data: a trunk of named layers, and what is put on it to solve puzzles or to name classes.
//!
//! One [`Network`] is a file of this folder: its [`Step`]s in order, its tensors' names and the paper's link. From that follow
//! the [`Form`]s that are trained, the shapes on the way, and the tensors that must exist. A new network is a new file, and a
//! variant of [`Name`].

mod alexnet_torchvision;
mod small;

use serde::{Deserialize, Serialize};

/// The networks there are, as pipeline files and weights tables name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// [`small`].
    Small,
    /// [`alexnet_torchvision`].
    AlexnetTorchvision,
}

impl Name {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::AlexnetTorchvision, Self::Small];

    /// The name as text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::AlexnetTorchvision => "alexnet-torchvision",
        }
    }

    /// The network of that name.
    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|name| name.text() == text)
    }

    /// The names as messages list them.
    pub fn known() -> String {
        Self::ALL.iter().map(|name| name.text()).collect::<Vec<_>>().join(", ")
    }

    /// Its description.
    pub fn network(self) -> Network {
        match self {
            Self::Small => small::network(),
            Self::AlexnetTorchvision => alexnet_torchvision::network(),
        }
    }
}

/// A network: what all its forms share, and what each adds.
#[derive(Debug, Clone)]
pub struct Network {
    /// From an image or tile to its last feature map.
    pub trunk: Vec<Step>,
    /// What solves puzzles.
    pub puzzle: PuzzleHead,
    /// What names one of so many classes, after the trunk.
    pub classes: fn(usize) -> Vec<Step>,
}

/// The layers that solve puzzles: `fc6` on each tile's features, then `fc7` and `fc8` on all tiles' side by side (the context-free
/// network of Noroozi and Favaro, 2016, <https://arxiv.org/abs/1603.09246>).
#[derive(Debug, Clone, Copy)]
pub struct PuzzleHead {
    /// Outputs of `fc6`, whose weights all tiles share.
    pub tile: usize,
    /// Outputs of `fc7`.
    pub joint: usize,
    /// Whether the outputs of `fc6` and `fc7` are normalised over the batch (`bn6`, `bn7`).
    pub norm: bool,
    /// Probability that training zeroes an output of `fc6` or `fc7`.
    pub dropout: f64,
}

/// One step of a network.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it does.
    pub layer: Layer,
    /// Its tensors' names start so, then `.weight` and so on; empty without tensors.
    pub tensor: String,
    /// The name under which `infer` gives its output.
    pub name: Option<&'static str>,
}

/// What a step does. Images are `C x H x W`, and everything is square.
#[derive(Debug, Clone, Copy, PartialEq)]
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
        /// Whether it adds a bias (not before a batch normalisation).
        bias: bool,
    },
    /// Batch normalisation over channels (Ioffe and Szegedy, 2015).
    BatchNorm,
    /// `max(x, 0)`.
    Relu,
    /// The maximum of a window.
    MaxPool {
        /// The window's side.
        kernel: usize,
        /// Pixels between two windows.
        stride: usize,
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
        let window = |what: &str, kernel: usize, stride: usize, padding: usize| {
            let fault = || ShapeError {
                what: format!("{what} of {kernel}x{kernel}{}", self.place()),
                needed: format!("maps of at least {0}x{0}", kernel.saturating_sub(2 * padding).max(1)),
                found: dimensions(input),
            };
            let &[channels, height, width] = input else { return Err(fault()) };
            if height.min(width) == 0 || height.min(width) + 2 * padding < kernel {
                return Err(fault());
            }
            let places = |side: usize| (side + 2 * padding - kernel) / stride + 1;
            Ok((channels, places(height), places(width)))
        };
        match self.layer {
            Layer::Convolution { channels, kernel, stride, padding, .. } => {
                let (_, height, width) = window("a convolution", kernel, stride, padding)?;
                Ok(vec![channels, height, width])
            }
            Layer::MaxPool { kernel, stride } => {
                let (channels, height, width) = window("a pooling", kernel, stride, 0)?;
                Ok(vec![channels, height, width])
            }
            Layer::AveragePool { side } => window("a pooling", 1, 1, 0).map(|(channels, _, _)| vec![channels, side, side]),
            Layer::BatchNorm | Layer::Relu | Layer::Dropout(_) => Ok(input.to_vec()),
            Layer::Flatten => Ok(vec![input.iter().product()]),
            Layer::Linear { outputs, .. } => match input {
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
    pub fn parameters(&self, input: &[usize]) -> Vec<Parameter> {
        let features = input.first().copied().unwrap_or_default();
        let parameter = |end: &str, shape: Vec<usize>, start, trained| Parameter {
            name: format!("{}.{end}", self.tensor),
            shape,
            start,
            trained,
        };
        match self.layer {
            Layer::Convolution { channels, kernel, bias, .. } => {
                let weight = parameter("weight", vec![channels, features, kernel, kernel], Start::Kaiming, true);
                let bias = bias.then(|| parameter("bias", vec![channels], Start::Zeros, true));
                std::iter::once(weight).chain(bias).collect()
            }
            Layer::BatchNorm => vec![
                parameter("weight", vec![features], Start::Ones, true),
                parameter("bias", vec![features], Start::Zeros, true),
                parameter("running_mean", vec![features], Start::Zeros, false),
                parameter("running_var", vec![features], Start::Ones, false),
            ],
            Layer::Linear { outputs, start } => vec![
                parameter("weight", vec![outputs, features], start, true),
                parameter("bias", vec![outputs], Start::Zeros, true),
            ],
            Layer::Relu | Layer::MaxPool { .. } | Layer::AveragePool { .. } | Layer::Flatten | Layer::Dropout(_) => {
                Vec::new()
            }
        }
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
        parameters.extend(step.parameters(&shape));
        shape = step.shape(&shape)?;
        shapes.push(shape.clone());
    }
    Ok((shapes, parameters))
}

impl Network {
    /// The names that `infer` knows, in the order of the network.
    pub fn layers(&self) -> Vec<&'static str> {
        self.trunk.iter().filter_map(|step| step.name).collect()
    }

    /// The steps up to the one that yields the last of those layers.
    pub fn up_to(&self, layers: &[String]) -> &[Step] {
        let is_asked_for = |step: &Step| step.name.is_some_and(|name| layers.iter().any(|layer| layer == name));
        let last = self.trunk.iter().rposition(is_asked_for);
        &self.trunk[..last.map_or(0, |last| last + 1)]
    }

    /// The form that names one of `classes` for images of that height and width.
    pub fn classifier(&self, [height, width]: [usize; 2], classes: usize) -> Form {
        Form { input: [3, height, width], pieces: 1, shared: self.trunk.clone(), joint: (self.classes)(classes) }
    }

    /// The form that solves puzzles of that many tiles, each `tile` pixels a side: names one of `permutations`.
    pub fn puzzle(&self, tiles: usize, tile: usize, permutations: usize) -> Form {
        let PuzzleHead { tile: features, joint, norm, dropout } = self.puzzle;
        let fully = |outputs, start, number: usize| Step::new(Layer::Linear { outputs, start }, &format!("fc{number}"));
        let hidden = |outputs, number: usize| {
            let norm = norm.then(|| Step::new(Layer::BatchNorm, &format!("bn{number}")));
            let rest = [Step::new(Layer::Relu, ""), Step::new(Layer::Dropout(dropout), "")];
            std::iter::once(fully(outputs, Start::Kaiming, number)).chain(norm).chain(rest)
        };
        let flatten = Step::new(Layer::Flatten, "");
        let shared = self.trunk.iter().cloned().chain([flatten]).chain(hidden(features, 6)).collect();
        let joint = hidden(joint, 7).chain([fully(permutations, LAST, 8)]).collect();
        Form { input: [3, tile, tile], pieces: tiles, shared, joint }
    }
}

/// A network as it is trained: shared steps on each piece of an example, then steps on all pieces' outputs side by side.
#[derive(Debug, Clone)]
pub struct Form {
    /// `C, H, W` of a piece.
    pub input: [usize; 3],
    /// Pieces of an example: a puzzle's tiles, or 1.
    pub pieces: usize,
    /// What each piece goes through.
    pub shared: Vec<Step>,
    /// What the pieces' outputs go through together.
    pub joint: Vec<Step>,
}

impl Form {
    /// All tensors.
    ///
    /// # Errors
    /// The pieces are too small for the network.
    pub fn parameters(&self) -> Result<Vec<Parameter>, ShapeError> {
        let (shapes, mut parameters) = walk(&self.shared, &self.input)?;
        let mut piece = shapes.last().cloned().unwrap_or_else(|| self.input.to_vec());
        if self.pieces > 1 {
            piece = vec![self.pieces * piece.iter().product::<usize>()];
        }
        parameters.extend(walk(&self.joint, &piece)?.1);
        Ok(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_pipeline_file() {
        for &name in Name::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.text());
            assert_eq!(Name::find(name.text()), Some(name));
        }
        assert_eq!(Name::find("alexnet-torch"), None);
    }

    #[test]
    fn shapes_follow_from_the_layers() {
        let network = Name::AlexnetTorchvision.network();
        let (shapes, _) = walk(&network.trunk, &[3, 224, 224]).unwrap();
        let named: Vec<_> = network.trunk.iter().zip(&shapes).filter(|(step, _)| step.name.is_some()).collect();
        assert_eq!(network.layers(), ["conv1", "conv2", "conv3", "conv4", "conv5"]);
        let shapes: Vec<_> = named.iter().map(|(_, shape)| shape.as_slice()).collect();
        assert_eq!(shapes, [[64, 55, 55], [192, 27, 27], [384, 13, 13], [256, 13, 13], [256, 13, 13]]);
        assert_eq!(network.up_to(&["conv2".to_owned(), "conv1".to_owned()]).last().unwrap().name, Some("conv2"));
        let error = walk(&network.trunk, &[3, 30, 30]).unwrap_err();
        assert_eq!(error.to_string(), "a pooling of 3x3 needs maps of at least 3x3, and gets 192x2x2");
    }

    #[test]
    fn forms_differ_in_their_heads_only() {
        for &name in Name::ALL {
            let network = name.network();
            let names = |parameters: Vec<Parameter>| parameters.into_iter().map(|p| (p.name, p.shape)).collect::<Vec<_>>();
            let trunk = names(walk(&network.trunk, &[3, 64, 64]).unwrap().1);
            let puzzle = names(network.puzzle(9, 64, 701).parameters().unwrap());
            assert_eq!(puzzle[..trunk.len()], trunk);
            let head: Vec<_> = puzzle[trunk.len()..].iter().map(|p| p.0.as_str()).collect();
            let head: Vec<_> = head.into_iter().filter(|name| !name.starts_with("bn")).collect();
            assert_eq!(head, ["fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias", "fc8.weight", "fc8.bias"]);
            assert_eq!(puzzle.last().unwrap().1, [701]);
            let classifier = names(network.classifier([64, 64], 10).parameters().unwrap());
            assert_eq!(classifier[..trunk.len()], trunk);
            assert_eq!(classifier.last().unwrap().1, [10]);
        }
    }
}
