"""Sessions and their connections go over to another gateway of the same node, as to the next process: with real
sockets, whose descriptors travel over a socket pair, and with the memory twin in virtual time."""

import asyncio
import socket
from typing import Any

import pytest

from server.runtime.proxies import TrustedProxies
from server.sessions.connection import NOBODY
from server.sessions.gateway import Gateway
from server.sessions.memory import MemoryListener
from server.sessions.picows_driver import PicowsListener
from server.sessions.ports import GatewayDrivers
from server.sessions.session_barrier import SessionBarrier
from server.sessions.tokens import own_rules
from server.storage.queries import NoStoreQueries
from server.wire.messages import Ack, Heartbeat, Watch, WatchLatest
from tests.support.gateways import KEY, Echo, GatewayNode, Pilot, Post, Tell, World, connect, gateways
from tests.support.waiting import until


def heir_of(world: World, node: GatewayNode) -> GatewayNode:
    """Another gateway on the same actor system: its process is the same one here, with other objects."""
    system = node.system
    drivers = GatewayDrivers(
        system.clock, system.rng, system.metrics, system.supervisor, system.transport, system.services.logs,
        NoStoreQueries(),
    )  # fmt: skip
    gateway = Gateway(system, drivers, system.settings, own_rules(KEY), world.limits, node.gateway.presence)
    listener: MemoryListener | PicowsListener
    if world.sockets:
        listener = PicowsListener(gateway, system.settings.gateway, TrustedProxies(system.settings.proxies.trusted))
    else:
        listener = MemoryListener(node.url, system.settings.gateway.max_frame_bytes)
    gateway.over.sockets = listener
    return GatewayNode(system, gateway, listener, node.url)


async def start(heir: GatewayNode) -> None:
    heir.system.outlet = heir.gateway.outlet
    if isinstance(heir.listener, MemoryListener):
        await heir.listener.start(heir.gateway.accept)
    else:
        await heir.listener.start()
    heir.gateway.start()


def send_over(numbers: list[int]) -> list[int]:
    """The descriptors as another process gets them."""
    here, there = socket.socketpair()
    out: list[int] = []
    with here, there:
        for begin in range(0, len(numbers), 100):
            some = numbers[begin : begin + 100]
            socket.send_fds(here, [b"x"], some)
            _, fds, _, _ = socket.recv_fds(there, 1, 100)
            assert len(fds) == len(some)
            out += fds
    return out


class Succession:
    """All of it, step by step, as the lead's predecessor and heir do it."""

    def __init__(self, world: World, node: GatewayNode) -> None:
        self.world, self.old = world, node
        self.heir = heir_of(world, node)
        self.barrier = SessionBarrier()
        node.gateway.over.sockets = node.listener

    def copy_ahead(self) -> None:
        over = self.old.gateway.over
        for session in over.copies.all():
            self.heir.gateway.over.copies.unpack(over.copies.pack(session))
            self.barrier.watch(session)

    def rest(self) -> None:
        self.old.gateway.rest()

    def freeze(self) -> None:
        """Everything after the last turn of the loop, up to `go`."""
        over, there = self.old.gateway.over, self.heir.gateway.over
        over.end_waiting()
        over.part_with_some()
        here = {session.resume for session in over.copies.all()}
        changed = dict.fromkeys([*self.barrier.take(), *over.copies.unnoted()])
        for session in list(there.copies._new):
            if session.resume not in here:
                there.copies.forget(session.resume)
        copied = {session.resume for session in there.copies._new}
        for session in over.copies.all():
            if session in changed or session.resume not in copied:
                there.copies.unpack(over.copies.pack(session))
        there.inherit(over.bequeath())
        pairs = [(session.resume, over.descriptor(session)) for session in over.copies.all()]
        pairs = [pair for pair in pairs if pair[1] >= 0]
        numbers = [number for _, number in pairs]
        if self.world.sockets:
            numbers = send_over(numbers)
        for (resume, _), number in zip(pairs, numbers, strict=True):
            assert there.carry(resume, number)
        for session in over.copies.all():  # bound anew there: this process has no other activations
            self.old.gateway.over.copies._actors.release(session)

    async def go(self) -> None:
        """The heir serves; of the old process nothing is left but what the kernel closes."""
        old, heir = self.old, self.heir
        old.gateway.table.sessions.clear()
        if isinstance(old.listener, PicowsListener):
            assert isinstance(heir.listener, PicowsListener)
            heir.listener.adopt([sock.dup() for sock in old.listener.sockets])
        kill(old.listener)
        await start(heir)
        heir.gateway.take_up()
        self.world.nodes["node-1"] = heir


