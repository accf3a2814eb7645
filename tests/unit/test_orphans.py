"""Matches that lost their node are woken by the owners of their slots, with nobody calling them."""

import asyncio
from typing import Any

import pytest

from game.app import App as Game
from game.match.actor import Match
from game.messages import MatchCreate, MatchOptions
from server.actors.actor import Caller
from server.actors.app import App
from server.catalog.orphans import LIMITS, OrphanLimits
from server.errors import Unavailable
from server.ids import ActorId, actor_id
from tests.support.engine import Cluster, TestSystem, cluster, key_owned_by
from tests.support.tiny import Ledger
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

HOST = Caller("host", "host", "h1")
FAST: dict[str, Any] = {"store": {"group_commit_s": 0.001}}
SLOW_LOOK: dict[str, Any] = {**FAST, "actors": {"orphan_poll_s": 3_600}}


class Lasting(Ledger):
    lives_on = True


TINY = App(name="lasting", actors=(Lasting,))


async def match_on(world: Cluster, node: str) -> ActorId:
    """A match that nobody joined, on its slot's owner `node`."""
    system = world.systems[node]
    key = key_owned_by(system, Match, node)
    await system.ask(actor_id("match", key), "create", (HOST, MatchCreate(1, "line", 1, key, MatchOptions())))
    return actor_id("match", key)


async def die(world: Cluster, node: str) -> TestSystem:
    """`node` ends without a goodbye, and the other one sees and settles it."""
    dead = world.systems[node]
    await world.remove(node)
    (other,) = world.systems.values()
    world.show(other.me.node)
    await other.store.bury(dead.me)
    return other


async def test_a_match_goes_on_and_ends_although_nobody_calls_it() -> None:
    async with cluster(("node-1", "node-2"), app=Game, **SLOW_LOOK) as world:
        match = await match_on(world, "node-1")
        other = await die(world, "node-1")
        await until(lambda: other.find(match) is not None)
        await until(lambda: other.find(match).boundary.phase == "ended", 60.0)  # type: ignore[union-attr]
        assert other.find(match).boundary.end_reason == "host_vanished"  # type: ignore[union-attr]
        assert other.metrics.orphans_woken_total == 1
        assert await other.store.orphans("match", 10) == []


async def test_while_its_node_lives_in_the_store_it_is_left_alone() -> None:
    async with cluster(("node-1", "node-2"), app=Game, **SLOW_LOOK) as world:
        match = await match_on(world, "node-1")
        source, other = world.systems["node-1"], world.systems["node-2"]
        world.show("node-2")  # cut off, or dead: only the store knows
        for _ in range(3):
            await other.orphans.look()
        await asyncio.sleep(0)
        assert other.find(match) is None
        await other.store.bury(source.me)
        await until(lambda: other.find(match) is not None)


async def test_a_match_that_a_stopped_cluster_left_behind() -> None:
    async with cluster(("node-1",), app=Game, **SLOW_LOOK) as world:
        match = await match_on(world, "node-1")
        await world.remove("node-1", clean=True)
        after = await world.add("node-2")
        world.show("node-2")
        await until(lambda: after.find(match) is not None)


async def test_each_owner_wakes_its_own_and_only_what_was_created() -> None:
    async with cluster(("node-1", "node-2", "node-3"), app=Game, **SLOW_LOOK) as world:
        dead, target, third = world.systems.values()
        matches = []
        for number in range(30):
            key = f"m{number}"
            await target.ask(actor_id("match", key), "create", (HOST, MatchCreate(1, "line", 1, key, MatchOptions())))
            matches.append(actor_id("match", key))
        nobody = actor_id("match", key_owned_by(target, Match, "node-1"))
        await dead.activate(nobody)
        lost = [match for match in matches if dead.find(match) is not None]
        assert lost
        await world.remove("node-1")
        await target.store.bury(dead.me)
        world.show("node-2", "node-3")
        await until(lambda: target.metrics.orphans_woken_total + third.metrics.orphans_woken_total == len(lost))
        for match in lost:
            owner = target if target.owner(match) == target.me else third
            assert owner.find(match) is not None
        assert target.find(nobody) is None and third.find(nobody) is None


