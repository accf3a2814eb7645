"""The gateway over real sockets: the standard client, and every kind of bad input.

Each bad client gets its documented answer, leaves nothing behind, and does not disturb a
neighbour. Runs on uvloop, as the node does.
"""

import asyncio
import base64
import gc
import itertools
import os
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import websockets
from picows import WSFrame
from websockets.exceptions import InvalidStatus

from server.actors.actor import Caller, remote
from server.errors import BadSetting
from server.sessions.connection import LINGER_S
from server.sessions.picows_connection import PicowsConnection
from server.sessions.picows_driver import PicowsListener
from server.sessions.turnstile import PER_TURN
from server.wire.messages import Ack, Close, CloseCode, Heartbeat, Hello
from tests.support.certificates import write_self_signed
from tests.support.gateways import (
    Echo,
    GatewayNode,
    Note,
    Pilot,
    SocketClient,
    Tell,
    connect,
    gateways,
    token,
)
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")


@asynccontextmanager
async def one_node(**tree: object) -> AsyncIterator[GatewayNode]:
    async with gateways(sockets=True, **tree) as world:
        yield world.nodes["node-1"]


async def welcomed(node: GatewayNode, subject: str = "p", **options: object) -> SocketClient:
    client = await connect(node, subject, **options)  # type: ignore[arg-type]
    assert (await client.hello())[0] == "welcome"
    return client


@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_the_standard_client(format: str) -> None:
    async with one_node() as node:
        client = await welcomed(node, format=format)
        assert client.ws.subprotocol == f"garrison.v1.{format}"
        assert (await client.ask(Heartbeat))[0] == "beat"
        assert (await client.ask(Echo, "héi" * 1_000))[2] == "héi" * 1_000
        await client.ask(Tell, "p", "note", 2)
        assert [push[1:] for push in client.seen] == [[1, "note0"], [2, "note1"]]
        await (await client.ws.ping(b"are you there"))
        assert node.gateway.session_rows(0, 1, "p")[0]["address"].startswith("127.0.0.1:")
        await client.ask(Close)
        assert await client.closed() == CloseCode.NORMAL


async def test_a_message_in_fragments() -> None:
    async with one_node() as node:
        client = await welcomed(node)
        data = client.pack(Echo(5, "in parts"))
        await client.ws.send([data[:3], b"", data[3:9], data[9:]])
        assert (await client.receive())[2] == "in parts"
        text = await welcomed(node, "q", format="json")
        whole = text.pack(Echo(5, "é")).decode()
        await text.ws.send([whole[:6], whole[6:]])
        assert (await text.receive())[2] == "é"


@pytest.mark.parametrize("offered", [None, ["chat"], ["garrison.v2.msgpack"]])
async def test_no_known_subprotocol_is_refused_in_words(offered: list[str] | None) -> None:
    async with one_node() as node:
        with pytest.raises(InvalidStatus) as refused:
            await websockets.connect(node.url, subprotocols=offered)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 400
        assert b"garrison.v1.msgpack, garrison.v1.json" in refused.value.response.body


async def test_the_first_known_subprotocol_is_taken() -> None:
    async with one_node() as node:
        client = await connect(node, subprotocols=["chat", "garrison.v1.json", "garrison.v1.msgpack"])
        assert client.ws.subprotocol == "garrison.v1.json"
        await client.ws.close()


async def test_a_full_node_says_so() -> None:
    async with one_node(gateway={"max_connections": 2}) as node:
        first, _second = await welcomed(node, "a"), await welcomed(node, "b")
        assert await (await connect(node, "c")).closed() == CloseCode.FULL
        await first.ws.close()
        await until(lambda: len(node.listener) < 2)  # type: ignore[arg-type]
        assert (await (await connect(node, "d")).hello())[0] == "welcome"


# ---- bad input ---------------------------------------------------------------------------------


