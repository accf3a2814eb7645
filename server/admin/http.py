"""The HTTP connections of operators: bounded in number and time, so that nobody keeps health checks from an answer.

A connection that has no whole request within its time is closed. Past `max_connections` the one that has been without
a request longest is closed for a new one, so silent connections take nobody's place. Past `max_requests` at a time
only health and metrics are answered, the rest with 503. What is no HTTP is answered with 400 and a line in the log, of
which there is one a second at most.

A trusted proxy may begin a connection with a PROXY prefix, and say in headers for whom it asks: that is then the client
of the request.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any, Final

import h11
from litestar.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.runtime.metrics import Metrics
from server.runtime.proxies import NO_PROXIES, Client, TrustedProxies, Via, plain_address
from server.runtime.proxy_prefix import BadPrefix, Prefix, begins_like_prefix, read_prefix

REQUEST_S: Final = 10.0
"""Time for a whole request."""
_SAID_BY_PROXIES: Final = (b"forwarded", b"x-forwarded-for", b"x-forwarded-proto")
ALWAYS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are answered however many requests there are."""


class _Sparse(logging.Filter):
    """Lets one record a second pass; the next one says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._next, self._left_out = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return False
        if self._left_out:
            record.msg = f"{record.msg} ({self._left_out} more like this)"
        self._next, self._left_out = now + 1.0, 0
        return True


_log = logging.getLogger("garrison.admin.http")
_log.addFilter(_Sparse())


class AdminProtocol(H11Protocol):
    """A connection; see the module's head. `protocol_of` makes the class with its bounds."""

    max_connections = 256
    request_s = REQUEST_S
    proxies = NO_PROXIES
    metrics = Metrics()
    idle: dict["AdminProtocol", None]
    """Connections without a request, of one server, in the order in which they have been so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self._deadline: asyncio.TimerHandle | None = None
        self._beginning: bytes | None = b""
        """Bytes of a PROXY prefix that is not whole; None once none can come any more."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections and self.idle:
            next(iter(self.idle)).transport.abort()
        self.idle[self] = None
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self.idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._beginning is not None:
            data = self._without_prefix(self._beginning + data)
            if not data:
                return
        super().data_received(data)
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            self._start_clock()
        else:
            self._stop_clock()
            self.idle.pop(self, None)

    def _without_prefix(self, data: bytes) -> bytes:
        """The bytes behind the prefix, if there is one and a trusted proxy has sent it; none while it is not whole, and
        none where it is wrong: the connection is closed then. Sent by a stranger, it is no HTTP."""
        if self.client is None or plain_address(self.client[0]) not in self.proxies:
            self._beginning = None
            if begins_like_prefix(data):
                self.metrics.proxy_prefixes_refused_total += 1
            return data
        verdict = read_prefix(data)
        if verdict == "incomplete":
            self._beginning = data
            return b""
        self._beginning = None
        if isinstance(verdict, BadPrefix):
            self.metrics.proxy_prefixes_refused_total += 1
            _log.warning("PROXY prefix refused: %s", verdict.why)
            self.transport.abort()
            return b""
        if isinstance(verdict, Prefix):
            self.client = verdict.source or self.client
            return data[verdict.length :]
        return data

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self.idle[self] = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; the handler of a request that turns out to be none is told that nobody listens."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _start_clock(self) -> None:
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.request_s, self.transport.abort)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def protocol_of(
    max_connections: int, request_s: float, proxies: TrustedProxies, metrics: Metrics
) -> type[AdminProtocol]:
    """The protocol of one server."""
    bounds = {"max_connections": max_connections, "request_s": request_s, "idle": {}}
    return type("AdminProtocolOfServer", (AdminProtocol,), bounds | {"proxies": proxies, "metrics": metrics})


class Proxied:
    """ASGI wrapper: the client and the scheme of a request are those that a trusted proxy names."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app, self._proxies = app, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if (given := scope.get("client")) is not None:
            peer = Client(plain_address(given[0]), given[1])
            client = self._proxies.client(peer, _via(scope["headers"])) if self._proxies else peer
            scope["client"] = (client.address, client.port)
            if client.scheme in ("http", "https"):
                scope["scheme"] = client.scheme
        await self._app(scope, receive, send)


class BasePath:
    """ASGI wrapper: requests below `base` are answered as those without it. Both are taken: a balancer's health checks
    and other nodes do not come by the proxy. The address of the dashboard ends in a slash, since all that it asks for
    is relative to it."""

    def __init__(self, app: ASGIApp, base: str) -> None:
        self._app, self._base = app, base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path, base = scope["path"], self._base
        if path == base:
            headers = [(b"location", f"{base.rpartition('/')[2]}/".encode()), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 308, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if path.startswith(f"{base}/"):
            scope["path"] = path.removeprefix(base)
            scope["raw_path"] = scope["raw_path"].removeprefix(base.encode())
        await self._app(scope, receive, send)


def _via(headers: Iterable[tuple[bytes, bytes]]) -> Via:
    lines: dict[bytes, list[str]] = {}
    for name, value in headers:
        if name in _SAID_BY_PROXIES:
            lines.setdefault(name, []).append(value.decode("latin-1"))
    return Via(*(lines.get(name, ()) for name in _SAID_BY_PROXIES))


class Bounded:
    """ASGI wrapper: at most `max_requests` at a time, health and metrics besides."""

    def __init__(self, app: ASGIApp, max_requests: int) -> None:
        self._app, self._max, self._running = app, max_requests, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._running >= self._max and scope["path"] not in ALWAYS:
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            body = b"too many requests at a time\n"
            await send({"type": "http.response.body", "body": body, "more_body": False})
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1
