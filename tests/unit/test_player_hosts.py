"""Players who host matches themselves, where the studio's application lets them."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from game import player_hosts
from game.app import App
from game.match.actor import Match
from game.match.messages import MatchPassHost, MatchSuccessor
from game.messages import MatchCreate, MatchEnd, MatchGet, MatchJoin, MatchOptions, MatchReport, MatchStart, Medal
from game.routing import HOSTS
from persistence.game.queries import Hosted
from server.actors.app import EVERYONE, Route
from server.errors import Rejected
from server.storage.queries import MemoryQuery, States
from tests.support.engine import TestSystem, cluster
from tests.support.game import FAST, HOST, Client, player, session
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


def hosted(states: States, given: Hosted) -> Iterable[dict[str, Any]]:
    for key, state in states("match"):
        if state.host == given.host and state.phase != "ended":
            yield {"match": key}


@asynccontextmanager
async def running(app: Any = player_hosts.App) -> AsyncIterator[TestSystem]:
    queries = {"hosted_matches": MemoryQuery(Hosted, hosted)}
    async with cluster(app=app, queries=queries, **FAST) as world:
        system = world.systems["node-1"]
        system.supervisor.spawn(system.write_behind.run(), "write-behind")
        for name in ("ann", "bob"):
            await session(system, name)
        yield system


async def code_of(command: Any) -> str:
    with pytest.raises(Rejected) as caught:
        await command
    return caught.value.code


def test_players_may_send_what_hosts_send_in_that_application_only() -> None:
    changed = 0
    for message, route in player_hosts.ROUTES.items():
        before = App.routes[message]
        if isinstance(before, Route) and before.actor is Match and before.roles == HOSTS:
            assert isinstance(route, Route) and route.roles == EVERYONE
            changed += 1
        else:
            assert route.roles == before.roles
    assert changed > 8


async def test_a_player_hosts_a_match_in_the_session_that_it_has() -> None:
    async with running() as system:
        ann, bob = Client(system, player("ann")), Client(system, player("bob"))
        await ann.command(MatchCreate, "m", MatchOptions(countdown_ms=0))
        await ann.command(MatchJoin, "m")
        await ann.command(MatchStart, "m")
        assert await code_of(bob.command(MatchReport, "m", [Medal(1, "ann", "m")])) == "not_host"
        assert await code_of(Client(system, HOST).command(MatchEnd, "m")) == "not_host"
        await ann.command(MatchReport, "m", [Medal(1, "ann", "m")])
        board = await bob.send(MatchGet(1, "m"))
        assert (board.host, board.players[0].medals) == ("player/ann", 1)
        await ann.command(MatchEnd, "m")


async def test_a_player_hosts_so_many_matches_at_a_time() -> None:
    async with running() as system:
        ann = Client(system, player("ann"))
        for match in ("a", "b"):
            await ann.command(MatchCreate, match)
        assert await code_of(ann.command(MatchCreate, "c")) == "hosts_too_many"
        await ann.command(MatchEnd, "a")

        async def room() -> bool:
            try:
                await ann.command(MatchCreate, "c")
            except Rejected:
                return False
            return True

        await until(room, 60.0)
        assert await code_of(ann.command(MatchCreate, "d")) == "hosts_too_many"


async def test_a_role_passes_to_players_who_may_host() -> None:
    async with running() as system:
        host, ann = Client(system, HOST), Client(system, player("ann"))
        await host.command(MatchCreate, "m", MatchOptions())
        passed = await host.command(MatchPassHost, "m", "player/ann")
        await ann.command(MatchSuccessor, "m", "player/bob", passed.first_seq)
        await ann.command(MatchCreate, "b")
        await host.command(MatchCreate, "c", MatchOptions())
        assert await code_of(host.command(MatchPassHost, "c", "player/ann")) == "hosts_too_many"
        assert await code_of(host.command(MatchSuccessor, "c", "player/ann")) == "hosts_too_many"


async def test_players_host_nothing_in_the_plain_game() -> None:
    async with running(App) as system:
        host = Client(system, HOST)
        await host.command(MatchCreate, "m", MatchOptions())
        assert await code_of(host.command(MatchPassHost, "m", "player/ann")) == "bad_host"
        assert await code_of(host.command(MatchSuccessor, "m", "player/ann")) == "bad_host"
        assert await code_of(Client(system, player("ann")).command(MatchCreate, "n")) == "bad_host"
