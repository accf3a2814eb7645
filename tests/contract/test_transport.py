"""What every `Transport` does: the TCP driver, plain and encrypted, and its in-memory twin pass the same tests."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.errors import (
    BadInput,
    BadSetting,
    ConnectionLost,
    DeadlineExceeded,
    GarrisonError,
    Internal,
    Moved,
    OutcomeUnknown,
    Overloaded,
    Rejected,
    Unavailable,
)
from server.ids import NodeAddress
from server.runtime.clock import SystemClock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import TransportSettings
from server.transport.dialled import DialledLink
from server.transport.frames import (
    CHALLENGE,
    HEAD,
    HELLO,
    MAX_LOGIN_BYTES,
    PROOF,
    READY,
    REFUSED,
    REQUEST,
    VERSION,
    FrameReader,
    frame,
)
from server.transport.link import LinkContext
from server.transport.login import NONCE_BYTES, encode_hello, hello, proof, split_challenge
from server.transport.ports import Answer, Handler
from server.transport.tcp import MAX_STRANGERS, TcpTransport
from tests.support.transports import KEY, EncryptedRig, MemoryRig, Rig, TcpRig, address, until

CALL, OTHER = 1, 2
pytestmark = pytest.mark.loops("asyncio", "uvloop")


@pytest.fixture(params=[TcpRig, EncryptedRig, MemoryRig], ids=["tcp", "encrypted", "memory"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig = request.param()
    yield rig
    await rig.close()


@pytest.fixture
async def tcp() -> AsyncIterator[TcpRig]:
    rig = TcpRig()
    yield rig
    await rig.close()


def echo(_caller: NodeAddress, payload: bytes) -> Answer:
    return payload


class Parked:
    """A handler whose answers wait until the test gives them."""

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[bytes]] = []

    def __call__(self, _caller: NodeAddress, _payload: bytes) -> Answer:
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]


async def test_request_reaches_the_handler_with_its_caller(rig: Rig) -> None:
    seen: list[tuple[NodeAddress, bytes]] = []

    def handler(caller: NodeAddress, payload: bytes) -> Answer:
        seen.append((caller, payload))
        return b"yes " + payload

    a, b = await rig.node("a"), await rig.node("b", {CALL: handler})
    a.knows(b)
    assert await a.transport.request(b.me, CALL, b"hello", 2.0) == b"yes hello"
    assert seen == [(a.me, b"hello")]


async def test_answers_may_come_later_and_may_be_nothing(rig: Rig) -> None:
    parked = Parked()
    a, b = await rig.node("a"), await rig.node("b", {CALL: parked, OTHER: lambda _c, _p: None})
    a.knows(b)
    slow = a.transport.request(b.me, CALL, b"", 5.0)
    assert await a.transport.request(b.me, OTHER, b"x", 5.0) == b""
    assert not slow.done()
    parked.futures[0].set_result(b"late")
    assert await slow == b"late"


async def test_both_directions_at_once(rig: Rig) -> None:
    a, b = await rig.node("a", {CALL: echo}), await rig.node("b", {CALL: echo})
    a.knows(b)
    b.knows(a)
    asked = [a.transport.request(b.me, CALL, b"%d" % i, 5.0) for i in range(200)]
    back = [b.transport.request(a.me, CALL, b"%d" % i, 5.0) for i in range(200)]
    assert await asyncio.gather(*asked) == await asyncio.gather(*back) == [b"%d" % i for i in range(200)]


async def test_one_way_and_requests_arrive_in_order(rig: Rig) -> None:
    seen: list[int] = []

    def handler(_caller: NodeAddress, payload: bytes) -> Answer:
        seen.append(int(payload))
        return b""

    a, b = await rig.node("a"), await rig.node("b", {CALL: handler})
    a.knows(b)
    asked: list[asyncio.Future[bytes]] = []
    for i in range(1_000):
        if i % 3:
            asked.append(a.transport.request(b.me, CALL, b"%d" % i, 5.0))
        else:
            a.transport.send(b.me, CALL, b"%d" % i)
        if i % 100 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*asked)
    await until(lambda: len(seen) == 1_000)
    assert seen == list(range(1_000))


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1_000_000])
async def test_payloads_of_all_sizes(rig: Rig, size: int) -> None:
    a, b = await rig.node("a"), await rig.node("b", {CALL: echo})
    a.knows(b)
    payload = random.Random(size).randbytes(size)
    assert await a.transport.request(b.me, CALL, payload, 5.0) == payload


ERRORS: list[GarrisonError] = [
    Moved("node-7#12"),
    Rejected("already_ended", "the match is over"),
    Overloaded("full", retry_after_s=1.5),
    BadInput("no"),
    OutcomeUnknown("perhaps"),
]


@pytest.mark.parametrize("later", [False, True], ids=["raised", "in a future"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_typed_errors_travel(rig: Rig, error: GarrisonError, later: bool) -> None:
    def handler(_caller: NodeAddress, _payload: bytes) -> Answer:
        if not later:
            raise error
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, error)
        return future

    a, b = await rig.node("a"), await rig.node("b", {CALL: handler})
    a.knows(b)
    with pytest.raises(type(error)) as caught:
        await a.transport.request(b.me, CALL, b"", 5.0)
    got = caught.value
    assert (type(got), got.code, got.message) == (type(error), error.code, error.message)
    assert got.retry_after_s == error.retry_after_s
    if isinstance(error, Moved):
        assert isinstance(got, Moved)
        assert got.address == error.address


async def test_a_handlers_bug_is_internal_and_counted(rig: Rig) -> None:
    def handler(_caller: NodeAddress, payload: bytes) -> Answer:
        raise KeyError(payload)

    a, b = await rig.node("a"), await rig.node("b", {CALL: handler})
    a.knows(b)
    a.transport.send(b.me, CALL, b"secret")
    with pytest.raises(Internal) as caught:
        await a.transport.request(b.me, CALL, b"secret", 5.0)
    assert "secret" not in caught.value.message
    assert b.metrics.transport_handler_crashes_total == 2
    with pytest.raises(BadInput):
        await a.transport.request(b.me, 77, b"", 5.0)  # no such service


async def test_a_cancelled_call_is_an_unknown_outcome(rig: Rig) -> None:
    parked = Parked()
    a, b = await rig.node("a"), await rig.node("b", {CALL: parked})
    a.knows(b)
    asked = a.transport.request(b.me, CALL, b"", 5.0)
    await until(lambda: len(parked.futures) == 1)
    parked.futures[0].cancel()
    with pytest.raises(OutcomeUnknown):
        await asked


async def test_deadline(rig: Rig) -> None:
    parked = Parked()
    a, b = await rig.node("a"), await rig.node("b", {CALL: parked, OTHER: echo})
    a.knows(b)
    await a.transport.request(b.me, OTHER, b"", 5.0)
    slow = a.transport.request(b.me, CALL, b"", 0.1)
    with pytest.raises(DeadlineExceeded):
        async with asyncio.timeout(30):
            await slow
    assert a.metrics.transport_deadlines_total == 1
    parked.futures[0].set_result(b"too late")  # ignored
    assert await a.transport.request(b.me, OTHER, b"still here", 5.0) == b"still here"


async def test_a_caller_that_gives_up_leaves_nothing(rig: Rig) -> None:
    a, b = await rig.node("a"), await rig.node("b", {CALL: echo})
    a.knows(b)
    given_up = a.transport.request(b.me, CALL, b"", 5.0)
    given_up.cancel()
    assert await a.transport.request(b.me, CALL, b"x", 5.0) == b"x"


async def test_unknown_peer_is_unavailable_at_once(rig: Rig) -> None:
    a, b = await rig.node("a"), await rig.node("b", {CALL: echo})
    with pytest.raises(Unavailable):
        a.transport.request(b.me, CALL, b"", 5.0)
    a.transport.send(b.me, CALL, b"")  # dropped
    a.knows(b)
    await a.transport.request(b.me, CALL, b"", 5.0)
    a.knows()
    with pytest.raises(Unavailable):
        a.transport.request(b.me, CALL, b"", 5.0)


async def test_leaving_the_view_fails_what_is_under_way(rig: Rig) -> None:
    parked = Parked()
    a, b = await rig.node("a"), await rig.node("b", {CALL: parked})
    a.knows(b)
    asked = a.transport.request(b.me, CALL, b"", 5.0)
    await until(lambda: len(parked.futures) == 1)
    a.knows()
    with pytest.raises(ConnectionLost):
        await asked


async def test_another_incarnation_is_refused(rig: Rig) -> None:
    a, b = await rig.node("a"), await rig.node("b", {CALL: echo}, incarnation=5)
    for wrong in (4, 6):
        a.transport.set_peers({address("b", wrong): b.transport.endpoint})
        with pytest.raises(Unavailable):
            await a.transport.request(address("b", wrong), CALL, b"", 2.0)
    a.knows(b)
    assert await a.transport.request(b.me, CALL, b"x", 2.0) == b"x"


async def test_a_peer_outside_the_view_may_call(rig: Rig) -> None:
    a, b, c = await rig.node("a"), await rig.node("b", {CALL: echo}), await rig.node("c")
    b.knows(c)
    a.knows(b)
    assert await a.transport.request(b.me, CALL, b"x", 2.0) == b"x"


async def test_too_large_a_payload_is_refused_before_it_leaves(rig: Rig) -> None:
    small = TransportSettings(max_frame_bytes=1_000, max_buffered_bytes=1_000_000)
    big = TransportSettings()
    a = await rig.node("a", {CALL: lambda _c, _p: bytes(5_000)}, small)
    b = await rig.node("b", {CALL: echo}, big)
    a.knows(b)
    b.knows(a)
    with pytest.raises(BadInput):
        a.transport.request(b.me, CALL, bytes(1_001), 2.0)
    assert await a.transport.request(b.me, CALL, bytes(1_000), 2.0) == bytes(1_000)
    with pytest.raises(Internal):  # and an answer of that size is an error, not a broken link
        await b.transport.request(a.me, CALL, b"", 2.0)


async def test_requests_in_flight_are_bounded(rig: Rig) -> None:
    parked = Parked()
    a = await rig.node("a", settings=TransportSettings(max_in_flight=10))
    b = await rig.node("b", {CALL: parked, OTHER: echo})
    a.knows(b)
    asked = [a.transport.request(b.me, CALL, b"", 5.0) for _ in range(10)]
    with pytest.raises(Overloaded):
        a.transport.request(b.me, OTHER, b"", 5.0)
    await until(lambda: len(parked.futures) == 10)
    for future in parked.futures:
        future.set_result(b"")
    await asyncio.gather(*asked)
    assert await a.transport.request(b.me, OTHER, b"x", 5.0) == b"x"


async def test_calls_in_work_at_the_answering_side_are_bounded(rig: Rig) -> None:
    parked = Parked()
    a = await rig.node("a")
    b = await rig.node("b", {CALL: parked}, TransportSettings(max_in_flight=10))
    a.knows(b)
    asked = [a.transport.request(b.me, CALL, b"", 5.0) for _ in range(11)]
    with pytest.raises(Overloaded):
        await asked[10]
    for future in parked.futures:
        future.set_result(b"")
    assert await asyncio.gather(*asked[:10]) == [b""] * 10


async def test_bytes_waiting_to_leave_are_bounded(rig: Rig) -> None:
    settings = TransportSettings(max_frame_bytes=1_000_000, max_buffered_bytes=3_000_000)
    a, b = await rig.node("a", settings=settings), await rig.node("b", {CALL: echo})
    a.knows(b)
    asked = [a.transport.request(b.me, CALL, bytes(1_000_000), 5.0) for _ in range(3)]
    with pytest.raises(Overloaded):
        a.transport.request(b.me, CALL, bytes(1_000_000), 5.0)
    a.transport.send(b.me, CALL, bytes(1_000_000))  # dropped and counted
    assert a.metrics.transport_refused_total == 2
    await asyncio.gather(*asked)
    assert len(await a.transport.request(b.me, CALL, bytes(1_000_000), 5.0)) == 1_000_000


async def test_stop_fails_what_is_under_way_and_leaves_no_task(rig: Rig) -> None:
    before = asyncio.all_tasks()
    parked = Parked()
    a, b = await rig.node("a"), await rig.node("b", {CALL: parked, OTHER: echo})
    a.knows(b)
    b.knows(a)
    asked = a.transport.request(b.me, CALL, b"", 5.0)
    await until(lambda: len(parked.futures) == 1)
    await a.transport.stop()
    with pytest.raises(ConnectionLost):
        await asked
    with pytest.raises(Unavailable):
        a.transport.request(b.me, CALL, b"", 5.0)
    parked.futures[0].set_result(b"nobody waits")
    await b.transport.stop()
    await a.transport.stop()  # again
    assert not len(a.supervisor)
    assert not len(b.supervisor)
    assert asyncio.all_tasks() == before


async def test_the_peer_stops(rig: Rig) -> None:
    parked = Parked()
    a, b = await rig.node("a"), await rig.node("b", {CALL: parked})
    a.knows(b)
    asked = a.transport.request(b.me, CALL, b"", 5.0)
    await until(lambda: len(parked.futures) == 1)
    await b.transport.stop()
    with pytest.raises(ConnectionLost):
        await asked

    async def refused() -> bool:
        try:
            await a.transport.request(b.me, CALL, b"", 1.0)
        except Unavailable:
            return True
        except ConnectionLost:
            return False
        return False

    async with asyncio.timeout(30):
        while not await refused():  # noqa: ASYNC110
            await asyncio.sleep(0)


# the TCP driver alone


async def test_a_node_that_comes_back_is_reached_again(tcp: TcpRig) -> None:
    a, b = await tcp.node("a"), await tcp.node("b", {CALL: echo})
    a.knows(b)
    await a.transport.request(b.me, CALL, b"", 2.0)
    port = int(b.transport.endpoint.rpartition(":")[2])
    await b.transport.stop()
    again = await tcp.node("b", {CALL: echo}, TransportSettings(port=port))
    async with asyncio.timeout(10):
        while True:
            try:
                assert await a.transport.request(again.me, CALL, b"x", 2.0) == b"x"
                return
            except (Unavailable, ConnectionLost):
                await asyncio.sleep(0.01)


async def test_port_in_use_names_it(tcp: TcpRig) -> None:
    a = await tcp.node("a")
    port = int(a.transport.endpoint.rpartition(":")[2])
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}: the port is already in use"):
        await tcp.node("b", settings=TransportSettings(port=port))


@pytest.mark.parametrize("field", ["key", "cluster"])
async def test_wrong_key_or_label_is_refused(tcp: TcpRig, field: str) -> None:
    b = await tcp.node("b", {CALL: echo})
    other = TcpRig()
    setattr(other, field, bytes(32) if field == "key" else "other")
    a = await other.node("a")
    a.knows(b)
    with pytest.raises(Unavailable):
        await a.transport.request(b.me, CALL, b"", 2.0)
    await other.close()


def test_an_address_that_nobody_could_be_told_is_refused() -> None:
    for settings in (TransportSettings(host="0.0.0.0"), TransportSettings(host="10.0.0.1", advertise_host="::")):
        with pytest.raises(BadSetting) as caught:
            TcpTransport(settings, "test", KEY, SystemClock(), Metrics(), Supervisor("x"), random.Random(1))
        assert caught.value.field == "transport.advertise_host"


class Raw:
    """A socket that speaks frames by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames = FrameReader(1 << 20)
        self._got: list[tuple[int, int, int, bytes]] = []

    @classmethod
    async def open(cls, endpoint: str) -> "Raw":
        host, _, port = endpoint.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self) -> tuple[int, bytes]:
        """The next frame's kind and payload."""
        async with asyncio.timeout(30):
            while not self._got:
                data = await self.reader.read(65_536)
                if not data:
                    raise EOFError
                self._got = self._frames.feed(data)
        kind, _, _, payload = self._got.pop(0)
        return kind, payload

    async def login(self, me: NodeAddress, to: NodeAddress, key: bytes = KEY) -> None:
        first = hello("test", me, to, bytes(NONCE_BYTES))
        self.write(frame(HELLO, encode_hello(first)))
        kind, payload = await self.read()
        assert kind == CHALLENGE
        nonce, theirs = split_challenge(payload)
        assert theirs == proof(KEY, "acceptor", first, nonce)
        self.write(frame(PROOF, proof(key, "dialler", first, nonce)))

    async def closed(self) -> None:
        """Wait until the other end closes."""
        async with asyncio.timeout(30):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionError:
                pass
        self.writer.close()


