"""Short scenarios that aim at one condition each, where a storm would meet it too rarely: they ask the
actors of a small application of their own, and look at what came of it.

    isolated   a node that neither the store nor gossip reaches goes on hearing its clients, with a
               clock as slow as the lease's margin allows; another takes over as early as it can
    stopped    a node stops between the grant of a renewal and its answer, with changes on their way
               to a distant journal, and goes on when another has taken over
    halves     four nodes, two on each side of a split: one side only may evict the other
    turns      turns that wait half-way, or fail half-way, while states are flushed
    bells      reminders whose nodes crash at any moment: rung at least once, counted once
    rewound    reminders that are moved and taken back, by the same owner and by the next, before what
               was said about them earlier reaches the store
    orphans    something that lives on by itself, and that nobody calls, when its node is gone
    rooms      volatile actors on both sides of a split
    evicted    a node that only gossip has lost is asked for more and more actors
    stale      statements of a dead node that reach the store after its successors' claims
    inherited  a journal whose node dies in the middle of flushes that go slowly or not at all
    given      the target of a migration dies while the store decides on it
    forgetful  a store that does the appends of a log and says nothing
    vaults     written-through actors whose nodes crash and whose store is slow, silent or away: whoever
               is told of a change finds it in the store

Each is `play(seed) -> violations`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from server.actors.actor import Actor, LoggedActor, Record, read_only, reminder, remote
from server.actors.app import App
from server.errors import GarrisonError
from server.ids import ActorId, NodeId, actor_id
from server.storage.memory import MemoryDatabase
from server.storage.queries import NoStoreQueries, StoreQueries
from tests.sim import ownership
from tests.sim.faults import StoreTroubles
from tests.sim.history import Wrote
from tests.sim.loop import SimLoop, simulate
from tests.sim.store import Fault
from tests.sim.world import JournalMode, SimNode, World, silent
from tests.support.phases import refused_transitions

LIMIT_S: Final = 200.0
ANSWER_S: Final = 8.0
"""Time after which nothing is expected of a question to a node that may be dead."""
SETTINGS: Final = {"actors": {"orphan_poll_s": 1.0}}


class PairState(msgspec.Struct, frozen=True):
    """Both are the same at each turn's end."""

    one: int = 0
    other: int = 0


class Pair(Actor[PairState]):
    """Its turns change one half, wait, and change the other."""

    kind = "pair"
    durability = "write_behind"
    State = PairState
    __slots__ = ()

    @remote
    def both(self) -> int:
        """A turn that ends at once; returns its version."""
        self.state = PairState(self.state.one + 1, self.state.other + 1)
        return self.version + 1

    @remote
    async def slowly(self) -> int:
        self.state = PairState(self.state.one + 1, self.state.other)
        await asyncio.sleep(0.4)
        self.state = PairState(self.state.one, self.state.other + 1)
        return self.version + 1

    @read_only
    def look(self) -> int:
        return self.version

    @remote
    def half(self) -> int:
        self.state = PairState(self.state.one + 1, self.state.other)
        raise ValueError("half a turn")


class BellState(msgspec.Struct, frozen=True):
    """`due`: what was asked for last; `rung`: how often a bell rang."""

    due: int = 0
    rung: int = 0
    reminded: dict[str, int] = {}


class Bell(Actor[BellState]):
    kind = "bell"
    durability = "write_behind"
    State = BellState
    __slots__ = ()

    @remote
    async def wind(self, in_ms: int) -> int:
        await self.remind(self.ring, self.wall_ms() + in_ms)
        return 0

    @remote
    async def unwind(self) -> int:
        await self.unremind(self.ring)
        return 0

    @reminder
    def ring(self, due_ms: int) -> None:
        self.state = BellState(due_ms, self.state.rung + 1, self.state.reminded)


class Ticked(msgspec.Struct, frozen=True, array_like=True, tag="ticked"):
    time_ms: int


class TickState(msgspec.Struct, frozen=True):
    ticks: int = 0


