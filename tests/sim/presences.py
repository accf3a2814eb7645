"""`presences(seed) -> violations`: players come, go, change how they look and move, and every node watches some of
them, while nodes crash, stop, join, are cut off, and fall silent in gossip alone, so that views go A, B, A.

At any time each entry of each node shows what was true a moment ago, or "unknown": somebody who is shown online as
nobody has looked for longer than the promise, or offline while somebody was there all that time, is a violation. When
all is whole again, but for a node that may have died for good at the very end, every entry is known soon, and is the
truth: what the newest living activation shows.
"""

import asyncio
from collections.abc import Iterable
from typing import ClassVar, Final

import msgspec

from server.actors.actor import Actor, Caller, remote
from server.actors.app import App
from server.actors.devices import Login
from server.actors.pictures import Look, Pictures
from server.actors.presence import PresenceKind
from server.ids import actor_id, key_of
from server.presence.engine import PresenceEngine
from server.presence.outgoing import LIMITS
from server.presence.ports import WatchedPlayer
from tests.sim.client import until as wait_until
from tests.sim.directed import ask_any, heal, play
from tests.sim.not_known import NotKnown
from tests.sim.world import SimNode, World

LENGTH_S: Final = 14.0
PROMISE_S: Final = 4.5
"""Longest time for which a watcher's picture is neither right nor unknown: gossip's detection or silence, and the time
for which a node holds on to what it knows. It begins anew where a player has moved to a node that died at once: as long
as the node before shows it still, `LINGER_S` at most, nobody knows better, and what happens then is another fault."""
LINGER_S: Final = LIMITS.linger_s
CALM_S: Final = 6.0
"""Time from the end of all faults until every entry is right."""
KNOWN_S: Final = 3.5
"""Time from the end of all faults until every entry is known: failover time and a tick."""
LOOK_S: Final = 0.05
PLAYERS: Final = 14
OFFLINE: Final = Pictures(b"off", b"off", b"off")
EXPECTED: Final = ("not everything could be stored", "lease refused", "activation fenced off")


class BeingState(msgspec.Struct, frozen=True):
    changes: int = 0


class Being(Actor[BeingState]):
    """A player who looks as it is told. Durable, so that each activation has an epoch of its own."""

    kind = "being"
    durability = "write_behind"
    State = BeingState
    number: ClassVar[int] = 0
    said: ClassVar[list[tuple[str, Pictures]]] = []
    """Looks of players that are not noted by the checker yet: they may be over soon."""
    __slots__ = ("seen",)

    seen: Look | None
    """How it looks; None: nobody is here."""

    def activated(self) -> None:
        self.seen = None

    def carry(self) -> Look | None:
        return self.seen

    def arrived(self, carried: Look | None) -> None:
        self.seen = carried

    @remote
    def connected(self, caller: Caller, login: Login) -> None: ...

    @remote
    def disconnected(self, caller: Caller, reason: str) -> None: ...

    @remote
    def beat(self, caller: Caller, state: str | None) -> None: ...

    @remote
    def change(self, online: bool) -> None:
        """Look like nobody has looked before, or like nobody."""
        Being.number += 1
        word = f"{Being.number}".encode()
        pictures = Pictures(word, word, word + b"!") if online else None
        Being.said.append((self.key, pictures or OFFLINE))
        self.seen = Look(pictures, Being.number) if pictures is not None else None
        if self.seen is None:
            self.withdraw()
        else:
            self.show()

    def look(self) -> Look:
        assert self.seen is not None
        return self.seen


BEINGS: Final = App(
    name="beings",
    actors=(Being,),
    session_actor=Being,
    presence=PresenceKind(lambda _row: OFFLINE, b"unknown", b"off"),
)


def presences(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), journal="none" if seed % 2 else "local", app=BEINGS)


def engine_of(node: SimNode) -> PresenceEngine:
    assert node.node.presence is not None
    return node.node.presence


