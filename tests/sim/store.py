"""The simulated way to the store: each node's own handle on the one shared store.

A statement takes time to get there, is executed in the store's own process (it goes on when
the node that sent it dies) and its answer takes time to come back. `StoreFaults` decides per
statement what goes wrong:

    refuse    never executed; the node is told so
    forget    executed, and the answer is lost: the node sees `Unavailable` after its timeout
    late      the node sees `Unavailable` after its timeout, and then it is executed
    slow      it takes longer than it should, and is answered if that is within the timeout
    lock      it holds its rows for a while before it is done: whoever wants one of them waits

What statements change is kept in `audit`, in the order in which it came to be.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

from server.errors import Corrupt, GarrisonError, Unavailable
from server.eventlog.ports import (
    Append,
    AppendResult,
    DeleteResult,
    InsertResult,
    LogStore,
    OverLog,
    RedactResult,
    Seal,
    StoredLog,
    WholeLog,
)
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId, kind_of
from server.liveness.ports import Estate, NodeRow
from server.storage.memory import MemoryDatabase
from server.storage.ports import (
    Change,
    Claim,
    ClaimResult,
    DatabaseIdentity,
    EntityMove,
    MoveResult,
    Reminder,
    Store,
    Stored,
    WriteResult,
)
from server.storage.queries import StoreQueries
from tests.sim.history import Audit, Deleted, Judged, Row, Succeeded, Wrote
from tests.sim.loop import DOMAIN, Domain, SimLoop

Fault = Literal["refuse", "forget", "late", "slow", "lock"] | None
LEASE: Final = frozenset({
    "register_node", "renew_lease", "succeed_node", "bury_expired", "bury", "evict", "retire_node", "nodes",
})  # fmt: skip
JUDGING: Final = (LEASE - {"nodes"}) | {"prune_nodes"}
"""The statements that change runs, or look at them."""
ROWS: Final = frozenset({"claim", "write", "release", "migrate", "append", "seal", "delete_logs"})
"""The statements that change rows of entities, and so lock them."""


class StoreFaults(Protocol):
    """The fault of a statement; `None`: it has none."""

    def decide(self, node: str, statement: str) -> Fault: ...


class NoFaults:
    def decide(self, node: str, statement: str) -> Fault:
        return None


class RandomFaults:
    """Each statement fails in one of the three ways with probability `chance`; `only` limits
    it to some statements. `stop` ends it."""

    def __init__(self, rng: random.Random, chance: float, only: frozenset[str] = frozenset()) -> None:
        self._rng, self.chance, self._only = rng, chance, only
        self.injected = 0

    def decide(self, node: str, statement: str) -> Fault:
        if self._rng.random() >= self.chance or (self._only and statement not in self._only):
            return None
        self.injected += 1
        choices: tuple[Fault, ...] = ("refuse", "forget", "late")
        return self._rng.choice(choices)

    def stop(self) -> None:
        self.chance = 0.0


class StoreProcess:
    """The shared store, in a process of its own. `latency_s` is the range of one way, drawn
    anew for each; `down` refuses everything at once, as a closed port does, for all or for the
    nodes in `down_for`. `tapped`, if set, is called with (node, statement) where an answer is about
    to go back."""

    def __init__(
        self,
        loop: SimLoop,
        rng: random.Random,
        store: Store,
        logs: LogStore,
        *,
        latency_s: tuple[float, float] = (0.0005, 0.004),
        timeout_s: float = 5.0,
    ) -> None:
        self.loop, self.rng, self.store, self.logs = loop, rng, store, logs
        self.latency_s, self.timeout_s = latency_s, timeout_s
        self.faults: StoreFaults = NoFaults()
        self.down = False
        self.down_for: dict[str, int] = {}
        self.slow_s = (0.05, 0.4)
        self.lock_s = (0.05, 1.5)
        self.late_s = (0.0, 0.5, 4.0)
        """Later than the timeout by up to one of these."""
        self.tapped: Callable[[str, str], None] | None = None
        self.audit: Audit = []
        self.claims: list[tuple[NodeAddress, int]] = []
        """Run and token of each claim, in the order in which they were sent."""
        self.domain = Domain("store")
        self.statements = 0
        self._database: MemoryDatabase = getattr(store, "database")  # noqa: B009 - the port has none
        self._locked: dict[ActorId, float] = {}
        self.alive: Callable[[NodeAddress], bool] = lambda address: True
        """Whether the process of a run is there: only the world knows."""
        self._steady: dict[str, float] = {}

    def submit(self, node: str, part: Any, statement: str, args: tuple[Any, ...]) -> "asyncio.Future[Any]":
        """Send a statement; a future of its answer."""
        answer: asyncio.Future[Any] = self.loop.create_future()
        sender = DOMAIN.get()
        if sender is not None and sender.state == "dead":
            return answer  # what a dying process does on its way out reaches nobody
        self.statements += 1
        if statement == "claim":
            self.claims += [(args[2], claim.token) for claim in args[1]]
        fault = self.faults.decide(node, statement)
        self.loop.trace.note(self.loop.time(), "store", node, statement, fault)
        if self.down or fault == "refuse" or node in self.down_for:
            self._later(self._way(), _fail, answer, "the store refuses")
            return answer
        begin, timeout_s = self._way(), self.timeout_s
        if fault == "late":
            begin += timeout_s + self.rng.choice(self.late_s) * self.rng.random()
        elif fault == "slow":
            begin += self.rng.uniform(*self.slow_s)
        if fault is not None or self._locked:
            self._later(timeout_s, _fail, answer, "the store did not answer in time")
        answers = answer if fault not in ("late", "forget") else None
        self._later(begin, self._execute, (node, part, statement, args, fault == "lock", self._steady_s(node)), answers)
        return answer

    def _way(self) -> float:
        return self.rng.uniform(*self.latency_s)

    def _later(self, delay_s: float, call: Any, *args: Any) -> None:
        self.domain.run(lambda: self.loop.call_later(delay_s, call, *args))

    def _execute(self, work: "_Work", answer: "asyncio.Future[Any] | None") -> None:
        """Run it where its rows are free. One that holds them itself does so first, and is done at the
        end of that."""
        node, part, statement, args, holds, steady_s = work
        ids = _rows(statement, args) if self._locked or holds else ()
        if ids:
            now = self.loop.time()
            free = max((self._locked.get(identity, 0.0) for identity in ids), default=0.0)
            if free > now:
                self._later(free - now + 0.0001, self._execute, work, answer)
                return
            for identity in ids:
                self._locked.pop(identity, None)
            if holds:
                hold_s = self.rng.uniform(*self.lock_s)
                self._locked.update(dict.fromkeys(ids, now + hold_s))
                self._later(hold_s, self._execute, (node, part, statement, args, False, steady_s), answer)
                return
        self.loop.create_task(self._run(node, part, statement, args, steady_s, answer), name=f"store {statement}")

    async def _run(
        self,
        node: str,
        part: Any,
        statement: str,
        args: tuple[Any, ...],
        steady_s: float,
        answer: "asyncio.Future[Any] | None",
    ) -> None:
        ids = _rows(statement, args)
        before = [self._row(identity) for identity in ids]
        spared = {identity for identity in ids if statement == "delete_logs" and self._is_spared(identity)}
        runs = self._runs(node, statement) if statement in JUDGING else None
        try:
            result = await getattr(part, statement)(*args)
        except GarrisonError as error:
            result = error
        if statement == "succeed_node" and result is True:
            self.audit.append(Succeeded(at=self.loop.time(), about=args[0], generation=args[1]))
        if runs is not None:
            self._judged(node, statement, args, runs, steady_s)
        for one, row in zip(ids, before, strict=True):
            after = self._row(one)
            if after != row:
                self._note(node, statement, args, one, row, after, one in spared)
        if answer is not None:
            if self.tapped is not None:
                self.tapped(node, statement)
            self._later(self._way(), _resolve, answer, result)

    def _row(self, identity: ActorId) -> Row | None:
        entity = self._database.entities.get(identity)
        if entity is None:
            return None
        return Row(
            entity.epoch, entity.owner, entity.state_epoch, entity.state_version, entity.next_seq, entity.head,
            entity.state,
        )  # fmt: skip

    def _is_spared(self, identity: ActorId) -> bool:
        """Whether nobody may delete that row now, but for its owner."""
        entity = self._database.entities.get(identity)
        if entity is None:
            return False
        over = self._database.over.get(kind_of(identity))
        is_over = over is not None and entity.state is not None and over(entity.state) > 0
        return entity.is_pinned or entity.open_facts or not is_over

    def _note(
        self, node: str, statement: str, args: tuple[Any, ...], identity: ActorId, before: Row | None,
        after: Row | None, spared: bool,
    ) -> None:  # fmt: skip
        owner = before.owner if before is not None else None
        run = self._database.nodes.get(owner) if owner is not None else None
        if after is None:
            assert before is not None
            self.audit.append(
                Deleted(
                    at=self.loop.time(), node=node, id=identity, before=before,
                    owner_state=run.state if run is not None else "", is_spared=spared,
                )
            )  # fmt: skip
            return
        asked = next((one for one in _items(args) if getattr(one, "id", None) == identity), None)
        self.audit.append(
            Wrote(
                at=self.loop.time(),
                node=node,
                statement=statement,
                id=identity,
                epoch=getattr(asked, "epoch", None),
                before=before,
                after=after,
                owner_state=run.state if run is not None else "",
                to_state=self._state_of(after.owner),
            )
        )

    def _runs(self, node: str, statement: str) -> dict[NodeAddress, tuple[str, float]]:
        """State and rest of the lease of each run; notes since when the lease of `node` holds."""
        now = self._database.clock.boot()
        runs: dict[NodeAddress, tuple[str, float]] = {
            address: (run.state, run.lease_until - now) for address, run in self._database.nodes.items()
        }
        if statement == "renew_lease":
            held = any(address.node == node and state == "up" and left > 0 for address, (state, left) in runs.items())
            if not held:
                self._steady[node] = now
        return runs

    def _steady_s(self, node: str) -> float:
        """For how long the lease of `node` has held: what it may judge by when it sends a statement,
        which may be executed much later."""
        return self._database.clock.boot() - self._steady.get(node, 0.0)

    def _judged(
        self,
        node: str,
        statement: str,
        args: tuple[Any, ...],
        before: dict[NodeAddress, tuple[str, float]],
        steady_s: float,
    ) -> None:
        live = sorted(one for one, (state, left) in before.items() if state in ("up", "evicting") and left > 0)
        after = {address: run.state for address, run in self._database.nodes.items()}
        for address, becomes in {**after, **dict.fromkeys(before.keys() - after.keys(), "pruned")}.items():
            state, left_s = before.get(address, ("", 0.0))
            if not state:
                self._steady[address.node] = self._database.clock.boot()  # a registration that took effect
            if becomes != state:
                self.audit.append(
                    Judged(
                        at=self.loop.time(),
                        node=node,
                        statement=statement,
                        about=address,
                        before=state,
                        after=becomes,
                        left_s=left_s,
                        side=list(args[1]) if statement == "evict" else [],
                        live=live,
                        steady_s=steady_s,
                        alive=self.alive(address),
                    )
                )

    def _state_of(self, owner: NodeAddress | None) -> str:
        run = self._database.nodes.get(owner) if owner is not None else None
        return run.state if run is not None else ""


_Work = tuple[str, Any, str, tuple[Any, ...], bool, float]


def _items(args: tuple[Any, ...]) -> Sequence[Any]:
    """The rows that a statement names: the second argument, one or a list of them."""
    return args[1] if isinstance(args[1], list) else [args[1]]


def _rows(statement: str, args: tuple[Any, ...]) -> Sequence[ActorId]:
    if statement not in ROWS:
        return ()
    return [one[0] if isinstance(one, tuple) else one.id for one in _items(args)]


def _resolve(answer: "asyncio.Future[Any]", result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, GarrisonError):
        answer.set_exception(result)
        answer.exception()  # the node may have died meanwhile: nobody takes it, and that is no fault
    else:
        answer.set_result(result)


def _fail(answer: "asyncio.Future[Any]", why: str) -> None:
    if not answer.done():
        answer.set_exception(Unavailable(why))
        answer.exception()


class NodeQueries:
    """A node's store queries, over the shared process."""

    def __init__(self, process: StoreProcess, node: str, queries: StoreQueries) -> None:
        self._process, self._node, self._queries = process, node, queries

    async def run(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        return await self._process.submit(self._node, self._queries, "run", (name, params))  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Do nothing: the process stays open for the other nodes."""


class NodeStore:
    """A node's `Store` and `LogStore`, both over the shared process."""

    def __init__(self, process: StoreProcess, node: str) -> None:
        self._process, self._node = process, node
        self._surrendered = False
        self.under_way = 0

    async def _store(self, statement: str, *args: Any) -> Any:
        return await self._ask(self._process.store, statement, args)

    async def _logs(self, statement: str, *args: Any) -> Any:
        return await self._ask(self._process.logs, statement, args)

    async def _ask(self, part: Any, statement: str, args: tuple[Any, ...]) -> Any:
        if self._surrendered:
            raise Unavailable("this process has handed its run on: it sends no statement any more")
        self.under_way += 1
        try:
            return await self._process.submit(self._node, part, statement, args)
        finally:
            self.under_way -= 1

    def surrender(self) -> None:
        self._surrendered = True

    async def open(self) -> None:
        """The shared store is open already."""

    @property
    def identity(self) -> DatabaseIdentity:
        return self._process.store.identity  # no statement: a node reads it once, when it opens the store

    async def check(self) -> None:
        """A store in memory has no schema."""

    async def close(self) -> None:
        """Do nothing: the process stays open for the other nodes."""

    async def register_node(self, node: NodeId, lease_s: float | None, journal: str = "") -> Incarnation:
        return await self._store("register_node", node, lease_s, journal)  # type: ignore[no-any-return]

    async def renew_lease(self, me: NodeAddress, lease_s: float, generation: int = 0) -> bool:
        return await self._store("renew_lease", me, lease_s, generation)  # type: ignore[no-any-return]

    async def succeed_node(self, me: NodeAddress, generation: int, journal: str, lease_s: float | None) -> bool:
        return await self._store("succeed_node", me, generation, journal, lease_s, self)  # type: ignore[no-any-return]

    async def bury_expired(self, spare: Collection[NodeAddress] = (), grace_s: float = 0.0) -> list[NodeAddress]:
        return await self._store("bury_expired", list(spare), grace_s)  # type: ignore[no-any-return]

    async def bury(self, address: NodeAddress, journal: str | None = None) -> bool:
        return await self._store("bury", address, journal)  # type: ignore[no-any-return]

    async def evict(self, suspects: Collection[NodeAddress], side: Collection[NodeAddress]) -> list[NodeAddress]:
        return await self._store("evict", list(suspects), list(side))  # type: ignore[no-any-return]

    async def retire_node(self, me: NodeAddress, all_stored: bool = True, generation: int = 0) -> None:
        await self._store("retire_node", me, all_stored, generation)

    async def estates(self) -> list[Estate]:
        return await self._store("estates")  # type: ignore[no-any-return]

    async def close_estate(self, owner: NodeAddress) -> None:
        await self._store("close_estate", owner)

    async def forget_estate(self, estate: Estate) -> bool:
        return await self._store("forget_estate", estate)  # type: ignore[no-any-return]

    async def nodes(self) -> list[NodeRow]:
        return await self._store("nodes")  # type: ignore[no-any-return]

    async def living(self) -> list[NodeRow]:
        return await self._store("living")  # type: ignore[no-any-return]

    async def runs(self, of: Collection[NodeAddress]) -> dict[NodeAddress, NodeRow]:
        return await self._store("runs", list(of))  # type: ignore[no-any-return]

    async def prune_nodes(self, kept_s: float, limit: int) -> int:
        return await self._store("prune_nodes", kept_s, limit)  # type: ignore[no-any-return]

    async def claim(
        self,
        kind: str,
        claims: Sequence[Claim],
        me: NodeAddress,
        journals: Collection[str] | None = None,
        generation: int = 0,
    ) -> dict[ActorId, ClaimResult | Corrupt]:
        readable = None if journals is None else tuple(journals)
        return await self._store("claim", kind, list(claims), me, readable, generation)  # type: ignore[no-any-return]

    async def write(self, kind: str, changes: Sequence[Change]) -> dict[ActorId, WriteResult]:
        return await self._store("write", kind, list(changes))  # type: ignore[no-any-return]

    async def release(
        self,
        kind: str,
        held: Sequence[tuple[ActorId, Epoch]],
        told: Collection[ActorId] = (),
        generation: int = 0,
    ) -> None:
        await self._store("release", kind, list(held), frozenset(told), generation)

    async def migrate(self, kind: str, moves: Sequence[EntityMove], generation: int = 0) -> dict[ActorId, MoveResult]:
        return await self._store("migrate", kind, list(moves), generation)  # type: ignore[no-any-return]

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]:
        return await self._store("read", kind, list(ids))  # type: ignore[no-any-return]

    async def count_owned(self, kind: str) -> dict[NodeAddress, int]:
        return await self._store("count_owned", kind)  # type: ignore[no-any-return]

    async def orphans(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        return await self._store("orphans", kind, limit, after)  # type: ignore[no-any-return]

    async def strays(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        return await self._store("strays", kind, limit, after)  # type: ignore[no-any-return]

    async def floors(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Epoch]:
        return await self._store("floors", kind, list(ids))  # type: ignore[no-any-return]

    async def bar(self, key: str, until_s: float = 0.0) -> None:
        await self._store("bar", key, until_s)

    async def erase(self, kind: str, key: str) -> bool:
        return await self._store("erase", kind, key)  # type: ignore[no-any-return]

    async def lift(self, key: str) -> bool:
        return await self._store("lift", key)  # type: ignore[no-any-return]

    async def pardon(self, key: str) -> None:
        await self._store("pardon", key)

    async def set_reminder(self, reminder: Reminder) -> bool:
        return await self._store("set_reminder", reminder)  # type: ignore[no-any-return]

    async def unset_reminder(self, reminder: Reminder) -> bool:
        return await self._store("unset_reminder", reminder)  # type: ignore[no-any-return]

    async def drop_reminder(self, reminder: Reminder) -> None:
        await self._store("drop_reminder", reminder)

    async def due_reminders(self, until_ms: int, limit: int, after: Reminder | None = None) -> list[Reminder]:
        return await self._store("due_reminders", until_ms, limit, after)  # type: ignore[no-any-return]

    async def append(self, kind: str, batch: Sequence[Append]) -> dict[ActorId, AppendResult]:
        return await self._logs("append", kind, list(batch))  # type: ignore[no-any-return]

    async def seal(self, kind: str, seal: Seal) -> AppendResult:
        return await self._logs("seal", kind, seal)  # type: ignore[no-any-return]

    async def insert_log(self, kind: str, id: ActorId, log: WholeLog) -> InsertResult:
        return await self._logs("insert_log", kind, id, log)  # type: ignore[no-any-return]

    async def redact(self, kind: str, id: ActorId, was: StoredLog, log: WholeLog) -> RedactResult:
        return await self._logs("redact", kind, id, was, log)  # type: ignore[no-any-return]

    async def read_log(self, kind: str, id: ActorId, from_seq: int = 1, to_seq: int | None = None) -> StoredLog | None:
        return await self._logs("read_log", kind, id, from_seq, to_seq)  # type: ignore[no-any-return]

    async def list_logs(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        return await self._logs("list_logs", kind, limit, after)  # type: ignore[no-any-return]

    async def list_over(
        self, kind: str, limit: int, after: OverLog | None = None, *, newest_first: bool = False, sizes: bool = True
    ) -> list[OverLog]:
        return await self._logs("list_over", kind, limit, after, newest_first, sizes)  # type: ignore[no-any-return]

    async def delete_logs(self, kind: str, logs: Sequence[OverLog]) -> dict[ActorId, DeleteResult]:
        return await self._logs("delete_logs", kind, list(logs))  # type: ignore[no-any-return]

    async def pin_log(self, kind: str, id: ActorId, pinned: bool) -> bool:
        return await self._logs("pin_log", kind, id, pinned)  # type: ignore[no-any-return]

    async def now_ms(self) -> int:
        return await self._logs("now_ms")  # type: ignore[no-any-return]

    async def read_tail(self, kind: str, id: ActorId) -> StoredLog | None:
        return await self._logs("read_tail", kind, id)  # type: ignore[no-any-return]
