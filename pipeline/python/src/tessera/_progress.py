"""What happens in a run, read from the file of its events while it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO, Callable

from ._results import Event


class Events:
    """Follows the events of the next run in a folder. Its file is the one that was not there before."""

    def __init__(self, folder: Path, tell: Callable[[Event], object]) -> None:
        self._folder, self._tell = folder, tell
        self._before = self._names()
        self._file: BinaryIO | None = None
        self._rest = b""

    def _names(self) -> set[str]:
        return {path.name for path in self._folder.glob("*.events")}

    def look(self) -> None:
        """Tells what happened since the last look."""
        if self._file is None:
            new = sorted(self._names() - self._before)
            if not new:
                return
            self._file = open(self._folder / new[0], "rb")
        lines = (self._rest + self._file.read()).split(b"\n")
        # The last line may still be on its way.
        self._rest = lines.pop()
        for line in lines:
            try:
                event = Event.of(json.loads(line))
            except (ValueError, TypeError):
                continue
            self._tell(event)

    def close(self) -> None:
        """Lets the file go."""
        if self._file is not None:
            self._file.close()
