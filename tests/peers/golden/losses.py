"""The loss of `small` on puzzles of nine tiles: PyTorch, in double precision, of a network written here from its description."""

import numpy as np
import torch
from torch import nn

from made import fill
from rust import Golden, Raw, literal

TESTS = "operators/src/torch/train/tests/steps.rs"
COUNT, TILES, SIDE, PERMUTATIONS = 8, 9, 16, 701


class Puzzles(nn.Module):
    """`small` without dropout: five convolutions and `fc6` on each tile, `fc7` and `fc8` on all tiles side by side."""

    def __init__(self):
        super().__init__()
        channels = 3
        for number, (outputs, pool) in enumerate([(32, True), (64, True), (128, False), (192, False), (192, True)], 1):
            setattr(self, f"conv{number}", nn.Conv2d(channels, outputs, 3, padding=1, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(outputs))
            channels = outputs
        self.pooled = [1, 2, 5]
        self.fc6, self.bn6 = nn.Linear(192 * 2 * 2, 256), nn.BatchNorm1d(256)
        self.fc7, self.bn7 = nn.Linear(TILES * 256, 1024), nn.BatchNorm1d(1024)
        self.fc8 = nn.Linear(1024, PERMUTATIONS)

    def forward(self, x):
        for number in range(1, 6):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)).relu()
            if number in self.pooled:
                x = nn.functional.max_pool2d(x, 2)
        x = self.bn6(self.fc6(x.flatten(1))).relu().view(COUNT, -1)
        return self.fc8(self.bn7(self.fc7(x)).relu())


def tiles(per_channel):
    """Tiles of bytes by a formula, `H x W x C` each, normalised by their own mean and deviation."""
    i = np.arange(COUNT * TILES * SIDE * SIDE * 3, dtype=np.int64)
    x = torch.from_numpy(((i * i * 31 + i * 17 + (i // 768) * 101) % 251).astype(float))
    x = x.view(COUNT * TILES, SIDE, SIDE, 3).permute(0, 3, 1, 2)
    over = [2, 3] if per_channel else [1, 2, 3]
    return (x - x.mean(over, keepdim=True)) / x.std(over, unbiased=False, keepdim=True)


@torch.no_grad()
def loss(normalisation, mode):
    network = fill(Puzzles(), 72).double().train(mode == "Train")
    classes = torch.arange(COUNT) * 37 % PERMUTATIONS
    return nn.functional.cross_entropy(network(tiles(normalisation == "OwnPerChannel")), classes).item()


def goldens():
    cases = [("Own", "Evaluate"), ("OwnPerChannel", "Evaluate"), ("Own", "Train")]
    table = [(Raw(f"Normalisation::{of}"), Raw(f"Mode::{mode}"), loss(of, mode)) for of, mode in cases]
    yield Golden(TESTS, "let golden =", literal(table, ".7f"), 1e-7)
