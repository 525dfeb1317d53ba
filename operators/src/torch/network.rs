//! Networks as data: a trunk of named layers, and what is put on it to solve puzzles or to name classes.
//!
//! One [`Network`] is a file of this folder: its [`Step`]s in order, its tensors' names and the paper's link. From that follow
//! the [`Form`]s that are trained, the shapes on the way, and the tensors that must exist. A new network is a new file, and a
//! variant of [`Name`].
//!
//! All networks have the layers `conv1` to `conv5`, each taken after its ReLU and before any pooling. Where the literature counts
//! in stages, those are their ends:
//!
//! | | `conv1` | `conv2` | `conv3` | `conv4` | `conv5` |
//! | --- | --- | --- | --- | --- | --- |
//! | AlexNets, `small` | first convolution | second | third | fourth | fifth |
//! | `medium` | second convolution | fourth | sixth | eighth | tenth |
//! | VGG | `conv1_2` | `conv2_2` | `conv3_3` | `conv4_3` | `conv5_3` |
//! | ResNets | before the first pooling | `layer1` | `layer2` | `layer3` | `layer4` |

mod alexnet;
mod alexnet_torchvision;
mod layer;
pub mod pytorch;
mod resnet;
mod small;
mod vgg;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use layer::{FULLY, LAST, Layer, Parameter, ShapeError, Start, Step, dimensions, walk};

/// The networks there are, as pipeline files and weights tables name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// AlexNet as the paper has it: Caffe's, with groups and local response normalisation.
    Alexnet,
    /// AlexNet as torchvision has it.
    AlexnetTorchvision,
    /// Convolutions as `small`, twice as many: for images of up to 64 pixels.
    Medium,
    /// ResNet of 18 layers, as torchvision has it.
    Resnet18,
    /// ResNet of 50 layers, as torchvision has it.
    Resnet50,
    /// A few convolutions with batch normalisation, for tiles and images of up to 64 pixels on a CPU.
    Small,
    /// VGG of 16 layers, as torchvision has it.
    Vgg16,
    /// VGG of 16 layers with batch normalisation.
    Vgg16Bn,
}

/// The advice for networks that are not among them.
pub const OTHERS: &str = "a network of another architecture runs as a TorchScript model (torch.jit.trace or script): model = \"FILE\" of \
    `infer` in place of weights";

impl Name {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Alexnet,
        Self::AlexnetTorchvision,
        Self::Medium,
        Self::Resnet18,
        Self::Resnet50,
        Self::Small,
        Self::Vgg16,
        Self::Vgg16Bn,
    ];

    /// The name as text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Alexnet => "alexnet",
            Self::AlexnetTorchvision => "alexnet-torchvision",
            Self::Medium => "medium",
            Self::Resnet18 => "resnet18",
            Self::Resnet50 => "resnet50",
            Self::Small => "small",
            Self::Vgg16 => "vgg16",
            Self::Vgg16Bn => "vgg16-bn",
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
            Self::Alexnet => alexnet::network(),
            Self::AlexnetTorchvision => alexnet_torchvision::network(),
            Self::Medium => small::medium(),
            Self::Resnet18 => resnet::resnet18(),
            Self::Resnet50 => resnet::resnet50(),
            Self::Small => small::small(),
            Self::Vgg16 => vgg::vgg16(false),
            Self::Vgg16Bn => vgg::vgg16(true),
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
    /// The stride of the trunk's first convolution on tiles, where it is another than on images: tiles are small.
    pub stride: Option<usize>,
    /// Outputs of `fc6`, whose weights all tiles share.
    pub tile: usize,
    /// Outputs of `fc7`.
    pub joint: usize,
    /// How the weights of `fc6` and `fc7` start.
    pub start: Start,
    /// Whether the outputs of `fc6` and `fc7` are normalised over the batch (`bn6`, `bn7`).
    pub norm: bool,
    /// Probability that training zeroes an output of `fc6` or `fc7`.
    pub dropout: f64,
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
        Form { input: [3, height, width], pieces: 1, shared: self.trunk.clone(), joint: (self.classes)(classes), frozen: 0 }
    }

    /// The form that solves puzzles of that many tiles, each `tile` pixels a side: names one of `permutations`.
    pub fn puzzle(&self, tiles: usize, tile: usize, permutations: usize) -> Form {
        let PuzzleHead { stride: first, tile: features, joint, start, norm, dropout } = self.puzzle;
        let fully = |outputs, start, number: usize| Step::new(Layer::Linear { outputs, start }, &format!("fc{number}"));
        let hidden = |outputs, number: usize| {
            let norm = norm.then(|| Step::new(Layer::BatchNorm, &format!("bn{number}")));
            let rest = [Step::new(Layer::Relu, ""), Step::new(Layer::Dropout(dropout), "")];
            std::iter::once(fully(outputs, start, number)).chain(norm).chain(rest)
        };
        let mut trunk = self.trunk.clone();
        if let (Some(first), Some(Step { layer: Layer::Convolution { stride, .. }, .. })) = (first, trunk.first_mut()) {
            *stride = first;
        }
        let flatten = Step::new(Layer::Flatten, "");
        let shared = trunk.into_iter().chain([flatten]).chain(hidden(features, 6)).collect();
        let joint = hidden(joint, 7).chain([fully(permutations, LAST, 8)]).collect();
        Form { input: [3, tile, tile], pieces: tiles, shared, joint, frozen: 0 }
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
    /// How many of the shared steps stay as they are: they are not trained, and their batch normalisation is by its statistics.
    pub frozen: usize,
}

