"""Tables that the binary computes when they are read: views."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Callable

import pyarrow as pa

from ._table import Rows, Table


class View(Table):
    """A view's table. Its rows are computed when they are first read, into a file that nobody else sees: all of the columns that are
    asked for, and no others. What was computed is kept as long as this object is.

    >>> decoded = pipeline.table("decoded")
    >>> decoded.numpy("pixels").shape
    (60, 64, 64, 3)
    """

    def __init__(
        self,
        name: str,
        describe: Callable[[], pa.Schema],
        count: Callable[[], int],
        export: Callable[[Sequence[str] | None], Rows],
    ) -> None:
        super().__init__(name, None)
        self._describe, self._count, self._export = describe, count, export
        self._made: dict[tuple[str, ...], Rows] = {}
        self._schema: pa.Schema | None = None
        self._lock = threading.RLock()

    def _rows(self, columns: Sequence[str] | None = None) -> Rows:
        with self._lock:
            wanted = self.schema.names if columns is None else list(columns)
            for made, rows in self._made.items():
                if set(wanted) <= set(made):
                    return rows
            rows = self._export(wanted)
            self._made[tuple(wanted)] = rows
            return rows

    @property
    def schema(self) -> pa.Schema:
        """Its columns and their types. No row is computed for them."""
        with self._lock:
            if self._schema is None:
                self._schema = self._describe()
            return self._schema

    def __len__(self) -> int:
        with self._lock:
            for rows in self._made.values():
                return len(rows)
        return self._count()

    def __repr__(self) -> str:
        return f"Table `{self.name}`, a view: computed when it is read\n" + "\n".join(
            f"  {field.name}: {field.type}" for field in self.schema
        )

    def _repr_html_(self) -> str:
        if not self._made:
            return f"<pre>{self!r}</pre>"
        return super()._repr_html_()
