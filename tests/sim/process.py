"""A process that runs one node, as `server.cli.node.run_node` does: a node that has lost its lease comes
back as a new incarnation in the same process, and one that cannot start tries again."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from server.cli.node import LEASE_LOST_PAUSE_S
from server.errors import Unavailable
from tests.sim.loop import Domain

if TYPE_CHECKING:
    from tests.sim.world import SimClock, SimNode, World

START_AGAIN_S: Final = 0.5
"""A process that could not start is started again after this, by whoever looks after it."""


class SimProcess:
    """See the module's head. `node` is the run that it has now; `incarnations` counts them."""

    def __init__(self, world: "World", name: str, clock: "SimClock | None" = None) -> None:
        """`clock`: of its machine, if there was a process before."""
        from tests.sim.world import SimClock  # the world makes processes, and they its nodes

        self.world, self.name = world, name
        self.domain = Domain(f"{name}.{world.next_run()}")
        self.clock = clock if clock is not None else SimClock(world.loop)
        self.node: SimNode | None = None
        self.incarnations = 0
        self.leases_lost = 0
        self._stop = asyncio.Event()
        self._main = self.domain.run(lambda: world.loop.create_task(self._run(), name=f"{name}:main"))
        self._main.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Orderly, as SIGTERM."""
        self._stop.set()
        await asyncio.wait([self._main])

    @property
    def up(self) -> bool:
        """Whether its node has started and is not going down."""
        return self.node is not None and self.world.nodes.get(self.name) is self.node

    async def _run(self) -> None:
        world = self.world
        while not self._stop.is_set():
            if self.incarnations:
                await asyncio.sleep(LEASE_LOST_PAUSE_S)
            was_foreign = self.node is not None and self.node.node.is_foreign
            node = self.node = self._make()
            if was_foreign:
                node.node.wary()
            try:
                await node.node.start()
            except Unavailable as error:
                world.note("cannot start", self.domain.name, error.message)
                await asyncio.sleep(START_AGAIN_S)
                continue
            await self._live(node)

    async def _live(self, node: "SimNode") -> None:
        """Go on with a node that serves until it ends."""
        world = self.world
        self.incarnations += 1
        world.nodes[self.name] = node
        await self._first(node.node.ended)
        del world.nodes[self.name]
        if node.node.lease_lost:
            self.leases_lost += 1
            world.note("lease lost", self.domain.name)
        await node.node.stop()
        self.node = node if node.node.is_foreign else None

    def _make(self, url: str = "") -> "SimNode":
        from tests.sim.world import SimNode

        node = SimNode(self.world, self.name, self.world.next_run(), self.domain, self.clock, url)
        catalog = node.node.system.catalog
        lost = catalog.lost

        def counted(activation: Any, changes: int) -> None:
            if not activation.dropped:
                self.world.counted_lost(activation, changes)
            lost(activation, changes)

        catalog.lost = counted  # type: ignore[method-assign]
        return node

    async def _first(self, ended: asyncio.Event) -> None:
        """Until the node has ended or the process is to stop."""
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(event.wait()) for event in (self._stop, ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _ended(self, done: "asyncio.Task[None]") -> None:
        if self.domain.state != "dead" and not done.cancelled() and done.exception() is not None:
            self.world.faults.append(f"{self.world.loop.time():.3f} {self.domain.name} main: {done.exception()!r}")
