"""Data sets in and out beside the tools that write and read them, value by value.

    pip install numpy pillow pyarrow pandas polars duckdb h5py webdataset datasets
    python formats.py TESSERA

In: each tool writes the same pictures with classes, `images` lists them, and what `hog` makes of them equals what it makes of the
folder. Out: `export` writes a table or images, and each tool reads what the snapshot holds.
"""

import io, os, pickle, subprocess, sys, tarfile, tempfile
import numpy as np
from PIL import Image

BINARY = os.path.abspath(sys.argv[1])
CLASSES = ["cat", "dog", "owl"]
N = 60


def tessera(*arguments):
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"tessera {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def pipeline(name, path, more=""):
    """A pipeline over a data set; its features by digest of the pictures, with their classes."""
    with open(f"{name}.toml", "w") as file:
        file.write(f"""[stage]
images = {{ op = "images", path = "{path}"{more} }}
decoded = {{ op = "decode", input = "images", side = 32 }}
features = {{ op = "hog", input = "decoded" }}
""")
    tessera("run", f"{name}.toml", "-q")
    return f"{name}.toml"


def table(file, query):
    import pyarrow.parquet as pq
    out = f"{file}.answer.parquet"
    tessera("sql", file, query, "-o", out, "--force")
    return pq.read_table(out).to_pandas()


def features(file, key="digest"):
    rows = table(file, f"SELECT i.{key} AS k, i.label, f.feature FROM images i JOIN features f ON i.image_id = f.image_id ORDER BY 1, 2")
    return {row.k: (row.label, row.feature.tobytes()) for row in rows.itertuples()}


def pictures():
    rng = np.random.default_rng(3)
    for at in range(N):
        pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        yield f"{at:03d}.png", out.getvalue(), CLASSES[at % 3], pixels


def same(what, found, expected):
    assert len(found) == len(expected), (what, len(found), len(expected))
    differ = [key for key in expected if found.get(key) != expected[key]]
    assert not differ, (what, differ[:3])
    print(f"in   {what}: {len(found)} pictures, classes and features equal")


def into(all_of):
    import datasets, webdataset
    for name, data, label, _ in all_of:
        os.makedirs(f"folder/{label}", exist_ok=True)
        open(f"folder/{label}/{name}", "wb").write(data)
    expected = features(pipeline("folder", "folder"))
    with webdataset.ShardWriter("shard-%03d.tar", maxcount=25, verbose=0) as sink:
        for name, data, label, _ in all_of:
            sink.write({"__key__": name[:-4], "png": data, "cls": label})
    same("webdataset", features(pipeline("webdataset", "shard-{000..002}.tar")), expected)
    with tarfile.open("folder.tar.gz", "w:gz") as tar:
        tar.add("folder")
    same("tar of a folder", features(pipeline("tar", "folder.tar.gz")), expected)
    features_of = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    rows = {"image": [{"bytes": data, "path": name} for name, data, _, _ in all_of], "label": [label for _, _, label, _ in all_of]}
    os.makedirs("hub/data")
    datasets.Dataset.from_dict(rows, features=features_of).to_parquet("hub/data/train-00000-of-00001.parquet")
    same("datasets' Parquet", features(pipeline("hub", "hub")), expected)
    import h5py
    with h5py.File("pixels.h5", "w") as file:
        stack = np.stack([pixels for *_, pixels in all_of])
        file.create_dataset("x", data=stack, chunks=(7, 40, 48, 3), compression="gzip", shuffle=True)
        file.create_dataset("y", data=[label for _, _, label, _ in all_of], dtype=h5py.string_dtype())
    by_pixels = {value for value in expected.values()}
    found = {value for value in features(pipeline("h5", "pixels.h5")).values()}
    assert found == by_pixels
    print(f"in   h5py: {len(found)} pictures, classes and features equal")
    cifar()


