"""Constants in Rust sources: how they are written, and whether they are what is expected."""

import dataclasses, re

# A comment, a character, a string (raw or not), a name or path, a number with its sign and type, and any other character.
TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)|'(?:\\.|[^'\\])'|r\#"(?s:.*?)"\#|"(?:\\.|[^"\\])*"|[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z0-9_]+)*"""
    r"""|(?P<number>-?\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)(?:[iu](?:8|16|32|64|128|size)|f32|f64)?|."""
)


@dataclasses.dataclass
class Golden:
    """A constant: its file, the text before it, itself, and how far its numbers may be off (in parts of those above 1)."""

    file: str
    before: str
    text: str
    tolerance: float = 0.0


def literal(value, spec=".8g"):
    """A number, string, list (an array) or tuple of them, as Rust writes it; other text is given as `Raw`."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(literal(item, spec) for item in value)}]"
    if isinstance(value, tuple):
        return f"({', '.join(literal(item, spec) for item in value)})"
    if isinstance(value, int):
        return f"{value:_}" if abs(value) > 99_999 else str(value)
    text = format(float(value), spec)
    if "." in text and "e" not in text:
        text = text.rstrip("0")
    return text + "0" if text.endswith(".") else text


class Raw(str):
    """Text of Rust as it is."""


def tokens(text):
    """Numbers as `float`s, all else as text; without space and comments, and without a comma before a closing bracket."""
    found = []
    for match in TOKEN.finditer(text):
        if match["skip"]:
            continue
        if match[0] in ")]}" and found and found[-1] == ",":
            found.pop()
        found.append(float(match["number"].replace("_", "")) if match["number"] else match[0])
    return found


class Sources:
    """The checkout, and its files' tokens."""

    def __init__(self, root):
        self.root, self.files = root, {}

    def check(self, golden):
        """Whether the file's constant differs, and what there is to say of it."""
        if golden.file not in self.files:
            self.files[golden.file] = tokens((self.root / golden.file).read_text())
        held, before, expected = self.files[golden.file], tokens(golden.before), tokens(golden.text)
        places = [at for at in range(len(held)) if held[at] == before[0] and held[at : at + len(before)] == before]
        what, allowed = golden.before.strip(" =("), f"tolerance {golden.tolerance:g}"
        if len(places) != 1:
            return True, f"`{what}` stands there {len(places)} times, not once"
        start, worst, numbers = places[0] + len(before), 0.0, 0
        if len(held) < start + len(expected):
            return True, f"`{what}` is cut off by the end of the file"
        for found, wanted in zip(held[start:], expected):
            if not (isinstance(found, float) and isinstance(wanted, float)):
                if found != wanted:
                    return True, f"`{what}` has `{found}` in place of `{wanted}`, behind {numbers} numbers"
                continue
            off = abs(found - wanted) / max(1.0, abs(wanted))
            worst, numbers = max(worst, off), numbers + 1
            if off > golden.tolerance:
                return True, f"`{what}` has {found!r} in place of {wanted!r}, behind {numbers - 1} numbers ({allowed})"
        return False, f"`{what}`: {numbers} numbers, the worst off by {worst:.1e} ({allowed})"
