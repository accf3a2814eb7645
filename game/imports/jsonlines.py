"""Recordings as JSON Lines, the form that `garrison play` reads. Pure.

    {"time_ms": 57801, "player": "spartan-5642382e", "type": "kill"}

`type` is `kill`, `death`, `assist`, `medal` (with `medal`, its name), `mode` (with a name and points,
maybe) or `score` (with `points`); a file is a match. A kill and its death are lines of their own, and nobody says when
a player came. `player` is a key.
"""

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from game.imports.lines import clean
from game.imports.records import Happened, Reading
from server.ids import KEY_PATTERN, whole

PREFIX: Final = re.compile(r'\s*\{\s*"')


Key = Annotated[str, Meta(pattern=whole(KEY_PATTERN))]


class Recorded(msgspec.Struct):
    """A line of a recording; other fields are passed over."""

    time_ms: Annotated[int, Meta(ge=0, le=2**52)]
    player: Key
    type: str
    medal: str = ""
    name: str = ""
    points: Annotated[int, Meta(ge=-10_000, le=10_000)] = 0
    victim: Key | None = None


_decoder = msgspec.json.Decoder(Recorded)
_TYPES: Final = frozenset({"kill", "death", "assist", "medal", "mode", "score"})


class JsonReader:
    """Reads lines of a recording, one by one."""

    def read(self, text: str) -> Reading:
        if not text.strip():
            return Reading("empty")
        try:
            line = _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return Reading("not an event", known=False)
        if line.type not in _TYPES:
            return Reading(f"type {clean(line.type, 24)}", known=False)
        if line.type == "medal" and not clean(line.medal):
            return Reading("a medal without its name", known=False)
        detail = clean(line.name) or "mode" if line.type == "mode" else clean(line.medal)
        happened = Happened(line.type, line.player, detail, line.points, line.victim)
        return Reading(line.type, clock_ms=line.time_ms, records=(happened,))
