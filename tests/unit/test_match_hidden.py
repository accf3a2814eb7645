"""Invisible players in the views of a match that those have who do not take part in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from game.app import ROUTES, App
from game.console.read_models import live_matches
from game.match import board
from game.match.hidden import NOBODY, Hidden, HiddenWord, present
from game.match.state import Line, Lines, MatchState
from game.messages import MatchCreate, MatchGet, MatchJoin, MatchLeave, MatchList, MatchOptions, MatchTick, Scoreboard
from game.player.messages import PresenceSet
from server.actors.actor import Caller
from server.actors.facts import Stamp
from server.ids import actor_id
from tests.support.engine import Cluster, TestSystem, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

FAST: dict[str, Any] = {"store": {"group_commit_s": 0.001, "flush_interval_s": 0.02}}
HOST = Caller("host", "referee", "h1")
OUTSIDERS = (Caller("player", "zed", "s"), Caller("host", "another", "s"), Caller("service", "stats", "s"))
MATCH = actor_id("match", "m")
STATE = MatchState(host="referee", players=Lines({name: Line(score=ord(name)) for name in "abcd"}))


# ---- the rules ----


def test_the_newest_word_of_a_player_counts() -> None:
    hidden = Hidden()
    for number, word in ((2, True), (1, False), (2, True)):
        hidden.hear(STATE, HiddenWord("a", Stamp(1, number), word))
    assert hidden.players == {"a"}
    hidden.hear(STATE, HiddenWord("a", Stamp(2, 1), False))
    assert hidden.players == NOBODY
    hidden.hear(STATE, HiddenWord("nobody", Stamp(1, 1), True))
    assert hidden.players == NOBODY, "only who has a place is remembered"
    assert Hidden(hidden.words()).words() == hidden.words()


def test_host_and_participants_see_everybody() -> None:
    hidden = Hidden([HiddenWord("a", Stamp(1, 1), True)])
    left = MatchState(host="referee", players=STATE.players.set("b", Line(present=False)))
    assert hidden.of(STATE, "a", "player/a") == hidden.of(STATE, None, "referee") == NOBODY
    assert hidden.of(STATE, "zed", "player/zed") == hidden.of(STATE, None, "other") == {"a"}
    assert hidden.of(left, "b", "player/b") == {"a"}
    assert (present(STATE, hidden.players), present(left, hidden.players)) == (3, 2)


@pytest.mark.parametrize("size", [1, 2, 500])
def test_pages_go_past_those_who_are_hidden(size: int) -> None:
    seen, cursor = [], ""
    while True:
        page = board.scoreboard(STATE, "m", 1, 1, 0, board.Page(size, cursor), None, frozenset({"b", "d"}))
        seen += [line.player for line in page.players]
        assert page.player_count == 2
        if page.next is None:
            break
        cursor = page.next
        assert not cursor.endswith(("/b", "/d")), "a cursor names a player"
    assert seen == ["c", "a"]


def test_a_host_who_plays_and_is_hidden_has_no_name() -> None:
    state = MatchState(host="player/a", players=STATE.players)
    assert board.scoreboard(state, "m", 1, 1, hidden=frozenset({"a"})).host == ""


# ---- the actors ----


@asynccontextmanager
async def running(*names: str) -> AsyncIterator[Cluster]:
    async with cluster(names or ("node-1",), app=App, **FAST) as world:
        for system in world.systems.values():
            system.supervisor.spawn(system.write_behind.run(), "write-behind")
        yield world


commands = count(1)


def player(name: str) -> Caller:
    return Caller("player", name, f"s-{name}")


async def played(world: Cluster) -> TestSystem:
    """A match of ann and bob, who have come."""
    system = world.systems["node-1"]
    await system.ask(MATCH, "create", (HOST, MatchCreate(1, "l", next(commands), "m", MatchOptions())))
    for name in ("ann", "bob"):
        await system.ask(actor_id("player", name), "connected", (player(name),))
        await system.ask(MATCH, "join", (player(name), MatchJoin(1, "l", next(commands), "m")))
        await plays(world, name)
    return system


async def plays(world: Cluster, name: str) -> None:
    """Wait until the player knows that it is in the match."""

    def knows() -> bool:
        found = [system.find(actor_id("player", name)) for system in world.systems.values()]
        return any(activation is not None and activation.boundary.match == "m" for activation in found)

    await until(knows)


async def sees(system: TestSystem, caller: Caller) -> set[str]:
    found: Scoreboard = await system.ask(MATCH, "get", (caller, MatchGet(1, "m")))
    names = {line.player for line in found.players}
    assert found.player_count == len(names)
    return names


async def chooses(system: TestSystem, name: str, status: Any) -> None:
    await system.ask(actor_id("player", name), "presence_set", (player(name), PresenceSet(1, status)))


def counted(system: TestSystem, outside: int) -> list[int]:
    activation = system.find(MATCH)
    assert activation is not None
    here = SimpleNamespace(listed=lambda *_: [activation.actor])
    return [row["players"] for row in live_matches(here, {"outside": outside})]  # type: ignore[arg-type]


async def test_an_invisible_player_is_on_no_board_and_in_no_count_of_others() -> None:
    async with running() as world:
        system = await played(world)
        await chooses(system, "ann", "invisible")
        for outsider in OUTSIDERS:
            await until(lambda outsider=outsider: is_seen(system, outsider, {"bob"}))  # type: ignore[misc]
        for insider in (HOST, player("ann"), player("bob")):
            assert await sees(system, insider) == {"ann", "bob"}
        assert (counted(system, 1), counted(system, 0)) == ([1], [2]), "operators count everybody"
        await system.ask(MATCH, "leave", (player("bob"), MatchLeave(1, "l", next(commands), "m")))
        assert await sees(system, player("bob")) == {"bob"}, "who has left takes part no more"
        await chooses(system, "ann", "online")
        await until(lambda: is_seen(system, OUTSIDERS[0], {"ann", "bob"}))
        assert counted(system, 1) == [1]


async def is_seen(system: TestSystem, caller: Caller, names: set[str]) -> bool:
    return await sees(system, caller) == names


async def test_an_invisible_player_is_hidden_once_it_has_joined_and_while_it_is_gone() -> None:
    async with running() as world:
        system = await played(world)
        await system.ask(actor_id("player", "eve"), "connected", (player("eve"),))
        await chooses(system, "eve", "invisible")
        await system.ask(MATCH, "join", (player("eve"), MatchJoin(1, "l", next(commands), "m")))
        await plays(world, "eve")
        await until(lambda: is_seen(system, OUTSIDERS[0], {"ann", "bob"}))
        await system.ask(actor_id("player", "eve"), "disconnected", (player("eve"), "closed"))
        assert await sees(system, OUTSIDERS[0]) == {"ann", "bob"}
        assert await sees(system, HOST) == {"ann", "bob", "eve"}


async def test_a_player_who_was_hidden_and_comes_again_as_a_visible_one_is_seen() -> None:
    async with running() as world:
        system = await played(world)
        await chooses(system, "ann", "invisible")
        await until(lambda: is_seen(system, OUTSIDERS[0], {"bob"}))
        await system.ask(MATCH, "leave", (player("ann"), MatchLeave(1, "l", next(commands), "m")))
        activation = system.find(actor_id("player", "ann"))
        assert activation is not None
        await until(lambda: not activation.boundary.match)
        await chooses(system, "ann", "online")
        await system.ask(MATCH, "join", (player("ann"), MatchJoin(1, "l", next(commands), "m")))
        await until(lambda: is_seen(system, OUTSIDERS[0], {"ann", "bob"}))


@pytest.mark.parametrize("moves", [True, False])
async def test_a_match_at_another_node_hides_the_same_players(moves: bool) -> None:
    """It takes along what it was told; where its node died, it is told again."""
    async with running("node-1", "node-2") as world:
        for system in world.systems.values():
            system.misplaced.home = lambda actor, system=system: system.me  # type: ignore[method-assign,misc]
        one = await played(world)
        await chooses(one, "ann", "invisible")
        await until(lambda: is_seen(one, OUTSIDERS[0], {"bob"}))
        home = next(system for system in world.systems.values() if system.find(MATCH) is not None)
        activation = home.find(MATCH)
        assert activation is not None
        if moves:
            other = next(system for system in world.systems.values() if system is not home)
            assert await home.migrator.move([activation], other.me) == 1
            assert await sees(one, OUTSIDERS[0]) == {"bob"}
        else:
            activation.actor.hidden = Hidden()  # planted: nothing of it is stored
            assert await sees(one, OUTSIDERS[0]) == {"ann", "bob"}

            async def is_hidden_again() -> bool:
                await one.ask(MATCH, "tick", (HOST, MatchTick(1, "m", 0)))
                return await sees(one, OUTSIDERS[0]) == {"bob"}

            await until(is_hidden_again, 90.0)


def test_the_list_that_clients_ask_for_counts_no_invisible_player() -> None:
    assert ROUTES[MatchList].params(OUTSIDERS[2], MatchList(1))["outside"] == 1  # type: ignore[union-attr]
