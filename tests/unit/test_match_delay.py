"""A match with a delay for its onlookers, as an actor: what it tells of itself to whom, and when."""

import asyncio
from typing import Any

import pytest

from game.match.events import Property
from game.match.messages import MatchDescribe
from game.match.spectating import delay_ms
from game.messages import (
    Kill,
    MatchCreate,
    MatchEnd,
    MatchGet,
    MatchJoin,
    MatchLeave,
    MatchOptions,
    MatchReport,
    MatchStart,
    Scoreboard,
)
from game.player.messages import Profile, ProfileGet
from server.actors.actor import Caller
from server.ids import actor_id
from tests.support.engine import TestSystem
from tests.support.game import HOST, Client, player, running, session
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time
MATCH = actor_id("match", "m")
DELAY_S = 12.0
ENOUGH_S = DELAY_S + 0.3
"""After so long a group of events is public."""
SERVICE = Caller("service", "stats", "s")
EVE = player("eve")


async def played(system: TestSystem, delay_s: float = DELAY_S) -> Client:
    """A live match of ann and bob, in which nothing has happened yet, and its host."""
    host = Client(system, HOST)
    options = MatchOptions(countdown_ms=0, score_limit=0, spectator_delay_ms=int(delay_s * 1000))
    await host.command(MatchCreate, "m", options)
    for name in ("ann", "bob", "eve"):
        await session(system, name)
    for name in ("ann", "bob"):
        await Client(system, player(name)).command(MatchJoin, "m")
    await host.command(MatchStart, "m")
    return host


async def kill(host: Client, time_ms: int = 1_000) -> None:
    await host.command(MatchReport, "m", [Kill(time_ms, "ann", "bob")])


async def board(system: TestSystem, caller: Caller) -> Scoreboard:
    found = await system.ask(MATCH, "get", (caller, MatchGet(1, "m")))
    assert isinstance(found, Scoreboard)
    return found


async def kills(system: TestSystem, caller: Caller) -> int | None:
    """Kills of ann, as somebody sees them; None where there is no ann."""
    return next((line.kills for line in (await board(system, caller)).players if line.player == "ann"), None)


async def row(system: TestSystem, outside: int = 1) -> dict[str, Any] | None:
    await asyncio.sleep(0.3)  # answers are shared for a moment
    rows: list[dict[str, Any]] = (await system.query("live_matches", {"outside": outside})).rows
    return rows[0] if rows else None


def log_of(system: TestSystem) -> Any:
    activation = system.find(MATCH)
    assert activation is not None
    return activation.log()


async def test_an_onlooker_sees_the_scores_of_the_public_moment() -> None:
    async with running() as system:
        host = await played(system)
        await kill(host)
        for caller in (HOST, player("ann"), SERVICE):
            assert await kills(system, caller) == 1
        seen = await board(system, EVE)
        assert (seen.phase, seen.players, seen.next_seq, seen.team_scores) == ("lobby", [], 1, [0, 0])
        await asyncio.sleep(ENOUGH_S)
        await kill(host, 40_000)
        seen = await board(system, EVE)
        assert (seen.phase, seen.team_scores, seen.time_ms) == ("live", [1, 0], 1_000)
        assert await kills(system, EVE) == 1 and await kills(system, player("ann")) == 2
        await asyncio.sleep(ENOUGH_S)
        assert await kills(system, EVE) == 2
        assert (await board(system, EVE)).next_seq == (await board(system, HOST)).next_seq


async def test_the_list_shows_the_public_moment_and_operators_what_is() -> None:
    async with running() as system:
        host = await played(system)
        await kill(host)
        shown, truth = await row(system), await row(system, outside=0)
        assert shown is not None and truth is not None
        told = ("phase", "players", "team_scores", "time_ms", "started_wall_ms")
        assert [shown[name] for name in told] == ["lobby", 0, [0, 0], 0, 0]
        assert [truth[name] for name in told[:4]] == ["live", 2, [1, 0], 1_000]
        await asyncio.sleep(ENOUGH_S)
        shown = await row(system)
        assert shown is not None and [shown[name] for name in told[:4]] == ["live", 2, [1, 0], 1_000]


