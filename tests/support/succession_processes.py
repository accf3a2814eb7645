"""Two processes of a node, for a test with real descriptors: `python -m tests.support.succession_processes ROLE FD`.

    predecessor   serves; prints its url; at a line on its input goes over to the heir at the other end of FD, and exits
    heir          takes over; prints what it took, and how long; serves until its input ends

Both push numbered words to every player who is there, and let players look differently, all the time. Only the gateway
goes over: the heir's actors are others, which sessions are told to anew.
"""

import asyncio
import json
import os
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any, Final

import msgspec
import uvloop
from msgspec.structs import replace

from game.messages import MatchAssigned
from server.sessions.picows_driver import PicowsListener
from server.sessions.session_barrier import SessionBarrier
from tests.support.gateways import GatewayNode
from tests.support.presences import MemoryPresence
from tests.support.successions import heir_of, start
from tests.support.waiting import until
from tests.support.watchers import GONE, WatchApp, WatchWorld, looks, watched

APP: Final = replace(WatchApp, answers=(*WatchApp.answers, MatchAssigned))
SETTINGS: Final = {"heartbeat_interval_s": 1.0, "heartbeats_missed": 100, "latest_tick_ms": 20}
WATCHED: Final = 20
"""Players `shown0` and so on, whom every client watches."""
_FDS: Final = 200
_decode = msgspec.msgpack.decode


