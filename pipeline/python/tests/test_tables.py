"""Tables: rows, types, arrays; of snapshots, views, sweeps, and of stores with rows that are gone."""

from __future__ import annotations

import concurrent.futures
import csv
import io
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tessera


def asked(pipeline: tessera.Pipeline, query: str) -> list[dict[str, str]]:
    """What the binary itself answers, as texts."""
    call = [str(pipeline._found), "sql", "--format", "csv", str(pipeline.path), query]
    return list(csv.DictReader(io.StringIO(subprocess.run(call, check=True, capture_output=True, text=True, encoding="utf-8").stdout)))


def test_a_table_has_the_rows_and_types_that_sql_has(made: tessera.Pipeline) -> None:
    table = made.table("assigned")
    rows = asked(made, "SELECT * FROM assigned ORDER BY image_id")
    frame = table.to_pandas().sort_values("image_id")
    assert len(table) == len(rows) == 24
    assert list(frame["image_id"]) == [row["image_id"] for row in rows]
    assert list(frame["cluster"]) == [int(row["cluster"]) for row in rows]
    assert list(frame["distance"]) == [np.float32(row["distance"]) for row in rows]
    assert table.schema.field("cluster").type == pa.int32()
    assert table.schema.field("distance").type == pa.float32()
    assert made.table("images").schema.field("modified").type == pa.timestamp("us", "+00:00")


def test_columns_come_in_the_order_that_is_asked_for(made: tessera.Pipeline) -> None:
    table = made.table("assigned")
    assert table.to_arrow(["distance", "image_id"]).schema.names == ["distance", "image_id"]
    assert next(table.batches(["cluster", "image_id"])).schema.names == ["cluster", "image_id"]
    with pytest.raises(KeyError, match="no column `clutser`; columns: image_id, cluster, distance"):
        table.to_arrow(["clutser"])
    with pytest.raises(TypeError, match="list of names"):
        table.to_arrow("cluster")


def test_pandas_and_polars_have_the_same(made: tessera.Pipeline) -> None:
    table = made.table("features")
    frame, polar = table.to_pandas(), table.to_polars()
    assert isinstance(frame, pd.DataFrame) and isinstance(polar, pl.DataFrame)
    assert list(frame["image_id"]) == polar["image_id"].to_list()
    width = table.schema.field("feature").type.list_size
    assert polar["feature"].dtype == pl.Array(pl.Float32, width)
    assert np.array_equal(np.stack(list(frame["feature"])), polar["feature"].to_numpy())


def test_vectors_are_one_array_and_are_not_copied(made: tessera.Pipeline) -> None:
    table = made.table("features")
    array = table.numpy("feature")
    assert array.dtype == np.float32 and array.shape == (24, table.schema.field("feature").type.list_size)
    # It lies in Arrow's memory: nobody may write to it, and it owns nothing.
    assert not array.flags.writeable and not array.flags.owndata
    assert np.array_equal(array, np.stack(list(table.to_pandas()["feature"])))
    assert list(table.numpy("image_id")) == table.to_arrow(["image_id"])["image_id"].to_pylist()


def test_parts_become_one_array(place: Callable[..., Path]) -> None:
    pipeline = tessera.open(place(), set={"pipeline.part_rows": 5})
    pipeline.run()
    table = pipeline.table("features")
    assert int(asked(pipeline, "SELECT parts FROM stages WHERE stage = 'features'")[0]["parts"]) > 3
    array = table.numpy("feature")
    assert array.shape[0] == len(table) == 24 and array.flags.owndata
    ids = asked(pipeline, "SELECT image_id, feature[1] AS first FROM features")
    assert dict(zip(table.numpy("image_id"), array[:, 0])) == {row["image_id"]: np.float32(row["first"]) for row in ids}
    assert [batch.num_rows for batch in table.batches(rows=4)] == [4, 1] * 4 + [4]
    assert pa.Table.from_batches(table).equals(table.to_arrow())


def test_what_is_no_array_is_told(made: tessera.Pipeline) -> None:
    with pytest.raises(TypeError, match="column `source` of `images` is of struct"):
        made.table("images").numpy("source")
    with pytest.raises(ValueError, match="column `offset` of `the answer` has 24 nulls"):
        made.sql("SELECT source['offset'] AS offset FROM images").numpy("offset")


def test_batches_are_made_in_bounded_memory(tmp_path: Path) -> None:
    width, rows = 1024, 40_000
    item = pa.field("element", pa.float32(), False)
    schema = pa.schema([pa.field("feature", pa.list_(item, width), False)])
    with pq.ParquetWriter(tmp_path / "wide.parquet", schema, compression="none") as writer:
        for start in range(0, rows, 4000):
            flat = pa.array(np.arange(start * width, (start + 4000) * width, dtype=np.float32) % 1000)
            writer.write_batch(pa.record_batch([pa.FixedSizeListArray.from_arrays(flat, type=schema.field(0).type)], schema))
    del flat
    table = tessera.Table("wide", tessera._table.Rows([str(tmp_path / "wide.parquet")]))
    whole = rows * width * 4
    before, most, found = pa.total_allocated_bytes(), 0, 0
    for batch in table:
        most = max(most, pa.total_allocated_bytes() - before)
        found += batch.num_rows
    assert found == rows and most < whole / 2, f"{most} of {whole} bytes"