def kill(listener: MemoryListener | PicowsListener) -> None:
    """Let go of all descriptors without a word to their peers, as the end of a process does."""
    if isinstance(listener, MemoryListener):
        listener.crash()
        return
    listener._accepting.close()
    for connection in list(listener._open):
        connection.set_receiver(NOBODY)
        connection._transport.underlying_transport.abort()


def numbers_of(seen: list[list[Any]]) -> list[int]:
    return [message[1] for message in seen if message[0] in ("note", "events")]


@pytest.mark.virtual_time
@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_a_memory_client_notices_nothing(format: str) -> None:
    async with gateways() as world:
        node = world.nodes["node-1"]
        anna, ben = world.client("node-1", "anna", format=format), world.client("node-1", "ben")
        host = world.client("node-1", "host", "host")
        for client in (anna, ben, host):
            assert (await client.hello())[0] == "welcome"
        await anna.ask(Watch, "ledger/main")
        assert (await anna.ask(WatchLatest, "board/lights"))[0] == "snapshot"
        await host.ask(Post, "main", ["first"])
        await ben.ask(Tell, "anna", "early", 3)
        while len(numbers_of(anna.seen)) < 4:
            anna.seen.append(await anna.receive())
        await anna.send(Ack(0, 2))
        await anna.send(Heartbeat(0))
        await asyncio.sleep(0.01)
        over = Succession(world, node)
        over.copy_ahead()
        await ben.ask(Tell, "anna", "later", 2)
        over.rest()
        await anna.send(Echo(77, "while it rests"))
        await asyncio.sleep(0.05)
        over.freeze()
        await over.go()
        assert (await anna.until(lambda message: message[1] == 77))[0] == "said"
        await ben.ask(Tell, "anna", "after", 2)
        await host.ask(Post, "main", ["second"])
        while len(numbers_of(anna.seen)) < 9:
            anna.seen.append(await anna.receive())
        assert numbers_of(anna.seen) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        session = world.nodes["node-1"].gateway.table.players["anna"]
        assert session.outbox.acked == 2 and session.beats == 1
        assert node.metrics.sessions == 3
        assert [entry for entry in Pilot.history if entry[0] != "connected"] == []
        assert len([entry for entry in Pilot.history if entry[1] == "anna"]) == 1


@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_a_socket_client_notices_nothing(format: str) -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        anna = await connect(node, "anna", format=format)
        ben = await connect(node, "ben")
        for client in (anna, ben):
            assert (await client.hello())[0] == "welcome"
        await ben.ask(Tell, "anna", "early", 3)
        over = Succession(world, node)
        over.copy_ahead()
        await ben.ask(Tell, "anna", "later", 2)
        over.rest()
        await anna.send(Echo(77, "while it rests"))
        late = asyncio.create_task(connect(node, "late"))
        await asyncio.sleep(0.05)
        assert not late.done()
        over.freeze()
        await over.go()
        assert (await anna.until(lambda message: message[1] == 77))[0] == "said"
        await ben.ask(Tell, "anna", "x" * 3000, 2)
        assert (await (await late).hello())[0] == "welcome"
        while len(numbers_of(anna.seen)) < 7:
            anna.seen.append(await anna.receive())
        assert numbers_of(anna.seen) == [1, 2, 3, 4, 5, 6, 7]
        assert (await anna.ask(Echo, "y" * 5000))[2] == "y" * 5000
        heir = world.nodes["node-1"]
        assert heir.metrics.sessions == 3 and not heir.metrics.connections_not_carried_total
        await anna.ws.close(1000)
        await until(lambda: "anna" not in heir.gateway.table.players)
        assert isinstance(heir.listener, PicowsListener) and len(heir.listener) == 2
