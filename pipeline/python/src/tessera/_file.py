"""Where a pipeline's tables and images lie, as the binary says it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ._errors import Error

_URL = re.compile(r"[A-Za-z0-9]{2,}://")


def is_url(place: str) -> bool:
    """Whether a place lies in a bucket.

    >>> is_url("s3://bucket/photos"), is_url("/data/photos")
    (True, False)
    """
    return _URL.match(place) is not None


class PipelineFile:
    """What `tessera check --format json` says of a pipeline file."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def runs(self, limit: int | None) -> Path | None:
        """The folder of the runs' records and events; none if the store is a bucket."""
        store, name = self._document["store"], self._document["name"]
        return None if is_url(store) else Path(store, name if limit is None else f"{name}@{limit}", "runs")

    def images(self, stage: str) -> str:
        """The folder or URL that a stage's images lie in."""
        found: str | None = next((found["path"] for found in self._document["stages"] if found["stage"] == stage), None)
        if found is None:
            raise Error(f"{self._document['file']}: stage `{stage}` lists no images, so that nothing says where they lie")
        return found
