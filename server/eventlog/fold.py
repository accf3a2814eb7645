"""The fold of a stored log: from bytes to states, for any kind of logged actor. Pure.

    load(kind, log)      the last keyframe and what follows it: what an activation goes on from
    steps(kind, log)     each event with the state before and after it: what a replay shows
    readable(kind, log)  the same of a damaged log, with the gaps in it
    at(kind, log, ...)   the state at an event or a time: what seeking needs
    opened(kind, chunk)  a chunk's entries and a fold before them: what reads a log a chunk at a time
    verify(kind, log)    everything recomputed from event 1 and compared with what is stored
    chain(log)           the bytes alone, where the rules of the log are not to be had

All but the last walk one `Fold`, which evolves a state and its running hash entry by entry and accepts no
gap, and so does the live log when it seals a segment. The state is made by the same `evolve` as in
live play, so that a replay is the match (event sourcing; the fold itself is the "replay" of a write-ahead
log). This room does not know actors: a `LoggedKind` says all that the fold needs of one.
"""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

from server import states
from server.errors import Corrupt, UnknownRules
from server.eventlog import segment
from server.eventlog.entry import NO_HEAD, Entry, Record, decode_record, next_head, state_hash
from server.eventlog.ports import Chunk, StoredLog
from server.eventlog.segment import Segment
from server.wire.codec import UNDECODABLE

S = TypeVar("S", bound=msgspec.Struct)


class LoggedKind(msgspec.Struct, Generic[S], frozen=True):
    """Description of a kind of logged actor. `state_type()` is the state before event 1; `event_type` is a
    tagged union of array structs; `evolve` and `finished` are pure."""

    name: str
    state_type: type[S]
    event_type: Any
    evolve: Callable[[S, Record], S]
    finished: Callable[[S], bool]


class Fold(Generic[S]):
    """A state at one place of a log, with the running hash there; `take` moves it over the next entry."""

    __slots__ = ("_kind", "head", "next_seq", "state")

    def __init__(self, kind: LoggedKind[S], state: S, head: bytes = NO_HEAD, next_seq: int = 1) -> None:
        self._kind = kind
        self.state = state
        self.head = head
        self.next_seq = next_seq

    def take(self, entry: Entry) -> Record:
        """Evolve by `entry`, which must be the next one. Raises `Corrupt` where it is not, or its event
        cannot be read; then nothing has changed."""
        if entry.seq > self.next_seq:
            raise Corrupt(f"events {self.next_seq} to {entry.seq - 1} are missing")
        if entry.seq < self.next_seq:
            raise Corrupt(f"event {entry.seq} comes after event {self.next_seq - 1}")
        record = decode_record(entry, self._kind.event_type)
        self.state = self._kind.evolve(self.state, record)
        self.head = next_head(self.head, entry)
        self.next_seq = entry.seq + 1
        return record

    def move(self, end: "End[S]") -> None:
        """Stand after `end`, whose state is known: as if every entry up to there had been taken."""
        assert end.state is not None
        self.state, self.head, self.next_seq = end.state, end.head, end.last_seq + 1


class End(msgspec.Struct, Generic[S], frozen=True):
    """The end of an open chunk: its last number, and running hash and state there (None: not known)."""

    last_seq: int
    head: bytes
    state: S | None


class Loaded(msgspec.Struct, Generic[S], frozen=True):
    """A log as an activation takes it up. `state` and `head` are those at its end. `tail` holds the entries
    of open chunks, which end at `ends`; `base` and `base_head` are the state and the running hash
    before the tail; `sealed` holds the entries of the last segment."""

    state: S
    head: bytes
    next_seq: int
    base: S
    base_head: bytes
    sealed: list[Entry]
    tail: list[Entry]
    ends: list[End[S]]


class Step(msgspec.Struct, Generic[S], frozen=True):
    """An event as it happened: the record, the state before and the state after."""

    record: Record
    before: S
    after: S


class LogGap(msgspec.Struct, frozen=True):
    """Events `first_seq` to `last_seq` cannot be read, for the reason in `why`."""

    first_seq: int
    last_seq: int
    why: str


class Chain(msgspec.Struct, frozen=True):
    """A log whose bytes are good. `head` is the last running hash, in hex."""

    events: int
    segments: int
    open_chunks: int
    head: str


