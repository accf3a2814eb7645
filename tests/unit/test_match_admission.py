"""Matches that say who comes and whose host may change, as actors of one system."""

import asyncio
from typing import Any

import pytest

from game.app import App
from game.friends.messages import FriendsBlock, FriendsUnblock
from game.match.actor import Match
from game.match.face import MatchFace
from game.match.messages import (
    AdmitParty,
    MatchAllow,
    MatchInvite,
    MatchInvited,
    MatchKick,
    MatchKicked,
    MatchPassHost,
    MatchReserve,
    MatchSuccessor,
    MatchUnkick,
)
from game.messages import (
    Accepted,
    MatchAssigned,
    MatchCreate,
    MatchEnd,
    MatchGet,
    MatchJoin,
    MatchLeave,
    MatchList,
    MatchOptions,
    MatchReport,
    MatchStart,
    MatchTick,
    Medal,
)
from game.moderation.messages import ModerationMute
from server.actors.actor import Caller
from server.actors.app import QueryRoute
from server.actors.guard import OPEN, Guard, TurnedAway
from server.errors import Forbidden, NotFound, Rejected
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


async def test_a_place_of_somebody_who_is_no_player_is_freed() -> None:
    """Its first state may have been lost with its node, and it is in no match then."""
    async with running() as system:
        await created(system)
        await session(system, "ann")
        await admit(system, "ann", "ghost")
        match = system.find(actor_id("match", "m"))
        assert match is not None
        await until(lambda: not match.boundary.players["ghost"].present)
        await until(lambda: place(system, "ann") == ("m", 2))
        await until(lambda: not match.actor.unsaid)
        assert match.boundary.players["ann"].present


async def test_a_party_that_is_refused_leaves_nothing_behind() -> None:
    async with running() as system:
        await created(system, max_players=2)
        with pytest.raises(Rejected, match="no free place"):
            await admit(system, "ann", "bob", "cid")
        with pytest.raises(NotFound):
            await admit(system, "ann", match="none")
        assert (await Client(system, player("dan")).command(MatchJoin, "m")).first_seq == 2
        assert await admit(system, "ann", command=2) == Accepted(0, "m", 3, 4)


# ---- one match at a time --------------------------------------------------------------------------


async def refused(client: Client, match: str, code: str, *rest: Any) -> None:
    with pytest.raises(Rejected) as caught:
        await client.command(MatchJoin, match, *rest)
    assert caught.value.code == code


async def test_a_match_that_refuses_takes_nobody_out_of_another() -> None:
    async with running() as system:
        await created(system)
        await created(system, "r", refuses_elsewhere=True)
        await session(system, "ann")
        ann = Client(system, player("ann"))
        await ann.command(MatchJoin, "m")
        await until(lambda: place(system, "ann")[0] == "m")
        await refused(ann, "r", "in_another_match")
        with pytest.raises(Rejected, match="in another match"):
            await admit(system, "bob", "ann", match="r")
        assert place(system, "ann")[0] == "m"
        await ann.command(MatchLeave, "m")
        await until(lambda: place(system, "ann")[0] == "")
        await ann.command(MatchJoin, "r")
        await until(lambda: place(system, "ann")[0] == "r")
        await ann.command(MatchJoin, "m")
        await until(lambda: place(system, "ann")[0] == "m")


async def test_a_place_that_was_given_meanwhile_is_left_at_once() -> None:
    """The player's own word decides: it hears of a place in a match that takes nobody out of others, and is in one."""
    async with running() as system:
        await created(system)
        await created(system, "r", refuses_elsewhere=True)
        await session(system, "ann")
        ann = Client(system, player("ann"))
        await ann.command(MatchJoin, "r")
        activation = system.find(actor_id("player", "ann"))
        assert activation is not None
        await until(lambda: place(system, "ann")[0] == "r")
        await ann.command(MatchJoin, "m")
        await until(lambda: place(system, "ann")[0] == "m")
        birth = system.find(actor_id("match", "r")).boundary.created_wall_ms  # type: ignore[union-attr]
        await system.ask(actor_id("player", "ann"), "match_joined", ("r", birth, 77, False))
        assert place(system, "ann")[0] == "m"
        assert ("r", 77, "in_another_match") in [
            (place.name, place.number, place.reason) for place in activation.boundary.leaving
        ]


# ---- private matches --------------------------------------------------------------------------------


async def secret(system: TestSystem, password: str = "", **options: Any) -> Client:
    host = Client(system, HOST)
    await host.command(MatchCreate, "m", MatchOptions(private=True, **options), password)
    return host


async def test_a_private_match_takes_in_who_is_invited_and_tells_them() -> None:
    async with running() as system:
        host = await secret(system)
        ann = Client(system, player("ann"))
        await refused(ann, "m", "private")
        await host.command(MatchInvite, "m", ["ann"])
        assert system.published.pushes == [("ann", MatchInvited(0, "m", "host"))]
        await ann.command(MatchJoin, "m")
        with pytest.raises(Rejected, match="only the host"):
            await ann.command(MatchInvite, "m", ["bob"])