class Ticker(LoggedActor[TickState]):
    """Goes on by itself, by a timer, and is never over."""

    kind = "ticker"
    State = TickState
    Event = Ticked
    lives_on = True
    __slots__ = ()

    @staticmethod
    def evolve(state: Any, record: Record) -> TickState:
        return TickState(state.ticks + 1)

    @staticmethod
    def finished(state: Any) -> bool:
        return False

    def activated(self) -> None:
        self.after(0.5, self.tick)

    def tick(self) -> None:
        self.emit(Ticked(0))
        self.after(0.5, self.tick)


class RoomState(msgspec.Struct, frozen=True):
    guests: int = 0


class Room(Actor[RoomState]):
    """In memory only."""

    kind = "room"
    durability = "volatile"
    State = RoomState
    __slots__ = ()

    @remote
    def enter(self) -> int:
        self.state = RoomState(self.state.guests + 1)
        return self.state.guests


class VaultState(msgspec.Struct, frozen=True):
    total: int = 0


class Vault(Actor[VaultState]):
    """Says nothing of a deposit before the store has it."""

    kind = "vault"
    durability = "written_through"
    State = VaultState
    __slots__ = ()

    @remote
    def deposit(self) -> list[int]:
        """The version with the deposit, and the total."""
        self.state = VaultState(self.state.total + 1)
        return [self.version + 1, self.state.total]

    @read_only
    def total(self) -> list[int]:
        """The version that this shows, and the total."""
        return [self.version, self.state.total]


TOYS: Final = App(
    name="toys",
    actors=(Pair, Bell, Ticker, Room, Vault),
    requests=(),
    answers=(),
    events=(),
    routes={},
)


def play(
    seed: int,
    run: Callable[[World], Awaitable[list[str]]],
    nodes: int = 3,
    journal: JournalMode = "none",
    app: App = TOYS,
    asks_store: bool = False,
    shared: bool = True,
    gateway: dict[str, Any] | None = None,
    careers: dict[str, Any] | None = None,
    retention: dict[str, Any] | None = None,
    strays: bool = False,
    queries: Callable[[MemoryDatabase], StoreQueries] = lambda _: NoStoreQueries(),
) -> list[str]:
    """Start `nodes`, do `run`, check what always holds, stop."""
    worlds: list[World] = []

    async def main(loop: SimLoop) -> list[str]:
        settings = {**SETTINGS, "gateway": gateway or {}, "careers": careers or {}, "retention": retention or {}}
        world = World(loop, seed, settings, journal, app, shared, asks_store=asks_store, strays=strays, queries=queries)
        worlds.append(world)
        world.store.timeout_s = 0.6
        with world.catching_logs():
            for number in range(1, nodes + 1):
                world.launch(f"n{number}")
            await world.started(nodes)
            wrong = await run(world)
            for name in list(world.processes):
                await world.stop_process(name)
            await asyncio.sleep(1)
        return wrong

    try:
        with silent():
            wrong = simulate(seed, main, LIMIT_S).result
    except Exception as error:
        wrong = [f"{type(error).__name__}: {error}"]
    audit = worlds[0].audit
    return [
        *wrong,
        *(f"illegal transition: {line}" for line in refused_transitions()),
        *ownership.one_writer(audit),
        *ownership.taken_from_the_dead_only(audit),
        *ownership.deleted_when_over(audit),
        *ownership.released_by_the_owner(audit),
        *ownership.judged_rightly(audit, ownership.LEASE_S),
        *ownership.recorded_once(audit, worlds[0].database.entities, worlds[0].recorded),
    ]


async def ask(node: SimNode, id: ActorId, method: str, *args: Any) -> Any:
    """An actor's answer, asked from `node`; the error where there is none."""
    try:
        return await node.domain.run(node.world.loop.create_task, node.node.system.ask(id, method, args))
    except GarrisonError as error:
        return error


