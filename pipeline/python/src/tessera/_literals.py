"""Values of Python as TOML and as SQL."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Union

Params = Union[Mapping[str, Any], Sequence[Any]]


def toml(value: Any) -> str:
    """A value as TOML has it.

    >>> toml({"k": [1, 2.5, "a"], "keep": True})
    '{ "k" = [1, 2.5, "a"], "keep" = true }'
    """
    value = _plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        # TOML's basic strings are JSON's, but for one character that JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml(str(key))} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    if hasattr(value, "__fspath__"):
        return toml(value.__fspath__())
    raise TypeError(f"a pipeline file has no value such as {value!r}: text, numbers, bools, lists and dicts")


def _plain(value: Any) -> Any:
    """A NumPy or Arrow scalar as Python's own."""
    for name in ("as_py", "item"):
        if hasattr(value, name) and not isinstance(value, (str, bytes, Mapping)):
            return getattr(value, name)()
    return value


def sql(value: Any) -> str:
    """A value as a literal of SQL, of its own type; a list is a list of literals for `IN`.

    >>> sql("it's"), sql(0.5), sql([1, None])
    ("'it''s'", "CAST('0.5' AS DOUBLE)", '(1, NULL)')
    """
    value = _plain(value)
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return f"({value})" if value < 0 else str(value)
    if isinstance(value, float):
        text = "NaN" if math.isnan(value) else repr(value)
        return f"CAST('{text}' AS DOUBLE)"
    if isinstance(value, decimal.Decimal):
        return f"({value:f})"
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("a text in SQL has no zero bytes")
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"X'{bytes(value).hex()}'"
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
    if isinstance(value, datetime.date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, (list, tuple, set, frozenset)) or hasattr(value, "tolist"):
        items = value.tolist() if hasattr(value, "tolist") else list(value)
        if not items:
            raise ValueError("SQL has no empty list: `IN ()` is none")
        return "(" + ", ".join(map(sql, items)) + ")"
    raise TypeError(f"SQL has no literal for {value!r}")


# What is text, a quoted name or a comment stays as it is.
_PIECES = re.compile(
    r"""(?P<kept>'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | --[^\n]* | /\*.*?\*/ | \$\$.*?\$\$)
      | (?<![\w$])\$(?P<name>[A-Za-z_]\w*|[0-9]+)""",
    re.VERBOSE | re.DOTALL,
)


def filled(query: str, params: Params) -> str:
    """A query with literals for `$name` (of a mapping) or `$1`, `$2`, … (of a sequence).

    >>> filled("SELECT * FROM t WHERE a = $a AND b = '$a'", {"a": "x"})
    "SELECT * FROM t WHERE a = 'x' AND b = '$a'"
    """
    if isinstance(params, (str, bytes)):
        raise TypeError("`params` is a dict of names, or a list of values for $1, $2, …")
    values = dict(params) if isinstance(params, Mapping) else {str(at): value for at, value in enumerate(params, 1)}
    used = set()

    def one(piece: re.Match[str]) -> str:
        name = piece["name"]
        if name is None:
            return piece[0]
        if name not in values:
            raise ValueError(f"the query has ${name}, and `params` has {_names(values)}")
        used.add(name)
        return sql(values[name])

    query = _PIECES.sub(one, query)
    unused = [name for name in values if name not in used]
    if unused:
        raise ValueError(f"the query has no {_names(unused)}")
    return query


def _names(names: Any) -> str:
    listed: list[str] = [f"${name}" for name in names]
    return ", ".join(listed) or "none"
