"""Numbers that tests and generators both make, by formulas."""

import numpy as np


def units(count, number=0):
    """`((i · 7919 + number · 104729) mod 1009) / 1009 - 0.5`, the `i`-th of so many."""
    i = np.arange(count, dtype=np.int64)
    return ((i * 7919 + number * 104_729) % 1009) / 1009 - 0.5


def weighted(values):
    """The sum of values, each times its place's unit: values in other places give another sum."""
    values = np.asarray(values, dtype=float).ravel()
    return float(values @ units(len(values)))


def fill(network, gain):
    """Fills a network's tensors, in their order: those of more than one dimension by `units` times `sqrt(gain / fan-in)`, others
    by `units` times 0.2; weights and variances of normalisations are 1 more. In single precision, as the tests have them."""
    import torch

    tensors = [(name, tensor) for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")]
    for number, (name, tensor) in enumerate(tensors):
        values = units(tensor.numel(), number)
        if tensor.dim() == 1:
            values = values * 0.2 + name.endswith(("weight", "running_var"))
        else:
            values = values * (gain / tensor[0].numel()) ** 0.5
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).view(tensor.shape))
    return network
