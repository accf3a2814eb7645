"""The log of one live logged actor: numbers, what is durable, who watches, what to seal.

    pending          emitted, not yet durable; `boundary` marks the end of the last good turn
    tail             durable since the last segment, kept to seal and to serve watchers
    older            a bounded window before the tail, only to serve watchers

Sealing needs the state before the tail's first entry: it is kept beside the tail as `base`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from server.actors.actor import EventBatch, LoggedActor
from server.errors import Corrupt
from server.eventlog import segment
from server.eventlog.ports import Append, Seal, StoredLog
from server.eventlog.record import NO_HEAD, Entry, Record, next_head, state_hash
from server.ids import NodeAddress

if TYPE_CHECKING:
    from server.actors.activation import Activation

READ_BATCH: Final = 512
WATCH_S: Final = 10.0
_encode = msgspec.msgpack.encode
_THREE: Final = b"\x93"  # the header of a msgpack array of three


class EventLog:
    """See the module's head; made by `load`."""

    def __init__(self, activation: "Activation", base: Any, head: bytes, tail: list[Entry], next_seq: int) -> None:
        self.id, self.kind = activation.id, activation.kind
        self._activation = activation
        self._settings = activation.host.settings.store
        self.next_seq = self.durable_seq = self._boundary_seq = next_seq
        self._head = head
        self._tail = tail
        self._base = base
        self._tail_head = NO_HEAD  # the running hash before the tail
        self._pending: list[Entry] = []
        self._sent: Append | None = None  # outcome not known: it is repeated exactly, never grown
        self._sent_seal: Seal | None = None
        self._versions: deque[tuple[int, int]] = deque()  # (next_seq, version) of held boundaries
        self._older: deque[Entry] = deque(maxlen=2 * self._settings.segment_entries)
        self._watchers: dict[NodeAddress, float] = {}
        self._projected_at = 0.0
        self._end_sealed = False

    # ---- turns ----

    def append(self, cls: type[LoggedActor[Any]], state: Any, event: Any, command: tuple[str, int] | None) -> Any:
        """Number `event`, evolve `state` by it and keep it as pending. Returns the new state."""
        lineage, number = command if command is not None else (None, 0)
        new_state = cls.evolve(state, Record(self.next_seq, event, lineage, number))
        data = _THREE + _encode(event) + _encode(lineage) + _encode(number)
        self._pending.append(Entry(self.next_seq, event.time_ms, data))
        self.next_seq += 1
        return new_state

    def rollback(self) -> None:
        """Forget what the failed turn emitted."""
        surplus = self.next_seq - self._boundary_seq
        if surplus:
            del self._pending[-surplus:]
            self.next_seq = self._boundary_seq

    def boundary(self) -> None:
        """The turn was good: what it emitted may be stored."""
        entries = self.next_seq - self._boundary_seq
        self._boundary_seq = self.next_seq
        self._versions.append((self.next_seq, self._activation.version))
        self._activation.host.group_commit.enqueue(self, entries)

    # ---- the committer's side (server.storage.group_commit.Log) ----

    def backlog(self) -> int:
        return len(self._pending)

    def take(self) -> Append | None:
        """Everything up to the boundary as one append, with the projection if it is due."""
        count = self._boundary_seq - self.durable_seq
        if count == 0 or self._activation.dropped:
            return None
        if self._sent is not None:
            return self._sent
        entries = self._pending[:count]
        head = self._head
        for entry in entries:
            head = next_head(head, entry)
        self._sent = Append(
            self.id,
            self._activation.epoch,
            entries[0].seq,
            entries[-1].seq,
            self._head,
            head,
            segment.encode_open(entries),
            self._projection(),
        )
        return self._sent

    def _projection(self) -> Any:
        """The state for the row, at most once a flush interval, and always when finished."""
        now = self._activation.host.clock.now()
        state = self._activation.boundary
        if self._finished() or now - self._projected_at >= self._settings.flush_interval_s:
            self._projected_at = now
            return state
        return None

    def _finished(self) -> bool:
        actor = self._activation.actor
        assert isinstance(actor, LoggedActor)
        return actor.finished(self._activation.boundary)

    def committed(self, append: Append) -> None:
        """`append` is durable: release what waited for it and feed the watchers."""
        self._sent = None
        count = append.last_seq - append.first_seq + 1
        entries, self._pending = self._pending[:count], self._pending[count:]
        self._head = append.head
        self.durable_seq = append.last_seq + 1
        self._tail.extend(entries)
        version = 0
        while self._versions and self._versions[0][0] <= self.durable_seq:
            version = self._versions.popleft()[1]
        self._activation.stored_version = max(self._activation.stored_version, version)
        if self._boundary_seq > self.durable_seq:
            self._activation.host.group_commit.enqueue(self, 0)
        self._publish(append.first_seq, entries)
        self._activation.released(version)

    def _publish(self, first_seq: int, entries: list[Entry]) -> None:
        now = self._activation.host.clock.now()
        watchers = [node for node, until in self._watchers.items() if until > now]
        if len(watchers) < len(self._watchers):
            self._watchers = {node: self._watchers[node] for node in watchers}
        if watchers:
            events = [bytes(_event_of(entry)) for entry in entries]
            self._activation.host.outlet.publish(watchers, self.id, first_seq, events)

    def seal_due(self) -> Seal | None:
        """A full tail as a segment; also a short one once the log is finished."""
        size = self._settings.segment_entries
        finished = self._finished() and not self._pending
        if self._activation.dropped or self._end_sealed or not self._tail:
            return None
        if self._sent_seal is not None:
            return self._sent_seal
        if len(self._tail) < size and not finished:
            return None
        entries = self._tail  # open chunks are replaced whole, so a segment takes all of them
        state = self._activation.boundary
        ends = finished and len(entries) == len(self._tail)
        data = segment.seal(entries, self._tail_head, self._base, state_hash(state) if ends else None)
        self._sent_seal = Seal(self.id, self._activation.epoch, entries[0].seq, entries[-1].seq, data)
        return self._sent_seal

    def sealed(self, seal: Seal) -> None:
        """The tail up to `seal.last_seq` is a segment now: the base moves past it."""
        self._sent_seal = None
        count = seal.last_seq - seal.first_seq + 1
        done, self._tail = self._tail[:count], self._tail[count:]
        cls = type(self._activation.actor)
        assert issubclass(cls, LoggedActor)
        for entry in done:
            self._base = cls.evolve(self._base, decode_entry(cls, entry))
            self._tail_head = next_head(self._tail_head, entry)
        self._older.extend(done)
        self._end_sealed = self._finished() and not self._tail and not self._pending

    def fenced(self) -> None:
        self._activation.fenced()

    # ---- watchers ----

    def attach(self, node: NodeAddress) -> int:
        """Feed `node` for the next `WATCH_S`; returns the durable end."""
        self._watchers[node] = self._activation.host.clock.now() + WATCH_S
        return self.durable_seq

    @property
    def watched(self) -> bool:
        now = self._activation.host.clock.now()
        return any(until > now for until in self._watchers.values())

    def read(self, from_seq: int) -> Awaitable[EventBatch]:
        """Durable events from `from_seq`, at most `READ_BATCH`; from memory if they are there."""
        first_here = self._older[0].seq if self._older else (self._tail[0].seq if self._tail else self.durable_seq)
        if from_seq >= first_here:
            held = [entry for entry in (*self._older, *self._tail) if entry.seq >= from_seq]
            future: asyncio.Future[EventBatch] = asyncio.get_running_loop().create_future()
            future.set_result(self._batch(from_seq, held))
            return future
        return self._read_stored(from_seq)

    def recent(self, count: int) -> EventBatch:
        """The newest durable events that are in memory, at most `count` and `READ_BATCH`."""
        held = [*self._older, *self._tail][-min(count, READ_BATCH) :] if count > 0 else []
        return self._batch(self.durable_seq, held)

    async def _read_stored(self, from_seq: int) -> EventBatch:
        stored = await self._activation.host.logs.read_log(self.kind, self.id, from_seq)
        entries: list[Entry] = []
        for chunk in stored.chunks if stored is not None else []:
            if len(entries) < READ_BATCH:
                entries += [entry for entry in segment.decode(chunk.data).entries if entry.seq >= from_seq]
        return self._batch(from_seq, [entry for entry in entries if entry.seq < self.durable_seq])

    def _batch(self, from_seq: int, entries: list[Entry]) -> EventBatch:
        some = entries[:READ_BATCH]
        first = some[0].seq if some else max(from_seq, 1)
        return EventBatch(self.durable_seq, first, [_event_of(entry) for entry in some])