class Raw:
    """A client that speaks in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def frame(self, payload: bytes, opcode: int = 2, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> None:
        size = len(payload)
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        mask = 0x80 if masked else 0
        if size < 126:
            head += bytes([mask | size])
        else:
            short = size < 65_536
            head += bytes([mask | (126 if short else 127)]) + struct.pack("!H" if short else "!Q", size)
        self.writer.write(head + (b"\0\0\0\0" if masked else b"") + payload)

    def together(self, *frames: tuple[bytes, int]) -> None:
        """Several frames (payload and opcode) in one write."""
        self.writer.write(b"".join(bytes([0x80 | kind, 0x80 | len(body)]) + bytes(4) + body for body, kind in frames))

    async def close_code(self) -> int:
        """Read up to the server's close frame; 1006 if it never comes."""
        try:
            async with asyncio.timeout(60):
                while True:
                    first, second = await self.reader.readexactly(2)
                    size = second & 0x7F
                    if size == 126:
                        size = struct.unpack("!H", await self.reader.readexactly(2))[0]
                    payload = await self.reader.readexactly(size)
                    if first & 0xF == 8:
                        return int(struct.unpack("!H", payload[:2])[0])
        except (asyncio.IncompleteReadError, ConnectionError):
            return 1006

    async def gone(self) -> None:
        """Read to the end of the connection."""
        async with asyncio.timeout(60):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionError:
                pass

    def drop(self) -> None:
        self.writer.transport.abort()


async def raw(node: GatewayNode, format: str = "msgpack") -> Raw:
    port = int(node.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        "GET / HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Protocol: garrison.v1.{format}", "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"101" in head.split(b"\r\n")[0]
    return Raw(reader, writer)


async def raw_session(node: GatewayNode, subject: str) -> Raw:
    client = await raw(node)
    client.frame(msgspec.msgpack.encode(Hello(1, token(subject))))
    await until(lambda: subject in node.gateway.table.players)
    return client


def close_frame(code: int) -> bytes:
    return struct.pack("!H", code)


BAD: dict[str, tuple[str, Callable[[Raw], None], int]] = {
    "reserved bit 1": ("msgpack", lambda c: c.frame(b"\x90", rsv=4), 1002),
    "reserved bit 2": ("msgpack", lambda c: c.frame(b"\x90", rsv=2), 1002),
    "reserved bit 3 on a ping": ("msgpack", lambda c: c.frame(b"", 9, rsv=1), 1002),
    "F58: reserved bit 1 on a close": ("msgpack", lambda c: c.frame(close_frame(1000), 8, rsv=4), 1002),
    "F58: reserved bit 3 on an empty close": ("msgpack", lambda c: c.frame(b"", 8, rsv=1), 1002),
    "F58: two closes in one read": ("msgpack", lambda c: c.together((close_frame(1000), 8), (b"", 8)), 1000),
    "F58: two other closes": ("json", lambda c: c.together((close_frame(4321), 8), (close_frame(1001), 8)), 4321),
    "F58: nonsense after a close": ("msgpack", lambda c: c.together((b"", 8), (b"", 3)), 1000),
    "F58: a bad close code, then a close": ("msgpack", lambda c: c.together((close_frame(5000), 8), (b"", 8)), 1002),
    "unknown opcode": ("msgpack", lambda c: c.frame(b"", 3), 1002),
    "unmasked": ("msgpack", lambda c: c.frame(b"\x90", masked=False), 1002),
    "fragmented ping": ("msgpack", lambda c: c.frame(b"", 9, fin=False), 1002),
    "long ping": ("msgpack", lambda c: c.frame(b"x" * 126, 9), 1002),
    "continuation of nothing": ("msgpack", lambda c: c.frame(b"\x90", 0), 1002),
    "a message within a message": ("msgpack", lambda c: (c.frame(b"\x92", fin=False), c.frame(b"\x90"))[0], 1002),
    "text on binary": ("msgpack", lambda c: c.frame(b"[]", 1), 1003),
    "binary on text": ("json", lambda c: c.frame(b"\x90", 2), 1003),
    "bad utf-8": ("json", lambda c: c.frame(b'["hello",1,"\xff"]', 1), 1007),
    "bad utf-8 in fragments": ("json", lambda c: (c.frame(b'["\xc3', 1, fin=False), c.frame(b'x"]', 0))[0], 1007),
    "a little too big": ("msgpack", lambda c: c.frame(b"x" * 1_025), 1009),
    "much too big": ("msgpack", lambda c: c.frame(b"x" * 2_000_000), 1009),
    "too big in fragments": ("msgpack", lambda c: (c.frame(b"x" * 900, fin=False), c.frame(b"x" * 900, 0))[0], 1009),
    "close code 1005": ("msgpack", lambda c: c.frame(close_frame(1005), 8), 1002),
    "close code 1006": ("msgpack", lambda c: c.frame(close_frame(1006), 8), 1002),
    "close code 0": ("msgpack", lambda c: c.frame(close_frame(0), 8), 1002),
    "close code 999": ("msgpack", lambda c: c.frame(close_frame(999), 8), 1002),
    "close code 5000": ("msgpack", lambda c: c.frame(close_frame(5000), 8), 1002),
    "close of one byte": ("msgpack", lambda c: c.frame(b"x", 8), 1002),
    "close with bad utf-8": ("msgpack", lambda c: c.frame(close_frame(1000) + b"\xff", 8), 1007),
    "close code 1000": ("msgpack", lambda c: c.frame(close_frame(1000), 8), 1000),
    "close code 4321": ("msgpack", lambda c: c.frame(close_frame(4321) + b"bye", 8), 4321),
    "empty close": ("msgpack", lambda c: c.frame(b"", 8), 1000),
    "no message at all": ("msgpack", lambda c: c.frame(b"\xc1"), 1002),
    "half a message": ("msgpack", lambda c: c.frame(b"\x93\xa5hel"), 1002),
    "deep nesting": ("msgpack", lambda c: c.frame(b"\x91" * 1_000), 1002),
    "deep nesting in json": ("json", lambda c: c.frame(b"[" * 1_000, 1), 1002),
}


ANSWERED = ("no message at all", "half a message", "deep nesting")
"""Within a session these get a typed error and it lives on."""


@pytest.mark.parametrize("what", BAD)
async def test_bad_input_gets_its_close_code(what: str) -> None:
    format, act, code = BAD[what]
    async with one_node(gateway={"max_frame_bytes": 1_024}) as node:
        client = await raw(node, format)
        act(client)
        assert await client.close_code() == code
        client.drop()
        await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]
        assert node.gateway.greeter.openings == {}


