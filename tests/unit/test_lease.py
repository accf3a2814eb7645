"""The node's lease: what counts is when the renewal was sent, and a refusal is final."""

import asyncio
from functools import partial

import pytest

from server.ids import NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.settings import from_tree
from server.storage.lease import NodeLease
from server.storage.memory import MemoryDatabase
from tests.support.faulty import Faults, FaultyStore
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


class HandClock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    boot = now

    def wall_ms(self) -> int:
        return int(self.at * 1000)


class Near:
    """What gossip says."""

    def __init__(self) -> None:
        self.all: list[NodeAddress] = []
        self.missing: list[NodeAddress] = []

    def lively(self) -> list[NodeAddress]:
        return self.all

    def vanished(self) -> list[NodeAddress]:
        return self.missing


class Bench:
    def __init__(self, **store: object) -> None:
        tree = {"lease_period_s": 2.0, "lease_renew_s": 0.001, **store}
        self.settings = from_tree({"store": tree}).store
        self.clock, self.metrics, self.faults = HandClock(), Metrics(), Faults()
        self.store = FaultyStore(MemoryDatabase(self.clock), {}, self.faults)
        self.lost, self.near = asyncio.Event(), Near()
        self.lease = NodeLease(self.store, self.settings, self.clock, self.metrics, self.lost.set, self.near)

    async def start(self) -> NodeAddress:
        me = NodeAddress(NodeId("node-1"), await self.store.register_node(NodeId("node-1"), 2.0))
        self.task = asyncio.ensure_future(self.lease.run(me))
        self.judging = asyncio.ensure_future(self.lease.judge())
        self.task.add_done_callback(lambda _: self.judging.cancel())
        return me

    async def renewals(self, more: int) -> None:
        target = self.metrics.lease_renewals_total + more
        await until(lambda: self.metrics.lease_renewals_total >= target)


async def test_it_holds_for_nine_tenths_of_the_period_from_the_sending_of_the_renewal() -> None:
    bench = Bench()
    bench.lease.granted(100.0)
    for at, holds in ((100.0, True), (101.79, True), (101.81, False)):
        bench.clock.at = at
        assert bench.lease.holds() is holds
    bench.lease.granted(99.0)  # an answer that came late says nothing new
    assert bench.lease.safe_until == pytest.approx(101.8)


async def test_a_slow_answer_gives_no_longer_lease() -> None:
    bench = Bench()
    bench.faults.hold = asyncio.Event()
    await bench.start()
    await until(lambda: bool(bench.faults.seen))
    bench.clock.at = 101.5  # the answer is under way
    bench.faults.hold.set()
    bench.faults.always["renew_lease"] = "refuse"
    bench.faults.next["renew_lease"] = []
    await until(lambda: bench.metrics.lease_failures_total >= 1)
    assert bench.lease.safe_until <= 101.8 + 0.001
    bench.task.cancel()


async def test_a_store_that_is_away_or_broken_does_not_end_the_renewing() -> None:
    bench = Bench()
    await bench.start()
    await bench.renewals(1)
    bench.faults.always["renew_lease"] = "refuse"
    await until(lambda: bench.metrics.lease_failures_total >= 2)
    bench.faults.always.clear()
    failures = [RuntimeError("planted")]

    def choose(statement: str) -> None:
        if failures:
            raise failures.pop()

    bench.faults.choose = choose
    await bench.renewals(2)
    assert not failures and not bench.task.done() and not bench.lost.is_set()
    bench.task.cancel()


async def test_a_refused_renewal_is_final() -> None:
    bench = Bench()
    me = await bench.start()
    await bench.renewals(1)
    await bench.store.retire_node(me)
    async with asyncio.timeout(5):
        await bench.task
    assert bench.lost.is_set() and bench.lease.lost and not bench.lease.holds()


async def test_without_leases_it_always_holds() -> None:
    bench = Bench(lease=False)
    bench.clock.at = 1e9
    assert bench.lease.holds()
    await bench.lease.run(NodeAddress(NodeId("node-1"), 1))  # type: ignore[arg-type]
    assert not bench.faults.seen


async def _pass(bench: Bench, seconds: float) -> None:
    """Time goes by with the lease renewed all the while."""
    for _ in range(round(seconds * 2)):
        bench.clock.at += 0.5
        await bench.renewals(2)


async def _state(bench: Bench, of: NodeAddress) -> str:
    return next(row.state for row in await bench.store.nodes() if (row.node, row.incarnation) == of)


