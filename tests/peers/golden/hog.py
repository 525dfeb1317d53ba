"""Histograms of oriented gradients: scikit-image's `feature.hog`."""

import numpy as np
from skimage.color import rgb2gray
from skimage.feature import hog

from made import weighted
from rust import Golden, Raw, literal

FILE = "operators/src/hog.rs"
FOUR = {"cell": 4, "block": 2}
CONFIGS = [
    *[{**FOUR, "norm": norm} for norm in ("l2-hys", "l2", "l1", "l1-sqrt")],
    {**FOUR, "sqrt": True},
    {**FOUR, "gray": True},
    {**FOUR, "gray": True, "sqrt": True},
    {"orientations": 8, "cell": 3, "block": 3},
]


def image():
    """13 x 17 pixels."""
    y, x, c = np.mgrid[:13, :17, :3]
    return (x * x * 3 + y * y * 5 + x * y * 7 + c * (x * 11 + y * 2) + c * 37).astype(np.uint8)


def vector(config):
    gray = config.get("gray", False)
    norms = {"l2-hys": "L2-Hys", "l2": "L2", "l1": "L1", "l1-sqrt": "L1-sqrt"}
    return hog(
        rgb2gray(image()) if gray else image(),
        orientations=config.get("orientations", 9),
        pixels_per_cell=[config["cell"]] * 2,
        cells_per_block=[config["block"]] * 2,
        block_norm=norms[config.get("norm", "l2-hys")],
        transform_sqrt=config.get("sqrt", False),
        channel_axis=None if gray else -1,
    )


def goldens():
    key = lambda value: {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else literal(value)
    table = []
    for config in CONFIGS:
        found = vector(config)
        text = ", ".join(f'"{name}": {key(value)}' for name, value in config.items())
        table.append((Raw(f'r#"{{{text}}}"#'), len(found), found[:12].tolist(), weighted(found)))
    yield Golden(FILE, "const GOLDEN: [(&str, usize, [f32; 12], f64); 8] =", literal(table, ".6f"), 1e-6)
