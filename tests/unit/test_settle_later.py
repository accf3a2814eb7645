"""Results that could not be told when a match ended are told later, by whatever node there is."""

from typing import Any

import pytest
from msgspec.structs import replace

from game.app import App
from game.match.actor import SETTLE_LATER_MS, Match
from game.messages import MatchCreate, MatchEnd, MatchJoin, MatchOptions, MatchStart
from server.actors.actor import Caller
from server.ids import ActorId, actor_id
from server.storage.ports import Reminder
from tests.support.engine import TestSystem, cluster, key_owned_by
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

SETTINGS: dict[str, Any] = {
    "store": {"group_commit_s": 0.001, "flush_interval_s": 1.0},
    "actors": {"reminder_poll_s": 1.0, "collect_interval_s": 1.0},
}
SETTLED_S = 1_800.0
"""Longer than all rounds of telling."""
HOST = Caller("host", "host", "h1")


def deaf(system: TestSystem) -> None:
    """From here on no player hears of a result."""
    tell = system.tell

    def without_results(identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        if not (name == "settle" and identity.startswith("player/")):
            tell(identity, name, args)

    system.tell = without_results  # type: ignore[method-assign]


async def played(system: TestSystem, match: ActorId) -> None:
    key = match.partition("/")[2]
    ann = Caller("player", "ann", "s1")
    await system.ask(
        match, "create", (HOST, MatchCreate(1, "line", 1, key, MatchOptions(mode="slayer", countdown_ms=0)))
    )
    await system.ask(match, "join", (ann, MatchJoin(1, "ann", 1, key)))
    await system.ask(match, "start", (HOST, MatchStart(1, "line", 2, key)))
    await system.ask(match, "end", (HOST, MatchEnd(1, "line", 3, key)))


async def test_a_match_that_gives_up_sets_a_reminder_and_another_node_goes_on() -> None:
    async with cluster(("node-1", "node-2"), app=App, **SETTINGS) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        for system in (source, target):
            system.supervisor.spawn(system.write_behind.run(), "write-behind")
        match = actor_id("match", key_owned_by(source, Match, "node-1"))
        deaf(source)
        await played(source, match)
        reminders = world.database.reminders
        await until(lambda: (match, "settle_again") in reminders)
        assert reminders[match, "settle_again"].due_ms > source.clock.wall_ms() + SETTLE_LATER_MS / 2
        await until(lambda: source.find(match) is None, SETTLED_S)  # it has given up and left memory
        await world.remove("node-1")
        await target.store.bury(source.me)
        world.show("node-2")
        reminders[match, "settle_again"] = replace(reminders[match, "settle_again"], due_ms=1)  # half an hour later
        await until(lambda: not reminders)
        ann = actor_id("player", "ann")
        assert (await target.store.read("player", [ann]))[ann].state.matches == 1


async def test_a_match_that_settles_at_once_sets_none() -> None:
    async with cluster(("node-1",), app=App, **SETTINGS) as world:
        system = world.systems["node-1"]
        match = actor_id("match", "m")
        statements: list[Reminder] = []
        real = system.store.set_reminder

        async def noted(one: Reminder) -> bool:
            statements.append(one)
            return await real(one)

        system.store.set_reminder = noted  # type: ignore[method-assign]
        system.supervisor.spawn(system.write_behind.run(), "write-behind")
        await played(system, match)
        await until(lambda: system.find(match) is None)
        assert statements == []
