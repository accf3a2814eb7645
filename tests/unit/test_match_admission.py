"""Matches that say who comes, as actors of one system: parties."""

from typing import Any

import pytest

from game.match.face import MatchFace
from game.match.messages import AdmitParty
from game.messages import Accepted, MatchAssigned, MatchCreate, MatchJoin, MatchOptions
from server.errors import NotFound, Rejected
from server.ids import actor_id
from tests.support.engine import TestSystem
from tests.support.game import HOST, Client, player, running, session
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


async def admit(system: TestSystem, *players: str, match: str = "m", number: int = 1, command: int = 1) -> Any:
    """A party's own call, on the word of its leader."""
    message = AdmitParty("red", number, list(players), "l", command)
    return await system.ask(actor_id("match", match), MatchFace.admit_party.__name__, (player("ann"), message))


async def created(system: TestSystem, match: str = "m", **options: Any) -> Client:
    """A match in its lobby; its host."""
    host = Client(system, HOST)
    await host.command(MatchCreate, match, MatchOptions(**{"countdown_ms": 0, **options}))
    return host


def place(system: TestSystem, name: str) -> tuple[str, int]:
    """The match that a player is in, and the number of its place."""
    activation = system.find(actor_id("player", name))
    assert activation is not None
    return activation.boundary.match, activation.boundary.member


async def test_a_party_is_taken_in_by_one_event_and_its_players_hear_of_their_places() -> None:
    async with running() as system:
        await created(system)
        for name in ("ann", "bob"):
            await session(system, name)
        assert await admit(system, "ann", "bob") == Accepted(0, "m", 2, 3)
        assert await admit(system, "ann", "bob") == Accepted(0, "m", 2, 3), "the same command"
        assert await admit(system, "ann", "bob", command=2) == Accepted(0, "m", 2, 3), "the same number"
        await until(lambda: place(system, "ann") == place(system, "bob") == ("m", 2))
        assert [subject for subject, push in system.published.pushes if isinstance(push, MatchAssigned)] == [
            "ann",
            "bob",
        ]


async def test_a_party_that_is_refused_leaves_nothing_behind() -> None:
    async with running() as system:
        await created(system, max_players=2)
        with pytest.raises(Rejected, match="no free place"):
            await admit(system, "ann", "bob", "cid")
        with pytest.raises(NotFound):
            await admit(system, "ann", match="none")
        assert (await Client(system, player("dan")).command(MatchJoin, "m")).first_seq == 2
        assert await admit(system, "ann", command=2) == Accepted(0, "m", 3, 4)
