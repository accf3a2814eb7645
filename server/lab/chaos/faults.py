"""How each fault is done to a running cluster, and when it is over."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from rich.markup import escape

from server.cli.local_cluster import LocalCluster
from server.cli.node_process import NodeProcess
from server.errors import Unavailable
from server.lab.chaos.figures import Gaps, Struck
from server.lab.chaos.network import Network
from server.lab.chaos.nodes import Counters, is_ready, metrics
from server.lab.chaos.plan import Fault
from server.lab.chaos.stores import ChaosStore
from server.lab.chaos.upgrades import ChaosUpgrades, blow_of

PATIENCE_S: Final = 40.0
"""How long a fault may take to be over before the next one comes all the same."""
LOOK_EVERY_S: Final = 0.2
WHOLE_STRENGTH: Final = 0.6
"""A partition weaker than this is one way only."""
LOSS: Final = (0.05, 0.3)
"""Share of packets."""


class Faults:
    """Does what a plan says, one fault after the other. `say` gets a line for each; `stats` gives the newest figures of
    the bots."""

    def __init__(
        self,
        cluster: LocalCluster,
        store: ChaosStore,
        network: Network | None,
        gaps: Gaps,
        stopping: asyncio.Event,
        say: Callable[[str], None],
        stats: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.upgrades = ChaosUpgrades(cluster.home, stats)
        self.cluster, self.store, self.network, self.gaps = cluster, store, network, gaps
        self.stopping, self.say = stopping, say
        self.counts: dict[str, int] = {}
        self.struck: list[Struck] = []
        self.counters = Counters()
        self.crashes = 0
        self.unsettled = 0
        self.never_served = 0
        self._extra: int | None = None
        self._done: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "kill": self._kill,
            "pause": self._pause,
            "stop": self._stop,
            "rolling": self._rolling,
            "join": self._join,
            "store_outage": self._store_outage,
            "upgrade": self._upgrade,
            "partition": self._partition,
            "loss": self._loss,
        }

    async def strike(self, fault: Fault) -> None:
        """Do it, and wait until everybody is served again and all nodes know each other."""
        before = len(self.struck)
        await self._done[fault.kind](fault)
        await self._until(lambda: not any(struck.waiting(self.gaps) for struck in self.struck[before:]))
        await self.calm_down()
        self._tell(self.struck[before:])

    def end(self) -> None:
        """No fault comes any more, and the probes are about to stop: what waits now was never served."""
        self.never_served = self.gaps.end()
        for struck in self.struck[-1:]:
            struck.until = time.monotonic()

    async def calm_down(self) -> None:
        """Wait until all nodes serve and see each other, and no probe waits. What died is started."""
        await self._revive()
        if not await self._until(self._is_calm):
            self.unsettled += 1
            self.say(f"[yellow]not calm after {PATIENCE_S:.0f} s: {self._why_not_calm}")

    # ---- the faults ----

    async def _kill(self, fault: Fault) -> None:
        node = self._choose(fault)
        await self._strike_node("kill", node)
        node.kill()
        await self._sleep(fault.seconds)
        await self._launch(node)

    async def _pause(self, fault: Fault) -> None:
        node = self._choose(fault)
        await self._strike_node("pause", node, f" for {fault.seconds:.1f} s")
        os.kill(node.pid, signal.SIGSTOP)
        try:
            await self._sleep(fault.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(node.pid, signal.SIGCONT)

    async def _stop(self, fault: Fault) -> None:
        node = self._choose(fault)
        await self._strike_node("stop", node)
        await self._end(node)
        await self._sleep(fault.seconds)
        await self._launch(node)

    async def _rolling(self, fault: Fault) -> None:
        self._count("rolling")
        for name in [node.name for node in self.running]:
            node = next(node for node in self.cluster.nodes if node.name == name)
            await self._strike_node("rolling", node, count=False)
            await self._end(node)
            await self._sleep(fault.seconds)
            await self._launch(node)
            await self.calm_down()
            if self.stopping.is_set():
                return

    async def _join(self, fault: Fault) -> None:
        """A node more, or, if there is one already, that one leaves for good."""
        if self._extra is not None:
            node, self._extra = self.cluster.nodes[self._extra], None
            await self._strike_node("leave", node)
            await self._end(node)
            return
        index = self.cluster.size
        self._count("join")
        self.say("join: one node more")
        self._record("join", "", time.monotonic(), self.gaps.probes)
        if index < len(self.cluster.nodes):
            await self._launch(self.cluster.nodes[index])
        else:
            await self._start(index)
        self._extra = index

    async def _store_outage(self, fault: Fault) -> None:
        self._count("store_outage")
        self._record("store_outage", "", time.monotonic(), self.gaps.probes)
        self.say(f"store outage for {fault.seconds:.1f} s")
        try:
            how = await self.store.outage(fault.seconds, random.Random(fault.place))
        except Unavailable as error:
            how = error.message
        self.say(f"        {how}")

    async def _upgrade(self, fault: Fault) -> None:
        node, blow = self._choose(fault), blow_of(fault)
        await self._strike_node("upgrade", node, f", {blow}" if blow is not None else "")
        if blow is None:
            noticed = await self.upgrades.clean(node)
            if not noticed.nodes:
                self.unsettled += 1
        else:
            node.stopping = blow.killed  # if it ends now, that is the blow's doing
            noticed = await self.upgrades.hit(node, blow)
        told = f"upgraded with a pause of {noticed.longest_pause_ms:.0f} ms" if noticed.nodes else "not upgraded"
        closed = f", {noticed.connections_closed} connections closed" if noticed.connections_closed else ""
        self.say(f"        {told}{closed}{f': {escape(noticed.why)}' if noticed.why else ''}")
        if not node.running:
            await self._launch(node)
        elif blow is not None:
            node.stopping = False

    async def _partition(self, fault: Fault) -> None:
        assert self.network is not None
        node = self._choose(fault)
        index, both = self.cluster.nodes.index(node), fault.strength >= 1 - WHOLE_STRENGTH
        others = [self.cluster.nodes.index(other) for other in self.running if other is not node]
        how = "cut off from" if both else "deaf to"
        await self._strike_node("partition", node, f", {how} {len(others)} others for {fault.seconds:.1f} s")
        await asyncio.to_thread(self.network.cut, index, others, both_ways=both)
        try:
            await self._sleep(fault.seconds)
        finally:
            await asyncio.to_thread(self.network.heal)

    async def _loss(self, fault: Fault) -> None:
        assert self.network is not None
        share = LOSS[0] + fault.strength * (LOSS[1] - LOSS[0])
        self._count("loss")
        self._record("loss", "", time.monotonic(), self.gaps.probes)
        self.say(f"{share:.0%} of the packets between nodes are lost for {fault.seconds:.1f} s")
        indices = [self.cluster.nodes.index(node) for node in self.running]
        await asyncio.to_thread(self.network.lose, indices, share)
        try:
            await self._sleep(fault.seconds)
        finally:
            await asyncio.to_thread(self.network.heal)

    # ---- nodes ----

    @property
    def running(self) -> list[NodeProcess]:
        return [node for node in self.cluster.nodes if node.running]

    def _choose(self, fault: Fault) -> NodeProcess:
        running = self.running
        return running[fault.place % len(running)]

    async def _strike_node(self, kind: str, node: NodeProcess, how: str = "", *, count: bool = True) -> None:
        """Write down who lives on `node` right before it is hit."""
        owners = {}
        with contextlib.suppress(Exception):  # the store is as busy as it is
            owners = await self.store.owners(self.gaps.probes)
        entities = sorted(entity for entity, owner in owners.items() if owner == node.name)
        if count:
            self._count(kind)
        self.say(f"{kind} {node.name} (pid {node.pid}){how}: {len(entities)} probes live there")
        self._record(kind, node.name, time.monotonic(), entities)

    async def _end(self, node: NodeProcess) -> None:
        if not await node.stop():
            self.say(f"[yellow]{node.name} did not stop in time and was killed")
            self.unsettled += 1

    async def _launch(self, node: NodeProcess) -> None:
        await self._start(self.cluster.nodes.index(node))

    async def _start(self, index: int) -> None:
        try:
            await self.cluster.launch(index)
        except Unavailable as error:
            self.say(f"[yellow]{error.message}")
            self.unsettled += 1
            self.cluster.nodes[index].kill()

    async def _revive(self) -> None:
        """Start what ended by itself, or did not start."""
        wanted = self.cluster.size + (self._extra is not None)
        for node in self.cluster.nodes[:wanted]:
            if not node.running:
                if not node.stopping:
                    self.crashes += 1
                    self.say(f"[red]{node.name} ended by itself, exit code {node.returncode}; see {node.log}")
                await self._launch(node)

    # ---- waiting ----

    _why_not_calm = ""

    async def _is_calm(self) -> bool:
        running = self.running
        for node in running:
            values = await metrics(node)
            self.counters.add(node.name, values)
            if values.get("members") != len(running) or not await is_ready(node):
                self._why_not_calm = f"{node.name} sees {values.get('members', 0):.0f} of {len(running)} nodes"
                return False
        self._why_not_calm = f"{len(self.gaps.quiet)} probes wait, among them {next(iter(self.gaps.quiet), '')}"
        return self.gaps.heard_at > self._asked_at and not self.gaps.quiet

    _asked_at = 0.0

    async def _until(self, true: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> bool:
        """Whether it became true within `PATIENCE_S`."""
        self._asked_at = time.monotonic()
        while True:
            result = true()
            if isinstance(result, Awaitable):
                result = await result
            if result:
                return True
            if time.monotonic() > self._asked_at + PATIENCE_S:
                return False
            await asyncio.sleep(LOOK_EVERY_S)

    async def _sleep(self, seconds: float) -> None:
        """Sleep `seconds`, or until the run is to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

    # ---- what is told ----

    def _count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def _record(self, kind: str, node: str, at: float, entities: list[str]) -> None:
        for last in self.struck[-1:]:
            last.until = at
        self.struck.append(Struck(kind, node, at, tuple(entities)))

    def _tell(self, struck: list[Struck]) -> None:
        gaps = self.gaps
        worst: dict[str, float] = {}
        for hit in struck:
            for entity, seconds in (hit.waits(gaps) | hit.elsewhere(gaps)).items():
                kind = entity.partition("/")[0]
                worst[kind] = max(worst.get(kind, 0.0), seconds)
        if gaps.quiet:
            self.say(f"[yellow]        {len(gaps.quiet)} probes are not served again")
        elif worst:
            bound = gaps.bound_s
            told = ", ".join(
                f"{kind} {seconds:.2f} s" if seconds != bound else f"{kind} less than {bound} s"
                for kind, seconds in sorted(worst.items())
            )
            self.say(f"        all served again; the longest wait of a client: {told}")
