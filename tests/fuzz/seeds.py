"""Writes the inputs that fuzzing begins with to `seeds/TARGET/NAME`, as other programs write such files.

It needs numpy, pyarrow, h5py and pillow; its results are kept beside it, so that `make fuzz` needs none of them.
"""

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
from PIL import Image

SEEDS = Path(__file__).parent / "seeds"
BETWEEN = b"\n---\n"


def seed(target, name, *parts, choice=b""):
    path = SEEDS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [part.encode() if isinstance(part, str) else bytes(part) for part in parts]
    path.write_bytes(choice + BETWEEN.join(parts))


def picture(kind, size=(5, 3), mode="RGB", **options):
    values = np.arange(size[0] * size[1] * 4, dtype=np.uint8).reshape(size[1], size[0], 4)
    image = Image.fromarray(values, "RGBA").convert(mode)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def tar(members, kind=tarfile.USTAR_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as packed:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if kind == tarfile.PAX_FORMAT:
                info.mtime = 1.5
            packed.addfile(info, io.BytesIO(content))
    # Without the zeros that fill up the last record.
    whole = out.getvalue().rstrip(b"\0")
    return whole + bytes(-len(whole) % 512 + 1024)


def tars():
    members = [("a/1.jpg", b"one"), ("a/1.cls", b"3"), ("a/1.json", b'{"x": 1}'), ("b/2.left.png", b"two"), ("b/2.txt", b"text")]
    plain = tar(members)
    seed("tar", "plain", plain, choice=b"\0")
    seed("tar", "paths", plain, choice=b"\x08")
    seed("tar", "stored", plain, choice=b"\x03")
    seed("tar", "pax", tar([("é" * 60 + ".jpg", b"one"), ("2.cls", b"1")], tarfile.PAX_FORMAT), choice=b"\0")
    seed("tar", "gnu", tar([("x" * 110 + ".jpg", b"one")], tarfile.GNU_FORMAT), choice=b"\0")
    seed("tar", "gzip", gzip.compress(plain, mtime=0), choice=b"\x01")
    seed("tar", "zstd", pa.Codec("zstd").compress(plain, asbytes=True), choice=b"\x02")


def planes():
    data = np.zeros((1, 3072), np.uint8)
    for protocol in (3, 4):
        batch = {"data": data, "labels": [1], "fine_labels": [1], "coarse_labels": [0]}
        names = {"label_names": ["cat", "dog"], "fine_label_names": ["cat", "dog"], "coarse_label_names": ["pet"]}
        packed = [pickle.dumps(one, protocol) for one in (batch, names)]
        seed("planar", f"python10-{protocol}", *packed, choice=b"\0")
        if protocol == 4:
            seed("planar", "python100", *packed, choice=b"\x01")
    seed("planar", "binary10", b"\x01" + bytes(3072), "cat\ndog\n", choice=b"\x02")
    seed("planar", "binary100", b"\0\x01" + bytes(3072), "cat\ndog\n", "pet\n", choice=b"\x03")
    seed("planar", "names", b"", pickle.dumps({"label_names": ["cat"]}, 2), choice=b"\0")


def arrays():
    for name, array in {
        "f4": np.arange(6, dtype="<f4").reshape(2, 3),
        "big": np.arange(6, dtype=">i8"),
        "fortran": np.asfortranarray(np.arange(12, dtype="<u2").reshape(2, 3, 2)),
        "bools": np.array([True, False]),
        "half": np.arange(4, dtype="<f2").reshape(4, 1),
        "none": np.zeros((0, 3), "<f8"),
    }.items():
        out = io.BytesIO()
        np.save(out, array)
        seed("npy", name, out.getvalue())


def texts():
    plain = b"\0\0,"
    seed("csv", "plain", "image_id,a,b,word\n1,0.5,true,\"x \"\"y\"\"\nz\"\n2,,false,\n", choice=plain)
    seed("csv", "vectors", "a,feature_0,feature_1\nx,1.5,2\ny,-3,4e5\n", choice=plain)
    seed("csv", "lists", "a;b\n\"[1.0, 2.5]\";1\n\"[3, 4]\";2\n", choice=plain)
    seed("csv", "two", "a,b\n1,2\n", "a\tb\n1.5\tword\n", choice=plain)
    seed("csv", "numbers", "1,2\r\n3,4\r\n", choice=b"\x01\0,")
    seed("csv", "typed", "sep=;\na;feature\n007;[1,2]\n", choice=b"\x0c\x21;")
    seed("csv", "packed", gzip.compress(b"a,b\n1,2\n", mtime=0), choice=b"\x10\0,")
    seed("json", "plain", '{"a": 1, "b": "x", "c": [1.5, 2], "d": {"e": null}}\n{"b": null, "a": 2.5, "f": true}\n')
    seed("json", "two", '{"image_id": "x", "n": 1}\n', '{"n": 18446744073709551615, "image_id": 7}\n')
    seed("list", "text", "\ufeffa.jpg\r\n./b/c.jpg\nno.jpg\n", choice=b"\0")
    seed("list", "absolute", "/data/a.jpg\n/data/b/c.jpg\n", choice=b"\0")
    seed("list", "csv", "path,label,n\na.jpg,cat,1\nb/c.jpg,,2\n", choice=b"\x05")
    seed("list", "json", '{"file_name": "a.jpg", "label": 3}\n', choice=b"\x02")
    seed("about", "csv", "file_name,label,n\na.jpg,cat,1\ncat/b.jpg,dog,\n", "file_name,label,n\na.jpg,x,2\n", choice=b"\0")
    seed("about", "flat", "file_name,n\na.jpg,1\ndog/b.jpg,2\n", choice=b"\0")
    seed("about", "json", '{"file_name": "a.jpg", "x": [1, 2]}\n{"file_name": "cat/b.jpg", "x": [3, 4]}\n', choice=b"\x01")
    key = "b3:00112233445566778899aabbccddeeff"
    line = f"clusters,{key},7,name,\"a, b\",x;y\\;z,ana,2026-11-27T10:00:00Z\nclusters,{key},8,split,3,,,\n"
    seed("names", "lines", line + "image,,a.jpg,name,hat,,,\n", choice=b"\x01")
    seed("names", "two", f"clusters,{key},8,mixed,,,,\nclusters,{key},8,name,x,,,\n<<<<<<<\n", choice=b"\x01")
    seed("names", "header", "\ufeffclusters,key,cluster,action,value,seen,by,at\r\n", choice=b"\0")
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4.5</ymax></bndbox>"
    xml = f"<?xml version=\"1.0\"?>\n<annotation><object><name>cat &amp; dog</name><difficult>1</difficult>{box}</object>\n<object><name>x</name><polygon><x1>1</x1><y1>2</y1></polygon></object></annotation>"
    seed("voc", "sets", "1\n2\n", "1 1\n2 -1\n", xml)
    seed("voc", "alone", xml)
    document = {
        "images": [{"id": 7, "file_name": "1.jpg"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3.5, 4], "iscrowd": 1, "segmentation": [[1]]}],
        "categories": [{"id": 2, "name": "cat"}],
    }
    seed("coco", "one", json.dumps(document))
    seed("coco", "two", json.dumps(document), json.dumps({"images": [{"id": 1, "file_name": "2.jpg"}]}))
    yaml = "path: ../d # x\ntrain: train.txt\nval:\n- images/val\nnc: 2\nnames: ['cat', \"d\\u006fg\"]\nroboflow:\n  a: b\n"
    seed("yolo", "yaml", yaml, "1 0.5 0.5 0.5 0.5\n0 0 0 1 0 1 1\n", "./images/train/1.jpg\n", choice=b"\0")
    seed("yolo", "map", "kpt_shape: [2, 3]\nnames: {0: cat, 1: dog}\n", "0 .5 .5 .1 .1 0 0 1 0 0 1\n", choice=b"\x03")
    seed("yolo", "lines", "cat\ndog\n", "1 0.5 0.5 0.5 0.5\n", choice=b"\x01")
    val = "ILSVRC2012_val_00000001"
    seed("imagenet", "kaggle", f"ImageId,PredictionString\n{val},n01440764 1 2 3 4\n", "n01440764 tench, Tinca\n", choice=b"\0\0")
    seed("imagenet", "kit", "1\n", '{"0": ["n01440764", "tench"]}', "n01440764 1 tench\n", choice=b"\x02\x03")
    seed("imagenet", "tiny", f"{val}.JPEG\tn01440764\t0\t1\t2\t3\n", "n01440764\ttench\n", choice=b"\x01\x02")
    for at, pattern in enumerate(["a-{0..1}.tar", "{a,b{1..2},{c,d}}/*.tar.gz", "*.tar", "a-{00..08..4}.tgz", "b/[ab]?.tar"]):
        seed("pattern", str(at), pattern)


