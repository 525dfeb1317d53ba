//! Networks as PyTorch's modules: the source of a Python module, written from the same steps that train and infer run.
//!
//! Written are the networks whose tensors' names are names of Python, and whose steps follow each other: those that torchvision has are
//! to be had there.

use std::fmt::Write as _;

use super::super::forward::EPSILON;
use super::super::input::LEAST_DEVIATION;
use super::{Layer, Name, Step};

/// The networks that torchvision has not.
const OWN: [Name; 3] = [Name::Alexnet, Name::Medium, Name::Small];
/// What stands before the classes.
const HEAD: &str = r#"# Networks of Tessera that torchvision does not have, for PyTorch. Weights that `tessera export` wrote load by their names:
#   from safetensors import safe_open
#   from safetensors.torch import load_file
#   metadata = safe_open("student.safetensors", "pt").metadata()
#   model = Small(classes=20).eval()        # as many as the weights have; without `classes`, the layers conv1 to conv5 alone
#   print(model.load_state_dict(load_file("student.safetensors"), strict=False))
#   scores = model(normalised(images, metadata))                # images: N x 3 x H x W of 0 to 255
#   feature = model(normalised(images, metadata), layer="conv4")    # as `infer` gives it, before it is pooled
# Weights that were trained on puzzles have other layers behind the trunk (fc6 to fc8), which strict=False leaves out.
import torch
from torch import nn
from torch.nn import functional as F


def normalised(images, metadata):
    """Images N x 3 x H x W of 0 to 255, normalised as the metadata of their weights says."""
    x = images.float()
    if metadata.get("normalisation") == "none":
        return x / 255
    if "normalisation" in metadata:  # by the values of each image, or of each of its channels
        over = (1, 2, 3) if metadata["normalisation"] == "tile" else (2, 3)
        deviation, mean = torch.std_mean(x, over, correction=0, keepdim=True)
        return (x - mean) / deviation.clamp_min(@LEAST@)
    mean, deviation = (
        torch.tensor([float(value) for value in metadata[key].split(",")]).view(1, 3, 1, 1) for key in ("mean", "deviation")
    )
    return (x / 255 - mean) / deviation
"#;

/// The source of a module with the networks that torchvision does not have.
pub fn source() -> String {
    let mut text = HEAD.replace("@LEAST@", &LEAST_DEVIATION.to_string());
    for name in OWN {
        class(&mut text, name);
    }
    text
}

/// One network's class.
fn class(text: &mut String, name: Name) {
    /// The side of images that all networks here take; no tensor's shape depends on it.
    const SIDE: usize = 224;
    let network = name.network();
    let mut class = Class { name: capitalised(name.text()), made: Vec::new(), done: Vec::new() };
    let mut shape = vec![3, SIDE, SIDE];
    class.steps(&network.trunk, &mut shape, "");
    class.made.push("if classes:".to_owned());
    class.done.push("if not self.classes:".to_owned());
    class.done.push("    return x".to_owned());
    // The last layer has an output a class.
    class.steps(&(network.classes)(CLASSES), &mut shape, "    ");
    let Class { name, made, done } = class;
    let made: String = made.into_iter().map(|line| format!("        {line}\n")).collect();
    let done: String = done.into_iter().map(|line| format!("        {line}\n")).collect();
    let classes = CLASSES.to_string();
    let _ = write!(
        text,
        "\n\nclass {name}(nn.Module):\n    def __init__(self, classes=0):\n        super().__init__()\n        self.classes = classes\n{}\
         \n    def forward(self, x, layer=None):\n{done}        return x\n",
        made.replace(&classes, "classes")
    );
}

/// A number of classes that no layer has by itself.
const CLASSES: usize = 987_654_321;

/// What a class does.
struct Class {
    name: String,
    /// Lines that make its layers.
    made: Vec<String>,
    /// Lines that run them.
    done: Vec<String>,
}

impl Class {
    /// Adds steps, which take maps of that shape; `made` is before each line that makes a layer.
    fn steps(&mut self, steps: &[Step], shape: &mut Vec<usize>, made: &str) {
        for step in steps {
            let (tensor, input) = (&step.tensor, shape[0]);
            let (layer, done) = match &step.layer {
                Layer::Convolution { channels, kernel, stride, padding, groups, bias } => {
                    let bias = if *bias { "" } else { ", bias=False" };
                    let layer = format!(
                        "nn.Conv2d({input}, {channels}, {kernel}, stride={stride}, padding={padding}, groups={groups}{bias})"
                    );
                    (Some(layer), format!("self.{tensor}(x)"))
                }
                Layer::BatchNorm => (Some(format!("nn.BatchNorm2d({input}, eps={EPSILON})")), format!("self.{tensor}(x)")),
                Layer::Linear { outputs, .. } => {
                    (Some(format!("nn.Linear({input}, {outputs})")), format!("self.{tensor}(x)"))
                }
                Layer::Relu => (None, "F.relu(x)".to_owned()),
                Layer::LocalResponse { size, alpha, beta } => {
                    (None, format!("F.local_response_norm(x, {size}, alpha={alpha}, beta={beta}, k=1.0)"))
                }
                Layer::MaxPool { kernel, stride, padding, ceil } => {
                    let ceil = if *ceil { ", ceil_mode=True" } else { "" };
                    (None, format!("F.max_pool2d(x, {kernel}, stride={stride}, padding={padding}{ceil})"))
                }
                Layer::AveragePool { side } => (None, format!("F.adaptive_avg_pool2d(x, {side})")),
                Layer::Flatten => (None, "torch.flatten(x, 1)".to_owned()),
                Layer::Dropout(probability) => (None, format!("F.dropout(x, {probability}, self.training)")),
                Layer::Residual { .. } => unreachable!("no network that torchvision does not have goes two ways"),
            };
            self.made.extend(layer.map(|layer| format!("{made}self.{tensor} = {layer}")));
            self.done.push(format!("x = {done}"));
            if let Some(name) = step.name {
                self.done.push(format!("if layer == \"{name}\":"));
                self.done.push("    return x".to_owned());
            }
            *shape = step.shape(shape).unwrap_or_default();
        }
    }
}

/// `small` as a class is named.
fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tensor_and_each_step_is_there() {
        let text = source();
        for name in OWN {
            let start = text.find(&format!("class {}(", capitalised(name.text()))).unwrap();
            let class = text[start..].split("\n\n\n").next().unwrap();
            let network = name.network();
            for step in network.trunk.iter().chain(&(network.classes)(7)) {
                assert!(!step.tensor.contains('.'), "it is no name of Python: {}", step.tensor);
                if !step.tensor.is_empty() {
                    assert_eq!(class.matches(&format!("self.{}(x)", step.tensor)).count(), 1, "{class}");
                    assert_eq!(class.matches(&format!("self.{} = nn.", step.tensor)).count(), 1, "{class}");
                }
            }
            let pools = network.trunk.iter().filter(|step| matches!(step.layer, Layer::MaxPool { .. })).count();
            assert_eq!(class.matches("F.max_pool2d(").count(), pools);
            assert!(!class.contains(&CLASSES.to_string()) && class.contains(", classes)"), "{class}");
        }
        let small = text.split("class Small(").nth(1).unwrap();
        let end = "        x = self.bn5(x)\n        x = F.relu(x)\n        if layer == \"conv5\":\n            return x\n        \
                   x = F.max_pool2d(x, 2, stride=2, padding=0)\n        if not self.classes:\n            return x\n";
        assert!(small.contains(end), "{small}");
    }
}
