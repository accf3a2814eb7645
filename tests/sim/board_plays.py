"""`boards(seed) -> violations`: the careers of `careers.py`, and somebody looks at leaderboards of them all the while,
by several metrics, in all modes and in one. With every second seed nodes die at each step, the boards' own among them;
with the others none does, and only the store is slow, late and forgetful.

When all is whole again each board shows the sums over the rows that are stored: at once where no node has died, since
no word was lost then; else after each player has been named once more.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Iterable
from typing import Any, Final

from game.app import App
from game.boards.messages import Board, BoardTop
from game.boards.points import points_of
from persistence.game.boards import PageAsked, ResultsAsked, TotalsAsked
from server.actors.actor import Caller
from server.errors import GarrisonError
from server.ids import actor_id
from server.storage.memory import MemoryDatabase
from server.storage.queries import MemoryQuery
from tests.sim import careers
from tests.sim.careers import SEASONS, CareerPlay, Queries
from tests.sim.directed import insist, play
from tests.sim.faults import StoreTroubles
from tests.sim.world import World

ASKING: Final = Caller("service", "stats", "s1")
MODES: Final = ("all", "slayer", "slayer.solo")
MATCHES_SHOWN: Final = 6
METRICS: Final = (("kills", "all"), ("wins", "season:s0"), ("matches", "all"), ("rating", "all"))
TOLD_S: Final = 3.0
"""Time in which boards hear of the last results, and read them as far as they can."""
LOOKS: Final = 24
"""Looks at all boards at the end, half a second apart, until they are right."""


def boards(seed: int) -> list[str]:
    """See the module's head."""
    return play(
        seed,
        lambda world: _Boards(world, kills=seed % 2 == 0).run(),
        app=App,
        careers={"seasons": [f"{name}={begin}" for begin, name in SEASONS]},
        queries=queries,
    )


# ---- the store's part: sums over rows of `careers` ----


def queries(database: MemoryDatabase) -> Queries:
    """The queries of `careers.py`, and those of boards."""
    made = careers.queries(database)

    def totals(_states: Any, given: Any) -> Iterable[dict[str, Any]]:
        return sums(database, given)

    def ratings(_states: Any, given: PageAsked) -> Iterable[dict[str, Any]]:
        found = careers.rated(given.mode, database.rows.values())
        rows = ({"player": player, "mu": it.mu, "log_sigma": it.log_sigma} for player, it in sorted(found.items()))
        return _page(rows, given)

    made._queries |= {
        "board_totals": MemoryQuery(TotalsAsked, totals, 5_000),
        "board_results": MemoryQuery(ResultsAsked, totals, 5_000),
        "board_ratings": MemoryQuery(PageAsked, ratings, 5_000),
    }
    return made


def sums(database: MemoryDatabase, given: TotalsAsked) -> Iterable[dict[str, Any]]:
    """Points by player, from all rows of `careers`."""
    found: dict[str, int] = {}
    for row in database.rows.values():
        named = dict(zip(careers.COLUMNS, row, strict=True))
        if given.mode not in ("all", named["mode"]) or given.season not in ("", named["season"]):
            continue
        worth = {"matches": 1, "wins": int(named["won"])}.get(given.metric)
        player = named["player_id"]
        found[player] = found.get(player, 0) + (named[given.metric] if worth is None else worth)
    return _page(({"player": player, "points": points} for player, points in sorted(found.items())), given)


def _page(rows: Iterable[dict[str, Any]], given: PageAsked) -> Iterable[dict[str, Any]]:
    wanted = (row for row in rows if row["player"] > given.after)
    return itertools.islice((row for row in wanted if not given.players or row["player"] in given.players), given.limit)


# ---- the run ----


class _Boards(CareerPlay):
    """One run of the scenario."""

    def __init__(self, world: World, kills: bool) -> None:
        super().__init__(world, 1, MATCHES_SHOWN)
        self.kills = kills

    async def _die(self) -> None:
        if self.kills:
            await super()._die()
        await asyncio.Event().wait()

    async def run(self) -> list[str]:
        others = [self.world.loop.create_task(work()) for work in (self._look, self._trouble_reads)]
        try:
            wrong = await super().run()
            await asyncio.sleep(TOLD_S)
        finally:
            for other in others:
                other.cancel()
        if wrong:
            return wrong
        if self.kills:
            for mode in MODES:
                await insist(self.world, actor_id("boards", mode), "changed", list(self.players))
        for _ in range(LOOKS):
            wrong = await self._differ()
            if not wrong:
                break
            await asyncio.sleep(0.5)
        return wrong

    async def _trouble_reads(self) -> None:
        """Have some queries of the store fail, as long as results are told."""
        await asyncio.sleep(0.1)  # the play begins meanwhile
        troubles = self.world.store.faults
        assert isinstance(troubles, StoreTroubles)
        number = troubles.begin(0.3, frozenset({"run"}), None, ("refuse", "forget"))
        try:
            await asyncio.Event().wait()
        finally:
            troubles.end(number)

    async def _look(self) -> None:
        """Ask for boards all the time: those that are lost with a node are made anew."""
        asked = itertools.cycle([(mode, *name) for mode in MODES for name in METRICS])
        while True:
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))
            with contextlib.suppress(GarrisonError):
                nodes = list(self.world.nodes.values())
                if nodes:
                    mode, metric, period = next(asked)
                    node = self.rng.choice(nodes)
                    question = node.node.system.ask(
                        actor_id("boards", mode), "top", (ASKING, BoardTop(1, metric, mode, period))
                    )
                    task = node.domain.run(self.world.loop.create_task, question)
                    task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _differ(self) -> list[str]:
        """How boards differ from what is stored."""
        wrong = []
        for mode in MODES:
            for metric, period in METRICS:
                shown: Board = await insist(
                    self.world, actor_id("boards", mode), "top", ASKING, BoardTop(1, metric, mode, period, 100)
                )
                points = {row.player: row.points for row in shown.rows}
                due = self._due(mode, metric, period)
                if points != due:
                    differing = {player for player in {*points, *due} if points.get(player) != due.get(player)}
                    told = [(player, points.get(player), due.get(player)) for player in sorted(differing)]
                    wrong.append(f"board {mode} {metric} {period} is not what is stored: {told}")
        return wrong

    def _due(self, mode: str, metric: Any, period: str) -> dict[str, int]:
        database = self.world.database
        if metric == "rating":
            found = careers.rated(mode, database.rows.values())
            return {player: points_of(metric, {"mu": it.mu, "log_sigma": it.log_sigma}) for player, it in found.items()}
        season = period.partition(":")[2]
        rows = sums(database, TotalsAsked(mode=mode, metric=metric, season=season, limit=5_000))
        return {row["player"]: row["points"] for row in rows}
