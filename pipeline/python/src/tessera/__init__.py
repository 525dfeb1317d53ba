"""Tessera's pipelines from Python.

The binary does the work; this package calls it, and reads the tables that it makes.

>>> import tessera
>>> pipeline = tessera.open("pipeline.toml")
>>> pipeline.run(on_progress=print)
>>> pipeline.table("assigned").to_pandas()
>>> pipeline.sql("SELECT cluster, count(*) AS n FROM assigned GROUP BY cluster").to_polars()
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import _binary
from ._errors import Error, Note
from ._pipeline import Pipeline
from ._results import Difference, Event, Listing, PlannedStage, Report, RowChange, StageReport, StageStatus
from ._table import Table

__version__ = "0.1.0"
__all__ = [
    "Difference", "Error", "Event", "Listing", "Note", "Pipeline", "PlannedStage", "Report", "RowChange", "StageReport",
    "StageStatus", "Table", "init", "open",
]  # fmt: skip


def open(
    path: str | os.PathLike[str],
    binary: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    set: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> Pipeline:
    """Opens a pipeline file.

    `binary` is the tessera binary; without it, it is $TESSERA, the one beside this package, or the first on the PATH. `limit` is for a
    trial on that many images, in tables of its own. `set` gives keys of stages other values, as `--set` does. `threads` says how many
    may work at once.

    >>> tessera.open("pipeline.toml", limit=100, set={"clusters.k": 20, "pipeline.seed": 1})
    """
    return Pipeline(path, binary, limit, set, threads)


def init(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str] = "pipeline.toml",
    force: bool = False,
    binary: str | os.PathLike[str] | None = None,
) -> Pipeline:
    """Writes a pipeline file for a folder of images, and opens it. With `force`, a file that is there is overwritten.

    >>> pipeline = tessera.init("photos")
    >>> print(pipeline.path.read_text())
    """
    found = _binary.Binary.at(_binary.find(binary))
    options = ["--force"] if force else []
    found.call(["init", "--no-trial", *options, "--output", os.fspath(path), "--", os.fspath(folder)])
    return Pipeline(path, binary=Path(found.path))
