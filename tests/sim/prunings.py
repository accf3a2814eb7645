"""`prunings(seed) -> violations`: the careers of `careers.py`, and retention takes what is over, oldest first, while
nodes die and the store is slow, late and forgetful. Each node sweeps for itself, and a command does at the same time.
Somebody reads old matches, which wakes them, operators pin some and think better of it, and names are used again as
soon as the match of that name is gone. Matches are imported that count, and that nobody has until they are told.

What must be true is what is true there, of all matches that there ever were: each result is counted once, those of a
new match under an old name too. No row goes that somebody owns, or of which somebody is to be told; no epoch comes
again (`ownership.py`), and at the end all that is over and not pinned has gone.
"""

import asyncio
import contextlib
from typing import Any, Final

from game.app import App
from game.imports.encode import whole_log
from game.match.state import MatchState
from game.messages import Created, Ended, Joined, Kill, MatchGet, MatchOptions, Started
from server import states
from server.actors.actor import Caller
from server.errors import GarrisonError
from server.eventlog import pruning
from server.eventlog.retention import RetentionLimits
from server.ids import ActorId, actor_id
from server.storage.memory import EntityRow, MemoryDatabase
from tests.sim.careers import AGREED_S, MATCHES, SEASONS, CareerPlay, queries
from tests.sim.directed import play
from tests.sim.store import NodeStore
from tests.sim.world import EPOCH_MS, World

RETENTION: Final = {"max_bytes": 1, "interval_s": 3.0}
EVERYTHING: Final = RetentionLimits(max_bytes=1)
"""By size: clocks of nodes are hours off, and so is when a match ended."""
READER: Final = Caller("service", "reader", "s")


def prunings(seed: int) -> list[str]:
    """See the module's head."""
    return play(
        seed,
        lambda world: _Prunings(world).run(),
        journal="none" if seed % 3 else "local",
        app=App,
        careers={"seasons": [f"{name}={begin}" for begin, name in SEASONS]},
        retention=RETENTION,
        queries=prepared,
    )


def prepared(database: MemoryDatabase) -> Any:
    """The queries of `careers.py`, over a database that knows which matches are over."""
    database.over["match"] = lambda state: int(states.decoder(MatchState)(state).ended_wall_ms)
    return queries(database)


class _Entities(dict[ActorId, EntityRow]):
    """Rows of entities, and a word about each match whose row is deleted."""

    def __init__(self, rows: dict[ActorId, EntityRow], deleted: Any) -> None:
        super().__init__(rows)
        self._deleted = deleted

    def __delitem__(self, id: ActorId) -> None:
        self._deleted(id, self[id])
        super().__delitem__(id)


class _Prunings(CareerPlay):
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        super().__init__(world, 1, MATCHES)
        self.command = NodeStore(world.store, "command")
        self.deletions = self.played = 0

    async def run(self) -> list[str]:
        world = self.world
        world.database.entities = _Entities(world.database.entities, self._deleted)
        others = [world.loop.create_task(work()) for work in (self._sweep, self._read_some, self._pin)]
        try:
            wrong = await super().run()
        finally:
            for other in others:
                other.cancel()
        return wrong or await self._all_gone()

    async def _all_gone(self) -> list[str]:
        """Unpin everything: the command takes all that there is."""
        entities = self.world.database.entities
        for id in [id for id in entities if id.startswith("match/")]:
            await self.command.pin_log("match", id, False)
        until_s = self.world.loop.time() + AGREED_S
        while left := [id for id in entities if id.startswith("match/")]:
            if self.world.loop.time() > until_s:
                return [f"{id} is never deleted" for id in left]
            await self._prune()
            await asyncio.sleep(0.5)
        return [] if self.deletions > len(self.players) // 2 else [f"only {self.deletions} matches were deleted"]

    def _deleted(self, id: ActorId, entity: EntityRow) -> None:
        self.deletions += 1
        self._keep(id, entity)

    async def _retention(self, match: ActorId) -> None:
        """Wait until the match of that name is gone."""
        self.fatal = None
        database = self.world.database
        for _ in range(300):
            if match not in database.entities:
                return
            await self._tries(match, False)
            await self._prune()
            await asyncio.sleep(0.2)
        raise AssertionError(f"{match} is never deleted")

    async def _tries(self, match: ActorId, pinned: bool) -> None:
        """Pin a match, if the store answers."""
        with contextlib.suppress(GarrisonError):
            await self.command.pin_log("match", match, pinned)

    async def _prune(self) -> None:
        """Delete all that may be, as far as the store answers."""
        try:
            bound = await pruning.find_bound(self.command, "match", EVERYTHING)
            async for batch in pruning.due(self.command, "match", bound):
                if self.played < MATCHES and self.rng.random() < 0.3:
                    self._read(self.rng.choice(batch).id)
                await asyncio.sleep(self.rng.uniform(0.0, 0.3))
                await pruning.delete(self.command, "match", batch)
        except GarrisonError:
            return

    async def _sweep(self) -> None:
        """The command, now and then: with the nodes' own sweeps there are up to four at a time."""
        while True:
            await asyncio.sleep(self.rng.uniform(0.5, 3.0))
            await self._prune()

    async def _read_some(self) -> None:
        """Read matches that may be gone: a read wakes one that is not."""
        while self.played < MATCHES:
            await asyncio.sleep(self.rng.uniform(0.5, 3.0))
            if names := [id for id in self.world.database.entities if id.startswith("match/")]:
                self._read(self.rng.choice(names))

    def _read(self, match: ActorId) -> None:
        if nodes := list(self.world.nodes.values()):
            node = self.rng.choice(nodes)
            message = MatchGet(1, match.partition("/")[2])
            asked = node.node.system.ask(match, "get", (READER, message))
            read = node.domain.run(self.world.loop.create_task, asked)
            read.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _match(self, name: str, number: int) -> None:
        await super()._match(name, number)
        await self._import(number)
        self.played += 1

    async def _import(self, number: int) -> None:
        """Insert a match that counts: its results are open, and nobody has it."""
        match, players = actor_id("match", f"i{number}"), self.rng.sample(self.players, 2)
        options = MatchOptions(mode="recorded", score_limit=0, time_limit_ms=0, countdown_ms=0, counts=True)
        began_ms = EPOCH_MS + number
        kills = [Kill(time_ms, *players) for time_ms in range(10, 10 + self.rng.randint(1, 5))]
        joins = [Joined(0, player, None) for player in players]
        created = Created(0, "import", options, began_ms, 1)
        ended = Ended(100, "host_ended", players[0], began_ms + 100, rated=True)
        self.ending[match] = self.world.loop.time()
        log = whole_log([created, *joins, Started(0, began_ms), *kills, ended])
        while True:
            with contextlib.suppress(GarrisonError):
                await self.command.insert_log("match", match, log)
                return
            await asyncio.sleep(0.1)

    async def _pin(self) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.2, 1.0))
            match = actor_id("match", f"m{self.rng.randrange(4)}")
            await self._tries(match, self.rng.random() < 0.5)
