"""The table of a format: patterns of lines, each with the records that it makes. Pure.

A row is `(kind, pattern, make)`. The first row whose pattern takes the whole text is the line's; `make(reader, found)`
gives its records, and a row without it names lines that are understood and tell nothing of a match. A new kind of line
is a new row (docs/imports.md).

A pattern must be linear: no repetition within a repetition, and at most one `.*` before something that must follow.
Lines come from whoever could write to the server.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from game.imports.records import Record

Found = re.Match[str]
Make = Callable[[Any, Found], Iterable[Record]]


class Row(NamedTuple):
    """A kind of line."""

    kind: str
    pattern: re.Pattern[str]
    make: Make | None = None


def row(kind: str, pattern: str, make: Make | None = None) -> Row:
    return Row(kind, re.compile(pattern, re.DOTALL), make)


def begins(kind: str, *words: str, after: str = "") -> Row:
    """A row for lines that begin with one of `words`, behind the pattern `after`, and tell nothing of a match."""
    return row(kind, f"{after}(?:{'|'.join(map(re.escape, words))}).*")


MAX_KIND: Final = 32


def kind_of(text: str) -> str:
    """A name for lines like `text` that no row takes: its first words, without what stands in quotes or brackets."""
    words = re.sub(r"[^A-Za-z_ ]", " ", re.sub(r'"[^"]*"', " ", text[:200])).split()
    return " ".join(words[:3])[:MAX_KIND] or "no words"


def read_row(rows: Sequence[Row], reader: Any, text: str) -> tuple[str, tuple[Record, ...]] | None:
    """Kind and records of `text` by the first row that takes it; None if none does."""
    for kind, pattern, make in rows:
        found = pattern.fullmatch(text)
        if found is not None:
            return kind, () if make is None else tuple(make(reader, found))
    return None
