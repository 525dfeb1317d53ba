"""Queries: types, parameters, limits."""

from __future__ import annotations

import datetime
import decimal
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import tessera
from tessera import _literals, _types

#: Values of many types, and what they are in Arrow.
TYPED = """
SELECT CAST(1 AS TINYINT) AS small, 18446744073709551615::BIGINT UNSIGNED AS large, CAST(0.1 AS REAL) AS single, 1e300 AS double,
       1.50::DECIMAL(10, 2) AS exact, TRUE AS truth, 'ä''"' AS text, X'00ff' AS bytes, DATE '2020-02-29' AS day,
       TIMESTAMP '2020-02-29T12:00:00.123456789' AS moment, [1.5, 2.5] AS list, NULL AS nothing, CAST(NULL AS INT) AS none,
       named_struct('a', 1, 'b', 'x') AS pair
"""


def test_types_survive(made: tessera.Pipeline) -> None:
    answer = made.sql(TYPED).to_arrow()
    [row] = answer.to_pylist()
    moment = row.pop("moment")
    assert row == {
        "small": 1,
        "large": 18446744073709551615,
        "single": np.float32(0.1),
        "double": 1e300,
        "exact": decimal.Decimal("1.50"),
        "truth": True,
        "text": "ä'\"",
        "bytes": b"\x00\xff",
        "day": datetime.date(2020, 2, 29),
        "list": [1.5, 2.5],
        "nothing": None,
        "none": None,
        "pair": {"a": 1, "b": "x"},
    }
    assert str(moment).startswith("2020-02-29 12:00:00.123456789")
    types = {field.name: field.type for field in answer.schema}
    assert (types["small"], types["large"], types["single"]) == (pa.int8(), pa.uint64(), pa.float32())
    assert types["exact"] == pa.decimal128(10, 2) and types["moment"] == pa.timestamp("ns") and types["day"] == pa.date32()
    assert types["bytes"] in (pa.binary(), pa.large_binary()) and types["none"] == pa.int32()
    assert pa.types.is_list(types["list"]) and pa.types.is_struct(types["pair"])


def test_vectors_are_arrays_and_the_same_as_in_the_table(made: tessera.Pipeline) -> None:
    answer = made.sql("SELECT feature FROM features ORDER BY image_id DESC")
    table = made.table("features").to_arrow()
    order = np.argsort(table["image_id"].to_numpy())[::-1]
    assert np.array_equal(answer.numpy("feature"), made.table("features").numpy("feature")[order])
    pixels = made.sql("SELECT pixels FROM decoded ORDER BY image_id LIMIT 2")
    assert pixels.schema.field("pixels").type.value_type == pa.uint8() and pixels.numpy("pixels").dtype == np.uint8


def test_no_rows_have_types_too(made: tessera.Pipeline) -> None:
    answer = made.sql("SELECT cluster, distance FROM assigned WHERE cluster > 100;").to_arrow()
    assert answer.num_rows == 0 and answer.schema.types == [pa.int32(), pa.float32()]


def test_columns_may_have_one_name_and_queries_any_form(made: tessera.Pipeline) -> None:
    twice = made.sql("-- both\n(SELECT a.cluster, b.cluster FROM assigned a JOIN assigned b USING (image_id)); -- all").to_arrow()
    assert twice.schema.names == ["cluster", "cluster_1"] and twice.num_rows == 24
    assert made.sql("WITH x AS (VALUES (1), (2)) SELECT * FROM x").to_arrow().column(0).to_pylist() == [1, 2]
    assert "assigned" in made.sql("SHOW TABLES").to_pandas()["table_name"].tolist()
    assert made.sql("DESCRIBE assigned").to_arrow()["data_type"].to_pylist()[:2] == ["Utf8", "Int32"]


def test_parameters_are_literals(made: tessera.Pipeline) -> None:
    def one(query: str, params: object) -> object:
        return made.sql(query, params).to_arrow().column(0).to_pylist()[0]  # type: ignore[arg-type]

    values = [
        "it's",
        "",
        '"$x" -- /* \\',
        -5,
        2**40,
        0.1,
        -1e-300,
        True,
        None,
        b"\x00'",
        datetime.date(2020, 1, 2),
        decimal.Decimal("-1.50"),
    ]
    named = {f"v{at}": value for at, value in enumerate(values)}
    answer = made.sql("SELECT " + ", ".join(f"${name} AS {name}" for name in named), named).to_arrow()
    assert answer.to_pylist() == [named]
    assert one("SELECT $1 + $2", [1, 2]) == 3
    assert one("SELECT '$x' || \"v\" FROM (SELECT $x AS v) -- $y\n", {"x": "a"}) == "$xa"
    moment = datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.timezone.utc)
    assert one("SELECT modified < $now FROM images", {"now": moment}) is False
    ids = made.table("images").to_arrow(["image_id"])["image_id"][:3]
    assert one("SELECT count(*) FROM images WHERE image_id IN $ids", {"ids": ids.to_pylist()}) == 3
    assert one("SELECT $n", {"n": np.int64(7)}) == 7


