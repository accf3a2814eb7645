"""Turns: inline, never interleaved, undone when they fail; mailboxes, cycles, deadlines, timers."""

import asyncio
from typing import Any

import msgspec
import pytest

from server.actors.actor import Caller
from server.catalog.calls import encode_call
from server.errors import CallCycle, DeadlineExceeded, Forbidden, Internal, NotFound, Overloaded, Unavailable
from server.ids import ActorId, actor_id
from server.storage.queries import MemoryQuery, States
from server.transport.ports import Service
from tests.support.engine import TestSystem, cluster, key_owned_by
from tests.support.tiny import Counter, Ledger
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

A = actor_id("counter", "a")


async def ask(system: TestSystem, name: str, *args: object, to: ActorId = A, timeout_s: float | None = None) -> object:
    return await system.ask(to, name, args, timeout_s=timeout_s)


async def _total_is(system: TestSystem, total: int, to: ActorId = A) -> bool:
    return await ask(system, "total", to=to) == total


async def test_turns_change_state_and_the_flush_stores_the_last_boundary() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        assert [await ask(system, "add", n) for n in (1, 2, 3)] == [1, 3, 6]
        assert len(system.write_behind) == 1
        await system.write_behind.flush()
        assert len(system.write_behind) == 0
        stored = await system.store.read("counter", [A])
        assert (stored[A].state.total, stored[A].state_version) == (6, 3)


async def test_a_turn_that_raises_restores_the_boundary_and_leaks_nothing_untyped() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await ask(system, "add", 5)
        with pytest.raises(Internal):
            await ask(system, "change_and_raise")
        assert await ask(system, "total") == 5


async def test_async_turns_do_not_interleave_and_keep_the_order_of_arrival() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await ask(system, "add", 0)
        calls = [ask(system, "slow_add", 1, 0.01), ask(system, "add", 10), ask(system, "slow_add", 100, 0.0)]
        assert await asyncio.gather(*calls) == [1, 11, 111]


async def test_a_read_only_method_runs_beside_a_waiting_turn_and_sees_the_boundary() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await ask(system, "add", 7)
        slow = asyncio.ensure_future(ask(system, "slow_add", 1, 0.05))
        await asyncio.sleep(0)
        assert await ask(system, "total") == 7
        assert not slow.done()
        assert await slow == 8


async def test_a_call_chain_that_comes_back_fails_at_once_with_the_cycle_in_the_error() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        with pytest.raises(CallCycle, match="counter/a -> counter/b -> counter/a"):
            await ask(system, "add_by_way_of", ["b", "a"], 1)
        assert await ask(system, "add_by_way_of", ["b", "c"], 1) == 1