def tables():
    table = pa.table({
        "image_id": ["a", "b"],
        "feature": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        "list": pa.array([[1.5], [2.5]], pa.list_(pa.float64())),
        "word": pa.array(["x", None]).dictionary_encode(),
        "n": pa.array([1, 2], pa.int16()),
    })
    for compression in (None, "lz4", "zstd"):
        out = io.BytesIO()
        pyarrow.feather.write_feather(table, out, compression=compression or "uncompressed")
        seed("ipc", f"file-{compression}", out.getvalue())
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    seed("ipc", "stream", out.getvalue())
    for name, options in {
        "plain": {"compression": "none", "use_dictionary": False, "write_page_checksum": True},
        "zstd": {"compression": "zstd", "data_page_version": "2.0"},
        "split": {"compression": "snappy", "use_byte_stream_split": ["feature.list.element"], "use_dictionary": False},
    }.items():
        out = io.BytesIO()
        pa.parquet.write_table(table, out, store_schema=name == "plain", write_statistics=False, **options)
        seed("parquet", name, out.getvalue())
    images = pa.table({
        "image": [{"bytes": b"one", "path": "1.jpg"}, {"bytes": None, "path": None}, {"bytes": b"three", "path": None}],
        "label": pa.array([0, 1, -1]),
    })
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    images = images.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    for name, options in {"images": {}, "pages": {"data_page_size": 1, "row_group_size": 2, "compression": "gzip"}}.items():
        out = io.BytesIO()
        pa.parquet.write_table(images, out, store_schema=False, write_statistics=False, **options)
        seed("parquet", name, out.getvalue())


