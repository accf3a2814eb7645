"""`report`: an event of a match of 50,000 players, beside one of a match of eight: CPU us an event.

A host reports 256 events at a time to a live match over SQLite. Counted is the CPU time of this process with the
database's threads: the turn, the commit of the log, the rows of players that have changed, and segments.
"""

import random
import time
from typing import Final

from server.actors.actor import Caller
from server.catalog.system import ActorSystem
from server.ids import ActorId
from server.lab.bench import databases
from server.lab.bench.harness import Effort, Outcome, alternate
from server.lab.bench.systems import game_system

FEW: Final = 8
MANY: Final = 50_000
REPORTS: Final = 32
BATCH: Final = 256
REPORTER: Final = Caller("host", "host", "bench")


async def run(effort: Effort) -> Outcome:
    """CPU us an event, of the large match; the floor is the small one."""
    async with databases.sqlite() as url, game_system(url) as system:
        few, many = Played(system, "few", FEW), Played(system, "many", effort.size(MANY))
        await few.begin()
        await many.begin()
        reports = effort.size(REPORTS)

        async def below() -> float:
            return await few.cost_us(reports)

        async def above() -> float:
            return await many.cost_us(reports)

        return await alternate("report", "us", below, above, effort, goal=2.0, players=[FEW, many.players])


class Played:
    """A live match in mode `recorded`, in which each event is one player's."""

    def __init__(self, system: ActorSystem, name: str, players: int) -> None:
        self.players = players
        self._system, self._name, self._rng = system, name, random.Random(name)
        self._command = 1

    async def begin(self) -> None:
        from game.messages import MatchCreate, MatchOptions, MatchStart

        options = MatchOptions(mode="recorded", teams=0, max_players=0)
        await self._ask("create", MatchCreate(1, "b", 1, self._name, options))
        await self._ask("start", MatchStart(1, "b", 2, self._name))
        self._command = 2
        for first in range(0, self.players, BATCH):
            await self._report(list(range(first, min(self.players, first + BATCH))))

    async def cost_us(self, reports: int) -> float:
        begin = time.process_time()
        for _ in range(reports):
            await self._report([self._rng.randrange(self.players) for _ in range(BATCH)])
        return (time.process_time() - begin) * 1e6 / (reports * BATCH)

    async def _report(self, players: list[int]) -> None:
        from game.messages import Kill, MatchReport

        self._command += 1
        events = [Kill(self._command, f"player-{player}") for player in players]
        await self._ask("report", MatchReport(1, "b", self._command, self._name, list(events)))

    async def _ask(self, method: str, message: object) -> None:
        await self._system.ask(ActorId(f"match/{self._name}"), method, (REPORTER, message))
