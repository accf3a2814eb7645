"""Results of a match that is over get to its players, each once, whatever happens on the way."""

from typing import Any

import msgspec
import pytest

from game.app import App
from game.match.actor import Match
from game.match.state import Line
from game.messages import Kill, MatchCreate, MatchEnd, MatchGet, MatchJoin, MatchOptions, MatchReport, MatchStart
from game.player.rules import MAX_SETTLED
from persistence.game.queries import Career
from server.actors.actor import Caller
from server.errors import Unavailable
from server.ids import ActorId, actor_id
from server.storage.queries import MemoryQuery
from tests.support.engine import Cluster, TestSystem, cluster, key_owned_by
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

SETTINGS: dict[str, Any] = {
    "store": {"group_commit_s": 0.001, "flush_interval_s": 1.0},
    "actors": {"reminder_poll_s": 1.0, "collect_interval_s": 1.0},
}
HOST = Caller("host", "host", "h1")


def flushing(*systems: TestSystem) -> None:
    for system in systems:
        system.supervisor.spawn(system.write_behind.run(), "write-behind")


async def ended(system: TestSystem, match: ActorId, players: list[str], mode: Any = "recorded") -> None:
    """A match in which each of `players` has one kill."""
    key = match.partition("/")[2]
    options = MatchOptions(mode=mode, countdown_ms=0, score_limit=0)
    await system.ask(match, "create", (HOST, MatchCreate(1, "line", 1, key, options)))
    await system.ask(match, "start", (HOST, MatchStart(1, "line", 2, key)))
    for begin in range(0, len(players), 256):
        kills: list[Any] = [Kill(begin, player, None) for player in players[begin : begin + 256]]
        await system.ask(match, "report", (HOST, MatchReport(1, "line", 3 + begin, key, kills)))
    await system.ask(match, "end", (HOST, MatchEnd(1, "end", 1, key)))


def totals(world: Cluster) -> dict[str, tuple[int, int]]:
    """Matches and kills of each player, as they are stored."""
    found = {}
    for id, entity in world.database.entities.items():
        if id.startswith("player/") and entity.state is not None:
            state = msgspec.msgpack.decode(entity.state, type=App.actor("player").State)  # type: ignore[union-attr]
            found[id.partition("/")[2]] = (state.matches, state.kills)
    return found


def deaf(system: TestSystem) -> None:
    """From here on no player hears of a result."""

    async def nobody(*args: Any) -> Any:
        raise Unavailable("not now")

    system.dispatcher.confirm = nobody  # type: ignore[method-assign]


async def test_f4_three_thousand_results_are_all_stored() -> None:
    players = [f"p{number}" for number in range(3_000)]
    async with cluster(("node-1", "node-2"), app=App, **SETTINGS) as world:
        system = world.systems["node-1"]
        flushing(*world.systems.values())
        match = actor_id("match", key_owned_by(system, Match, "node-1"))
        begin = system.clock.now()
        await ended(system, match, players)
        await until(lambda: system.find(match) is None, 120.0)  # it has told all, and left memory
        assert totals(world) == dict.fromkeys(players, (1, 1))
        assert not world.database.entities[match].open_facts
        assert system.clock.now() - begin < 20.0, "a window at a time, a flush each: no rounds"


async def test_f4_results_that_nobody_heard_of_are_told_when_the_node_is_gone() -> None:
    async with cluster(("node-1", "node-2"), app=App, **SETTINGS) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        flushing(source, target)
        match = actor_id("match", key_owned_by(source, Match, "node-1"))
        deaf(source)
        await ended(source, match, ["ann", "bob"])
        await until(lambda: source.metrics.facts_repeated_total > 40, 3_600.0)
        assert source.find(match) is not None and totals(world) == {}, "it gives nothing up"
        await world.remove("node-1", clean=True)
        await target.store.retire_node(source.me)
        world.show("node-2")
        await until(lambda: totals(world) == {"ann": (1, 1), "bob": (1, 1)}, 60.0)
        await until(lambda: not world.database.entities[match].open_facts)


