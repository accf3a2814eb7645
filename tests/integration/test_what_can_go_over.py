"""Connections that can go over to another process, and those that cannot: each reason is planted over real sockets."""

import ssl
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.sessions.picows_driver import PicowsListener
from tests.support.certificates import write_self_signed
from tests.support.gateways import Echo, GatewayNode, SocketClient, connect, gateways
from tests.support.waiting import until

pytestmark = pytest.mark.loops("asyncio", "uvloop")
MASK = b"\x01\x02\x03\x04"


def frame(payload: bytes, first: int = 0x82) -> bytes:
    """A client's frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 2**16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + MASK + bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))


def write(client: SocketClient, data: bytes) -> None:
    client.ws.transport.write(data)


def connection_of(node: GatewayNode, subject: str = "p") -> Any:
    return node.gateway.table.players[subject].connection


def movable(node: GatewayNode) -> str:
    assert isinstance(node.listener, PicowsListener)
    return node.listener.movable(connection_of(node))


def room_of(node: GatewayNode) -> int:
    """The free room of picows' buffer."""
    return len(connection_of(node)._transport.underlying_transport.get_protocol().get_buffer(-1))


async def test_a_part_of_a_frame_keeps_a_connection_here_and_the_rest_of_it_lets_it_go() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client = await connect(node)
        await client.hello()
        assert isinstance(node.listener, PicowsListener) and node.listener.unread.is_exact
        first_room = room_of(node)
        message = frame(msgspec.msgpack.encode(Echo(500, "x" * 20_000)))
        parts = [1, 2, 3, 4, 7, 8, 9, first_room - 1, first_room, 2 * first_room, 3 * first_room, 7 * first_room, -1]
        for part in parts:
            assert movable(node) == "", part
            write(client, message[:part])
            await until(lambda: movable(node) != "")
            await until(lambda part=part: node.listener.unread.of(_protocol(node)) == part % len(message))  # type: ignore[union-attr,misc]
            assert movable(node) == "frame", part
            write(client, message[part:])
            answer = await client.until(lambda got: got[1] == 500)
            assert len(answer[2]) == 20_000
        assert room_of(node) > 4 * first_room  # it has grown: an empty buffer looks like half of a larger one


def _protocol(node: GatewayNode) -> Any:
    protocol = connection_of(node)._transport.underlying_transport.get_protocol()
    return getattr(protocol, "behind", protocol)


async def test_whole_frames_however_many_come_together_leave_nothing_behind() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client = await connect(node)
        await client.hello()
        for size in (0, 1, 100, 125, 126, 1500, 1785, 1786, 1787, 5000, 60_000):
            message = frame(msgspec.msgpack.encode(Echo(600, "y" * size)))
            write(client, message + frame(b"", 0x8A) + frame(msgspec.msgpack.encode(Echo(601, ""))))
            await client.until(lambda got: got[1] == 601)
            assert movable(node) == "", size


async def test_a_fragmented_message_keeps_a_connection_here_until_its_last_part() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client = await connect(node)
        await client.hello()
        payload = msgspec.msgpack.encode(Echo(700, "in parts"))
        write(client, frame(payload[:4], 0x02))
        await until(lambda: movable(node) == "message")
        write(client, frame(payload[4:6], 0x00))
        await until(lambda: len(connection_of(node)._parts) == 2)
        assert movable(node) == "message"
        write(client, frame(payload[6:], 0x80))
        assert (await client.until(lambda got: got[1] == 700))[2] == "in parts"
        assert movable(node) == ""


async def test_bytes_that_a_client_does_not_read_keep_its_connection_here() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client = await connect(node)
        await client.hello()
        client.ws.transport.pause_reading()
        connection = connection_of(node)
        while not connection.buffered_bytes:
            connection.send(b"z" * 50_000)
        assert movable(node) == "unsent"


async def test_a_connection_that_is_being_closed_stays_here() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client = await connect(node)
        await client.hello()
        connection = connection_of(node)
        assert isinstance(node.listener, PicowsListener)
        connection.close(4000, "planted")
        assert node.listener.movable(connection) == "closing"
        await client.closed()


async def test_a_paused_connection_is_looked_at_behind_its_sips() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client = await connect(node)
        await client.hello()
        connection = connection_of(node)
        connection.pause_reading()
        connection.resume_reading()
        message = frame(msgspec.msgpack.encode(Echo(800, "slowly")))
        write(client, message[:5])
        await until(lambda: movable(node) == "frame")
        write(client, message[5:])
        await client.until(lambda got: got[1] == 800)
        assert movable(node) == ""


async def test_encrypted_connections_stay_here(tmp_path: Path) -> None:
    cert, key = write_self_signed(tmp_path)
    context = ssl.create_default_context(cafile=cert)
    context.check_hostname = False
    async with gateways(sockets=True, gateway={"tls_certificate": cert, "tls_key": key}) as world:
        node = world.nodes["node-1"]
        client = await connect(node, ssl=context)
        await client.hello()
        assert movable(node) == "tls"