def load(activation: "Activation", cls: type[LoggedActor[Any]], stored: StoredLog | None) -> Any:
    """Give `activation` its log and return its state: the last keyframe and what follows it.
    Raises `Corrupt` where the stored bytes fail a check."""
    fresh = cls.State()
    if stored is None:
        event_log = EventLog(activation, fresh, NO_HEAD, [], 1)
        activation.adopt_log(event_log)
        return fresh
    base, base_head, tail = fresh, NO_HEAD, list[Entry]()
    sealed: list[Entry] = []
    for chunk in stored.chunks:
        part = segment.decode(chunk.data)
        if chunk.sealed:
            base, base_head, sealed = _state_of(cls, part), part.head_before or NO_HEAD, part.entries
        else:
            tail += part.entries
    for entry in sealed:
        base = cls.evolve(base, decode_entry(cls, entry))
        base_head = next_head(base_head, entry)
    state, head = base, base_head
    for entry in tail:
        state = cls.evolve(state, decode_entry(cls, entry))
        head = next_head(head, entry)
    end = [*sealed, *tail]
    if head != stored.head or (end[-1].seq + 1 if end else 1) != stored.next_seq:
        raise Corrupt(f"the log of {activation.id} does not end where its row says ({stored.next_seq})")
    event_log = EventLog(activation, base, head, tail, stored.next_seq)
    event_log._tail_head = base_head
    event_log._older.extend(sealed)
    event_log._end_sealed = cls.finished(state) and not tail
    activation.adopt_log(event_log)
    return state


