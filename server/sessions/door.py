"""The door of the client port: what a connection may do before it is welcome.

A `Door` is the protocol of a new connection. It reads the HTTP request, bounded in size and time, and answers in
HTTP what it does not let in. An accepted request goes to the WebSocket protocol behind it in the one spelling that
picows reads. From then on the door passes bytes on and looks at the heads of frames: a frame that announces more than
`EARLY_BYTES` before the welcome is refused before a byte of it is kept, so that strangers cost little memory. After
the welcome the door steps aside, and costs nothing any more.

All doors of a listener read into one buffer: a transport fills it and hands it over in one go.
"""

import asyncio
from typing import Any, Final, Protocol

from server.runtime.proxies import Client, peer_of
from server.runtime.proxy_prefix import begins_like_prefix
from server.sessions.connection import LINGER_S
from server.sessions.http_handshake import (
    CROWDED,
    END,
    FULL,
    MAX_HEAD_BYTES,
    PREFIXED,
    TOO_LONG,
    TOO_SLOW,
    VERSION,
    Handshake,
    Refusal,
    judge,
)

EARLY_BYTES: Final = 8 * 1024
"""Largest message before the welcome: a hello has a token of at most 4 KiB."""
_READ_BYTES: Final = 4 * 1024
_DISCARD_BYTES: Final = 256 * 1024
"""Bytes that are still read and thrown away after a refusal, so that the peer sees the answer and not a reset."""


class Early(Protocol):
    """A connection behind the door, as far as the door is concerned."""

    def too_much(self) -> None:
        """Close it: a message is announced that is larger than may come before the welcome."""
        ...


