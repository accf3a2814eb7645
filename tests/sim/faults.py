"""The faults of a storm: a plan drawn from the seed, and how each part of it is done to the world.

    process    crash (torn tail), machine (its local journal goes too), stop, join, drain
    pauses     pause (SIGSTOP: gossip falls silent), stall (the interpreter: gossip goes on), busy (the event
               loop alone: its lease is renewed for a while), trap (after so many steps), append (before or
               after a record is in the journal), lease (where the lease is checked), answer (a statement is
               done and its answer not yet there)
    network    cut (one way or both), split (transport and gossip), slow, drop and half_open (clients)
    gossip     silence (a member is taken for dead), lie (it is not seen at all)
    store      outage (for all or for one), statements (lost, late, forgotten, slow: rows or leases),
               locks; journal (a distant one does not answer)
    clocks     wall (the wall clock is set)

Each fault ends by itself and undoes what it did; so does the whole when it is cancelled.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from server.errors import GarrisonError
from server.ids import NodeId
from tests.sim.loop import DOMAIN
from tests.sim.process import SimProcess
from tests.sim.store import LEASE, ROWS, Fault
from tests.sim.world import World

WEIGHTS: Final = {
    "crash": 6, "machine": 3, "stop": 4, "join": 2, "drain": 4,
    "pause": 6, "stall": 4, "busy": 3, "trap": 4, "append": 4, "lease": 4, "answer": 6,
    "cut": 5, "split": 4, "slow": 2, "drop": 3, "half_open": 3,
    "silence": 3, "lie": 3,
    "outage": 4, "statements": 6, "locks": 4, "journal": 3,
    "wall": 1,
}  # fmt: skip
NEW_NODE: Final = "n4"
ANSWERED: Final = ("claim", "write", "append", "renew_lease", "renew_lease", "migrate", "release", "estates")
LOST: Final[tuple[Fault, ...]] = ("refuse", "forget", "late", "slow")


class Aim(NamedTuple):
    """A kind of fault that a plan is to hold, how long it is to last, and, for some kinds, what
    exactly: the statement (`answer`, `statements`) and how it goes wrong."""

    kind: str
    seconds: tuple[float, float] = (0.3, 5.0)
    statement: str = ""
    way: Fault = None


class Planned(NamedTuple):
    """A fault: when it begins (seconds into the storm), how long it lasts, and a number from which
    whatever else it needs is drawn when it happens."""

    at: float
    kind: str
    seconds: float
    number: int
    statement: str = ""
    way: Fault = None


def draw(rng: random.Random, length_s: float, count: int, aims: tuple[Aim, ...] = ()) -> list[Planned]:
    """A plan of `count` faults within `length_s`; of `aims` if given."""
    plan = []
    for _ in range(count):
        if aims:
            aim = rng.choice(aims)
        else:
            kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            aim = Aim(kind, (4, 10) if kind == "pause" and rng.random() < 0.4 else (0.3, 5))
        at, seconds = round(rng.uniform(0, length_s), 3), round(rng.uniform(*aim.seconds), 3)
        plan.append(Planned(at, aim.kind, seconds, rng.randrange(1 << 30), aim.statement, aim.way))
    return sorted(plan, key=lambda fault: (fault.at, fault.number))


class StoreTroubles:
    """`StoreFaults` of a storm: each trouble hits some statements of some nodes with some chance."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._active: dict[int, tuple[float, frozenset[str], str | None, tuple[Fault, ...]]] = {}
        self._number = 0
        self.injected = 0

    def begin(self, chance: float, statements: frozenset[str], node: str | None, ways: tuple[Fault, ...]) -> int:
        self._number += 1
        self._active[self._number] = (chance, statements, node, ways)
        return self._number

    def end(self, number: int) -> None:
        self._active.pop(number, None)

    def decide(self, node: str, statement: str) -> Fault:
        for chance, statements, whose, ways in self._active.values():
            wanted = not statements or statement in statements
            if wanted and whose in (None, node) and self._rng.random() < chance:
                self.injected += 1
                return self._rng.choice(ways)
        return None


