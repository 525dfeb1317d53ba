"""How many parameters torchvision's networks train, for 1,000 classes."""

import torchvision

from rust import Golden, literal

TESTS = "operators/src/torch/network.rs"
NETWORKS = {
    "AlexnetTorchvision": "alexnet",
    "Vgg16": "vgg16",
    "Vgg16Bn": "vgg16_bn",
    "Resnet18": "resnet18",
    "Resnet50": "resnet50",
}


def goldens():
    for name, make in NETWORKS.items():
        count = sum(parameter.numel() for parameter in getattr(torchvision.models, make)().parameters())
        yield Golden(TESTS, f"assert_eq!(count(Name::{name}, 224),", literal(count))
