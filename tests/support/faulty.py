"""Stores with faults that a test plants: refusals, unknown outcomes, states that do not fit."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from server.errors import Corrupt, Unavailable
from server.eventlog.ports import Append, AppendResult, Seal
from server.ids import ActorId, Epoch, NodeAddress
from server.storage.memory import MemoryDatabase, MemoryStore
from server.storage.memory_logs import MemoryLogStore
from server.storage.ports import Change, Claim, ClaimResult, EntityMove, MoveResult, WriteResult

Fault = Literal["refuse", "forget"]
"""`refuse`: nothing happened. `forget`: it happened, and the answer was lost."""


class Faults:
    """Faults of the statements of one store. `next` is used up first, then `always`; with
    neither, `choose` decides. `hold` keeps statements waiting until it is set again."""

    def __init__(self) -> None:
        self.next: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.choose: Callable[[str], Fault | None] = lambda statement: None
        self.poison: Callable[[ActorId], bool] = lambda identity: False
        """Ids whose state the store cannot take (it raises what is no `Unavailable`)."""
        self.hold: asyncio.Event | None = None
        self.seen: list[tuple[str, Any]] = []

    async def run(self, statement: str, what: Any, work: Callable[[], Any]) -> Any:
        self.seen.append((statement, what))
        if self.hold is not None:
            await self.hold.wait()
        queued = self.next.get(statement)
        fault = queued.pop(0) if queued else self.always.get(statement) or self.choose(statement)
        if fault == "refuse":
            raise Unavailable("planted: refused")
        result = await work()
        if fault == "forget":
            raise Unavailable("planted: the answer is lost")
        return result

    def check(self, ids: Sequence[ActorId]) -> None:
        bad = [identity for identity in ids if self.poison(identity)]
        if bad:
            raise OverflowError(f"planted: {bad[0]} does not fit")


class FaultyStore(MemoryStore):
    def __init__(
        self,
        database: MemoryDatabase,
        types: dict[str, Any],
        faults: Faults,
        live: Mapping[str, Callable[[Any], bool]] | None = None,
        facts: Mapping[str, Callable[[ActorId, Any], bool]] | None = None,
        here: Mapping[str, Callable[[Any], bool]] | None = None,
    ) -> None:
        super().__init__(database, types, live, facts, here)
        self.faults = faults

    async def claim(
        self,
        kind: str,
        claims: Sequence[Claim],
        me: NodeAddress,
        journals: Collection[str] | None = None,
        generation: int = 0,
    ) -> dict[ActorId, ClaimResult | Corrupt]:
        work = super().claim
        run = self.faults.run
        return await run("claim", claims, lambda: work(kind, claims, me, journals, generation))  # type: ignore[no-any-return]

    async def write(self, kind: str, changes: Sequence[Change]) -> dict[ActorId, WriteResult]:
        self.faults.check([change.id for change in changes])
        work = super().write
        return await self.faults.run("write", changes, lambda: work(kind, changes))  # type: ignore[no-any-return]

    async def release(
        self,
        kind: str,
        held: Sequence[tuple[ActorId, Epoch]],
        told: Collection[ActorId] = (),
        generation: int = 0,
    ) -> None:
        work = super().release
        await self.faults.run("release", held, lambda: work(kind, held, told, generation))

    async def migrate(self, kind: str, moves: Sequence[EntityMove], generation: int = 0) -> dict[ActorId, MoveResult]:
        work = super().migrate
        return await self.faults.run("migrate", moves, lambda: work(kind, moves, generation))  # type: ignore[no-any-return]

    async def renew_lease(self, me: NodeAddress, lease_s: float, generation: int = 0) -> bool:
        work = super().renew_lease
        return await self.faults.run("renew_lease", me, lambda: work(me, lease_s, generation))  # type: ignore[no-any-return]

    async def succeed_node(
        self, me: NodeAddress, generation: int, journal: str, lease_s: float | None, heir: object = None
    ) -> bool:
        work = super().succeed_node
        return await self.faults.run("succeed_node", me, lambda: work(me, generation, journal, lease_s, heir))  # type: ignore[no-any-return]


class FaultyLogs(MemoryLogStore):
    def __init__(self, database: MemoryDatabase, faults: Faults) -> None:
        super().__init__(database)
        self.faults = faults

    async def append(self, kind: str, batch: Sequence[Append]) -> dict[ActorId, AppendResult]:
        self.faults.check([append.id for append in batch])
        work = super().append
        return await self.faults.run("append", batch, lambda: work(kind, batch))  # type: ignore[no-any-return]

    async def seal(self, kind: str, seal: Seal) -> AppendResult:
        work = super().seal
        return await self.faults.run("seal", seal, lambda: work(kind, seal))  # type: ignore[no-any-return]
