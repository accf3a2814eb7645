"""Presence of a node that goes on in another process: whoever watches, anywhere, sees the same all the time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

from server.actors.pictures import Look
from server.errors import BadInput
from server.ids import actor_id
from server.presence import bequest
from server.presence.engine import PresenceEngine, engine_of
from server.presence.ports import WatchedPlayer
from tests.support.engine import TestSystem, cluster, key_owned_by
from tests.support.heirs import bequeath, copy, end, go, stand_by
from tests.support.waiting import until
from tests.unit.test_presence_engine import APP, Player, Showcase, light, looks

pytestmark = pytest.mark.virtual_time


class Street(Showcase):
    """Systems with a presence engine each, some of which succeed others."""

    def before_start(self, system: TestSystem) -> None:
        stays(system)
        if system.outlet is system.published:  # an heir has its engine, and is in standby
            super().before_start(system)


def stays(system: TestSystem) -> None:
    """Let players be where a test has them."""
    system.misplaced.consider = lambda _: None  # type: ignore[method-assign]


@asynccontextmanager
async def street(count: int = 2) -> AsyncIterator[Street]:
    names = [f"node-{number + 1}" for number in range(count)]
    async with cluster(names, app=APP, world=Street) as world:
        assert isinstance(world, Street)
        world.view(*names)
        await until(lambda: all(engine.core.sure for engine in world.engines.values()))
        yield world


def _now(engine: PresenceEngine, name: str, *args: Any) -> None:
    """What the engine does by that name now, in standby or not."""
    getattr(engine, name)(*args)


def heir_of(world: Street, name: str) -> tuple[TestSystem, PresenceEngine]:
    predecessor = world.systems[name]
    heir = stand_by(world, predecessor)
    stays(heir)
    engine = engine_of(msgspec.structs.replace(heir.services, store_queries=world.rows))
    assert engine is not None
    engine.begin(predecessor.me, predecessor.view)
    published: Any = heir.published
    for word in ("show", "hide", "withdraw"):
        setattr(published, word, partial(_now, engine, word))
    return heir, engine


async def succeed(world: Street, name: str, pause_s: float = 0.2, slices: int = 100) -> tuple[TestSystem, Any]:
    predecessor, before = world.systems[name], world.engines[name[-1]]
    heir, engine = heir_of(world, name)
    for _ in range(slices):
        if data := before.copy_ahead():
            engine.inherit_ahead(data)
    copy(predecessor, heir)
    predecessor.hold()
    bequeath(predecessor, heir)
    engine.inherit(before.bequeath())
    await end(world, predecessor)
    await asyncio.sleep(pause_s)
    await go(world, heir, predecessor.me)
    engine.start(heir.me)
    world.engines[name[-1]] = engine
    return heir, engine


async def lit_and_watched(home: TestSystem, watching: PresenceEngine) -> tuple[str, WatchedPlayer]:
    """A player of node-2's slots who is at `home` and looks `a`, and its entry at `watching`, which knows that."""
    key = key_owned_by(home, Player, "node-2")
    await home.catalog.activate(actor_id("lantern", key))
    await light(home, key, b"a")
    [entry] = watching.watch([key])
    await until(lambda: entry.pictures == looks(b"a"))
    return key, entry


class Seen:
    """All that an entry has been."""

    def __init__(self, engine: PresenceEngine, entry: WatchedPlayer) -> None:
        self.was = [(entry.state, entry.pictures)]
        self._entry = entry
        engine.on_change(self._changed)

    def _changed(self, entries: list[WatchedPlayer]) -> None:
        if self._entry in entries:
            self.was.append((self._entry.state, self._entry.pictures))


@pytest.mark.parametrize("owner", ["node-1", "node-2", "node-3"])
@pytest.mark.parametrize("succeeds", ["node-1", "node-2", "node-3"])
async def test_a_watched_player_is_known_all_the_time_whoever_goes_on(owner: str, succeeds: str) -> None:
    """The player is at node-1, and watched at node-3."""
    async with street(3) as world:
        home, watching = world.systems["node-1"], world.engines["3"]
        key = key_owned_by(home, Player, owner)
        await home.catalog.activate(actor_id("lantern", key))
        await light(home, key, b"a", 7)
        [entry] = watching.watch([key])
        entry.watchers = "somebody"
        await watching.answered([entry])
        await asyncio.sleep(1.0)
        seen = Seen(watching, entry)
        answers = watching.core.watching.answers
        _, engine = await succeed(world, succeeds)
        if succeeds == "node-3":
            seen, entry = Seen(engine, engine.core.watching.entries[key]), engine.core.watching.entries[key]
            entry.watchers = "somebody"
        assert seen.was == [("known", looks(b"a"))] and entry.relations == 7
        await asyncio.sleep(12.0)
        assert seen.was == [("known", looks(b"a"))]
        assert world.engines["3"].core.watching.answers == answers, "nothing was told anew"
        assert all(engine.core.sure for engine in world.engines.values())
        await light(world.systems["node-1"], key, b"b", 8)
        await until(lambda: entry.pictures == looks(b"b"))
        await world.systems["node-1"].ask(actor_id("lantern", key), "douse", ())
        await until(lambda: entry.pictures == looks(b"off"))
        assert [state for state, _ in seen.was] == ["known"] * 3


