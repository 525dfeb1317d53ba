//! `resnet18` and `resnet50`: residual networks, under torchvision's tensor names.
//!
//! He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, <https://arxiv.org/abs/1512.03385>. As in
//! torchvision, the 3x3 convolution of a bottleneck takes the stride, not the 1x1 one before it.

use super::{LAST, Layer, Network, PuzzleHead, Start, Step};

/// 18 layers: two blocks of two convolutions a stage.
pub fn resnet18() -> Network {
    network(basic, [2, 2, 2, 2])
}

/// 50 layers: 3, 4, 6 and 3 bottlenecks.
pub fn resnet50() -> Network {
    network(bottleneck, [3, 4, 6, 3])
}

/// For images of 224 pixels. Tiles of 64 pixels leave the trunk as maps of 2 x 2. The puzzle head has batch normalisation like the
/// trunk, and no dropout.
fn network(block: fn(&str, usize, usize) -> (Vec<Step>, usize), counts: [usize; 4]) -> Network {
    let mut trunk = vec![
        convolution("conv1", 64, 7, 2),
        Step::new(Layer::BatchNorm, "bn1"),
        Step::named(Layer::Relu, "conv1"),
        Step::new(Layer::MaxPool { kernel: 3, stride: 2, padding: 1, ceil: false }, ""),
    ];
    let mut channels = 64;
    for (stage, (name, count)) in ["conv2", "conv3", "conv4", "conv5"].into_iter().zip(counts).enumerate() {
        for number in 0..count {
            let prefix = format!("layer{}.{number}", stage + 1);
            let stride = if stage > 0 && number == 0 { 2 } else { 1 };
            let (steps, outputs) = block(&prefix, 64 << stage, stride);
            let shortcut = match (stride, channels == outputs) {
                (1, true) => Vec::new(),
                _ => vec![
                    convolution(&format!("{prefix}.downsample.0"), outputs, 1, stride),
                    Step::new(Layer::BatchNorm, &format!("{prefix}.downsample.1")),
                ],
            };
            channels = outputs;
            trunk.push(Step::new(Layer::Residual { steps, shortcut }, ""));
            trunk.push(if number + 1 == count { Step::named(Layer::Relu, name) } else { Step::new(Layer::Relu, "") });
        }
    }
    Network {
        trunk,
        puzzle: PuzzleHead { stride: None, tile: 1024, joint: 4096, start: Start::Kaiming, norm: true, dropout: 0.0 },
        classes,
    }
}

/// A convolution that keeps the map's size, but for its stride.
fn convolution(tensor: &str, channels: usize, kernel: usize, stride: usize) -> Step {
    Step::new(Layer::Convolution { channels, kernel, stride, padding: kernel / 2, groups: 1, bias: false }, tensor)
}

/// Convolutions `(channels, kernel, stride)`, each with its normalisation, and ReLUs in between.
fn chain(prefix: &str, convolutions: &[(usize, usize, usize)]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (number, &(channels, kernel, stride)) in (1..).zip(convolutions) {
        if number > 1 {
            steps.push(Step::new(Layer::Relu, ""));
        }
        steps.push(convolution(&format!("{prefix}.conv{number}"), channels, kernel, stride));
        steps.push(Step::new(Layer::BatchNorm, &format!("{prefix}.bn{number}")));
    }
    steps
}

/// A block's steps, and the channels that it yields.
fn basic(prefix: &str, width: usize, stride: usize) -> (Vec<Step>, usize) {
    (chain(prefix, &[(width, 3, stride), (width, 3, 1)]), width)
}

fn bottleneck(prefix: &str, width: usize, stride: usize) -> (Vec<Step>, usize) {
    (chain(prefix, &[(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]), 4 * width)
}

fn classes(count: usize) -> Vec<Step> {
    vec![
        Step::new(Layer::AveragePool { side: 1 }, ""),
        Step::new(Layer::Flatten, ""),
        Step::new(Layer::Linear { outputs: count, start: LAST }, "fc"),
    ]
}
