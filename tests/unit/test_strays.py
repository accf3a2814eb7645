"""Players whose node died and who never come back (F6): their rows, rosters and last seen become right, at a pace."""

import asyncio
from typing import Any

import pytest

from game.app import App as Game
from game.messages import MatchCreate, MatchJoin, MatchOptions, MatchStart
from game.player.actor import Player
from game.player.messages import Presence, PresenceGet
from game.player.state import PlayerState
from game.replay import final_state
from server.actors.actor import Caller
from server.catalog.orphans import OrphanLimits
from server.catalog.strays import JITTER, LOOKS_S
from server.ids import ActorId, actor_id
from server.storage.ports import Stored
from tests.support.engine import Cluster, TestSystem, cluster, key_owned_by
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

HOST = Caller("host", "host", "h1")
FAST: dict[str, Any] = {"store": {"group_commit_s": 0.001, "flush_interval_s": 0.02}}
SLOW: dict[str, Any] = {**FAST, "actors": {"rebalance_per_s": 100}}
FIRST_LOOK_S = (1 + JITTER) * float(Player.strays_after_s or 0.0)
LAST_LOOK_S = FIRST_LOOK_S + (1 + JITTER) * LOOKS_S[-1]


def caller(name: str, session: str = "s1") -> Caller:
    return Caller("player", name, session)


async def comes(system: TestSystem, name: str) -> ActorId:
    identity = actor_id("player", name)
    await system.ask(identity, "connected", (caller(name),))
    return identity


async def row(system: TestSystem, identity: ActorId) -> PlayerState:
    stored: Stored = (await system.store.read("player", [identity]))[identity]
    assert isinstance(stored.state, PlayerState)
    return stored.state


async def killed(world: Cluster, name: str) -> TestSystem:
    """`name` stores what it has and is killed; the others hear it, and the store."""
    dead = world.systems[name]
    await dead.write_behind.flush()
    await world.remove(name)
    left = list(world.systems)
    world.show(*left)
    survivor = world.systems[left[0]]
    await survivor.store.bury(dead.me)
    return survivor


def flushing(world: Cluster) -> None:
    for system in world.systems.values():
        system.supervisor.spawn(system.write_behind.run(), "write-behind")


async def test_a_player_who_never_returns_is_offline_where_it_was_last_seen_and_out_of_its_match() -> None:
    async with cluster(("node-1", "node-2"), app=Game, **FAST) as world:
        flushing(world)
        one, two = world.systems["node-1"], world.systems["node-2"]
        name, key = key_owned_by(one, Player, "node-1"), "m1"
        while one.owner(actor_id("match", key)) != two.me:
            key += "1"
        match = actor_id("match", key)
        options = MatchOptions(countdown_ms=0)
        await two.ask(match, "create", (HOST, MatchCreate(1, "line", 1, key, options)))
        player = await comes(one, name)
        await one.ask(match, "join", (caller(name), MatchJoin(2, "line", 1, key)))
        await two.ask(match, "start", (HOST, MatchStart(3, "line", 2, key, 0)))
        await until(lambda: one.find(player).boundary.match == key)  # type: ignore[union-attr]
        seen_ms = one.find(player).boundary.last_seen_ms  # type: ignore[union-attr]
        assert await killed(world, "node-1") is two
        before = await row(two, player)
        assert (before.status, before.match, before.last_seen_ms) == ("online", key, seen_ms)
        await asyncio.sleep(FIRST_LOOK_S + Player.ABSENT_S + 1.0)
        after = await row(two, player)
        assert (after.status, after.match, after.last_seen_ms) == ("offline", "", seen_ms)
        log = await two.logs.read_log("match", match)
        assert log is not None and not final_state(log).players[name].present
        said: Presence = await two.ask(player, "presence_get", (HOST, PresenceGet(9, name)))
        assert (said.status, said.match, said.last_seen_ms) == ("offline", None, seen_ms)
        assert await two.store.strays("player", 10) == []