async def insist(world: World, id: ActorId, method: str, *args: Any) -> Any:
    """Ask from any node until there is an answer. A node that dies meanwhile never answers."""
    while True:
        for node in list(world.nodes.values()):
            asked = world.loop.create_task(ask(node, id, method, *args))
            await asyncio.wait({asked}, timeout=ANSWER_S)
            if asked.done() and not isinstance(answer := asked.result(), GarrisonError):
                return answer
        await asyncio.sleep(0.1)


async def ask_any(world: World, rng: random.Random, id: ActorId, method: str, *args: Any) -> bool:
    """Ask from any node, once, for two seconds. True if it was answered."""
    nodes = list(world.nodes.values())
    if not nodes:
        return False
    node = rng.choice(nodes)
    asked = node.domain.run(world.loop.create_task, node.node.system.ask(id, method, args))
    asked.add_done_callback(lambda done: done.cancelled() or done.exception())
    done, _ = await asyncio.wait({asked}, timeout=2.0)
    return bool(done) and not asked.cancelled() and not isinstance(asked.exception(), GarrisonError)


def heal(world: World) -> None:
    """End every trouble of the network, and the store's outage."""
    world.store.down = False
    for source in sorted(world.processes):
        for target in sorted(world.processes):
            world.network.weather.slow_down(source, target, 0)
    world.network.weather.mend()


def of_node(node: SimNode, kind: str, count: int) -> list[ActorId]:
    """Ids of `kind` whose slots `node` owns."""
    ids = (actor_id(kind, f"{kind}{number}") for number in range(10_000))
    return [id for id in ids if node.node.system.owner(id) == node.address][:count]


# ---- isolated ----------------------------------------------------------------------------------


def isolated(seed: int, journal: JournalMode = "none") -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        node = world.nodes["n2"]
        pairs = of_node(node, "pair", 6)
        for id in pairs:
            await ask(node, id, "both")
        node.clock.drift(0.92)
        await asyncio.sleep(1.0)
        world.store.down_for["n2"] = 1
        if world.journals is not None and world.journals.kind == "redis":
            await asyncio.sleep(0)
        mute = world.gossip.mute("n2")
        until = world.loop.time() + 6.0

        async def hammer(id: ActorId, by: SimNode, every_s: float) -> None:
            while world.loop.time() < until and world.nodes.get(by.name) is by:
                await ask(by, id, "both")
                await asyncio.sleep(every_s)

        async with asyncio.TaskGroup() as group:
            for id in pairs:
                group.create_task(hammer(id, node, 0.01))
                group.create_task(hammer(id, world.nodes["n1"], 0.05))
        world.store.down_for.clear()
        world.gossip.unmute(mute)
        await asyncio.sleep(3)
        return []

    return play(seed, run, journal=journal)


# ---- stopped -----------------------------------------------------------------------------------


