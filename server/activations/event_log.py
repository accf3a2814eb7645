"""The event log of one live logged actor: numbers, what is durable, who watches, what to seal.

    pending          emitted, not yet durable; `boundary` marks the end of the last good turn
    tail             durable since the last segment, kept to seal and to serve watchers
    older            a bounded window before the tail, only to serve watchers; a larger one where some of them lag

Sealing needs the state before the tail's first entry: `base` is a fold that stands there.
An append or a segment, once handed out to be stored, stays the very same until it is known to be
stored: after an unknown outcome anything else would not be recognised, and taken for a rival's.
"""

import asyncio
import copy
import itertools
from collections import deque
from collections.abc import Awaitable, Iterable
from typing import Any, Final

import msgspec
import structlog

from server import states
from server.activations import public_end
from server.activations.ports import ActivationNode, LogOwner
from server.activations.public_end import PublicEnd, PublicParts
from server.actors.actor import Attached, EventBatch, LoggedActor
from server.actors.guard import OPEN, Guard
from server.errors import BadInput, Corrupt, GarrisonError, Internal, NotFound, Overloaded, UnknownRules
from server.eventlog import fold, segment
from server.eventlog.entry import Entry, Record, encode_entry, event_bytes, mark_of, next_head, state_hash
from server.eventlog.fold import End, Fold
from server.eventlog.ports import Append, Recorder, Seal, StoredLog
from server.ids import Epoch, Incarnation, NodeAddress, NodeId
from server.runtime.numbers import Rising
from server.wire.codec import UNDECODABLE

log = structlog.get_logger(__name__)
READ_BATCH: Final = 512
WATCH_S: Final = 10.0
APPEND_BYTES: Final = 8 * 1024 * 1024
SEAL_RETRY_S: Final = 10.0
LARGE_KEYFRAME_BYTES: Final = 16 * 1024
KEYFRAME_BYTES_AN_ENTRY: Final = 64
"""A segment has an entry for so many bytes of a large keyframe, which is about what an entry has."""
LARGE_SEGMENTS: Final = 32
"""The bound on that, in segments of the usual length."""
TAIL_SEGMENTS: Final = 64
"""Unsealed entries, in segments, above which a log takes no more."""
LATE_ENTRIES: Final = 16_384
"""Sealed entries that are kept for watchers who lag: each node that watches reads each group that becomes public."""
narrowings: Final = Rising()
"""Numbers of guards within an epoch, which belongs to one run of one node, however often it loads the log and in
whatever process."""


class LogParts(msgspec.Struct, frozen=True, array_like=True):
    """A log on its way to another node: what `load` would read from the store. `base` is the
    state before `tail` (msgpack), `base_head` the running hash there, `head` the one after it; `ends`
    are the last numbers of the stored chunks of the tail. `watchers`: node, incarnation, seconds. `public`: of a log
    that some watch with a delay."""

    base: bytes
    base_head: bytes
    head: bytes
    tail: list[Entry]
    ends: list[int]
    next_seq: int
    watchers: list[tuple[NodeId, Incarnation, float]]
    public: PublicParts | None = None