async def test_an_orphan_that_cannot_be_woken_holds_no_other_up() -> None:
    async with cluster(("node-1",), app=TINY, **SLOW_LOOK) as world:
        for number in range(12):
            await world.systems["node-1"].ask(actor_id("ledger", f"l{number:02}"), "add", (1,))
        await world.remove("node-1", clean=True)
        after = await world.add("node-2")
        after.orphans.limits = OrphanLimits(page=2, pages_a_look=2)
        ask, tried = after.ask, list[str]()

        async def stuck(identity: ActorId, name: str, args: tuple[Any, ...], **more: Any) -> Any:
            tried.append(identity)
            if identity < "ledger/l08":
                raise Unavailable("its journal is on another host")
            return await ask(identity, name, args, **more)

        after.ask = stuck  # type: ignore[method-assign]
        world.show("node-2")
        await until(lambda: after.metrics.orphans_woken_total == 4)
        assert len(tried) == len(set(tried)), "what failed is left alone for a while"


async def test_a_row_of_nobody_fails_alone() -> None:
    async with cluster(("node-1",), app=TINY, **SLOW_LOOK) as world:
        last, nobody = actor_id("ledger", "z"), ActorId("ledger/a live one")
        await world.systems["node-1"].ask(last, "add", (1,))
        await world.remove("node-1", clean=True)
        world.database.entities[nobody] = world.database.entities[last]
        after = await world.add("node-2")
        after.orphans.limits = OrphanLimits(page=1)
        world.show("node-2")
        await until(lambda: after.find(last) is not None)
        assert after.find(nobody) is None
        assert not after.orphans._retries.ready(nobody, after.clock.now()), "not again at once"


async def test_an_orphan_whose_claim_was_not_answered_is_woken_again() -> None:
    """The store has it as this node's now, and so names it to nobody any more."""
    async with cluster(("node-1",), app=TINY, **SLOW_LOOK) as world:
        lost = actor_id("ledger", "lost")
        await world.systems["node-1"].ask(lost, "add", (1,))
        await world.remove("node-1", clean=True)
        after = await world.add("node-2")
        claim, unanswered = after.node_store.claim, [True]

        async def forgetful(*args: Any) -> Any:
            answer = await claim(*args)
            if unanswered and lost in answer:
                unanswered.pop()
                raise Unavailable("the store did not answer in time")
            return answer

        after.node_store.claim = forgetful  # type: ignore[assignment, method-assign]
        world.show("node-2")
        await until(lambda: not unanswered)
        assert await after.store.orphans("ledger", 10) == [] and after.find(lost) is None
        await until(lambda: after.find(lost) is not None)
        await until(lambda: not after.orphans._unsure)


@pytest.mark.parametrize("bound", ["pages_a_look", "under_way"])
async def test_more_than_one_look_takes_is_looked_for_without_a_pause(bound: str) -> None:
    async with cluster(("node-1", "node-2"), app=TINY, **SLOW_LOOK) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        await asyncio.sleep(LIMITS.soon_periods * world.settings.store.lease_period_s)  # it looks often after its start
        source.orphans.limits = OrphanLimits(page=4, soon_periods=0, **{bound: 2})
        ids = [actor_id("ledger", f"l{number:02}") for number in range(30)]
        for identity in ids:
            await source.ask(identity, "add", (1,))
        await source.store.bury(target.me)
        lost = [identity for identity in ids if target.find(identity) is not None]
        assert len(lost) > 8
        await die(world, "node-2")  # one look is due
        await until(lambda: all(source.find(identity) is not None for identity in lost))


async def test_a_finished_log_is_no_orphan() -> None:
    async with cluster(("node-1",), app=TINY, **SLOW_LOOK) as world:
        system = world.systems["node-1"]
        await system.ask(actor_id("ledger", "over"), "add", (1_000,))
        await system.ask(actor_id("ledger", "on"), "add", (1,))
        await world.remove("node-1", clean=True)
        after = await world.add("node-2")
        assert await after.store.orphans("ledger", 10) == [actor_id("ledger", "on")]
