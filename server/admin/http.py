"""The HTTP connections of operators: bounded in number and time, so that nobody keeps health checks from an answer.

A connection that has no whole request within its time is closed. Past `max_connections` the one that has been without
a request longest is closed for a new one, so silent connections take nobody's place. Past `max_requests` at a time
only health and metrics are answered, the rest with 503. What is no HTTP is answered with 400 and a line in the log, of
which there is one a second at most.
"""

import asyncio
import logging
import time
from typing import Any, Final

import h11
from litestar.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S: Final = 10.0
"""Time for a whole request."""
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
    idle: dict["AdminProtocol", None]
    """Connections without a request, of one server, in the order in which they have been so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self._deadline: asyncio.TimerHandle | None = None

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
        super().data_received(data)
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            self._start_clock()
        else:
            self._stop_clock()
            self.idle.pop(self, None)

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


def protocol_of(max_connections: int, request_s: float) -> type[AdminProtocol]:
    """The protocol of one server."""
    bounds = {"max_connections": max_connections, "request_s": request_s, "idle": {}}
    return type("AdminProtocolOfServer", (AdminProtocol,), bounds)


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
