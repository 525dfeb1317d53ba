"""Brightness, contrast, saturation, hue and gray on bytes: torchvision's `functional` on Pillow images."""

import numpy as np
from PIL import Image
from torchvision.transforms import functional

from rust import Golden, Raw, literal

TESTS, CUT = "operators/src/augment/tests.rs", "operators/src/jigsaw/tests.rs"
COLOURS = [[200, 30, 40], [10, 250, 130], [0, 0, 255], [17, 17, 17], [255, 254, 1], [90, 60, 120]]
CHANGES = [
    ("Brightness", 0.5), ("Brightness", 1.7), ("Contrast", 0.3), ("Contrast", 1.6),
    ("Saturation", 0.4), ("Saturation", 1.9), ("Hue", 0.1), ("Hue", -0.25),
]  # fmt: skip


def row(colours):
    return Image.fromarray(np.array(colours, dtype=np.uint8)[None])


def changed(image, name, by):
    return np.asarray(getattr(functional, f"adjust_{name.lower()}")(image, by))[0]


def gray(image):
    return np.asarray(functional.to_grayscale(image, num_output_channels=3))[0]


def weighted(rows):
    """The sum of all bytes, the i-th times i mod 65521 + 1."""
    values = rows.astype(np.uint64).ravel()
    return int((values * (np.arange(len(values), dtype=np.uint64) % 65_521 + 1)).sum())


def goldens():
    few = row(COLOURS)
    change = lambda name, by: Raw(f"Change::{name}({by})")
    table = [(change(*of), changed(few, *of).tolist()) for of in CHANGES]
    yield Golden(TESTS, "let golden: [(Change, [[u8; 3]; 6]); 8] =", literal(table))
    grays = literal(gray(few)[:, 0].tolist())
    yield Golden(TESTS, "colour::gray(&mut found); assert_eq!(found,", grays + ".map(|gray| [gray; 3]).concat()")
    # All colours of steps of 5, blue running fastest. (At half the brightness, all that is tested is rounding.)
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    cube = row(np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3))
    sums = [(change(*of), weighted(changed(cube, *of))) for of in CHANGES[1:]]
    yield Golden(TESTS, "const GOLDEN: [(Change, u64); 7] =", literal(sums))
    yield Golden(TESTS, "const GOLDEN_GRAY: u64 =", literal(weighted(gray(cube))))
    luma = np.asarray(row([[255, 255, 255], [10, 100, 200]]).convert("L"))[0].tolist()
    yield Golden(CUT, "assert_eq!(luma([255, 255, 255]),", literal(luma[0]))
    yield Golden(CUT, "assert_eq!(luma([10, 100, 200]),", literal(luma[1]))