class Verified(msgspec.Struct, Generic[S], frozen=True):
    """A log that is good. `keyframes` counts those that were recomputed; `end_hash` is true if the
    log is finished and its end's hash was recomputed too. `head` is the last running hash, in hex."""

    events: int
    segments: int
    open_chunks: int
    keyframes: int
    end_hash: bool
    head: str
    state: S


def load(kind: LoggedKind[S], log: StoredLog | None) -> Loaded[S]:
    """The end of `log`, from its last segment on; a log that is None was never written. Raises `Corrupt`
    where the stored bytes fail a check, or do not end where the log's row says."""
    fresh = kind.state_type()
    if log is None:
        return Loaded(fresh, NO_HEAD, 1, fresh, NO_HEAD, [], [], [])
    first = max((place for place, chunk in enumerate(log.chunks) if chunk.sealed), default=0)
    parts = [_decode(chunk) for chunk in log.chunks[first:]]
    fold = _fold_before(kind, parts[0]) if parts else Fold(kind, fresh)
    sealed = parts.pop(0).entries if parts and parts[0].sealed else []
    for entry in sealed:
        fold.take(entry)
    base, base_head = fold.state, fold.head
    ends: list[End[S]] = []
    for part in parts:
        _take_all(fold, part)
        ends.append(End(part.last_seq, fold.head, fold.state))
    _check_end(fold, log)
    tail = [entry for part in parts for entry in part.entries]
    return Loaded(fold.state, fold.head, fold.next_seq, base, base_head, sealed, tail, ends)


def steps(kind: LoggedKind[S], log: StoredLog, from_ms: int = 0) -> Iterator[Step[S]]:
    """Every event from clock `from_ms` on, with states; begins at the keyframe at or before
    it, so that earlier segments are not evolved. Raises `Corrupt`, at the end where the log lacks its own."""
    chunks = log.chunks[_chunk_before(log.chunks, from_ms) :] if from_ms else log.chunks
    fold: Fold[S] | None = None
    for chunk in chunks:
        part = _decode(chunk)
        fold = fold or _fold_before(kind, part)
        for entry in part.entries:
            before = fold.state
            record = _take(fold, part, entry)
            if entry.time_ms >= from_ms:
                yield Step(record, before, fold.state)
    _check_end(fold or Fold(kind, kind.state_type()), log)


def readable(
    kind: LoggedKind[S], log: StoredLog, from_ms: int = 0, *, excerpt: bool = False
) -> Iterator[Step[S] | LogGap]:
    """Like `steps`, of a log that may be damaged: a `LogGap` stands for what cannot be read. A damaged chunk takes what
    follows along as far as the next keyframe; everything before it, and from there on, is as it was.
    `excerpt`: the log's chunks are some of all, and nothing is missed before and after them."""
    chunks = log.chunks[_readable_from(log.chunks, from_ms) :] if from_ms else log.chunks
    expected = chunks[0].first_seq if (from_ms or excerpt) and chunks else 1
    fold: Fold[S] | None = None
    gap: LogGap | None = None
    for chunk in chunks:
        if chunk.first_seq > expected:
            gap = _wider(gap, expected, chunk.first_seq - 1, f"events {expected} to {chunk.first_seq - 1} are missing")
            fold = None
        try:
            part = _decode(chunk)
            fold = fold or _fold_before(kind, part)
            entries = iter(part.entries)
            while (step := _next_step(fold, part, entries)) is not None:
                if gap is not None:
                    yield gap
                    gap = None
                if step[0].time_ms >= from_ms:
                    yield step[1]
        except Corrupt as error:
            first = fold.next_seq if fold is not None else chunk.first_seq
            gap, fold = _wider(gap, first, chunk.last_seq, error.message), None
        expected = chunk.last_seq + 1
    try:
        if gap is None and not excerpt:
            _check_end(fold or Fold(kind, kind.state_type()), log)
    except Corrupt as error:
        gap = LogGap(min(expected, log.next_seq - 1), log.next_seq - 1, error.message)
    if gap is not None:
        yield gap


