"""Masks of a data set as `decode` makes them, beside torchvision on Pillow images, index by index, and what they cost.

    pip install numpy pillow pyarrow torch torchvision
    python masks.py TESSERA VOC2007 [SIDE]

The data set is one as PASCAL VOC lays it out, with `SegmentationClass`. It is linked to, not copied. Beside its own masks there are made
ones with every value, in fewer bits and of gray, of JPEGs with each orientation. Then one mask is edited, and one row is made again.
"""

import json, os, pathlib, subprocess, sys, tempfile, time
import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageOps
from torchvision.transforms import functional

NEAREST = functional.InterpolationMode.NEAREST
BINARY, VOC = (os.path.abspath(path) for path in sys.argv[1:3])
SIDE = int(sys.argv[3]) if len(sys.argv) > 3 else 64
MASKS = "SegmentationClass"


def tessera(*arguments):
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"tessera {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def pipeline(name, masks):
    key, asked = (f', masks = "{MASKS}"', ", mask = true") if masks else ("", "")
    pathlib.Path(f"{name}.toml").write_text(f"""[stage]
images = {{ op = "images", path = "voc", format = "voc"{key} }}
decoded = {{ op = "decode", input = "images", side = {SIDE}{asked}, keep = true }}
""")
    return f"{name}.toml"


def linked():
    """The data set with masks that can be edited, and some more images."""
    os.makedirs(f"voc/{MASKS}")
    os.makedirs("voc/JPEGImages")
    os.symlink(f"{VOC}/ImageSets", "voc/ImageSets")
    for image in os.listdir(f"{VOC}/JPEGImages"):
        os.symlink(f"{VOC}/JPEGImages/{image}", f"voc/JPEGImages/{image}")
    for mask in os.listdir(f"{VOC}/{MASKS}"):
        pathlib.Path(f"voc/{MASKS}/{mask}").write_bytes(pathlib.Path(f"{VOC}/{MASKS}/{mask}").read_bytes())
    rng = np.random.default_rng(5)
    for at in range(64):
        width, height = (int(side) for side in rng.integers(20, 400, 2))
        exif = Image.Exif()
        exif[0x112] = 1 + at % 8
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(f"voc/JPEGImages/made{at}.jpg", exif=exif)
        bits = [8, 8, 4, 2, 1][at % 5]
        made = Image.fromarray(rng.integers(0, 1 << bits, (height, width), dtype=np.uint8))
        if at % 5:
            made.putpalette(bytes(3 << bits))
        made.save(f"voc/{MASKS}/made{at}.png", bits=bits)


def expected(image, mask):
    """Pillow turns an image and its mask by the image's Exif data; torchvision brings the mask to the square."""
    mask = Image.open(mask)
    assert mask.mode in "PL", mask.mode
    turned = Image.fromarray(np.asarray(mask))
    turned.getexif()[0x112] = Image.open(image).getexif().get(0x112, 1)
    turned = ImageOps.exif_transpose(turned)
    return np.asarray(functional.center_crop(functional.resize(turned, SIDE, NEAREST), SIDE))


def compare():
    tessera("export", "with.toml", "decoded", "-o", "decoded.parquet", "--force")
    table = pq.read_table("decoded.parquet", columns=["image_id", "mask"])
    equal = missing = 0
    values = set()
    for image, mask in zip(table["image_id"].to_pylist(), table["mask"]):
        path = f"voc/{MASKS}/{os.path.basename(image)[:-4]}.png"
        assert mask.is_valid == os.path.exists(path), image
        if not mask.is_valid:
            missing += 1
            continue
        found = np.asarray(mask.values).reshape(SIDE, SIDE)
        assert np.array_equal(found, expected(f"voc/{image}", path)), image
        values.update(np.unique(found).tolist())
        equal += 1
    print(f"{equal} masks equal torchvision's, {missing} images have none; values {min(values)} to {max(values)}, {len(values)} of them")


def ran(file):
    start = time.perf_counter()
    stages = json.loads(tessera("run", file, "--format", "json"))["stages"]
    return time.perf_counter() - start, {stage["stage"]: stage["rows_computed"] for stage in stages}


def main():
    os.chdir(tempfile.mkdtemp())
    linked()
    with_masks, without = pipeline("with", True), pipeline("without", False)
    for file in [without, with_masks]:
        tessera("check", file)
        print(f"{file}: {ran(file)[0]:.2f} s, {ran(file)[0]:.2f} s again")
    compare()
    mask = f"voc/{MASKS}/{sorted(os.listdir(f'{VOC}/{MASKS}'))[0]}"
    edited = Image.open(mask)
    edited.putpixel((0, 0), 7)
    edited.save(mask)
    print(f"one mask edited: rows computed {ran(with_masks)[1]}, without masks {ran(without)[1]}")
    compare()


main()
