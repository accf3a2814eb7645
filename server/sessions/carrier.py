"""Connections that come from the process before this one, on their way onto the event loop.

A descriptor is only kept until `take_up`. From then on its session can write: frames go straight to the socket. The
event loop is given the socket when there is something to read, or when a peer does not read; all others follow in
slices, so that five thousand of them are no pause for anybody. A socket that was closed or reset meanwhile has
something to read: its end.
"""

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import structlog

from server.sessions.connection import NOBODY, Connection, Receiver
from server.wire.codec import Format

log = structlog.get_logger(__name__)
SLICE: Final = 16
SLICE_PAUSE_S: Final = 0.005
"""Connections that are given to the loop in a turn, without a reason of their own; and the pause between two turns."""
READY_AT_ONCE: Final = 64
_ABNORMAL: Final = 1006
_SHORT: Final = 126
_WIDE: Final = 2**16
_OPCODES: Final[dict[Format, int]] = {"json": 0x81, "msgpack": 0x82}

Attached = Callable[[Connection, Connection], None]


class LandedConnection(Connection, Protocol):
    """A carried connection on the event loop."""

    def write_first(self, data: bytes) -> None:
        """Write bytes that the socket did not take before; they are frames, or the rest of them."""
        ...


class Landing(Protocol):
    """Makes connections of sockets that are on the loop."""

    def land(self, transport: Any, format: Format, remote: str, country: str) -> LandedConnection:
        """The connection over `transport`, whose handshake was done by another process."""
        ...