def test_a_view_is_computed(made: tessera.Pipeline) -> None:
    view = made.table("decoded")
    assert view.schema.names == ["image_id", "pixels", "label"] and len(view) == 24
    assert "view" in repr(view) and "pixels" in view._repr_html_()
    pixels = view.numpy("pixels")
    assert pixels.dtype == np.uint8 and pixels.shape == (24, 32, 32, 3)
    first = asked(made, "SELECT image_id, pixels[1] AS r, pixels[2] AS g, pixels[3072] AS b FROM decoded ORDER BY image_id")
    order = np.argsort(view.numpy("image_id"))
    assert [[int(row["r"]), int(row["g"]), int(row["b"])] for row in first] == [
        [image[0, 0, 0], image[0, 0, 1], image[-1, -1, -1]] for image in pixels[order]
    ]
    assert sum(batch.num_rows for batch in view) == 24
    assert len(view) == 24


def test_a_swept_stage_is_the_union_of_its_cells(swept: tessera.Pipeline) -> None:
    table = swept.table("clusters")
    assert table.name == "clusters" and table.schema.names == ["cluster", "size", "centroid", "k"]
    frame = table.to_pandas()
    assert frame.groupby("k").size().to_dict() == {2: 2, 3: 3}
    cell = swept.table("clusters@k=3").to_pandas()
    assert sorted(cell["size"]) == sorted(frame[frame["k"] == 3]["size"]) and "k" not in cell
    assert np.array_equal(
        np.stack(list(cell.sort_values("cluster")["centroid"])), np.stack(list(frame[frame["k"] == 3].sort_values("cluster")["centroid"]))
    )
    metrics = swept.metrics("clusters").to_pandas()
    assert set(metrics["stage"]) == {"clusters@k=2", "clusters@k=3"}


def test_rows_that_are_gone_are_not_read(place: Callable[..., Path]) -> None:
    file = place(count=48)
    pipeline = tessera.open(file)
    pipeline.run()
    before = pipeline.table("features")
    gone = ["green/0000.png", "red/0001.png"]
    for image_id in gone:
        (file.parent / "photos" / image_id).unlink()
    pipeline.run()
    # The file still has them: this is what is tested.
    files = asked(pipeline, "SELECT gone FROM parts WHERE stage = 'features'")
    assert [row["gone"] for row in files] == ["2"]
    table = pipeline.table("features")
    ids = [row["image_id"] for row in asked(pipeline, "SELECT image_id FROM features ORDER BY image_id")]
    assert sorted(table.numpy("image_id")) == ids and len(ids) == len(table) == 46
    assert table.numpy("feature").shape[0] == 46 and not set(gone) & set(table.to_pandas()["image_id"])
    # To read it changes nothing: the difference to the table before is still there to be seen.
    difference = pipeline.diff("features", rows=10)
    assert (difference.added, difference.removed, difference.unchanged) == (0, 2, 46)
    assert [row.image_id for row in difference.rows] == gone and {row.change for row in difference.rows} == {"removed"}
    # A table is what it was when it was asked for.
    assert len(before) == 48 and set(gone) <= set(before.to_pandas()["image_id"])


def test_an_empty_table_has_columns(place: Callable[..., Path]) -> None:
    text = 'stage.none = { op = "sql", input = "images", query = "SELECT image_id, width FROM images WHERE width > 1000" }\n'
    pipeline = tessera.open(place('stage.images = { op = "images", path = "photos" }\n' + text, count=3))
    pipeline.run()
    table = pipeline.table("none")
    assert len(table) == 0 and table.to_arrow().schema.names == ["image_id", "width"]
    assert table.numpy("width").shape == (0,) and sum(batch.num_rows for batch in table) == 0
    assert "0 rows" in table._repr_html_()


def test_damage_is_told(place: Callable[..., Path]) -> None:
    pipeline = tessera.open(place(count=6))
    pipeline.run()
    [part] = (pipeline.path.parent / ".tessera" / "pipeline" / "features" / "parts").glob("*.parquet")
    bytes_ = bytearray(part.read_bytes())
    bytes_[100] ^= 1
    part.write_bytes(bytes_)
    with pytest.raises(tessera.Error, match="damaged|checksum|hash"):
        pipeline.table("features", checked=True).to_arrow()
    part.write_bytes(bytes_[:-100])
    with pytest.raises(tessera.Error, match="damaged"):
        pipeline.table("features").to_arrow()


def test_a_table_is_of_an_earlier_file_with_a_note(place: Callable[..., Path]) -> None:
    pipeline = tessera.open(place(count=6))
    pipeline.run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline.sql("SELECT * FROM assigned")
    # With values of its own, an answer is of tables of these, or there is none.
    other = tessera.open(pipeline.path, set={"clusters.k": 2})
    with pytest.raises(tessera.Error, match="`assigned` is of clusters.k = 3, and --set says 2"):
        other.sql("SELECT * FROM assigned")
    pipeline.path.write_text(pipeline.path.read_text().replace("k = 3", "k = 2"))
    with pytest.warns(tessera.Note, match="`assigned` is of clusters.k = 3, and the file says 2"):
        pipeline.sql("SELECT * FROM assigned")


def test_threads_may_ask_at_once(made: tessera.Pipeline) -> None:
    def ask(at: int) -> tuple[int, int, int]:
        return (
            len(made.table("features").to_arrow()),
            len(made.sql(f"SELECT * FROM images LIMIT {at}")),
            len(made.table("decoded").to_arrow()),
        )

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(1, 5))) == [(24, at, 24) for at in range(1, 5)]


def test_notebooks_show_a_table(made: tessera.Pipeline) -> None:
    shown = made.table("features")._repr_html_()
    assert "24 rows, the first 5 of them" in shown and "values]" in shown and shown.count("<tr>") == 6 and len(shown) < 2000
    assert repr(made.table("assigned")).startswith("Table `assigned`, 24 rows\n  image_id: string\n")


def test_a_limit_has_tables_of_its_own(made: tessera.Pipeline) -> None:
    trial = tessera.open(made.path, limit=6)
    trial.run()
    assert len(trial.table("assigned")) == trial.status()["images"].rows == 6
    assert len(made.table("assigned")) == 24