class Faults:
    """Does a plan to a world. `done` says what came of each part of it."""

    def __init__(self, world: World, plan: list[Planned]) -> None:
        self.world, self.plan = world, plan
        self.store = StoreTroubles(world.rng("store faults"))
        world.store.faults = self.store
        self.done: list[str] = []

    async def run(self) -> None:
        """All of it, each part in its time."""
        async with asyncio.TaskGroup() as group:
            for fault in self.plan:
                group.create_task(self._one(fault))

    async def _one(self, fault: Planned) -> None:
        await asyncio.sleep(fault.at)
        begin, rng = self.world.loop.time(), random.Random(fault.number)
        if fault.kind == "answer":
            came = await self._answer(fault.seconds, rng, fault.statement)
        elif fault.kind == "statements":
            came = await self._statements(fault.seconds, rng, fault.statement, fault.way)
        else:
            way: Callable[[float, random.Random], Awaitable[str]] = getattr(self, f"_{fault.kind}")
            came = await way(fault.seconds, rng)
        self.done.append(f"{begin:7.3f} {fault.kind} {came}")

    def _log(self, *parts: object) -> None:
        self.world.note("fault", *parts)

    def _victim(self, rng: random.Random) -> SimProcess | None:
        """A process that runs, or None."""
        running = [process for process in self.world.processes.values() if process.domain.state == "running"]
        return rng.choice(running) if running else None

    def _node(self, rng: random.Random) -> str:
        return rng.choice(sorted(self.world.processes) or ["n1"])

    def _two(self, rng: random.Random) -> tuple[str, str]:
        names = sorted(self.world.processes)
        if len(names) < 2:
            return "n1", "n2"
        one, other = rng.sample(names, 2)
        return one, other

    # ---- processes ----

    async def _crash(self, seconds: float, rng: random.Random, machine: bool = False) -> str:
        process = self._victim(rng)
        if process is None:
            return "nobody"
        self.world.crash_process(process.name, machine=machine, torn=rng.choice((0, 0, 5, 40)))
        await self._back(process.name, seconds)
        return f"{process.name} for {seconds} s"

    async def _back(self, name: str, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            if name not in self.world.processes:
                self.world.launch(name)

    async def _machine(self, seconds: float, rng: random.Random) -> str:
        return await self._crash(seconds, rng, machine=True)

    async def _stop(self, seconds: float, rng: random.Random) -> str:
        process = self._victim(rng)
        if process is None or not process.up:
            return "nobody"
        await self.world.stop_process(process.name)
        await self._back(process.name, seconds)
        return f"{process.name} for {seconds} s"

    async def _join(self, seconds: float, rng: random.Random) -> str:
        if NEW_NODE in self.world.processes:
            return "is there"
        self.world.launch(NEW_NODE)
        return NEW_NODE

    async def _drain(self, seconds: float, rng: random.Random) -> str:
        process = self._victim(rng)
        if process is None or not process.up or process.node is None:
            return "nobody"
        self._log("drain", process.name)
        draining = process.domain.run(self.world.loop.create_task, quietly(process.node.node.drain()))
        await asyncio.wait([draining], timeout=seconds)  # it may crash meanwhile
        await asyncio.sleep(seconds)
        if self.world.processes.get(process.name) is process:
            await self._renew(process.name)
        return process.name

    async def _renew(self, name: str) -> None:
        """A drained node is stopped and comes back."""
        await self.world.stop_process(name)
        if name not in self.world.processes:
            self.world.launch(name)

    # ---- pauses ----

    async def _pause(self, seconds: float, rng: random.Random) -> str:
        return await self._held(self._victim(rng), seconds, silent=True)

    async def _stall(self, seconds: float, rng: random.Random) -> str:
        return await self._held(self._victim(rng), seconds, silent=False)

    async def _busy(self, seconds: float, rng: random.Random) -> str:
        return await self._held(self._victim(rng), seconds, silent=False, threads=False)

    async def _held(self, process: SimProcess | None, seconds: float, silent: bool, threads: bool = True) -> str:
        if process is None:
            return "nobody"
        world = self.world
        self._log("pause" if silent else "stall" if threads else "busy", process.domain.name, seconds)
        mute = world.gossip.mute(process.name) if silent else 0
        world.loop.pause(process.domain, threads=threads)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._log("resume", process.domain.name)
            world.loop.resume(process.domain, threads=threads)
            world.gossip.unmute(mute)
        return f"{process.domain.name} for {seconds} s"

    async def _trap(self, seconds: float, rng: random.Random) -> str:
        process = self._victim(rng)
        if process is None:
            return "nobody"
        sprung, steps = asyncio.Event(), rng.randint(1, 60)

        def trap() -> None:
            self.world.loop.pause(process.domain)
            sprung.set()

        process.domain.trap, process.domain.trap_in = trap, steps
        try:
            async with asyncio.timeout(2.0):
                await sprung.wait()
            return await self._held(process, seconds, silent=bool(rng.getrandbits(1)))
        except TimeoutError:
            return f"{process.domain.name} took no {steps} steps"
        finally:
            process.domain.trap_in = 0
            if sprung.is_set():
                self.world.loop.resume(process.domain)

    async def _append(self, seconds: float, rng: random.Random) -> str:
        process = self._victim(rng)
        if process is None or process.node is None or process.node.journal is None:
            return "no journal"
        journal, after, left = process.node.journal, bool(rng.getrandbits(1)), iter(range(rng.randint(0, 3)))

        def stops(then: bool) -> None:
            if then == after and next(left, None) is None:
                journal.stops = None
                self._freeze(process, seconds, f"{'after' if after else 'before'} an append")

        return await self._armed(journal, "stops", stops, process)

    async def _lease(self, seconds: float, rng: random.Random) -> str:
        process = self._victim(rng)
        if process is None:
            return "nobody"
        left = iter(range(rng.randint(0, 11)))

        def read() -> None:
            if next(left, None) is None and DOMAIN.get() is process.domain:
                process.clock.read = None
                self._freeze(process, seconds, "before a lease check")

        return await self._armed(process.clock, "read", read, process)

    async def _armed(self, what: object, name: str, hook: Callable[..., None], process: SimProcess) -> str:
        setattr(what, name, hook)
        try:
            await asyncio.sleep(3.0)
        finally:
            armed = getattr(what, name) is hook
            setattr(what, name, None)
        return f"{process.domain.name} {'came not there' if armed else 'was frozen'}"

    def _freeze(self, process: SimProcess, seconds: float, where: str) -> None:
        self._log("freeze", process.domain.name, where, seconds)
        mute = self.world.gossip.mute(process.name)
        try:
            self.world.loop.freeze(process.domain, seconds)
        finally:
            self.world.gossip.unmute(mute)
        self._log("thaw", process.domain.name)

    async def _answer(self, seconds: float, rng: random.Random, statement: str) -> str:
        process = self._victim(rng)
        if process is None:
            return "nobody"
        wanted = statement or rng.choice(ANSWERED)
        due = asyncio.Event()
        store, world = self.world.store, self.world

        def tapped(node: str, statement: str) -> None:
            if node == process.name and statement == wanted and process.domain.state == "running":
                store.tapped = None
                world.loop.pause(process.domain)
                due.set()

        store.tapped = tapped
        try:
            async with asyncio.timeout(3.0):
                await due.wait()
            return (
                await self._held(process, seconds, silent=bool(rng.getrandbits(1))) + f" before the answer to {wanted}"
            )
        except TimeoutError:
            return f"{process.domain.name} asked no {wanted}"
        finally:
            if store.tapped is tapped:
                store.tapped = None
            if due.is_set():
                world.loop.resume(process.domain)

    # ---- network and gossip ----

    async def _cut(self, seconds: float, rng: random.Random) -> str:
        one, other = self._two(rng)
        ways = [(one, other), (other, one)][: rng.randint(1, 2)]
        await self._apart(ways, [], seconds)
        return f"{one} {'-' if len(ways) > 1 else '->'} {other} for {seconds} s"

    async def _split(self, seconds: float, rng: random.Random) -> str:
        names = sorted(self.world.processes)
        rng.shuffle(names)
        cut = rng.randint(1, max(1, len(names) - 1))
        here, there = sorted(names[:cut]), sorted(names[cut:])
        ways = [way for one in here for other in there for way in ((one, other), (other, one))]
        await self._apart(ways, ways, seconds)
        return f"{'+'.join(here)} | {'+'.join(there)} for {seconds} s"

    async def _apart(self, ways: list[tuple[str, str]], gossip: list[tuple[str, str]], seconds: float) -> None:
        world = self.world
        self._log("cut", ways, "with gossip" if gossip else "")
        for way in ways:
            world.network.weather.cut(*way)
        for way in gossip:
            world.gossip.cut(*way)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._log("mend", ways)
            for way in ways:
                world.network.weather.mend(*way)
            for way in gossip:
                world.gossip.mend(*way)
            for one, other in ways:  # a stream that was cut is broken
                if one in world.nodes and other in world.nodes:
                    world.network.reset(world.nodes[one].address, world.nodes[other].address)

    async def _slow(self, seconds: float, rng: random.Random) -> str:
        one, other = self._two(rng)
        more_s = rng.uniform(0.05, 1.0)
        self.world.network.weather.slow_down(one, other, more_s)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.world.network.weather.slow_down(one, other, 0.0)
        return f"{one} -> {other} by {more_s:.2f} s for {seconds} s"

    async def _drop(self, seconds: float, rng: random.Random) -> str:
        links = [client.link for client in self.world.clients.values() if client.link is not None]
        if links:
            rng.choice(links).abort()
        return "a client's link"

    async def _half_open(self, seconds: float, rng: random.Random) -> str:
        links = [client.link for client in self.world.clients.values() if client.link is not None]
        if links:
            getattr(rng.choice(links), "half_open")()  # noqa: B009 - only the simulated link has it
        return "a client's link"

    async def _silence(self, seconds: float, rng: random.Random) -> str:
        one, other = self._two(rng)
        self._log("silence", one, other)
        self.world.gossip.silence(NodeId(one), NodeId(other))
        try:
            await asyncio.sleep(seconds)
        finally:
            self.world.gossip.speak(NodeId(one), NodeId(other))
        return f"{one} takes {other} for dead for {seconds} s"

    async def _lie(self, seconds: float, rng: random.Random) -> str:
        one, other = self._two(rng)
        self._log("lie", one, other)
        self.world.gossip.lie(NodeId(one), NodeId(other), None)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.world.gossip.lie_no_more(NodeId(one))
        return f"{one} does not see {other} for {seconds} s"

    # ---- store, journal, clocks ----

    async def _outage(self, seconds: float, rng: random.Random) -> str:
        store = self.world.store
        names = sorted(self.world.processes) if rng.random() < 0.5 else [self._node(rng)]
        self._log("outage", *names)
        for name in names:
            store.down_for[name] = store.down_for.get(name, 0) + 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._log("outage over", *names)
            for name in names:
                store.down_for[name] -= 1
                if not store.down_for[name]:
                    del store.down_for[name]
        return f"{'+'.join(names)} for {seconds} s"

    async def _statements(self, seconds: float, rng: random.Random, statement: str, way: Fault) -> str:
        statements = frozenset({statement}) if statement else rng.choice((LEASE, ROWS, frozenset[str]()))
        node = self._node(rng) if rng.random() < 0.4 else None
        chance = rng.choice((0.1, 0.3, 0.8))
        await self._trouble(chance, statements, node, (way,) if way is not None else LOST, seconds)
        return f"{chance} of {sorted(statements) or 'all'} of {node or 'all'} for {seconds} s"

    async def _locks(self, seconds: float, rng: random.Random) -> str:
        await self._trouble(0.3, ROWS, None, ("lock",), seconds)
        return f"for {seconds} s"

    async def _trouble(
        self, chance: float, statements: frozenset[str], node: str | None, ways: tuple[Fault, ...], seconds: float
    ) -> None:
        number = self.store.begin(chance, statements, node, ways)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.store.end(number)

    async def _journal(self, seconds: float, rng: random.Random) -> str:
        journals, name = self.world.journals, NodeId(self._node(rng))
        if journals is None or journals.kind != "redis":
            return "no distant journal"
        self._log("journal outage", name)
        journals.outage(name)
        try:
            await asyncio.sleep(min(seconds, 3.0))
        finally:
            journals.outage(name, away=False)
        return f"{name} for {min(seconds, 3.0)} s"

    async def _wall(self, seconds: float, rng: random.Random) -> str:
        process = self._victim(rng)
        if process is None:
            return "nobody"
        by_ms = rng.choice((-5_000, -300, 300, 5_000))
        process.clock.step_wall(by_ms)
        return f"{process.name} by {by_ms} ms"


async def quietly(work: Awaitable[None]) -> None:
    try:
        await work
    except GarrisonError:
        return
