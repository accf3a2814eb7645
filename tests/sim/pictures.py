"""`pictures(seed) -> violations`: latest topics, watched from every node, while their actors' nodes stop and crash,
ways between nodes are slow, and clients' connections break.

Each key's values only rise, so that a client that sees one fall has been shown an older one after a newer; and at
the end every client has the picture that the actor has.
"""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import msgspec

from server.actors.actor import read_only, remote
from server.actors.app import App
from server.actors.latest import LatestActor
from server.errors import GarrisonError
from server.ids import ActorId, actor_id
from tests.sim.client import SimClient
from tests.sim.client import until as wait_until
from tests.sim.directed import play
from tests.sim.world import World

LENGTH_S: Final = 12.0
BOARDS: Final = 6
KEYS: Final = ("a", "b", "c")


class Lamps(msgspec.Struct, frozen=True):
    lit: dict[str, int] = {}


class LampBoard(LatestActor[Lamps]):
    """Lamps by name. Values rise with the moment at which they are set, whoever sets them. Durable, so that no crash
    takes a value back that was shown, and no two owners show theirs."""

    kind = "lamps"
    durability = "write_behind"
    State = Lamps
    moments: ClassVar[Iterator[int]] = itertools.count(1)
    __slots__ = ()

    def latest(self) -> dict[str, int]:
        return self.state.lit

    @remote
    def switch(self, lamp: str, on: bool) -> None:
        """Give a lamp a new value, or take it away."""
        lit = dict(self.state.lit)
        lit.pop(lamp, None)
        if on:
            lit[lamp] = next(self.moments)
        self.state = Lamps(lit)
        self.publish_latest(lamp, lit.get(lamp))

    @read_only
    def show(self) -> dict[str, int]:
        return self.state.lit


LAMPS: Final = App(name="lamps", actors=(LampBoard,))


class Watcher:
    """A client that watches every board, and what it was shown that is wrong."""

    def __init__(self, world: World, name: str, boards: list[ActorId], wrong: list[str], *, text: bool) -> None:
        self.boards, self.wrong = boards, wrong
        self.highest: dict[tuple[str, str], int] = {}
        self.session = ""
        self.client: SimClient = world.client(name, "service", text=text)
        self.client.saw_picture = self.saw

    def saw(self, topic: str, cursor: str) -> None:
        picture = cursor.rpartition(":")[0]
        for key, value in self.client.pictures[topic].items():
            before = self.highest.get((picture, key), 0)
            if value < before:
                self.wrong.append(f"{self.client.name} saw {topic} {key} of {picture} fall from {before} to {value}")
            self.highest[picture, key] = max(before, value)

    async def watch(self, board: ActorId) -> None:
        await self.client.watch_latest(board)

    async def keep_watching(self) -> None:
        """Watch all boards in each new session."""
        while True:
            await self.client.online()
            if self.client.session != self.session:
                session = self.client.session
                for board in self.boards:
                    await self.watch(board)
                if session == self.client.session:
                    self.session = session
            await asyncio.sleep(0.05)


def pictures(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: Play(world).run(), journal="local", app=LAMPS)


