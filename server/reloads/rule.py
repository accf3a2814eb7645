"""The rule of a reload: which rows of events a node loads from the store again, and the time of each. Pure.

The store notes with the first append of each activation which run of which node records the log's events from there on
(`persistence/engine/recorders.py`), in the transaction of the append, which is fenced. So of every event there is one
node at most that recorded it: that of the last note up to it. A node loads again

- only *spans* that runs of this node before this one have recorded: never what another node has or had, so that it
  makes no difference whether that one lives, is dead, or comes back with its memory;
- of these only what its own blocks do not hold, by key and number: so a reload that begins again, after its process
  or its node ended, goes on, and memory of this node that comes back is not doubled;
- nothing that retention would have dropped: no row older than `columns.max_age_s`, and none for which there is no
  room beside what is there.

Events without a note (appended by a node without columns, or before there were notes, or imported) are loaded by
nobody. Rows of a node that never comes back under its name are gone.

An event of a log says when it was by the log's own clock only. Its row's time is reckoned from the last event before it
that says a wall time, or from when the activation began, by the difference of the two on that clock. A wall time of the
future, or of long before the activation, is none: it would take all later events there.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Range = tuple[int, int]
"""Numbers of events, the first and the last."""
MARGIN_S: Final = 86_400.0
"""Activations that began so long before the oldest row that may be kept are looked at: they may have newer events."""
LAST_SEQ: Final = 2**32 - 1
"""The greatest number that a row has for its event."""


class RecordedSpan(NamedTuple):
    """Events of a log that this node recorded: the log's key, numbers, and when the activation began, Unix ms."""

    key: str
    first_seq: int
    last_seq: int
    began_ms: int

    @property
    def is_sound(self) -> bool:
        """False where a column of the note, or of a chunk, is damaged: such a span would have more rows than all
        others, or no number of rows at all."""
        numbers = (self.first_seq, self.last_seq, self.began_ms)
        return all(type(each) is int for each in numbers) and self.first_seq >= 1 and self.last_seq <= LAST_SEQ


class LostSpan(NamedTuple):
    """A span, and the ranges of it that are to be loaded."""

    span: RecordedSpan
    ranges: Sequence[Range]

    @property
    def rows(self) -> int:
        """Events in its ranges."""
        return sum(last - first + 1 for first, last in self.ranges)


class HeldEvents:
    """Numbers of the events of each log that a node's blocks hold."""

    def __init__(self) -> None:
        self._ranges: dict[str, list[Range]] = {}

    def add(self, keys: "NDArray[np.uint16]", seqs: "NDArray[np.uint32]", texts: Sequence[str]) -> None:
        """Take in the rows of a block: the number of a text, which is the key, and the number of an event."""
        order = np.lexsort((seqs, keys))
        keys, seqs = keys[order], seqs[order].astype(np.int64)
        breaks = np.flatnonzero((np.diff(keys) != 0) | (np.diff(seqs) > 1)) + 1
        starts = [0, *breaks.tolist()] if len(keys) else []
        ends = [*(breaks - 1).tolist(), len(keys) - 1]
        for start, end in zip(starts, ends, strict=False):
            found = (int(seqs[start]), int(seqs[end]))
            self._ranges.setdefault(texts[int(keys[start])], []).append(found)

    def lost(self, span: RecordedSpan) -> LostSpan:
        """The part of `span` that is not held."""
        return LostSpan(span, without((span.first_seq, span.last_seq), self._ranges.get(span.key, ())))


def without(wanted: Range, held: Iterable[Range]) -> list[Range]:
    """The ranges of `wanted` that are in none of `held`."""
    at, last = wanted
    found: list[Range] = []
    for start, end in sorted(held):
        if end < at:
            continue
        if start > last:
            break
        if start > at:
            found.append((at, start - 1))
        at = end + 1
    if at <= last:
        found.append((at, last))
    return found


class Reckoning:
    """Wall times of a span's events, in their order: never backwards, never in the future."""

    def __init__(self, began_ms: int, now_ms: int) -> None:
        self._wall_ms, self._clock_ms = began_ms, -1
        self._last_ms, self._now_ms = 0, now_ms
        self._earliest_ms = max(1, began_ms - int(1000 * MARGIN_S))

    def time(self, clock_ms: int, told_ms: int) -> int:
        """The time of an event with `clock_ms` on the log's clock that says `told_ms` of itself (0: nothing)."""
        if self._earliest_ms <= told_ms <= self._now_ms:
            self._wall_ms, self._clock_ms = told_ms, clock_ms
        elif self._clock_ms < 0:
            self._clock_ms = clock_ms
        time_ms = min(max(self._last_ms, self._wall_ms + clock_ms - self._clock_ms), self._now_ms)
        self._last_ms = time_ms
        return time_ms