@pytest.mark.parametrize("blocker", ["ann", "bob"])
async def test_an_invitation_of_a_player_does_not_arrive_where_one_of_the_two_blocks(blocker: str) -> None:
    async with running() as system:
        await created(system, open_invites=True)
        for name in ("ann", "bob", "cyd"):
            await session(system, name)
        ann = Client(system, player("ann"))
        await ann.command(MatchJoin, "m")
        blocked = "ann" if blocker == "bob" else "bob"
        await Client(system, player(blocker)).send(FriendsBlock(1, "l", 1, blocked))
        answer = await ann.command(MatchInvite, "m", ["bob", "cyd"])
        assert answer.next_seq == answer.first_seq + 1
        invited = MatchInvited(0, "m", "player/ann")
        await until(lambda: ("cyd", invited) in system.published.pushes)
        activation = system.find(actor_id("match", "m"))
        assert activation is not None and list(activation.boundary.allowed) == ["bob", "cyd"]
        await Client(system, player(blocker)).send(FriendsUnblock(1, "l", 2, blocked))
        await created(system, "n", open_invites=True)
        await ann.command(MatchJoin, "n")
        await ann.command(MatchInvite, "n", ["bob"])
        await until(lambda: ("bob", MatchInvited(0, "n", "player/ann")) in system.published.pushes)
        assert ("bob", invited) not in system.published.pushes


@pytest.mark.parametrize("caller", [HOST, player("ann")])
async def test_a_muted_caller_invites_nobody_to_a_match(caller: Caller) -> None:
    async with running() as system:
        await created(system, open_invites=True)
        await Client(system, player("ann")).command(MatchJoin, "m")
        muted = Client(system, caller)
        before = muted.send(MatchInvite(1, "before", 1, "m", ["cyd"]))
        first = await before
        order = ModerationMute(1, "l", 1, caller.subject)
        await Client(system, Caller("service", "judge", "s1")).send(order)
        with pytest.raises(Rejected) as refusal:
            await muted.command(MatchInvite, "m", ["bob"])
        assert refusal.value.code == "muted"
        again = await muted.send(MatchInvite(1, "before", 1, "m", ["cyd"]))
        assert again == first, "a command that is repeated is answered as before"


async def test_wrong_passwords_are_counted_by_player(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Match, "GUESSES_S", 20.0)
    async with running() as system:
        await secret(system, "hunter2")
        eve, ann = Client(system, player("eve")), Client(system, player("ann"))
        for guess in range(5):
            await refused(eve, "m", "wrong_password", None, f"guess {guess}")
        await refused(eve, "m", "too_many_guesses", None, "hunter2")
        await ann.command(MatchJoin, "m", None, "hunter2")
        await asyncio.sleep(Match.GUESSES_S + 1)
        await refused(eve, "m", "wrong_password", None, "guess 6")
        await eve.command(MatchJoin, "m", None, "hunter2")


async def test_a_private_match_is_shown_to_those_who_may_come() -> None:
    async with running() as system:
        host = await secret(system)
        await host.command(MatchAllow, "m", ["ann"])
        eve, ann = Client(system, player("eve")), Client(system, player("ann"))
        with pytest.raises(Forbidden):
            await eve.send(MatchGet(1, "m"))
        with pytest.raises(Forbidden):
            await system.ask(actor_id("match", "m"), "admits", (eve.caller,))
        assert (await ann.send(MatchGet(1, "m"))).private
        await system.ask(actor_id("match", "m"), "admits", (ann.caller,))


async def guard(system: TestSystem, *turned: str) -> Guard:
    """The guard of match `m`, which turns these away of `ann`, `eve` and the host, and no others."""
    callers = [player("ann"), player("eve"), HOST]
    told: TurnedAway = await system.ask(actor_id("match", "m"), "turns_away", (callers,))
    assert [callers[place].subject for place in told.refused] == list(turned)
    return told.epoch, told.n


async def test_watchers_of_a_private_match_are_asked_about_again_once_somebody_is_out() -> None:
    async with running() as system:
        host = await secret(system)
        ann = Client(system, player("ann"))
        guards = [await guard(system, "ann", "eve")]
        await host.command(MatchAllow, "m", ["ann", "eve"])
        await ann.command(MatchJoin, "m")
        assert await guard(system) == guards[0], "nobody lost anything"
        await host.command(MatchAllow, "m", ["eve"], False)
        guards.append(await guard(system, "eve"))
        await host.command(MatchReserve, "m", ["eve"], None, 0, 5_000)
        guards.append(await guard(system))
        await asyncio.sleep(5.1)
        guards.append(await guard(system, "eve"))
        await host.command(MatchKick, "m", "ann")
        guards.append(await guard(system, "ann", "eve"))
        await host.command(MatchPassHost, "m", "server-2")
        guards.append(await guard(system, "ann", "eve", HOST.subject))
        assert guards == sorted(set(guards))