def counted(handler: Handler) -> tuple[Handler, list[bytes]]:
    seen: list[bytes] = []

    def wrapped(caller: NodeAddress, payload: bytes) -> Answer:
        seen.append(payload)
        return handler(caller, payload)

    return wrapped, seen


BAD_STRANGERS: dict[str, tuple[bytes, str]] = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "wrong version"),
    "zeros": (bytes(100), "wrong version"),
    "another version": (HEAD.pack(11, VERSION + 1, HELLO, 0, 0), "wrong version"),
    "too short": (HEAD.pack(3, VERSION, HELLO, 0, 0), "frame too short"),
    "large hello": (HEAD.pack(12 + MAX_LOGIN_BYTES, VERSION, HELLO, 0, 0), "frame too large"),
    "no hello": (frame(HELLO, b"\xc1"), "bad login"),
    "request first": (frame(REQUEST, b"x", CALL, 1), "unexpected frame"),
    "proof first": (frame(PROOF, bytes(32)), "unexpected frame"),
    "ready first": (frame(READY), "unexpected frame"),
}


@pytest.mark.parametrize("case", BAD_STRANGERS)
async def test_strangers_get_nowhere(tcp: TcpRig, case: str) -> None:
    handler, seen = counted(echo)
    b = await tcp.node("b", {CALL: handler})
    bad, reason = BAD_STRANGERS[case]
    raw = await Raw.open(b.transport.endpoint)
    raw.write(bad)
    await raw.closed()
    await until(lambda: b.metrics.transport_closes_total == {reason: 1})
    assert not seen


