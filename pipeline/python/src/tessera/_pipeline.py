"""A pipeline file: its stages are tables, and a run makes them."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Union

import pyarrow as pa

from . import _binary, _images, _literals, _types
from ._errors import Error
from ._file import PipelineFile, is_url
from ._progress import Events
from ._results import Difference, Event, Listing, PlannedStage, Report, StageReport, StageStatus
from ._table import InMemory, Rows, Table
from ._view import View

if TYPE_CHECKING:
    from PIL.Image import Image

#: One stage, or several.
Stages = Union[str, Iterable[str]]
#: Values for keys of stages, by `stage.key`.
Changes = Mapping[str, Any]
#: How a query begins, behind comments.
_SELECTS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(?:SELECT|WITH|VALUES)\b", re.IGNORECASE | re.DOTALL)


class Pipeline:
    """A pipeline file. It holds nothing open: each call asks the binary, and several threads may ask at once.

    >>> pipeline = tessera.open("pipeline.toml")
    >>> pipeline.run()
    >>> pipeline.table("assigned").to_pandas()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        binary: str | os.PathLike[str] | None = None,
        limit: int | None = None,
        set: Changes | None = None,
        threads: int | None = None,
    ) -> None:
        #: The pipeline file.
        self.path = Path(path).absolute()
        #: Read and make the tables of a sample of that many images.
        self.limit = limit
        self._changes: dict[str, Any] = dict(set or {})
        self._threads = [] if threads is None else ["--threads", str(threads)]
        self._found = _binary.find(binary)
        if not self.path.is_file():
            raise FileNotFoundError(errno.ENOENT, "there is no such pipeline file", os.fspath(self.path))
        _ = self._binary

    @property
    def _binary(self) -> _binary.Binary:
        return _binary.Binary.at(self._found)

    @property
    def version(self) -> str:
        """The binary's version.

        >>> pipeline.version
        '0.1.0'
        """
        return self._binary.version

    def _call(
        self,
        command: str,
        *positional: str,
        options: Sequence[str] = (),
        changes: Changes | None = None,
        limited: bool = True,
        query: str | None = None,
        meanwhile: Callable[[], None] | None = None,
        chatty: bool = False,
    ) -> str:
        arguments = [command, *self._threads, *options]
        for key, value in {**self._changes, **(changes or {})}.items():
            arguments += ["--set", f"{key}={_literals.toml(value)}"]
        if limited and self.limit is not None:
            arguments += ["--limit", str(self.limit)]
        return self._binary.call([*arguments, "--", os.fspath(self.path), *positional], query, meanwhile, chatty)

    # Making

    def run(
        self,
        to: Stages = (),
        force: Stages = (),
        set: Changes | None = None,
        limit: int | None = None,
        on_progress: Callable[[Event], object] | None = None,
    ) -> Report:
        """Makes what is not made yet or has changed, and says what it did.

        `on_progress` is called with each event, in this thread; what it raises ends the run. ^C ends it as well: what was finished is
        kept, and the next run goes on from there. A store in a bucket tells no events.

        >>> report = pipeline.run(to="assigned", set={"clusters.k": 20}, on_progress=print)
        >>> report["clusters"].action
        'run'
        """
        # A run of another limit is another pipeline's.
        chosen = self if limit is None else self._limited(limit)
        options = [*_each("--to", to), *_each("--force", force), "--quiet", "--format", "json"]
        folder = None
        if on_progress is not None:
            # The binary says it better what is wrong with a file.
            with contextlib.suppress(Error):
                folder = self._checked(set).runs(chosen.limit)
        if folder is None or on_progress is None:
            document = chosen._call("run", options=options, changes=set)
        else:
            events = Events(folder, on_progress)
            try:
                document = chosen._call("run", options=options, changes=set, meanwhile=events.look)
            finally:
                events.close()
        found = json.loads(document)
        return Report(Listing(StageReport, found["stages"]), found["seconds"])

    def _checked(self, changes: Changes | None = None) -> PipelineFile:
        """What the binary says of the file, with nothing wrong in it."""
        return PipelineFile(json.loads(self._call("check", options=["--format", "json"], changes=changes, limited=False)))

    def _limited(self, limit: int) -> Pipeline:
        other = object.__new__(Pipeline)
        other.__dict__.update(self.__dict__, limit=limit)
        return other

    def plan(self, to: Stages = (), force: Stages = (), set: Changes | None = None) -> Listing[PlannedStage]:
        """What a run would do, and why.

        >>> pipeline.plan(set={"clusters.k": 20})["clusters"].reasons
        ['clusters: kmeans.k 7 -> 20']
        """
        options = [*_each("--to", to), *_each("--force", force), "--format", "json"]
        return Listing(PlannedStage, json.loads(self._call("plan", options=options, changes=set))["stages"])

    # Reading

    def status(self) -> Listing[StageStatus]:
        """The stages, and of each table its rows and when it was made.

        >>> pipeline.status()["images"].rows
        60
        """
        return Listing(StageStatus, json.loads(self._call("status", options=["--format", "json"])))

    def _stages(self) -> Listing[StageStatus]:
        # Asking SQL, unlike `status`, looks for no damage.
        query = "SELECT stage, operator, is_view, rows, parts, bytes, seconds, made FROM stages"
        return Listing(StageStatus, json.loads(self._call("sql", options=["--format", "json"], query=query)))

    def table(self, stage: str, checked: bool = False) -> Table:
        """A stage's table: of a snapshot its Parquet files where they lie, of a view rows that are computed when they are read, of a
        swept stage the rows of all cells with a column for each axis. `checked` has the binary read the rows and compare their hashes.

        >>> pipeline.table("clusters@k=20").to_pandas()    # one cell of a sweep
        >>> pipeline.table("clusters").to_pandas()         # all of them, with a column `k`
        """
        known = self._known()
        if stage not in known and any(name.startswith(f"{stage}@") for name in known):
            table = self.sql(f"SELECT * FROM {_quoted(stage)}")
            table.name = stage
            return table
        if stage in known and known[stage]["is_view"]:
            return View(
                stage,
                lambda: self._described(f"SELECT * FROM {_quoted(stage)}"),
                lambda: self._count(stage),
                lambda columns: self._exported(stage, columns),
            )
        # Where a file holds rows that are gone, `tessera path` would write it anew: it needs the store to itself. Reading through the
        # binary changes nothing.
        if stage in known and (checked or known[stage]["gone"]):
            return Table(stage, self._exported(stage, None))
        try:
            files: list[str] = json.loads(self._call("path", stage, options=["--format", "json"]))
        except Error:
            if stage not in known or known[stage]["rows"] is None:
                raise
            # A file was found damaged, say: who reads all rows through the binary hears what is wrong.
            return Table(stage, self._exported(stage, None))
        # Of an empty table there may be no file, and of one in a bucket none that is here.
        if not files or any(is_url(file) for file in files):
            return Table(stage, self._exported(stage, None))
        return Table(stage, Rows(files))

    def _known(self) -> dict[str, Any]:
        """The stages, whether each is a view, its rows, and how many rows its files hold beside."""
        gone = "SELECT stage, sum(gone) AS gone FROM parts GROUP BY stage"
        query = f"SELECT s.stage, s.is_view, s.rows, p.gone FROM stages s LEFT JOIN ({gone}) p ON s.stage = p.stage"
        found = json.loads(self._call("sql", options=["--format", "json"], query=query))
        return {stage["stage"]: stage for stage in found}

    def _count(self, stage: str) -> int:
        found = json.loads(self._call("sql", options=["--format", "json"], query=f"SELECT count(*) AS n FROM {_quoted(stage)}"))
        return int(found[0]["n"])

    def _exported(self, stage: str, columns: Sequence[str] | None) -> Rows:
        def write(file: str) -> None:
            # A name with a comma cannot be chosen.
            chosen = [] if not columns or any("," in name for name in columns) else ["--columns", ",".join(columns)]
            self._call("export", stage, options=["--quiet", *chosen, "--output", file])

        return Rows([_written("table.parquet", write)])

    def sql(
        self,
        query: str,
        params: _literals.Params | None = None,
        memory: str | None = None,
        timeout: float | None = None,
    ) -> Table:
        """The answer to a query. `$name` in it stands for a value of `params`, a dict; of a list, the values are `$1`, `$2`, …. A list
        among the values is one for `IN`. `memory`, such as "2GiB", and `timeout`, in seconds, bound what it may take.

        >>> pipeline.sql("SELECT cluster, count(*) AS n FROM assigned GROUP BY cluster").to_pandas()
        >>> pipeline.sql("SELECT * FROM images WHERE label IN $labels", {"labels": ["red", "blue"]}).to_arrow()
        """
        if params is not None:
            query = _literals.filled(query, params)
        options = [] if memory is None else ["--memory", str(memory)]
        options += [] if timeout is None else ["--timeout", str(timeout)]
        if self._binary.sql_writes:
            return Table("the answer", Rows([self._answered(query, options)]))
        document = self._call("sql", options=[*options, "--format", "json"], query=query)
        # What is no query (EXPLAIN, SHOW) cannot be described, and tells of itself in texts.
        described = self._described(query, options) if _SELECTS.match(query) else None
        return Table("the answer", InMemory(_types.table(document, described)))

    def _answered(self, query: str, options: Sequence[str]) -> pa.Buffer:
        return _written("answer.parquet", lambda file: self._call("sql", options=[*options, "-o", file], query=query, chatty=True))

    def _described(self, query: str, options: Sequence[str] = ()) -> pa.Schema:
        """The columns of a query's answer."""
        if self._binary.sql_writes:
            none = f"SELECT * FROM ({_bare(query)}\n) LIMIT 0"
            return Rows([self._answered(none, options)]).schema
        return _types.schema(self._call("sql", options=[*options, "--format", "json"], query=f"DESCRIBE {_bare(query)}"))

    def metrics(self, stage: str | None = None) -> Table:
        """What stages measured: training and k-means, a row a number. Of a swept stage, its cells' rows.

        >>> pipeline.metrics("pretext").to_pandas().query("name == 'epoch_loss'").plot("epoch", "value")
        """
        if stage is None:
            return self.sql("SELECT * FROM metrics")
        names = [found.stage for found in self._stages()]
        cells = [name for name in names if name == stage or name.startswith(f"{stage}@")]
        if not cells:
            # It says which there are.
            self._call("path", stage)
        return self.sql("SELECT * FROM metrics WHERE stage IN $cells", {"cells": cells})

    def diff(self, stage: str, old: str = "previous", new: str = "current", rows: int | None = None) -> Difference:
        """How two snapshots of a stage differ; with `rows`, which rows do, at most that many.

        >>> difference = pipeline.diff("images", rows=100)
        >>> difference.removed, [row.image_id for row in difference.rows]
        (2, ['green/0001.png', 'red/0000.png'])
        """
        options = ["--format", "json"] + ([] if rows is None else [f"--rows={rows}"])
        return Difference.of(json.loads(self._call("diff", stage, old, new, options=options)))

    def weights(self, stage: str, framework: str = "torch") -> dict[str, Any]:
        """A network's tensors by torchvision's names; `framework` may be "numpy" as well.

        >>> model = torchvision.models.resnet18()
        >>> model.load_state_dict(pipeline.weights("pretext"), strict=False)
        """
        if framework not in ("torch", "numpy"):
            raise ValueError(f'`framework` is "torch" or "numpy", not {framework!r}')
        load: Callable[[bytes], Mapping[str, Any]]
        if framework == "torch":
            from safetensors.torch import load as load_torch

            load = load_torch
        else:
            from safetensors.numpy import load as load_numpy

            load = load_numpy
        if not {"tensor", "shape", "dtype", "data"} <= {*self.table(stage).schema.names}:
            raise Error(f"stage `{stage}` has no weights: `train` and `weights` stages have")
        file = _written("w.safetensors", lambda file: self._call("export", stage, options=["--quiet", "--output", file]))
        return dict(load(file.to_pybytes()))

    # Looking

    def images(self, ids: Iterable[str], stage: str | None = None, raw: bool = False) -> list[Any]:
        """The images of these ids, in their order, as Pillow images; with `raw`, the bytes of their files. `stage` is the `images` stage
        that lists them, if there are several.

        >>> ids = pipeline.sql("SELECT image_id FROM assigned WHERE cluster = 3 ORDER BY distance LIMIT 9").to_arrow()
        >>> pipeline.images(ids["image_id"])[0].size
        (72, 64)
        """
        if isinstance(ids, (str, bytes)):
            raise TypeError("`ids` is a list of ids")
        wanted = [str(item.as_py() if hasattr(item, "as_py") else item) for item in ids]
        name = stage if stage is not None else self._images_stage()
        places = _images.places(self.table(name), wanted)
        reader = _images.Reader(self._checked().images(name))
        if raw:
            return [reader.read(place) for place in places]
        import PIL.Image

        pictures = []
        for image_id, place in zip(wanted, places):
            try:
                picture = PIL.Image.open(io.BytesIO(reader.read(place)))
                picture.load()
            except (OSError, ValueError, PIL.Image.DecompressionBombError) as error:
                raise Error(f"`{image_id}` is no picture that Pillow reads: {error}") from error
            pictures.append(picture)
        return pictures

    def _images_stage(self) -> str:
        found = [stage.stage for stage in self._stages() if stage.operator == "images"]
        if len(found) != 1:
            named = f"say which by `stage`: {', '.join(found)}" if found else "`raw` images are of `images` stages"
            raise Error(f"the file has {len(found)} stages of images; {named}")
        return found[0]

    def show(self, stage: str, count: int | None = None, clusters: Iterable[int] | None = None) -> Image:
        """A picture of a stage's rows, as `tessera show` draws it: puzzles, pixels, the images of each cluster, or a network's filters.

        >>> pipeline.show("assigned", count=12, clusters=[3, 17])
        """
        import PIL.Image

        options = [] if count is None else ["--count", str(count)]
        options += [] if clusters is None else ["--clusters", ",".join(map(str, clusters))]
        drawn = _written("picture.png", lambda file: self._call("show", stage, options=[*options, "--output", file], chatty=True))
        picture = PIL.Image.open(io.BytesIO(drawn.to_pybytes()))
        picture.load()
        return picture

    def __repr__(self) -> str:
        limit = "" if self.limit is None else f", limit={self.limit}"
        changes = f", set={self._changes!r}" if self._changes else ""
        return f"tessera.open({os.fspath(self.path)!r}{limit}{changes})"

    def _repr_html_(self) -> str:
        try:
            return f"<b>{escape(self.path.name)}</b>" + self._stages()._repr_html_()
        except Error as error:
            return f"<b>{escape(self.path.name)}</b><pre>{escape(str(error))}</pre>"


def _written(name: str, write: Callable[[str], object]) -> pa.Buffer:
    """What is written to a file that has no name any more: it lasts as long as the buffer, and takes no memory that the system needs."""
    folder = tempfile.mkdtemp(prefix="tessera-")
    try:
        file = os.path.join(folder, name)
        write(file)
        with pa.memory_map(file) as mapped:
            return mapped.read_buffer()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _each(option: str, values: Stages) -> list[str]:
    return [f"{option}={value}" for value in ([values] if isinstance(values, str) else values)]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _bare(query: str) -> str:
    """A query without what ends it."""
    return query.rstrip().rstrip(";")
