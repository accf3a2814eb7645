"""The journal's twin in memory, for tests and the simulated cluster: what lies in one world's
journals, whichever process wrote it.

`local`: an append is durable at once and outlives its process, not its machine. `redis`: it is
stored after a delay, answered after another one, outlives both, and what is under way when the
process dies may still arrive, until a successor has sealed the stream. The records are encoded as
in the real ones, so that tails can be torn and bits flipped.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from server.errors import Unavailable
from server.ids import NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.settings import JournalSettings
from server.storage.journal.ports import Journaled, Recovered, still_alive
from server.storage.journal.record import Part, encode_payload, frame, read_run, run_seed

CLUSTER = "memory"
_SURRENDERED = "this process has handed its run on: its journal takes nothing any more"


class Run:
    """The journal of a run of a node."""

    def __init__(self, owner: NodeAddress, heir: str = "") -> None:
        self.owner, self.heir = owner, heir
        """`heir`: the part of its place by which it is told from others of the same run; empty for the first."""
        self.holder: str | None = None
        """`heir` of the process that holds the lock too; None while none does."""
        self.frames: deque[tuple[int, bytearray]] = deque()
        self.size = 0
        self.truncated = 1
        self.newest = 0
        """Up to here it is known to be whole; what follows is torn."""
        self.locked = True
        self.sealed = False
        self.under_way: deque[tuple[Any, int, int, bytes]] = deque()
        """(entity, version, sequence, record) that were sent and have not arrived."""
        self.unanswered: deque[tuple[Any, int]] = deque()
        self.arrives_at = self.answered_at = 0.0
        self.alive_until = 0.0
        """Time of the loop until which the live mark says that its owner lives."""

    def add(self, sequence: int, data: bytes, torn: bool = False) -> None:
        self.newest = self.newest if torn else sequence
        self.frames.append((sequence, bytearray(data)))
        self.size += len(data)

    def truncate(self, position: int) -> None:
        self.truncated = max(self.truncated, position)
        while self.frames and self.frames[0][0] < position:
            self.size -= len(self.frames.popleft()[1])

    def data(self) -> bytes:
        return b"".join(bytes(data) for _, data in self.frames)


class MemoryJournals:
    """Every journal of one simulated world. `shared`: all nodes are on one host (or volume), so
    that a `local` journal can be read by all; without it only a node of the same name reads it.
    `delay` gives the seconds that a `redis` append takes to arrive, and again to be answered."""

    def __init__(
        self,
        kind: Literal["local", "redis"] = "local",
        delay: Callable[[], float] = lambda: 0.001,
        shared: bool = True,
        capacity_bytes: int | None = None,
    ) -> None:
        self.kind, self.delay, self.shared, self.capacity_bytes = kind, delay, shared, capacity_bytes
        self.runs: dict[NodeAddress, Run] = {}
        """Each run's journal: the newest, where an heir has one of its own beside its predecessor's."""
        self.earlier: dict[NodeAddress, list[Run]] = {}
        self.heirs = 0
        self._gone: dict[NodeAddress, None] = {}
        self._hidden: dict[tuple[NodeId, NodeId], None] = {}
        self._away: dict[NodeId, None] = {}

    # ---- faults ----

    def all_of(self, owner: NodeAddress) -> list[Run]:
        """Journals of that run, the newest last."""
        newest = self.runs.get(owner)
        return [*self.earlier.get(owner, ()), *((newest,) if newest is not None else ())]

    def find(self, owner: NodeAddress, place: str) -> Run | None:
        heir = _heir(place)
        return next((run for run in self.all_of(owner) if run.heir == heir), None)

    def opened(self, run: Run) -> None:
        """Raises `Unavailable` where that very journal is there."""
        if any(known.heir == run.heir for known in self.all_of(run.owner)):
            raise Unavailable(f"the journal of {run.owner} is there already")
        before, self.runs[run.owner] = self.runs.get(run.owner), run
        if before is not None:
            self.earlier.setdefault(run.owner, []).append(before)

    def crash_process(self, owner: NodeAddress, torn: int = 0, place: str | None = None) -> None:
        """The process is gone: its lock is free. `torn`: so many bytes of a record that it was
        writing are there. `place`: of its journal, where its run has several."""
        run = self.runs.get(owner) if place is None else self.find(owner, place)
        for held in self.all_of(owner):
            if place is not None and held.holder == _heir(place):
                held.holder = None
        if run is not None:
            run.locked = False
            if torn and self.kind == "local":
                sequence = run.frames[-1][0] + 1 if run.frames else run.truncated
                whole = frame(encode_payload((_NOBODY, 0, 0, None)), sequence, run_seed(CLUSTER, owner))
                run.add(sequence, whole[: min(torn, len(whole) - 1)], torn=True)

    def crash_machine(self, node: NodeId) -> None:
        """Every process of `node` is gone, and what was in its memory."""
        for owner in [owner for owner in self.runs if owner.node == node]:
            self.crash_process(owner)
            if self.kind == "local":
                del self.runs[owner]
                self.earlier.pop(owner, None)
                self._gone[owner] = None

    def hide(self, observer: NodeId, node: NodeId, hidden: bool = True) -> None:
        """`observer` cannot read what `node` has written: it is on another host."""
        _set(self._hidden, (observer, node), hidden)

    def hides(self, observer: NodeId, node: NodeId) -> bool:
        if (observer, node) in self._hidden:
            return True
        return self.kind == "local" and not self.shared and observer != node

    def outage(self, node: NodeId, away: bool = True) -> None:
        """`node` does not reach the journals (`redis`): it refuses appends, and what it has under
        way neither arrives nor is answered before the end of it."""
        _set(self._away, node, away)

    def away(self, node: NodeId) -> bool:
        return node in self._away

    def gone(self, owner: NodeAddress) -> bool:
        return owner in self._gone

    def forget(self, run: Run) -> None:
        earlier = self.earlier.get(run.owner, [])
        if self.runs.get(run.owner) is run:
            del self.runs[run.owner]
            if earlier:
                self.runs[run.owner] = earlier.pop()
        elif run in earlier:
            earlier.remove(run)
        if not earlier:
            self.earlier.pop(run.owner, None)

    def forget_gone(self, owner: NodeAddress) -> None:
        self._gone.pop(owner, None)

    def flip(self, owner: NodeAddress, offset: int, bit: int = 0) -> None:
        """Turn one bit of what is stored over; `offset` counts from the oldest record's begin."""
        for _, data in self.runs[owner].frames:
            if offset < len(data):
                data[offset] ^= 1 << bit
                return
            offset -= len(data)
        raise IndexError(offset)