def decode_entry(cls: type[LoggedActor[Any]], entry: Entry) -> Record:
    """The record in an entry. Raises `Corrupt`."""
    try:
        event, lineage, command = _decoder(cls).decode(entry.data)
    except msgspec.DecodeError as error:
        raise Corrupt(f"event {entry.seq}: {error}") from None
    return Record(entry.seq, event, lineage, command)


def _state_of(cls: type[LoggedActor[Any]], part: "segment.Segment") -> Any:
    """The keyframe's state. Raises `Corrupt`."""
    try:
        return msgspec.msgpack.decode(part.keyframe or b"", type=cls.State)
    except msgspec.DecodeError as error:
        raise Corrupt(f"keyframe at event {part.first_seq}: {error}") from None


_decoders: dict[type, "msgspec.msgpack.Decoder[Any]"] = {}


def _decoder(cls: type[LoggedActor[Any]]) -> "msgspec.msgpack.Decoder[Any]":
    decoder = _decoders.get(cls)
    if decoder is None:
        decoder = _decoders[cls] = msgspec.msgpack.Decoder(tuple[cls.Event, str | None, int])  # type: ignore[name-defined]
    return decoder


_parts = msgspec.msgpack.Decoder(tuple[msgspec.Raw, str | None, int])


def _event_of(entry: Entry) -> msgspec.Raw:
    """The event's own bytes within an entry."""
    return _parts.decode(entry.data)[0]