async def test_a_match_that_has_told_its_results_does_not_tell_them_again() -> None:
    async with cluster(("node-1",), app=App, **SETTINGS) as world:
        system = world.systems["node-1"]
        flushing(system)
        match = actor_id("match", "m")
        await ended(system, match, ["ann"])
        await until(lambda: system.find(match) is None)
        told = system.metrics.facts_done_total
        board = await system.ask(match, "get", (HOST, MatchGet(1, "m")))
        assert board.phase == "ended" and (told, system.metrics.facts_done_total) == (2, 2)


async def careers(world: Cluster, system: TestSystem) -> None:
    """One result more than a player remembers, one after the other."""
    for count in range(1, MAX_SETTLED + 2):
        await ended(system, actor_id("match", f"m{count - 1}"), ["ann"])
        await until(lambda count=count: totals(world).get("ann", (0, 0))[0] == count)  # type: ignore[misc]


async def test_f5_a_clock_that_is_behind_loses_no_result() -> None:
    """The 66th match of a player ends on a node whose clock is three hours behind: below everything remembered."""
    asked: list[Career] = []

    def rows(states: Any, given: Career) -> Any:
        asked.append(given)
        return []

    queries = {"career": MemoryQuery(Career, rows)}
    async with cluster(("node-1",), app=App, queries=queries, **SETTINGS) as world:
        system = world.systems["node-1"]
        flushing(system)
        await careers(world, system)
        assert asked == []
        wall_ms = system.clock.wall_ms
        system.clock.wall_ms = lambda: wall_ms() - 3 * 3_600_000  # type: ignore[method-assign]
        await ended(system, actor_id("match", "late"), ["ann"])
        await until(lambda: totals(world)["ann"][0] == MAX_SETTLED + 2)
        assert [given.match for given in asked] == ["late"]


async def test_f5_an_old_result_that_is_told_again_is_asked_for_in_the_store() -> None:
    counted = {"m0"}
    queries = {"career": MemoryQuery(Career, lambda states, given: [{"birth": 1}] * (given.match in counted))}
    async with cluster(("node-1",), app=App, queries=queries, **SETTINGS) as world:
        system = world.systems["node-1"]
        flushing(system)
        await careers(world, system)
        first = (await system.activate(actor_id("match", "m0"))).boundary
        again = ("m0", first.ended_wall_ms, first.players["ann"], False, first.created_wall_ms)
        await system.dispatcher.confirm(actor_id("player", "ann"), "settle", again)
        assert totals(world)["ann"] == (MAX_SETTLED + 1, MAX_SETTLED + 1)


async def test_a_match_of_an_earlier_version_is_answered() -> None:
    """It tells no birth, and waits for `settled` once the result is stored."""
    async with cluster(("node-1",), app=App, **SETTINGS) as world:
        system = world.systems["node-1"]
        told: list[Any] = []
        system.tell = lambda *args: told.append(args)  # type: ignore[method-assign]
        await ended(system, actor_id("match", "m"), [])
        ann = actor_id("player", "ann")
        for _ in range(2):
            await system.ask(ann, "settle", ("m", 5, Line(kills=2), True))
            await system.write_behind.flush()
        assert ("match/m", "settled", ("ann",)) in told
        assert totals(world)["ann"] == (1, 2)


async def test_a_player_who_joined_has_left_with_the_result() -> None:
    async with cluster(("node-1",), app=App, **SETTINGS) as world:
        system = world.systems["node-1"]
        flushing(system)
        ann, match = Caller("player", "ann", "s1"), actor_id("match", "m")
        await system.ask(actor_id("player", "ann"), "connected", (ann,))
        await system.ask(match, "create", (HOST, MatchCreate(1, "line", 1, "m", MatchOptions(mode="recorded"))))
        await system.ask(match, "join", (ann, MatchJoin(1, "ann", 1, "m")))
        await until(lambda: system.find(actor_id("player", "ann")).boundary.match == "m")  # type: ignore[union-attr]
        await system.ask(match, "start", (HOST, MatchStart(1, "line", 2, "m")))
        await system.ask(match, "end", (HOST, MatchEnd(1, "end", 1, "m")))
        await until(lambda: totals(world) == {"ann": (1, 0)})
        assert system.find(actor_id("player", "ann")).boundary.match == ""  # type: ignore[union-attr]
