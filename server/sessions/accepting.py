"""The sockets on which a listener takes connections in: bound here or adopted, at rest, and on again.

While it rests nobody is taken in, and nobody is refused: new connections wait in the kernel's backlog, which every
process that has the socket shares. An event loop's own server cannot pause. So it is closed, and a duplicate of its
socket kept for another one; no descriptor is ever shut down, since another process may go on with it.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog

from server.runtime.listening import listen
from server.runtime.proxies import TrustedProxies
from server.sessions.door import Doors
from server.sessions.front import Front, PrefixFaults

log = structlog.get_logger(__name__)
BACKLOG: Final = 4096
KERNEL_BYTES: Final = 16 * 1024
"""Receive buffer of the kernel for a connection (Linux doubles it), which connections inherit from the socket."""


class Accepting:
    """See the module's head. Connections go to the doors made by `doors`, through a `Front` where there are trusted
    proxies. `within_s`: time for a TLS handshake."""

    def __init__(self, doors: Doors, proxies: TrustedProxies, within_s: float, faults: PrefixFaults) -> None:
        self._doors, self._proxies, self._within_s, self._faults = doors, proxies, within_s, faults
        self._context: ssl.SSLContext | None = None
        self._adopted: list[socket.socket] = []
        self._servers: list[asyncio.Server | Front] = []
        self._opening: asyncio.Task[None] | None = None
        self.sockets: list[socket.socket] = []
        """The sockets that it listens on; valid after `start`."""
        self.resting = False

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on these, when `start` is called, instead of binding any. They are this listener's from then on."""
        self._adopted = list(sockets)

    async def start(self, host: str, port: int, context: ssl.SSLContext | None) -> int:
        """Listen; returns the port. Raises `OSError` where the address is no good."""
        self._context = context
        self.sockets = self._adopted or listen(host, port, BACKLOG)
        for sock in self.sockets:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        await self._open()
        return int(self.sockets[0].getsockname()[1])

    async def _open(self) -> None:
        loop, context = asyncio.get_running_loop(), self._context
        for sock in self.sockets:
            if self._proxies:
                front = Front(sock, self._doors.make, self._proxies, context, self._within_s, self._faults)
                front.start()
                self._servers.append(front)
                continue
            server = await loop.create_server(
                self._doors.make, sock=sock, ssl=context, backlog=BACKLOG,
                ssl_handshake_timeout=self._within_s if context is not None else None,
            )  # fmt: skip
            self._servers.append(server)

    def rest(self) -> None:
        """Take nobody in until `go_on`."""
        if self.resting:
            return
        self.resting = True
        if self._opening is not None:
            return  # looks whether it rests, when the servers are there
        self._shut()

    def _shut(self) -> None:
        if self._proxies:
            self._each_front(Front.rest)
            return
        self.sockets = [sock.dup() for sock in self.sockets]
        for server in self._servers:
            server.close()
        self._servers = []

    def go_on(self) -> None:
        """Take in who has come since `rest`, and everybody who comes."""
        if not self.resting:
            return
        self.resting = False
        if self._proxies:
            self._each_front(Front.start)
        elif self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(partial(self._opened))

    def _opened(self, task: "asyncio.Task[None]") -> None:
        self._opening = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("no connection can be taken in any more", exc_info=error)
        elif self.resting:
            self._shut()

    def _each_front(self, call: Callable[[Front], None]) -> None:
        for server in self._servers:
            assert isinstance(server, Front)
            call(server)

    def close(self) -> None:
        """Listen no more."""
        if self._opening is not None:
            self._opening.cancel()
        for server in self._servers:
            server.close()
        if self.resting and not self._proxies:
            for sock in self.sockets:
                sock.close()
        self._servers, self.sockets = [], []
