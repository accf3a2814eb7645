"""A connection on picows, once its handshake is done: frames in, whole messages out. `picows_driver.py` says at its
head which part of RFC 6455 picows does, and which is done here.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Any, Final, Protocol, cast

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from server.runtime.metrics import Metrics
from server.sessions.connection import LINGER_S, NOBODY, Receiver
from server.sessions.door import Door
from server.sessions.picows_buffer import UnreadBytes
from server.sessions.picows_parts import FrameReports, Sips
from server.settings import GatewaySettings
from server.wire.codec import Format
from server.wire.messages import CloseCode

_KEPT_BYTES: Final = 1_000
"""Frames up to this size fit into the buffer that the library gives each connection at first."""
_WIDE: Final = 2**16
_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_PING: Final = WSMsgType.PING
_CLOSE: Final = WSMsgType.CLOSE
_ABNORMAL: Final = 1006
_PONG_BYTES: Final = 16 * 1024
"""A peer that does not read, and has more than this waiting, gets no pongs."""
_LAST_FRAMES: Final = 64
"""After our close frame: a peer that sends more than this before its own is read no further."""
_NO_TRAFFIC: Final = (0, 0)
_RESERVED: Final = "reserved bits are set and no extension was agreed"


class ConnectionOwner(Protocol):
    """The listener of a connection."""

    settings: GatewaySettings
    metrics: Metrics
    early_bytes: int
    resting: bool

    @property
    def unread(self) -> UnreadBytes: ...

    def opened(self, connection: "PicowsConnection") -> None:
        """The handshake is done."""
        ...

    def gone(self, connection: "PicowsConnection", address: str) -> None:
        """The connection is over, which counted for `address`."""
        ...


def _may_be_sent(code: int) -> bool:
    """Whether a close code may stand in a frame (RFC 6455, 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


class PicowsConnection(WSListener):
    """A connection on picows; see `server.sessions.connection.Connection`."""

    __slots__ = (
        "_closing", "_counted", "_door", "_hearer", "_kind", "_late", "_linger", "_listener", "_max_bytes", "_parts",
        "_parts_bytes", "_paused", "_pong", "_receiver", "_transport", "_usual", "country", "format", "remote",
        "reports",
    )  # fmt: skip

    format: Format

    def __init__(self, listener: ConnectionOwner, format: Format, door: Door | None, remote: str, country: str) -> None:
        self._listener = listener
        self._door = door
        """None once its client is welcome; from the start, where another process has welcomed it."""
        self._max_bytes = listener.early_bytes if door is not None else listener.settings.max_frame_bytes
        self.format, self.remote, self.country = format, remote, country
        self._kind = _TEXT if format == "json" else _BINARY
        self._usual = None if format == "json" else _BINARY  # None also within a fragmented message
        self._receiver: Receiver = NOBODY
        self._hearer: Receiver = NOBODY  # receiver of messages, until this side closes
        self._parts: list[bytes] | None = None
        self._parts_bytes = 0
        self._pong: bytes | None = None  # payload of the newest unanswered ping
        self._counted = ""  # the address for which it counts, once the door has stepped aside
        self._closing = 0  # the close code that was sent
        self._late = 0  # frames that came after that
        self._paused = False
        self._linger: asyncio.TimerHandle | None = None
        self._transport: WSTransport = cast(WSTransport, None)  # set by on_ws_connected
        self.reports = FrameReports(listener.metrics, self)
        """Logger that picows is given."""

    # ---- Connection ----

    @property
    def buffered_bytes(self) -> int:
        return self._transport.underlying_transport.get_write_buffer_size()

    def traffic(self) -> tuple[int, int]:
        return _NO_TRAFFIC

    def set_receiver(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._hearer = receiver

    def welcomed(self) -> None:
        door, self._door = self._door, None
        if door is not None and not self._closing:
            self._max_bytes = self._listener.settings.max_frame_bytes
            self._counted, door.counted = door.counted, ""
            door.welcome()

    def send(self, data: bytes) -> None:
        # Methods looked up and called, here and for messages, not kept: a kept bound method or
        # partial is one more object of each connection that is not in the processor's cache.
        if len(data) > _KEPT_BYTES:
            self._send_large(data)
        else:
            self._transport.send(self._kind, data)

    def _send_large(self, data: bytes) -> None:
        """Write a frame past the library's buffer, which grows to the largest frame below 8 KiB and never shrinks: for
        a list of friends that was sent once, a session would be that much larger for as long as it lives."""
        if not self._closing:
            size = len(data)
            form, code = ("!BBH", 126) if size < _WIDE else ("!BBQ", 127)
            header = struct.pack(form, 0x80 | self._kind.value, code, size)
            self._transport.underlying_transport.writelines([header, data])

    def close(self, code: int, reason: str = "") -> None:
        if self._closing:
            return
        self._closing = code
        self._max_bytes = -1  # no frame is usual any more
        self._parts = None
        self._hearer = NOBODY
        # The stub says enum; any number is taken, and 4001 is not in the enum.
        self._transport.send_close(cast(WSCloseCode, code), _reason(reason))
        self._transport.underlying_transport.resume_reading()  # the peer's close must be seen
        loop = asyncio.get_running_loop()
        self._linger = loop.call_later(LINGER_S, self._transport.disconnect, False)

    def abort(self) -> None:
        self._closing = self._closing or _ABNORMAL
        self._hearer = NOBODY
        self._transport.disconnect(False)

    def pause_reading(self) -> None:
        self._paused = True
        transport = self._transport.underlying_transport
        transport.pause_reading()
        protocol = transport.get_protocol()
        if not isinstance(protocol, Sips):
            transport.set_protocol(Sips(protocol))

    def resume_reading(self) -> None:
        self._paused = False
        if not self._listener.resting:
            self._transport.underlying_transport.resume_reading()

    # ---- on the way to the next process: see `server.sessions.connection.ClientSockets` ----

    def rest(self) -> None:
        """Do not read, whoever wants to. A connection that is being closed waits for its peer all the same."""
        transport = self._transport.underlying_transport
        if not (self._closing or transport.is_closing()):
            transport.pause_reading()

    def go_on(self) -> None:
        """Read again, unless somebody does not want to."""
        if not self._paused:
            self._transport.underlying_transport.resume_reading()

    @property
    def immovable(self) -> str:
        """The reason why it cannot go over; empty if it can."""
        transport = self._transport.underlying_transport
        if self._closing or transport.is_closing() or self._door is not None:
            return "closing"
        if self._transport.is_secure:
            return "tls"
        if self._pong is not None:
            self._send_pong()
        protocol = transport.get_protocol()
        if self._listener.unread.of(protocol.behind if isinstance(protocol, Sips) else protocol):
            return "frame"
        if self._parts is not None:
            return "message"
        return "unsent" if self.buffered_bytes else ""

    @property
    def descriptor(self) -> int:
        """The descriptor of its socket."""
        return int(self._transport.underlying_transport.get_extra_info("socket").fileno())

    def end_for_all(self) -> None:
        """End the connection itself, whose socket is about to be closed: while another process has that too, closing
        it here tells the peer nothing."""
        with contextlib.suppress(OSError, ValueError):  # the peer was faster
            sock = socket.socket(fileno=self.descriptor)
            try:
                sock.shutdown(socket.SHUT_RDWR)
            finally:
                sock.detach()

    @property
    def was_carried(self) -> bool:
        """True of a connection that never had a door."""
        return self._door is None

    def count_for(self, address: str) -> None:
        """Note the address for which it counts."""
        self._counted = address

    def write_first(self, data: bytes) -> None:
        """See `server.sessions.carrier.LandedConnection`."""
        self._transport.underlying_transport.write(data)

    # ---- picows' side ----

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        request = cast(Any, transport.request)  # kept by the library, with its headers, as long as the connection
        request.method = request.path = request.version = b""
        request.headers = None
        self._listener.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if (
            frame.msg_type is self._usual
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            and frame.payload_size <= self._max_bytes
        ):
            self._hearer.on_message(frame.get_payload_as_bytes())
        else:
            self._unusual(frame)

    def too_much(self) -> None:
        """See `server.sessions.door.Early`."""
        if not self._closing:
            self._violation(CloseCode.TOO_BIG, f"a message before the welcome has at most {self._max_bytes} bytes")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        code, reason = self._how_it_ended(transport)
        self._listener.gone(self, self._counted)
        self._counted = ""
        receiver, self._receiver = self._receiver, NOBODY
        self._hearer = NOBODY
        self._parts = None
        receiver.on_closed(self, code, reason)
        self.reports.forget()

    def pause_writing(self) -> None:
        self._receiver.on_blocked(self)

    def resume_writing(self) -> None:
        self._receiver.on_writable(self)

    # ---- off the usual path ----

    def _unusual(self, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is _CLOSE:
            self._peer_closes(frame)
        elif self._closing:
            self._late += 1
            if self._late == _LAST_FRAMES:
                self.pause_reading()
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._violation(CloseCode.PROTOCOL_ERROR, _RESERVED)
        elif kind is _TEXT or kind is _BINARY:
            self._data(frame)
        elif kind is _CONTINUATION:
            self._continuation(frame)
        else:
            if kind is _PING:
                if self._pong is None:
                    asyncio.get_running_loop().call_soon(self._send_pong)
                self._pong = frame.get_payload_as_bytes()
            self._receiver.on_control(self)

    def _send_pong(self) -> None:
        """Answer the newest of the pings that came together (RFC 6455, 5.5.3)."""
        pong, self._pong = self._pong, None
        if pong is not None and not self._closing and self.buffered_bytes <= _PONG_BYTES:
            self._transport.send_pong(pong)

    def _data(self, frame: WSFrame) -> None:
        if self._parts is not None:
            self._violation(CloseCode.PROTOCOL_ERROR, "a new message began within a fragmented one")
        elif frame.msg_type is not self._kind:
            self._violation(CloseCode.UNSUPPORTED, f"this subprotocol's messages are {self._kind.name.lower()}")
        elif frame.payload_size > self._max_bytes:
            self._violation(CloseCode.TOO_BIG, f"a message has at most {self._max_bytes} bytes")
        elif frame.fin:
            self._whole(frame.get_payload_as_bytes())
        else:
            self._usual = None
            self._parts = [frame.get_payload_as_bytes()]
            self._parts_bytes = frame.payload_size
            self._receiver.on_control(self)

    def _continuation(self, frame: WSFrame) -> None:
        if self._parts is None:
            self._violation(CloseCode.PROTOCOL_ERROR, "a continuation without a beginning")
            return
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > self._max_bytes:
            self._violation(CloseCode.TOO_BIG, f"a message has at most {self._max_bytes} bytes")
            return
        if frame.payload_size:  # empty fragments cost a token each and no memory
            self._parts.append(frame.get_payload_as_bytes())
        if frame.fin:
            parts, self._parts = self._parts, None
            self._usual = None if self._kind is _TEXT else _BINARY
            self._whole(b"".join(parts))
        else:
            self._receiver.on_control(self)

    def _whole(self, message: bytes) -> None:
        if self._kind is _TEXT:
            try:
                message.decode()
            except UnicodeDecodeError:
                self._violation(CloseCode.BAD_UTF8, "text must be UTF-8")
                return
        if self._pong is not None:
            self._send_pong()  # a ping that came among its fragments is answered before it
        self._hearer.on_message(message)

    def _peer_closes(self, frame: WSFrame) -> None:
        """The peer's close frame: answer it, and cut."""
        if (frame.rsv1 or frame.rsv2 or frame.rsv3) and not self._closing:
            self._violation(CloseCode.PROTOCOL_ERROR, _RESERVED)
            self._transport.disconnect()  # the peer has said its last, and the server cuts first (7.1.1)
            return
        payload = frame.get_payload_as_bytes()
        if len(payload) >= 2 and not self._closing:
            (code,) = struct.unpack_from("!H", payload)
            if not _may_be_sent(code):
                self._violation(CloseCode.PROTOCOL_ERROR, f"close code {code} may not be sent")
                self._transport.disconnect()
                return
            self._transport.send_close(cast(WSCloseCode, code))
        elif not self._closing:
            self._transport.send_close(WSCloseCode.OK)
        self._hearer = NOBODY
        self._transport.disconnect()
        if self._linger is None:  # a peer that never reads the answer is not waited for
            self._linger = asyncio.get_running_loop().call_later(LINGER_S, self._transport.disconnect, False)

    def fault_found(self) -> None:
        """picows is about to close for a frame that breaks the protocol. It reads a frame ahead: where the peer's close
        frame came before that one, in the same read, it is answered first, and what follows it does not count."""
        handshake = cast(Any, self._transport.close_handshake)
        if handshake is not None and handshake.recv is not None and handshake.sent is None:
            code = int(handshake.recv.code) or int(CloseCode.NORMAL)
            if _may_be_sent(code):
                self._transport.send_close(cast(WSCloseCode, code))

    def _violation(self, code: int, reason: str) -> None:
        self._listener.metrics.bad_frames_total += 1
        self.close(code, reason)

    def _how_it_ended(self, transport: WSTransport) -> tuple[int, str]:
        if self._closing:
            return self._closing, ""
        handshake = cast(Any, transport.close_handshake)  # the stub does not say that it may be None
        if handshake is None:
            return _ABNORMAL, ""
        if handshake.recv is not None and handshake.recv_then_sent:
            return int(handshake.recv.code) or 1005, handshake.recv.reason or ""
        sent = handshake.sent  # picows itself refused something
        return (int(sent.code), sent.reason or "") if sent is not None else (_ABNORMAL, "")


def _reason(text: str) -> bytes:
    """A close reason fits a control frame: 123 bytes, cut between characters."""
    return text.encode()[:123].decode("utf-8", "ignore").encode()