async def test_a_match_for_everybody_has_no_guard() -> None:
    async with running() as system:
        host = Client(system, HOST)
        await host.command(MatchCreate, "m", MatchOptions())
        before = await guard(system)
        await Client(system, player("ann")).command(MatchJoin, "m")
        await host.command(MatchKick, "m", "ann")
        assert await guard(system) == before == OPEN


async def listed(system: TestSystem, caller: Caller, limit: int = 10, cursor: str = "") -> list[str]:
    message = MatchList(1, limit, cursor)
    route = App.routes[MatchList]
    assert isinstance(route, QueryRoute)
    rows = await system.query(route.query, route.params(caller, message))
    return [row["match"] for row in rows.rows]


async def test_lists_have_private_matches_only_as_their_options_say() -> None:
    async with running() as system:
        host = Client(system, HOST)
        for number in range(60):
            options = MatchOptions(private=number % 20 != 0, listed=number == 7)
            await host.command(MatchCreate, f"m{number:02}", options)
        assert sorted(await listed(system, player("ann"))) == ["m00", "m07", "m20", "m40"]
        assert len(await listed(system, Caller("service", "shop"), limit=100)) == 60


# ---- kicks ------------------------------------------------------------------------------------------


async def test_a_kicked_player_hears_why_and_is_in_no_match() -> None:
    async with running() as system:
        host = await created(system)
        await session(system, "ann")
        ann = Client(system, player("ann"))
        await ann.command(MatchJoin, "m")
        await until(lambda: place(system, "ann")[0] == "m")
        kick = await host.command(MatchKick, "m", "ann", "afk")
        assert system.published.pushes[-1] == ("ann", MatchKicked(0, "m", "afk"))
        assert not system.published.ends, "its sessions stay"
        await until(lambda: place(system, "ann")[0] == "")
        await refused(ann, "m", "kicked")
        with pytest.raises(Rejected, match="only the host"):
            await Client(system, Caller("host", "other")).command(MatchKick, "m", "bob")
        await host.command(MatchUnkick, "m", "ann", kick.first_seq)
        await ann.command(MatchJoin, "m")
        await until(lambda: place(system, "ann")[0] == "m")


async def test_places_are_reserved_for_a_while() -> None:
    async with running() as system:
        host = await created(system, max_players=2)
        await host.command(MatchReserve, "m", ["ann"], None, 0, 5_000)
        await Client(system, player("eve")).command(MatchJoin, "m")
        eva = Client(system, player("eva"))
        await refused(eva, "m", "match_full")
        await asyncio.sleep(5.1)
        await eva.command(MatchJoin, "m")


# ---- the host's role --------------------------------------------------------------------------------


async def test_a_host_that_reconnects_keeps_its_match() -> None:
    async with running() as system:
        await session(system, "ann")
        host = await created(system)
        await Client(system, player("ann")).command(MatchJoin, "m")
        await host.command(MatchStart, "m")
        back = Client(system, Caller("host", "host", "another-session"))
        await back.command(MatchReport, "m", [Medal(1, "ann", "m")])


async def test_a_silent_hosts_successor_takes_over_and_the_old_host_is_refused() -> None:
    async with running() as system:
        await session(system, "ann")
        host = await created(system)
        await Client(system, player("ann")).command(MatchJoin, "m")
        await host.command(MatchStart, "m")
        await host.command(MatchSuccessor, "m", "second")
        match = system.find(actor_id("match", "m"))
        assert match is not None
        await until(lambda: match.boundary.host == "second", 60.0)
        term = match.boundary.term
        for message in (MatchTick(1, "m", 5), MatchTick(1, "m", 5, term)):
            with pytest.raises(Rejected, match="only the host"):
                await host.send(message)
        with pytest.raises(Rejected, match="only the host"):
            await host.command(MatchReport, "m", [Medal(1, "ann", "m")])
        second = Client(system, Caller("host", "second", "s"))
        await second.command(MatchReport, "m", [Medal(1, "ann", "m")], term)
        await until(lambda: match.boundary.phase == "ended", 60.0)
        assert match.boundary.end_reason == "host_vanished", "nobody was named by the second"


async def test_a_role_is_passed_on_at_once() -> None:
    async with running() as system:
        host = await created(system)
        passed = await host.command(MatchPassHost, "m", "second")
        board = await Client(system, HOST).send(MatchGet(1, "m"))
        assert (board.host, board.term) == ("second", passed.first_seq)
        with pytest.raises(Rejected, match="only the host"):
            await host.command(MatchEnd, "m", 0)
        await Client(system, Caller("host", "second")).command(MatchEnd, "m", 0, board.term)
