"""Two steps of SGD and of AdamW, and learning rates over 12 steps: PyTorch's `optim` in double precision."""

import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR, StepLR

from rust import Golden, literal

STEPS, RATES = "operators/src/torch/optimizer.rs", "operators/src/torch/schedule.rs"


def two_steps(make, smoothing, clip):
    """Weights and bias of a linear layer of two classes, behind each step."""
    double = lambda values, *shape: torch.tensor(values, dtype=torch.double).view(*shape)
    weight = double([1.0, -2.0, 0.5, 0.25, 1.5, -0.75], 2, 3).requires_grad_()
    bias = double([0.3, -0.1], 2).requires_grad_()
    x, classes = double([0.5, 1.0, -1.0, 2.0, 0.0, 0.25, -1.5, 0.5, 1.0], 3, 3), torch.tensor([0, 1, 1])
    optimizer = make([{"params": weight, "weight_decay": 0.01}, {"params": bias, "weight_decay": 0}])
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(x @ weight.T + bias, classes, label_smoothing=smoothing).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_([weight, bias], clip)
        optimizer.step()
        yield weight.detach().ravel().tolist() + bias.detach().tolist()


def rates(course):
    """The rate before each of 12 steps, four of them a warm-up."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    schedule = SequentialLR(optimizer, [LinearLR(optimizer, 0.01, total_iters=4), course(optimizer)], [4])
    for _ in range(12):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()


def goldens():
    clipped = two_steps(lambda groups: SGD(groups, lr=0.5, momentum=0.9), 0.1, 0.1)
    adamw = two_steps(lambda groups: AdamW(groups, lr=0.1), 0.0, None)
    yield Golden(STEPS, "const GOLDEN: [[f64; 8]; 4] =", literal([*clipped, *adamw], ".8f"), 1e-8)
    cosine = rates(lambda optimizer: CosineAnnealingLR(optimizer, 12 - 4))
    step = rates(lambda optimizer: StepLR(optimizer, 3, 0.5))
    yield Golden(RATES, "const GOLDEN_COSINE: [f64; 12] =", literal([*cosine], ""), 1e-12)
    yield Golden(RATES, "const GOLDEN_STEP: [f64; 12] =", literal([*step], ""), 1e-12)
