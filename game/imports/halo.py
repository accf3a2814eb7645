"""Highlights of Halo Infinite's theatre films, through the package `spnkr` (the extra `halo`).

A film's highlight chunk is one compressed piece of bytes, with each kill, death, medal and mode event, its time, its
player and the player's name. Two layouts are around, and the file does not say which it has: the film's metadata do
(`--film-version`). Without that the newer one is tried first, then the other.
"""

import importlib.util
import zlib
from typing import Any, Final

from game.imports.lines import clean
from game.imports.records import Happened, Met, Reading
from server.errors import BadInput

MAX_FILM: Final = 2 * 1024 * 1024
"""Bytes of a film's highlights, compressed or not. Real ones have less than a tenth."""
VERSIONS: Final = (41, 39)
"""A version of each layout."""
EXTRA: Final = "Halo Infinite's film highlights need the extra `halo`: pip install 'garrison-server[halo]'"


def is_packed(start: bytes) -> bool:
    """Tell whether a file that begins with these two bytes may be compressed as films are (zlib)."""
    return len(start) >= 2 and start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0


def unpacked(data: bytes) -> bytes | None:
    """The bytes that are compressed in `data`, None where it is no such file, or too large."""
    if not is_packed(data[:2]):
        return None
    decompressor = zlib.decompressobj()
    try:
        raw = decompressor.decompress(data, MAX_FILM)
    except zlib.error:
        return None
    return raw if decompressor.eof and raw else None


def read_film(data: bytes, version: int | None = None) -> list[Reading]:
    """The events of a film, in the order of time. Raises `BadInput` where they cannot be read, or the extra is not
    installed."""
    if importlib.util.find_spec("spnkr") is None:
        raise BadInput(EXTRA)
    raw = unpacked(data)
    if raw is None:
        raise BadInput("not the highlights of a film")
    events: list[Any] = []
    for layout in VERSIONS if version is None else (version,):
        found = _events(raw, layout)
        if found:
            events = found
            break
    if not events:
        told = f"film version {version}" if version is not None else "any film version: try --film-version"
        raise BadInput(f"no highlights in the layout of {told}")
    return [_reading(event) for event in sorted(events, key=lambda each: each.time_ms)]


def _reading(event: Any) -> Reading:
    key, what = f"xuid:{event.xuid}", event.event_type
    detail = "mode" if what == "mode" else clean(event.medal_name or f"medal {event.medal_value}")
    met = Met(key, clean(event.gamertag), playing=False)
    return Reading(what, clock_ms=event.time_ms, records=(met, Happened(what, key, detail)))


def _events(raw: bytes, version: int) -> list[Any] | None:
    """The events, None where the layout is another one. Whatever a hostile file makes the reader raise is that too."""
    from spnkr.film import highlight_events

    try:
        return list(highlight_events.read(zlib.compress(raw, 1), version))
    except Exception:
        return None
