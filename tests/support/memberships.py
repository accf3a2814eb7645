"""Rigs that give the membership contract its nodes: over real UDP, and simulated."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from server.cluster.membership import KinshipMembership
from server.cluster.ports import Membership
from server.cluster.simulated import SimulatedGossip, SimulatedMembership
from server.cluster.view import Member
from server.ids import Incarnation, NodeId
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import GossipSettings

KEY = bytes(range(32))


def member(node: str, incarnation: int = 1, **fields: object) -> Member:
    defaults: dict[str, object] = {
        "weight": 4,
        "state": "joining",
        "transport": f"10.0.0.1:{7000 + incarnation}",
        "client_url": f"wss://{node}.example.com:7350",
        "admin_url": f"http://{node}.example.com:7360",
    }
    return Member(NodeId(node), Incarnation(incarnation), **{**defaults, **fields})  # type: ignore[arg-type]


class Watched:
    """A node's membership, counting and announcing its changes."""

    def __init__(self, membership: Membership, supervisor: Supervisor, metrics: Metrics) -> None:
        self.membership, self.supervisor, self.metrics = membership, supervisor, metrics
        self.changes: list[tuple[Member, ...]] = []
        self._changed = asyncio.Event()

    def on_change(self) -> None:
        self.changes.append(self.membership.members())
        self._changed.set()

    async def sees(self, condition: Callable[[dict[str, Member]], bool], timeout_s: float = 30.0) -> dict[str, Member]:
        """Wait for changes until the members by node satisfy `condition`."""
        async with asyncio.timeout(timeout_s):
            while True:
                now = {str(m.node): m for m in self.membership.members()}
                if condition(now):
                    return now
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        with suppress(Exception):
            await self.membership.close()
        await self.supervisor.stop()


class KinshipRig:
    def __init__(self) -> None:
        self.nodes: list[Watched] = []
        self.seed: str | None = None

    async def node(self, me: Member) -> Watched:
        metrics, supervisor = Metrics(), Supervisor(me.node)
        settings = GossipSettings(seeds=[self.seed] if self.seed else [], load_interval_s=0.2)
        membership = KinshipMembership(settings, "test", KEY, metrics, supervisor)
        watched = Watched(membership, supervisor, metrics)
        self.nodes.append(watched)
        await membership.start(me, watched.on_change)
        self.seed = self.seed or membership.endpoint
        return watched

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self.nodes))


class SimulatedRig:
    def __init__(self) -> None:
        self.gossip = SimulatedGossip(delay=lambda frm, to: 0.01, detect_s=0.2, retry_s=0.02)
        self.nodes: list[Watched] = []

    async def node(self, me: Member) -> Watched:
        membership = SimulatedMembership(self.gossip)
        watched = Watched(membership, Supervisor(me.node), Metrics())
        self.nodes.append(watched)
        await membership.start(me, watched.on_change)
        return watched

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()
