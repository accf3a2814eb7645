"""Reading stored logs for replays: stretch by stretch, decoded once for all who watch.

Nothing is kept of where a log's chunks are, and each chunk is read from the store whenever somebody comes to it: so an
open log may be sealed meanwhile, and a log that was redacted or deleted is not shown as it was. The costly part,
decoding, is shared by the bytes: chunks with the same content are one stretch, whoever comes to them.

    end(kind, id)             the end of a log now, and the state there
    holding(kind, id, seq)    the stretch with event `seq`
    first_at(kind, id, ms)    the number of the first event at `ms` or later: a binary search over chunks' headers
"""

import asyncio
from collections.abc import Generator, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from server.errors import Corrupt, NotFound
from server.eventlog import fold, segment
from server.eventlog.fold import LoggedKind
from server.eventlog.ports import Chunk, LogStore, StoredLog
from server.ids import ActorId
from server.replays.cache import SharedCache
from server.replays.stretch import Stretch, decoding, missing
from server.runtime.supervisor import Supervisor
from server.wire.messages import MAX_SEQ

MOST_AT_ONCE: Final = 2_048
"""Events of a chunk above which it is taken apart in a thread: a segment with a large keyframe has many."""
_FIRST_LOOK: Final = 1_024
_LOOKS: Final = 256
"""Logs whose ends are remembered for a second."""
_SEALED_MEANWHILE: Final = 3
"""Times that a chunk is looked for again which was sealed between two reads."""


class LogEnd(msgspec.Struct, frozen=True):
    """The end of a log, as it was read: the number of the next event, the state, its clock, and whether it is whole."""

    next_seq: int
    state: Any
    time_ms: int
    finished: bool
    bytes: int
    """Memory that it takes, about."""


class _Found(NamedTuple):
    stretch: Stretch | None


