"""A stretch of a log: its events decoded, from one keyframe to the next, with what a replay asks of them. Pure.

It is made in steps, so that a loop has its turn between them, and by the very fold that live play and `garrison replay`
use: an event that does not evolve is damage here as it is there. A stretch ends where it is damaged, and says so.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Final

import msgspec

from server.errors import Corrupt, UnknownRules
from server.eventlog import fold
from server.eventlog.entry import Record, event_bytes
from server.eventlog.fold import Fold, LogGap, LoggedKind
from server.eventlog.ports import Chunk

STEP: Final = 128
"""Events that are decoded in one step."""
_STATE_EVERY: Final = 64
"""Events between two states that are kept to seek to."""
_BYTES_AN_EVENT: Final = 900
"""Memory that a decoded event takes beside its bytes, about: objects, and its share of a state."""

_decode = msgspec.msgpack.Decoder().decode


class Stretch:
    """Events from `first_seq` on. `records` are those that can be read, `gap` those that follow them and cannot."""

    def __init__(self, kind: LoggedKind[Any], first_seq: int, before: Any) -> None:
        self._kind = kind
        self.first_seq = first_seq
        self.records: list[Record] = []
        self.times: list[int] = []
        self.raws: list[msgspec.Raw] = []
        self.gap: LogGap | None = None
        self._states = [before]
        self.end = before
        """The state after the last event that can be read."""
        self.bytes = 2 * _BYTES_AN_EVENT

    @property
    def next_seq(self) -> int:
        """The number of the first event after it, and after its gap."""
        return self.first_seq + len(self.records) if self.gap is None else self.gap.last_seq + 1

    def add(self, record: Record, raw: msgspec.Raw, after: Any) -> None:
        """Take in the next event, with the state after it."""
        self.records.append(record)
        self.times.append(record.event.time_ms)
        self.raws.append(raw)
        if not len(self.records) % _STATE_EVERY:
            self._states.append(after)
        self.end = after
        self.bytes += _BYTES_AN_EVENT + 3 * len(bytes(raw))  # as msgpack, as JSON, and decoded

    def place_at(self, ms: float) -> int:
        """The place of the first event at `ms` or later."""
        return bisect_left(self.times, ms)

    def place_after(self, ms: float, place: int) -> int:
        """The place of the first event from `place` on that is later than `ms`."""
        return bisect_right(self.times, ms, place)

    def state_before(self, place: int) -> Any:
        """The state before the event at `place`. Raises nothing that making the stretch did not."""
        if place >= len(self.records):
            return self.end
        state = self._states[place // _STATE_EVERY]
        for record in self.records[place - place % _STATE_EVERY : place]:
            state = self._kind.evolve(state, record)
        return state

    @cached_property
    def texts(self) -> list[msgspec.Raw]:
        """The events as JSON, made once for all who read that."""
        return [msgspec.Raw(msgspec.json.encode(_decode(raw))) for raw in self.raws]

    def names(self, names_in: Callable[[Any], Iterable[str]]) -> list[frozenset[str]]:
        """The names in each event, made once; `names_in` is the same for all stretches of a kind."""
        if self._names is None:
            self._names = [frozenset(names_in(record.event)) for record in self.records]
        return self._names

    _names: list[frozenset[str]] | None = None


def missing(first_seq: int, last_seq: int, kind: LoggedKind[Any]) -> Stretch:
    """A stretch of which nothing is stored."""
    stretch = Stretch(kind, first_seq, kind.state_type())
    stretch.gap = LogGap(first_seq, last_seq, f"events {first_seq} to {last_seq} are missing")
    return stretch


def decoding(kind: LoggedKind[Any], base: Chunk | None, chunks: Sequence[Chunk]) -> Generator[None, None, Stretch]:
    """Decode `chunks`, which follow each other: a segment, or open chunks. `base` is the segment before those, None at
    the beginning of the log. Raises `UnknownRules`; damage is in the stretch."""
    first_seq, last_seq = chunks[0].first_seq, chunks[-1].last_seq
    stretch = Stretch(kind, first_seq, kind.state_type())
    moving: Fold[Any] | None = None
    try:
        for chunk in chain((base,) if base is not None else (), chunks):
            moving, entries = fold.opened(kind, chunk, moving)
            if chunk is chunks[0]:
                stretch = Stretch(kind, first_seq, moving.state)
                stretch.bytes += 8 * len(chunk.data)  # the state of its keyframe
            yield
            for place, entry in enumerate(entries, 1):
                record = _evolved(moving, entry)
                if chunk is not base:
                    stretch.add(record, event_bytes(entry), moving.state)
                if not place % STEP:
                    yield
    except Corrupt as error:
        stretch.gap = LogGap(first_seq + len(stretch.records), last_seq, error.message)
    return stretch


def _evolved(moving: Fold[Any], entry: Any) -> Record:
    try:
        return moving.take(entry)
    except (Corrupt, UnknownRules):
        raise
    except Exception as error:
        raise Corrupt(f"event {entry.seq}: evolve raises {type(error).__name__}: {error}") from error