async def test_a_stranger_who_knows_no_key_gets_nowhere(tcp: TcpRig) -> None:
    handler, seen = counted(echo)
    b = await tcp.node("b", {CALL: handler})
    raw = await Raw.open(b.transport.endpoint)
    await raw.login(address("a"), b.me, key=bytes(32))
    raw.write(frame(REQUEST, b"x", CALL, 1))
    await raw.closed()
    assert b.metrics.transport_closes_total == {"wrong key": 1}
    assert not seen


async def test_a_peer_that_is_ready_without_a_proof_of_the_key_is_not_believed(tcp: TcpRig) -> None:
    """Somebody who knows no key has taken the port of a node that is still in the view."""
    a, me = await tcp.node("a"), address("b")

    async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = Raw(reader, writer)
        assert (await raw.read())[0] == HELLO
        writer.write(frame(READY))
        await raw.closed()

    server = await asyncio.start_server(liar, "127.0.0.1", 0)
    a.transport.set_peers({me: f"127.0.0.1:{server.sockets[0].getsockname()[1]}"})
    asked = a.transport.request(me, CALL, b"secret", 5.0)
    with pytest.raises(Unavailable, match="unexpected frame"):
        await asked
    assert not a.transport.reaches(me)
    await a.transport.stop()
    server.close()
    await server.wait_closed()


