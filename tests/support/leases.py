"""A node's lease over a memory store, on a clock that a test moves."""

import asyncio

from server.ids import NodeAddress, NodeId
from server.liveness.lease import NodeLease
from server.runtime.metrics import Metrics
from server.settings import from_tree
from server.storage.memory import MemoryDatabase
from tests.support.faulty import Faults, FaultyStore
from tests.support.waiting import until


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    boot = now

    def wall_ms(self) -> int:
        return int(self.at * 1000)


class LeaseBench:
    """A lease over a memory store with faults, on a clock that a test moves."""

    def __init__(self, **store: object) -> None:
        tree = {"lease_period_s": 2.0, "lease_renew_s": 0.001, **store}
        self.settings = from_tree({"store": tree}).store
        self.clock, self.metrics, self.faults = HandClock(), Metrics(), Faults()
        self.store = FaultyStore(MemoryDatabase(self.clock), {}, self.faults)
        self.lost = asyncio.Event()
        self.lease = NodeLease(self.store, self.settings, self.clock, self.metrics, self.lost.set)

    async def start(self) -> NodeAddress:
        me = NodeAddress(NodeId("node-1"), await self.store.register_node(NodeId("node-1"), 2.0))
        self.task = asyncio.ensure_future(self.lease.run(me))
        return me

    async def renewals(self, more: int) -> None:
        target = self.metrics.lease_renewals_total + more
        await until(lambda: self.metrics.lease_renewals_total >= target)
