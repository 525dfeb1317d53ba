"""A training checkpoint as `torch.save` writes it, byte by byte: a number, and a state dict of tensors that share a storage, lie in it
with strides, are a parameter, or are of other types."""

import collections, io

import torch
from torch import nn

from rust import Golden, literal

TESTS = "operators/src/tensor_file/pytorch/golden.rs"
# Hexadecimal digits a line.
LINE = 112


def goldens():
    storage = torch.arange(6, dtype=torch.float32) * 0.5
    state = collections.OrderedDict()
    state["a.weight"] = storage.view(2, 3).t()
    state["a.bias"] = storage[4:]
    state["b.weight"] = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.bfloat16))
    state["b.num_batches_tracked"] = torch.tensor(7)
    file = io.BytesIO()
    torch.save({"epoch": 3, "state_dict": state}, file)
    digits = file.getvalue().hex()
    lines = [digits[at : at + LINE] for at in range(0, len(digits), LINE)]
    yield Golden(TESTS, f"pub const CHECKPOINT: [&str; {len(lines)}] =", literal(lines))
