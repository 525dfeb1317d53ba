"""Small tables for notebooks."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

#: Values of a list that are shown.
SHOWN = 4
#: Characters of a text that are shown.
LONGEST = 80


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """An HTML table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(short(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def short(value: Any) -> str:
    """A value as a cell has room for it.

    >>> short([1.0, 2.0, 3.0, 4.0, 5.0])
    '[1, 2, 3, 4, … 5 values]'
    """
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, bool):
        return "true" if value else ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {short(item)}" for name, item in value.items() if item is not None) + "}"
    if isinstance(value, (list, tuple)):
        if all(isinstance(item, str) for item in value):
            return short("; ".join(value))
        shown = ", ".join(map(short, value[:SHOWN]))
        return f"[{shown}, … {len(value)} values]" if len(value) > SHOWN else f"[{shown}]"
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
