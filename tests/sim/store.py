"""The simulated way to the store: each node's own handle on the one shared store.

A statement takes time to get there, is executed in the store's own process (it goes on when
the node that sent it dies) and its answer takes time to come back. `StoreFaults` decides per
statement what goes wrong:

    refuse    never executed; the node is told so
    forget    executed, and the answer is lost: the node sees `Unavailable` after its timeout
    late      the node sees `Unavailable` after its timeout, and then it is executed
"""

import asyncio
import random
from collections.abc import Collection, Sequence
from typing import Any, Literal, Protocol

from server.errors import GarrisonError, Unavailable
from server.eventlog.ports import Append, AppendResult, LogStore, Seal, StoredLog
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId
from server.storage.ports import Change, Claim, ClaimResult, NodeRow, Store, Stored, WriteResult
from tests.sim.loop import Domain, SimLoop

Fault = Literal["refuse", "forget", "late"] | None


class StoreFaults(Protocol):
    """What goes wrong with a statement; `None`: nothing."""

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
    anew for each; `down` refuses everything at once, as a closed port does."""

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
        self.domain = Domain("store")
        self.statements = 0

    def submit(self, node: str, part: Any, statement: str, args: tuple[Any, ...]) -> "asyncio.Future[Any]":
        """Send a statement; a future of its answer."""
        answer: asyncio.Future[Any] = self.loop.create_future()
        self.statements += 1
        fault = self.faults.decide(node, statement)
        self.loop.trace.note(self.loop.time(), "store", node, statement, fault)
        if self.down or fault == "refuse":
            self._later(self._way(), _fail, answer, "the store refuses")
            return answer
        begin = self._way()
        if fault == "late":
            begin += self.timeout_s
            self._later(self.timeout_s, _fail, answer, "the store did not answer in time")
        elif fault == "forget":
            self._later(self.timeout_s, _fail, answer, "the store did not answer in time")
        self._later(begin, self._execute, getattr(part, statement), args, None if fault else answer)
        return answer

    def _way(self) -> float:
        return self.rng.uniform(*self.latency_s)

    def _later(self, delay_s: float, call: Any, *args: Any) -> None:
        self.domain.run(lambda: self.loop.call_later(delay_s, call, *args))

    def _execute(self, statement: Any, args: tuple[Any, ...], answer: "asyncio.Future[Any] | None") -> None:
        self.loop.create_task(self._run(statement, args, answer), name=f"store {statement.__name__}")

    async def _run(self, statement: Any, args: tuple[Any, ...], answer: "asyncio.Future[Any] | None") -> None:
        try:
            result = await statement(*args)
        except GarrisonError as error:
            result = error
        if answer is not None:
            self._later(self._way(), _settle, answer, result)


def _settle(answer: "asyncio.Future[Any]", result: Any) -> None:
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


class NodeStore:
    """One node's `Store` and `LogStore`, both over the shared process."""

    def __init__(self, process: StoreProcess, node: str) -> None:
        self._process, self._node = process, node

    async def _store(self, statement: str, *args: Any) -> Any:
        return await self._process.submit(self._node, self._process.store, statement, args)

    async def _logs(self, statement: str, *args: Any) -> Any:
        return await self._process.submit(self._node, self._process.logs, statement, args)

    async def open(self) -> None:
        """The shared store is open already."""

    async def close(self) -> None:
        """It stays open for the others."""

    async def register_node(self, node: NodeId, lease_s: float | None) -> Incarnation:
        return await self._store("register_node", node, lease_s)  # type: ignore[no-any-return]

    async def renew_lease(self, me: NodeAddress, lease_s: float) -> bool:
        return await self._store("renew_lease", me, lease_s)  # type: ignore[no-any-return]

    async def bury_expired(self, spare: Collection[NodeAddress] = (), grace_s: float = 0.0) -> list[NodeAddress]:
        return await self._store("bury_expired", spare, grace_s)  # type: ignore[no-any-return]

    async def retire_node(self, me: NodeAddress) -> None:
        await self._store("retire_node", me)

    async def nodes(self) -> list[NodeRow]:
        return await self._store("nodes")  # type: ignore[no-any-return]

    async def claim(self, kind: str, claims: Sequence[Claim], me: NodeAddress) -> dict[ActorId, ClaimResult]:
        return await self._store("claim", kind, list(claims), me)  # type: ignore[no-any-return]

    async def write(self, kind: str, changes: Sequence[Change]) -> dict[ActorId, WriteResult]:
        return await self._store("write", kind, list(changes))  # type: ignore[no-any-return]

    async def release(self, kind: str, held: Sequence[tuple[ActorId, Epoch]]) -> None:
        await self._store("release", kind, list(held))

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]:
        return await self._store("read", kind, list(ids))  # type: ignore[no-any-return]

    async def append(self, kind: str, batch: Sequence[Append]) -> dict[ActorId, AppendResult]:
        return await self._logs("append", kind, list(batch))  # type: ignore[no-any-return]

    async def seal(self, kind: str, seal: Seal) -> AppendResult:
        return await self._logs("seal", kind, seal)  # type: ignore[no-any-return]

    async def read_log(self, kind: str, id: ActorId, from_seq: int = 1, to_seq: int | None = None) -> StoredLog | None:
        return await self._logs("read_log", kind, id, from_seq, to_seq)  # type: ignore[no-any-return]

    async def read_tail(self, kind: str, id: ActorId) -> StoredLog | None:
        return await self._logs("read_tail", kind, id)  # type: ignore[no-any-return]