async def test_half_a_hello_ends_with_the_login_time(tcp: TcpRig) -> None:
    b = await tcp.node("b", settings=TransportSettings(connect_timeout_s=0.1))
    raw = await Raw.open(b.transport.endpoint)
    raw.write(frame(HELLO, bytes(40))[:20])
    await raw.closed()
    assert b.metrics.transport_closes_total == {"login too slow": 1}


async def test_an_older_run_of_a_known_node_is_refused(tcp: TcpRig) -> None:
    b = await tcp.node("b", {CALL: echo})
    b.transport.set_peers({address("a", 3): "127.0.0.1:1"})
    raw = await Raw.open(b.transport.endpoint)
    raw.write(frame(HELLO, encode_hello(hello("test", address("a", 2), b.me, bytes(NONCE_BYTES)))))
    kind, why = await raw.read()
    assert (kind, b"newer incarnation" in why) == (REFUSED, True)
    await raw.closed()


async def test_strangers_are_bounded(tcp: TcpRig) -> None:
    b = await tcp.node("b", {CALL: echo})
    raws = [await Raw.open(b.transport.endpoint) for _ in range(MAX_STRANGERS + 5)]
    await until(lambda: b.metrics.transport_closes_total == {"too many strangers": 5})
    for raw in raws:
        raw.writer.close()
    a = await tcp.node("a")
    await until(lambda: b.metrics.transport_closes_total.get("lost") == MAX_STRANGERS)
    a.knows(b)
    assert await a.transport.request(b.me, CALL, b"x", 2.0) == b"x"