class Play:
    """One run of the scenario, whose clients are of class `watcher`."""

    watcher: ClassVar[type[Watcher]] = Watcher

    def __init__(self, world: World) -> None:
        LampBoard.moments = itertools.count(1)
        self.world, self.rng = world, world.rng("pictures")
        self.weather = world.network.weather
        self.wrong: list[str] = []
        self.boards = [actor_id(LampBoard.kind, f"b{number}") for number in range(BOARDS)]
        self.watchers = [
            self.watcher(world, f"w{number}", self.boards, self.wrong, text=number == 0) for number in range(4)
        ]
        self.until = world.loop.time() + LENGTH_S

    async def run(self) -> list[str]:
        keepers = [asyncio.get_running_loop().create_task(watcher.keep_watching()) for watcher in self.watchers]
        async with asyncio.TaskGroup() as group:
            for board in self.boards:
                group.create_task(self._switch(board))
            group.create_task(self._trouble())
        try:
            await self.world.started(3, 15.0)
            await self._last_changes()
            await self._alike()
        except AssertionError as error:
            self.wrong.append(str(error))
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        gave_up = [
            f"{watcher.client.name} gave up: {watcher.client.finished}"
            for watcher in self.watchers
            if watcher.client.finished
        ]
        await self.world.stop_clients()
        return [*self.wrong, *gave_up, *self.world.faults]

    async def _alike(self) -> None:
        await alike(self.world, self.watchers, self.boards)

    async def _switch(self, board: ActorId) -> None:
        while self.world.loop.time() < self.until:
            await insist(self.world, board, "switch", self.rng.choice(KEYS), self.rng.random() < 0.9)
            await asyncio.sleep(self.rng.uniform(0.01, 0.2))

    async def _trouble(self) -> None:
        rng, world = self.rng, self.world
        while world.loop.time() < self.until - 3:
            await asyncio.sleep(rng.uniform(0.2, 1.2))
            what = rng.choice(("slow", "cut", "cut", "stop", "stop", "crash", "break"))
            names = sorted(world.processes)
            source, target = rng.sample(names, 2)
            if what == "slow":
                self.weather.slow_down(source, target, rng.uniform(0.3, 1.5))
            elif what == "cut":
                self.weather.cut(source, target)
                await asyncio.sleep(rng.uniform(0.1, 0.5))
                self.weather.mend(source, target)
            elif what == "break":
                self._break(rng.choice(self.watchers))
            elif len(world.nodes) == len(names):
                await (self._stop(source, target) if what == "stop" else self._crash(source))
        for source in sorted(world.processes):
            for target in sorted(world.processes):
                self.weather.slow_down(source, target, 0)

    async def _stop(self, name: str, other: str) -> None:
        """Stop a node whose last differences reach one of the others later than its successors' word."""
        self.weather.slow_down(name, other, self.rng.uniform(0.5, 1.5))
        await asyncio.sleep(self.rng.uniform(0.1, 0.6))
        await self.world.stop_process(name)
        self.weather.slow_down(name, other, 0)
        self.world.launch(name)

    async def _crash(self, name: str) -> None:
        self.world.crash_process(name)
        self.world.launch(name)

    def _break(self, watcher: Watcher) -> None:
        if watcher.client.link is not None:
            watcher.client.link.abort()

    async def _last_changes(self) -> None:
        """Change each board once more, some changes unseen by a node, others by clients that are away."""
        names = sorted(self.world.nodes)
        ways = [self.rng.sample(names, 2) for _ in range(2)]
        for source, target in ways:
            self.weather.cut(source, target)
        for watcher in self.watchers:
            if self.rng.random() < 0.5:
                self._break(watcher)
        for board in self.boards:
            await insist(self.world, board, "switch", self.rng.choice(KEYS), True)
        for source, target in ways:
            self.weather.mend(source, target)
        for board in self.boards[::2]:
            await insist(self.world, board, "switch", self.rng.choice(KEYS), True)


async def insist(world: World, board: ActorId, method: str, *args: Any) -> Any:
    """Ask from any node until there is an answer; a node that dies meanwhile gives none."""
    while True:
        for node in list(world.nodes.values()):
            asked = node.domain.run(world.loop.create_task, node.node.system.ask(board, method, args))
            done, _ = await asyncio.wait({asked}, timeout=6.0)
            if done and not asked.cancelled() and not isinstance(asked.exception(), GarrisonError):
                return asked.result()
        await asyncio.sleep(0.1)


async def alike(world: World, watchers: list[Watcher], boards: list[ActorId]) -> None:
    """Wait until every client has what the actors have. Raises `AssertionError` with what differs."""
    truth: dict[str, Any] = {}
    different: list[str] = []

    def alike() -> bool:
        different[:] = [
            f"{watcher.client.name} has {board} {watcher.client.pictures.get(board)}, not {truth[board]}"
            for watcher in watchers
            for board in boards
            if watcher.client.pictures.get(board) != truth[board]
        ]
        return not different

    for board in boards:
        truth[board] = await insist(world, board, "show")
    try:
        await wait_until(alike, 12.0, "equal pictures", 0.1)
    except AssertionError as error:
        raise AssertionError("; ".join([str(error), *different])) from None