def hdf5():
    def file(name, write, **options):
        out = io.BytesIO()
        with h5py.File(out, "w", **options) as made:
            write(made)
        seed("hdf5", name, out.getvalue())

    def columns(made):
        made["feature"] = np.arange(6, dtype="f4").reshape(2, 3)
        made["n"] = np.arange(2, dtype=">i2")
        made["yes"] = np.array([True, False])
        made.create_dataset("long", data=["abc", "d"], dtype=h5py.string_dtype())
        made.create_dataset("lists", data=[np.array([1, 2], "i4"), np.array([3], "i4")], dtype=h5py.vlen_dtype("i4"))
        made["structs"] = np.array([(1, b"x"), (2, b"y")], dtype=[("a", "i4"), ("b", "S2")])

    def chunked(made):
        made.create_dataset("f", data=np.ones((4, 3), "f4"), chunks=(2, 2), compression="gzip", shuffle=True, fletcher32=True)

    def pictures(made):
        made["images"] = np.arange(2 * 3 * 2 * 3, dtype="u1").reshape(2, 3, 2, 3)
        made["label"] = np.array([0, 1])

    def exported(made):
        group = made.create_group("lists")
        group.attrs["arrow_type"] = np.bytes_("List")
        group["offsets"] = np.array([0, 1, 3], "i8")
        group["values"] = np.array([1, 2, 3], "f4")

    file("columns", columns)
    file("chunked", chunked, libver="latest")
    file("pictures", pictures)
    file("exported", exported, libver="latest")


def headers():
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        seed("header", kind.lower(), picture(kind))
    seed("header", "pam", b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0\0")
    seed("header", "exif", picture("JPEG", exif=Image.Exif()), b"")
    seed("header", "lossless", picture("WEBP", lossless=True))


for write in (tars, planes, arrays, texts, tables, hdf5, headers):
    write()
print(sum(path.stat().st_size for path in SEEDS.rglob("*") if path.is_file()), "bytes")