async def test_a_frame_in_pieces_is_one_frame(tcp: TcpRig) -> None:
    handler, seen = counted(echo)
    b = await tcp.node("b", {CALL: handler})
    raw = await Raw.open(b.transport.endpoint)
    await raw.login(address("a"), b.me)
    assert (await raw.read())[0] == READY
    data = frame(REQUEST, b"first", CALL, 1) + frame(REQUEST, b"second", CALL, 2)
    for at in range(len(data)):
        raw.write(data[at : at + 1])
        await raw.writer.drain()
        await asyncio.sleep(0)
    assert [(await raw.read())[1] for _ in range(2)] == [b"first", b"second"]
    assert seen == [b"first", b"second"]
    raw.writer.close()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (HEAD.pack((8 << 20) + 12, VERSION, REQUEST, CALL, 1), "frame too large"),
        (b"\xff" * 64, "wrong version"),
        (frame(HELLO, b"again"), "unexpected frame"),
        (frame(200, b""), "unexpected frame"),
    ],
)
async def test_bad_bytes_of_a_peer_close_its_link_only(tcp: TcpRig, bad: bytes, reason: str) -> None:
    a, b = await tcp.node("a"), await tcp.node("b", {CALL: echo})
    a.knows(b)
    await a.transport.request(b.me, CALL, b"", 2.0)
    raw = await Raw.open(b.transport.endpoint)
    await raw.login(address("evil"), b.me)
    assert (await raw.read())[0] == READY
    raw.write(bad)
    await raw.closed()
    assert b.metrics.transport_closes_total == {reason: 1}
    assert await a.transport.request(b.me, CALL, b"fine", 2.0) == b"fine"


