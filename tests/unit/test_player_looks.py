"""A player shows itself: after each turn that changes something visible, and only then."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from game.app import App
from game.player import looks, pictures
from game.player.actor import Player
from game.player.messages import PlayerPicture, PresenceGet, PresenceSet, RichPresence
from server.actors.actor import Caller
from server.actors.facts import Stamp
from server.actors.pictures import Pictures, Showing
from server.errors import Unavailable
from server.ids import actor_id
from tests.support.engine import TestSystem, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

FAST: dict[str, Any] = {"store": {"group_commit_s": 0.001, "flush_interval_s": 0.02}}
ANN = actor_id("player", "ann")
RICH = RichPresence("Slayer", "Recharge", "24-19")


def session(name: str = "s1", player: str = "ann") -> Caller:
    return Caller("player", player, name)


@asynccontextmanager
async def running() -> AsyncIterator[TestSystem]:
    async with cluster(app=App, **FAST) as world:
        system = world.systems["node-1"]
        system.supervisor.spawn(system.write_behind.run(), "write-behind")
        yield system


def shown(system: TestSystem) -> list[Pictures]:
    """The pictures of ann that were shown, one after the other."""
    out = [each.pictures for actor, _, each in system.published.shown if actor == ANN and isinstance(each, Showing)]
    return [each for each in out if each is not None]


def read(data: bytes) -> PlayerPicture:
    return msgspec.msgpack.decode(data, type=PlayerPicture)


def friends_of(system: TestSystem) -> list[PlayerPicture]:
    return [read(each.friends) for each in shown(system)]


async def says(system: TestSystem, status: Any, activity: str = "", rich: RichPresence | None = None) -> None:
    await system.ask(ANN, "presence_set", (session(), PresenceSet(1, status, activity, rich)))


async def test_each_visible_change_is_shown_once() -> None:
    async with running() as system:
        await system.ask(ANN, "connected", (session(),))
        await says(system, "busy", "24-19", RICH)
        await says(system, "busy", "24-19", RICH)
        await system.ask(ANN, "match_joined", ("m1", 7, 1))
        await system.ask(ANN, "match_left", ("m1", 7, 1))
        await system.ask(ANN, "disconnected", (session(), "closed"))
        activation = system.find(ANN)
        assert activation is not None
        seen_ms = activation.boundary.last_seen_ms
        assert friends_of(system) == [
            PlayerPicture("online"),
            PlayerPicture("busy", 0, "24-19", None, RICH),
            PlayerPicture("busy", 0, "24-19", "m1", RICH),
            PlayerPicture("busy", 0, "24-19", None, RICH),
            PlayerPicture("offline", seen_ms),
        ]
        assert [read(each.everybody).status for each in shown(system)] == ["online", "busy", "busy", "busy", "offline"]


async def test_a_heartbeat_that_changes_nothing_makes_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as system:
        await system.ask(ANN, "connected", (session(),))
        activation = system.find(ANN)
        assert activation is not None
        activation.call("beat", (session(), "busy"))
        made: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(looks.pictures, "pictures", lambda *_: made.append("one"))
            patch.setattr(Player, "show_itself", lambda _: made.append("looked"))
            for _ in range(3):
                activation.call("beat", (session(), None))
                activation.call("beat", (session(), "busy"))
            assert made == []
            activation.call("beat", (session(), "online"))
            assert made == ["looked"], "planted: the spy sees what there is to see"


async def test_minutes_of_a_player_who_is_here_are_not_visible() -> None:
    async with running() as system:
        await system.ask(ANN, "connected", (session(),))
        activation = system.find(ANN)
        assert activation is not None
        first_ms = activation.boundary.last_seen_ms

        def has_passed() -> bool:
            activation.call("beat", (session(), None))
            return bool(activation.boundary.last_seen_ms > first_ms)

        await until(has_passed, 200.0)
        assert friends_of(system) == [PlayerPicture("online")]


async def test_an_invisible_player_shows_the_same_whatever_it_does() -> None:
    async with running() as system:
        await system.ask(ANN, "connected", (session(),))
        await says(system, "invisible")
        before = shown(system)[-1]
        await says(system, "invisible", "24-19", RICH)
        await system.ask(ANN, "match_joined", ("m1", 7, 1))
        await system.ask(ANN, "disconnected", (session(), "closed"))
        await system.ask(ANN, "connected", (session("s2"),))
        after = shown(system)[2:]
        assert len(after) >= 3, "its own devices see it all"
        assert {(each.everybody, each.friends) for each in after} == {(before.everybody, before.friends)}
        assert read(before.friends).status == "offline" and read(after[-1].own).status == "invisible"


async def test_a_mute_hides_the_line_for_as_long_as_it_lasts() -> None:
    async with running() as system:
        await system.ask(ANN, "connected", (session(),))
        await says(system, "online", "rude")
        until_ms = system.clock.wall_ms() + 60_000
        await system.ask(ANN, "standing", (Stamp(0, 1), 0, "", until_ms, 0))
        assert friends_of(system)[-1] == PlayerPicture("online")
        assert read(shown(system)[-1].own).activity == "rude"
        seen = await system.ask(ANN, "presence_get", (session(player="bob"), PresenceGet(1, "ann")))
        assert seen.activity == ""

        def is_over() -> bool:
            activation = system.find(ANN)
            assert activation is not None
            activation.call("beat", (session(), None))
            return friends_of(system)[-1].activity == "rude"

        await until(is_over, 90.0)
        assert system.clock.wall_ms() >= until_ms


async def test_a_change_that_could_not_be_kept_is_shown_when_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as system:
        await system.ask(ANN, "connected", (session(),))

        def refuse(*_args: object) -> bool:
            raise Unavailable("planted: no lease")

        with monkeypatch.context() as patch:
            patch.setattr(system.durability, "accept", refuse)
            with pytest.raises(Unavailable):
                await system.ask(ANN, "disconnected", (session(), "closed"))
        assert [each.status for each in friends_of(system)] == ["online"]
        await until(lambda: friends_of(system)[-1].status == "offline", 60.0)


async def test_a_player_of_whom_only_the_row_says_that_it_is_here_shows_nothing() -> None:
    async with cluster(("node-1", "node-2"), app=App, **FAST) as world:
        for system in world.systems.values():
            system.misplaced.home = lambda actor, system=system: system.me  # type: ignore[method-assign,misc]
            system.supervisor.spawn(system.write_behind.run(), "write-behind")
        one = world.systems["node-1"]
        await one.ask(ANN, "connected", (session(),))
        home = next(system for system in world.systems.values() if system.find(ANN) is not None)
        other = next(system for system in world.systems.values() if system is not home)
        await until(lambda: stored(home) == "online")
        row = {"key": "ann", "status": "online", "last_seen_ms": 5}
        assert pictures.gone(row).friends == pictures.UNKNOWN
        activation = home.find(ANN)
        assert activation is not None
        assert await home.migrator.move([activation], other.me) == 1
        await other.ask(ANN, "disconnected", (session(), "closed"))
        assert [each.status for each in friends_of(other)] == ["online", "offline"], "goes on where it was"


def stored(system: TestSystem) -> str:
    activation = system.find(ANN)
    return activation.boundary.status if activation is not None and activation.is_stored(activation.version) else ""


@pytest.mark.parametrize(
    ("row", "status", "seen_ms"),
    [
        (None, "offline", 0),
        ({"status": "offline", "last_seen_ms": 5}, "offline", 5),
        ({"status": "invisible", "last_seen_ms": 5}, "offline", 5),
        ({"status": "online", "last_seen_ms": 5}, "unknown", 0),
        ({"status": "away", "last_seen_ms": 5}, "unknown", 0),
    ],
)
def test_rows_of_players_who_are_not_here(row: dict[str, Any] | None, status: str, seen_ms: int) -> None:
    gone = pictures.gone(row)
    assert read(gone.everybody) == PlayerPicture(status, seen_ms)  # type: ignore[arg-type]
    assert gone.everybody is gone.friends is gone.own
