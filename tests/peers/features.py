"""Features of torchvision's networks, for the test `features_equal_pytorchs` (operators/src/torch/infer/tests.rs).

    pip install numpy==2.4.6 pillow==13.0.0 safetensors==0.8.0 torch==2.11.0 torchvision==0.26.0
    python tests/peers/features.py FOLDER
    TESSERA_PARITY_DIR=FOLDER cargo test --release -p tessera-operators features_equal_pytorchs -- --ignored --nocapture

Writes two pictures of noise (`input/a.png`, `input/b.png`), networks with weights drawn from a seed (AlexNet's as tensors,
SqueezeNet's as TorchScript), and the features that they give, a row an image (`expected.safetensors`): each of AlexNet's layers
behind its ReLU, max-pooled to 5 x 5 and flattened C, H, W; the mean over SqueezeNet's last maps. They are computed in double
precision.
"""

import argparse, pathlib

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def picture(seed):
    """224 x 224 pixels of noise on several scales, as photographs have it."""
    rng = np.random.default_rng(seed)
    bytes_of = lambda side: rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    noise = lambda side: Image.fromarray(bytes_of(side)).resize([224, 224], Image.BICUBIC)
    return Image.blend(Image.blend(noise(4), noise(28), 0.4), noise(224), 0.2)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    (folder / "input").mkdir(parents=True, exist_ok=True)
    pictures = {"a": picture(1), "b": picture(2)}
    for name, image in pictures.items():
        image.save(folder / "input" / f"{name}.png")
    values = torch.stack([torch.from_numpy(np.asarray(image).astype(float)).permute(2, 0, 1) / 255 for image in pictures.values()])
    of_channels = lambda numbers: torch.tensor(numbers, dtype=torch.double).view(3, 1, 1)
    images = (values - of_channels(MEAN)) / of_channels(DEVIATION)

    torch.manual_seed(1)
    alexnet, squeezenet = torchvision.models.alexnet().eval(), torchvision.models.squeezenet1_1().features.eval()
    tensors = {name: tensor for name, tensor in alexnet.state_dict().items() if name.startswith("features.")}
    save_file(tensors, folder / "alexnet_torchvision_features.safetensors")
    torch.jit.script(squeezenet).save(folder / "squeezenet1_1_features.pt")

    expected, maps, layer = {}, images, 0
    for step in alexnet.double().features:
        maps = step(maps)
        if isinstance(step, nn.ReLU):
            layer += 1
            expected[f"alexnet_conv{layer}"] = nn.functional.adaptive_max_pool2d(maps, 5).flatten(1)
    expected["squeezenet1_1"] = squeezenet.double()(images).mean([2, 3])
    save_file({name: rows.float().contiguous() for name, rows in expected.items()}, folder / "expected.safetensors")
    for name, rows in expected.items():
        print(f"{name}: {rows.shape[0]} rows of {rows.shape[1]}, up to {rows.max():.3f}")


if __name__ == "__main__":
    main()
