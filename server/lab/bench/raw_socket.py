"""A WebSocket client that speaks in bytes, for benchmarks that must send what no library would."""

import asyncio
import base64
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

_KERNEL_BYTES: Final = 32 * 1024
"""Send buffer in the kernel: copying megabytes, it keeps others from the processor."""


class SocketClosed(Exception):
    """The server closed the connection. `code` is 1006 where it did not say why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def frame(payload: bytes, opcode: int = 2, fin: bool = True) -> bytes:
    """A client's frame (masked with zeros)."""
    size = len(payload)
    head = bytes([0x80 * fin | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += bytes([0x80 | 126]) + struct.pack("!H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", size)
    return head + b"\0\0\0\0" + payload


def server_frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """The opcode and payload of the server's frame at `at`, and where the next one begins; None: it is not whole."""
    if len(data) < at + 2:
        return None
    size, head = data[at + 1], 2
    if size == 126:
        size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
    elif size == 127:
        size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
    end = at + head + size
    return (data[at] & 0xF, data[at + head : end], end) if len(data) >= end else None


def message(*parts: Any) -> bytes:
    """A frame with a msgpack message."""
    return frame(msgspec.msgpack.encode(parts))


def handshake(format: str = "msgpack") -> bytes:
    """The request for a connection."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        "GET / HTTP/1.1", "Host: garrison", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}", f"Sec-WebSocket-Protocol: garrison.v1.{format}", "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


def address(url: str) -> tuple[str, int]:
    """Host and port of a `ws://` url."""
    host, _, port = url.removeprefix("ws://").rpartition(":")
    return host, int(port)


class RawSocket:
    """A connection after its handshake. Every method raises `SocketClosed` once the server has closed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Write `data` as it is, and wait while the server does not read."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            raise SocketClosed(1006) from None

    def write(self, data: bytes) -> None:
        """Write `data` as it is, whether the server reads or not; nothing once the connection is closed."""
        if not self._writer.is_closing():
            self._writer.write(data)

    async def receive(self) -> Any:
        """The payload of the next message."""
        while True:
            opcode, payload = await self._frame()
            if opcode in (1, 2):
                return payload

    async def ask(self, *parts: Any) -> list[Any]:
        """Send a msgpack message; the next one that comes."""
        await self.send(message(*parts))
        answer: list[Any] = msgspec.msgpack.decode(await self.receive())
        return answer

    async def to_the_end(self) -> None:
        """Read until the server closes."""
        while True:
            await self._frame()

    async def _frame(self) -> tuple[int, bytes]:
        try:
            first, size = await self._reader.readexactly(2)
            if size > 125:
                (size,) = struct.unpack("!H", await self._reader.readexactly(2))
            payload = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise SocketClosed(1006) from None
        if first & 0xF == 8:
            raise SocketClosed(struct.unpack("!H", payload[:2])[0] if payload else 1005)
        return first & 0xF, payload

    def drop(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def connected(url: str, format: str = "msgpack", unread_bytes: int = 2**16) -> AsyncIterator[RawSocket]:
    """A connection, cut when the block is left. `unread_bytes`: how much is read ahead."""
    raw = socket.create_connection(address(url))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
    raw.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=raw, limit=unread_bytes)
    try:
        writer.write(handshake(format))
        try:
            await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            raise SocketClosed(1006) from None
        yield RawSocket(reader, writer)
    finally:
        writer.transport.abort()
