"""The node's lease: what counts is when the renewal was sent, and a refusal is final."""

import asyncio
from functools import partial

import pytest

from server.ids import NodeAddress, NodeId
from tests.support.leases import LeaseBench
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


async def test_a_lease_holds_for_nine_tenths_of_the_period_from_the_sending_of_the_renewal() -> None:
    bench = LeaseBench()
    bench.lease.granted(100.0)
    for at, holds in ((100.0, True), (101.79, True), (101.81, False)):
        bench.clock.at = at
        assert bench.lease.holds() is holds
    bench.lease.granted(99.0)  # an answer that came late says nothing new
    assert bench.lease.safe_until == pytest.approx(101.8)


async def test_a_slow_answer_gives_no_longer_lease() -> None:
    bench = LeaseBench()
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
    bench = LeaseBench()
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
    bench = LeaseBench()
    me = await bench.start()
    await bench.renewals(1)
    await bench.store.retire_node(me)
    async with asyncio.timeout(5):
        await bench.task
    assert bench.lost.is_set() and bench.lease.lost and not bench.lease.holds()


async def test_without_leases_it_always_holds() -> None:
    bench = LeaseBench(lease=False)
    bench.clock.at = 1e9
    assert bench.lease.holds()
    await bench.lease.run(NodeAddress(NodeId("node-1"), 1))  # type: ignore[arg-type]
    assert not bench.faults.seen


def _sent(bench: LeaseBench, renewals: int) -> bool:
    return len(bench.faults.seen) == renewals


async def test_a_renewal_that_took_its_time_is_followed_by_the_next_at_once() -> None:
    bench = LeaseBench(lease_period_s=1_000.0, lease_renew_s=500.0)
    bench.faults.hold = asyncio.Event()
    await bench.start()
    for renewals in range(1, 4):
        await until(partial(_sent, bench, renewals))
        bench.clock.at += 500.0
        bench.faults.hold.set()
        bench.faults.hold = asyncio.Event()
    await until(lambda: bench.metrics.lease_renewals_total == 3)
    bench.task.cancel()


async def test_held_answers_go_on_when_the_lease_holds_again() -> None:
    bench = LeaseBench()
    told: list[float] = []
    bench.lease.when_granted(told.append)
    await bench.start()
    await bench.renewals(2)
    assert len(told) >= 2
    bench.task.cancel()


async def test_a_lease_that_ran_out_meanwhile_has_not_held_all_the_while() -> None:
    """F48: the thread that renews may come between two looks at it."""
    bench = LeaseBench()
    bench.lease.granted(100.0)
    seen = bench.lease.held_since
    bench.clock.at = 101.0
    bench.lease.granted(101.0)
    bench.clock.at = 102.0
    bench.lease.granted(102.0)
    assert bench.lease.held_for(seen)
    bench.clock.at = 200.0
    bench.lease.granted(200.0)
    assert not bench.lease.held_for(seen)


async def test_nothing_is_renewed_for_a_loop_that_stands_still_until_it_goes_on() -> None:
    bench = LeaseBench(lease_stall_s=3.0)
    watching = asyncio.ensure_future(bench.lease.watch_loop())
    await bench.start()
    await bench.renewals(2)
    watching.cancel()
    bench.clock.at += 2.9
    await bench.renewals(1)
    bench.clock.at += 0.2
    await asyncio.sleep(0.01)
    sent = len(bench.faults.seen)
    await asyncio.sleep(10.0)
    assert len(bench.faults.seen) == sent and "3 s" in bench.lease.standstill
    watching = asyncio.ensure_future(bench.lease.watch_loop())
    await bench.renewals(1)
    assert not bench.lease.standstill and not bench.lost.is_set()
    watching.cancel()
    bench.task.cancel()
