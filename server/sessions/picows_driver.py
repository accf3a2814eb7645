"""Client WebSockets over sockets, by picows (RFC 6455 in Cython).

picows hands over frames. It answers by itself, with 1002, an unknown opcode, a control frame
that is fragmented or over 125 bytes, an unmasked frame, a length that is not minimal and most bad
close codes, and with 1009 a frame over its limit. That limit is twice ours, so that a frame
moderately over ours is answered here, where the close can wait for the peer's own (a cut with
unread bytes in the socket can destroy the close code on its way). The rest is checked here:
reserved bits, the order and total size of fragments, UTF-8, text or binary, close codes. The HTTP
handshake before it, and what may come before the welcome, is `door.py`.

picows doubles a connection's buffer whenever a read fills it, and hands over all of a read at once.
So a read must never be large: the kernel holds little of what was not read yet, a flooding session
is not read while it waits in line (`turnstile.py`) and in sips from then on, and a peer that goes
on sending after our close frame is not read at all.

uvloop's own transports are used, not picows' optional ones: a connection costs 5 KiB less.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

import structlog
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    picows,
)

from server.errors import BadSetting
from server.runtime.certificates import Stamp, complaint, stamp
from server.runtime.listening import is_every, url_host
from server.runtime.proxies import NO_PROXIES, Client, TrustedProxies
from server.sessions.accepting import Accepting
from server.sessions.addresses import AddressLimit
from server.sessions.connection import LINGER_S, NOBODY, Acceptor, Receiver
from server.sessions.door import EARLY_BYTES, Behind, Door, Doors
from server.sessions.front import PrefixFaults
from server.sessions.http_handshake import Handshake
from server.sessions.picows_parts import FrameReports, Sips, tls_context
from server.settings import GatewaySettings
from server.wire.codec import Format
from server.wire.messages import CloseCode

log = structlog.get_logger(__name__)

_protocol: Final = cast(Any, picows).WSProtocol
_KEPT_BYTES: Final = 1_000
"""Frames up to this size fit into the buffer that the library gives each connection at first."""
_WIDE: Final = 2**16
_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_PING: Final = WSMsgType.PING
_CLOSE: Final = WSMsgType.CLOSE
_ABNORMAL: Final = 1006
_OVER_FULL: Final = 64
"""Connections above the limit that are still told so with a close code; more get HTTP 503."""
_PONG_BYTES: Final = 16 * 1024
"""A peer that does not read, and has more than this waiting, gets no pongs."""
_LAST_FRAMES: Final = 64
"""After our close frame: a peer that sends more than this before its own is read no further."""
_NO_TRAFFIC: Final = (0, 0)
_RESERVED: Final = "reserved bits are set and no extension was agreed"


def _may_be_sent(code: int) -> bool:
    """Whether a close code may stand in a frame (RFC 6455, 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


class PicowsConnection(WSListener):
    """A connection on picows; see `server.sessions.connection.Connection`."""

    __slots__ = (
        "_closing", "_counted", "_door", "_hearer", "_kind", "_late", "_linger", "_listener", "_max_bytes", "_parts",
        "_parts_bytes", "_pong", "_receiver", "_transport", "_usual", "country", "format", "remote",
    )  # fmt: skip

    format: Format

    def __init__(self, listener: "PicowsListener", format: Format, door: Door, remote: str, country: str) -> None:
        self._listener = listener
        self._door: Door | None = door
        self._max_bytes = listener.early_bytes
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
        self._linger: asyncio.TimerHandle | None = None
        self._transport: WSTransport = cast(WSTransport, None)  # set by on_ws_connected

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
        transport = self._transport.underlying_transport
        transport.pause_reading()
        protocol = transport.get_protocol()
        if not isinstance(protocol, Sips):
            transport.set_protocol(Sips(protocol))

    def resume_reading(self) -> None:
        self._transport.underlying_transport.resume_reading()

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


class PicowsListener:
    """The listening socket and its open connections. `connection`: the kind of these, counted or not."""

    def __init__(
        self,
        acceptor: Acceptor,
        settings: GatewaySettings,
        proxies: TrustedProxies = NO_PROXIES,
        connection: type[PicowsConnection] = PicowsConnection,
    ) -> None:
        """Raises `BadSetting` where clients could not be told an address."""
        if settings.advertise_url is None and is_every(settings.host):
            raise BadSetting("gateway.advertise_url", "needed when gateway.host means every interface")
        if settings.advertise_url is not None and is_every(urlsplit(settings.advertise_url).hostname or ""):
            raise BadSetting("gateway.advertise_url", "names every interface, which is nobody's address")
        self.settings = settings
        self.metrics = acceptor.metrics
        self._acceptor = acceptor
        self._proxies = proxies
        self._connection = connection
        self._prefix_faults = PrefixFaults(acceptor.metrics)
        self._context: ssl.SSLContext | None = None
        self._made_of: Stamp = ()
        self.complaint = ""
        """See `server.node_drivers.Listener`."""
        self._stopping = False
        self._open: dict[PicowsConnection, None] = {}
        self._responses: dict[str, WSUpgradeResponse] = {}
        """Answer to the handshake, by subprotocol."""
        self._empty: asyncio.Future[None] | None = None
        self._port = settings.port
        self._secure = settings.tls_certificate is not None
        self.early_bytes = min(EARLY_BYTES, settings.max_frame_bytes)
        """Largest message before the welcome."""
        self.addresses = AddressLimit(settings.max_connections_per_address, acceptor.metrics)
        self._doors = Doors(self, settings.hello_timeout_s, self.early_bytes, (settings.country_header or "").lower())
        self._accepting = Accepting(self._doors, proxies, settings.hello_timeout_s, self._prefix_faults)

    @property
    def sockets(self) -> list[socket.socket]:
        """Sockets that it listens on; valid after `start`."""
        return self._accepting.sockets

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on these sockets of an earlier process, when `start` is called, instead of binding any."""
        self._accepting.adopt(sockets)

    def rest_accepting(self) -> None:
        """Take nobody in until `accept_on`: new connections wait in the kernel's backlog."""
        self._accepting.rest()

    def accept_on(self) -> None:
        """Take in who waits, and whoever comes."""
        self._accepting.go_on()

    @property
    def url(self) -> str:
        """`ws://host:port` or `wss://…` as bound; valid after `start`."""
        return f"{'wss' if self._secure else 'ws'}://{url_host(self.settings.host)}:{self._port}"

    def __len__(self) -> int:
        return len(self._open)

    async def start(self) -> str:
        """Listen; returns the url that clients are told. Raises `BadSetting` where the address,
        certificate or key is no good."""
        settings = self.settings
        self._context = context = tls_context(settings)
        self._made_of = self._files()
        self._look_at(context)
        try:
            self._port = await self._accepting.start(settings.host, settings.port, context)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise BadSetting("gateway.port", f"cannot listen on {settings.host}:{settings.port}: {why}") from None
        return settings.advertise_url or self.url

    def reload(self, changed_only: bool = False) -> bool:
        """Read certificate and key again, for connections that are made from now on. True: they are in use;
        `changed_only`: and are others than before. Raises `BadSetting` where they cannot be used; those from before
        stay."""
        files = self._files()
        if self._context is None:
            return False
        if changed_only and files == self._made_of:
            self._look_at(self._context)
            return False
        tls_context(self.settings)  # looks whether they fit, before the ones in use are touched
        self._context.load_cert_chain(self.settings.tls_certificate or "", self.settings.tls_key)
        self._made_of = files
        self._look_at(self._context)
        return True

    def _look_at(self, context: ssl.SSLContext | None) -> None:
        """Look whether clients can accept the certificate, as far as that can be told here."""
        name = self.settings.tls_certificate
        found = complaint(name, context) if name is not None and context is not None else ""
        self.complaint = f"clients refuse gateway.tls_certificate {name}: {found}" if found else ""

    def _files(self) -> Stamp:
        return stamp((self.settings.tls_certificate, self.settings.tls_key))

    async def stop(self) -> None:
        """Listen no more; give connections that are being closed their moment, then cut all."""
        self._stopping = True
        self._accepting.close()
        self._doors.shut()
        for connection in list(self._open):
            connection.close(CloseCode.GOING_AWAY, "this node is stopping")
        await self._emptied()
        for connection in list(self._open):
            connection.abort()
        await self._emptied()

    async def _emptied(self) -> None:
        if self._open:
            self._empty = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._empty

    # ---- the connections' side ----

    def opened(self, connection: PicowsConnection) -> None:
        """The handshake is done: hand the connection over, or say that there is no room."""
        self._open[connection] = None
        if self._stopping:
            connection.close(CloseCode.GOING_AWAY, "this node is stopping")
        elif len(self._open) > self.settings.max_connections:
            connection.close(CloseCode.FULL, "no room for another connection")
        else:
            connection.set_receiver(self._acceptor.accept(connection))

    def gone(self, connection: PicowsConnection, address: str) -> None:
        self.addresses.leave(address)
        self._open.pop(connection, None)
        if self._empty is not None and not self._open and not self._empty.done():
            self._empty.set_result(None)

    # ---- the doors' side ----

    @property
    def full(self) -> bool:
        """See `server.sessions.door.House`."""
        return len(self._open) >= self.settings.max_connections + _OVER_FULL

    def prefixed(self, peer: Client) -> None:
        """See `server.sessions.door.House`."""
        self._prefix_faults.refused(peer, "it came from no trusted proxy")

    def admit(self, door: Door, handshake: Handshake | None) -> bool:
        """See `server.sessions.door.House`."""
        assert door.peer is not None
        if door.counted or (handshake is None and door.peer.address in self._proxies):
            return True
        client = door.peer if handshake is None else self._proxies.client(door.peer, handshake.via)
        counted = self.addresses.enter(client.address)
        door.counted = counted or ""
        return counted is not None

    def leave(self, door: Door) -> None:
        """See `server.sessions.door.House`."""
        self.addresses.leave(door.counted)
        door.counted = ""

    def enter(self, door: Door, handshake: Handshake) -> tuple[Behind, PicowsConnection]:
        """See `server.sessions.door.House`."""
        assert door.peer is not None
        client = self._proxies.client(door.peer, handshake.via)
        # Nobody knows who has written the headers of a client that a PROXY prefix names.
        country = handshake.country if door.peer.address in self._proxies else ""
        connection = self._connection(self, handshake.format, door, str(client) if client.address else "", country)

        def accept(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
            # Shared by all connections: the library keeps it, and writes it, with the key's answer in it, at once.
            response = self._responses.get(handshake.subprotocol)
            if response is None:
                response = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": handshake.subprotocol})
                self._responses[handshake.subprotocol] = response
            return WSUpgradeResponseWithListener(response, connection)

        # Arguments in the order of picows' own `ws_create_server`, which makes this object for each connection.
        protocol = _protocol(
            None, None, False, accept, FrameReports(self.metrics, connection), True, None,
            False, 10.0, 10.0, WSAutoPingStrategy.PING_WHEN_IDLE, False,
            2 * self.settings.max_frame_bytes, None, self.settings.read_buffer_bytes,
        )  # fmt: skip
        return cast(Behind, protocol), connection


def _reason(text: str) -> bytes:
    """A close reason fits a control frame: 123 bytes, cut between characters."""
    return text.encode()[:123].decode("utf-8", "ignore").encode()