async def test_a_full_mailbox_refuses() -> None:
    async with cluster(actors={"mailbox_max_calls": 2}) as world:
        system = world.systems["node-1"]
        await ask(system, "add", 0)
        slow = asyncio.ensure_future(ask(system, "slow_add", 1, 0.05))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(ask(system, "add", 1)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await ask(system, "add", 1)
        assert await asyncio.gather(slow, *waiting) == [1, 2, 3]


async def test_deadlines_end_a_waiting_turn_and_the_calls_behind_it() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await ask(system, "add", 1)
        with pytest.raises(DeadlineExceeded):
            await ask(system, "slow_add", 1, 60.0, timeout_s=0.02)
        assert await ask(system, "total") == 1


async def test_unknown_methods_and_kinds_are_named() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        with pytest.raises(NotFound, match="nothing"):
            await ask(system, "nothing")
        with pytest.raises(NotFound, match="planet"):
            await ask(system, "x", to=ActorId("planet/mars"))
        for hidden in ("activated", "tell", "_failed", "emit"):
            with pytest.raises(NotFound):
                await ask(system, hidden)


async def test_timers_run_as_turns_and_end_with_the_activation() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await ask(system, "add_later", 0.01)
        await until(lambda: _total_is(system, 1))
        await ask(system, "add_later", 60.0)
        activation = system.find(A)
        assert activation is not None and activation.timers == 1
        await system.catalog.deactivate([activation])
        assert activation.dropped and activation.timers == 0


async def test_tells_leave_after_the_turn() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        assert await ask(system, "tell_other", "b", 5) == 1
        await until(lambda: _total_is(system, 5, actor_id("counter", "b")))


async def test_past_the_lease_durable_changes_are_refused_and_undone_and_reads_go_on() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await ask(system, "add", 1)
        system.lease.safe_until = 0.0
        with pytest.raises(Unavailable, match="lease"):
            await ask(system, "add", 1)
        assert await ask(system, "total") == 1


async def test_deactivation_stores_and_releases_and_the_next_call_claims_anew() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await ask(system, "add", 4)
        first = system.find(A)
        assert first is not None
        assert await system.catalog.deactivate([first]) == 1
        assert system.find(A) is None
        assert await ask(system, "add", 1) == 5
        second = system.find(A)
        assert second is not None and second.epoch > first.epoch and second.version == 2


async def test_calls_during_deactivation_wait_and_reach_the_next_activation() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await ask(system, "add", 1)
        activation = system.find(A)
        assert activation is not None
        closing = asyncio.ensure_future(system.catalog.deactivate([activation]))
        await asyncio.sleep(0)
        assert await ask(system, "add", 1) == 2
        assert await closing == 1


async def test_methods_that_are_not_marked_are_refused_here_and_from_other_nodes() -> None:
    async with cluster(("node-1", "node-2")) as world:
        system, other = world.systems["node-1"], world.systems["node-2"]
        mine = actor_id("counter", key_owned_by(system, Counter, "node-1"))
        frame = encode_call(mine, "unmarked", (), 1.0, (), here=False)
        for warm in (False, True):
            for asking in (system, other):
                with pytest.raises(NotFound, match="unmarked"):
                    await ask(asking, "unmarked", to=mine)
            with pytest.raises(NotFound):
                await other.transport.request(system.me, Service.CALL, frame, 1.0)
            assert warm or await ask(system, "add", 1, to=mine) == 1
        assert await ask(system, "add_unmarked_later", 0.001, to=mine) is None
        await until(lambda: _total_is(system, 101, mine))


@pytest.mark.parametrize("reader", ["node-1", "node-2"])
async def test_an_actor_decides_who_may_watch_it(reader: str) -> None:
    async with cluster(("node-1", "node-2")) as world:
        system = world.systems[reader]
        book = actor_id("ledger", key_owned_by(system, Ledger, "node-1"))
        await ask(system, "add", 1, to=book)
        assert await ask(system, "admits", Caller("player", "ann"), to=book) is None
        with pytest.raises(Forbidden, match="not for player mallory"):
            await ask(system, "admits", Caller("player", "mallory"), to=book)


class BestParams(msgspec.Struct, frozen=True):
    limit: int = 10


def best_totals(states: States, params: BestParams) -> list[dict[str, Any]]:
    return sorted(({"key": key, "total": it.total} for key, it in states("counter")), key=lambda row: -row["total"])


@pytest.mark.parametrize("warm", [True, False])
async def test_turns_may_run_a_named_store_query(warm: bool) -> None:
    async with cluster(queries={"best": MemoryQuery(BestParams, best_totals)}) as world:
        system = world.systems["node-1"]
        for key, total in (("x", 5), ("y", 9)):
            await ask(system, "add", total, to=actor_id("counter", key))
        await system.write_behind.flush()
        if warm:
            await ask(system, "add", 1)
        assert await ask(system, "add_the_best") == 9 + warm


async def test_a_turn_whose_store_query_there_is_not_is_refused() -> None:
    async with cluster() as world:
        with pytest.raises(NotFound, match="best"):
            await ask(world.systems["node-1"], "add_the_best")
