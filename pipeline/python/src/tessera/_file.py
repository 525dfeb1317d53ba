"""What a pipeline file says of places: its store, and where the images of a stage lie. All else about it, the binary knows."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli

from ._errors import Error

_URL = re.compile(r"[A-Za-z0-9]{2,}://")


def is_url(place: str) -> bool:
    """Whether a place lies in a bucket.

    >>> is_url("s3://bucket/photos"), is_url("/data/photos")
    (True, False)
    """
    return _URL.match(place) is not None


class PipelineFile:
    """A pipeline file with the values that `set` gives in place of its own."""

    def __init__(self, path: Path, changes: Mapping[str, Any]) -> None:
        self.path = path
        self.changes = changes
        try:
            self.document: dict[str, Any] = tomli.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Error(f"{path} cannot be read: {error}") from error

    def runs(self, limit: int | None) -> Path | None:
        """The folder of the runs' records and events; none if the store is a bucket."""
        store = self._place(self._key("pipeline", "store") or ".tessera")
        name = self._text(self._key("pipeline", "name")) or self.path.stem
        name = name if limit is None else f"{name}@{limit}"
        return None if is_url(store) else Path(store, name, "runs")

    def images(self, stage: str) -> str:
        """The folder or URL that a stage's images lie in."""
        path = self._key(stage, "path")
        if not isinstance(path, str):
            raise Error(f"{self.path} does not say where the images of stage `{stage}` lie: it has no `path` there")
        return self._place(path)

    def _key(self, table: str, key: str) -> Any:
        """A key of a stage or of `pipeline`, as it holds now."""
        if f"{table}.{key}" in self.changes:
            changed = self.changes[f"{table}.{key}"]
            return os.fspath(changed) if isinstance(changed, os.PathLike) else changed
        found = self.document.get("pipeline", {}) if table == "pipeline" else self.document.get("stage", {}).get(table, {})
        return found.get(key) if isinstance(found, dict) else None

    def _place(self, text: Any) -> str:
        place = self._text(text) or ""
        if is_url(place):
            return place
        # As the binary does it: a user's own folder is `~`, and nobody else's.
        if place == "~" or place.startswith("~/"):
            home = os.environ.get("HOME")
            if home:
                return os.path.join(home, place[2:])
        return os.path.join(self.path.parent, place)

    def _text(self, text: Any) -> str | None:
        """A text with the values of environment variables for `${NAME}`; `$${` is a plain `${`."""
        if not isinstance(text, str):
            return None

        def one(found: re.Match[str]) -> str:
            if found[0] == "$${":
                return "${"
            if found[1] not in os.environ:
                raise Error(f"{self.path}: the environment variable `{found[1]}` is not set")
            return os.environ[found[1]]

        return re.sub(r"\$\$\{|\$\{([^}]*)\}", one, text)
