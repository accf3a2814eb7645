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
import base64
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import urlsplit

import structlog
from picows import (
    WSAutoPingStrategy,
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
from server.sessions.carrier import Carrier
from server.sessions.connection import LINGER_S, Acceptor, Connection
from server.sessions.door import EARLY_BYTES, Behind, Door, Doors, plain_request
from server.sessions.front import PrefixFaults
from server.sessions.http_handshake import Handshake
from server.sessions.picows_buffer import UnreadBytes
from server.sessions.picows_connection import PicowsConnection
from server.sessions.picows_parts import FrameReports, tls_context
from server.settings import GatewaySettings
from server.wire.codec import Format
from server.wire.messages import CloseCode

log = structlog.get_logger(__name__)

_ANY_KEY: Final = base64.b64encode(bytes(16)).decode()
_protocol: Final = cast(Any, picows).WSProtocol
_OVER_FULL: Final = 64
"""Connections above the limit that are still told so with a close code; more get HTTP 503."""


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
        self.resting = False
        """Whether it reads from nobody and takes nobody in."""
        self._carrier = Carrier(self)
        self._unread: UnreadBytes | None = None
        self._shared: set[PicowsConnection] = set()
        """Connections whose sockets another process may have too."""
        self._accepting = Accepting(self._doors, proxies, settings.hello_timeout_s, self._prefix_faults)

    @property
    def sockets(self) -> list[socket.socket]:
        """Sockets that it listens on; valid after `start`."""
        return self._accepting.sockets

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on these sockets of an earlier process, when `start` is called, instead of binding any."""
        self._accepting.adopt(sockets)

    # ---- on the way to the next process: see `server.sessions.connection.ClientSockets` ----

    def rest(self) -> None:
        self.resting = True
        self._accepting.rest()
        for connection in self._open:
            connection.rest()

    def go_on(self) -> None:
        self.resting = False
        self._accepting.go_on()
        for connection in self._open:
            connection.go_on()

    @property
    def unread(self) -> UnreadBytes:
        """Tells what picows has read and not handed over."""
        if self._unread is None:
            self._unread = UnreadBytes(lambda: self._picows(lambda _request: None, FrameReports(self.metrics, None)))
        return self._unread

    def movable(self, connection: Connection) -> str:
        return connection.immovable if isinstance(connection, PicowsConnection) else "closing"

    def descriptor(self, connection: Connection) -> int:
        assert isinstance(connection, PicowsConnection)
        self._shared.add(connection)
        return connection.descriptor

    def keep(self, descriptor: int) -> None:
        self._carrier.keep(descriptor)

    def carry(self, descriptor: int, format: Format, remote: str, country: str) -> Connection:
        return self._carrier.carry(descriptor, format, remote, country)

    def drop(self, descriptor: int) -> None:
        self._carrier.drop(descriptor)

    def take_up(self, attached: Callable[[Connection, Connection], None]) -> None:
        self._carrier.take_up(attached)

    def land(self, transport: Any, format: Format, remote: str, country: str) -> PicowsConnection:
        """See `server.sessions.carrier.Landing`. picows wants to answer a handshake: it is given one, and an answer
        that has no bytes."""
        connection = self._connection(self, format, None, remote, country)
        connection.count_for(self.addresses.enter(remote.rpartition(":")[0].strip("[]")) or "")
        protocol = self._picows(
            lambda _request: WSUpgradeResponseWithListener(_Silence(), connection), connection.reports
        )
        protocol.connection_made(transport)
        request = plain_request(_ANY_KEY)
        protocol.get_buffer(-1)[: len(request)] = request
        protocol.buffer_updated(len(request))
        transport.set_protocol(protocol)
        return connection

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
        self._carrier.close()
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
        if connection.was_carried:
            return  # its session has it already
        if self._stopping:
            connection.close(CloseCode.GOING_AWAY, "this node is stopping")
        elif len(self._open) > self.settings.max_connections:
            connection.close(CloseCode.FULL, "no room for another connection")
        else:
            connection.set_receiver(self._acceptor.accept(connection))

    def gone(self, connection: PicowsConnection, address: str) -> None:
        self.addresses.leave(address)
        self._open.pop(connection, None)
        if connection in self._shared:
            self._shared.remove(connection)
            connection.end_for_all()
        if self._empty is not None and not self._open and not self._empty.done():
            self._empty.set_result(None)

    # ---- the doors' side ----

    @property
    def full(self) -> bool:
        """See `server.sessions.door.House`."""
        return len(self._open) + len(self._carrier) >= self.settings.max_connections + _OVER_FULL

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

        return cast(Behind, self._picows(accept, connection.reports)), connection

    def _picows(self, accept: Callable[[WSUpgradeRequest], Any], reports: FrameReports) -> Any:
        """picows' protocol, with arguments in the order of its own `ws_create_server`."""
        return _protocol(
            None, None, False, accept, reports, True, None,
            False, 10.0, 10.0, WSAutoPingStrategy.PING_WHEN_IDLE, False,
            2 * self.settings.max_frame_bytes, None, self.settings.read_buffer_bytes,
        )  # fmt: skip


class _Silence(WSUpgradeResponse):
    """An answer to a handshake that says nothing: another process has answered it."""

    __slots__ = ()

    def __init__(self) -> None:
        self.version, self.status, self.body = b"HTTP/1.1", HTTPStatus.SWITCHING_PROTOCOLS, None
        self.headers = cast(Any, {})

    def to_bytes(self) -> bytearray:
        return bytearray()