def cifar():
    rng = np.random.default_rng(4)
    planes = rng.integers(0, 255, (30, 3072), dtype=np.uint8)
    labels = [at % 10 for at in range(30)]
    names = [f"class{at}" for at in range(10)]
    os.makedirs("cifar-10-batches-py")
    with open("cifar-10-batches-py/data_batch_1", "wb") as file:
        pickle.dump({b"data": planes, b"labels": labels, b"filenames": [f"{at}.png".encode() for at in range(30)], b"batch_label": b"1"}, file)
    with open("cifar-10-batches-py/batches.meta", "wb") as file:
        pickle.dump({"label_names": names, "num_cases_per_batch": 30, "num_vis": 3072}, file)
    os.makedirs("as_png")
    for at in range(30):
        os.makedirs(f"as_png/{names[labels[at]]}", exist_ok=True)
        Image.fromarray(planes[at].reshape(3, 32, 32).transpose(1, 2, 0)).save(f"as_png/{names[labels[at]]}/{at}.png")
    expected = sorted(features(pipeline("png", "as_png")).values())
    found = sorted(features(pipeline("cifar", "cifar-10-batches-py")).values())
    assert found == expected
    print(f"in   pickle and numpy (CIFAR-10): {len(found)} pictures, classes and features equal")


def out_of(all_of):
    import datasets, duckdb, h5py, pandas, polars, pyarrow.parquet as pq, webdataset
    file = "folder.toml"
    truth = table(file, "SELECT image_id, feature FROM features ORDER BY image_id")
    vectors = np.stack(truth.feature.to_numpy())
    for ending in ["parquet", "arrow", "h5", "npy", "csv"]:
        tessera("export", file, "features", "-o", f"f.{ending}", "-q")
    def check(tool, found, ids=None):
        order = np.argsort(ids) if ids is not None else slice(None)
        assert np.array_equal(np.asarray(found)[order].astype("f4"), vectors), tool
        print(f"out  {tool}: {len(found)} vectors equal")
    frame = pandas.read_parquet("f.parquet")
    check("pandas, Parquet", np.stack(frame.feature.to_numpy()), frame.image_id)
    frame = polars.read_parquet("f.parquet")
    check("polars, Parquet", np.stack(frame["feature"].to_list()), frame["image_id"].to_numpy())
    rows = duckdb.sql("SELECT image_id, feature FROM 'f.parquet'").fetchall()
    check("duckdb, Parquet", np.array([row[1] for row in rows]), np.array([row[0] for row in rows]))
    frame = polars.read_ipc("f.arrow")
    check("polars, Arrow", np.stack(frame["feature"].to_list()), frame["image_id"].to_numpy())
    ids = table(file, "SELECT image_id FROM features").image_id
    with h5py.File("f.h5") as held:
        check("h5py, HDF5", held["feature"][:], held["image_id"].asstr()[:])
    check("numpy, .npy", np.load("f.npy"), frame["image_id"].to_numpy())
    frame = pandas.read_csv("f.csv")
    check("pandas, CSV", frame.filter(regex="^feature_").to_numpy("f4"), frame.image_id)
    loaded = datasets.load_dataset("parquet", data_files="f.parquet", split="train").with_format("numpy")
    check("datasets, Parquet", loaded["feature"][:], np.array(loaded["image_id"][:]))
    by_name = {name: (data, label) for name, data, label, _ in all_of}
    tessera("export", file, "images", "--images", "set.parquet", "--by", "label", "-q")
    loaded = datasets.load_dataset("parquet", data_files="set.parquet", split="train")
    assert loaded.features["label"].names == CLASSES and type(loaded.features["image"]).__name__ == "Image", loaded.features
    for row in loaded:
        data, label = by_name[row["image_id"].split("/")[1]]
        assert CLASSES[row["label"]] == label and np.array_equal(np.array(row["image"]), np.array(Image.open(io.BytesIO(data))))
    print(f"out  datasets, images: {len(loaded)} pictures with class names")
    tessera("export", file, "images", "--images", "set.tar", "--by", "label", "-q")
    count = 0
    for sample in webdataset.WebDataset("set.tar", shardshuffle=False):
        data, label = by_name[sample["__key__"].split("_")[1] + ".png"]
        assert sample["png"] == data and sample["cls"].decode() == label
        count += 1
    print(f"out  webdataset, images: {count} pictures with classes")
    tessera("export", file, "images", "--images", "classes", "--by", "label", "-q")
    try:
        import torchvision
    except ImportError:
        print("out  torchvision is not installed")
        return
    found = torchvision.datasets.ImageFolder("classes")
    assert found.classes == CLASSES and len(found) == N
    for path, target in found.samples:
        data, label = by_name[os.path.basename(path).split("_")[1]]
        assert CLASSES[target] == label and open(path, "rb").read() == data
    print(f"out  torchvision's ImageFolder: {len(found)} pictures with classes")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    all_of = list(pictures())
    into(all_of)
    out_of(all_of)
