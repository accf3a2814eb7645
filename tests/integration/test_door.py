"""The door of the client port over real sockets: HTTP answers, and what strangers may send before their welcome."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from server.sessions.door import EARLY_BYTES
from server.sessions.opening import BACKLOG_BYTES, Opening
from server.wire.messages import CloseCode, Heartbeat, Hello
from tests.support.gateways import Echo, GatewayNode, connect, gateways, token
from tests.support.waiting import until
from tests.unit.test_http_handshake import frame, head

pytestmark = pytest.mark.loops("uvloop")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def one_node(**tree: object) -> AsyncIterator[GatewayNode]:
    async with gateways(sockets=True, **tree) as world:
        yield world.nodes["node-1"]


async def dial(node: GatewayNode) -> Streams:
    return await asyncio.open_connection("127.0.0.1", int(node.url.rpartition(":")[2]))


async def enter(node: GatewayNode, rest: bytes = b"") -> Streams:
    """A connection after its handshake; `rest` comes in the same write."""
    reader, writer = await dial(node)
    writer.write(head(Connection="keep-alive, Upgrade") + b"\r\n\r\n" + rest)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    return reader, writer


async def answer_to(node: GatewayNode, request: bytes) -> bytes:
    """All that comes back up to the end of the connection."""
    reader, writer = await dial(node)
    writer.write(request)
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


async def close_code(reader: asyncio.StreamReader) -> int:
    """The code of a close frame that is the next to come."""
    async with asyncio.timeout(30):
        first, size = await reader.readexactly(2)
        assert first == 0x88
        return int.from_bytes((await reader.readexactly(size))[:2], "big")


def masked(payload: bytes) -> bytes:
    return frame(len(payload)).replace(b"\xaa\xaa\xaa\xaa", bytes(4)) + payload


async def test_a_handshake_in_single_bytes_with_a_message_behind_it() -> None:
    """F11: the whole way, as Firefox goes it."""
    async with one_node() as node:
        hello = masked(msgspec.msgpack.encode(Hello(1, token("p"))))
        reader, writer = await enter(node, hello)
        assert b"welcome" in await reader.readuntil(b"welcome")
        writer.close()
        reader, writer = await dial(node)
        for byte in head() + b"\r\n\r\n" + hello:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert b"welcome" in await reader.readuntil(b"welcome")
        writer.close()
        await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("cookies", [17 * 1024, 200 * 1024])
async def test_headers_that_are_too_long_are_answered(cookies: int) -> None:
    """F24: also while the peer is still sending."""
    async with one_node() as node:
        answer = await answer_to(node, head(Cookie="c" * cookies) + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"16384 bytes" in answer
        assert (await answer_to(node, b"GET /" + b"x" * cookies)).startswith(b"HTTP/1.1 431 ")
        reader, writer = await dial(node)
        writer.write(head(Cookie="c" * 15 * 1024) + b"\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.close()


async def test_a_wrong_version_is_answered_with_the_right_one() -> None:
    """F25."""
    async with one_node() as node:
        answer = await answer_to(node, head(Sec_WebSocket_Version="8") + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 426 ")
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer


async def test_a_request_that_does_not_come_is_answered() -> None:
    async with one_node(gateway={"hello_timeout_s": 0.1}) as node:
        assert (await answer_to(node, b"GET / HTTP/1.1\r\nHost:")).startswith(b"HTTP/1.1 408 ")
        assert (await answer_to(node, b"")).startswith(b"HTTP/1.1 408 ")


async def test_a_large_message_before_the_welcome_is_refused_at_its_head() -> None:
    """F54: nothing of it is kept."""
    async with one_node() as node:
        for start in (frame(EARLY_BYTES + 1), frame(128 * 1024), frame(2**62)):
            for before in (b"", bytes([0x8A, 0x80]) + bytes(4)):  # nothing, or a pong
                reader, writer = await enter(node, before + start)
                writer.write(b"x" * 60_000)
                assert await close_code(reader) == CloseCode.TOO_BIG
                writer.close()
        await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]


async def test_fragments_before_the_welcome_count_together() -> None:
    """F54."""
    async with one_node() as node:
        piece = bytearray(masked(bytes(EARLY_BYTES // 2)))
        piece[0] = 0x02
        reader, writer = await enter(node, bytes(piece))
        piece[0] = 0x00
        writer.write(bytes(piece) * 2)
        assert await close_code(reader) == CloseCode.TOO_BIG
        writer.close()


async def test_messages_between_hello_and_welcome_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """F54."""
    async with one_node() as node:
        opened: asyncio.Future[Opening] = asyncio.get_running_loop().create_future()

        def takes_its_time(opening: Opening, hello: Hello) -> None:
            opening.busy = True
            opened.set_result(opening)

        monkeypatch.setattr(node.gateway.greeter, "hello", takes_its_time)
        hello = masked(msgspec.msgpack.encode(Hello(1, token("p"))))
        reader, writer = await enter(node, hello + masked(bytes(EARLY_BYTES)) * (BACKLOG_BYTES // EARLY_BYTES))
        opening = await opened
        writer.write(masked(bytes(100)))
        assert await close_code(reader) == CloseCode.PROTOCOL_ERROR
        assert opening.closed
        writer.close()


@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_a_session_may_send_large_messages(format: str) -> None:
    async with one_node() as node:
        client = await connect(node, format=format)
        assert (await client.hello())[0] == "welcome"
        assert (await client.ask(Echo, "x" * 60_000))[2] == "x" * 60_000
        assert (await client.ask(Heartbeat))[0] == "beat"
        await client.ws.close()


async def test_a_stopped_listener_cuts_handshakes() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        reader, writer = await dial(node)
        writer.write(b"GET / HTTP/1.1\r\n")
        await until(lambda: bool(node.listener._doors.waiting))  # type: ignore[union-attr]
        await node.listener.stop()
        async with asyncio.timeout(30):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