def _heir(place: str) -> str:
    """The fourth part of a place, which an heir's has."""
    return (*place.split(":"), "", "", "", "")[3]


def _set(table: dict[Any, None], key: Any, there: bool) -> None:
    if there:
        table[key] = None
    else:
        table.pop(key, None)


_NOBODY: Any = "nobody/torn"


class MemoryJournal:
    """The journals of the world as a node sees them."""

    def __init__(
        self, journals: MemoryJournals, node: NodeId, metrics: Metrics, settings: JournalSettings | None = None
    ) -> None:
        self._journals, self._node, self._metrics = journals, node, metrics
        settings = settings or JournalSettings()
        self._timeout_s = settings.redis_timeout_s
        local = settings.segments * settings.segment_bytes
        self._capacity = journals.capacity_bytes or (local if journals.kind == "local" else settings.max_backlog_bytes)
        self.database = self._heir = ""
        self._surrendered = False
        self.on_durable: Callable[[Any, int], None] = lambda entity, version: None
        self._run: Run | None = None
        self._seed = self._next = 0
        self._backlog = 0
        self._sizes: deque[tuple[int, int]] = deque()

    @property
    def durable_at_once(self) -> bool:
        return self._journals.kind == "local"

    async def prepare(self) -> None:
        """Nothing to make but a name: beside a process of this node that lives, the place is another one."""
        self._heir = ""
        mine = [owner for owner in self._journals.runs if owner.node == self._node]
        if any(run.locked for owner in mine for run in self._journals.all_of(owner)):
            self._journals.heirs += 1
            self._heir = str(self._journals.heirs)

    @property
    def place(self) -> str:
        return f"memory:{self._node}:{self.database}:{self._heir}".rstrip(":")

    async def open(self, me: NodeAddress) -> None:
        if self._surrendered:
            raise Unavailable(_SURRENDERED)
        await self.close(keep=True)
        run = Run(me, self._heir)
        self._journals.opened(run)
        self._run = run
        self._seed, self._next, self._backlog = run_seed(CLUSTER, me), 1, 0

    def append(self, entity: Journaled, state: msgspec.Struct) -> bool:
        """Durable when it returns (`local`), or after the delays."""
        run = self._run
        if self._surrendered:
            raise Unavailable(_SURRENDERED)
        if run is None or not run.locked:
            raise Unavailable("the journal is closed")
        if run.sealed:
            raise Unavailable("the journal was adopted by another node")
        if self._journals.away(self._node):
            self._metrics.journal_refused_total += 1
            raise Unavailable("the journal does not answer")
        version = entity.version + 1
        data = frame(encode_payload((entity.id, entity.epoch, version, state)), self._next, self._seed)
        if self._backlog + len(data) > self._capacity:
            self._metrics.journal_refused_total += 1
            raise Unavailable("the journal is full: its oldest changes are not in the store yet")
        sequence, self._next = self._next, self._next + 1
        self._sizes.append((sequence, len(data)))
        self._backlog += len(data)
        self._metrics.journal_records_total += 1
        self._metrics.journal_bytes_total += len(data)
        self._metrics.journal_backlog_bytes = self._backlog
        if self._journals.kind == "local":
            run.add(sequence, data)
            return True
        self._send(run, entity, version, sequence, data)
        return False

    def alive_for(self, seconds: float) -> None:
        if self._run is not None and not self._surrendered and not self._journals.away(self._node):
            self._run.alive_until = max(self._run.alive_until, asyncio.get_running_loop().time() + seconds)

    @property
    def refusal(self) -> str | None:
        if self._surrendered:
            return _SURRENDERED
        return "the journal does not answer" if self._journals.away(self._node) else None

    @property
    def broken(self) -> bool:
        return self._run is not None and self._run.sealed and not self._surrendered

    @property
    def in_flight(self) -> int:
        return len(self._run.under_way) + len(self._run.unanswered) if self._run is not None else 0

    # ---- a succession ----

    @property
    def lock(self) -> int | None:
        """The number of this journal among those of its run, which stands for a descriptor."""
        if self._run is None or self._journals.kind == "redis":
            return None
        return self._journals.all_of(self._run.owner).index(self._run)

    def hold(self, lock: int) -> None:
        """Hold the lock of the run that this process is the heir of, once its own journal is open."""
        assert self._run is not None, "open first"
        self._journals.all_of(self._run.owner)[lock].holder = self._heir

    def surrender(self) -> None:
        self._surrendered = True

    async def clear(self, owner: NodeAddress, place: str) -> None:
        run = self._journals.find(owner, place)
        if run is not None:
            run.holder = None
            if run.locked:
                raise Unavailable(f"the journal of {owner} is in use: its process has not ended")
        await self.remove(owner, place)

    # ---- a stream that is far away ----

    def _send(self, run: Run, entity: Any, version: int, sequence: int, data: bytes) -> None:
        """In order: nothing arrives before what was sent before it."""
        loop = asyncio.get_running_loop()
        run.under_way.append((entity, version, sequence, data))
        run.arrives_at = max(loop.time() + self._journals.delay(), run.arrives_at)
        loop.call_at(run.arrives_at, self._arrive, run, loop)

    def _arrive(self, run: Run, loop: asyncio.AbstractEventLoop) -> None:
        if run.sealed:
            run.under_way.clear()  # refused: it is never durable
        elif self._journals.away(run.owner.node):
            loop.call_later(max(self._journals.delay(), 0.001), self._arrive, run, loop)
        else:
            entity, version, sequence, data = run.under_way.popleft()
            if sequence >= run.truncated:
                run.add(sequence, data)
            run.answered_at = max(loop.time() + self._journals.delay(), run.answered_at)
            run.unanswered.append((entity, version))
            loop.call_at(run.answered_at, self._answer, run)

    def _answer(self, run: Run) -> None:
        entity, version = run.unanswered.popleft()
        if run is self._run and run.locked:  # a process that is gone hears nothing
            self.on_durable(entity, version)

    # ---- what is stored may go ----

    @property
    def position(self) -> int:
        return self._next

    def truncate(self, position: int) -> None:
        if self._surrendered:
            return
        while self._sizes and self._sizes[0][0] < position:
            self._backlog -= self._sizes.popleft()[1]
        self._metrics.journal_backlog_bytes = self._backlog
        if self._run is not None and not self._run.sealed:
            self._run.truncate(min(position, self._next))

    async def close(self, keep: bool) -> None:
        run = self._run
        if self._surrendered:
            return
        if run is not None and keep and run.under_way and run.locked:  # records under way have the time of one command
            left = run.arrives_at - asyncio.get_running_loop().time()
            await asyncio.sleep(min(max(left, 0.0), self._timeout_s))
        self._run = None
        self._sizes.clear()
        self._backlog = self._metrics.journal_backlog_bytes = 0
        if run is not None:
            run.locked, run.alive_until = False, 0.0
            for held in self._journals.all_of(run.owner):
                held.holder = None if held.holder == run.heir else held.holder
            if not keep:
                run.sealed = True
                self._journals.forget(run)

    # ---- the successor's side ----

    def reads(self, place: str) -> bool:
        driver, node, database = (*place.split(":"), "", "")[:3]
        if driver != "memory" or not node or database not in ("", self.database):
            return False
        return not self._journals.hides(self._node, NodeId(node))

    def is_dead(self, owner: NodeAddress, place: str) -> bool:
        if self._journals.kind == "redis" or not self.reads(place):
            return False
        run = self._journals.find(owner, place)
        return run is not None and not run.locked and run.holder is None

    async def recover(self, owner: NodeAddress, place: str) -> Recovered:
        self._reach(owner, place)
        if self._journals.gone(owner):
            return Recovered({}, [f"the journal of {owner} is gone with its machine's memory"])
        run = self._journals.find(owner, place)
        if run is None:
            return Recovered({}, [])
        if self._is_alive(run):
            raise still_alive(owner)
        run.sealed = run.sealed or self._journals.kind == "redis"
        return read_run([Part(str(owner), run.data())], run_seed(CLUSTER, owner), run.truncated, run.newest)

    def _is_alive(self, run: Run) -> bool:
        """Whether its live mark moves; one in files (`local`) counts only while the process holds its lock."""
        holds = run.locked or self._journals.kind == "redis"
        return holds and asyncio.get_running_loop().time() < run.alive_until

    async def remove(self, owner: NodeAddress, place: str) -> None:
        self._reach(owner, place)
        run = self._journals.find(owner, place)
        self._journals.forget_gone(owner)
        if run is not None:
            self._journals.forget(run)
            run.sealed = True

    def _reach(self, owner: NodeAddress, place: str) -> None:
        if not self.reads(place) or (self._journals.kind == "redis" and self._journals.away(self._node)):
            raise Unavailable(f"the journal of {owner} cannot be read here: it is at {place}")
