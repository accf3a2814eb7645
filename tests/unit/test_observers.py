"""Observers of changes at turn boundaries: told of each change once, and free where nobody observes."""

from typing import Any

import pytest

from server.activations.activation import Activation
from server.activations.observed import ObservedActivation
from server.actors.actor import Actor, remote
from server.actors.app import App
from server.errors import Internal
from server.ids import ActorId, actor_id
from tests.support.engine import Cluster, TestSystem, cluster
from tests.support.tiny import Counter, Near, Total

COUNTER, LEDGER, NEAR = actor_id("counter", "a"), actor_id("ledger", "a"), actor_id("near", "a")


class Blip(Actor[Total]):
    """A volatile actor: its turns end inline."""

    kind = "blip"
    State = Total

    @remote
    def add(self, n: int) -> int:
        self.state = Total(self.state.total + n)
        return self.state.total


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[tuple[ActorId, int, int, int]] = []
        self.fails = False

    def __call__(self, identity: ActorId, kind: str, version: int, before: Total, after: Total) -> None:
        assert identity.startswith(kind)
        self.changes.append((identity, version, before.total, after.total))
        if self.fails:
            raise ValueError("planted")


class ObservedCluster(Cluster):
    """A cluster on whose nodes `seen` observes `kinds`."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.seen = Seen()
        self.kinds = [cls.kind for cls in self.app.actors if cls is not Near]

    def before_start(self, system: TestSystem) -> None:
        for kind in self.kinds:
            system.observe(kind, self.seen)


async def test_each_change_is_told_once_with_its_version_and_both_states() -> None:
    async with cluster(world=ObservedCluster) as world:
        system, seen = world.systems["node-1"], world.seen  # type: ignore[attr-defined]
        for identity in (COUNTER, LEDGER):
            assert await system.ask(identity, "add", (2,)) == 2
            assert await system.ask(identity, "add", (3,)) == 5
            await system.ask(identity, "total", ())
        assert seen.changes == [
            (COUNTER, 1, 0, 2), (COUNTER, 2, 2, 5), (LEDGER, 1, 0, 2), (LEDGER, 2, 2, 5),
        ]  # fmt: skip


async def test_changes_of_volatile_actors_are_told_too() -> None:
    async with cluster(app=App("blips", (Blip,)), world=ObservedCluster) as world:
        blip = actor_id("blip", "a")
        assert await world.systems["node-1"].ask(blip, "add", (2,)) == 2
        assert world.systems["node-1"].ask_now(blip, "add", (1,)) == 3
        assert world.seen.changes == [(blip, 1, 0, 2), (blip, 2, 2, 3)]  # type: ignore[attr-defined]


async def test_turns_that_fail_are_not_told() -> None:
    async with cluster(world=ObservedCluster) as world:
        system, seen = world.systems["node-1"], world.seen  # type: ignore[attr-defined]
        with pytest.raises(Internal):
            await system.ask(COUNTER, "change_and_raise", ())
        with pytest.raises(Internal):
            await system.ask(LEDGER, "add_twice_and_raise", ())
        assert seen.changes == []


async def test_loading_is_no_change_and_the_next_one_goes_on_from_there() -> None:
    async with cluster(world=ObservedCluster) as world:
        system, seen = world.systems["node-1"], world.seen  # type: ignore[attr-defined]
        for identity in (COUNTER, LEDGER):
            await system.ask(identity, "add", (2,))
        assert await system.catalog.deactivate(list(system.catalog.live.values())) == 2
        for identity in (COUNTER, LEDGER):
            await system.ask(identity, "add", (1,))
        assert seen.changes[2:] == [(COUNTER, 2, 2, 3), (LEDGER, 2, 2, 3)]


async def test_an_actor_that_moves_is_observed_where_it_goes() -> None:
    async with cluster(("node-1", "node-2"), world=ObservedCluster) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        await source.ask(COUNTER, "add", (2,))
        source, target = (source, target) if source.find(COUNTER) else (target, source)
        activation = source.find(COUNTER)
        assert activation is not None and await source.migrator.move([activation], target.me) == 1
        moved = target.find(COUNTER)
        assert isinstance(moved, ObservedActivation)
        await target.ask(COUNTER, "add", (1,))
        assert world.seen.changes == [(COUNTER, 1, 0, 2), (COUNTER, 2, 2, 3)]  # type: ignore[attr-defined]


async def test_an_observer_that_fails_hinders_neither_the_turn_nor_the_answer() -> None:
    async with cluster(world=ObservedCluster) as world:
        system, seen = world.systems["node-1"], world.seen  # type: ignore[attr-defined]
        seen.fails = True
        assert await system.ask(COUNTER, "add", (2,)) == 2
        assert system.metrics.turn_errors_total == 1 and len(seen.changes) == 1


async def test_kinds_that_nobody_observes_have_plain_activations() -> None:
    async with cluster(world=ObservedCluster) as world:
        system = world.systems["node-1"]
        await system.ask(NEAR, "where", ())
        near = system.find(NEAR)
        assert type(near) is Activation and not hasattr(near, "_observers")
        with pytest.raises(AssertionError, match="before the start"):
            system.observe(Counter.kind, Seen())