@pytest.mark.parametrize("what", ["reserved bit 1", "text on binary", "much too big", "unknown opcode"])
async def test_bad_input_of_a_session_leaves_it_to_be_resumed(what: str) -> None:
    _, act, code = BAD[what]
    async with one_node(gateway={"max_frame_bytes": 1_024}) as node:
        client = await raw_session(node, "p")
        resume = next(iter(node.gateway.table.sessions))
        act(client)
        assert await client.close_code() == code
        client.drop()
        await until(lambda: node.metrics.sessions == 0)
        again = await connect(node)
        assert (await again.hello(resume=resume))[7] is True
        assert node.metrics.closes_total[code] == 1


async def test_half_a_frame_and_then_nothing() -> None:
    settings = {"hello_timeout_s": 0.5, "heartbeat_interval_s": 0.1, "heartbeats_missed": 3}
    async with one_node(gateway=settings) as node:
        before = await raw(node)
        before.writer.write(b"\x82\xfe\xff")
        assert await before.close_code() == CloseCode.HELLO_TIMEOUT
        within = await raw_session(node, "p")
        within.writer.write(b"\x82\xfe\xff")
        assert await within.close_code() == CloseCode.HEARTBEAT_MISSED
        shaking = await asyncio.open_connection("127.0.0.1", int(node.url.rpartition(":")[2]))
        shaking[1].write(b"GET / HTTP/1.1\r\nHost:")
        await Raw(*shaking).gone()


async def test_a_flood_of_empty_fragments_and_pings_is_closed() -> None:
    async with one_node(gateway={"rate_per_s": 10, "rate_burst": 50, "rate_violations": 10}) as node:
        for opcode, fin in ((0, False), (9, True), (10, True)):
            client = await raw_session(node, f"p{opcode}")
            if opcode == 0:
                client.frame(b"", 2, fin=False)
            for _ in range(100):
                client.frame(b"", opcode, fin=fin)
            assert await client.close_code() == CloseCode.FLOOD
            client.drop()


async def test_a_client_that_never_answers_the_close_is_cut() -> None:
    async with one_node(gateway={"hello_timeout_s": 0.4}) as node:
        client = await raw(node)
        assert await client.close_code() == CloseCode.HELLO_TIMEOUT
        await client.gone()
        await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]


async def test_a_slow_reader_is_closed_and_resumes_with_everything() -> None:
    settings = {"heartbeat_interval_s": 0.1, "heartbeats_missed": 5, "outbox_max_messages": 20_000}
    settings["outbox_max_bytes"] = 64 * 1024 * 1024
    transport = {"max_frame_bytes": 128 * 1024 * 1024, "max_buffered_bytes": 128 * 1024 * 1024}
    async with one_node(gateway=settings, transport=transport) as node:
        slow = await raw_session(node, "p")
        session = next(iter(node.gateway.table.sessions.values()))
        slow.writer.transport.pause_reading()
        big = Note(0, "x" * 10_000)
        count = 0
        while session._blocked_at is None:
            node.gateway.outlet.push("p", big)
            count += 1
            assert count < 10_000
            if count % 50 == 0:
                await asyncio.sleep(0)
        for _ in range(50):
            node.gateway.outlet.push("p", big)
        assert session.connection is not None
        assert session.connection.buffered_bytes < 1_000_000
        await until(lambda: CloseCode.SLOW_READER in node.metrics.closes_total)
        again = await connect(node, max_size=None)
        assert (await again.hello(resume=session.resume, ack=0))[7] is True
        for number in range(1, count + 51):
            assert (await again.receive())[1] == number
            if number % 20 == 0:
                await again.send(Ack(0, number))  # or it has fallen silent, where this takes its time
        await again.send(Ack(0, count + 50))
        assert (await again.ask(Echo, "x"))[0] == "said"
        assert len(session.outbox) == 0
        slow.drop()


