"""The `tessera` binary: where it is, and how it is called."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from ._errors import Error, note

#: Seconds between two looks at what happens in a run.
LOOK = 0.1
#: The time with which a message of a run begins.
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")
#: Lines with which the binary says something beside its answer or its error.
BESIDE = ("note: ", "warning: ", "left out by stage ")

_HOW_TO_GET_IT = (
    "build it with `make build` in a checkout of Tessera, which prints its path last, and then name that path: "
    'tessera.open(FILE, binary="…/tessera"), or export TESSERA=…/tessera, or put its folder on the PATH'
)


def find(named: str | os.PathLike[str] | None) -> Path:
    """The binary: the one that is named, $TESSERA, the one beside this package, the one of the checkout that this package lies in,
    or the first on the PATH."""
    if named is not None:
        return _usable(named, "the argument `binary`")
    if os.environ.get("TESSERA"):
        return _usable(os.environ["TESSERA"], "$TESSERA")
    here = Path(__file__).resolve().parent
    beside = [here / "bin" / "tessera"]
    if here.parts[-4:-1] == ("pipeline", "python", "src"):
        beside.append(here.parents[3] / "target" / "release" / "tessera")
    for path in beside:
        if path.is_file() and os.access(path, os.X_OK):
            return path
    found = shutil.which("tessera")
    if found is None:
        places = ", ".join(map(str, beside))
        raise Error(
            f"there is no tessera binary: $TESSERA is not set, and there is none at {places} or on the PATH. "
            f"To get the binary, {_HOW_TO_GET_IT}"
        )
    return Path(found)


def _usable(path: str | os.PathLike[str], who: str) -> Path:
    path = os.path.expanduser(path)
    # A name alone is looked for on the PATH.
    found = shutil.which(path) or path
    if not os.path.isfile(found):
        raise Error(f"{who} names {path}, and there is no such file. To get the binary, {_HOW_TO_GET_IT}")
    if not os.access(found, os.X_OK):
        raise Error(f"{who} names {path}, which cannot be executed. To get the binary, {_HOW_TO_GET_IT}")
    return Path(found).absolute()


class Binary:
    """A binary that was started once, so that it is known to be tessera."""

    _known: dict[tuple[str, int, int], Binary] = {}
    _lock = threading.Lock()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writes: bool | None = None
        said = self.call(["--version"]).split()
        if len(said) != 2 or said[0] != "tessera":
            raise Error(f"{path} is another program: asked for its version, it says `{' '.join(said)[:80]}`")
        #: Its version.
        self.version = said[1]

    @classmethod
    def at(cls, path: Path) -> Binary:
        """The binary at a path; one that was built anew meanwhile is another one."""
        found = path.stat()
        key = (os.fspath(path), found.st_mtime_ns, found.st_size)
        with cls._lock:
            if key not in cls._known:
                cls._known[key] = cls(path)
            return cls._known[key]

    @property
    def sql_writes(self) -> bool:
        """Whether `tessera sql -o FILE` writes an answer to a file, with all types."""
        if self._writes is None:
            lines = self.call(["sql", "--help"]).splitlines()
            self._writes = any(line.split()[:2] == ["-o,", "--output"] for line in lines)
        return self._writes

    def call(
        self,
        arguments: Sequence[str],
        query: str | None = None,
        meanwhile: Callable[[], None] | None = None,
        chatty: bool = False,
    ) -> str:
        """Calls the binary and returns what it prints. What it says beside that becomes a warning; of a `chatty` command, only its
        notes and warnings.

        `query` is given as its standard input. `meanwhile` is called again and again until it ends, and once more then. An interrupt
        of this process (^C), and any error of `meanwhile`, interrupts the binary, waits for it, and goes on.
        """
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write((query or "").encode())
            given.seek(0)
            code = self._wait(arguments, (given, out, err), meanwhile)
            out.seek(0)
            err.seek(0)
            # Names of files need not be UTF-8.
            printed = out.read().decode(errors="surrogateescape")
            stderr = err.read().decode(errors="replace")
        told = [TIME.sub("", line) for line in stderr.splitlines()]
        for line in told:
            # After a success, all that is told is told beside the answer.
            if line.strip() and ((code == 0 and not chatty) or line.startswith(BESIDE)):
                note(line[len("note: ") :] if line.startswith("note: ") else line)
        if code == 0:
            return printed
        said = "\n".join(line for line in told if not line.startswith(BESIDE)).strip("\n")
        if said.startswith("error: "):
            said = said[len("error: ") :]
        raise Error(said or f"{self.path} ended with exit code {code}", code, stderr)

    def _wait(self, arguments: Sequence[str], files: tuple[Any, Any, Any], meanwhile: Callable[[], None] | None) -> int:
        given, out, err = files
        # In a group of its own the binary does not hear the terminal's ^C: a second one would end it at once.
        group: dict[str, Any] = {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
        try:
            child = subprocess.Popen([os.fspath(self.path), *arguments], stdin=given, stdout=out, stderr=err, **group)
        except OSError as error:
            raise Error(f"{self.path} cannot be started: {error.strerror}") from error
        try:
            while True:
                try:
                    code = child.wait(timeout=None if meanwhile is None else LOOK)
                    break
                except subprocess.TimeoutExpired:
                    assert meanwhile is not None
                    meanwhile()
        except BaseException:
            _interrupt(child)
            raise
        if meanwhile is not None:
            meanwhile()
        return code


def _interrupt(child: subprocess.Popen[bytes]) -> None:
    """Asks a child to end, and waits until it did. Whoever presses ^C again does not want to wait."""
    while child.poll() is None:
        try:
            child.send_signal(signal.SIGINT)
            child.wait()
        except KeyboardInterrupt:
            continue