def at(kind: LoggedKind[S], log: StoredLog, *, seq: int | None = None, ms: int | None = None) -> Fold[S]:
    """The fold after event `seq`, or after the last event whose clock is at most `ms`; at the end of the log where
    that is later. Begins at the keyframe before it, so that the cost is that of a segment. Raises `Corrupt`."""
    assert (seq is None) != (ms is None)
    first = 0
    if ms is not None:
        first = _chunk_before(log.chunks, ms + 1)
    elif seq is not None:
        first = max((n for n, chunk in enumerate(log.chunks) if chunk.sealed and chunk.first_seq <= seq + 1), default=0)
    fold: Fold[S] | None = None
    for chunk in log.chunks[first:]:
        part = _decode(chunk)
        fold = fold or _fold_before(kind, part)
        for entry in part.entries:
            if entry.time_ms > ms if ms is not None else entry.seq > (seq or 0):
                return fold
            _take(fold, part, entry)
    return fold or Fold(kind, kind.state_type())


def opened(kind: LoggedKind[S], chunk: Chunk, before: Fold[S] | None = None) -> tuple[Fold[S], list[Entry]]:
    """The entries of `chunk`, and a fold that stands before the first of them: at its keyframe, or `before` where it
    has none. Raises `Corrupt`."""
    part = _decode(chunk)
    if part.sealed or before is None:
        before = _fold_before(kind, part)
    return before, part.entries


def final_state(kind: LoggedKind[S], log: StoredLog) -> S:
    """The state after the last event, computed from the first. Raises `Corrupt`."""
    fold = Fold(kind, kind.state_type())
    for chunk in log.chunks:
        _take_all(fold, _decode(chunk))
    _check_end(fold, log)
    return fold.state


def chain(log: StoredLog) -> Chain:
    """Check all of a whole log that can be checked without its rules: checksums, numbers, the hash chain from event 1,
    and its end from its row. Raises `Corrupt`."""
    head, next_seq, segments, open_chunks = NO_HEAD, 1, 0, 0
    for chunk in log.chunks:
        part = _decode(chunk)
        if part.first_seq != next_seq:
            raise Corrupt(f"events {next_seq} to {part.first_seq - 1} are missing")
        if part.sealed:
            segments += 1
            _same(part, f"event {part.first_seq}: running hash before it", part.head_before, head)
        else:
            open_chunks += 1
        for entry in part.entries:
            head = next_head(head, entry)
        next_seq = part.last_seq + 1
    _end_is(next_seq, head, log)
    return Chain(next_seq - 1, segments, open_chunks, head.hex())


def holding(log: StoredLog, data: bytes) -> Iterator[Entry]:
    """The entries that have these bytes in them; nothing is evolved. Raises `Corrupt` where a chunk cannot be read."""
    for chunk in log.chunks:
        yield from (entry for entry in _decode(chunk).entries if data in entry.data)


def newest_keyframe(kind: LoggedKind[S], log: StoredLog) -> tuple[int, S] | None:
    """The newest state that is stored as a whole, and the event that follows it: all that is to be had of a log whose
    rules are unknown. None where no segment is sealed but the first. Raises `Corrupt`."""
    for chunk in reversed(log.chunks):
        if chunk.sealed and chunk.first_seq > 1:
            return chunk.first_seq, _fold_before(kind, _decode(chunk)).state
    return None


def verify(kind: LoggedKind[S], log: StoredLog) -> Verified[S]:
    """Recompute all that is stored of a whole log, which begins with event 1: checksums and hash chain
    from bytes, each keyframe from the events before it, the end's hash from all of them, the log's end from
    its row. Raises `Corrupt` with the first thing that is not as it should be, also where `evolve` raises, but for
    `UnknownRules`: nothing can be said of such a log but what `chain` says."""
    fold = Fold(kind, kind.state_type())
    segments = open_chunks = 0
    ended = False
    for chunk in log.chunks:
        if chunk.first_seq != fold.next_seq:
            raise Corrupt(f"events {fold.next_seq} to {chunk.first_seq - 1} are missing")
        part = _decode(chunk)
        if part.sealed:
            segments += 1
            _same(part, "keyframe", part.keyframe_hash, state_hash(fold.state))
            _same(part, f"event {part.first_seq}: running hash before it", part.head_before, fold.head)
        else:
            open_chunks += 1
        for entry in part.entries:
            _take_verified(fold, part, entry)
        ended = part.end_hash is not None
        if ended:
            _same(part, f"event {part.last_seq}: end hash", part.end_hash, state_hash(fold.state))
            if not kind.finished(fold.state):
                raise Corrupt(f"{_name(part)}: event {part.last_seq}: the log is not finished with it")
    _check_end(fold, log)
    return Verified(fold.next_seq - 1, segments, open_chunks, segments, ended, fold.head.hex(), fold.state)


