//! `alexnet`: AlexNet as the paper has it, with groups and local response normalisation.
//!
//! Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012,
//! <https://papers.nips.cc/paper/4824>, in the sizes of Caffe's reference network (pooling before normalisation, windows beyond
//! the map's end count), which the context-free network's trunk has too. torchvision has no such network; tensors have Caffe's
//! layers' names.

use super::{FULLY, LAST, Layer, Network, PuzzleHead, Step};

/// For images of 227 pixels. On tiles, the first convolution's stride is 2: those of 64 pixels leave the trunk as `256 x 3 x 3`.
///
/// Convolutions start by Kaiming's rule, not from Caffe's `N(0, 0.01)`, from which normalised tiles' signals fade; the other layers as
/// there (see [`FULLY`]).
pub fn network() -> Network {
    let mut trunk = Vec::new();
    let mut block = |name, channels, kernel, stride, padding, groups| {
        let convolution = Layer::Convolution { channels, kernel, stride, padding, groups, bias: true };
        trunk.extend([Step::new(convolution, name), Step::named(Layer::Relu, name)]);
        if ["conv1", "conv2", "conv5"].contains(&name) {
            trunk.push(Step::new(Layer::MaxPool { kernel: 3, stride: 2, padding: 0, ceil: true }, ""));
        }
        if ["conv1", "conv2"].contains(&name) {
            trunk.push(Step::new(Layer::LocalResponse { size: 5, alpha: 1e-4, beta: 0.75 }, ""));
        }
    };
    block("conv1", 96, 11, 4, 0, 1);
    block("conv2", 256, 5, 1, 2, 2);
    block("conv3", 384, 3, 1, 1, 1);
    block("conv4", 384, 3, 1, 1, 2);
    block("conv5", 256, 3, 1, 1, 2);
    Network {
        trunk,
        puzzle: PuzzleHead { stride: Some(2), tile: 1024, joint: 4096, start: FULLY, norm: false, dropout: 0.5 },
        classes,
    }
}

/// The last map is brought to 6 x 6, which it has for images of 227 pixels.
fn classes(count: usize) -> Vec<Step> {
    let fully = |name, outputs, start| Step::new(Layer::Linear { outputs, start }, name);
    let plain = |layer| Step::new(layer, "");
    vec![
        plain(Layer::AveragePool { side: 6 }),
        plain(Layer::Flatten),
        fully("fc6", 4096, FULLY),
        plain(Layer::Relu),
        plain(Layer::Dropout(0.5)),
        fully("fc7", 4096, FULLY),
        plain(Layer::Relu),
        plain(Layer::Dropout(0.5)),
        fully("fc8", count, LAST),
    ]
}
