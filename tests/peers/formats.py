"""Data sets in and out beside the tools that write and read them, value by value.

    pip install numpy pillow pyarrow pandas polars duckdb h5py webdataset datasets
    python formats.py TESSERA

In: each tool writes the same pictures with classes, `images` lists them, and what `hog` makes of them equals what it makes of the
folder; and a range of a table's rows is what pandas takes of it. Out: `export` writes a table or images, and each tool reads what the snapshot holds.
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
    arrow(all_of, expected, datasets.Dataset.from_dict(rows, features=features_of))
    import h5py
    hdf5(all_of, expected)
    with h5py.File("pixels.h5", "w") as file:
        stack = np.stack([pixels for *_, pixels in all_of])
        file.create_dataset("x", data=stack, chunks=(7, 40, 48, 3), compression="gzip", shuffle=True)
        file.create_dataset("y", data=[label for _, _, label, _ in all_of], dtype=h5py.string_dtype())
    by_pixels = {value for value in expected.values()}
    found = {value for value in features(pipeline("h5", "pixels.h5")).values()}
    assert found == by_pixels
    print(f"in   h5py: {len(found)} pictures, classes and features equal")
    cifar()
    slices()


def arrow(all_of, expected, dataset):
    import datasets, polars, pyarrow as pa, pyarrow.feather as feather
    dataset.save_to_disk("saved", num_shards=2)
    # What is computed of it is kept beside it, and is no part of it.
    datasets.load_from_disk("saved").map(lambda row: {"more": 1})
    assert any(name.startswith("cache-") for name in os.listdir("saved"))
    same("datasets' save_to_disk", features(pipeline("saved", "saved")), expected)
    splits = datasets.DatasetDict({"train": dataset.select(range(40)), "test": dataset.select(range(40, N))})
    splits.save_to_disk("splits")
    same("datasets' DatasetDict", features(pipeline("splits", "splits")), expected)
    counts = table("splits.toml", "SELECT split, count(*) AS n FROM images GROUP BY split ORDER BY split")
    assert [tuple(row) for row in counts.itertuples(index=False)] == [("test", 20), ("train", 40)], counts
    kinds = {"binary": pa.binary(), "large": pa.large_binary(), "view": pa.binary_view()}
    for name, kind in kinds.items():
        columns = {"png": pa.array([data for _, data, _, _ in all_of], kind), "label": [label for _, _, label, _ in all_of]}
        rows = pa.table(columns)
        for codec in ["uncompressed", "lz4", "zstd"]:
            file = f"{name}-{codec}.feather"
            with pa.OSFile(file, "wb") as sink:
                options = pa.ipc.IpcWriteOptions(compression=None if codec == "uncompressed" else codec)
                with pa.ipc.new_file(sink, rows.schema, options=options) as writer:
                    writer.write_table(rows, max_chunksize=17)
            same(f"pyarrow, {name}, {codec}", features(pipeline(file, file)), expected)
    frame = polars.DataFrame({"png": [data for _, data, _, _ in all_of], "label": [label for _, _, label, _ in all_of]})
    frame.write_ipc("polars.arrow", compression="zstd")
    same("polars, Arrow", features(pipeline("polars", "polars.arrow")), expected)


def hdf5(all_of, expected):
    import h5py
    most = max(len(data) for _, data, _, _ in all_of)
    padded = np.zeros((N, most), np.uint8)
    for row, (_, data, _, _) in zip(padded, all_of):
        row[:len(data)] = np.frombuffer(data, np.uint8)
    def vlen(file, **options):
        made = file.create_dataset("jpg", (N,), dtype=h5py.special_dtype(vlen=np.uint8), **options)
        for at, (_, data, _, _) in enumerate(all_of):
            made[at] = np.frombuffer(data, np.uint8)
    kinds = {
        "lists": vlen,
        "lists, gzip": lambda file: vlen(file, chunks=(7,), compression="gzip"),
        "opaque": lambda file: file.create_dataset("jpg", data=padded.view(f"V{most}")[:, 0]),
        "opaque, gzip": lambda file: file.create_dataset("jpg", data=padded.view(f"V{most}")[:, 0], chunks=(7,), compression="gzip"),
        "numpy's S": lambda file: file.create_dataset("jpg", data=padded.view(f"S{most}")[:, 0]),
        "N x L": lambda file: file.create_dataset("jpg", data=padded, chunks=(7, 100), compression="gzip"),
    }
    for kind, write in kinds.items():
        name = kind.replace(", ", "-").replace(" ", "-").replace("'", "")
        with h5py.File(f"{name}.h5", "w") as file:
            write(file)
            file.create_dataset("label", data=[label for _, _, label, _ in all_of], dtype=h5py.string_dtype())
        same(f"h5py, {kind}", features(pipeline(name, f"{name}.h5")), expected)
    with h5py.File("group.h5", "w") as file:
        for at, (name, data, label, _) in enumerate(all_of):
            pixels = np.void(data) if at % 2 else np.frombuffer(data, np.uint8)
            file.create_dataset(f"{label}/{name}", data=pixels)
    same("h5py, a dataset a picture", features(pipeline("group", "group.h5")), expected)


def slices():
    import h5py, pandas, pyarrow.feather as feather
    frame = pandas.DataFrame({"number": np.arange(1000) * 3, "word": [f"word {at}" for at in range(1000)]})
    frame.to_csv("t.csv", index=False)
    frame.to_json("t.jsonl", orient="records", lines=True)
    frame.to_parquet("t.parquet", row_group_size=64)
    feather.write_feather(frame, "t.feather", chunksize=90)
    np.save("t.npy", frame.number.to_numpy())
    with h5py.File("t.h5", "w") as file:
        file.create_dataset("number", data=frame.number, chunks=(64,), compression="gzip")
    for ending in ["csv", "jsonl", "parquet", "feather", "npy", "h5"]:
        for rows in ["10:20", ":70", "-7:", "500:-400", "990:5000"]:
            with open("rows.toml", "w") as file:
                file.write(f'[stage]\npart = {{ op = "table", path = "t.{ending}", rows = "{rows}" }}\n')
            tessera("run", "rows.toml", "-q")
            found = table("rows.toml", "SELECT * FROM part ORDER BY image_id")
            start, end = [int(part) if part else None for part in rows.split(":")]
            wanted = frame.iloc[start:end]
            number = found["value" if ending == "npy" else "number"]
            assert list(number) == list(wanted.number) and [int(id) for id in found.image_id] == list(wanted.index), (ending, rows)
            assert all(len(id) == 3 for id in found.image_id)
            assert ending in ("npy", "h5") or list(found.word) == list(wanted.word), (ending, rows)
    print("in   rows: slices of six formats equal pandas' iloc, with the numbers of the whole table")


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
