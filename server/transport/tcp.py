"""Node-to-node requests over TCP: one `Transport` driver. Links are in `link.py`, bytes in
`frames.py`, who may talk in `login.py`, how it is kept from others in `encryption.py`.
"""

import asyncio
import errno
import random
import socket
from collections.abc import Sequence
from typing import Final

import structlog

from server.errors import BadSetting, GarrisonError, Unavailable, Unreachable
from server.ids import NodeAddress
from server.runtime.backoff import backoff_s
from server.runtime.clock import Clock
from server.runtime.listening import is_every, listen
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import TransportSettings
from server.transport.accepted import AcceptedLink
from server.transport.addresses import join_endpoint, split_endpoint
from server.transport.dialled import DialledLink
from server.transport.encryption import Encryption
from server.transport.link import Link, LinkContext
from server.transport.login import LoginHello
from server.transport.ports import Handler

log = structlog.get_logger(__name__)

MAX_STRANGERS: Final = 128  # connections that have not logged in yet
GOOD_LIFE_S: Final = 2.0  # a link that lasted this long is dialled again without a pause
GOODBYE_S: Final = 0.5
_BACKLOG: Final = 128


class TcpTransport:
    """Persistent, pipelined, coalescing links to every peer. See `ports.Transport`.

    `request` raises at once what means that nothing was sent (`Unavailable`, `Overloaded`,
    `BadInput` for a payload over `max_frame_bytes`); everything later comes through the future.
    `key` is the cluster key. Raises `BadSetting` for addresses and certificates that are no good."""

    def __init__(
        self,
        settings: TransportSettings,
        cluster: str,
        key: bytes,
        clock: Clock,
        metrics: Metrics,
        supervisor: Supervisor,
        rng: random.Random,
    ) -> None:
        _check(settings)
        self._encryption = Encryption(settings) if settings.encryption != "off" else None
        self._settings, self._cluster, self._key = settings, cluster, key
        self._clock, self._metrics, self._supervisor, self._rng = clock, metrics, supervisor, rng
        self._handlers: dict[int, Handler] = {}
        self._context: LinkContext | None = None
        self._servers: list[asyncio.Server] = []
        self.sockets: list[socket.socket] = []
        self._resting = False
        self._endpoint = ""
        self._peers: dict[NodeAddress, str] = {}
        self._dials: dict[NodeAddress, asyncio.Task[None]] = {}
        self._links: dict[NodeAddress, DialledLink] = {}  # connecting or up
        self._inbound: dict[NodeAddress, AcceptedLink] = {}
        self._strangers: dict[AcceptedLink, None] = {}
        self._leaving: dict[Link, None] = {}  # closed, socket not gone yet
        self._stopped = False

    @property
    def endpoint(self) -> str:
        return self._endpoint

    def serve(self, service: int, handler: Handler) -> None:
        if not 0 < service < 256:
            raise ValueError("a service is a number from 1 to 255")
        self._handlers[service] = handler

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """See `ports.Transport`."""
        assert self._context is None, "adopt before start"
        self.sockets = list(sockets)

    async def start(self, me: NodeAddress) -> None:
        """Listen. Raises `Unavailable` if the port cannot be had."""
        settings = self._settings
        context = LinkContext(
            settings, self._cluster, self._key, me, self._clock, self._metrics, self._handlers, self._encryption
        )
        self._context = context
        where = join_endpoint(settings.host, settings.port)
        try:
            self.sockets = self.sockets or listen(settings.host, settings.port, _BACKLOG)
            for sock in self.sockets:
                self._servers.append(await context.loop.create_server(self._accept, sock=sock, backlog=_BACKLOG))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "the port is already in use" if taken else (error.strerror or str(error))
            raise Unavailable(f"setting transport.port: cannot listen for other nodes on {where}: {why}") from None
        port = self.sockets[0].getsockname()[1]
        self._endpoint = join_endpoint(settings.advertise_host or settings.host, port)
        self.set_peers(self._peers)

    async def stop(self) -> None:
        """Close every link, gently for half a second, and leave no task."""
        self._stopped = True
        for server in self._servers:
            server.close()
        dials = list(self._dials.values())
        self._dials.clear()
        for task in dials:
            task.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        for link in [*self._links.values(), *self._inbound.values(), *self._strangers]:
            self._close(link, "stopped")
        self._links.clear()
        try:
            async with asyncio.timeout(GOODBYE_S):
                for link in list(self._leaving):
                    await link.closed.wait()
        except TimeoutError:
            for link in list(self._leaving):
                link.abort()
        for link in list(self._leaving):
            await link.closed.wait()
        self._leaving.clear()
        for server in self._servers:
            await server.wait_closed()
        self._servers, self.sockets = [], []

    def rest(self) -> None:
        """Read nothing of what others ask (`AcceptedLink`), and say nothing to who logs in meanwhile. Links that this
        node has dialled bring answers to its own requests only: they are read on."""
        self._resting = True
        for link in [*self._inbound.values(), *self._strangers]:
            link.rest()

    def go_on(self) -> None:
        self._resting = False
        for link in [*self._inbound.values(), *self._strangers]:
            link.go_on()

    @property
    def under_way(self) -> int:
        return sum(link.under_way for link in (*self._links.values(), *self._inbound.values()))

    def reload(self, changed_only: bool = False) -> bool:
        return self._encryption is not None and self._encryption.reload(changed_only)

    @property
    def complaint(self) -> str:
        return self._encryption.complaint if self._encryption is not None else ""

    def set_peers(self, peers: dict[NodeAddress, str]) -> None:
        before, self._peers = self._peers, dict(peers)
        if self._context is None or self._stopped:
            return
        self._peers.pop(self._context.me, None)
        for to in list(self._dials):
            if self._peers.get(to) != before.get(to) or to not in self._peers:
                self._dials.pop(to).cancel()
                if (link := self._links.pop(to, None)) is not None:
                    self._close(link, "left the view")
        for to, endpoint in self._peers.items():
            if to not in self._dials:
                self._links[to] = DialledLink(self._context, to, self._broke)  # requests may wait in it from now on
                self._dials[to] = self._supervisor.spawn(self._keep(to, endpoint), f"link to {to}")
        newest = {address.node: address.incarnation for address in self._peers}
        for address, accepted in list(self._inbound.items()):
            gone = address in before and address not in self._peers
            if gone or address.incarnation < newest.get(address.node, 0):
                self._close(accepted, "left the view")

    def reaches(self, to: NodeAddress) -> bool:
        link = self._links.get(to)
        return link is not None and link.ready.done()

    def request(self, to: NodeAddress, service: int, payload: bytes, timeout_s: float) -> "asyncio.Future[bytes]":
        link = self._links.get(to)
        if link is None:
            raise Unreachable(f"no link to {to}" if to in self._peers else f"{to} is not in the view")
        return link.request(service, payload, timeout_s)

    def send(self, to: NodeAddress, service: int, payload: bytes) -> None:
        link = self._links.get(to)
        if link is not None:
            link.send(service, payload)

    # dialling

    async def _keep(self, to: NodeAddress, endpoint: str) -> None:
        """Hold a link to `to` for as long as it is in the view."""
        attempt, plain = 0, False
        while True:
            link = self._links.get(to)
            if link is None:
                assert self._context is not None
                link = self._links[to] = DialledLink(self._context, to, self._broke)
            link.plain, plain = plain, False
            born = self._clock.now()
            why = await self._connect(link, endpoint)
            if why is None:
                await self._live(link)
                lived = self._clock.now() - born
                attempt = 0 if lived >= GOOD_LIFE_S else attempt + 1
            else:
                if attempt == 0:
                    log.warning("cannot reach node", peer=str(to), endpoint=endpoint, why=why)
                attempt += 1
                plain = link.speaks_no_tls and self._settings.encryption == "allowed"
                if plain:
                    log.warning("node is reached without encryption", peer=str(to), endpoint=endpoint)
                    continue
            if attempt:
                await asyncio.sleep(backoff_s(attempt, self._rng))

    async def _connect(self, link: DialledLink, endpoint: str) -> str | None:
        """Connect and log in. What went wrong, or None."""
        loop = asyncio.get_running_loop()
        try:
            host, port = split_endpoint(endpoint)
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await loop.create_connection(lambda: link, host, port)
                await link.ready
        except (OSError, GarrisonError) as error:
            why = error.message if isinstance(error, GarrisonError) else (str(error) or "no answer")
            self._close(link, "cannot connect")
            return why
        except asyncio.CancelledError:
            self._close(link, "left the view")
            raise
        return None

    async def _live(self, link: DialledLink) -> None:
        self._metrics.transport_links += 1
        try:
            await link.closed.wait()
        finally:
            self._metrics.transport_links -= 1

    def _broke(self, link: DialledLink) -> None:
        if self._links.get(link.peer) is link:
            del self._links[link.peer]

    # accepting

    def _accept(self) -> AcceptedLink:
        assert self._context is not None
        link = AcceptedLink(self._context, self._admit, self._entered, self._left)
        if self._stopped:
            link.close("stopped")
        elif len(self._strangers) >= MAX_STRANGERS:
            link.close("too many strangers")
        else:
            self._strangers[link] = None
            if self._resting:
                link.rest()
        return link

    def _admit(self, hello: LoginHello) -> None:
        """Raises `Unavailable` for one who is in the wrong place."""
        assert self._context is not None
        me, sender = self._context.me, hello.sender
        if hello.cluster != self._cluster:
            raise Unavailable("this is another cluster")
        if hello.target != me:
            raise Unavailable("this is another node, or another incarnation of it")
        if sender.node == me.node:
            raise Unavailable("a node does not call itself")
        if any(peer.node == sender.node and peer.incarnation > sender.incarnation for peer in self._peers):
            raise Unavailable("a newer incarnation of you is in the view")

    def _entered(self, link: AcceptedLink) -> None:
        self._strangers.pop(link, None)
        if (older := self._inbound.get(link.peer)) is not None:
            self._close(older, "replaced")
        self._inbound[link.peer] = link

    def _left(self, link: AcceptedLink) -> None:
        self._strangers.pop(link, None)
        if self._inbound.get(link.peer) is link:
            del self._inbound[link.peer]

    def _close(self, link: Link, reason: str) -> None:
        link.close(reason, gently=True)
        if not link.closed.is_set():
            self._leaving = {old: None for old in self._leaving if not old.closed.is_set()}
            self._leaving[link] = None


def _check(settings: TransportSettings) -> None:
    advertised = settings.advertise_host or settings.host
    if is_every(advertised):
        raise BadSetting("transport.advertise_host", "needed when transport.host means every interface")
    if settings.max_buffered_bytes < settings.max_frame_bytes:
        raise BadSetting("transport.max_buffered_bytes", "must not be below transport.max_frame_bytes")
    given = [bool(name) for name in (settings.tls_certificate, settings.tls_key, settings.tls_ca)]
    if any(given) and not all(given):
        raise BadSetting("transport.tls_certificate", "certificate, key and CA go together")
    if any(given) and settings.encryption == "off":
        raise BadSetting("transport.encryption", "is off, and transport.tls_certificate is set")
