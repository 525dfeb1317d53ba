"""Tables: a stage's, or the answer of a query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Union

import pyarrow as pa
import pyarrow.parquet as pq

from . import _html
from ._errors import Error

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import polars
    from torch import Tensor

    Array = np.ndarray[Any, Any]

#: Bytes of a batch that a reader gets where it does not say how many rows it wants.
BATCH_BYTES = 16 << 20
#: The most rows of such a batch.
BATCH_ROWS = 1 << 16
#: Rows that a notebook shows.
SHOWN = 5

#: A Parquet file by its path, or one that is in memory or mapped into it.
Source = Union[str, pa.Buffer]


class Rows:
    """Where a table's rows come from: Parquet files of one schema, in order."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        with self._open(self._sources[0]) as first:
            self.schema: pa.Schema = first.schema_arrow
        self._count: int | None = None

    def _open(self, source: Source) -> pq.ParquetFile:
        try:
            if isinstance(source, str):
                return pq.ParquetFile(source, memory_map=True)
            return pq.ParquetFile(pa.BufferReader(source))
        except FileNotFoundError as error:
            raise Error(f"{source} is gone: the table was made anew and `tessera gc` deleted this one. Ask for it again") from error
        except (pa.ArrowException, OSError) as error:
            raise _damaged(source, error) from error

    def __len__(self) -> int:
        if self._count is None:
            count = 0
            for source in self._sources:
                with self._open(source) as file:
                    count += file.metadata.num_rows
            self._count = count
        return self._count

    def read(self, columns: Sequence[str] | None) -> pa.Table:
        """All rows at once."""
        tables = []
        for source in self._sources:
            with self._open(source) as file:
                try:
                    tables.append(_chosen(file.read(columns), columns))
                except (pa.ArrowException, OSError) as error:
                    raise _damaged(source, error) from error
        schema = self.schema if columns is None else tables[0].schema
        # Parts of different runs may note different things of a column.
        return tables[0] if len(tables) == 1 else pa.concat_tables([table.cast(schema) for table in tables])

    def whole(self, column: str) -> pa.Array | None:
        """A column, if it comes in one piece."""
        if len(self._sources) > 1:
            return None
        with self._open(self._sources[0]) as file:
            if file.num_row_groups > 1:
                return None
        chunks = self.read([column]).column(0).chunks
        return chunks[0] if len(chunks) == 1 else None

    def batches(self, columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
        """The rows a batch at a time: what is in memory is about a batch, and a page of each column."""
        for source in self._sources:
            with self._open(source) as file:
                try:
                    for batch in file.iter_batches(rows, columns=columns):
                        yield _chosen(batch, columns)
                except (pa.ArrowException, OSError) as error:
                    raise _damaged(source, error) from error


class InMemory(Rows):
    """Rows that are in memory already."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self.schema = rows.schema

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def read(self, columns: Sequence[str] | None) -> pa.Table:
        return self._rows if columns is None else self._rows.select(list(columns))

    def whole(self, column: str) -> pa.Array | None:
        chunks = self._rows.column(column).chunks
        return chunks[0] if len(chunks) == 1 else None

    def batches(self, columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
        yield from self.read(columns).to_batches(rows)


def _chosen(rows: Any, columns: Sequence[str] | None) -> Any:
    return rows if columns is None else rows.select(list(columns))


def _damaged(source: Source, error: Exception) -> Error:
    named = source if isinstance(source, str) else "what the binary wrote"
    return Error(f"{named} cannot be read, its file is damaged: {error}. `tessera plan` finds out, and `tessera run` makes it anew")


class Table:
    """A table as it was when it was asked for: runs that follow make new files, and do not change it.

    >>> assigned = pipeline.table("assigned")
    >>> len(assigned), assigned.schema.names
    (60, ['image_id', 'cluster', 'distance', 'second_cluster', 'second_distance'])
    >>> assigned.to_pandas()["cluster"].value_counts()
    """

    def __init__(self, name: str, rows: Rows | None) -> None:
        #: The stage, or what it is the answer to.
        self.name = name
        self._known = rows

    def _rows(self, columns: Sequence[str] | None = None) -> Rows:
        """Rows that have these columns at least; none: all columns."""
        assert self._known is not None
        return self._known

    @property
    def schema(self) -> pa.Schema:
        """Its columns and their types, with what is noted of them.

        >>> pipeline.table("features").schema.field("feature").type
        FixedSizeListType(fixed_size_list<element: float not null>[3072])
        """
        return self._rows().schema

    def __len__(self) -> int:
        return len(self._rows())

    def _checked(self, columns: Sequence[str] | None) -> list[str] | None:
        """Columns that are there, as a list."""
        if columns is None:
            return None
        if isinstance(columns, str):
            raise TypeError(f'`columns` is a list of names: ["{columns}"]')
        known = self.schema.names
        for name in columns:
            if name not in known:
                raise KeyError(f"`{self.name}` has no column `{name}`; columns: {', '.join(known)}")
        return list(columns)

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows as an Arrow table.

        >>> pipeline.table("assigned").to_arrow(["image_id", "cluster"]).num_rows
        60
        """
        chosen = self._checked(columns)
        return self._rows(chosen).read(chosen)

    def batches(self, columns: Sequence[str] | None = None, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows a record batch at a time, in bounded memory; `rows` is how many a batch has at most.

        >>> sum(batch.num_rows for batch in pipeline.table("features").batches(["feature"], rows=1024))
        60
        """
        chosen = self._checked(columns)
        found = self._rows(chosen)
        schema = found.schema if chosen is None else pa.schema([found.schema.field(name) for name in chosen])
        return found.batches(chosen, rows or max(1, min(BATCH_ROWS, BATCH_BYTES // _width(schema))))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.batches()

    def to_pandas(self, columns: Sequence[str] | None = None, **options: Any) -> pandas.DataFrame:
        """All rows as a pandas DataFrame; `options` are those of `pyarrow.Table.to_pandas`.

        >>> pipeline.table("assigned").to_pandas().groupby("cluster").size()
        """
        return self.to_arrow(columns).to_pandas(**options)

    def to_polars(self, columns: Sequence[str] | None = None) -> polars.DataFrame:
        """All rows as a Polars DataFrame.

        >>> pipeline.table("assigned").to_polars().group_by("cluster").len()
        """
        import polars

        frame = polars.from_arrow(self.to_arrow(columns))
        assert isinstance(frame, polars.DataFrame)
        return frame

    def numpy(self, column: str) -> Array:
        """A column as an array: vectors as rows x values, pixels as rows x height x width x 3. Nothing is copied where the rows lie in
        one piece (then the array cannot be written to); else they are copied once, into their places.

        >>> pipeline.table("features").numpy("feature").shape
        (60, 3072)
        """
        [column] = self._checked([column]) or [column]
        rows = self._rows([column])
        whole = rows.whole(column)
        return self._filled(column) if whole is None else _values(whole, self.name, rows.schema.field(column))

    def _filled(self, column: str) -> Array:
        """A column in an array of its own, filled a batch at a time."""
        import numpy

        [column] = self._checked([column]) or [column]
        rows = self._rows([column])
        field = rows.schema.field(column)
        filled: Array | None = None
        done = 0
        for batch in self.batches([column]):
            values = _values(batch.column(0), self.name, field)
            if filled is None:
                filled = numpy.empty((len(rows), *values.shape[1:]), values.dtype)
            filled[done : done + len(values)] = values
            done += len(values)
        return _values(pa.array([], field.type), self.name, field).copy() if filled is None else filled

    def torch(self, column: str) -> Tensor:
        """A column of numbers as a tensor of its own: writing to it changes nothing else.

        >>> pipeline.table("features").torch("feature").shape
        torch.Size([60, 3072])
        """
        import torch

        return torch.from_numpy(self._filled(column))

    def __repr__(self) -> str:
        columns = "\n".join(f"  {field.name}: {field.type}" for field in self.schema)
        return f"Table `{self.name}`, {len(self)} rows\n{columns}"

    def _repr_html_(self) -> str:
        first: list[tuple[Any, ...]] = []
        for batch in self.batches(rows=SHOWN):
            first = list(zip(*(column.to_pylist() for column in batch.columns)))[:SHOWN]
            break
        more = f", the first {len(first)} of them" if len(first) < len(self) else ""
        return f"<b>{escape(self.name)}</b>: {len(self)} rows{more}" + _html.table(self.schema.names, first)


def _width(schema: pa.Schema) -> int:
    """About how many bytes a row has."""

    def of(kind: pa.DataType) -> int:
        if pa.types.is_fixed_size_list(kind):
            return max(1, int(kind.list_size)) * of(kind.value_type)
        if pa.types.is_struct(kind):
            return sum(of(field.type) for field in kind)
        if pa.types.is_primitive(kind):
            return max(1, int(kind.bit_width) // 8)
        # Of bytes and lists, nothing says how long they are.
        return 4096 if pa.types.is_large_binary(kind) or pa.types.is_nested(kind) else 64

    return max(1, sum(of(field.type) for field in schema))


def _values(array: pa.Array, table: str, field: pa.Field) -> Array:
    """An array of Arrow as one of NumPy, without a copy if it is of numbers."""
    kind = field.type
    if not pa.types.is_fixed_size_list(kind):
        if pa.types.is_nested(kind):
            raise TypeError(f"column `{field.name}` of `{table}` is of {kind}, which no array is: to_arrow() has it")
        if array.null_count and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise _with_nulls(array, table, field)
        plain: Array = array.to_numpy(zero_copy_only=False)
        return plain
    flat = array.flatten()
    if array.null_count or flat.null_count:
        raise _with_nulls(array if array.null_count else flat, table, field)
    shape = [int(side) for side in (field.metadata or {}).get(b"tessera.shape", b"").decode().split(",") if side]
    size = 1
    for side in shape:
        size *= side
    if not shape or size != kind.list_size:
        shape = [kind.list_size]
    # Bools are bits in Arrow and bytes in NumPy: they are copied.
    values: Array = flat.to_numpy(zero_copy_only=pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))
    return values.reshape(len(array), *shape)


def _with_nulls(array: pa.Array, table: str, field: pa.Field) -> ValueError:
    return ValueError(f"column `{field.name}` of `{table}` has {array.null_count} nulls, which an array has not: to_arrow() keeps them")
