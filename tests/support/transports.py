"""Rigs that give the transport contract its nodes: over TCP, and in memory."""

import asyncio
import random
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from server.ids import Incarnation, NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import TransportSettings
from server.transport.memory import MemoryNetwork, MemoryTransport
from server.transport.ports import Handler, Transport
from server.transport.tcp import TcpTransport
from tests.support.virtual_time import LoopClock

KEY = bytes(range(32))


def address(node: str, incarnation: int = 1) -> NodeAddress:
    return NodeAddress(NodeId(node), Incarnation(incarnation))


class Node:
    """A transport with the parts that a test looks at."""

    def __init__(self, me: NodeAddress, transport: Transport, metrics: Metrics, supervisor: Supervisor) -> None:
        self.me, self.transport, self.metrics, self.supervisor = me, transport, metrics, supervisor

    def knows(self, *others: "Node") -> None:
        self.transport.set_peers({other.me: other.transport.endpoint for other in others})


class Rig(Protocol):
    name: str

    async def node(
        self,
        name: str,
        handlers: dict[int, Handler] | None = None,
        settings: TransportSettings | None = None,
        incarnation: int = 1,
    ) -> Node: ...

    async def close(self) -> None: ...


class _Rig:
    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def _make(self, settings: TransportSettings, metrics: Metrics, supervisor: Supervisor) -> Transport:
        raise NotImplementedError

    async def node(
        self,
        name: str,
        handlers: dict[int, Handler] | None = None,
        settings: TransportSettings | None = None,
        incarnation: int = 1,
    ) -> Node:
        node = self.heir(name, handlers, settings, incarnation)
        await node.transport.start(node.me)
        return node

    def heir(
        self,
        name: str,
        handlers: dict[int, Handler] | None = None,
        settings: TransportSettings | None = None,
        incarnation: int = 1,
    ) -> Node:
        """A node that is not started yet."""
        metrics, supervisor = Metrics(), Supervisor(name)
        transport = self._make(settings or TransportSettings(), metrics, supervisor)
        for service, handler in (handlers or {}).items():
            transport.serve(service, handler)
        node = Node(address(name, incarnation), transport, metrics, supervisor)
        self.nodes.append(node)
        return node

    async def close(self) -> None:
        for node in self.nodes:
            await node.transport.stop()
            await node.supervisor.stop()


class TcpRig(_Rig):
    name = "tcp"
    key: bytes = KEY
    cluster = "test"
    encryption: Literal["required", "off"] = "off"

    def _make(self, settings: TransportSettings, metrics: Metrics, supervisor: Supervisor) -> Transport:
        rng = random.Random(1)
        if self.encryption == "off":
            settings = msgspec.structs.replace(settings, encryption="off")
        return TcpTransport(settings, self.cluster, self.key, LoopClock(), metrics, supervisor, rng)


class EncryptedRig(TcpRig):
    name = "encrypted"
    encryption = "required"


class MemoryRig(_Rig):
    name = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.network = MemoryNetwork()

    def _make(self, settings: TransportSettings, metrics: Metrics, supervisor: Supervisor) -> Transport:
        return MemoryTransport(self.network, settings, metrics)


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Look again after every loop iteration until `condition` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - any condition, not one that has an event
            await asyncio.sleep(0.002)
