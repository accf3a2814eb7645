"""The channel between predecessor and heir over a socket pair: frames with a length, and descriptors beside them
(`SCM_RIGHTS`).

A stream socket hands descriptors over with the first byte that they were sent with, in order. So a frame says how many
are its own, and they are there when its last byte is. A message that lost some on its way (`MSG_CTRUNC`: this process
has too many open) is refused.
"""

import array
import asyncio
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal

from server.errors import BadInput, Unavailable
from server.succession.ports import Received

HEAD: Final = struct.Struct("<II")
"""Bytes of the message, and descriptors that came with it."""
MAX_MESSAGE_BYTES: Final = 1 << 30
MAX_ANSWER_BYTES: Final = 1 << 24
"""Bytes of a message of the heir: an account of its kinds, or places in a message of `MOST_PARCELS` sessions. The
predecessor serves players meanwhile, and nobody knows yet what the new program is."""
MAX_DESCRIPTORS: Final = 200
"""In one message: the kernel takes 253 at a time."""
READ_BYTES: Final = 1 << 20
BUFFER_BYTES: Final = 4 << 20
_GONE: Final = "the other process is gone"


class SocketChannel:
    """See the module's head. It owns `sock`, one end of a pair of stream sockets. `most_bytes` and
    `most_descriptors`: of a message that comes."""

    def __init__(
        self, sock: socket.socket, most_bytes: int = MAX_MESSAGE_BYTES, most_descriptors: int = MAX_DESCRIPTORS
    ) -> None:
        self._sock, self._most_bytes, self._most_descriptors = sock, most_bytes, most_descriptors
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    async def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """See `server.succession.ports.HeirChannel`."""
        left = self._send_some(memoryview(HEAD.pack(len(message), len(descriptors)) + message), descriptors)
        while len(left):
            await self._ready("write")
            left = self._send_some(left)

    async def receive(self) -> Received:
        """See `server.succession.ports.HeirChannel`."""
        while True:
            found = self._next()
            if found is not None:
                return found
            if not self._read_some():
                await self._ready("read")

    def exchange(self, message: bytes, timeout_s: float) -> bytes:
        """See `server.succession.ports.HeirChannel`."""
        until = time.monotonic() + timeout_s
        left = memoryview(HEAD.pack(len(message), 0) + message)
        while left:
            left = self._send_some(left)
            if len(left):
                self._wait(select.POLLOUT, until)
        while True:
            found = self._next()
            if found is not None:
                for descriptor in found.descriptors:
                    os.close(descriptor)
                return found.message
            if not self._read_some():
                self._wait(select.POLLIN, until)

    def last_word(self, message: bytes) -> None:
        """See `server.succession.ports.HeirChannel`. A few bytes: there whole, or not at all."""
        left = self._send_some(memoryview(HEAD.pack(len(message), 0) + message))
        if len(left):
            raise Unavailable(_GONE)

    def close(self) -> None:
        self._sock.close()
        self._drop_descriptors()

    def _drop_descriptors(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popleft())

    # ---- bytes ----

    def _send_some(self, data: memoryview, descriptors: Sequence[int] = ()) -> memoryview:
        """Send what the kernel takes; returns the rest. Descriptors go with the first byte."""
        try:
            sent = socket.send_fds(self._sock, [data], list(descriptors)) if descriptors else self._sock.send(data)
        except BlockingIOError:
            if descriptors:  # each message is answered before the next, so the buffer was empty
                raise Unavailable("the other process does not read") from None
            return data
        except OSError as error:
            raise Unavailable(f"{_GONE}: {error.strerror}") from None
        return data[sent:]

    def _read_some(self) -> bool:
        """Read what is there; returns whether there was anything. Raises `Unavailable`."""
        space = socket.CMSG_SPACE((MAX_DESCRIPTORS + 1) * array.array("i").itemsize)
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(READ_BYTES, space)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Unavailable(f"{_GONE}: {error.strerror}") from None
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(payload[: len(payload) - len(payload) % found.itemsize])
                self._descriptors.extend(found)
        if len(self._descriptors) > 2 * self._most_descriptors:  # a message and the next one may be read at once
            self._drop_descriptors()
            raise Unavailable("the other process sends descriptors that belong to no message")
        if flags & socket.MSG_CTRUNC:
            raise Unavailable("descriptors were lost on the way: this process may not open so many")
        if not data:
            raise Unavailable(_GONE)
        self._buffer += data
        return True

    def _next(self) -> Received | None:
        """The next whole message. Raises `BadInput`."""
        buffer = self._buffer
        if len(buffer) < HEAD.size:
            return None
        size, count = HEAD.unpack_from(buffer)
        if size > self._most_bytes or count > self._most_descriptors:
            raise BadInput(f"a message of {size} bytes with {count} descriptors is none of a succession")
        end = HEAD.size + size
        if len(buffer) < end:
            return None
        if len(self._descriptors) < count:
            raise BadInput(f"{count} descriptors were announced and {len(self._descriptors)} came")
        message = bytes(memoryview(buffer)[HEAD.size : end])
        del buffer[:end]
        return Received(message, [self._descriptors.popleft() for _ in range(count)])

    # ---- waiting ----

    async def _ready(self, watch: Literal["read", "write"]) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        number = self._sock.fileno()
        if number < 0:
            raise Unavailable(_GONE)
        add, remove = (
            (loop.add_reader, loop.remove_reader) if watch == "read" else (loop.add_writer, loop.remove_writer)
        )
        add(number, _set, ready)
        try:
            await ready
        finally:
            remove(number)

    def _wait(self, event: int, until: float) -> None:
        left_s = until - time.monotonic()
        poll = select.poll()
        poll.register(self._sock, event)
        if left_s <= 0 or not poll.poll(1000 * left_s):
            raise Unavailable("the other process does not answer in time")


def _set(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
