"""Leaderboards as an actor: read from the store once, kept up to date by the names of players, ended when idle."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from game.app import App
from game.boards import actor as boards
from game.boards.face import BoardsFace
from game.boards.messages import Board, BoardAround, BoardFriends, BoardRow, BoardTop
from persistence.game.boards import PageAsked, ResultsAsked, TotalsAsked
from server.actors.actor import Caller
from server.errors import BadInput, Unavailable
from server.ids import actor_id
from server.storage.queries import MemoryQuery
from tests.support.engine import TestSystem, cluster
from tests.support.parties import Someone
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time
ASKING = Caller("service", "stats", "s1")


class Stored:
    """Rows as the store has them: points by player, and what was asked for."""

    def __init__(self, points: dict[str, int] | None = None) -> None:
        self.points = dict(points or {})
        self.asked: list[Any] = []
        self.on_asked: Callable[[Any], None] = lambda given: None

    def queries(self) -> dict[str, MemoryQuery]:
        return {
            "board_totals": MemoryQuery(TotalsAsked, self._rows, 5_000),
            "board_results": MemoryQuery(ResultsAsked, self._rows, 5_000),
            "board_ratings": MemoryQuery(PageAsked, self._ratings, 5_000),
        }

    def _rows(self, _states: Any, given: Any) -> Iterator[dict[str, Any]]:
        self.asked.append(given)
        self.on_asked(given)
        for player in sorted(self.points):
            if player > given.after and (not given.players or player in given.players):
                yield {"player": player, "points": self.points[player]}

    def _ratings(self, _states: Any, given: Any) -> Iterator[dict[str, Any]]:
        for row in self._rows(_states, given):
            yield {"player": row["player"], "mu": row["points"] * 1_000_000, "log_sigma": 0}


@asynccontextmanager
async def system(stored: Stored) -> Any:
    async with cluster(app=App, queries=stored.queries()) as world:
        yield world.systems["node-1"]


async def ask(system: TestSystem, message: Any, caller: Caller = ASKING) -> Board:
    method = App.routes[type(message)].method.__name__  # type: ignore[union-attr]
    answer: Board = await system.ask(actor_id("boards", message.mode), method, (caller, message))
    return answer


def changed(system: TestSystem, mode: str, *players: str) -> Any:
    return system.ask(actor_id("boards", mode), BoardsFace.changed.__name__, (list(players),))


async def test_a_board_is_read_once_and_answers_from_memory() -> None:
    stored = Stored({"ada": 5, "bo": 9, "cy": 5})
    async with system(stored) as node:
        top = await ask(node, BoardTop(1, "kills"))
        assert top == Board(1, [BoardRow(1, "bo", 9), BoardRow(2, "ada", 5), BoardRow(3, "cy", 5)], 3)
        around = await ask(node, BoardAround(2, "kills", "ada", count=1))
        assert around == Board(2, [BoardRow(2, "ada", 5)], 3)
        assert (await ask(node, BoardAround(3, "kills", "nobody"))).rows == []
    assert [(asked.mode, asked.metric, asked.season) for asked in stored.asked] == [("all", "kills", "")]


async def test_pages_follow_each_other() -> None:
    async with system(Stored({f"p{number:02}": number for number in range(25)})) as node:
        seen, cursor = [], ""
        while cursor is not None:
            page = await ask(node, BoardTop(1, "wins", limit=10, cursor=cursor))
            seen += [row.player for row in page.rows]
            cursor = page.next
    assert seen == [f"p{number:02}" for number in reversed(range(25))]


async def test_a_large_board_is_read_in_pages_while_others_are_answered() -> None:
    players = boards.PAGE_ROWS * 4 + 95
    stored = Stored({f"p{number:05}": number for number in range(players)})
    async with system(stored) as node:
        with pytest.raises(Unavailable) as refused:
            await ask(node, BoardTop(1, "kills"))
        assert refused.value.retry_after_s == boards.RETRY_S
        await changed(node, "all", "p00000")  # it was read already
        stored.points["p00000"] = 10**6
        await asyncio.sleep(boards.RETRY_S)
        top = await ask(node, BoardTop(1, "kills", limit=1))
        assert top.total == players
        await until(lambda: stored.asked[-1].players == ["p00000"])
        assert (await ask(node, BoardTop(1, "kills", limit=1))).rows == [BoardRow(1, "p00000", 10**6)]


async def test_a_change_is_read_again_for_each_board_of_the_mode() -> None:
    stored = Stored({"ada": 5, "bo": 9})
    async with system(stored) as node:
        for period in ("all", "week:2026-11-23", "season:one"):
            await ask(node, BoardTop(1, "kills", period=period))
        stored.points |= {"ada": 10, "new": 1}
        del stored.points["bo"]
        await changed(node, "all", "ada", "new", "bo")
        await asyncio.sleep(2 * boards.READ_AGAIN_S)
        for period in ("all", "week:2026-11-23", "season:one"):
            found = await ask(node, BoardTop(1, "kills", period=period))
            assert [(row.player, row.points) for row in found.rows] == [("ada", 10), ("new", 1)]


async def test_a_word_about_a_mode_without_boards_leaves_nothing_in_memory() -> None:
    async with system(Stored()) as node:
        await changed(node, "slayer", "ada")
        await until(lambda: node.find(actor_id("boards", "slayer")) is None)


async def test_a_board_that_nobody_asks_for_ends() -> None:
    stored = Stored({"ada": 5})
    async with system(stored) as node:
        await ask(node, BoardTop(1, "kills"))
        await asyncio.sleep(2 * boards.IDLE_S)
        await until(lambda: node.find(actor_id("boards", "all")) is None)
        stored.points["ada"] = 6
        assert (await ask(node, BoardTop(1, "kills"))).rows == [BoardRow(1, "ada", 6)]


async def test_old_boards_are_made_anew_although_somebody_asks() -> None:
    """A word may be lost with its node."""
    stored = Stored({"ada": 5})
    async with system(stored) as node:
        for _ in range(int(boards.RENEW_S / boards.IDLE_S) + 2):
            await ask(node, BoardTop(1, "kills"))
            stored.points["ada"] = 6
            await asyncio.sleep(boards.IDLE_S / 2 + 300)
        assert (await ask(node, BoardTop(1, "kills"))).rows == [BoardRow(1, "ada", 6)]


async def test_boards_in_memory_are_bounded_and_the_one_asked_for_longest_ago_ends() -> None:
    async with system(Stored({"ada": 1})) as node:
        seasons = [f"season:{number}" for number in range(boards.MAX_BOARDS + 3)]
        for season in seasons:
            await ask(node, BoardTop(1, "kills", period=season))
            await asyncio.sleep(0.01)
        found = node.find(actor_id("boards", "all"))
        assert list(found.actor.shelves) == [("kills", season) for season in seasons[3:]]


async def test_friends_are_those_of_the_caller() -> None:
    async with system(Stored({"ada": 5, "bo": 9, "cy": 7})) as node:
        ada, bo = await Someone(node, "ada").connect(), await Someone(node, "bo").connect()
        from game.friends.messages import FriendsAccept, FriendsInvite

        await ada.do(FriendsInvite, "bo")
        await until(lambda: node.find(actor_id("friends", "bo")) is not None)
        await bo.do(FriendsAccept, "ada")

        async def rows() -> list[BoardRow]:
            return (await ask(node, BoardFriends(1, "kills"), ada.caller)).rows

        assert await rows() == [BoardRow(1, "bo", 9), BoardRow(3, "ada", 5)]


@pytest.mark.parametrize(
    ("metric", "period"), [("rating", "day:2026-11-29"), ("kills", "month:1"), ("kills", "season:")]
)
async def test_boards_that_there_are_not_are_refused(metric: Any, period: str) -> None:
    async with system(Stored()) as node:
        with pytest.raises(BadInput):
            await ask(node, BoardTop(1, metric, period=period))


async def test_ratings_count_what_is_all_but_sure() -> None:
    async with system(Stored({"ada": 25})) as node:
        assert (await ask(node, BoardTop(1, "rating"))).rows == [BoardRow(1, "ada", 22_000)]  # 25 less 3 times 1


async def test_questions_come_between_the_boards_that_are_read_again() -> None:
    stored = Stored({"ada": 5})
    async with system(stored) as node:
        seasons = [f"season:{number}" for number in range(6)]
        for season in seasons:
            await ask(node, BoardTop(1, "kills", period=season))
        reread: list[str] = []
        answered_after: list[int] = []

        async def question() -> None:
            await ask(node, BoardTop(1, "kills", period=seasons[0]))
            answered_after.append(len(reread))

        def on_asked(given: Any) -> None:
            if given.players:
                reread.append(given.season)
                if len(reread) == 1:
                    asyncio.get_running_loop().create_task(question())

        stored.on_asked = on_asked
        await changed(node, "all", "ada")
        await until(lambda: len(reread) == len(seasons))
        assert sorted(reread) == [str(number) for number in range(6)]
        assert answered_after and answered_after[0] <= 2


async def test_players_who_change_while_boards_are_read_are_read_again_for_all() -> None:
    stored = Stored({"ada": 5})
    async with system(stored) as node:
        seasons = [f"season:{number}" for number in range(4)]
        for season in seasons:
            await ask(node, BoardTop(1, "kills", period=season))
        reread: list[str] = []

        def on_asked(given: Any) -> None:
            if given.players:
                reread.append(given.season)
                if len(reread) == 2:
                    stored.points["ada"] = 50
                    asyncio.get_running_loop().create_task(changed(node, "all", "ada"))

        stored.on_asked = on_asked
        await changed(node, "all", "ada")
        await until(lambda: len(reread) == 2 * len(seasons))
        for season in seasons:
            assert (await ask(node, BoardTop(1, "kills", period=season))).rows == [BoardRow(1, "ada", 50)]


async def test_a_board_that_cannot_be_read_now_is_read_later_and_no_other_twice() -> None:
    stored = Stored({"ada": 5})
    async with system(stored) as node:
        for season in ("season:a", "season:b"):
            await ask(node, BoardTop(1, "kills", period=season))
        reread: list[str] = []

        def on_asked(given: Any) -> None:
            if given.players:
                reread.append(given.season)
                if len(reread) == 2:
                    raise Unavailable("away")

        stored.on_asked = on_asked
        stored.points["ada"] = 6
        await changed(node, "all", "ada")
        await until(lambda: len(reread) == 3)
        assert reread[1] == reread[2] != reread[0]
        for season in ("season:a", "season:b"):
            assert (await ask(node, BoardTop(1, "kills", period=season))).rows == [BoardRow(1, "ada", 6)]