async def _other(bench: Bench, name: str = "node-2", lease_s: float = 0.5) -> NodeAddress:
    return NodeAddress(NodeId(name), await bench.store.register_node(NodeId(name), lease_s))


async def test_it_buries_others_once_its_own_lease_has_held_for_a_full_period() -> None:
    bench = Bench()
    other = await _other(bench)
    bench.clock.at += 1.0
    await bench.start()
    await _pass(bench, 1.5)
    assert await _state(bench, other) == "up"
    await _pass(bench, 1.0)
    assert await _state(bench, other) == "dead"
    bench.task.cancel()


async def test_renewals_do_not_wait_for_a_judgment_that_waits() -> None:
    bench = Bench()
    other = await _other(bench)
    go_on, asked = asyncio.Event(), asyncio.Event()
    bury = bench.store.bury_expired

    async def slow(*args: object) -> object:
        asked.set()
        await go_on.wait()
        return await bury(*args)  # type: ignore[arg-type]

    bench.store.bury_expired = slow  # type: ignore[method-assign, assignment]
    await bench.start()
    await _pass(bench, 3.0)
    assert asked.is_set()
    await _pass(bench, 3.0)
    assert bench.lease.holds() and await _state(bench, other) == "up"
    go_on.set()
    await until(lambda: bench.metrics.buried_total == 1)
    assert await _state(bench, other) == "dead"
    bench.task.cancel()


def _sent(bench: Bench, renewals: int) -> bool:
    return len(bench.faults.seen) == renewals


async def test_a_renewal_that_took_its_time_is_followed_by_the_next_at_once() -> None:
    bench = Bench(lease_period_s=1_000.0, lease_renew_s=500.0)
    bench.faults.hold = asyncio.Event()
    await bench.start()
    for renewals in range(1, 4):
        await until(partial(_sent, bench, renewals))
        bench.clock.at += 500.0
        bench.faults.hold.set()
        bench.faults.hold = asyncio.Event()
    await until(lambda: bench.metrics.lease_renewals_total == 3)
    bench.task.cancel()


async def test_after_an_outage_of_the_store_the_first_one_back_does_not_bury_the_others() -> None:
    bench = Bench()
    await bench.start()
    await _pass(bench, 3.0)
    other = await _other(bench, lease_s=2.0)
    bench.faults.always["renew_lease"] = "refuse"
    failures = bench.metrics.lease_failures_total
    bench.clock.at += 5.0  # both have expired
    await until(lambda: bench.metrics.lease_failures_total > failures + 1)
    bench.faults.always.clear()
    await bench.renewals(3)
    assert bench.lease.holds() and await _state(bench, other) == "up"
    assert await bench.store.renew_lease(other, 60.0)
    await _pass(bench, 3.0)
    assert await _state(bench, other) == "up"
    bench.task.cancel()


async def test_who_has_vanished_and_still_renews_is_evicted_by_a_majority() -> None:
    bench = Bench()
    third, cut_off = await _other(bench, "node-3", 60.0), await _other(bench, "node-4", 60.0)
    me = await bench.start()
    bench.near.all, bench.near.missing = [me, third], [cut_off]
    await _pass(bench, 1.5)
    assert await _state(bench, cut_off) == "up"
    await _pass(bench, 1.5)
    assert await _state(bench, cut_off) == "evicting"
    assert bench.metrics.evictions_total == 1
    bench.task.cancel()


async def test_a_minority_and_one_that_was_alone_a_moment_ago_evict_nobody() -> None:
    bench = Bench()
    third, cut_off = await _other(bench, "node-3", 60.0), await _other(bench, "node-4", 60.0)
    me = await bench.start()
    bench.near.all, bench.near.missing = [me], [third, cut_off]
    await _pass(bench, 4.0)
    assert await _state(bench, cut_off) == await _state(bench, third) == "up"
    bench.near.all, bench.near.missing = [me, third], [cut_off]
    bench.lease.alone()
    await _pass(bench, 1.5)
    assert await _state(bench, cut_off) == "up"
    await _pass(bench, 1.0)
    assert await _state(bench, cut_off) == "evicting"
    bench.task.cancel()


async def test_what_waited_for_the_lease_goes_on_when_it_holds_again() -> None:
    bench = Bench()
    told: list[float] = []
    bench.lease.on_granted = told.append
    await bench.start()
    await bench.renewals(2)
    assert len(told) >= 2
    bench.task.cancel()
