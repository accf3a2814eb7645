"""The undertaker: when it buries and evicts, and when it must not judge."""

import asyncio

from server.ids import NodeAddress, NodeId
from server.liveness.undertaker import Undertaker
from tests.support.leases import LeaseBench
from tests.support.waiting import until


class Near:
    """Gossip, as a test says it."""

    def __init__(self) -> None:
        self.all: list[NodeAddress] = []
        self.missing: list[NodeAddress] = []
        self.alone_at = 0.0

    def lively(self) -> list[NodeAddress]:
        return self.all

    def vanished(self) -> list[NodeAddress]:
        return self.missing


class Bench(LeaseBench):
    """A lease that is renewed, and an undertaker that judges after each renewal."""

    def __init__(self) -> None:
        super().__init__()
        self.near = Near()
        self.undertaker = Undertaker(
            nodes=self.store, lease=self.lease, neighbours=self.near, journal=None, settings=self.settings,
            clock=self.clock, metrics=self.metrics,
        )  # fmt: skip

    async def start(self) -> NodeAddress:
        me = await super().start()
        self.judging = asyncio.ensure_future(self.undertaker.run())
        self.task.add_done_callback(lambda _: self.judging.cancel())
        return me


async def _pass(bench: Bench, seconds: float) -> None:
    """Time goes by with the lease renewed all the while."""
    for _ in range(round(seconds * 2)):
        bench.clock.at += 0.5
        await bench.renewals(2)


async def _state(bench: Bench, of: NodeAddress) -> str:
    return next(row.state for row in await bench.store.nodes() if (row.node, row.incarnation) == of)


async def _other(bench: Bench, name: str = "node-2", lease_s: float = 0.5) -> NodeAddress:
    return NodeAddress(NodeId(name), await bench.store.register_node(NodeId(name), lease_s))


async def test_a_node_buries_others_once_its_own_lease_has_held_for_a_full_period() -> None:
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


async def test_a_vanished_node_that_still_renews_is_evicted_by_a_majority() -> None:
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
    bench.near.alone_at = bench.clock.boot()
    await _pass(bench, 1.5)
    assert await _state(bench, cut_off) == "up"
    await _pass(bench, 1.0)
    assert await _state(bench, cut_off) == "evicting"
    bench.task.cancel()


class Locks:
    """A journal by which the processes at some places are proven to be gone."""

    def __init__(self) -> None:
        self.free: set[str] = set()
        self.asked: list[str] = []

    def is_dead(self, owner: NodeAddress, place: str) -> bool:
        self.asked.append(place)
        return place in self.free


async def test_a_run_that_goes_on_in_an_heir_is_not_buried_for_its_predecessors_death() -> None:
    """A neighbour remembers the place of the predecessor's journal, whose lock is free now."""
    bench, locks = Bench(), Locks()
    undertaker = Undertaker(
        nodes=bench.store, lease=bench.lease, neighbours=bench.near, journal=locks, settings=bench.settings,  # type: ignore[arg-type]
        clock=bench.clock, metrics=bench.metrics,
    )  # fmt: skip
    node = NodeId("node-2")
    other = NodeAddress(node, await bench.store.register_node(node, 60.0, "old"))
    assert await undertaker.bury_proven([other]) == []
    assert await bench.store.succeed_node(other, 1, "new", 60.0)
    locks.free.add("old")
    for _ in range(3):
        assert await undertaker.bury_proven([other]) == []
    assert locks.asked == ["old", "old", "new", "new"], "the place is asked for anew, once"
    assert await _state(bench, other) == "up" and bench.metrics.buried_total == 0
    locks.free.add("new")
    assert await undertaker.bury_proven([other]) == [other]
    assert await _state(bench, other) == "dead"
