//! `alexnet-torchvision`: AlexNet as torchvision has it, under torchvision's tensor names.
//!
//! Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, <https://arxiv.org/abs/1404.5997>: one
//! column, without groups and without local response normalisation.

use super::{FULLY, LAST, Layer, Network, PuzzleHead, Start, Step};

/// For images of 224 pixels. The puzzle head is that of the context-free network: tiles of 64 pixels leave the trunk as
/// `256 x 1 x 1`.
pub fn network() -> Network {
    let mut trunk = Vec::new();
    let mut block = |place: usize, name, channels, kernel, stride, padding, pool| {
        let convolution = Layer::Convolution { channels, kernel, stride, padding, groups: 1, bias: true };
        trunk.push(Step::new(convolution, &format!("features.{place}")));
        trunk.push(Step::named(Layer::Relu, name));
        if pool {
            trunk.push(Step::new(Layer::MaxPool { kernel: 3, stride: 2, padding: 0, ceil: false }, ""));
        }
    };
    block(0, "conv1", 64, 11, 4, 2, true);
    block(3, "conv2", 192, 5, 1, 2, true);
    block(6, "conv3", 384, 3, 1, 1, false);
    block(8, "conv4", 256, 3, 1, 1, false);
    block(10, "conv5", 256, 3, 1, 1, true);
    Network {
        trunk,
        puzzle: PuzzleHead { stride: None, tile: 1024, joint: 4096, start: FULLY, norm: false, dropout: 0.5 },
        classes,
    }
}

fn classes(count: usize) -> Vec<Step> {
    let fully = |place: usize, outputs, start| Step::new(Layer::Linear { outputs, start }, &format!("classifier.{place}"));
    let plain = |layer| Step::new(layer, "");
    vec![
        plain(Layer::AveragePool { side: 6 }),
        plain(Layer::Flatten),
        plain(Layer::Dropout(0.5)),
        fully(1, 4096, Start::Kaiming),
        plain(Layer::Relu),
        plain(Layer::Dropout(0.5)),
        fully(4, 4096, Start::Kaiming),
        plain(Layer::Relu),
        fully(6, count, LAST),
    ]
}
