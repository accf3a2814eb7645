"""Gateways that go over to another one of the same node, as to the next process, step by step. The actor system stays:
it is the other parts' business."""

import socket
from typing import Any

from msgspec.structs import replace

from server.runtime.proxies import TrustedProxies
from server.sessions.connection import NOBODY
from server.sessions.gateway import Gateway
from server.sessions.memory import MemoryListener
from server.sessions.picows_driver import PicowsListener
from server.sessions.ports import GatewayDrivers
from server.sessions.session import Session
from server.sessions.session_barrier import SessionBarrier
from server.sessions.session_copy import SessionCopy, decode_copy
from server.sessions.tokens import own_rules
from server.storage.queries import NoStoreQueries
from tests.support.gateways import KEY, GatewayNode, World


def heir_of(world: World, node: GatewayNode, engine: Any = None) -> GatewayNode:
    """Another gateway on the same actor system: its process is the same one here, with other objects."""
    system = node.system
    drivers = GatewayDrivers(
        system.clock, system.rng, system.metrics, system.supervisor, system.transport, system.services.logs,
        NoStoreQueries(),
    )  # fmt: skip
    gateway = Gateway(system, drivers, system.settings, own_rules(KEY), world.limits, engine or node.gateway.presence)
    listener: MemoryListener | PicowsListener
    if world.sockets:
        listener = PicowsListener(gateway, system.settings.gateway, TrustedProxies(system.settings.proxies.trusted))
    else:
        listener = MemoryListener(node.url, system.settings.gateway.max_frame_bytes)
    gateway.succession.sockets = listener
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
    """All of it, step by step, as predecessor and heir do it."""

    def __init__(self, world: World, node: GatewayNode, engine: Any = None) -> None:
        self.world, self.old = world, node
        self.heir = heir_of(world, node, engine)
        self.barrier = SessionBarrier()
        self.packed: dict[str, bytes] = {}
        node.gateway.succession.sockets = node.listener

    def copy_ahead(self) -> None:
        over = self.old.gateway.succession
        for session in over.copies.all():
            self.packed[session.resume] = over.copies.pack(session)
            self.heir.gateway.succession.copies.unpack(self.packed[session.resume])
            self.barrier.watch(session)
        while some := self.old.gateway.going_over.copy_ahead():
            self.heir.gateway.going_over.inherit_ahead(some)

    def nothing_else_changed(self, changed: dict[Session, None]) -> None:
        """The copies of all sessions that the barrier has not noted are what they would be now."""
        copies = self.old.gateway.succession.copies
        for session in copies.all():
            if session not in changed and session.resume in self.packed:
                before, now = decode_copy(self.packed[session.resume]), decode_copy(copies.pack(session))
                assert _lasting(before) == _lasting(now)

    def rest(self) -> None:
        self.old.gateway.succession.rest()

    def freeze(self) -> None:
        """Everything after the last turn of the loop, up to `go`."""
        over, there = self.old.gateway.succession, self.heir.gateway.succession
        over.end_waiting()
        over.part_with_some()
        here = {session.resume for session in over.copies.all()}
        changed = dict.fromkeys([*self.barrier.take(), *over.copies.unnoted()])
        self.nothing_else_changed(changed)
        for session in list(there.copies._new):
            if session.resume not in here:
                there.copies.forget(session.resume)
        copied = {session.resume for session in there.copies._new}
        for session in over.copies.all():
            if session in changed or session.resume not in copied:
                there.copies.unpack(over.copies.pack(session))
        self.heir.gateway.going_over.inherit(self.old.gateway.going_over.bequeath())
        pairs = [(session.resume, over.descriptor(session)) for session in over.copies.all()]
        pairs = [pair for pair in pairs if pair[1] >= 0]
        numbers = [number for _, number in pairs]
        if self.world.sockets:
            numbers = send_over(numbers)
        for (resume, _), number in zip(pairs, numbers, strict=True):
            assert there.carry(resume, number)
        for session in over.copies.all():  # bound anew there: this process has no other activations
            self.old.gateway.succession.copies._actors.release(session)

    async def go(self) -> None:
        """The heir serves; of the old process nothing is left but what the kernel closes."""
        old, heir = self.old, self.heir
        old.gateway.table.sessions.clear()
        if isinstance(old.listener, PicowsListener):
            assert isinstance(heir.listener, PicowsListener)
            heir.listener.adopt([sock.dup() for sock in old.listener.sockets])
        kill(old.listener)
        await start(heir)
        heir.gateway.succession.take_up()
        self.world.nodes["node-1"] = heir


def kill(listener: MemoryListener | PicowsListener) -> None:
    """Let go of all descriptors without a word to their peers, as the end of a process does."""
    if isinstance(listener, MemoryListener):
        listener.crash()
        return
    listener._accepting.close()
    listener._shared.clear()
    for connection in list(listener._open):
        connection.set_receiver(NOBODY)
        connection._transport.underlying_transport.abort()


def _lasting(copy: SessionCopy) -> Any:
    """A copy without its rate's tokens and its bytes, which may be older."""
    return replace(copy, bucket=None, traffic=(0, 0))