def truths(world: World, players: Iterable[str]) -> dict[str, tuple[set[Pictures], Pictures]]:
    """For each player all pictures that living activations show, nothing but `OFFLINE` where there are none, and those
    of the newest of them."""
    shown: dict[str, list[tuple[int, Pictures]]] = {player: [] for player in players}
    for node in world.nodes.values():
        run = world.database.nodes.get(node.address)
        if run is None or run.state in ("dead", "left"):
            continue
        for activation in node.node.system.catalog.live.values():
            actor = activation.actor
            assert isinstance(actor, Being)
            if actor.seen is not None:
                shown[key_of(activation.id)].append((activation.epoch, actor.seen.pictures))
    return {
        player: ({pictures for _, pictures in some} or {OFFLINE}, max(some)[1] if some else OFFLINE)
        for player, some in shown.items()
    }


class Checker:
    """Compares what nodes show with what was true lately."""

    def __init__(self, world: World, players: list[str], promise_s: float = PROMISE_S) -> None:
        self.world, self.players, self.promise_s = world, players, promise_s
        self.true_at: dict[tuple[str, Pictures], float] = {}
        self.lingered: dict[str, float] = {}
        """When players were seen last who have moved, and are shown at the node before."""
        self.wrong: dict[str, None] = {}
        self.worst_s = 0.0
        self.not_known = NotKnown(KNOWN_S)

    def note(self) -> None:
        now = self.world.loop.time()
        self.true_at.update(dict.fromkeys(Being.said, now))
        Being.said.clear()
        for player, (some, _) in truths(self.world, self.players).items():
            for pictures in some:
                self.true_at[player, pictures] = now
        for node in self.world.nodes.values():
            self.lingered.update(dict.fromkeys(engine_of(node).core.home.lingering, now))

    def look(self) -> None:
        """Note what is true, and compare every entry of every running node with it."""
        self.note()
        now = self.world.loop.time()
        unknown = []
        for name, node in self.world.nodes.items():
            watching = engine_of(node).core.watching
            for entry in watching.entries.values():
                if entry.pictures is None:
                    unknown.append(f"{entry.player} at {node.address}")
                if entry.pictures is None or node.node.lease_lost:
                    continue
                if entry.source is not None and not entry.source.trusted and not watching.holds(entry):
                    self.wrong[f"{name} knows {entry.player}, and others of the same owner are unknown"] = None
                age_s = now - self._true_until(entry.player, entry.pictures)
                self.worst_s = max(self.worst_s, min(age_s, 99.0))
                if age_s > self.promise_s:
                    looks = "offline" if entry.pictures == OFFLINE else entry.pictures.everybody.decode()
                    self.wrong[f"{name} shows {entry.player} as {looks}, which is not true since {age_s:.1f} s"] = None
        self.wrong.update(dict.fromkeys(self.not_known.look(unknown, now)))

    def _true_until(self, player: str, pictures: Pictures) -> float:
        """When these pictures were true, or nobody could know better."""
        true_at = self.true_at.get((player, pictures), -1e9)
        return true_at + max(0.0, min(self.lingered.get(player, -1e9) - true_at, LINGER_S))

    def different(self) -> list[str]:
        """The entries that are not known, or not as the newest activation looks."""
        truth = truths(self.world, self.players)
        return [
            f"{name} shows {entry.player} as {entry.state} {entry.pictures}, not {truth[entry.player][1]}"
            for name, node in self.world.nodes.items()
            for entry in engine_of(node).core.watching.entries.values()
            if entry.pictures != truth[entry.player][1]
        ]


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        Being.number = 0
        Being.said.clear()
        self.world, self.rng = world, world.rng("presences")
        self.weather = world.network.weather
        number = self.rng.randrange(10_000)  # other slots in each run
        self.players = [f"p{number}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[:PLAYERS]]
        self.until = world.loop.time() + LENGTH_S
        self.checker = Checker(world, self.players)

    async def run(self) -> list[str]:
        world = self.world
        tasks = [world.loop.create_task(work) for work in (self._look(), *(self._watch(n) for n in ("n1", "n2", "n3")))]
        async with asyncio.TaskGroup() as group:
            for player in self.players:
                group.create_task(self._live(player))
            group.create_task(self._move())
            group.create_task(self._trouble())
        heal(world)
        for task in tasks[1:]:
            task.cancel()
        dead = self._die_for_good()
        try:
            await wait_until(lambda: len(world.nodes) == 3 - dead, 15.0, "the start")
            self.checker.not_known.calm(world.loop.time())
            await world.started(3 - dead, 15.0)
            await wait_until(lambda: not self.checker.different(), CALM_S, "all watchers see the truth", 0.1)
            await asyncio.sleep(1.0)
        except AssertionError as error:
            self.checker.wrong[str(error)] = None
        different = self.checker.different()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for node in world.nodes.values():
            if engine_of(node).core.missing or not engine_of(node).core.sure:
                different.append(f"{node.name} is not sure, and waits for {list(engine_of(node).core.missing)}")
        return [
            *self.checker.wrong,
            *different,
            *(line for line in world.faults if not any(words in line for words in EXPECTED)),
        ]

    def _die_for_good(self) -> int:
        """Let a node die that never comes back, with all players who are there, in some runs. Returns their number."""
        if self.rng.random() < 0.5 or len(self.world.nodes) < 3:
            return 0
        self.world.crash_process(self.rng.choice(sorted(self.world.nodes)))
        return 1

    async def _look(self) -> None:
        while True:
            self.checker.look()
            await asyncio.sleep(LOOK_S)

    async def _live(self, player: str) -> None:
        identity, rng = actor_id("being", player), self.rng
        while self.world.loop.time() < self.until:
            await ask_any(self.world, rng, identity, "change", rng.random() < 0.7)
            await asyncio.sleep(rng.choice((0.0, 0.1, 0.4, 2.0, 5.0)))

    async def _watch(self, name: str) -> None:
        """Watch some players at a node, again in each of its runs, now others."""
        rng = self.rng
        entries: dict[str, WatchedPlayer] = {}
        run: SimNode | None = None
        while True:
            node = self.world.nodes.get(name)
            if node is not None and node.node.serves.is_set():
                if node is not run:
                    run, entries = node, {}
                engine = engine_of(node)
                for player in rng.sample(self.players, 3):
                    if player in entries and rng.random() < 0.4:
                        node.domain.run(engine.release, entries.pop(player))
                    elif player not in entries:
                        [entries[player]] = node.domain.run(engine.watch, [player])
            await asyncio.sleep(rng.uniform(0.05, 0.8))

    async def _move(self) -> None:
        """Players migrate to nodes that are not their slots' owners, too."""
        rng, world = self.rng, self.world
        while world.loop.time() < self.until:
            await asyncio.sleep(rng.uniform(0.05, 0.4))
            if len(world.nodes) < 2:
                continue
            source, target = (world.nodes[name] for name in rng.sample(sorted(world.nodes), 2))
            live = [it for it in source.node.system.catalog.live.values() if not it.paused]
            if live and target.node.serves.is_set():
                some = rng.sample(live, min(len(live), 2))
                source.domain.run(world.loop.create_task, source.node.system.migrator.move(some, target.address))

    async def _trouble(self) -> None:
        rng, world = self.rng, self.world
        while world.loop.time() < self.until:
            await asyncio.sleep(rng.uniform(0.2, 2.0))
            names = sorted(world.processes)
            if len(names) < 2:
                continue
            source, target = rng.sample(names, 2)
            what = rng.choice(("slow", "cut", "cut", "stop", "crash", "crash", "forget", "apart"))
            if what == "slow":
                self.weather.slow_down(source, target, rng.uniform(0.3, 1.5))
                await asyncio.sleep(rng.uniform(0.3, 2.0))
                self.weather.slow_down(source, target, 0)
            elif what == "cut":
                self.weather.cut(source, target)
                await asyncio.sleep(rng.choice((0.2, 1.0, 4.0)))
                self.weather.mend(source, target)
            elif what == "forget":  # one of them loses the other from its view for a moment: A, B, A
                world.gossip.cut(source, target)
                await asyncio.sleep(rng.uniform(0.1, 2.5))
                world.gossip.mend(source, target)
            elif what == "apart":
                for way in ((source, target), (target, source)):
                    world.gossip.cut(*way)
                    self.weather.cut(*way)
                await asyncio.sleep(rng.uniform(0.5, 3.0))
                for way in ((source, target), (target, source)):
                    world.gossip.mend(*way)
                    self.weather.mend(*way)
            elif len(world.nodes) == len(names):
                if what == "stop":
                    await world.stop_process(source)
                else:
                    world.crash_process(source)
                await asyncio.sleep(rng.uniform(0.0, 2.5))
                world.launch(source)
