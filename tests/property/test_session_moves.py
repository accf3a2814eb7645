"""A client that stays with its session sees each push once, numbered 1, 2, 3, …, wherever the
session goes meanwhile, in whatever order views, pushes, shipments and broken connections come."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.sessions.memory import ClientEnd, ConnectionClosed
from server.sessions.time_limits import Limits, SeekLimits, TransferLimits
from server.wire.messages import Ack, Hello
from tests.support.gateways import Note, World, gateways, token
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

QUICK = Limits(tick_s=0.004, transfer=TransferLimits(spread_s=0.004, grace_s=0.02), seek=SeekLimits(again_s=0.004))
NODES = ("node-1", "node-2")


class Client:
    """Follows what it is told and resumes after each break; raises on a gap or a repetition."""

    def __init__(self, world: World, subject: str) -> None:
        self.world, self.subject = world, subject
        self.end: ClientEnd | None = None
        self.goto = "memory://node-1"
        self.resume: str | None = None
        self.last = 0
        self.texts: list[str] = []
        self.faults: list[str] = []
        self.welcomes = 0
        self.resumed = 0

    def connect(self, node: str) -> None:
        end = self.end = self.world.nodes[node].listener.connect()  # type: ignore[union-attr]
        end.on_message = lambda data: self._message(end, data)
        end.on_closed = lambda code, reason: self._closed(end)
        end.send(msgspec.msgpack.encode(Hello(1, token(self.subject), self.resume, self.last)))

    def _message(self, end: ClientEnd, data: bytes) -> None:
        if end is not self.end:
            return
        message: list[Any] = msgspec.msgpack.decode(data)
        if message[0] == "welcome":
            if message[7] is not (self.welcomes > 0):
                self.faults.append(f"welcome {self.welcomes}: recovered is {message[7]}")
            self.welcomes += 1
            self.resume = message[6]
        elif message[0] == "redirect":
            self.goto = message[2]
        elif message[0] in ("note", "going"):
            if message[1] != self.last + 1:
                self.faults.append(f"{message} after {self.last}")
            self.last = message[1]
            if message[0] == "note":
                self.texts.append(message[2])
            else:
                self.goto = message[2]

    def _closed(self, end: ClientEnd) -> None:
        if end is self.end:
            self.end = None

    def acknowledge(self) -> None:
        if self.end is not None and self.welcomes:
            self.end.send(msgspec.msgpack.encode(Ack(0, self.last)))

    def leave(self) -> None:
        """As an SDK does that is told to go."""
        end, self.end = self.end, None
        if end is not None:
            end.close(1001)

    def drop(self) -> None:
        end, self.end = self.end, None
        if end is not None:
            end.drop()

    def cut(self) -> None:
        """The server does not notice."""
        end, self.end = self.end, None
        if end is not None:
            end.half_open()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(NODES)),
        st.tuples(st.just("push"), st.sampled_from(NODES)),
        st.tuples(st.just("view"), st.sampled_from(["one", "both", "both", "one leaves"])),
        st.tuples(st.just("tell"), st.sampled_from(NODES)),
        st.tuples(st.just("client"), st.sampled_from(["acknowledge", "leave", "drop", "cut"])),
        st.tuples(st.just("wait"), st.sampled_from(["0", "0.001", "0.004", "0.012"])),
    ),
    min_size=4,
    max_size=30,
)


async def play(script: list[tuple[str, str]], seed: int) -> None:
    rng = random.Random(seed)
    async with gateways(("node-1",), gateway={"hello_timeout_s": 30}, limits=QUICK) as world:
        await world.add("node-2")
        network = world.cluster.network
        network.delay = lambda frm, to: rng.choice([0.0, 0.0, 0.002, 0.006])
        views = {
            "one": world.view("node-1"),
            "both": world.view(*NODES),
            "one leaves": world.view(*NODES, leaving=["node-1"]),
        }
        table = views["both"].table
        subject = next(f"p{n}" for n in range(1_000) if table.owner(f"pilot/p{n}") == world.nodes["node-2"].system.me)  # type: ignore[arg-type]
        for name in NODES:
            world.tell(name, world.view(*NODES, leaving=["node-2"]))  # both can be reached, one owns all
        client = Client(world, subject)
        client.connect("node-1")
        await until(lambda: client.welcomes == 1)
        view = world.view(*NODES, leaving=["node-2"])
        views["one"] = view
        pushed = 0

        async def stay_connected() -> None:
            while True:
                if client.end is None:
                    node = client.goto.removeprefix("memory://") or rng.choice(NODES)
                    client.goto = f"memory://{rng.choice(NODES)}"
                    client.connect(node)
                await asyncio.sleep(0.003)

        keeper = asyncio.get_running_loop().create_task(stay_connected())
        try:
            for what, argument in script:
                if what == "push":
                    pushed += 1
                    world.nodes[argument].gateway.outlet.push(subject, Note(0, str(pushed)))
                elif what == "view":
                    view = views[argument]
                    world.tell(rng.choice(NODES), view)
                elif what == "tell":
                    world.tell(argument, view)
                elif what == "client":
                    action: Callable[[], None] = getattr(client, argument)
                    action()
                else:
                    await asyncio.sleep(float(argument))
            for name in NODES:
                world.tell(name, view)
            await until(lambda: bool(client.faults) or (client.end is not None and len(client.texts) >= pushed), 5)
            await asyncio.sleep(0.02)
        except TimeoutError:
            client.faults.append("something is missing")
        finally:
            keeper.cancel()
        assert client.faults == [], client.faults
        assert sorted(client.texts, key=int) == [str(number) for number in range(1, pushed + 1)], client.texts


@settings(max_examples=40, deadline=None)
@given(script=steps, seed=st.integers(0, 1_000))
def test_every_push_once_and_in_order(script: list[tuple[str, str]], seed: int) -> None:
    try:
        asyncio.run(play(script, seed))
    except ConnectionClosed as error:
        raise AssertionError("a client end was used after its close") from error
