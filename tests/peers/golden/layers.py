"""The layers of networks, value by value: torchvision's, in double precision, with tensors and images by formulas.

Of `alexnet`, `small` and `medium`, which torchvision has not, the layers are PyTorch's."""

import itertools

import numpy as np
import torch
import torchvision
from torch import nn

from made import fill, weighted
from rust import Golden, Raw, literal

TESTS = "operators/src/torch/forward/tests.rs"
# Parts of the golden ratio: two places in each image, none on a map's edge throughout.
PLACES = [0.236, 0.472, 0.618, 0.854]


def alexnet():
    """The paper's AlexNet, in the sizes of Caffe's reference network."""
    pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(
        *[nn.Conv2d(3, 96, 11, 4), nn.ReLU(), pool(), nn.LocalResponseNorm(5)],
        *[nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), pool(), nn.LocalResponseNorm(5)],
        *[nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()],
        *[nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()],
        *[nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), pool()],
    )


def plain(depth):
    """Five blocks of so many 3x3 convolutions with batch normalisation, pooled behind the first, second and last."""
    steps, channels = [], 3
    for outputs, pool in [(32, True), (64, True), (128, False), (192, False), (192, True)]:
        for _ in range(depth):
            steps += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            channels = outputs
        steps += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(*steps)


def relus(network):
    return [step for step in network if isinstance(step, nn.ReLU)]


def of_vgg(network):
    return [before for before, step in itertools.pairwise(network.features) if isinstance(step, nn.MaxPool2d)]


def of_resnet(network):
    return [network.relu, *[layer[-1] for layer in (network.layer1, network.layer2, network.layer3, network.layer4)]]


# Each network's name in Rust, how it is made, its five layers, and the side of its images.
NETWORKS = [
    ("Alexnet", alexnet, relus, 67),
    ("AlexnetTorchvision", torchvision.models.alexnet, lambda network: relus(network.features), 67),
    ("Small", lambda: plain(1), relus, 24),
    ("Medium", lambda: plain(2), lambda network: relus(network)[1::2], 24),
    ("Vgg16", torchvision.models.vgg16, of_vgg, 32),
    ("Vgg16Bn", torchvision.models.vgg16_bn, of_vgg, 32),
    ("Resnet18", torchvision.models.resnet18, of_resnet, 48),
    ("Resnet50", torchvision.models.resnet50, of_resnet, 48),
]


@torch.no_grad()
def outputs(make, layers, side):
    """Each layer's output, for two images."""
    network, found = fill(make(), 24).double().eval(), []
    for step in network.modules():
        if isinstance(step, nn.ReLU):
            step.inplace = False
    for layer in layers(network):
        layer.register_forward_hook(lambda *call: found.append(call[-1]))
    i = np.arange(2 * 3 * side * side, dtype=np.int64)
    images = ((i * i * 31 + i * 17) % 251).astype(np.float32) / np.float32(125) - np.float32(1)
    network(torch.from_numpy(images.astype(float)).view(2, 3, side, side))
    return found


def golden(output):
    """Its shape; values by their places in it, which are spread over all of it, and none of them 0; and the weighted sum."""
    values = output.contiguous().numpy().ravel()
    place = lambda start: start + int(np.flatnonzero(values[start:] > values.mean())[0])
    places = [place(int(len(values) * part)) for part in PLACES]
    return [*output.shape], [(at, float(values[at])) for at in places], weighted(values)


def goldens():
    of = lambda *network: [golden(output) for output in outputs(*network)]
    table = [(Raw(f"Name::{name}"), side, of(make, layers, side)) for name, make, layers, side in NETWORKS]
    yield Golden(TESTS, f"const GOLDEN: [(Name, usize, [Output; 5]); {len(table)}] =", literal(table), 2e-7)
