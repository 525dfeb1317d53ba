"""Images and masks brought to a square: torchvision's `resized_crop` of a part, and its `Resize` and `CenterCrop`, of Pillow images."""

import numpy as np
from PIL import Image
from torchvision.transforms import functional

from rust import Golden, Raw, literal

CROPS, SQUARES, MASKS = "operators/src/augment/tests.rs", "operators/src/decode.rs", "operators/src/picture/mask/tests.rs"
SIDE = 6
# Left, top, width and height in an image of 24 x 20 pixels: made smaller, the whole image, and made larger.
WINDOWS = [(3, 2, 17, 11), (0, 0, 24, 20), (5, 4, 4, 5)]
# Columns and rows: wide, high, and smaller than the square.
SIZES = [(31, 20), (20, 37), (5, 4)]
# Columns, rows and side of masks: the same, and sizes of which a third or a tenth of a pixel is summed up to a whole one.
MASK_SIZES = [(31, 20, 6), (20, 37, 6), (5, 4, 6), (500, 375, 9), (333, 500, 7), (100, 100, 30)]


def image(width, height):
    i = np.arange(height * width * 3, dtype=np.int64)
    return Image.fromarray(((i * i * 31 + i * 17) % 251).astype(np.uint8).reshape(height, width, 3))


def mask(width, height):
    y, x = np.mgrid[:height, :width]
    made = Image.fromarray(((x * x * 31 + x * y * 7 + y * 17) % 251).astype(np.uint8))
    made.putpalette(bytes(256 * 3))  # all black: colours have no part in it
    return made


def square(width, height):
    return functional.center_crop(functional.resize(image(width, height), SIDE), SIDE)


def mask_square(width, height, side):
    small = functional.resize(mask(width, height), side, functional.InterpolationMode.NEAREST)
    return functional.center_crop(small, side)


def mask_crop(left, top, width, height):
    nearest = functional.InterpolationMode.NEAREST
    return functional.resized_crop(mask(24, 20), top, left, height, width, [SIDE, SIDE], nearest)


def crop(left, top, width, height):
    return functional.resized_crop(image(24, 20), top, left, height, width, [SIDE, SIDE])


def goldens():
    values = lambda made: np.asarray(made).ravel().tolist()
    window = lambda left, top, width, height: Raw(f"Window {{ left: {left}, top: {top}, width: {width}, height: {height} }}")
    crops = [(window(*of), values(crop(*of))) for of in WINDOWS]
    yield Golden(CROPS, "const CROPS: [(Window, [u8; 108]); 3] =", literal(crops))
    squares = [(*size, values(square(*size))) for size in SIZES]
    yield Golden(SQUARES, "const SQUARES: [(u32, u32, [u8; 108]); 3] =", literal(squares))
    masks = [(window(*of), values(mask_crop(*of))) for of in WINDOWS]
    yield Golden(CROPS, "const MASKS: [(Window, [u8; 36]); 3] =", literal(masks))
    # Of a large square, the sum of each value times its place.
    weighted = lambda made: sum(value * (place + 1) for place, value in enumerate(values(made)))
    squares = [(*size, weighted(mask_square(*size))) for size in MASK_SIZES]
    yield Golden(MASKS, "const SQUARES: [(usize, usize, usize, u64); 6] =", literal(squares))
    firsts = [values(mask_square(*size)) for size in MASK_SIZES[:3]]
    yield Golden(MASKS, "const FIRST: [[u8; 36]; 3] =", literal(firsts))
