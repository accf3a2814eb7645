"""The node's lease: what counts is when the renewal was sent, and a refusal is final."""

import asyncio

import pytest

from server.ids import NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.settings import from_tree
from server.storage.lease import NodeLease
from server.storage.memory import MemoryDatabase
from tests.support.faulty import Faults, FaultyStore
from tests.support.waiting import until


class HandClock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    boot = now

    def wall_ms(self) -> int:
        return int(self.at * 1000)


class Bench:
    def __init__(self, **store: object) -> None:
        tree = {"lease_period_s": 2.0, "lease_renew_s": 0.001, **store}
        self.settings = from_tree({"store": tree}).store
        self.clock, self.metrics, self.faults = HandClock(), Metrics(), Faults()
        self.store = FaultyStore(MemoryDatabase(self.clock), {}, self.faults)
        self.lost = asyncio.Event()
        self.lease = NodeLease(self.store, self.settings, self.clock, self.metrics, self.lost.set, list)

    async def start(self) -> NodeAddress:
        me = NodeAddress(NodeId("node-1"), await self.store.register_node(NodeId("node-1"), 2.0))
        self.task = asyncio.ensure_future(self.lease.run(me))
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


async def test_it_buries_others_whose_lease_has_run_out() -> None:
    bench = Bench()
    other = NodeAddress(NodeId("node-2"), await bench.store.register_node(NodeId("node-2"), 0.5))
    bench.clock.at += 1.0
    await bench.start()
    await bench.renewals(2)
    assert [row.state for row in await bench.store.nodes() if row.node == other.node] == ["dead"]
    bench.task.cancel()