# ---- chunks ---------------------------------------------------------------------------------


def _decode(chunk: Chunk) -> Segment:
    part = segment.decode(chunk.data, chunk.first_seq)
    if part.last_seq != chunk.last_seq or part.sealed != chunk.sealed:
        raise Corrupt(f"{_name(part)}: header: ends at event {part.last_seq}, its row says {chunk.last_seq}")
    return part


def _name(part: Segment) -> str:
    return f"{'segment' if part.sealed else 'open chunk'} at event {part.first_seq}"


def _fold_before(kind: LoggedKind[S], part: Segment) -> Fold[S]:
    """A fold before the first entry of `part`: at its keyframe, or before event 1."""
    if part.sealed:
        try:
            state = states.decoder(kind.state_type)(part.keyframe or b"")
        except UNDECODABLE as error:
            raise Corrupt(f"{_name(part)}: keyframe: {error}") from None
        return Fold(kind, state, part.head_before or NO_HEAD, part.first_seq)
    if part.first_seq != 1:
        raise Corrupt(f"{_name(part)}: header: no keyframe to begin with")
    return Fold(kind, kind.state_type())


def _take_all(fold: Fold[S], part: Segment) -> None:
    for entry in part.entries:
        _take(fold, part, entry)


def _take(fold: Fold[S], part: Segment, entry: Entry) -> Record:
    """Move `fold` over an entry of `part`; errors name the chunk too."""
    try:
        return fold.take(entry)
    except Corrupt as error:
        raise Corrupt(f"{_name(part)}: {error.message}") from None


def _take_verified(fold: Fold[S], part: Segment, entry: Entry) -> None:
    """Like `_take`; an event that the rules of today cannot evolve by is a finding too, not a crash."""
    try:
        _take(fold, part, entry)
    except (Corrupt, UnknownRules):
        raise
    except Exception as error:
        raise Corrupt(f"{_name(part)}: event {entry.seq}: evolve raises {type(error).__name__}: {error}") from error


def _chunk_before(chunks: list[Chunk], from_ms: int) -> int:
    """The place of the last chunk to begin at so that no event at `from_ms` is missed. Only headers are read."""
    for place in range(len(chunks) - 1, 0, -1):
        if chunks[place].sealed and segment.span(chunks[place].data).first_ms < from_ms:
            return place
    return 0


def _readable_from(chunks: list[Chunk], from_ms: int) -> int:
    """Like `_chunk_before`, and never at a chunk that cannot be read."""
    for place in range(len(chunks) - 1, 0, -1):
        try:
            if chunks[place].sealed and _decode(chunks[place]).entries[0].time_ms < from_ms:
                return place
        except Corrupt:
            continue
    return 0


def _next_step(fold: Fold[S], part: Segment, entries: Iterator[Entry]) -> tuple[Entry, Step[S]] | None:
    entry = next(entries, None)
    if entry is None:
        return None
    before = fold.state
    return entry, Step(_take(fold, part, entry), before, fold.state)


def _wider(gap: LogGap | None, first: int, last: int, why: str) -> LogGap:
    return LogGap(first, last, why) if gap is None else LogGap(gap.first_seq, max(gap.last_seq, last), gap.why)


def _same(part: Segment, what: str, stored: bytes | None, computed: bytes) -> None:
    if stored != computed:
        raise Corrupt(f"{_name(part)}: {what}: stored {(stored or b'').hex()}, computed {computed.hex()}")


def _check_end(fold: Fold[S], log: StoredLog) -> None:
    _end_is(fold.next_seq, fold.head, log)


def _end_is(next_seq: int, head: bytes, log: StoredLog) -> None:
    """Raises `Corrupt` where the events do not end where the log's row says: some, or all, are gone."""
    if (next_seq, head) == (log.next_seq, log.head):
        return
    if not log.chunks:
        raise Corrupt(f"no event of the log is there; its row says that there are {log.next_seq - 1}")
    raise Corrupt(f"the log ends at event {next_seq - 1}; its row says {log.next_seq - 1}, or another hash")