@pytest.mark.parametrize(
    ("query", "params", "message"),
    [
        ("SELECT $a", {"b": 1}, r"the query has \$a, and `params` has \$b"),
        ("SELECT 1", {"b": 1}, r"the query has no \$b"),
        ("SELECT $2", [1], r"\$2"),
        ("SELECT 1 IN $a", {"a": []}, "empty list"),
        ("SELECT $a", {"a": "\0"}, "zero bytes"),
    ],
)
def test_wrong_parameters_are_told(made: tessera.Pipeline, query: str, params: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made.sql(query, params)  # type: ignore[arg-type]


def test_limits_hold(made: tessera.Pipeline) -> None:
    assert len(made.sql("SELECT * FROM images", memory="1GiB", timeout=100)) == 24
    endless = "SELECT count(*) FROM generate_series(1, 100000000000) a"
    with pytest.raises(tessera.Error) as error:
        made.sql(endless, timeout=0.5)
    assert error.value.code == 1 and "timeout" in str(error.value).lower() or "0.5" in str(error.value)
    with pytest.raises(tessera.Error, match="--memory") as error:
        made.sql("SELECT 1", memory="much")
    assert error.value.code == 2


def test_a_query_may_be_long(made: tessera.Pipeline) -> None:
    # Longer than an argument of a process may be.
    assert made.sql("SELECT length($long)", {"long": "x" * 300_000}).to_arrow().column(0).to_pylist() == [300_000]


def test_system_tables_are_tables(made: tessera.Pipeline) -> None:
    stages = made.sql("SELECT stage, made FROM stages ORDER BY stage").to_arrow()
    assert stages["stage"].to_pylist() == ["assigned", "clusters", "decoded", "features", "images"]
    assert pa.types.is_timestamp(stages.schema.field("made").type)
    assert made.status()["images"].made == stages["made"].to_pylist()[4].replace(tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FixedSizeList(3 x non-null Float32, field: 'element')", pa.list_(pa.field("element", pa.float32(), False), 3)),
        ("List(Utf8)", pa.list_(pa.string())),
        (
            'Struct("a, \\"b\\"": non-null Utf8, "c": List(Int8))',
            pa.struct([pa.field('a, "b"', pa.string(), False), ("c", pa.list_(pa.int8()))]),
        ),
        ('Timestamp(µs, "+00:00")', pa.timestamp("us", "+00:00")),
        ("Dictionary(Int32, Utf8)", pa.string()),
        ("Decimal128(10, -3)", pa.decimal128(10, -3)),
    ],
)
def test_types_are_read_by_their_names(text: str, expected: pa.DataType) -> None:
    assert _types.parsed(text) == expected


@pytest.mark.parametrize("text", ["Map(x)", "List(Int8", "Int8)", "Interval(MonthDayNano)", "Timestamp(weeks)", "%"])
def test_other_types_are_told(text: str) -> None:
    with pytest.raises(tessera.Error, match="JSON, which has no values of type"):
        _types.parsed(text)


def test_values_are_toml() -> None:
    value = {"k": [1, 2.5, 'ä\x7f\n"'], "keep": True, "path": Path("/a b")}
    assert _literals.toml(value) == '{ "k" = [1, 2.5, "ä\\u007f\\n\\""], "keep" = true, "path" = "/a b" }'
    with pytest.raises(TypeError, match="no value such as None"):
        _literals.toml(None)


#: A binary whose `sql` writes files: it hands all else on to the real one.
WRITES = """#!{python}
import subprocess, sys
import pyarrow as pa, pyarrow.parquet as pq
arguments = sys.argv[1:]
if arguments[:2] == ["sql", "--help"]:
    print("  -o, --output <OUT>\\n          The file to write; its ending says the format")
elif "-o" in arguments:
    query, out = sys.stdin.read(), arguments[arguments.index("-o") + 1]
    print(query, file=open({log!r}, "a"))
    pq.write_table(pa.table({{"half": pa.array([0.5, float("nan")], pa.float16())}}), out)
else:
    sys.exit(subprocess.run([{real!r}, *arguments]).returncode)
"""


def test_a_binary_that_writes_answers_is_asked_to(made: tessera.Pipeline, tmp_path: Path) -> None:
    binary, log = tmp_path / "tessera", tmp_path / "log"
    binary.write_text(WRITES.format(python=sys.executable, log=str(log), real=str(made._found)))
    os.chmod(binary, stat.S_IRWXU)
    answer = tessera.open(made.path, binary=binary).sql("SELECT half FROM x")
    assert answer.schema.field("half").type == pa.float16()
    assert np.array_equal(answer.numpy("half"), np.array([0.5, np.nan], np.float16), equal_nan=True)
    assert log.read_text() == "SELECT half FROM x\n"
