"""The in-memory twin of the socket driver, for tests and simulation.

A `MemoryListener` is the server's side; `connect` gives a `ClientEnd`, the client's. Bytes
travel over the running loop (call_soon, or call_later with a delay that is asked for each
message) and stay in order. A client end can stall (stop reading, so that the server's buffer
fills), go half-open (nothing passes any more and nobody is told) and drop.
"""

import asyncio
import errno
import itertools
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final
from weakref import WeakValueDictionary

from server.errors import Unavailable
from server.sessions.connection import LINGER_S, NOBODY, Accept, Connection, Receiver
from server.sessions.door import EARLY_BYTES
from server.wire.codec import Format
from server.wire.messages import CloseCode

ABNORMAL: Final = 1006
HIGH_WATER_BYTES: Final = 64 * 1024
LOW_WATER_BYTES: Final = 16 * 1024

Delay = Callable[[], float]
"""Seconds that the next message takes, asked for each."""
_Item = bytes | tuple[int, str]
_NUMBERS: Final = itertools.count(1)


class ConnectionClosed(Exception):
    """The connection ended with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class _Pipe:
    """A direction of a connection: items arrive at the far end in order, each after its delay."""

    def __init__(self, delay: Delay | None, arrive: Callable[[_Item], None]) -> None:
        self._delay = delay
        self.arrive = arrive
        self._flight: deque[tuple[float, _Item]] = deque()
        self._last = 0.0
        self.bytes = 0
        self.held = False  # the reader does not read
        self.dead = False

    def put(self, item: _Item) -> None:
        if self.dead:
            return
        loop = asyncio.get_running_loop()
        wait = self._delay() if self._delay is not None else 0.0
        self._last = max(self._last, loop.time() + wait)
        self._flight.append((self._last, item))
        self.bytes += len(item) if isinstance(item, bytes) else 0
        self._wake(self._last - loop.time())

    def _wake(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        if wait_s <= 0:
            loop.call_soon(self.flow)
        else:
            loop.call_later(wait_s, self.flow)

    def flow(self) -> None:
        """Deliver what is due."""
        loop = asyncio.get_running_loop()
        while self._flight and not self.held and not self.dead:
            due, item = self._flight[0]
            if due > loop.time():
                self._wake(due - loop.time())  # a timer of ours may fire a hair early
                return
            self._flight.popleft()
            self.bytes -= len(item) if isinstance(item, bytes) else 0
            self.arrive(item)

    def hold(self, held: bool) -> None:
        self.held = held
        if not held:
            self._wake(0.0)

    def kill(self) -> None:
        self.dead = True
        self._flight.clear()
        self.bytes = 0


class MemoryConnection:
    """The server's end; see `server.sessions.connection.Connection`."""

    def __init__(self, listener: "MemoryListener", format: Format, remote: str, delay: Delay | None) -> None:
        self.format: Format = format
        self.remote, self.country = remote, ""
        self._traffic = [0, 0]
        self.client = ClientEnd(self)
        self._listener = listener
        self._receiver: Receiver = NOBODY
        self._max_bytes = min(EARLY_BYTES, listener.max_frame_bytes)
        self._closing = 0
        self._gone = False
        self._blocked = False
        self._linger: asyncio.TimerHandle | None = None
        self._paused = False
        self.number = next(_NUMBERS)
        """Its descriptor, in all processes."""
        self.holder: MemoryListener | None = None
        """The listener of the next process of its node, which has its descriptor."""
        self.orphan = False
        """The process before is gone."""
        self.to_client = _Pipe(delay, self._to_client)
        self.to_server = _Pipe(delay, self._to_server)

    @property
    def buffered_bytes(self) -> int:
        return self.to_client.bytes

    def traffic(self) -> tuple[int, int]:
        return self._traffic[0], self._traffic[1]

    def set_receiver(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def welcomed(self) -> None:
        self._max_bytes = self._listener.max_frame_bytes

    def send(self, data: bytes) -> None:
        if self._closing or self._gone:
            return
        self.to_client.put(bytes(data))
        self._traffic[1] += len(data)
        if not self._blocked and self.buffered_bytes > HIGH_WATER_BYTES:
            self._blocked = True
            self._receiver.on_blocked(self)

    def close(self, code: int, reason: str = "") -> None:
        if self._closing or self._gone:
            return
        self._closing = code
        self.to_client.put((code, reason))
        self.to_server.hold(False)
        self._linger = asyncio.get_running_loop().call_later(LINGER_S, self.lose, code, reason)

    def abort(self) -> None:
        self._closing = self._closing or ABNORMAL
        self.to_client.kill()
        self.to_server.kill()
        loop = asyncio.get_running_loop()
        loop.call_soon(self.lose, self._closing, "")
        loop.call_soon(self.client.ended, ABNORMAL, "")

    def pause_reading(self) -> None:
        self._paused = True
        self.to_server.hold(True)

    def resume_reading(self) -> None:
        self._paused = False
        self.to_server.hold(self._listener.resting)

    def rest(self, resting: bool) -> None:
        """Do not read, whoever wants to; or read again, unless somebody does not."""
        if not self._closing:
            self.to_server.hold(resting or self._paused)

    @property
    def immovable(self) -> str:
        """See `server.sessions.connection.ClientSockets.movable`."""
        return "closing" if self._closing or self._gone else "unsent" if self._blocked else ""

    def take_over(self, before: "MemoryConnection") -> None:
        """Go on with the wires of a connection of the process before, which has them no more."""
        self.client, self.to_client, self.to_server = before.client, before.to_client, before.to_server
        self._max_bytes = self._listener.max_frame_bytes
        before._receiver, before._gone = NOBODY, True
        before._listener.open.pop(before, None)
        self.to_client.arrive, self.to_server.arrive = self._to_client, self._to_server
        self.client.connection = self
        self.to_server.hold(self._paused)

    def lose(self, code: int, reason: str) -> None:
        """The server's end is gone; it is told once."""
        if self._gone:
            return
        self._gone = True
        if self._linger is not None:
            self._linger.cancel()
        self.to_server.kill()
        self._listener.open.pop(self, None)
        receiver, self._receiver = self._receiver, NOBODY
        receiver.on_closed(self, self._closing or code, reason)

    def _to_client(self, item: _Item) -> None:
        if isinstance(item, tuple):
            self.client.ended(*item)
            self.to_server.put(item)  # the client's own close answers
            return
        self.client.arrived(item)
        if self._blocked and self.buffered_bytes < LOW_WATER_BYTES:
            self._blocked = False
            self._receiver.on_writable(self)

    def _to_server(self, item: _Item) -> None:
        if isinstance(item, tuple):
            self.lose(*item)
        elif not self._closing:
            if len(item) > self._max_bytes:
                self.close(CloseCode.TOO_BIG, "message too big")
            else:
                self._traffic[0] += len(item)
                self._receiver.on_message(item)


class ClientEnd:
    """The client's end. `on_message` and `on_closed` may be set to be called back; otherwise
    messages wait for `receive`."""

    def __init__(self, connection: MemoryConnection) -> None:
        self.connection = connection
        self._inbox: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.closed: ConnectionClosed | None = None
        self.on_message: Callable[[bytes], None] | None = None
        self.on_closed: Callable[[int, str], None] | None = None

    def send(self, data: bytes) -> None:
        """Raises `ConnectionClosed` once the connection has ended on this side."""
        if self.closed is not None:
            raise self.closed
        self.connection.to_server.put(data)

    async def receive(self) -> bytes:
        """The next message; raises `ConnectionClosed` after the last one. One waiter at a time."""
        while not self._inbox:
            if self.closed is not None:
                raise self.closed
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._inbox.popleft()

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        if self.closed is None:
            self.connection.to_server.put((code, reason))
            self.ended(code, reason)

    def drop(self) -> None:
        """The connection breaks and both ends notice, the server after its delay."""
        self.connection.to_server.put((ABNORMAL, ""))
        self.connection.to_client.kill()
        self.ended(ABNORMAL, "")

    def stall(self) -> None:
        """Stop reading."""
        self.connection.to_client.hold(True)

    def read_on(self) -> None:
        self.connection.to_client.hold(False)

    def half_open(self) -> None:
        """From here on nothing passes in either direction, and nobody is told."""
        self.connection.to_client.kill()
        self.connection.to_server.kill()

    # ---- the pipe's side ----

    def arrived(self, data: bytes) -> None:
        if self.closed is not None:
            return
        if self.on_message is not None:
            self.on_message(data)
            return
        self._inbox.append(data)
        self._wake()

    def ended(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = ConnectionClosed(code, reason)
            self._wake()
            if self.on_closed is not None:
                self.on_closed(code, reason)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


SENT: Final = WeakValueDictionary[int, MemoryConnection]()
"""Connections whose descriptors may be on their way."""


class MemoryListener:
    """The server's side. `url` is what it is known
    by, `memory://name`."""

    complaint = ""

    def reload(self, changed_only: bool = False) -> bool:
        """There are no certificates."""
        return False

    def __init__(self, name: str, max_frame_bytes: int = 64 * 1024, max_connections: int = 100_000) -> None:
        self.url = f"memory://{name}"
        self.max_frame_bytes = max_frame_bytes
        self.max_connections = max_connections
        self.open: dict[MemoryConnection, None] = {}
        self._accept: Accept | None = None
        self._refusing = False
        self.resting = False
        self._backlog: list[MemoryConnection] = []
        """Connections that wait until it rests no more."""
        self._carried: dict[MemoryConnection, MemoryConnection] = {}
        """Connections of the process before by those that shall go on with them."""

    @property
    def sockets(self) -> list[socket.socket]:
        """There are none: a listener is known by its name."""
        return []

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """There is nothing to adopt."""

    async def start(self, accept: Accept) -> str:
        """Begin to accept; returns the url."""
        self._accept = accept
        return self.url

    def refuse(self) -> None:
        self._refusing = True

    async def stop(self) -> None:
        self.refuse()
        for connection in list(self.open):
            connection.abort()

    def connect(self, format: Format = "msgpack", remote: str = "", delay: Delay | None = None) -> ClientEnd:
        """A new connection. Raises `Unavailable` where nobody listens."""
        if self._accept is None or self._refusing:
            raise Unavailable(f"nobody listens at {self.url}")
        connection = self.make(format, remote, delay)
        self.open[connection] = None
        if self.resting:
            connection.rest(True)
            self._backlog.append(connection)
        else:
            self.let_in(connection)
        return connection.client

    def make(self, format: Format, remote: str, delay: Delay | None) -> MemoryConnection:
        """A connection of this listener's kind."""
        return MemoryConnection(self, format, remote, delay)

    def let_in(self, connection: MemoryConnection) -> None:
        """Hand a new connection over, or say that there is no room."""
        assert self._accept is not None
        if len(self.open) > self.max_connections:
            connection.close(CloseCode.FULL, "no room for another connection")
        else:
            connection.set_receiver(self._accept(connection))

    def crash(self) -> None:
        """The process is gone: clients notice, the server's side is told nothing. A connection whose descriptor another
        process has goes on."""
        self._refusing = True
        for connection in list(self.open):
            connection.set_receiver(NOBODY)
            if connection.holder is None:
                connection.abort()
            else:
                connection.orphan = True
                connection.to_server.hold(True)
        for before in self._carried.values():
            self._release(before)

    def _release(self, before: MemoryConnection) -> None:
        before.holder = None
        if before.orphan:
            before.abort()

    # ---- on the way to the next process: see `server.sessions.connection.ClientSockets` ----

    def rest(self) -> None:
        self.resting = True
        for connection in self.open:
            connection.rest(True)

    def go_on(self) -> None:
        self.resting = False
        backlog, self._backlog = self._backlog, []
        for connection in self.open:
            connection.rest(False)
        for connection in backlog:
            if connection in self.open:
                self.let_in(connection)

    def movable(self, connection: Connection) -> str:
        assert isinstance(connection, MemoryConnection)
        return connection.immovable

    def descriptor(self, connection: Connection) -> int:
        assert isinstance(connection, MemoryConnection)
        SENT[connection.number] = connection
        return connection.number

    def keep(self, descriptor: int) -> None:
        """There is nothing to prepare."""

    def carry(self, descriptor: int, format: Format, remote: str, country: str) -> Connection:
        before = SENT.get(descriptor)
        if before is None:
            raise OSError(errno.EBADF, "no such descriptor")
        connection = self.make(format, remote, None)
        connection.country = country
        before.holder = self
        self._carried[connection] = before
        return connection

    def drop(self, descriptor: int) -> None:
        before = SENT.get(descriptor)
        for connection, carried in list(self._carried.items()):
            if carried is before:
                del self._carried[connection]
        if before is not None:
            self._release(before)

    def take_up(self, attached: Callable[[Connection, Connection], None]) -> None:
        carried, self._carried = self._carried, {}
        for connection, before in carried.items():
            self.open[connection] = None
            connection.take_over(before)