class Behind(Protocol):
    """The parts of a WebSocket protocol that are used here (an `asyncio.BufferedProtocol`)."""

    def connection_made(self, transport: Any) -> None: ...
    def get_buffer(self, hint: int) -> memoryview: ...
    def buffer_updated(self, count: int) -> None: ...
    def eof_received(self) -> Any: ...
    def connection_lost(self, error: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class House(Protocol):
    """The listener behind its doors."""

    @property
    def full(self) -> bool:
        """No room, not even for a connection that is told so by a close code."""
        ...

    def admit(self, door: "Door", handshake: Handshake | None) -> bool:
        """Count the connection for its client's address, in `door.counted`, as soon as that is known: from the start,
        or with the handshake where a trusted proxy says it there. False: that address has too many."""
        ...

    def leave(self, door: "Door") -> None:
        """Count it no more."""
        ...

    def enter(self, door: "Door", handshake: Handshake) -> tuple[Behind, Early]:
        """The protocol for an accepted handshake, and the connection that it will open."""
        ...

    def prefixed(self, peer: Client) -> None:
        """A PROXY prefix has come from a peer that may not say one; it is refused."""
        ...


class Doors:
    """All doors of a listener that are not passed yet. `early_bytes`: largest message before the welcome;
    `country_header`: see `judge`."""

    def __init__(self, house: House, handshake_s: float, early_bytes: int, country_header: str = "") -> None:
        self.house, self.handshake_s, self.early_bytes = house, handshake_s, early_bytes
        self.country_header = country_header
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self.waiting: dict[Door, None] = {}
        """Connections whose handshake is not done."""

    def make(self, client: Client | None = None) -> "Door":
        """The protocol of a new connection, whose other end is `client` where a trusted proxy has said so."""
        return Door(self, client)

    def shut(self) -> None:
        """Cut all connections whose handshake is not done."""
        for door in list(self.waiting):
            door.cut()


class Door(asyncio.BufferedProtocol):
    """See the module's head."""

    __slots__ = (
        "_behind", "_crowded", "_doors", "_early", "_gauge", "_head", "_refused", "_timer", "_transport", "_welcome",
        "counted", "peer",
    )  # fmt: skip

    def __init__(self, doors: Doors, client: Client | None) -> None:
        self._doors = doors
        self.peer = client
        self.counted = ""
        """The address for which this connection counts; empty if it does not, or if its session leaves for it."""
        self._head = bytearray()
        self._behind: Behind | None = None
        self._early: Early | None = None
        self._gauge: FrameGauge | None = None
        self._refused = 0  # bytes to be thrown away yet, once the connection is refused
        self._welcome = False
        self._crowded = False  # its address has too many connections
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None

    def welcome(self) -> None:
        """Step aside: the client may send what its session allows."""
        self._welcome = True
        transport = self._transport
        if transport is not None and transport.get_protocol() is self:
            transport.set_protocol(self._behind)

    def cut(self) -> None:
        self._transport.abort()

    # ---- asyncio.BufferedProtocol ----

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self.peer is None:
            self.peer = peer_of(transport.get_extra_info("peername"))
        self._doors.waiting[self] = None
        within_s, answer = self._doors.handshake_s, TOO_SLOW
        if not self._doors.house.admit(self, None):
            # Answered once it has asked: some clients fail in odd ways where the answer comes first.
            self._crowded = True
            within_s, answer = min(within_s, LINGER_S), CROWDED
        self._timer = asyncio.get_running_loop().call_later(within_s, self._refuse, answer)

    def get_buffer(self, hint: int) -> memoryview:
        return self._doors.buffer

    def buffer_updated(self, count: int) -> None:
        data = bytes(self._doors.buffer[:count])
        if self._refused:
            self._discard(count)
        elif self._behind is not None:
            self._pass(data)
        else:
            self._read_head(data)

    def eof_received(self) -> Any:
        return self._behind.eof_received() if self._behind is not None else False

    def connection_lost(self, error: Exception | None) -> None:
        self._shaken()
        self._doors.house.leave(self)
        behind, self._behind = self._behind, None
        self._early = self._transport = None  # the connection has this: no circle is left
        if behind is not None:
            behind.connection_lost(error)

    def pause_writing(self) -> None:
        if self._behind is not None:
            self._behind.pause_writing()

    def resume_writing(self) -> None:
        if self._behind is not None:
            self._behind.resume_writing()

    # ---- the handshake ----

    def _read_head(self, data: bytes) -> None:
        head = self._head
        searched = max(0, len(head) - len(END) + 1)
        head += data
        end = head.find(END, searched)
        if begins_like_prefix(head):
            assert self.peer is not None
            self._doors.house.prefixed(self.peer)
            self._refuse(PREFIXED)
        elif end > MAX_HEAD_BYTES - len(END) or (end < 0 and len(head) >= MAX_HEAD_BYTES):
            self._refuse(TOO_LONG)
        elif end >= 0 and self._crowded:
            self._refuse(CROWDED)
        elif end >= 0:
            doors = self._doors
            verdict = FULL if doors.house.full else judge(bytes(head[:end]), doors.country_header)
            if isinstance(verdict, Refusal):
                self._refuse(verdict)
            elif not self._doors.house.admit(self, verdict):
                self._refuse(CROWDED)
            else:
                rest = bytes(head[end + len(END) :])
                self._head = bytearray()
                self._enter(verdict, rest)

    def _enter(self, handshake: Handshake, rest: bytes) -> None:
        self._shaken()
        self._behind, self._early = self._doors.house.enter(self, handshake)
        self._gauge = FrameGauge(self._doors.early_bytes)
        self._behind.connection_made(self._transport)
        self._fill(plain_request(handshake.key))
        if rest:
            self._pass(rest)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer in HTTP. The peer may be sending yet: closed with unread bytes, the connection would be reset and
        the answer destroyed on its way."""
        self._shaken()
        self._head = bytearray()
        self._refused = _DISCARD_BYTES
        self._transport.write(refusal.render())
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)

    def _discard(self, count: int) -> None:
        self._refused -= count
        if self._refused <= 0:
            self._refused = 1
            self._transport.abort()

    def _shaken(self) -> None:
        """The handshake is over, in whichever way."""
        self._doors.waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- frames before the welcome ----

    def _pass(self, data: bytes) -> None:
        """Hand bytes over as far as no frame is too large."""
        if self._welcome:
            self._fill(data)
            return
        assert self._gauge is not None and self._early is not None
        good = self._gauge.measure(data)
        self._fill(data[:good])
        if good < len(data):
            self._refused = _DISCARD_BYTES
            self._early.too_much()

    def _fill(self, data: bytes) -> None:
        behind = self._behind
        assert behind is not None
        at = 0
        while at < len(data):
            room = behind.get_buffer(-1)
            count = min(len(room), len(data) - at)
            room[:count] = data[at : at + count]
            at += count
            behind.buffer_updated(count)


def plain_request(key: str) -> bytes:
    """The request of a handshake in the one spelling that picows reads."""
    plain = (
        f"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: {VERSION}\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n"
    )
    return plain.encode()


class FrameGauge:
    """Reads the heads of frames (RFC 6455, 5.2) and nothing else. `max_bytes`: largest payload."""

    __slots__ = ("_max_bytes", "_payload_left", "_start")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._start = bytearray()  # a head that is not complete
        self._payload_left = 0

    def measure(self, data: bytes) -> int:
        """The number of bytes of `data` before the end of the first head that announces too much; all, if none does."""
        at = 0
        while at < len(data):
            if self._payload_left:
                step = min(self._payload_left, len(data) - at)
                self._payload_left -= step
                at += step
                continue
            self._start.append(data[at])
            size = _payload_bytes(self._start)
            if size is not None and size > self._max_bytes:
                return at
            at += 1
            if size is not None:
                self._payload_left = size
                self._start.clear()
        return at


def _payload_bytes(start: bytearray) -> int | None:
    """The size of a frame's payload; None while its head is not complete."""
    if len(start) < 2:
        return None
    short, mask = start[1] & 0x7F, 4 if start[1] & 0x80 else 0
    wide = {126: 2, 127: 8}.get(short, 0)
    if len(start) < 2 + wide + mask:
        return None
    return int.from_bytes(start[2 : 2 + wide], "big") if wide else short
