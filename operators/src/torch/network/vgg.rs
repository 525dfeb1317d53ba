//! `vgg16` and `vgg16-bn`: thirteen 3x3 convolutions, under torchvision's tensor names.
//!
//! Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015,
//! <https://arxiv.org/abs/1409.1556>, configuration D; `vgg16-bn` with batch normalisation (Ioffe and Szegedy, 2015,
//! <https://arxiv.org/abs/1502.03167>) before each ReLU.

use super::{LAST, Layer, Network, PuzzleHead, Start, Step};

/// Channels and number of each stage's convolutions; a pooling ends it.
const STAGES: [(&str, usize, usize); 5] =
    [("conv1", 64, 2), ("conv2", 128, 2), ("conv3", 256, 3), ("conv4", 512, 3), ("conv5", 512, 3)];

/// For images of 224 pixels, and of 32 at least. Tiles of 64 pixels leave the trunk as `512 x 2 x 2`.
///
/// Weights start by Kaiming's rule: from `N(0, 0.01)`, thirteen layers without normalisation stay at chance for tens of epochs.
pub fn vgg16(norm: bool) -> Network {
    let (mut trunk, mut place) = (Vec::new(), 0);
    for (name, channels, count) in STAGES {
        for number in 1..=count {
            let convolution = Layer::Convolution { channels, kernel: 3, stride: 1, padding: 1, groups: 1, bias: true };
            trunk.push(Step::new(convolution, &format!("features.{place}")));
            if norm {
                trunk.push(Step::new(Layer::BatchNorm, &format!("features.{}", place + 1)));
            }
            trunk.push(if number == count { Step::named(Layer::Relu, name) } else { Step::new(Layer::Relu, "") });
            place += if norm { 3 } else { 2 };
        }
        trunk.push(Step::new(Layer::MaxPool { kernel: 2, stride: 2, padding: 0, ceil: false }, ""));
        place += 1;
    }
    Network {
        trunk,
        puzzle: PuzzleHead { stride: None, tile: 1024, joint: 4096, start: Start::Kaiming, norm, dropout: 0.5 },
        classes,
    }
}

fn classes(count: usize) -> Vec<Step> {
    let fully = |place: usize, outputs, start| Step::new(Layer::Linear { outputs, start }, &format!("classifier.{place}"));
    let plain = |layer| Step::new(layer, "");
    vec![
        plain(Layer::AveragePool { side: 7 }),
        plain(Layer::Flatten),
        fully(0, 4096, Start::Kaiming),
        plain(Layer::Relu),
        plain(Layer::Dropout(0.5)),
        fully(3, 4096, Start::Kaiming),
        plain(Layer::Relu),
        plain(Layer::Dropout(0.5)),
        fully(6, count, LAST),
    ]
}
