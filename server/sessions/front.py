"""The front of a client port behind trusted proxies: takes connections in, and reads the PROXY prefix of those that
come from a proxy, before TLS and HTTP.

The event loop's own servers hand over what was read from a socket; TLS could not be given back what belongs to it. So
connections are accepted here, and a prefix is looked at while it stays in the socket (`MSG_PEEK`), and read when it is
whole. Then the socket goes to the event loop with TLS or without, as if nothing had been before. A connection without a
prefix goes there untouched; one that opens and closes again, as health checks do, leaves no trace.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from server.runtime.metrics import Metrics
from server.runtime.proxies import Client, TrustedProxies, peer_of
from server.runtime.proxy_prefix import MAX_BYTES, BadPrefix, Prefix, read_prefix
from server.runtime.sparse import Sparse

log = structlog.get_logger(__name__)

PER_TURN: Final = 64
"""Connections that are taken in one turn of the loop."""
LOOK_S: Final = 0.02
"""Pause between two looks at a prefix of which a part has come."""
NO_ROOM_S: Final = 1.0
"""Pause after a connection could not be taken in: no descriptor is free."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Make = Callable[[Client | None], asyncio.BaseProtocol]
"""Makes the protocol of a connection for the client that its proxy names, if one does."""


class PrefixFaults:
    """Counts prefixes that are refused, and writes a line for some."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self._sparse = metrics, Sparse()

    def refused(self, peer: Client, why: str) -> None:
        self._metrics.proxy_prefixes_refused_total += 1
        if (more := self._sparse.passes()) is not None:
            log.warning("PROXY prefix refused", peer=str(peer), why=why, **more)


class Front:
    """See the module's head. `sock` listens; `within_s`: time for a prefix, and again for a TLS handshake."""

    def __init__(
        self,
        sock: socket.socket,
        make: Make,
        proxies: TrustedProxies,
        context: ssl.SSLContext | None,
        within_s: float,
        faults: PrefixFaults,
    ) -> None:
        self._sock, self._make, self._proxies = sock, make, proxies
        self._context, self.within_s, self.faults = context, within_s, faults
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        self.waiting: dict[_Arrival, None] = {}
        """Connections whose prefix is not read."""

    def start(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def rest(self) -> None:
        """Take nobody in until the next `start`."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._loop.remove_reader(self._sock)

    def close(self) -> None:
        """Listen no more, and cut what has not entered."""
        self.rest()
        self._sock.close()
        for arrival in list(self.waiting):
            arrival.end()
        for task in self._entering:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(PER_TURN):
            try:
                sock, place = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    log.error("no connection can be taken in", why=error.strerror)
                    self._loop.remove_reader(self._sock)
                    self._again = self._loop.call_later(NO_ROOM_S, self.start)
                    return
                continue  # a connection that has ended before it was taken in
            sock.setblocking(False)
            peer = peer_of(place)
            if peer.address in self._proxies:
                _Arrival(self, sock, peer).start()
            else:
                self.enter(sock, None)

    def enter(self, sock: socket.socket, client: Client | None) -> None:
        """Hand the socket to the event loop; `client` is the one that its proxy names."""
        task = self._loop.create_task(self._enter(sock, client))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _enter(self, sock: socket.socket, client: Client | None) -> None:
        within_s = self.within_s if self._context is not None else None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                lambda: self._make(client), sock, ssl=self._context, ssl_handshake_timeout=within_s
            )
        except OSError:  # gone, or no TLS; a handshake that takes too long is one, too
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise


class _Arrival:
    """A connection from a proxy, up to the end of its prefix."""

    def __init__(self, front: Front, sock: socket.socket, peer: Client) -> None:
        self._front, self._sock, self._peer = front, sock, peer
        self._loop = asyncio.get_running_loop()
        self._seen = 0
        self._look_again: asyncio.TimerHandle | None = None
        self._timer = self._loop.call_later(front.within_s, self._too_slow)

    def start(self) -> None:
        self._front.waiting[self] = None
        self._loop.add_reader(self._sock, self._look)

    def end(self) -> None:
        """Close the connection."""
        self._leave()
        self._sock.close()

    def _leave(self) -> None:
        self._front.waiting.pop(self, None)
        self._timer.cancel()
        if self._look_again is not None:
            self._look_again.cancel()
        with suppress(OSError):
            self._loop.remove_reader(self._sock)

    def _look(self) -> None:
        """Look at what has come. As long as that is a part of a prefix it stays in the socket, which would be readable
        all the time: then it is looked at by the clock."""
        try:
            data = self._sock.recv(MAX_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        verdict = read_prefix(data)
        if verdict == "incomplete":
            self._seen = len(data)
            self._loop.remove_reader(self._sock)
            self._look_again = self._loop.call_later(LOOK_S, self._look)
        elif isinstance(verdict, BadPrefix):
            self._front.faults.refused(self._peer, verdict.why)
            self.end()
        else:
            self._leave()
            client: Client | None = None
            if isinstance(verdict, Prefix):
                self._sock.recv(verdict.length)
                client = Client(*verdict.source) if verdict.source is not None else None
            self._front.enter(self._sock, client)

    def _too_slow(self) -> None:
        if self._seen:
            self._front.faults.refused(self._peer, "it did not come in time")
        self.end()