class CarriedConnection:
    """See the module's head, and `server.sessions.connection.Connection`."""

    __slots__ = ("_carrier", "_closing", "_sent", "country", "format", "paused", "receiver", "remote", "sock", "unsent")

    def __init__(self, carrier: "Carrier", sock: socket.socket, format: Format, remote: str, country: str) -> None:
        self._carrier = carrier
        self.sock: socket.socket = sock
        self.format, self.remote, self.country = format, remote, country
        self._sent = 0
        self.receiver: Receiver = NOBODY
        self.unsent = bytearray()
        self.paused = False
        self._closing: tuple[int, str] | None = None

    @property
    def buffered_bytes(self) -> int:
        return len(self.unsent)

    def traffic(self) -> tuple[int, int]:
        return 0, self._sent

    def set_receiver(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def welcomed(self) -> None: ...

    def send(self, data: bytes) -> None:
        if self._closing is not None:
            return
        size, first = len(data), _OPCODES[self.format]
        self._sent += size
        if size < _SHORT:
            frame = bytes((first, size)) + data
        else:
            form, code = ("!BBH", 126) if size < _WIDE else ("!BBQ", 127)
            frame = struct.pack(form, first, code, size) + data
        if not self.unsent:
            try:
                sent = self.sock.send(frame)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                return  # its end is read when it is on the loop
            if sent == len(frame):
                return
            frame = frame[sent:]
        self.unsent += frame
        self._carrier.hurry(self)

    def close(self, code: int, reason: str = "") -> None:
        if self._closing is None:
            self._closing = code, reason
            self._carrier.hurry(self)

    def abort(self) -> None:
        self._closing = self._closing or (_ABNORMAL, "")
        self._carrier.cut(self)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def turn_into(self, taken: LandedConnection) -> None:
        """Let `taken` go on, which has the socket now."""
        if self.unsent:
            taken.write_first(bytes(self.unsent))
            self.unsent = bytearray()
        taken.set_receiver(self.receiver)
        if self._closing is not None:
            taken.close(*self._closing)

    def lost(self) -> None:
        """The connection is gone; its receiver is told once."""
        receiver, self.receiver = self.receiver, NOBODY
        receiver.on_closed(self, self._closing[0] if self._closing is not None else _ABNORMAL, "")


class Carrier:
    """See the module's head."""

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self._kept: dict[int, socket.socket] = {}
        """Sockets that have come, and have no session yet."""
        self._waiting: dict[int, CarriedConnection] = {}
        """Connections that are not given to the loop, by descriptor."""
        self._entering: dict[CarriedConnection, asyncio.Task[None]] = {}
        self._poll: select.epoll | None = None
        """Tells which of them can be read."""
        self._attached: Attached | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._entering)

    def keep(self, descriptor: int) -> None:
        """See `server.sessions.connection.ClientSockets`. Nothing is read from it by that."""
        sock = self._kept[descriptor] = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        if self._poll is None:
            self._poll = select.epoll()
        self._poll.register(descriptor, select.EPOLLIN | select.EPOLLRDHUP)

    def carry(self, descriptor: int, format: Format, remote: str, country: str) -> CarriedConnection:
        """See `server.sessions.connection.ClientSockets`."""
        if descriptor not in self._kept:
            self.keep(descriptor)
        sock = self._kept.pop(descriptor)
        carried = self._waiting[descriptor] = CarriedConnection(self, sock, format, remote, country)
        return carried

    def drop(self, descriptor: int) -> None:
        """See `server.sessions.connection.ClientSockets`."""
        carried, kept = self._waiting.pop(descriptor, None), self._kept.pop(descriptor, None)
        self._forget(descriptor)
        if carried is not None:
            carried.sock.close()
        elif kept is not None:
            kept.close()
        else:
            socket.close(descriptor)

    def take_up(self, attached: Attached) -> None:
        """See `server.sessions.connection.ClientSockets`."""
        self._attached = attached
        if self._poll is None:
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self._poll.fileno(), self._ready)
        self._ready(len(self._waiting))  # all of them perhaps, and then there is nothing to wait for
        loop.call_later(SLICE_PAUSE_S, self._slice)

    def _ready(self, most: int = READY_AT_ONCE) -> None:
        """Give to the loop whatever can be read."""
        if self._poll is None:
            return
        for descriptor, _ in self._poll.poll(0, max(1, most)):
            self._enter(descriptor)
        self._done()

    def _slice(self) -> None:
        for descriptor in [descriptor for descriptor, _ in zip(self._waiting, range(SLICE), strict=False)]:
            self._enter(descriptor)
        if self._waiting:
            asyncio.get_running_loop().call_later(SLICE_PAUSE_S, self._slice)
        self._done()

    def _done(self) -> None:
        if not (self._waiting or self._kept) and self._poll is not None and self._attached is not None:
            asyncio.get_running_loop().remove_reader(self._poll.fileno())
            self._poll.close()
            self._poll = None

    def hurry(self, carried: CarriedConnection) -> None:
        """Give it to the loop now, which has to write or to close."""
        if self._attached is not None:
            self._enter(carried.sock.fileno())

    def _enter(self, descriptor: int) -> None:
        carried = self._waiting.pop(descriptor, None)
        if carried is None:
            return
        self._forget(descriptor)
        task = asyncio.get_running_loop().create_task(self._land(carried))
        self._entering[carried] = task
        task.add_done_callback(partial(self._entered, carried))

    def _forget(self, descriptor: int) -> None:
        if self._poll is not None:
            with contextlib.suppress(OSError):
                self._poll.unregister(descriptor)

    async def _land(self, carried: CarriedConnection) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: _Shell(self._landing, self._attached, carried), carried.sock)
        except OSError:
            carried.sock.close()
            carried.lost()

    def _entered(self, carried: CarriedConnection, task: "asyncio.Task[None]") -> None:
        del self._entering[carried]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection could not be carried on", exc_info=error)
            carried.sock.close()
            carried.lost()

    def cut(self, carried: CarriedConnection) -> None:
        """Close a connection that is not on the loop; one that is about to be is closed by that."""
        descriptor = carried.sock.fileno()
        if self._waiting.pop(descriptor, None) is not None:
            self._forget(descriptor)
            carried.sock.close()
            asyncio.get_running_loop().call_soon(carried.lost)

    def close(self) -> None:
        """Close whatever is not on the loop."""
        for carried in list(self._waiting.values()):
            self.cut(carried)
        for descriptor in list(self._kept):
            self.drop(descriptor)
        self._done()


class _Shell(asyncio.BufferedProtocol):
    """Stands for the protocol of a carried connection until its transport is there."""

    def __init__(self, landing: Landing, attached: Attached | None, carried: CarriedConnection) -> None:
        self._landing, self._attached, self._carried = landing, attached, carried

    def connection_made(self, transport: Any) -> None:
        carried = self._carried
        try:
            taken = self._landing.land(transport, carried.format, carried.remote, carried.country)
        except OSError as error:  # its socket is gone in some way
            log.warning("a connection could not be carried on", why=str(error))
            transport.abort()
            return
        carried.turn_into(taken)
        if self._attached is not None:
            self._attached(carried, taken)
        if carried.paused:
            asyncio.get_running_loop().call_soon(taken.pause_reading)  # the loop begins to read after this call

    def get_buffer(self, hint: int) -> bytearray:
        return bytearray(1024)

    def buffer_updated(self, count: int) -> None: ...

    def connection_lost(self, error: Exception | None) -> None:
        self._carried.lost()
