"""Folders of made images, and pipelines over them. The binary is the one that tessera.open finds: $TESSERA, say."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import tessera

#: Colours of the classes of images.
CLASSES = {"green": (40, 200, 60), "red": (220, 40, 40), "blue": (30, 60, 220)}

HOG = """
stage.images   = { op = "images", path = "photos" }
stage.decoded  = { op = "decode", input = "images", side = 32 }
stage.features = { op = "hog", input = "decoded" }
stage.clusters = { op = "kmeans", input = "features", k = 3 }
stage.assigned = { op = "assign", inputs = { features = "features", clusters = "clusters" } }
"""
SWEEP = """
[sweep]
"clusters.k" = [2, 3]
"""
TRAINED = """
stage.images  = { op = "images", path = "photos" }
stage.decoded = { op = "decode", input = "images", side = 64 }
stage.puzzles = { op = "jigsaw", input = "decoded", grid = 2, tile = 28, permutations = 24, min_distance = 2, max_occluded = 1 }
stage.pretext = { op = "train", input = "puzzles", network = "small", epochs = 1, batch = 30 }
stage.random  = { op = "weights", network = "resnet18" }
"""


def paint(path: Path, at: int) -> None:
    """Makes an image of 72 x 64 pixels that differs from all of other numbers."""
    colour = list(CLASSES.values())[at % 3]
    image = Image.new("RGB", (72, 64))
    pixels = image.load()
    assert pixels is not None
    for x in range(72):
        for y in range(64):
            wave = ((x * (at % 7 + 1) + y * (at % 5 + 1)) * 9 + at * 31) % 64
            pixels[x, y] = tuple(min(255, max(0, c + wave - at % 11)) for c in colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def photos(folder: Path, count: int) -> None:
    """Fills `photos`, a sub-folder a class."""
    for at in range(count):
        paint(folder / "photos" / list(CLASSES)[at % 3] / f"{at:04}.png", at)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder with photos and a pipeline file, and returns the file."""

    def make(text: str = HOG, count: int = 24, name: str = "place", file: str = "pipeline.toml") -> Path:
        folder = tmp_path_factory.mktemp("tessera") / name
        folder.mkdir()
        photos(folder, count)
        path = folder / file
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.fixture(scope="session")
def made(place: Callable[..., Path]) -> tessera.Pipeline:
    """A pipeline that was run, in a folder with spaces and letters that are not English. No test changes it."""
    pipeline = tessera.open(place(name="Fotos für Ωmega, 2", file="größe & co.toml"))
    pipeline.run()
    return pipeline


@pytest.fixture(scope="session")
def swept(place: Callable[..., Path]) -> tessera.Pipeline:
    """A pipeline with a sweep that was run."""
    pipeline = tessera.open(place(HOG + SWEEP))
    pipeline.run()
    return pipeline


@pytest.fixture(scope="session")
def trained(place: Callable[..., Path]) -> tessera.Pipeline:
    """A pipeline with a network that was trained a little."""
    pipeline = tessera.open(place(TRAINED, count=30))
    with warnings.catch_warnings():
        # It has learnt nothing.
        warnings.simplefilter("ignore", tessera.Note)
        pipeline.run()
    return pipeline
