"""Rows of the events of a stored log, for columns that have lost them. Pure.

A chunk that is damaged, an event that cannot be read, and one of which the application makes no row for a fault of its
own are left out and counted; they stop nothing. The hash chain is not checked here: that is the affair of who replays a
log or verifies it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from server import states
from server.actors.recorded import RecordedEvents
from server.columns.block import Row
from server.errors import Corrupt, GarrisonError
from server.eventlog import segment
from server.eventlog.entry import Entry, event_decoder
from server.eventlog.fold import Fold, LoggedKind
from server.eventlog.ports import Chunk
from server.eventlog.segment import Segment
from server.reloads.rule import LostSpan, Range, Reckoning
from server.wire.codec import UNDECODABLE


class LoadedRows(NamedTuple):
    """Rows of a span; `damaged`: events of it that could not be read, and why the first of them could not."""

    rows: list[Row]
    damaged: int = 0
    why: str = ""


class RowReader:
    """Makes rows of one table. `since_ms`: rows before that are too old; `now_ms`: nothing is later."""

    def __init__(self, recorded: RecordedEvents, since_ms: int, now_ms: int) -> None:
        self._recorded, self._since_ms, self._now_ms = recorded, since_ms, now_ms
        self._kind: LoggedKind[Any] = recorded.actor.logged_kind()
        self._decode = event_decoder(self._kind.event_type)

    def rows(self, lost: LostSpan, first: Sequence[Chunk], chunks: Sequence[Chunk]) -> LoadedRows:
        """The rows of `lost`, of `chunks` that have its events. `first`: the chunk that has event 1."""
        parts, why = _decoded(chunks)
        begin = parts[:1] if chunks[:1] == first else _decoded(first)[0]
        try:
            state = self._state(begin, parts)
        except GarrisonError as error:
            return LoadedRows([], lost.rows, why or error.message)
        reckoning = Reckoning(lost.span.began_ms, self._now_ms)
        found: list[Row] = []
        readable = 0
        for part in parts:
            rows, bad, fault = self._rows(lost, part.entries, state, reckoning)
            readable += _inside(lost.ranges, (part.first_seq, part.last_seq)) - bad
            why = why or fault
            found += rows
        return LoadedRows(found, max(0, lost.rows - readable), why)

    def _rows(
        self, lost: LostSpan, entries: Sequence[Entry], state: Any, reckoning: Reckoning
    ) -> tuple[list[Row], int, str]:
        """Rows, how many events cannot be read, and why the first of them cannot. Every event of the span has its say
        in the reckoning, also where its row is there."""
        key, decode, since_ms = lost.span.key, self._decode, self._since_ms
        make, told_ms, time = self._recorded.row, self._recorded.told_ms, reckoning.time
        first_seq, last_seq = lost.span.first_seq, lost.span.last_seq
        is_whole = lost.ranges == [(first_seq, last_seq)]
        rows: list[Row] = []
        bad, why = 0, ""
        for entry in entries:
            seq = entry.seq
            if not first_seq <= seq <= last_seq:
                continue
            try:
                event = decode(entry.data)[0]
                time_ms = time(entry.time_ms, told_ms(event))
                if time_ms < since_ms or not (is_whole or _holds(lost.ranges, seq)):
                    continue
                values = make(key, seq, event, state)
            except Exception as error:
                bad, why = bad + _holds(lost.ranges, seq), why or f"event {seq}: {error}"
                continue
            if values is not None:
                rows.append((time_ms, *values))
        return rows, bad, why

    def _state(self, begin: Sequence[Segment], parts: Sequence[Segment]) -> Any:
        """The state after the log's first event, or a later one where that cannot be read. Raises `GarrisonError`."""
        failure: GarrisonError = Corrupt("the first event cannot be read")
        for part in (*begin, *parts):
            try:
                if part.first_seq == 1:
                    before = Fold(self._kind, self._kind.state_type())
                    before.take(part.entries[0])
                    return before.state
                if part.keyframe is not None:
                    return states.decoder(self._kind.state_type)(part.keyframe)
            except GarrisonError as error:
                failure = error
            except UNDECODABLE as error:
                failure = Corrupt(f"keyframe: {error}")
        raise failure


def _decoded(chunks: Sequence[Chunk]) -> tuple[list[Segment], str]:
    """The chunks that can be read, and why the first of the others cannot."""
    found: list[Segment] = []
    why = ""
    for chunk in chunks:
        try:
            found.append(segment.decode(chunk.data, chunk.first_seq, chained=False))
        except Corrupt as error:
            why = why or error.message
    return found, why


def _holds(ranges: Sequence[Range], seq: int) -> bool:
    return any(first <= seq <= last for first, last in ranges)


def _inside(ranges: Sequence[Range], part: Range) -> int:
    """Numbers of `part` that are in `ranges`."""
    return sum(max(0, min(last, part[1]) - max(first, part[0]) + 1) for first, last in ranges)
