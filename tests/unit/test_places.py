"""A player says in which match it is, and rosters mirror it, whatever is lost on the way (F6, F7)."""

from typing import Any

import pytest

from game.app import App
from game.messages import MatchCreate, MatchJoin, MatchLeave, MatchOptions, MatchTick
from game.player.actor import Player
from server.actors.actor import Caller
from server.errors import Unavailable
from server.ids import ActorId, actor_id
from tests.support.engine import Cluster, TestSystem, cluster, key_owned_by
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

SETTINGS: dict[str, Any] = {"store": {"group_commit_s": 0.001}}
HOST = Caller("host", "host", "h1")
OPTIONS = MatchOptions(mode="recorded", score_limit=0, time_limit_ms=0)


class Game:
    """A cluster of two: players live on node-1, matches on node-2."""

    def __init__(self, world: Cluster) -> None:
        self.world = world
        self.players, self.matches = world.systems["node-1"], world.systems["node-2"]
        for system in (self.players, self.matches):
            system.supervisor.spawn(system.write_behind.run(), "write-behind")
        self.number = 0

    async def player(self) -> Caller:
        caller = Caller("player", key_owned_by(self.players, Player, "node-1"), "s1")
        await self.players.ask(actor_id("player", caller.subject), "connected", (caller,))
        return caller

    async def match(self, name: str) -> ActorId:
        key = next(
            key
            for key in (f"{name}{number}" for number in range(1_000))
            if self.matches.owner(actor_id("match", key)) == self.matches.me
        )
        match = actor_id("match", key)
        await self.matches.ask(match, "create", (HOST, MatchCreate(1, "l", 1, key, OPTIONS)))
        return match

    async def join(self, caller: Caller, match: ActorId) -> None:
        self.number += 1
        await self.matches.ask(match, "join", (caller, MatchJoin(1, "l", self.number, match.partition("/")[2])))

    def roster(self, match: ActorId) -> list[str]:
        state: Any = self.matches.find(match).boundary  # type: ignore[union-attr]
        return [player for player, line in state.players.items() if line.present]

    def is_in(self, caller: Caller) -> str:
        system = self.players if self.players.find(actor_id("player", caller.subject)) else self.matches
        return str(system.find(actor_id("player", caller.subject)).boundary.match)  # type: ignore[union-attr]


def deaf(system: TestSystem) -> Any:
    """From here on nobody hears of what actors of `system` have to tell; gives what undoes that."""
    real = system.dispatcher.confirm

    async def nobody(*args: Any) -> Any:
        raise Unavailable("not now")

    system.dispatcher.confirm = nobody  # type: ignore[method-assign]
    return lambda: setattr(system.dispatcher, "confirm", real)


async def test_f7_a_player_who_joins_another_match_leaves_the_first() -> None:
    async with cluster(("node-1", "node-2"), app=App, **SETTINGS) as world:
        game = Game(world)
        ann, one, two = await game.player(), await game.match("one"), await game.match("two")
        await game.join(ann, one)
        await until(lambda: game.is_in(ann) == one.partition("/")[2])
        await game.join(ann, two)
        await until(lambda: game.roster(one) == [])
        assert game.roster(two) == [ann.subject] and game.is_in(ann) == two.partition("/")[2]


async def test_f6_a_player_who_has_gone_is_gone_though_its_node_died_before_it_could_say_so() -> None:
    async with cluster(("node-1", "node-2"), app=App, **SETTINGS) as world:
        game = Game(world)
        ann, one = await game.player(), await game.match("one")
        await game.join(ann, one)
        await until(lambda: game.is_in(ann) == one.partition("/")[2])
        deaf(game.players)
        await game.players.ask(actor_id("player", ann.subject), "disconnected", (ann, "gone"))
        stored = world.database.entities
        await until(lambda: stored[actor_id("player", ann.subject)].open_facts, 30.0)
        assert game.roster(one) == [ann.subject]
        dead = game.players.me
        await world.remove("node-1")
        await game.matches.store.bury(dead)
        world.show("node-2")
        for _ in range(10):
            await game.matches.ask(one, "tick", (HOST, MatchTick(1, one.partition("/")[2], 0)))
        await until(lambda: game.roster(one) == [], 30.0)
        await until(lambda: not stored[actor_id("player", ann.subject)].open_facts)


async def test_f6_a_place_that_its_player_never_heard_of_is_told_when_the_match_is_back() -> None:
    async with cluster(("node-1", "node-2"), app=App, **SETTINGS) as world:
        game = Game(world)
        ann, one = await game.player(), await game.match("one")
        deaf(game.matches)
        await game.join(ann, one)
        await until(lambda: game.matches.metrics.facts_repeated_total > 0)
        assert game.is_in(ann) == ""
        dead = game.matches.me
        await world.remove("node-2")
        await game.players.store.bury(dead)
        world.show("node-1")
        await until(lambda: game.is_in(ann) == one.partition("/")[2], 30.0)


async def test_f6_a_delayed_leave_does_not_take_out_who_has_come_back() -> None:
    async with cluster(("node-1", "node-2"), app=App, **SETTINGS) as world:
        game = Game(world)
        ann, one = await game.player(), await game.match("one")
        await game.join(ann, one)
        await until(lambda: game.is_in(ann) == one.partition("/")[2])
        hear = deaf(game.players)
        player = actor_id("player", ann.subject)
        await game.players.ask(player, "disconnected", (ann, "gone"))
        await until(lambda: game.is_in(ann) == "", 30.0)
        await game.players.ask(player, "connected", (ann,))
        await game.join(ann, one)
        await until(lambda: game.is_in(ann) == one.partition("/")[2])
        hear()
        await until(lambda: not game.players.find(player).telling, 60.0)  # type: ignore[union-attr]
        assert game.roster(one) == [ann.subject] and game.is_in(ann) == one.partition("/")[2]


async def test_f6_a_match_that_there_is_not_any_more_ends_that_place_only() -> None:
    async with cluster(("node-1", "node-2"), app=App, **SETTINGS) as world:
        game = Game(world)
        ann, one, two = await game.player(), await game.match("one"), await game.match("two")
        await game.join(ann, one)
        await until(lambda: game.is_in(ann) == one.partition("/")[2])
        activation = game.matches.find(one)
        assert activation is not None
        game.matches.catalog.discard(activation, Unavailable("an operator has dropped it"))
        del world.database.entities[one]
        await game.join(ann, two)
        player = game.players.find(actor_id("player", ann.subject))
        assert player is not None
        await until(lambda: game.is_in(ann) == two.partition("/")[2])
        await until(lambda: player.boundary.leaving == ())
        assert game.roster(two) == [ann.subject] and one not in world.database.entities


async def test_a_player_who_leaves_is_told_until_it_has_stored_that() -> None:
    async with cluster(("node-1", "node-2"), app=App, **SETTINGS) as world:
        game = Game(world)
        ann, one = await game.player(), await game.match("one")
        await game.join(ann, one)
        await until(lambda: game.is_in(ann) == one.partition("/")[2])
        hear = deaf(game.matches)
        await game.matches.ask(one, "leave", (ann, MatchLeave(1, "l", 99, one.partition("/")[2])))
        await until(lambda: game.matches.metrics.facts_repeated_total > 2)
        assert game.is_in(ann) == one.partition("/")[2]
        hear()
        await until(lambda: game.is_in(ann) == "", 60.0)