impl Form {
    /// All tensors.
    ///
    /// # Errors
    /// The pieces are too small for the network.
    pub fn parameters(&self) -> Result<Vec<Parameter>, ShapeError> {
        let (shapes, mut parameters) = walk(&self.shared, &self.input)?;
        let still = walk(&self.shared[..self.frozen], &self.input)?.1.len();
        parameters[..still].iter_mut().for_each(|parameter| parameter.trained = false);
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

    /// The output of each network's layers for images of that side.
    fn named_shapes(name: Name, side: usize) -> Vec<Vec<usize>> {
        let trunk = name.network().trunk;
        let (shapes, _) = walk(&trunk, &[3, side, side]).unwrap();
        trunk.iter().zip(shapes).filter(|(step, _)| step.name.is_some()).map(|(_, shape)| shape).collect()
    }

    #[test]
    fn all_networks_have_five_layers() {
        for &name in Name::ALL {
            assert_eq!(name.network().layers(), ["conv1", "conv2", "conv3", "conv4", "conv5"]);
        }
        let of_caffe = [[96, 55, 55], [256, 27, 27], [384, 13, 13], [384, 13, 13], [256, 13, 13]];
        assert_eq!(named_shapes(Name::Alexnet, 227), of_caffe);
        let vgg = [[64, 224, 224], [128, 112, 112], [256, 56, 56], [512, 28, 28], [512, 14, 14]];
        assert_eq!(named_shapes(Name::Vgg16, 224), vgg);
        assert_eq!(named_shapes(Name::Vgg16Bn, 224), vgg);
        assert_eq!(
            named_shapes(Name::Resnet18, 224),
            [[64, 112, 112], [64, 56, 56], [128, 28, 28], [256, 14, 14], [512, 7, 7]]
        );
        assert_eq!(
            named_shapes(Name::Resnet50, 224),
            [[64, 112, 112], [256, 56, 56], [512, 28, 28], [1024, 14, 14], [2048, 7, 7]]
        );
    }

    /// Parameters that are trained, as torchvision counts them for 1,000 classes (`tests/peers/golden/parameters.py`); the paper's AlexNet
    /// as Caffe's.
    #[test]
    fn classifiers_have_as_many_parameters_as_they_should() {
        let count = |name: Name, side| {
            let parameters = name.network().classifier([side, side], 1000).parameters().unwrap();
            let trained = parameters.iter().filter(|parameter| parameter.trained);
            trained.map(|parameter| parameter.shape.iter().product::<usize>()).sum::<usize>()
        };
        assert_eq!(count(Name::Alexnet, 227), 60_965_224);
        assert_eq!(count(Name::AlexnetTorchvision, 224), 61_100_840);
        assert_eq!(count(Name::Vgg16, 224), 138_357_544);
        assert_eq!(count(Name::Vgg16Bn, 224), 138_365_992);
        assert_eq!(count(Name::Resnet18, 224), 11_689_512);
        assert_eq!(count(Name::Resnet50, 224), 25_557_032);
    }

    /// The paper's tiles leave the trunk as 3 x 3, as the released network's do.
    #[test]
    fn the_papers_alexnet_is_finer_on_tiles() {
        let network = Name::Alexnet.network();
        let (form, parameters) = (network.puzzle(9, 64, 701), network.puzzle(9, 64, 701).parameters().unwrap());
        assert_eq!(walk(&form.shared[..1], &[3, 64, 64]).unwrap().0, [[96, 27, 27]]);
        let shape = |name: &str| parameters.iter().find(|parameter| parameter.name == name).unwrap().shape.clone();
        assert_eq!((shape("fc6.weight"), shape("fc7.weight")), (vec![1024, 256 * 9], vec![4096, 9 * 1024]));
        assert_eq!((shape("conv2.weight"), shape("conv5.weight")), (vec![256, 48, 5, 5], vec![256, 192, 3, 3]));
    }

    #[test]
    fn sums_need_equal_shapes() {
        let convolution = |channels| {
            let layer = Layer::Convolution { channels, kernel: 3, stride: 1, padding: 1, groups: 1, bias: false };
            vec![Step::new(layer, "c")]
        };
        let residual = |steps, shortcut| Step::new(Layer::Residual { steps, shortcut }, "");
        assert_eq!(residual(convolution(8), convolution(8)).shape(&[3, 9, 9]).unwrap(), [8, 9, 9]);
        let error = residual(convolution(8), Vec::new()).shape(&[3, 9, 9]).unwrap_err();
        assert_eq!(error.to_string(), "a sum needs 8x9x9, and gets 3x9x9");
    }

    #[test]
    fn windows_beyond_the_end_count_if_told_to() {
        let side = |kernel, stride, padding, ceil, side| {
            Step::new(Layer::MaxPool { kernel, stride, padding, ceil }, "").shape(&[1, side, side]).unwrap()[1]
        };
        assert_eq!([side(3, 2, 0, false, 6), side(3, 2, 0, true, 6), side(3, 2, 0, true, 7)], [2, 3, 3]);
        // The third window would start beyond the map.
        assert_eq!([side(1, 3, 0, true, 5), side(2, 4, 1, true, 6), side(3, 2, 1, false, 112)], [2, 2, 56]);
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
