"""What goes wrong, and what the binary says beside its answers."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


class Error(Exception):
    """The binary refused or failed. The text is the binary's own message.

    >>> try:
    ...     pipeline.table("nosuch")
    ... except tessera.Error as error:
    ...     print(error.code, error)
    2 unknown stage `nosuch`; stages: images, decoded, features, clusters, assigned
    """

    #: The binary's exit code: 1 the work failed, 2 a wrong file or argument, 4 another run holds the store, 130 interrupted; none if it
    #: did not run.
    code: int | None
    #: All that the binary wrote to stderr.
    stderr: str

    def __init__(self, message: str, code: int | None = None, stderr: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.stderr = stderr


class Note(UserWarning):
    """What the binary says beside an answer: that a table is of an earlier file, that images were left out.

    >>> import warnings
    >>> warnings.simplefilter("ignore", tessera.Note)    # says nothing any more
    >>> warnings.simplefilter("error", tessera.Note)     # refuses tables that are not what the file says
    """


def note(text: str) -> None:
    """Warns, in the name of the line outside this package that called it."""
    level = 1
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, Note, stacklevel=level)