class Channel:
    """Messages and descriptors, one after the other."""

    def __init__(self, descriptor: int) -> None:
        self.sock = socket.socket(fileno=descriptor)

    def send(self, message: Any) -> None:
        data = msgspec.msgpack.encode(message)
        self.sock.sendall(struct.pack("!I", len(data)) + data)

    def receive(self) -> Any:
        (size,) = struct.unpack("!I", self._exactly(4))
        return _decode(self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        out = bytearray()
        while len(out) < size:
            data = self.sock.recv(size - len(out))
            if not data:
                raise EOFError
            out += data
        return bytes(out)

    def send_descriptors(self, numbers: list[int]) -> None:
        for first in range(0, len(numbers), _FDS):
            some = numbers[first : first + _FDS]
            socket.send_fds(self.sock, [b"d"], some)
            assert self.sock.recv(1) == b"t"

    def receive_descriptors(self, count: int) -> list[int]:
        out: list[int] = []
        while len(out) < count:
            _, some, _, _ = socket.recv_fds(self.sock, 1, _FDS)
            self.sock.sendall(b"t")
            out += some
        return out


class Traffic:
    """Words to players, counted by player, and moves of those who are watched."""

    def __init__(self, node: GatewayNode, engine: MemoryPresence) -> None:
        self.node, self.engine = node, engine
        self.words: dict[str, int] = {}
        self.moves = 0

    async def run(self) -> None:
        while True:
            for player in list(self.node.gateway.table.players):
                count = self.words[player] = self.words.get(player, 0) + 1
                self.node.gateway.outlet.push(player, MatchAssigned(0, str(count)))
            self.moves += 1
            self.engine.show(f"shown{self.moves % WATCHED}", looks(self.moves))
            await asyncio.sleep(0.2)


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


async def line() -> str:
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def predecessor(world: WatchWorld, channel: Channel) -> None:
    node, engine = world.world.nodes["node-1"], world.engines["node-1"]
    listener = node.listener
    assert isinstance(listener, PicowsListener)
    gateway = node.gateway
    gateway.succession.sockets = listener
    traffic = Traffic(node, engine)
    task = asyncio.get_running_loop().create_task(traffic.run())
    say(url=node.url)
    await line()
    channel.send(len(listener.sockets))
    channel.send_descriptors([sock.fileno() for sock in listener.sockets])
    barrier, copies = SessionBarrier(), gateway.succession.copies
    sent: dict[str, int] = {}
    began, pieces = time.perf_counter(), 0.0
    for session in copies.all():
        at = time.perf_counter()
        data = copies.pack(session)
        barrier.watch(session)
        pieces += time.perf_counter() - at
        channel.send(("copy", session.resume, data))
        sent[session.resume] = -1
        if len(sent) % 20 == 0:
            await asyncio.sleep(0.001)
    copied_s = time.perf_counter() - began
    resting = time.monotonic()
    gateway.succession.rest()
    rest_s = time.monotonic() - resting
    with suppress(TimeoutError):
        await until(lambda: not gateway.succession.under_way, 0.5)
    frozen = time.monotonic()
    task.cancel()
    gateway.succession.end_waiting()
    parted = gateway.succession.part_with_some()
    changed = dict.fromkeys([*barrier.take(), *copies.unnoted()])
    for session in copies.all():
        if session in changed or session.resume not in sent:
            channel.send(("copy", session.resume, copies.pack(session)))
    here = {session.resume for session in copies.all()}
    channel.send(("gone", [resume for resume in sent if resume not in here], b""))
    numbers = {session.resume: gateway.succession.descriptor(session) for session in copies.all()}
    numbers = {resume: number for resume, number in numbers.items() if number >= 0}
    channel.send(("descriptors", list(numbers), b""))
    channel.send_descriptors(list(numbers.values()))
    shown = {player: (each[0].everybody, each[0].friends, each[0].own) for player, each in engine.shown.items()}
    channel.send(("bequest", [traffic.words, traffic.moves, shown], gateway.going_over.bequeath()))
    assert channel.receive() == "ready"
    facts = {
        "sessions": len(here), "changed": len(changed), "parted": dict(parted), "pack_us": pieces / len(here) * 1e6,
        "copy_ahead_ms": copied_s * 1e3, "rest_call_us": rest_s * 1e6, "resting_ms": (frozen - resting) * 1e3,
        "frozen": frozen,
    }  # fmt: skip
    channel.send(facts)
    os._exit(0)


async def heir(world: WatchWorld, channel: Channel) -> None:
    node, engine = world.world.nodes["node-1"], world.engines["node-1"]
    node.system.rng.seed()  # a test's begins as its predecessor's did: it would make the same names again
    new = heir_of(world.world, node, engine)
    listener = new.listener
    assert isinstance(listener, PicowsListener)
    listener.adopt([socket.socket(fileno=number) for number in channel.receive_descriptors(channel.receive())])
    gateway, traffic = new.gateway, Traffic(new, engine)
    unpacking = carrying = 0.0
    unpacked = 0
    while True:
        kind, what, data = channel.receive()
        at = time.perf_counter()
        if kind == "copy":
            gateway.succession.copies.unpack(data)
            unpacked += 1
            unpacking += time.perf_counter() - at
        elif kind == "gone":
            for resume in what:
                gateway.succession.copies.forget(resume)
        elif kind == "descriptors":
            numbers = channel.receive_descriptors(len(what))
            at = time.perf_counter()
            for resume, number in zip(what, numbers, strict=True):
                assert gateway.succession.carry(resume, number)
            carrying = time.perf_counter() - at
        else:
            break
    at = time.perf_counter()
    gateway.going_over.inherit(data)
    inherit_s = time.perf_counter() - at
    traffic.words, traffic.moves, shown = what
    for player, pictures in shown.items():
        engine.shown[player] = (type(GONE)(*map(bytes, pictures)), 0)
    channel.send("ready")
    facts = channel.receive()
    go = time.monotonic()
    await start(new)
    started = time.monotonic()
    gateway.succession.take_up()
    taken = time.monotonic()
    task = asyncio.get_running_loop().create_task(traffic.run())
    await until(lambda: not len(listener._carrier))
    attached = time.monotonic()
    frozen = facts.pop("frozen")
    sessions = facts["sessions"]
    say(
        **facts, unpack_us=unpacking / unpacked * 1e6, carry_us=carrying / sessions * 1e6, inherit_ms=inherit_s * 1e3,
        frozen_ms=(go - frozen) * 1e3, start_ms=(started - go) * 1e3, take_up_ms=(taken - started) * 1e3,
        attach_us=(attached - taken) / sessions * 1e6,
    )  # fmt: skip
    await line()
    task.cancel()
    await asyncio.sleep(0.3)
    players = gateway.table.players
    say(
        words=traffic.words,
        sessions=len(players),
        moves=traffic.moves,
        not_carried=new.metrics.connections_not_carried_total,
    )
    await line()
    os._exit(0)


async def main(role: str, descriptor: int) -> None:
    async with watched(app=APP, sockets=True, gateway=SETTINGS) as world:
        with suppress(EOFError):
            await {"predecessor": predecessor, "heir": heir}[role](world, Channel(descriptor))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