class StretchReader:
    """See the module's head. `cache_bytes`: decoded stretches of all logs together. Who asks for the same while it is
    being read gets the same."""

    def __init__(self, logs: LogStore, supervisor: Supervisor, cache_bytes: int) -> None:
        self._logs = logs
        self._reads: SharedCache[tuple[ActorId, int], _Found] = SharedCache(0, lambda _: 1, supervisor)
        self._looks: SharedCache[tuple[ActorId, int], LogEnd] = SharedCache(_LOOKS, lambda _: 1, supervisor)
        self.stretches: SharedCache[bytes, Stretch] = SharedCache(cache_bytes, lambda each: each.bytes, supervisor)
        self._ends: SharedCache[bytes, LogEnd] = SharedCache(cache_bytes // 8, lambda each: each.bytes, supervisor)

    @property
    def shared(self) -> int:
        """How often a stretch was there, or on its way, for somebody who came to it."""
        return self.stretches.shared + self._reads.shared

    async def end_lately(self, kind: LoggedKind[Any], id: ActorId, now: float) -> LogEnd:
        """The end of a log as it was within the last second, for those who wait for more of it. Raises as `end`."""
        return await self._looks.get((id, int(now)), lambda: self.end(kind, id))

    async def end(self, kind: LoggedKind[Any], id: ActorId) -> LogEnd:
        """Raises `NotFound`, `Corrupt` where its end cannot be read, `UnknownRules`."""
        row = await self._read(kind, id, MAX_SEQ, MAX_SEQ)
        key = kind.name.encode() + row.head + row.next_seq.to_bytes(8, "big")

        async def load() -> LogEnd:
            tail = await self._logs.read_tail(kind.name, id)
            if tail is None:
                raise NotFound(f"no log of {id}")
            count = tail.next_seq - tail.chunks[0].first_seq if tail.chunks else 0
            loaded = await _apart(count, lambda: fold.load(kind, tail))
            entries = loaded.tail or loaded.sealed
            time_ms = entries[-1].time_ms if entries else 0
            size = 4_096 + 8 * sum(len(chunk.data) for chunk in tail.chunks)
            return LogEnd(loaded.next_seq, loaded.state, time_ms, kind.finished(loaded.state), size)

        return await self._ends.get(key, load)

    async def holding(self, kind: LoggedKind[Any], id: ActorId, seq: int) -> Stretch | None:
        """None where event `seq` is not stored yet. Raises `NotFound` where the log is gone, `UnknownRules`; damage is
        in the stretch."""
        return (await self._reads.get((id, seq), lambda: self._hold(kind, id, seq))).stretch

    async def _hold(self, kind: LoggedKind[Any], id: ActorId, seq: int) -> "_Found":
        return _Found(await self._holding(kind, id, seq))

    async def _holding(self, kind: LoggedKind[Any], id: ActorId, seq: int) -> Stretch | None:
        chunk: Chunk | None = None
        for _ in range(_SEALED_MEANWHILE):
            found = await self._read(kind, id, seq, seq + 1)
            if seq >= found.next_seq:
                return None
            chunk = next((each for each in found.chunks if each.first_seq <= seq <= each.last_seq), None)
            if chunk is None:
                after = await self._next_chunk(kind, id, seq, found.next_seq)
                return missing(seq, found.next_seq - 1 if after is None else after.first_seq - 1, kind)
            if chunk.sealed:
                return await self._stretch(kind, None, [chunk])
            opens = await self._open(kind, id)
            if opens is not None and opens.first_seq <= seq < opens.next_seq:
                return opens
        assert chunk is not None
        return await self._stretch(kind, None, [chunk])  # an open chunk without what is before it: damage

    async def first_at(self, kind: LoggedKind[Any], id: ActorId, ms: int, next_seq: int) -> int:
        """`next_seq`, which is the end of the log, where nothing is so late. What cannot be read counts as earlier."""
        return await self._first_at(kind, id, ms, 1, next_seq) if ms > 0 else 1

    async def _first_at(self, kind: LoggedKind[Any], id: ActorId, ms: int, low: int, high: int) -> int:
        while low < high:
            middle = (low + high) // 2
            span = await self._span(kind, id, middle)
            if span is None:  # damaged: an earlier one, or else a later one
                first, last = middle, middle
                found = await self._first_at(kind, id, ms, low, first)
                if found < first:
                    return found
                low = last + 1
            elif span.last_ms < ms:
                low = span.last_seq + 1
            elif span.first_ms >= ms:
                high = max(low, span.first_seq)
            else:
                stretch = await self.holding(kind, id, span.first_seq)
                if stretch is None or not stretch.records:
                    return span.last_seq + 1
                return stretch.first_seq + stretch.place_at(ms)
        return low

    async def _span(self, kind: LoggedKind[Any], id: ActorId, seq: int) -> segment.Span | None:
        """The place of the chunk with event `seq`, or of all open ones; None where there is none that can be read."""
        found = await self._read(kind, id, seq, seq + 1)
        chunk = next((each for each in found.chunks if each.first_seq <= seq <= each.last_seq), None)
        if chunk is None:
            return None
        if chunk.sealed:
            try:
                return segment.span(chunk.data)
            except Corrupt:
                return None
        opens = await self._open(kind, id)
        if opens is None or not opens.records:
            return None
        last_seq = max(opens.next_seq - 1, opens.first_seq)
        return segment.Span(opens.first_seq, last_seq, opens.times[0], opens.times[-1])

    async def _open(self, kind: LoggedKind[Any], id: ActorId) -> Stretch | None:
        """The open chunks of a log, together."""
        tail = await self._logs.read_tail(kind.name, id)
        if tail is None:
            return None
        base = tail.chunks[0] if tail.chunks and tail.chunks[0].sealed else None
        chunks = tail.chunks[1:] if base is not None else tail.chunks
        return await self._stretch(kind, base, chunks) if chunks else None

    async def _stretch(self, kind: LoggedKind[Any], base: Chunk | None, chunks: Sequence[Chunk]) -> Stretch:
        digest = blake2b(kind.name.encode(), digest_size=16)
        for chunk in chunks if base is None else [base, *chunks]:
            digest.update(f"/{chunk.first_seq}/{chunk.last_seq}/{chunk.sealed}/{len(chunk.data)}/".encode())
            digest.update(chunk.data)
        count = chunks[-1].last_seq - (base or chunks[0]).first_seq

        async def load() -> Stretch:
            if count > MOST_AT_ONCE:
                return await asyncio.to_thread(lambda: _all_of(decoding(kind, base, chunks)))
            steps = decoding(kind, base, chunks)
            while True:
                try:
                    next(steps)
                except StopIteration as done:
                    stretch: Stretch = done.value
                    return stretch
                await asyncio.sleep(0)

        return await self.stretches.get(digest.digest(), load)

    async def _next_chunk(self, kind: LoggedKind[Any], id: ActorId, seq: int, next_seq: int) -> Chunk | None:
        """The first chunk after `seq`, which none holds."""
        look = _FIRST_LOOK
        while True:
            found = await self._read(kind, id, seq, seq + look)
            if found.chunks or seq + look >= next_seq:
                return found.chunks[0] if found.chunks else None
            look *= 4

    async def _read(self, kind: LoggedKind[Any], id: ActorId, from_seq: int, to_seq: int) -> StoredLog:
        found = await self._logs.read_log(kind.name, id, from_seq, to_seq)
        if found is None:
            raise NotFound(f"no log of {id}")
        return found


async def _apart(count: int, work: Any) -> Any:
    """The result of `work` on so many events: in a thread if they are many."""
    return await asyncio.to_thread(work) if count > MOST_AT_ONCE else work()


def _all_of(steps: Generator[None, None, Stretch]) -> Stretch:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            stretch: Stretch = done.value
            return stretch