async def test_random_bytes_never_crash_a_node(tcp: TcpRig) -> None:
    rng = random.Random(7)
    a, b = await tcp.node("a"), await tcp.node("b", {CALL: echo})
    a.knows(b)
    whole = frame(REQUEST, b"payload", CALL, 1) * 20
    for _ in range(100):
        raw = await Raw.open(b.transport.endpoint)
        await raw.login(address("evil"), b.me)
        assert (await raw.read())[0] == READY
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        raw.write(bytes(damaged[: rng.randrange(len(damaged))]))
        await raw.writer.drain()
        raw.writer.close()
    assert await a.transport.request(b.me, CALL, b"fine", 2.0) == b"fine"
    assert b.metrics.transport_handler_crashes_total == 0


async def test_a_peer_that_does_not_read_its_answers_is_stopped(tcp: TcpRig) -> None:
    answer = bytes(1_000_000)
    b = await tcp.node("b", {CALL: lambda _c, _p: answer}, TransportSettings(max_buffered_bytes=8 << 20))
    raw = await Raw.open(b.transport.endpoint)
    raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await raw.login(address("evil"), b.me)
    assert (await raw.read())[0] == READY
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(200):
        raw.write(frame(REQUEST, b"", CALL, 1))
    await until(lambda: "answers not read" in b.metrics.transport_closes_total or _stuck(b.transport))
    raw.writer.close()


def _stuck(transport: Any) -> bool:
    """The link has stopped reading because its answers are not read."""
    return any(link._paused for link in transport._inbound.values())


async def test_a_silent_link_is_given_up(tcp: TcpRig) -> None:
    """A half-open connection: login works, then nothing comes back, not even to a ping."""
    a = await tcp.node("a", settings=TransportSettings(request_timeout_s=0.3))
    me = address("b")
    done = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = Raw(reader, writer)
        _, payload = await raw.read()
        first = hello("test", a.me, me, payload[-NONCE_BYTES:])
        writer.write(frame(CHALLENGE, bytes(NONCE_BYTES) + proof(KEY, "acceptor", first, bytes(NONCE_BYTES))))
        assert (await raw.read())[0] == PROOF
        writer.write(frame(READY))
        await done.wait()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    a.transport.set_peers({me: f"127.0.0.1:{port}"})
    a.transport.send(me, CALL, b"")
    await until(lambda: a.transport.reaches(me))
    with pytest.raises(DeadlineExceeded):
        await a.transport.request(me, CALL, b"", 0.05)
    await until(lambda: a.metrics.transport_closes_total.get("silent", 0) >= 1)
    done.set()
    await a.transport.stop()
    server.close()
    await server.wait_closed()


class Stepped(SystemClock):
    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at


async def test_a_stall_is_forgiven_once() -> None:
    """After one the answers may wait unread; a loop that is late each time would have no deadlines."""
    clock = Stepped()
    context = LinkContext(TransportSettings(), "test", KEY, address("a"), clock, Metrics(), {})
    link = DialledLink(context, address("b"), lambda _link: None)
    asked = link.request(CALL, b"", 0.5)
    for late in (1, 2):
        assert not asked.done(), late
        clock.at += 1.0
        link._sweep()
    assert isinstance(asked.exception(), DeadlineExceeded)
    link.close("stopped")
