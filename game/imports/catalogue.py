"""The formats of logs that are known, and which of them a file is in. Pure.

A format of lines is a row here: a name, a title, what its lines begin with, and a reader of them. A file is in the
format that most of its first lines begin as; a line here and there may be anything.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from game.imports import hl, jsonlines, quake, xonotic
from game.imports.lines import Line
from game.imports.records import Reading

LOOKED_AT: Final = 100
"""Lines at a file's beginning by which it is recognised."""
ENOUGH: Final = 0.5
"""Share of them that must be the format's."""


class Reader(Protocol):
    """Reads lines of one file, in order. Never raises, and keeps no more than the players of a match."""

    def read(self, text: str) -> Reading: ...


class Format(NamedTuple):
    """A format of lines. `roster`: it shows who is there; `whole`: a file is one match."""

    name: str
    title: str
    begins: Callable[[str], object]
    reader: Callable[[], Reader]
    roster: bool = True
    whole: bool = False


def _begins(*patterns: re.Pattern[str]) -> Callable[[str], object]:
    return lambda text: any(pattern.match(text) for pattern in patterns)


FORMATS: Final = (
    Format("jsonl", "JSON Lines", _begins(jsonlines.PREFIX), jsonlines.JsonReader, roster=False, whole=True),
    Format("hl", "HL log standard", _begins(hl.FILE_PREFIX, hl.HTTP_PREFIX), hl.HlReader),
    Format("quake3", "Quake 3 games.log", _begins(quake.PREFIX), quake.QuakeReader),
    Format("xonotic", "Xonotic event log", _begins(xonotic.PREFIX), xonotic.XonoticReader),
)
FILM_TITLE: Final = "Halo Infinite film"


class Misfit(NamedTuple):
    """The first line of a file that no format has."""

    number: int
    text: str


def recognise(lines: Sequence[Line]) -> Format | Misfit:
    """The format of a file that begins with `lines`."""
    texts = [(line.number, line.text) for line in lines if line.text is None or line.text.strip()]
    fitting = {fmt: sum(bool(text and fmt.begins(text)) for _, text in texts) for fmt in FORMATS}
    best = max(FORMATS, key=lambda fmt: fitting[fmt])
    if texts and fitting[best] >= ENOUGH * len(texts):
        return best
    for number, text in texts:
        if not text or not best.begins(text):
            return Misfit(number, "(too long)" if text is None else text)
    return Misfit(0, "")
