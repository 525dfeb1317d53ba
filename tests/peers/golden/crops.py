"""Images brought to a square: torchvision's `resized_crop` of a part, and its `Resize` and `CenterCrop`, of Pillow images."""

import numpy as np
from PIL import Image
from torchvision.transforms import functional

from rust import Golden, Raw, literal

CROPS, SQUARES = "operators/src/augment/tests.rs", "operators/src/decode.rs"
SIDE = 6
# Left, top, width and height in an image of 24 x 20 pixels: made smaller, the whole image, and made larger.
WINDOWS = [(3, 2, 17, 11), (0, 0, 24, 20), (5, 4, 4, 5)]
# Columns and rows: wide, high, and smaller than the square.
SIZES = [(31, 20), (20, 37), (5, 4)]


def image(width, height):
    i = np.arange(height * width * 3, dtype=np.int64)
    return Image.fromarray(((i * i * 31 + i * 17) % 251).astype(np.uint8).reshape(height, width, 3))


def square(width, height):
    return functional.center_crop(functional.resize(image(width, height), SIDE), SIDE)


def crop(left, top, width, height):
    return functional.resized_crop(image(24, 20), top, left, height, width, [SIDE, SIDE])


def goldens():
    values = lambda made: np.asarray(made).ravel().tolist()
    window = lambda left, top, width, height: Raw(f"Window {{ left: {left}, top: {top}, width: {width}, height: {height} }}")
    crops = [(window(*of), values(crop(*of))) for of in WINDOWS]
    yield Golden(CROPS, "const CROPS: [(Window, [u8; 108]); 3] =", literal(crops))
    squares = [(*size, values(square(*size))) for size in SIZES]
    yield Golden(SQUARES, "const SQUARES: [(u32, u32, [u8; 108]); 3] =", literal(squares))