class EventLog:
    """See the module's head; made by `load` and `arrive`. It is a `server.storage.group_commit.Log`."""

    def __init__(
        self, owner: LogOwner, node: ActivationNode, base: Fold[Any], head: bytes, tail: list[Entry], next_seq: int
    ) -> None:
        self.id, self.kind = owner.id, owner.kind
        self._owner, self._node = owner, node
        self._actor = owner.actor  # asked also by commits that are under way when the activation ends
        self._settings = node.settings.store
        self._observers = node.event_observers(self.kind)
        self._recorder_due = node.notes_recorder(self.kind)  # until the first append of this activation is stored
        self.next_seq = self.durable_seq = self._boundary_seq = next_seq
        self._head = head
        self._tail = tail
        self._open: deque[End[Any]] = deque()  # the ends of the stored chunks of the tail
        self._base = base  # before the tail's first entry
        self._pending: list[Entry] = []
        self._sent: Append | None = None  # outcome not known: it is repeated exactly, never grown
        self._sent_seal: Seal | None = None
        self._keyframe = b""  # the bytes of `base`, once they were needed
        self._versions: deque[tuple[int, int, Any]] = deque()  # (next_seq, version, state) of held boundaries
        self._older: deque[Entry] = deque(maxlen=self._settings.segment_entries)
        self._watchers: dict[NodeAddress, float] = {}
        self._projected: Any = None  # the state that the row is known to have
        self._projected_at = 0.0
        self._emitted: Any = None  # the state after the newest entry, boundary or not
        self._seal_at = 0.0
        self.narrowed = next(narrowings)  # an activation does not know how those before it narrowed
        self._public: PublicEnd[Any] | None = None  # None: nobody watches with a delay
        self._making_public: asyncio.TimerHandle | None = None

    # ---- turns ----

    def append(self, cls: type[LoggedActor[Any]], state: Any, event: Any, command: tuple[str, int] | None) -> Any:
        """Number `event`, evolve `state` by it and keep it as pending. Returns the new state."""
        lineage, number = command if command is not None else (None, 0)
        record = Record(self.next_seq, event, lineage, number)
        new_state = cls.evolve(state, record)
        if new_state is state:
            new_state = copy.copy(state)  # a turn's change is seen by identity
        self._pending.append(encode_entry(record))
        self.next_seq += 1
        self._emitted = new_state
        return new_state

    def end_turn(self, state: Any, version: int) -> None:
        """End a turn with `state`, which gets `version`: what it emitted may be stored from here. Otherwise
        that is forgotten, and raises `Internal` if anything but `emit` made the state (a replay would not
        give it back), `Overloaded` while too much waits to be sealed or stored, `Unavailable` without a lease."""
        try:
            self._check(state)
            self._node.durability.accept_logged()
        except GarrisonError:
            self.rollback()
            raise
        entries = self.next_seq - self._boundary_seq
        self._boundary_seq = self.next_seq
        self._versions.append((self.next_seq, version, state))
        self._node.group_commit.enqueue(self, entries)

    def _check(self, state: Any) -> None:
        if state is not self._emitted or self.next_seq == self._boundary_seq:
            raise Internal(f"the state of a {self.kind} changes by emit only")
        if len(self._tail) >= TAIL_SEGMENTS * self._settings.segment_entries:
            raise Overloaded(f"too much of the log of {self.id} waits to be sealed", retry_after_s=1.0)

    def rollback(self) -> None:
        """Forget what the failed turn emitted."""
        self.rollback_to(self._boundary_seq)

    def rollback_to(self, next_seq: int) -> None:
        """Forget entries `next_seq` and later; none of them is within a boundary."""
        surplus = self.next_seq - next_seq
        if surplus:
            del self._pending[-surplus:]
            self.next_seq = next_seq

    # ---- the committer's side (server.storage.group_commit.Log) ----

    def backlog(self) -> int:
        """How many entries are not durable yet."""
        return len(self._pending)

    def take(self) -> Append | None:
        """The next append: whole turns, with the projection if it is due. None if there is nothing to store."""
        if self._owner.dropped:
            return None
        if self._sent is None:
            self._sent = self._next_append()
        return self._sent

    def _next_append(self) -> Append | None:
        count, state = self._whole_turns()
        if count == 0:
            return None
        entries = self._pending[:count]
        head = self._head
        for entry in entries:
            head = next_head(head, entry)
        projection = state if self._projection_due(entries[0].seq, state) else None
        return Append(
            self.id,
            self._owner.epoch,
            entries[0].seq,
            entries[-1].seq,
            self._head,
            head,
            segment.encode_open(entries),
            projection,
            None if projection is None else self._projected,
            Recorder(self._node.me, self._node.clock.wall_ms()) if self._recorder_due else None,
        )

    def _whole_turns(self) -> tuple[int, Any]:
        """How many entries go into the next append, and the state after them: all turns that are within its bounds,
        or one."""
        count, size, state, most = 0, 0, None, self._node.group_commit.append_entries
        for end, _, after in self._versions:
            upto = end - self.durable_seq
            size += sum(len(entry.data) for entry in self._pending[count:upto])
            if count and (upto > most or size > APPEND_BYTES):
                break
            count, state = upto, after
        return count, state

    def _projection_due(self, first_seq: int, state: Any) -> bool:
        """Whether `state` goes into the row: the first and the last one of a log do, and one with a fact where none was
        open, so that it is found when this node is gone; others once in a while."""
        now = self._node.clock.now()
        due = (
            first_seq == 1 or self._finishes(state) or (self._has_facts(state) and not self._has_facts(self._projected))
        )
        if due or now - self._projected_at >= self._settings.projection_interval_s:
            self._projected_at = now
            return True
        return False

    def _finished(self) -> bool:
        return self._finishes(self._owner.boundary)

    def _has_facts(self, state: Any) -> bool:
        """Whether a fact is open in `state`; for None, which is not known, it is not."""
        actor = self._actor
        return state is not None and any(True for _ in type(actor).facts(actor.key, state))

    def _finishes(self, state: Any) -> bool:
        actor = self._actor
        assert isinstance(actor, LoggedActor)
        return actor.finished(state)

    def committed(self, append: Append) -> None:
        """Note that `append` is durable: feed the watchers and release the answers that waited for it."""
        self._sent = None
        self._recorder_due = False
        count = append.last_seq - append.first_seq + 1
        entries, self._pending = self._pending[:count], self._pending[count:]
        self._head = append.head
        self.durable_seq = append.last_seq + 1
        self._tail.extend(entries)
        version, state = 0, None
        while self._versions and self._versions[0][0] <= self.durable_seq:
            _, version, state = self._versions.popleft()
        self._open.append(End(append.last_seq, append.head, state))
        if append.projection is not None:
            self._projected = append.projection
        if self._boundary_seq > self.durable_seq and not self._owner.dropped:
            self._node.group_commit.enqueue(self, 0)
        if self._public is not None:
            self._public.note(self.durable_seq, state, self._node.clock.now())
            self._await_public()
        self._publish(append.first_seq, entries, mark_of(append.head))
        for observer in self._observers:
            try:
                observer(self.id, append.first_seq, entries, state if state is not None else self._emitted)
            except Exception as error:
                self._node.turn_crashed(self.id, error)
        self._owner.committed(version)

    def _publish(self, first_seq: int, entries: list[Entry], mark: str) -> None:
        now = self._node.clock.now()
        watchers = [node for node, until in self._watchers.items() if until > now]
        if len(watchers) < len(self._watchers):
            self._watchers = {node: self._watchers[node] for node in watchers}
        if watchers:
            events = [bytes(event_bytes(entry)) for entry in entries]
            self._node.outlet.publish(watchers, self.id, first_seq, events, self.guard, mark, self.public_seq)

    def overdue(self) -> None:
        """Tell those whose answers have waited too long that the store is away."""
        self._owner.overdue()

    async def seal_due(self) -> Seal | None:
        """A full tail as a segment; also a short one once the log is finished."""
        if self._owner.dropped or self._node.clock.now() < self._seal_at:
            return None
        if self._sent_seal is None:
            self._sent_seal = await self._next_seal()
        return None if self._owner.dropped else self._sent_seal

    @property
    def unsealed(self) -> bool:
        """True while anything is stored in open chunks."""
        return bool(self._open)

    async def _next_seal(self) -> Seal | None:
        """Open chunks are replaced whole: as many as make up a segment."""
        finished = self._finished() and not self._pending
        wanted, count = self._segment_entries(), 0
        for end in self._open:
            count = end.last_seq - self._tail[0].seq + 1
            if count >= wanted:
                break
        else:
            if not finished or not count:
                return None
        entries = self._tail[:count]
        ends = finished and count == len(self._tail)
        end_hash = state_hash(self._owner.boundary) if ends else None
        steps = segment.sealing(entries, self._base.head, self._keyframe or self._base.state, end_hash)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                data: bytes = done.value
                return Seal(self.id, self._owner.epoch, entries[0].seq, entries[-1].seq, data)
            await asyncio.sleep(0)

    def _segment_entries(self) -> int:
        """How many entries make a segment: more than usual where its keyframe is large, so that what keyframes cost
        an entry, in time and in bytes, does not grow with the state."""
        usual = self._settings.segment_entries
        if len(self._tail) < usual:
            return usual
        if not self._keyframe:
            self._keyframe = states.encode_canonical(self._base.state)
        size = len(self._keyframe)
        most = min(LARGE_SEGMENTS * usual, segment.MAX_ENTRIES)
        return usual if size <= LARGE_KEYFRAME_BYTES else max(usual, min(size // KEYFRAME_BYTES_AN_ENTRY, most))

    def seal_failed(self) -> None:
        """Offer the segment again after a while."""
        self._seal_at = self._node.clock.now() + SEAL_RETRY_S

    def sealed(self, seal: Seal) -> None:
        """The tail up to `seal.last_seq` is a segment now: the base moves past it."""
        self._sent_seal = None
        count = seal.last_seq - seal.first_seq + 1
        done, self._tail = self._tail[:count], self._tail[count:]
        while self._open and self._open[0].last_seq <= seal.last_seq:
            end = self._open.popleft()
        if end.state is not None:
            self._base.move(end)
        else:  # the log came from another node, without the states between
            for entry in done:
                self._base.take(entry)
        self._keyframe = b""
        self._older.extend(done)

    def renew(self, epoch: Epoch) -> None:
        """The activation goes on under another epoch: what is repeated says so, and the next row is written whole."""
        self._projected = None
        if self._sent is not None:
            self._sent = msgspec.structs.replace(self._sent, epoch=epoch)
        if self._sent_seal is not None:
            self._sent_seal = msgspec.structs.replace(self._sent_seal, epoch=epoch)

    def parts(self) -> LogParts | None:
        """The parts that another node goes on from, while nothing is pending and nothing on its way to the
        store. None after a segment with an unknown outcome: only the store knows its chunks."""
        if self._sent_seal is not None:
            return None
        now = self._node.clock.now()
        left = [(node.node, node.incarnation, until - now) for node, until in self._watchers.items() if until > now]
        base = states.encode(self._base.state)
        ends = [end.last_seq for end in self._open]
        public = self._public.parts(now) if self._public is not None else None
        return LogParts(base, self._base.head, self._head, self._tail, ends, self.durable_seq, left, public)

    @property
    def owner(self) -> LogOwner:
        """The activation whose log it is."""
        return self._owner

    def watch_on(self, watchers: Iterable[tuple[NodeId, Incarnation, float]]) -> None:
        """Feed these for as long as another node would have."""
        now = self._node.clock.now()
        for node, incarnation, left_s in watchers:
            self._watchers[NodeAddress(node, incarnation)] = now + min(WATCH_S, left_s)

    def fenced(self) -> None:
        """End the activation: the store has another owner for it."""
        self._owner.fenced()

    def broken(self, error: Exception) -> None:
        """This log cannot be stored: end the activation. Its next one reads what is stored."""
        log.error("log cannot be stored", log=self.id, next_seq=self.next_seq, exc_info=error)
        self._node.discard(self._owner, Internal(f"the log of {self.id} cannot be stored"))

    # ---- watchers ----

    def attach(self, node: NodeAddress) -> Attached:
        """Feed `node` for the next `WATCH_S`. A finished log has nothing to feed: it notes nobody,
        and may leave memory."""
        finished = self._boundary_seq == self.durable_seq and self._finished()
        if not finished:
            self._watchers[node] = self._node.clock.now() + WATCH_S
        return Attached(self.durable_seq, finished, self.guard, self.public_seq)

    def narrow(self) -> None:
        """Raise the guard at once: the event that goes with it leaves later, when it is durable."""
        self.narrowed = next(narrowings)

    @property
    def guard(self) -> Guard:
        """See `server.actors.guard.Guard`: above those of all activations before."""
        actor = self._actor
        assert isinstance(actor, LoggedActor)
        return (self._owner.epoch, self.narrowed) if actor.guards_watch() else OPEN

    # ---- watchers that lag: see `public_end.py` ----

    @property
    def public_seq(self) -> int:
        """The number of the first event that those who watch with a delay may not see yet; -1: there is none."""
        return -1 if self._public is None else self._public.seq

    @property
    def public_state(self) -> Any:
        """The state before event `public_seq`; None where it is not known, or the newest one is public."""
        return None if self._public is None else self._public.state

    def public_in_s(self) -> float:
        """Seconds until everything up to the last boundary is public."""
        return 0.0 if self._public is None else self._public.left_s(self._boundary_seq, self._node.clock.now())

    def delay(self, delay_s: float) -> None:
        """See `LoggedActor.delay_watching`."""
        if not delay_s:
            self._public = None
            return
        self._older = deque(self._older, max(LATE_ENTRIES, self._settings.segment_entries))
        if self._public is None:
            self._public = PublicEnd(delay_s)
            if self.durable_seq > 1:  # loaded: nobody knows how old its events are
                self._public.note(self.durable_seq, self._owner.boundary, self._node.clock.now())
        self._await_public()

    def _await_public(self) -> None:
        """Wait for the next events that will be public, if there are any and that is not under way."""
        at = None if self._public is None else self._public.next_at()
        if at is not None and self._making_public is None:
            wait_s = max(0.0, at - self._node.clock.now()) + 0.001
            self._making_public = asyncio.get_running_loop().call_later(wait_s, self._make_public)

    def _make_public(self) -> None:
        self._making_public = None
        if self._public is None or self._owner.dropped:
            return
        if self._public.move(self._node.clock.now()):
            self._publish(self.durable_seq, [], "")
        self._await_public()

    @property
    def watched(self) -> bool:
        """True while some node's sessions watch it."""
        now = self._node.clock.now()
        return any(until > now for until in self._watchers.values())

    def read(self, from_seq: int) -> Awaitable[EventBatch]:
        """Durable events from `from_seq`, at most `READ_BATCH`; from memory if they are there."""
        first_here = self._older[0].seq if self._older else (self._tail[0].seq if self._tail else self.durable_seq)
        if from_seq >= first_here:
            place = from_seq - first_here  # no number is missing among them
            held = list(itertools.islice(itertools.chain(self._older, self._tail), place, place + READ_BATCH))
            future: asyncio.Future[EventBatch] = asyncio.get_running_loop().create_future()
            future.set_result(self._batch(from_seq, held))
            return future
        return self._read_stored(from_seq)

    def recent(self, count: int) -> EventBatch:
        """The newest durable events that are in memory, at most `count` and `READ_BATCH`."""
        there = len(self._older) + len(self._tail)
        first = max(0, there - max(0, min(count, READ_BATCH)))
        return self._batch(
            self.durable_seq, list(itertools.islice(itertools.chain(self._older, self._tail), first, there))
        )

    async def _read_stored(self, from_seq: int) -> EventBatch:
        stored = await self._node.logs.read_log(self.kind, self.id, from_seq, from_seq + READ_BATCH)
        if stored is None and from_seq < self.durable_seq:
            raise NotFound(f"the log of {self.id} was deleted")
        entries: list[Entry] = []
        for chunk in stored.chunks if stored is not None else []:
            if len(entries) < READ_BATCH:
                entries += [entry for entry in segment.decode(chunk.data).entries if entry.seq >= from_seq]
        return self._batch(from_seq, [entry for entry in entries if entry.seq < self.durable_seq])

    def _batch(self, from_seq: int, entries: list[Entry]) -> EventBatch:
        some = entries[:READ_BATCH]
        first = some[0].seq if some else max(from_seq, 1)
        mark = mark_of(self._head) if some and some[-1].seq == self.durable_seq - 1 else ""
        events = [event_bytes(entry) for entry in some]
        return EventBatch(self.durable_seq, first, events, self.guard, mark, self.public_seq)

    def has_mark(self, seq: int, mark: str) -> Awaitable[bool]:
        """Whether the log had that hash after durable event `seq`; from memory if it is there."""
        if 1 <= seq < self._base.next_seq - 1:
            return self._has_stored_mark(seq, mark)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        future.set_result(seq < self.durable_seq and mark == mark_of(self._head_after(seq)))
        return future

    def _head_after(self, seq: int) -> bytes:
        """The running hash after an event of the tail, or the one before it."""
        if seq == self.durable_seq - 1:
            return self._head
        head = self._base.head
        for entry in self._tail[: seq - self._base.next_seq + 1]:
            head = next_head(head, entry)
        return head

    async def _has_stored_mark(self, seq: int, mark: str) -> bool:
        stored = await self._node.logs.read_log(self.kind, self.id, seq, seq + 1)
        for chunk in stored.chunks if stored is not None else []:
            part = segment.decode(chunk.data)
            if part.head_before is not None and part.first_seq <= seq <= part.last_seq:
                head = part.head_before
                for entry in part.entries[: seq - part.first_seq + 1]:
                    head = next_head(head, entry)
                return mark == mark_of(head)
        return False


def load(
    owner: LogOwner, node: ActivationNode, cls: type[LoggedActor[Any]], stored: StoredLog | None
) -> tuple["EventLog", Any]:
    """The log of `owner` and its state: the last keyframe and what follows it.
    Raises `Corrupt` where the stored bytes fail a check, `UnknownRules`."""
    kind = cls.logged_kind()
    try:
        loaded = fold.load(kind, stored)
    except Corrupt as error:
        raise Corrupt(f"the log of {owner.id}: {error.message}") from None
    except UnknownRules as error:
        raise UnknownRules(f"{owner.id} is {error.message}") from None
    base = Fold(kind, loaded.base, loaded.base_head, loaded.next_seq - len(loaded.tail))
    event_log = EventLog(owner, node, base, loaded.head, loaded.tail, loaded.next_seq)
    event_log._older.extend(loaded.sealed)
    event_log._open.extend(loaded.ends)
    return event_log, loaded.state


def arrive(owner: LogOwner, node: ActivationNode, cls: type[LoggedActor[Any]], parts: LogParts) -> "EventLog":
    """The log of `owner`, whose state is set, as another node had it. Raises `BadInput`
    where the parts do not fit together."""
    first = parts.next_seq - len(parts.tail)
    numbers = [entry.seq for entry in parts.tail]
    ends_fit = parts.ends == sorted(set(parts.ends) & set(numbers)) and parts.ends[-1:] == numbers[-1:]
    if first < 1 or numbers != list(range(first, parts.next_seq)) or not ends_fit:
        raise BadInput(f"the log of {owner.id} does not fit together")
    try:
        decode = states.decoder(cls.State)
        base = decode(parts.base)
        shown = decode(parts.public.state) if parts.public is not None and parts.public.state else None
    except UNDECODABLE as error:
        raise BadInput(f"the log of {owner.id}: {error}") from None
    before_tail = Fold(cls.logged_kind(), base, parts.base_head, first)
    event_log = EventLog(owner, node, before_tail, parts.head, list(parts.tail), parts.next_seq)
    event_log._open.extend(End(last_seq, b"", None) for last_seq in parts.ends)
    event_log.watch_on(parts.watchers)
    if parts.public is not None:
        event_log._public = public_end.arrived(parts.public, shown, node.clock.now())
    return event_log
