"""Texts that others have written: the characters of a line, refused where text enters, and how a line is shown.

Leaf module: it imports nothing of the project. A terminal obeys control characters (the C1 ones too), marks of
direction turn the words around them round, and format characters make two texts look like one. Joiners (U+200C,
U+200D) are allowed: Persian and many emoji are written with them.
"""

import re
from typing import Final

_NO_LINE: Final = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\ufffe\uffff"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Control characters; soft hyphen, marks and embeddings of direction, separators, invisible and interlinear format
characters, tags."""

LINE_PATTERN: Final = rf"[^{_NO_LINE}]*"
"""A line of text."""

_foreign: Final = re.compile(rf"[{_NO_LINE}\ud800-\udfff]")


def is_line(text: str) -> bool:
    """Tell whether the text is one that `LINE_PATTERN` takes."""
    return not _rude(text) or _foreign.search(text) is None


def escaped(text: str) -> str:
    r"""The text as it may be shown in a terminal or a log: what is in no line stands there as `\x9b`, `\u202e`."""
    return _foreign.sub(lambda found: found[0].encode("unicode_escape").decode(), text) if _rude(text) else text


def escaped_lines(text: str) -> str:
    """The same for several lines, which stay several."""
    return "\n".join(map(escaped, text.split("\n")))


def escaped_json(text: str, ascii_only: bool = False) -> str:
    """A JSON document with the same meaning and no such character; `ascii_only`: for an output that has no others."""
    pattern = _not_ascii if ascii_only else _foreign_json
    return pattern.sub(_json_escape, text)


_foreign_json: Final = re.compile(rf"(?![\n\t\r])[{_NO_LINE}]")
_not_ascii: Final = re.compile(r"[^\x00-\x7e]")


def _json_escape(found: "re.Match[str]") -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _rude(text: str) -> bool:
    return not (text.isascii() and text.isprintable())


_path: Final = re.compile(r"[A-Za-z0-9._:@~+=/-]*")


def renamed(text: str, name: str, instead: str) -> str:
    """A text in which something else stands for the key `name`: for the whole of it, or for a part between slashes;
    in a sentence where it is a word of its own."""
    if name not in text:
        return text
    if _path.fullmatch(text):
        return "/".join(instead if part == name else part for part in text.split("/"))
    word = rf"(?<![A-Za-z0-9_@~+=.-]){re.escape(name)}(?![.:]*[A-Za-z0-9_@~+=-])"
    return re.sub(word, lambda _: instead, text)


def is_named(text: str, name: str) -> bool:
    """Tell whether the key `name` stands in a text, as `renamed` finds it."""
    return renamed(text, name, "") != text
