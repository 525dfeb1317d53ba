"""What the binary tells of stages, runs and differences."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

from . import _html


class _OfStage(Protocol):
    @property
    def stage(self) -> str: ...


Kind = TypeVar("Kind")
T = TypeVar("T", bound=_OfStage)


def _of(kind: type[Kind], document: Mapping[str, Any]) -> Kind:
    """A document as an object: keys that this version does not know are left out, and what is missing has its default."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in document.items() if name in names})


class Listing(Generic[T], Sequence[T]):
    """Things of stages, in order: by number, or by the stage's name.

    >>> pipeline.status()["images"].rows
    60
    >>> [stage.stage for stage in pipeline.plan() if stage.action != "reuse"]
    ['clusters', 'assigned']
    """

    def __init__(self, kind: type[T], documents: Sequence[Mapping[str, Any]]) -> None:
        self._kind = kind
        self._items: list[T] = [_of(kind, document) for document in documents]

    @overload
    def __getitem__(self, at: int | str) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | str | slice) -> T | list[T]:
        if not isinstance(at, str):
            return self._items[at]
        for item in self._items:
            if item.stage == at:
                return item
        raise KeyError(f"no stage `{at}` here: {', '.join(item.stage for item in self._items)}")

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __repr__(self) -> str:
        return "[" + ",\n ".join(map(repr, self._items)) + "]"

    def _repr_html_(self) -> str:
        names = [field.name for field in dataclasses.fields(self._kind)]  # type: ignore[arg-type]
        return _html.table(names, ([getattr(item, name) for name in names] for item in self._items))


@dataclasses.dataclass(frozen=True)
class StageReport:
    """What a run did about one stage."""

    stage: str
    #: `run`, `update`, `reuse` or `view`.
    action: str
    parts_written: int = 0
    #: Rows of the table; none of a view.
    rows_out: int | None = None
    rows_computed: int = 0
    rows_reused: int = 0
    rows_dropped: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run did.

    >>> report = pipeline.run(to="clusters")
    >>> report["clusters"].action, report.seconds
    ('run', 0.31)
    """

    stages: Listing[StageReport]
    seconds: float

    def __getitem__(self, stage: str) -> StageReport:
        return self.stages[stage]

    def _repr_html_(self) -> str:
        return self.stages._repr_html_() + f"<small>done in {self.seconds:.1f} s</small>"


@dataclasses.dataclass(frozen=True)
class PlannedStage:
    """What a run would do about one stage, and why."""

    stage: str
    #: `run`, `update`, `reuse` or `view`.
    action: str
    reasons: Sequence[str] = ()
    parts: int = 0
    stale_parts: int = 0


@dataclasses.dataclass(frozen=True)
class StageStatus:
    """A stage, and its table if it was made."""

    stage: str
    operator: str
    is_view: bool
    #: Rows of the table; none of a view, and of a stage that was not made yet.
    rows: int | None = None
    parts: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    #: When it was made, in UTC.
    made: datetime.datetime | None = None

    def __post_init__(self) -> None:
        if isinstance(self.made, str):
            made = datetime.datetime.fromisoformat(self.made[:19]).replace(tzinfo=datetime.timezone.utc)
            object.__setattr__(self, "made", made)


@dataclasses.dataclass(frozen=True)
class RowChange:
    """A row that differs between two snapshots."""

    #: `added`, `removed` or `changed`.
    change: str
    #: Whose row it is; none of a table without images.
    image_id: str | None = None
    #: The place of a row that is no image's.
    row: int | None = None
    #: The columns that changed.
    columns: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Difference:
    """How two snapshots of a stage differ."""

    stage: str
    old: str
    new: str
    added: int
    removed: int
    #: None of a table whose rows have no ids.
    changed: int | None
    unchanged: int
    #: In how many rows each column differs.
    columns: dict[str, int] = dataclasses.field(default_factory=dict)
    added_columns: Sequence[str] = ()
    removed_columns: Sequence[str] = ()
    #: The rows that differ, if they were asked for.
    rows: Sequence[RowChange] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Difference:
        """Of the binary's JSON."""
        rows = tuple(_of(RowChange, row) for row in document.get("rows", ()))
        return _of(cls, {**document, "rows": rows})


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    >>> pipeline.run(on_progress=print)
    images: run (images: never run)
    pretext: 128/600, epoch 1/10, loss 3.101
    """

    #: `begun`, `progress`, `metric`, `said`, `part_made`, `goes_on`, `ended` or `done`.
    event: str
    #: Whose it is; none of a line that is no stage's.
    stage: str | None = None
    #: Milliseconds since 1970.
    at_ms: int = 0
    #: Of `progress` and `goes_on`: what is done, of how much, in the stage's own units.
    done: int | None = None
    total: int | None = None
    note: str = ""
    #: Of `metric`.
    name: str | None = None
    value: float | None = None
    epoch: int | None = None
    step: int | None = None
    #: Of `said`.
    line: str = ""
    warning: bool = False
    #: Of `begun`.
    action: str | None = None
    reasons: Sequence[str] = ()
    #: Of `part_made` and `done`.
    rows: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Event:
        """Of a line of JSON."""
        return _of(cls, document)

    @property
    def at(self) -> datetime.datetime:
        """When it was, in UTC."""
        return datetime.datetime.fromtimestamp(self.at_ms / 1000, datetime.timezone.utc)

    def __str__(self) -> str:
        of = f"{self.stage}: " if self.stage else ""
        if self.event == "progress":
            return f"{of}{self.done}/{self.total}" + (f", {self.note}" if self.note else "")
        if self.event == "metric":
            return f"{of}{self.name} = {self.value}"
        if self.event == "said":
            return f"{of}{self.line}"
        if self.event in ("done", "part_made"):
            return f"{of}{self.event.replace('_', ' ')}, {self.rows} rows"
        return f"{of}{self.event.replace('_', ' ')}"
