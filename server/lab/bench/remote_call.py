"""`remote-call`: an actor call to an actor system in another process, 100 in flight, one connection.

The cost counted is that of the serving process; the caller, in this process, is an actor system too. The
floor's client keeps as many requests in flight and sends what one read answered in one write,
as the transport does. Links are plain there, as the floor's.

`link-encryption`: the same call over an encrypted link, and over a plain one as its floor.
"""

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import msgspec

from server.actors.app import App
from server.catalog.system import ActorSystem
from server.cluster.view import Member, View
from server.ids import ActorId, Incarnation, NodeId, actor_id
from server.lab.bench.call import Counter
from server.lab.bench.harness import Effort, Outcome, Sample, Served, alternate, cpu_us_per_unit, cpus, pinned
from server.lab.bench.systems import member, memory_system
from server.view_change import change_view

IN_FLIGHT = 100
SAMPLE_S = 1.5


async def run(effort: Effort) -> Outcome:
    """CPU us of the serving process a call."""
    seconds = effort.seconds(SAMPLE_S)
    async with AsyncExitStack() as stack:
        stack.enter_context(pinned(cpus()[1]))
        bare = await stack.enter_async_context(Served(["server.lab.bench.floors.remote_call"]))
        above = await stack.enter_async_context(_sampled(seconds, encrypted=False))

        async def below() -> float:
            async with _bare_calls(bare.ready["port"], actor_id("counter", "0")) as calls:
                return await cpu_us_per_unit(bare.pid, seconds, calls.count)

        return await alternate("remote-call", "us", below, above, effort, goal=2.0, in_flight=IN_FLIGHT)


async def encryption(effort: Effort) -> Outcome:
    """CPU us of the serving process a call over an encrypted link; the floor's link is plain."""
    seconds = effort.seconds(SAMPLE_S)
    async with AsyncExitStack() as stack:
        stack.enter_context(pinned(cpus()[1]))
        below = await stack.enter_async_context(_sampled(seconds, encrypted=False))
        above = await stack.enter_async_context(_sampled(seconds, encrypted=True))
        return await alternate("link-encryption", "us", below, above, effort, goal=1.5, in_flight=IN_FLIGHT)


@asynccontextmanager
async def _sampled(seconds: float, *, encrypted: bool) -> AsyncIterator[Sample]:
    """A sample of calls to a serving process of its own."""
    async with (
        Served(["server.lab.bench.served_system", *(["encrypted"] if encrypted else [])]) as served,
        memory_system(App("bench", (Counter,)), "caller", encrypted=encrypted) as caller,
    ):
        ready = served.ready
        them = Member(NodeId(ready["node"]), Incarnation(ready["incarnation"]), 4, "up", ready["endpoint"], "", "")
        change_view(View((member(caller), them)), transport=caller.transport, system=caller)
        identity = next(i for n in itertools.count() if caller.owner(i := actor_id("counter", f"{n}")) == them.address)

        async def sample() -> float:
            async with _calls(caller, identity) as calls:
                return await cpu_us_per_unit(served.pid, seconds, calls.count)

        yield sample


class _Count:
    """Answers so far."""

    def __init__(self) -> None:
        self.answers = 0

    async def count(self) -> int:
        return self.answers


@asynccontextmanager
async def _calls(system: ActorSystem, identity: ActorId) -> AsyncIterator[_Count]:
    """Calls through `system`, one after another from each of many tasks."""
    counted = _Count()

    async def ask() -> None:
        while True:
            await system.ask(identity, "add", (1,))
            counted.answers += 1

    await system.ask(identity, "add", (1,))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask()) for _ in range(IN_FLIGHT)]
        yield counted
        for task in tasks:
            task.cancel()


class _BareClient(asyncio.Protocol):
    """Sends a request for each answer."""

    def __init__(self, identity: ActorId, counted: _Count) -> None:
        body = msgspec.msgpack.encode([1_000_000, identity, "add", [1], 5_000, [], False])
        self.request = struct.pack(">I", len(body)) + body
        self.counted = counted
        self._held = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self.request * IN_FLIGHT)

    def data_received(self, data: bytes) -> None:
        data, at, answers = self._held + data, 0, 0
        while len(data) - at >= 4 and len(data) - at >= 4 + (size := struct.unpack_from(">I", data, at)[0]):
            at += 4 + size
            answers += 1
        self._held = data[at:]
        self.counted.answers += answers
        self._transport.write(self.request * answers)


@asynccontextmanager
async def _bare_calls(port: int, identity: ActorId) -> AsyncIterator[_Count]:
    counted = _Count()
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: _BareClient(identity, counted), "127.0.0.1", port
    )
    try:
        yield counted
    finally:
        transport.abort()
