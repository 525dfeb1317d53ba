"""Answers in JSON as Arrow, for binaries whose `sql` writes no Arrow or Parquet.

JSON has no types, so the binary is asked for them as well: `DESCRIBE query` names each column's Arrow type, such as
`FixedSizeList(3072 x non-null Float32, field: 'element')`, and the values of the JSON document are read as of these types. What JSON
itself loses is lost: NaN and infinite numbers come as null, and so do fields' metadata.
"""

from __future__ import annotations

import datetime
import decimal
import json
import re
from typing import Any, Callable

import pyarrow as pa

from ._errors import Error

_SIMPLE: dict[str, pa.DataType] = {
    "Null": pa.null(),
    "Boolean": pa.bool_(),
    "Int8": pa.int8(),
    "Int16": pa.int16(),
    "Int32": pa.int32(),
    "Int64": pa.int64(),
    "UInt8": pa.uint8(),
    "UInt16": pa.uint16(),
    "UInt32": pa.uint32(),
    "UInt64": pa.uint64(),
    "Float16": pa.float16(),
    "Float32": pa.float32(),
    "Float64": pa.float64(),
    "Utf8": pa.string(),
    "LargeUtf8": pa.large_string(),
    "Utf8View": pa.string(),
    "Binary": pa.binary(),
    "LargeBinary": pa.large_binary(),
    "BinaryView": pa.binary(),
    "Date32": pa.date32(),
    "Date64": pa.date64(),
}
_UNITS = {"s": "s", "ms": "ms", "µs": "us", "ns": "ns"}
_TOKEN = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|non-null\b|[\wµ-]+|[(),:])""")


class _Reader:
    """Reads a type as arrow-rs writes it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise self.unknown()
            self.tokens.append(token[1])
            at = token.end()

    def unknown(self) -> Error:
        return Error(f"this tessera answers SQL in JSON, which has no values of type {self.text}: CAST them to another one")

    def take(self, *wanted: str) -> str:
        if not self.tokens or (wanted and self.tokens[0] not in wanted):
            raise self.unknown()
        return self.tokens.pop(0)

    def has(self, token: str) -> bool:
        if self.tokens[:1] != [token]:
            return False
        self.tokens.pop(0)
        return True

    def field(self, name: str) -> pa.Field:
        nullable = not self.has("non-null")
        return pa.field(name, self.type(), nullable)

    def item(self) -> pa.Field:
        field = self.field("item")
        if self.has(","):
            self.take("field")
            self.take(":")
            field = field.with_name(self.take()[1:-1])
        self.take(")")
        return field

    def type(self) -> pa.DataType:
        name = self.take()
        if name in _SIMPLE:
            return _SIMPLE[name]
        self.take("(")
        if name == "List":
            return pa.list_(self.item())
        if name == "LargeList":
            return pa.large_list(self.item())
        if name == "FixedSizeList":
            length = int(self.take())
            self.take("x")
            return pa.list_(self.item(), length)
        if name == "Timestamp":
            unit = _UNITS[self.take(*_UNITS)]
            zone = self.take()[1:-1] if self.has(",") else None
            self.take(")")
            return pa.timestamp(unit, zone)
        if name in ("Decimal128", "Decimal256"):
            digits = int(self.take())
            self.take(",")
            scale = int(self.take())
            self.take(")")
            return pa.decimal128(digits, scale) if name == "Decimal128" else pa.decimal256(digits, scale)
        if name == "Dictionary":
            self.take()
            self.take(",")
            value = self.type()
            self.take(")")
            return value
        if name == "Struct":
            fields: list[pa.Field] = []
            while not self.has(")"):
                if fields:
                    self.take(",")
                label = json.loads(self.take())
                self.take(":")
                fields.append(self.field(label))
            return pa.struct(fields)
        raise self.unknown()


def parsed(text: str) -> pa.DataType:
    """The type of that name.

    >>> parsed("FixedSizeList(4 x non-null Float32, field: 'element')")
    FixedSizeListType(fixed_size_list<element: float not null>[4])
    """
    reader = _Reader(text)
    found = reader.type()
    if reader.tokens:
        raise reader.unknown()
    return found


def schema(described: str) -> pa.Schema:
    """The schema that the JSON of `DESCRIBE query` tells of."""
    rows = json.loads(described)
    return pa.schema([pa.field(row["column_name"], parsed(row["data_type"]), row["is_nullable"] == "YES") for row in rows])


def table(document: str, of: pa.Schema | None) -> pa.Table:
    """The rows of a JSON document, as of a schema; without one, as they look. Columns are known by their places: two may have one name."""
    if of is None:
        return pa.Table.from_pylist(json.loads(document))
    rows: list[list[tuple[str, Any]]] = json.loads(document, object_pairs_hook=list, parse_float=_Number)
    columns = []
    for at, field in enumerate(of):
        read = _reader_of(field.type)
        columns.append(pa.array([read(row[at][1]) for row in rows], field.type))
    # A NaN is null here, also where the table has no nulls.
    fields = [field.with_nullable(field.nullable or column.null_count > 0) for field, column in zip(of, columns)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


class _Number(float):
    """A number with the text that it was read from: a decimal needs it."""

    text: str

    def __new__(cls, text: str) -> _Number:
        number = super().__new__(cls, text)
        number.text = text
        return number


def _reader_of(kind: pa.DataType) -> Callable[[Any], Any]:
    """What makes a value of JSON one that Arrow takes for a type."""

    def nullable(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda value: None if value is None else read(value)

    if pa.types.is_struct(kind):
        readers = {field.name: _reader_of(field.type) for field in kind}
        return nullable(lambda pairs: {name: readers[name](value) for name, value in pairs})
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = _reader_of(kind.value_type)
        if pa.types.is_floating(kind.value_type) and not kind.value_field.nullable:
            # JSON has no NaN; a list without nulls has nothing else that comes as null.
            return nullable(lambda values: [float("nan") if value is None else float(value) for value in values])
        return nullable(lambda values: [item(value) for value in values])
    if pa.types.is_floating(kind):
        return nullable(float)
    if pa.types.is_decimal(kind):
        return nullable(lambda value: decimal.Decimal(value.text if isinstance(value, _Number) else str(value)))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return nullable(bytes.fromhex)
    if pa.types.is_timestamp(kind):
        return nullable(lambda text: _moment(text, kind.unit))
    if pa.types.is_date(kind):
        return nullable(lambda text: datetime.date.fromisoformat(text[:10]))
    return lambda value: value


_MOMENT = re.compile(r"(.{10})T(..:..:..)(?:\.(\d+))?(Z|[+-]..:..)?$")
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def _moment(text: str, unit: str) -> int:
    """A time in units since 1970: Python's own has microseconds at most."""
    found = _MOMENT.match(text)
    if found is None:
        raise Error(f"`{text}` is no time that is known")
    zone = (found[4] or "Z").replace("Z", "+00:00")
    moment = datetime.datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}")
    seconds = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(seconds=1)
    digits = _DIGITS[unit]
    return int(seconds * 10**digits + int((found[3] or "")[:digits].ljust(digits, "0") or "0"))