@pytest.mark.parametrize(("pause_s", "states"), [(2.0, []), (4.0, ["unknown", "known"])])
async def test_a_picture_is_known_unless_nobody_speaks_for_long_and_again_soon_after(
    pause_s: float, states: list[str]
) -> None:
    async with street(3) as world:
        home, watching = world.systems["node-1"], world.engines["3"]
        _, entry = await lit_and_watched(home, watching)
        await asyncio.sleep(1.0)
        seen = Seen(watching, entry)
        await succeed(world, "node-2", pause_s)
        await asyncio.sleep(1.0)
        assert [state for state, _ in seen.was[1:]] == states
        assert all(engine.core.sure for engine in world.engines.values())


async def test_changes_of_the_last_moment_are_told_by_the_heir() -> None:
    async with street() as world:
        home, watching = world.systems["node-1"], world.engines["2"]
        key, entry = await lit_and_watched(home, watching)
        world.network.delay = lambda frm, to: None
        await light(home, key, b"b")
        await asyncio.sleep(0.05)
        assert world.engines["1"].core.peers[world.systems["node-2"].me].out.flight is not None
        heir, engine = heir_of(world, "node-1")
        copy(home, heir)
        bequeath(home, heir)
        engine.inherit(world.engines["1"].bequeath())
        await end(world, home)
        world.network.delay = lambda frm, to: 0.001
        await go(world, heir, home.me)
        engine.start(heir.me)
        await until(lambda: entry.pictures == looks(b"b"))


async def test_players_who_look_different_in_the_heir_are_told_of() -> None:
    async with street() as world:
        home, watching = world.systems["node-1"], world.engines["2"]
        key, entry = await lit_and_watched(home, watching)
        entry.watchers = "somebody"
        await asyncio.sleep(2.0)
        heir, engine = heir_of(world, "node-1")
        copy(home, heir)
        actor: Any = heir.find(actor_id("lantern", key)).actor
        actor.seen = Look(looks(b"c"))
        actor.show()
        heir.find(actor_id("lantern", key)).hook(lambda _: None)
        bequeath(home, heir)
        engine.inherit(world.engines["1"].bequeath())
        await end(world, home)
        await go(world, heir, home.me)
        engine.start(heir.me)
        await until(lambda: entry.pictures == looks(b"c"))


async def test_a_copy_that_is_replaced_or_withdrawn_is_shown_as_the_last_one_or_not_at_all() -> None:
    async with street() as world:
        home = world.systems["node-1"]
        for key in ("p", "q"):
            await home.catalog.activate(actor_id("lantern", key))
            await light(home, key, b"a")
        heir, engine = heir_of(world, "node-1")
        copy(home, heir)
        await light(home, "p", b"b")
        copy(home, heir)
        heir.withdraw_copy(actor_id("lantern", "q"))
        assert list(engine.core.home.shown) == ["p"]
        assert engine.core.home.shown["p"].showing().pictures == looks(b"b")
        assert list(engine.core.home.ended.items()) == []


async def test_a_player_whose_actor_cannot_go_over_is_seen_to_be_gone_and_comes_back_with_the_next_call() -> None:
    async with street() as world:
        home, watching = world.systems["node-1"], world.engines["2"]
        key, entry = await lit_and_watched(home, watching)
        player = home.find(actor_id("lantern", key))
        heir, engine = heir_of(world, "node-1")
        home.hold()
        home.leave_to_store(player)
        copy(home, heir)
        bequeath(home, heir)
        engine.inherit(world.engines["1"].bequeath())
        await end(world, home)
        await go(world, heir, home.me)
        engine.start(heir.me)
        await until(lambda: entry.pictures == looks(b"off"))
        assert world.systems["node-2"].directory.find(player.id) is None
        await heir.catalog.activate(player.id)
        await light(heir, key, b"b")
        await until(lambda: entry.pictures == looks(b"b"))


async def test_entries_that_no_session_of_the_heir_watches_are_released() -> None:
    async with street() as world:
        key = key_owned_by(world.systems["node-1"], Player, "node-2")
        [entry] = world.engines["1"].watch([key])
        await until(lambda: entry.state == "known")
        _, engine = await succeed(world, "node-1")
        assert key in engine.core.watching.entries
        await asyncio.sleep(12.0)
        assert engine.core.watching.entries == {}
        await until(lambda: not world.engines["2"].core.peers[world.systems["node-1"].me].heard.interest)


@pytest.mark.parametrize("early", [True, False])
async def test_sessions_that_watch_in_standby_get_the_entries_of_the_predecessor(early: bool) -> None:
    async with street() as world:
        home = world.systems["node-1"]
        key, other = (key_owned_by(home, Player, name) for name in ("node-2", "node-1"))
        [before, _] = world.engines["1"].watch([key, other])
        await until(lambda: before.state == "known")
        heir, engine = heir_of(world, "node-1")
        watched = engine.watch([key, other, "new"]) if early else []
        copy(home, heir)
        bequeath(home, heir)
        engine.inherit(world.engines["1"].bequeath())
        watched = watched or engine.watch([key, other, "new"])
        assert [entry.state for entry in watched] == ["known", "known", "asked"]
        assert [entry.pictures for entry in watched[:2]] == [looks(b"off"), looks(b"off")]
        await end(world, home)
        await go(world, heir, home.me)
        engine.start(heir.me)
        await until(lambda: watched[2].state == "known")


async def test_a_bequest_of_another_run_or_view_is_refused() -> None:
    async with street(3) as world:
        first, second = world.engines["1"], world.engines["2"]
        with pytest.raises(BadInput):
            first.inherit(second.bequeath())


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", b"\x93\x07\x90\x90"])
def test_bytes_that_are_no_bequest_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        bequest.decode(data)
    with pytest.raises(BadInput):
        bequest.decode_ahead(data)