async def test_properties_and_tags_of_a_match_are_told_at_once() -> None:
    async with running() as system:
        host = await played(system)
        for _ in range(2):  # before a state is public, and after it
            tags = [f"at-{int(asyncio.get_running_loop().time())}"]
            await host.command(MatchDescribe, "m", [Property("region", "eu")], tags)
            seen = await board(system, EVE)
            assert (seen.properties, seen.tags) == ([Property("region", "eu")], tags)
            await asyncio.sleep(ENOUGH_S)


async def test_a_player_who_comes_sees_all_and_who_goes_lags_again() -> None:
    async with running() as system:
        host = await played(system)
        log = log_of(system)

        async def late() -> list[int]:
            answer = await system.ask(MATCH, "turns_away", ([player("ann"), EVE, HOST, SERVICE],))
            assert answer.refused == [] and (answer.epoch, answer.n) == log.guard
            places: list[int] = answer.late
            return places

        assert await late() == [1]
        before = log.guard
        await Client(system, EVE).command(MatchJoin, "m")
        await kill(host)
        assert log.guard > before and await late() == [] and await kills(system, EVE) == 1
        before = log.guard
        await Client(system, EVE).command(MatchLeave, "m")
        assert log.guard > before and await late() == [1]
        await kill(host)
        assert await kills(system, EVE) is None


async def test_the_end_and_its_results_are_told_when_the_end_is_public() -> None:
    async with running() as system:
        host = await played(system)
        await kill(host)
        await host.command(MatchEnd, "m", 5_000)

        async def profile() -> Profile:
            answer = await Client(system, EVE).send(ProfileGet(1, "ann"))
            assert isinstance(answer, Profile)
            return answer

        async def is_free() -> bool:
            return not await system.ask(actor_id("player", "ann"), "match_now", ())

        await until(is_free)  # of its place, not of its result
        await asyncio.sleep(DELAY_S - 3)
        assert (await profile()).matches == 0
        seen, shown = await board(system, EVE), await row(system)
        assert (seen.phase, seen.winner, seen.end_reason) == ("lobby", None, None)
        assert shown is not None and shown["phase"] == "lobby", (
            "it is listed as long as onlookers think that it goes on"
        )
        assert (await board(system, player("ann"))).winner == "team:0"
        await asyncio.sleep(3.5)
        await until(lambda: has_result(system))
        assert (await profile()).wins == 1
        assert (await board(system, EVE)).winner == "team:0" and await row(system) is None
        assert log_of(system).public_seq == -1
        activation = system.find(MATCH)
        assert activation is not None
        await until(lambda: activation.has_told_all)
        state = activation.boundary
        assert state.outcome.whole and delay_ms(state) == 12_000


async def has_result(system: TestSystem) -> bool:
    answer = await Client(system, EVE).send(ProfileGet(1, "ann"))
    assert isinstance(answer, Profile)
    return answer.matches == 1


async def test_a_match_that_is_loaded_shows_nothing_before_the_delay_is_over_again() -> None:
    async with running() as system:
        host = await played(system)
        await kill(host)
        await asyncio.sleep(ENOUGH_S)
        assert await kills(system, EVE) == 1
        await host.command(MatchEnd, "m", 5_000)
        activation = system.find(MATCH)
        assert activation is not None
        system.lost(activation, 0)
        await asyncio.sleep(DELAY_S - 5)
        seen = await board(system, EVE)  # loads it, if nothing has by now
        assert (seen.phase, seen.players, seen.next_seq) == ("lobby", [], 1)
        assert (await board(system, HOST)).phase == "ended"
        await asyncio.sleep(ENOUGH_S + 1)
        await until(lambda: has_result(system))
        assert (await board(system, EVE)).winner == "team:0"


async def test_a_match_without_a_delay_asks_about_nobody_and_has_no_public_end() -> None:
    async with running() as system:
        host = await played(system, delay_s=0)
        log = log_of(system)
        guard = log.guard
        await Client(system, EVE).command(MatchJoin, "m")
        assert log.guard == guard == (0, 0) and log.public_seq == -1
        await kill(host)
        assert await kills(system, player("zed")) == 1