async def test_presence_that_is_asked_for_before_anybody_has_looked_says_the_last_time_too() -> None:
    async with cluster(("node-1", "node-2"), app=Game, **FAST) as world:
        flushing(world)
        one, two = world.systems["node-1"], world.systems["node-2"]
        name = key_owned_by(one, Player, "node-1")
        player = await comes(one, name)
        seen_ms = one.find(player).boundary.last_seen_ms  # type: ignore[union-attr]
        await killed(world, "node-1")
        await two.ask(player, "presence_get", (HOST, PresenceGet(9, name)))
        await asyncio.sleep(Player.ABSENT_S + 0.5)
        said: Presence = await two.ask(player, "presence_get", (HOST, PresenceGet(9, name)))
        assert (said.status, said.last_seen_ms) == ("offline", seen_ms)


async def test_players_who_come_back_meanwhile_are_not_woken() -> None:
    async with cluster(("node-1", "node-2"), app=Game, **FAST) as world:
        flushing(world)
        one = world.systems["node-1"]
        names = [name for name in (f"p{n}" for n in range(60)) if one.owner(actor_id("player", name)) == one.me]
        for name in names:
            await comes(one, name)
        two = await killed(world, "node-1")
        await asyncio.sleep(3.0)
        for name in names[::2]:
            await comes(two, name)
        await asyncio.sleep(LAST_LOOK_S)
        assert two.metrics.orphans_woken_total == len(names[1::2])
        for name in names:
            expected = "online" if name in names[::2] else "offline"
            assert (await row(two, actor_id("player", name))).status == expected


async def test_thousands_who_are_gone_are_woken_at_the_pace_of_moves_and_each_claimed_once() -> None:
    async with cluster(("node-1", "node-2"), app=Game, **SLOW) as world:
        flushing(world)
        one = world.systems["node-1"]
        names = [name for name in (f"p{n}" for n in range(2_000)) if one.owner(actor_id("player", name)) == one.me]
        for name in names:
            await comes(one, name)
        two = await killed(world, "node-1")
        two.strays.limits = OrphanLimits(page=20, under_way=40)
        claims = two.metrics.claims_total
        await until(lambda: two.metrics.orphans_woken_total > 0, 30.0)
        woken, began = two.metrics.orphans_woken_total, two.clock.now()
        await asyncio.sleep(3.0)
        rate = (two.metrics.orphans_woken_total - woken) / (two.clock.now() - began)
        assert rate <= 1.5 * 100, "paced by actors.rebalance_per_s"
        await until(lambda: two.metrics.orphans_woken_total == len(names), 60.0)
        await asyncio.sleep(LAST_LOOK_S)
        assert two.metrics.claims_total - claims == len(names)
        assert await two.store.strays("player", 10) == []


async def test_a_cluster_that_was_stopped_as_a_whole_finds_who_did_not_come_back() -> None:
    async with cluster(("node-1",), app=Game, **FAST) as world:
        flushing(world)
        one = world.systems["node-1"]
        player = await comes(one, "ann")
        await one.write_behind.flush()
        await world.remove("node-1", clean=True)
        after = await world.add("node-2")
        after.supervisor.spawn(after.write_behind.run(), "write-behind")
        world.show("node-2")
        assert (await row(after, player)).status == "online", "nobody said that the session had ended"
        await asyncio.sleep(FIRST_LOOK_S + Player.ABSENT_S + 1.0)
        assert (await row(after, player)).status == "offline"


async def test_a_player_who_is_here_is_never_a_stray() -> None:
    async with cluster(("node-1", "node-2", "node-3"), app=Game, **FAST) as world:
        flushing(world)
        one, two = world.systems["node-1"], world.systems["node-2"]
        names = [f"p{n}" for n in range(60)]
        for name in names:
            await comes(one, name)
        for system in (one, two):
            await system.write_behind.flush()
        await killed(world, "node-3")
        lost = [name for name in names if one.find(actor_id("player", name)) is two.find(actor_id("player", name))]
        assert lost
        await asyncio.sleep(LAST_LOOK_S + Player.ABSENT_S + 1.0)
        woken = one.metrics.orphans_woken_total + world.systems["node-2"].metrics.orphans_woken_total
        assert woken == len(lost)
        for name in names:
            status = (await row(one, actor_id("player", name))).status
            assert status == ("offline" if name in lost else "online"), name