def stopped(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        node, process = world.nodes["n2"], world.processes["n2"]
        pairs = of_node(node, "pair", 6)
        for id in pairs:
            await ask(node, id, "both")
        await asyncio.sleep(1.0)
        granted = asyncio.Event()

        def tapped(name: str, statement: str) -> None:
            if (name, statement) == ("n2", "renew_lease"):
                world.store.tapped = None
                world.loop.pause(process.domain)
                granted.set()

        async def hammer(id: ActorId, by: SimNode, every_s: float) -> None:
            while world.loop.time() < until and world.nodes.get(by.name) is by:
                await ask(by, id, "both")
                await asyncio.sleep(every_s)

        until = world.loop.time() + 8.0
        async with asyncio.TaskGroup() as group:
            for id in pairs:
                group.create_task(hammer(id, node, 0.001))
                group.create_task(hammer(id, world.nodes["n1"], 0.05))
            world.store.tapped = tapped
            await granted.wait()
            mute = world.gossip.mute("n2")
            await asyncio.sleep(5.0)
            world.loop.resume(process.domain)
            world.gossip.unmute(mute)
        await asyncio.sleep(3)
        return []

    return play(seed, run, journal="redis")


# ---- halves ------------------------------------------------------------------------------------


def halves(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        await asyncio.sleep(3)
        world.gossip.split({NodeId("n1"), NodeId("n2")}, {NodeId("n3"), NodeId("n4")})
        await asyncio.sleep(6)
        world.gossip.heal()
        await asyncio.sleep(3)
        return []

    return play(seed, run, nodes=4)


# ---- turns -------------------------------------------------------------------------------------


def turns(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        rng, node = world.rng("turns"), world.nodes["n1"]
        for id in of_node(node, "pair", 4):
            for _ in range(8):
                await ask(node, id, rng.choice(("both", "slowly", "slowly", "half")))
                await asyncio.sleep(rng.uniform(0, 0.4))
        world.faults[:] = [line for line in world.faults if "half a turn" not in line]
        return _halves_stored(world)

    return play(seed, run, nodes=1)


def _halves_stored(world: World) -> list[str]:
    """States in the store that no turn ended with."""
    out = []
    for entry in world.audit:
        if isinstance(entry, Wrote) and entry.after.state is not None and entry.id.startswith("pair/"):
            state = msgspec.msgpack.decode(entry.after.state, type=PairState)
            if state.one != state.other:
                out.append(f"{entry.statement} of {entry.id} stored half a turn: {state}")
    return out


# ---- bells -------------------------------------------------------------------------------------


def bells(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        rng = world.rng("bells")
        ids = [actor_id("bell", f"b{number}") for number in range(12)]
        for id in ids:
            await insist(world, id, "wind", rng.randint(500, 4000))
        for _ in range(2):
            await asyncio.sleep(rng.uniform(0.5, 2.0))
            name = rng.choice(sorted(world.processes))
            world.crash_process(name)
            await asyncio.sleep(rng.uniform(0.2, 1.5))
            world.launch(name)
        # Two nodes may own a slot for a while, and ring both.
        world.gossip.lie(NodeId("n1"), NodeId("n2"), None)
        await asyncio.sleep(3)
        world.gossip.lie_no_more(NodeId("n1"))
        await asyncio.sleep(14)
        return _bells_rung(world, dict.fromkeys(ids, 1))

    return play(seed, run)


def rewound(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        rng, statements = world.rng("rewound"), frozenset({"set_reminder", "unset_reminder"})
        ids = [actor_id("bell", f"b{number}") for number in range(24)]
        for id in ids:
            await insist(world, id, "wind", 40_000)
        world.store.late_s, world.store.faults = (5.0,), (troubles := StoreTroubles(rng))
        number = troubles.begin(1.0, statements, None, ("late",))
        unwound = [id for id in ids if rng.getrandbits(1)]
        async with asyncio.TaskGroup() as group:
            for id in ids:
                late = ("unwind",) if id in unwound else ("wind", 30_000)
                group.create_task(ask(world.nodes["n1"], id, *late))
        troubles.end(number)
        ends = rng.choice(sorted(world.processes))
        passed_on = [id for id in ids if world.nodes[ends].node.system.find(id) is not None]
        if rng.getrandbits(1):
            world.crash_process(ends)
        else:
            await world.stop_process(ends)
        rings = {id: 0 if id in passed_on and id not in unwound and rng.getrandbits(1) else 1 for id in ids}
        async with asyncio.TaskGroup() as group:
            for id, times in rings.items():
                group.create_task(insist(world, id, *(("wind", 8_000) if times else ("unwind",))))
        await asyncio.sleep(14)
        return _bells_rung(world, rings)

    return play(seed, run)


def _bells_rung(world: World, rings: dict[ActorId, int]) -> list[str]:
    out = []
    for id, times in rings.items():
        entity = world.database.entities.get(id)
        state = msgspec.msgpack.decode((entity.state if entity else None) or b"\x80", type=BellState)
        if state.rung != times:
            out.append(f"{id} rang {state.rung} times, not {times}")
    out += [f"the reminder of {id} is still there" for id, _ in world.database.reminders]
    return out


# ---- orphans -----------------------------------------------------------------------------------


def orphans(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        rng = world.rng("orphans")
        ids = [actor_id("ticker", f"t{number}") for number in range(6)]
        for id in ids:
            await insist(world, id, "wake")
        await asyncio.sleep(3)
        name = rng.choice(sorted(world.processes))
        world.crash_process(name)
        await asyncio.sleep(rng.uniform(4, 6))
        before = {id: world.database.entities[id].next_seq for id in ids}
        await asyncio.sleep(2)
        after = {id: world.database.entities[id].next_seq for id in ids}
        return [f"{id} stands still" for id in ids if after[id] <= before[id]]

    return play(seed, run)


# ---- rooms -------------------------------------------------------------------------------------


def rooms(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        ids = [actor_id("room", f"r{number}") for number in range(12)]
        world.gossip.split({NodeId("n1")}, {NodeId("n2"), NodeId("n3")})
        for way in (("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")):
            world.network.weather.cut(*way)
        await asyncio.sleep(2.2)
        for id in ids:
            for name in ("n1", "n2"):
                if name in world.nodes:
                    await ask(world.nodes[name], id, "enter")
        world.network.weather.mend()
        world.gossip.heal()
        await world.converged(10)
        return []

    return play(seed, run)


# ---- evicted -----------------------------------------------------------------------------------


def evicted(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        node = world.nodes["n2"]
        ids = iter(of_node(node, "pair", 400))
        mute = world.gossip.mute("n2")
        until = world.loop.time() + 6.0
        while world.loop.time() < until and world.nodes.get("n2") is node:
            world.loop.create_task(ask(node, next(ids), "both"))
            await asyncio.sleep(0.03)
        world.gossip.unmute(mute)
        await asyncio.sleep(6)
        return []

    return play(seed, run)


# ---- stale -------------------------------------------------------------------------------------


def stale(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        node, rng = world.nodes["n2"], world.rng("stale")
        pairs, tickers = of_node(node, "pair", 6), of_node(node, "ticker", 12)
        for id in (*pairs, *tickers):
            await ask(node, id, "wake")
        await asyncio.sleep(2)
        troubles = StoreTroubles(rng)
        world.store.faults, world.store.slow_s = troubles, (2.9, 3.8)
        troubles.begin(1.0, frozenset({"write", "append"}), "n2", ("slow",))
        for id in pairs:
            for _ in range(9):
                await ask(node, id, "both")
        await asyncio.sleep(rng.uniform(0.6, 1.1))
        world.crash_process("n2")
        await asyncio.sleep(1.6)
        for _ in range(5):
            for id in (*pairs, *tickers):
                world.loop.create_task(ask(world.nodes["n1"], id, "wake"))
            await asyncio.sleep(1)
        return []

    return play(seed, run)


# ---- inherited ---------------------------------------------------------------------------------


def inherited(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        rng, acked = world.rng("inherited"), dict[ActorId, int]()
        troubles = StoreTroubles(rng)
        world.store.faults = troubles
        troubles.begin(1.0, frozenset({"write"}), "n2", (rng.choice(("slow", "refuse")),))
        troubles.begin(1.0, frozenset({"close_estate"}), None, ("refuse",))
        node = world.nodes["n2"]
        pairs = of_node(node, "pair", 6)
        until = world.loop.time() + rng.uniform(1.0, 4.0)
        while world.loop.time() < until:
            for id in pairs[: rng.randint(1, 6)]:
                acked[id] = await ask(node, id, "both")
            await asyncio.sleep(rng.uniform(0.0, 0.05))
        await asyncio.sleep(rng.choice((0.0, 1.5)))
        world.crash_process("n2")
        how = rng.choice(("look", "both"))
        for name in ("n1", "n3"):
            await asyncio.sleep(0.5)
            for id in acked:
                version = await insist(world, id, how)
                if version < acked[id]:
                    return [f"{id} had {acked[id]} acknowledged and has {version}"]
                acked[id] = version
            await asyncio.sleep(rng.uniform(1.0, 2.5))
            if name == "n1" and rng.getrandbits(1):
                world.crash_process(name)
            else:
                await world.stop_process(name)
        return versions_lost(world, acked)

    return play(seed, run, journal="local")


def versions_lost(world: World, acked: dict[ActorId, int]) -> list[str]:
    entities = world.database.entities
    return [
        f"{id} had {version} acknowledged, {entities[id].state_version} is stored"
        for id, version in acked.items()
        if entities[id].state_version < version
    ]


# ---- given -------------------------------------------------------------------------------------


def given(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        node, store, rng = world.nodes["n1"], world.store, world.rng("given")
        victim, left = rng.choice(("n2", "n3")), iter(range(rng.randint(0, 1)))
        for id in of_node(node, "pair", 20):
            await ask(node, id, "both")

        class Slowly:
            def decide(self, name: str, statement: str) -> Fault:
                if (name, statement) != ("n1", "migrate"):
                    return None
                if victim in world.processes and next(left, None) is None:
                    world.crash_process(victim)
                return "slow"

        store.slow_s, store.timeout_s, store.faults = (0.5, 0.6), 1.0, Slowly()
        await world.stop_process("n1")
        await asyncio.sleep(3)
        return []

    return play(seed, run, journal="local")


# ---- forgetful ---------------------------------------------------------------------------------


def forgetful(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        ids = [actor_id("ticker", f"t{number}") for number in range(6)]
        for id in ids:
            await insist(world, id, "wake")
        troubles = StoreTroubles(world.rng("forgetful"))
        world.store.faults = troubles
        number = troubles.begin(0.5, frozenset({"append"}), None, ("forget",))
        await asyncio.sleep(8)
        troubles.end(number)
        await asyncio.sleep(2)
        return list(world.faults)

    return play(seed, run)


# ---- vaults ------------------------------------------------------------------------------------


def vaults(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        rng, ids = world.rng("vaults"), [actor_id("vault", f"v{number}") for number in range(8)]
        world.store.slow_s, world.store.faults = (0.1, 0.8), (troubles := StoreTroubles(rng))
        troubles.begin(0.5, frozenset({"write"}), None, ("slow", "refuse", "forget"))
        told: dict[ActorId, int] = dict.fromkeys(ids, 0)
        wrong: list[str] = []

        async def ask(id: ActorId, method: str) -> None:
            node = rng.choice(list(world.nodes.values()))
            asked = node.domain.run(world.loop.create_task, node.node.system.ask(id, method, ()))
            await asyncio.wait([asked], timeout=ANSWER_S)
            if not asked.done() or asked.cancelled() or asked.exception() is not None:
                return  # a node that died never answers
            version, total = asked.result()
            stored = world.database.entities[id].state_version if version else 0
            if stored < version:
                wrong.append(f"{id}: version {version} was told of, and {stored} is stored")
            told[id] = max(told[id], total)

        crashes = [world.loop.time() + rng.uniform(1.0, 3.0), world.loop.time() + rng.uniform(4.0, 6.0)]
        until, asks = world.loop.time() + 8.0, list[asyncio.Task[None]]()
        while world.loop.time() < until:
            if world.nodes:
                asks.append(world.loop.create_task(ask(rng.choice(ids), rng.choice(("deposit", "deposit", "total")))))
            if crashes and world.loop.time() >= crashes[0]:
                del crashes[0]
                world.crash_process(rng.choice(sorted(world.processes)))
            await asyncio.sleep(rng.uniform(0.0, 0.02))
        await asyncio.gather(*asks)
        world.store.faults = StoreTroubles(rng)
        for id in ids:
            _, total = await insist(world, id, "total")
            if total < told[id]:
                wrong.append(f"{id}: {told[id]} was told of, and {total} is left")
        return wrong

    return play(seed, run)
