"""Weights beside PyTorch: what `torch.save` and safetensors hold of torchvision's networks becomes the same table, and TorchScript models
of several outputs give the features that PyTorch computes.

    pip install numpy==2.4.6 pillow==13.0.0 pyarrow safetensors==0.8.0 torch==2.11.0 torchvision==0.26.0
    python tests/peers/weights.py TESSERA

Each file is read by a stage of its own; `diff` compares the tables by their digests, and `export` gives back the tensors, which are held
against the network's, bit by bit.
"""

import argparse, collections, json, os, subprocess, sys, tempfile, time
from typing import Dict, List, Tuple

import numpy as np
import pyarrow.parquet as pq
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

BINARY = os.path.abspath(sys.argv[1])
NETWORKS = {"resnet18": "resnet18", "alexnet": "alexnet-torchvision", "vgg16": "vgg16"}
SIDE = 32


def tessera(*arguments, code=0):
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True)
    if done.returncode != code:
        sys.exit(f"tessera {' '.join(arguments)}: {done.returncode}\n{done.stderr}")
    return done.stdout if code == 0 else " ".join(done.stderr.split())


def weights_table(path, network, state=None):
    """Runs the stage on a file; the seconds that it took."""
    keys = f', state = "{state}"' if state is not None else ""
    keys += f', network = "{network}"' if network else ""
    with open("w.toml", "w") as file:
        file.write(f'[stage]\nnet = {{ op = "weights", path = "{path}"{keys} }}\n')
    start = time.time()
    tessera("run", "w.toml", "-q")
    return time.time() - start


def exported():
    tessera("export", "w.toml", "net", "-q", "--force", "-o", "out.safetensors")
    return load_file("out.safetensors")


def equal(found, expected, what):
    assert found.keys() == expected.keys(), (what, found.keys() ^ expected.keys())
    for name, tensor in expected.items():
        same = found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        assert same, (what, name)


def networks():
    for name, network in NETWORKS.items():
        torch.manual_seed(1)
        state = getattr(torchvision.models, name)().state_dict()
        torch.save(state, f"{name}.pth")
        save_file(state, f"{name}.safetensors")
        took = {ending: weights_table(f"{name}.{ending}", network) for ending in ["safetensors", "pth"]}
        difference = json.loads(tessera("diff", "w.toml", "net", "--format", "json"))
        equal(exported(), state, name)
        print(f"{name}: {len(state)} tensors equal; {took} s; diff says {json.dumps(difference)[:300]}")


