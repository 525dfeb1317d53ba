"""HDF5 beside h5py: what h5py wrote is read by `table`, written by `export`, and read by h5py again, value by value.

    pip install h5py
    python hdf5.py TESSERA             # all layouts and types
    python hdf5.py TESSERA --mb 1000   # and how long each takes to read and write so much: features of 9,600 values, gzip 4

Floats of vectors come back as f32, as `table` reads them; images as N x H x W x 3.
"""

import argparse, os, resource, subprocess, tempfile, time
import h5py, numpy as np

N = 1000


def made(path):
    """A file with every layout and type, and what each dataset should come back as: (column, value)."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, 96)).astype("f4")
    x[0, 0] = np.nan
    gzip = {"compression": "gzip"}
    layouts = {
        "contiguous": {}, "chunked": {"chunks": (64, 96)}, "tiles": {"chunks": (33, 10)}, "gzip": {"chunks": (64, 96), **gzip},
        "shuffle": {"chunks": (7, 96), "shuffle": True, **gzip}, "grows": {"maxshape": (None, 96), **gzip},
        "fletcher32": {"chunks": (100, 50), "shuffle": True, "fletcher32": True, **gzip},
    }
    expected = {}
    with h5py.File(path, "w", userblock_size=512) as f:
        for name, keys in layouts.items():
            f.create_dataset(name, data=x, **keys)
            expected[name] = ("feature", x)
        for kind in ["f2", "f8", ">f4", ">f8"]:
            f.create_dataset("float " + kind, data=x.astype(kind), shuffle=True, **gzip)
            expected["float " + kind] = ("feature", x.astype(kind).astype("f4"))
        for kind in ["i1", "u1", ">i2", "u2", "<i4", ">u4", "i8", "u8", "bool"]:
            values = (np.arange(N) % 100).astype(kind)
            f.create_dataset("value " + kind, data=values, chunks=(N // 3,), **gzip)
            expected["value " + kind] = ("value", values)
        text = np.array([f"naïve-{i}" * (i % 5) for i in range(N)], dtype=object)
        f.create_dataset("long text", data=text, dtype=h5py.string_dtype())
        f.create_dataset("long text, chunked", data=text, dtype=h5py.string_dtype(), chunks=(100,), **gzip)
        expected["long text"] = expected["long text, chunked"] = ("value", text)
        f["fixed text"] = np.array([f"class-{i % 13}" for i in range(N)], dtype="S10")
        expected["fixed text"] = ("value", np.array([f"class-{i % 13}" for i in range(N)], dtype=object))
        pictures = rng.integers(0, 256, size=(N, 8, 6, 3), dtype="u1")
        for name, values in {"last": pictures, "first": pictures.transpose(0, 3, 1, 2), "grey": pictures[..., 0]}.items():
            f.create_dataset(name, data=values, chunks=True, **gzip)
            expected[name] = ("pixels", np.repeat(pictures[..., :1], 3, 3) if name == "grey" else pictures)
    return expected


def table(tessera, folder, source, dataset):
    """The table of a dataset, as `export` writes it, and the seconds of `run` and of `export`."""
    with open(f"{folder}/p.toml", "w") as file:
        file.write(f'[pipeline]\nstore = "store"\n[stage.t]\nop = "table"\npath = "{source}"\ndataset = "{dataset}"\n')
    seconds = []
    for command in [["run", "p.toml", "-q"], ["export", "p.toml", "t", "-q", "--force", "-o", "out.h5"]]:
        start = time.time()
        done = subprocess.run([tessera, *command], cwd=folder, capture_output=True, text=True)
        seconds.append(time.time() - start)
        if done.returncode:
            raise SystemExit(f"{dataset}: {done.stderr}")
    return h5py.File(f"{folder}/out.h5"), seconds


def parity(tessera, folder):
    expected = made(f"{folder}/in.h5")
    for dataset, (column, values) in expected.items():
        found, _ = table(tessera, folder, "in.h5", dataset)
        with found:
            found = found[column].asstr("utf-8")[...] if values.dtype == object else found[column][...]
            same = found.shape == values.shape and np.array_equal(found, values, equal_nan=values.dtype.kind == "f")
            print("same" if same else "DIFFERENT", dataset, values.dtype, values.shape, flush=True)
            if not same:
                raise SystemExit(1)


def rates(tessera, folder, megabytes):
    width, batch = 9600, 540
    rows = megabytes * 1_000_000 // (width * 4) // batch * batch
    rng = np.random.default_rng(0)
    start = time.time()
    with h5py.File(f"{folder}/big.h5", "w") as f:
        data = f.create_dataset("x", (rows, width), "f4", chunks=(27, width), compression="gzip", compression_opts=4, shuffle=True)
        for at in range(0, rows, batch):
            data[at : at + batch] = np.maximum(rng.normal(size=(batch, width)).astype("f4"), 0)
    wrote, start = time.time() - start, time.time()
    with h5py.File(f"{folder}/big.h5") as f:
        for at in range(0, rows, batch):
            f["x"][at : at + batch]
    read = time.time() - start
    found, (ran, exported) = table(tessera, folder, "big.h5", "x")
    found.close()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(f"h5py reads in {read:.1f} s, writes in {wrote:.1f} s; run (reads, hashes, stores) {ran:.1f} s, export {exported:.1f} s, {peak} MiB")


parser = argparse.ArgumentParser()
parser.add_argument("tessera")
parser.add_argument("--mb", type=int)
asked = parser.parse_args()
with tempfile.TemporaryDirectory() as folder:
    binary = os.path.abspath(asked.tessera)
    parity(binary, folder)
    if asked.mb:
        rates(binary, folder, asked.mb)
