"""Transports that rest, and that hand their listening sockets on: TCP, plain and encrypted, and the twin in memory."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from server.errors import ConnectionLost
from server.ids import NodeAddress
from server.settings import TransportSettings
from server.transport.ports import Answer
from server.transport.tcp import TcpTransport
from tests.support.transports import EncryptedRig, MemoryRig, Node, Rig, TcpRig, until

CALL = 1
pytestmark = pytest.mark.loops("asyncio", "uvloop")


@pytest.fixture(params=[TcpRig, EncryptedRig, MemoryRig], ids=["tcp", "encrypted", "memory"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig = request.param()
    yield rig
    await rig.close()


class Asked:
    """A handler that notes what it is asked, and answers at once or when the test says so."""

    def __init__(self, parked: bool = False) -> None:
        self.seen: list[bytes] = []
        self.parked = parked
        self.futures: list[asyncio.Future[bytes]] = []

    def __call__(self, _caller: NodeAddress, payload: bytes) -> Answer:
        self.seen.append(payload)
        if not self.parked:
            return payload
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0.001)


async def test_rest_takes_nothing_new_and_going_on_loses_nothing(rig: Rig) -> None:
    asked = Asked()
    a, b = await rig.node("a"), await rig.node("b", {CALL: asked})
    a.knows(b)
    await a.transport.request(b.me, CALL, b"before", 5.0)
    b.transport.rest()
    b.transport.rest()
    waiting = [a.transport.request(b.me, CALL, b"%d" % i, 5.0) for i in range(100)]
    a.transport.send(b.me, CALL, b"one way")
    await turns()
    assert asked.seen == [b"before"]
    assert not any(future.done() for future in waiting)
    b.transport.go_on()
    assert await asyncio.gather(*waiting) == [b"%d" % i for i in range(100)]
    await until(lambda: len(asked.seen) == 102)
    assert asked.seen == [b"before", *(b"%d" % i for i in range(100)), b"one way"]


async def test_own_requests_end_while_a_node_rests(rig: Rig) -> None:
    asked = Asked(parked=True)
    a, b = await rig.node("a"), await rig.node("b", {CALL: asked})
    a.knows(b)
    own = [a.transport.request(b.me, CALL, b"%d" % i, 5.0) for i in range(3)]
    await until(lambda: len(asked.futures) == 3)
    a.transport.rest()
    assert a.transport.under_way == 3
    for future in asked.futures:
        future.set_result(b"answer")
    await asyncio.gather(*own)
    assert a.transport.under_way == 0


async def test_requests_of_others_that_have_no_answer_are_under_way(rig: Rig) -> None:
    asked = Asked(parked=True)
    a, b = await rig.node("a"), await rig.node("b", {CALL: asked})
    a.knows(b)
    theirs = a.transport.request(b.me, CALL, b"", 5.0)
    await until(lambda: len(asked.futures) == 1)
    b.transport.rest()
    assert b.transport.under_way == 1
    asked.futures[0].set_result(b"done")
    await until(lambda: b.transport.under_way == 0)
    assert await theirs == b"done"


async def test_a_caller_that_logs_in_while_a_node_rests_is_answered_after_it(rig: Rig) -> None:
    asked = Asked()
    a, b = await rig.node("a"), await rig.node("b", {CALL: asked})
    b.transport.rest()
    a.knows(b)
    waiting = a.transport.request(b.me, CALL, b"hello", 5.0)
    await turns()
    assert asked.seen == []
    b.transport.go_on()
    assert await waiting == b"hello"


def duplicates(node: Node) -> list[socket.socket]:
    """Its listening sockets, as another process is handed them."""
    return [socket.socket(fileno=os.dup(sock.fileno())) for sock in node.transport.sockets]


async def exit_of(node: Node) -> None:
    """Leave as a process that ends does: descriptors close, nobody is told anything."""
    transport = node.transport
    assert isinstance(transport, TcpTransport)
    for server in transport._servers:
        server.close()
    for link in [*transport._links.values(), *transport._inbound.values()]:
        link.abort()
    await node.supervisor.stop()


@pytest.mark.parametrize("make", [TcpRig, EncryptedRig], ids=["tcp", "encrypted"])
async def test_heir_is_reached_at_once_by_the_sockets_of_its_predecessor(make: type[TcpRig]) -> None:
    """Its peers dial again without a pause, and find it: between the two nobody is refused, since the sockets listen
    all the while."""
    rig, asked = make(), Asked()
    try:
        a, old = await rig.node("a"), await rig.node("b", {CALL: Asked()})
        a.knows(old)
        await a.transport.request(old.me, CALL, b"before", 5.0)
        born = list(a.transport._links.values())  # type: ignore[attr-defined]
        old.transport.rest()
        lost = a.transport.request(old.me, CALL, b"unread", 5.0)
        handed = duplicates(old)
        await turns(5)
        await exit_of(old)
        with pytest.raises(ConnectionLost):
            await lost
        assert not asked.seen
        heir = rig.heir("b", {CALL: asked}, TransportSettings(port=handed[0].getsockname()[1]))
        heir.transport.adopt(handed)
        await heir.transport.start(old.me)
        heir.knows(a)
        assert heir.transport.endpoint == old.transport.endpoint
        assert not a.transport.reaches(old.me)
        await until(lambda: a.transport.reaches(old.me))
        assert await a.transport.request(old.me, CALL, b"after", 5.0) == b"after"
        assert asked.seen == [b"after"]
        assert a.transport._links[old.me] is not born[0]  # type: ignore[attr-defined]
        assert a.metrics.transport_closes_total.get("refused", 0) == 0
    finally:
        await rig.close()