def checkpoints():
    """What training leaves in files, each with the state dict that it should give."""
    torch.manual_seed(2)
    model = torchvision.models.resnet18()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.zeros(2, 3, 64, 64)).sum().backward()
    optimizer.step()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    args, rng = argparse.Namespace(lr=0.1, out=os), torch.get_rng_state()
    args.out = "x" * 5000
    numbers = {"epoch": 3, "best_acc1": torch.tensor([0.5]), "seed": 2**63 + 1, "loss": np.float64(3), "curve": np.zeros(9)}
    wrapped = nn.DataParallel(model).state_dict()
    files = {
        "example": ({"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "args": args, "rng": rng, **numbers}, None),
        "student and teacher": ({"student": model.state_dict(), "teacher": wrapped, "optimizer": optimizer.state_dict()}, "student"),
        "wrapped": ({"model": wrapped}, None),
        "nested": ({"classy_state_dict": {"base_model": {"model": {"trunk": model.state_dict()}}}, "loss": torch.tensor(1.0)}, None),
        "parameters": (dict(model.named_parameters()), None),
        "halves": ({name: tensor.half() for name, tensor in model.state_dict().items()}, None),
        "bfloat16": ({name: tensor.bfloat16() for name, tensor in model.state_dict().items()}, None),
        "doubles": ({name: tensor.double() for name, tensor in model.state_dict().items()}, None),
        "channels last": (model.to(memory_format=torch.channels_last).state_dict(), None),
    }
    casts = {"halves": torch.half, "bfloat16": torch.bfloat16, "doubles": torch.double}
    for name, (content, chosen) in files.items():
        for protocol in [2, 3, 4, 5]:
            torch.save(content, "w.pth", pickle_protocol=protocol)
            weights_table("w.pth", None if name == "parameters" else "resnet18", chosen)
            expected = {key: tensor.to(casts[name]) if name in casts else tensor for key, tensor in state.items()}
            if name == "parameters":
                expected = {key: tensor for key, tensor in state.items() if "running" not in key and "num_" not in key}
            equal(exported(), expected, name)
        print(f"{name}: equal, with protocols 2 to 5")
    model = model.to(memory_format=torch.contiguous_format)
    torch.save(state, "old.pth", _use_new_zipfile_serialization=False)
    torch.save(model, "whole.pth")
    torch.save(optimizer.state_dict(), "optimizer.pth")
    torch.save(files["student and teacher"][0], "two.pth")
    torch.jit.trace(model.eval(), torch.zeros(1, 3, 64, 64)).save("script.pth")
    for name in ["old", "whole", "optimizer", "two", "script"]:
        with open("w.toml", "w") as file:
            file.write(f'[stage]\nnet = {{ op = "weights", path = "{name}.pth" }}\n')
        print(f"{name}: {tessera('check', 'w.toml', code=2)}")


class Several(nn.Module):
    """Means and maps of a convolution, and the way in which they come."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, stride=2)

    def both(self, images):
        maps = self.layer(images).relu()
        return maps, maps.mean([2, 3])


class InTuple(Several):
    def forward(self, images) -> Tuple[torch.Tensor, torch.Tensor]:
        maps = self.layer(images).relu()
        return maps, maps.mean([2, 3])


class InList(Several):
    def forward(self, images) -> List[torch.Tensor]:
        maps = self.layer(images).relu()
        return [maps, maps.mean([2, 3])]


class InDictionary(Several):
    def forward(self, images) -> Dict[str, torch.Tensor]:
        maps = self.layer(images).relu()
        return {"maps": maps, "mean": maps.mean([2, 3])}


@torch.no_grad()
def outputs():
    os.mkdir("photos")
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (40, SIDE, SIDE, 3), dtype=np.uint8)
    for at, image in enumerate(pixels):
        Image.fromarray(image).save(f"photos/{at:03d}.png")
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    for kind, names in [(InTuple, [0, 1]), (InList, [0, 1]), (InDictionary, ["maps", "mean"])]:
        torch.manual_seed(3)
        model = kind().eval()
        torch.jit.script(model).save("model.pt")
        for place, name in enumerate(names):
            with open("m.toml", "w") as file:
                file.write(f"""[stage]
images = {{ op = "images", path = "photos" }}
decoded = {{ op = "decode", input = "images", side = {SIDE} }}
features = {{ op = "infer", input = "decoded", model = "model.pt", output = {json.dumps(name)}, mean = [0.0, 0.0, 0.0], deviation = [1.0, 1.0, 1.0] }}
""")
            tessera("run", "m.toml", "-q")
            tessera("sql", "m.toml", "SELECT feature FROM features ORDER BY image_id", "-o", "f.parquet", "--force")
            found = np.stack(pq.read_table("f.parquet")["feature"].to_pylist())
            expected = model.both(images)[place].flatten(1).numpy()
            worst = np.abs(found - expected).max()
            assert found.shape == expected.shape and worst < 1e-5, (kind.__name__, name, worst)
            print(f"{kind.__name__}, output {name!r}: {found.shape}, differs by at most {worst:.1e}")
        with open("m.toml") as file:
            without = file.read().replace(f", output = {json.dumps(name)}", "")
        with open("m.toml", "w") as file:
            file.write(without)
        print(f"{kind.__name__}, none said: {tessera('check', 'm.toml', code=2)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        networks()
        checkpoints()
        outputs()