async def test_memory_returns_and_a_neighbour_is_served() -> None:
    """Bad clients by the hundred: nothing of them stays, and who behaves notices nothing."""
    settings = {"max_frame_bytes": 1_024, "resume_window_s": 0.1, "hello_timeout_s": 1.0}
    settings.update(heartbeat_interval_s=1.0, heartbeats_missed=100)
    async with one_node(gateway=settings) as node:
        neighbour = await welcomed(node, "good")

        async def abuse(what: str, number: int) -> None:
            format, act, _ = BAD[what]
            in_session = number % 2 and format == "msgpack" and what not in ANSWERED
            client = await raw_session(node, f"bad{number}") if in_session else await raw(node, format)
            act(client)
            await client.close_code()
            client.drop()

        async def round_of_abuse() -> int:
            for start in range(0, len(BAD), 10):
                names = list(BAD)[start : start + 10]
                await asyncio.gather(*(abuse(name, start * 10 + n) for n, name in enumerate(names)))
                assert (await neighbour.ask(Heartbeat))[0] == "beat"
            await until(lambda: len(node.listener) == 1 and len(node.gateway.table.sessions) == 1)  # type: ignore[arg-type]
            await until(lambda: len(node.gateway.ticks.wheel) <= 2)  # deadlines of what has ended have passed
            gc.collect()
            return len(gc.get_objects())

        await round_of_abuse()
        first = await round_of_abuse()
        for _ in range(2):
            last = await round_of_abuse()
        assert last - first < 1_000
        assert neighbour.seen == []
        assert node.metrics.task_crashes_total == 0


# ---- fairness ----------------------------------------------------------------------------------


async def test_neighbours_are_answered_while_others_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[str] = []

    @remote
    def beat(self: Pilot, caller: Caller, state: str | None) -> None:
        handled.append(caller.subject)

    monkeypatch.setattr(Pilot, "beat", beat)
    async with one_node(gateway={"rate_per_s": 20}) as node:  # a flood also for a machine that takes its time
        neighbour = await welcomed(node, "neighbour")
        flooders = [await raw_session(node, f"flood{number}") for number in range(4)]
        flood = msgspec.msgpack.encode(Heartbeat(1))
        for flooder in flooders:
            for _ in range(2_000):
                flooder.frame(flood)
        while CloseCode.FLOOD not in node.metrics.closes_total:
            answer = await neighbour.ask(Heartbeat)
            assert answer[0] == "beat", answer
        runs = [(who, len(list(run))) for who, run in itertools.groupby(handled, lambda who: who == "neighbour")]
        between = [count for near, count in runs[1:-1] if not near]
        # Each round trip takes a few turns of the loop, and each turn a few messages of the crowd.
        assert max(between) <= 16 * PER_TURN
        assert len(between) >= 400 // (16 * PER_TURN)
        assert [await flooder.close_code() for flooder in flooders] == [CloseCode.FLOOD] * len(flooders)


async def test_a_peer_that_goes_on_after_the_close_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = 0
    unusual = PicowsConnection._unusual

    def counted(self: PicowsConnection, frame: WSFrame) -> None:
        nonlocal frames
        frames += 1
        unusual(self, frame)

    monkeypatch.setattr(PicowsConnection, "_unusual", counted)
    async with one_node() as node:
        client = await raw_session(node, "p")
        client.frame(b"[]", 1)  # text: closed with 1003
        for _ in range(100_000):
            client.frame(b"", 9)
        assert await client.close_code() == CloseCode.UNSUPPORTED
        await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]
        assert frames < 2_000  # what two reads bring
        client.drop()


