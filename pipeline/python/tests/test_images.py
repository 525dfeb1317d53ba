"""Images by their ids, pictures, and weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tessera
from conftest import HOG, paint


def test_images_come_in_the_order_of_their_ids(made: tessera.Pipeline) -> None:
    ids = ["red/0001.png", "blue/0002.png", "red/0001.png", "green/0000.png"]
    images = made.images(ids)
    folder = made.path.parent / "photos"
    assert [image.size for image in images] == [(72, 64)] * 4
    for image_id, image, data in zip(ids, images, made.images(iter(ids), raw=True)):
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(folder / image_id)))
        assert data == (folder / image_id).read_bytes()
    arrow = made.sql("SELECT image_id FROM assigned ORDER BY distance LIMIT 3").to_arrow()
    assert len(made.images(arrow["image_id"])) == len(made.images(arrow.to_pandas()["image_id"])) == 3
    assert made.images([]) == []
    with pytest.raises(TypeError, match="a list of ids"):
        made.images("red/0001.png")


def test_ids_that_are_not_there_are_named(made: tessera.Pipeline) -> None:
    with pytest.raises(tessera.Error, match="no such images in `images`: `x`, `red/9999.png`$"):
        made.images(["red/0001.png", "x", "red/9999.png", "x"])
    with pytest.raises(tessera.Error, match="`19`.* and 10 more$|`9` and 10 more$"):
        made.images(map(str, range(20)))
    with pytest.raises(tessera.Error, match="no column `source`"):
        made.images(["red/0001.png"], stage="features")


def test_files_that_changed_are_told(place: Callable[..., Path]) -> None:
    pipeline = tessera.open(place(count=6))
    pipeline.run()
    file = pipeline.path.parent / "photos" / "red" / "0001.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline.images(["red/0001.png"])
    os.utime(file, (1, 1))
    with pytest.warns(tessera.Note, match="written to since it was listed"):
        pipeline.images(["red/0001.png"])
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.warns(tessera.Note), pytest.raises(tessera.Error, match="bytes there, and the table says"):
        pipeline.images(["red/0001.png"])
    file.unlink()
    with pytest.raises(tessera.Error, match="0001.png cannot be read: No such file"):
        pipeline.images(["red/0001.png"])


def test_what_is_no_picture_is_told(place: Callable[..., Path]) -> None:
    file = place(count=3)
    (file.parent / "photos" / "red" / "odd.png").write_text("no picture")
    pipeline = tessera.open(file)
    pipeline.run(to="images")
    with pytest.raises(tessera.Error, match="`red/odd.png` is no picture"):
        pipeline.images(["red/odd.png"])
    assert pipeline.images(["red/odd.png"], raw=True) == [b"no picture"]


def test_folders_are_found_as_the_binary_finds_them(place: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "Bilder ü" / "a.png", 1)
    monkeypatch.setenv("BILDER", "Bilder ü")
    monkeypatch.setenv("HOME", str(tmp_path))
    file = place(HOG.replace('path = "photos"', '\npath = "~/${BILDER}", # TOML 1.1\n'), count=0)
    pipeline = tessera.open(file, set={"clusters.k": 1})
    heard: list[tessera.Event] = []
    pipeline.run(to="images", on_progress=heard.append)
    assert heard and pipeline.images(["a.png"])[0].size == (72, 64)
    other = tessera.open(file, set={"images.path": tmp_path / "Bilder ü", "clusters.k": 1})
    assert other.images(["a.png"])[0].size == (72, 64)
    monkeypatch.delenv("BILDER")
    with pytest.warns(tessera.Note), pytest.raises(tessera.Error, match="the environment variable `BILDER` is not set"):
        tessera.open(file).images(["a.png"])


def test_a_file_with_two_stages_of_images_is_asked_which(place: Callable[..., Path]) -> None:
    text = 'stage.one = { op = "images", path = "photos" }\nstage.two = { op = "images", path = "photos/red" }\n'
    pipeline = tessera.open(place(text, count=6))
    pipeline.run()
    with pytest.raises(tessera.Error, match="2 stages of images; say which by `stage`: one, two"):
        pipeline.images(["0001.png"])
    assert len(pipeline.images(["0001.png", "0004.png"], stage="two")) == 2


def test_a_stage_is_shown(made: tessera.Pipeline) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = made.show("assigned", count=2, clusters=[0])
    assert picture.width > 72 and picture.height > 32
    with pytest.raises(tessera.Error):
        made.show("clusters")


def test_weights_have_torchvisions_names(trained: tessera.Pipeline) -> None:
    table = {row["tensor"]: row for row in trained.table("pretext").to_arrow().to_pylist()}
    weights = trained.weights("pretext", framework="numpy")
    assert set(weights) == set(table) and len(weights) > 10
    for name, array in weights.items():
        assert list(array.shape) == table[name]["shape"] and array.tobytes() == table[name]["data"]
    assert "layer1.0.conv1.weight" in trained.weights("random", framework="numpy")
    with pytest.raises(tessera.Error, match="stage `images` has no weights"):
        trained.weights("images", framework="numpy")
    with pytest.raises(ValueError, match='"torch" or "numpy"'):
        trained.weights("pretext", framework="jax")
    loss = trained.metrics("pretext").to_pandas()
    assert "epoch_loss" in set(loss["name"]) and set(loss["stage"]) == {"pretext"}


def test_weights_go_into_torchvisions_networks(trained: tessera.Pipeline) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    model = torchvision.models.resnet18()
    weights = trained.weights("random")
    loaded = model.load_state_dict(weights, strict=False)
    assert not loaded.unexpected_keys, loaded.unexpected_keys
    assert torch.equal(model.state_dict()["layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"])


def test_a_column_is_a_tensor(made: tessera.Pipeline) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    table = made.table("features")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = table.torch("feature")
    assert tensor.dtype == torch.float32 and np.array_equal(tensor.numpy(), table.numpy("feature"))
    before = table.numpy("feature").copy()
    tensor.zero_()
    assert np.array_equal(table.numpy("feature"), before)
    assert made.table("decoded").torch("pixels").shape == (24, 32, 32, 3)