async def test_a_burst_within_the_limits_is_spread_in_order_and_complete() -> None:
    async with one_node() as node:
        client = await welcomed(node)
        await client.ws.send([client.pack(Echo(1, "first"))])
        for number in range(2, 300):
            await client.send(Echo(number, f"{number}"))
        answers = [(await client.receive())[1] for _ in range(299)]
        assert answers == list(range(1, 300))
        raw_client = await raw_session(node, "q")
        for number in range(2, 100):
            raw_client.frame(msgspec.msgpack.encode(Tell(number, "p", "note")))
        raw_client.frame(close_frame(1000), 8)
        for number in range(1, 99):  # all before the close count
            assert (await client.receive())[:2] == ["note", number]
        await until(lambda: Pilot.history[-1][:2] == ("closed", "q"))
        assert len(node.gateway.turnstile) == 0


# ---- TLS, ports --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder: Path = tmp_path_factory.mktemp("tls")
    return write_self_signed(folder)


async def test_tls(certificate: tuple[str, str]) -> None:
    cert, key = certificate
    async with one_node(gateway={"tls_certificate": cert, "tls_key": key}) as node:
        assert node.url.startswith("wss://")
        context = ssl.create_default_context(cafile=cert)
        client = await connect(node, ssl=context, server_hostname="localhost")
        assert (await client.hello())[0] == "welcome"
        assert (await client.ask(Echo, "x" * 30_000))[2] == "x" * 30_000


def make_another(cert: str, key: str) -> None:
    """Replace a certificate and its key by new ones."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)


async def test_a_replaced_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    """F23: and files that do not fit leave the one that is in use."""
    cert, key = write_self_signed(tmp_path)
    async with one_node(gateway={"tls_certificate": cert, "tls_key": key}) as node:
        listener = node.listener
        assert isinstance(listener, PicowsListener)
        port = int(node.url.rpartition(":")[2])

        def shown() -> str:
            return ssl.get_server_certificate(("127.0.0.1", port))

        before = await asyncio.to_thread(shown)
        assert not listener.reload(changed_only=True)
        first = await connect(node, ssl=ssl.create_default_context(cafile=cert), server_hostname="localhost")
        await asyncio.to_thread(make_another, cert, key)
        assert listener.reload(changed_only=True)
        after = await asyncio.to_thread(shown)
        assert after != before
        await asyncio.to_thread(Path(key).write_text, "no key")
        with pytest.raises(BadSetting, match=r"gateway\.tls_certificate"):
            listener.reload(changed_only=True)
        assert await asyncio.to_thread(shown) == after
        assert (await first.hello())[0] == "welcome"


async def test_a_taken_port_and_a_bad_certificate_are_named(tmp_path: Path) -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        taken = int(node.url.rpartition(":")[2])
        for change in ({"port": taken}, {"tls_certificate": str(tmp_path / "no"), "tls_key": str(tmp_path / "no")}):
            settings = msgspec.structs.replace(node.system.settings.gateway, **change)
            with pytest.raises(BadSetting, match=r"gateway\.(port|tls_certificate)"):
                await PicowsListener(node.gateway, settings).start()


async def test_a_stopped_listener_takes_its_clients_away() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client, silent = await welcomed(node), await connect(node, "q")
        await node.gateway.stop(0.1)
        await node.listener.stop()
        assert await client.closed() == CloseCode.GOING_AWAY
        assert await silent.closed() == CloseCode.GOING_AWAY
        with pytest.raises(OSError):
            await connect(node)
        assert Pilot.history[-1][0] == "stopping"


@pytest.mark.parametrize("what", ["a code that may not be sent", "reserved bits"])
async def test_a_peer_that_closes_wrongly_is_cut_without_waiting_for_more_of_it(what: str) -> None:
    """RFC 6455, 7.1.1: the server cuts first. The peer has said its last, so that nothing more is waited for."""
    async with one_node() as node:
        client = await raw(node)
        if what == "reserved bits":
            client.frame(close_frame(1000), 8, rsv=4)
        else:
            client.frame(close_frame(0), 8)
        assert await client.close_code() == CloseCode.PROTOCOL_ERROR
        async with asyncio.timeout(0.8 * LINGER_S):
            await client.gone()


async def test_a_ping_among_the_fragments_of_a_message_is_answered_before_the_message() -> None:
    async with one_node() as node:
        client = await raw(node)
        hello = msgspec.msgpack.encode(Hello(1, token("p")))
        client.frame(hello[:5], fin=False)
        client.frame(b"here?", 9)
        client.frame(hello[5:], 0)
        async with asyncio.timeout(10):
            first, second = await client.reader.readexactly(2)
            assert (first & 0xF, await client.reader.readexactly(second & 0x7F)) == (10, b"here?")
            assert (await client.reader.readexactly(1))[0] & 0xF == 2
