"""The requesting end of a node-to-node connection: the futures of its requests, their deadlines, the login.

Deadlines are looked at every `SWEEP_S` while anything is in flight: no timer per request.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, cast

from server.errors import (
    BadFrame,
    BadInput,
    ConnectionLost,
    DeadlineExceeded,
    Overloaded,
    Unavailable,
    Unreachable,
)
from server.ids import NodeAddress
from server.transport.encryption import HUNG_UP, NO_TLS, Channel
from server.transport.frames import (
    CHALLENGE,
    COUNTED,
    ERROR,
    HEAD,
    HELLO,
    ONE_WAY,
    PING,
    PONG,
    PROOF,
    READY,
    REFUSED,
    REQUEST,
    RESPONSE,
    VERSION,
    Frame,
    decode_error,
    frame,
)
from server.transport.link import Link, LinkContext
from server.transport.login import (
    EXPLAINED,
    NONCE_BYTES,
    LoginHello,
    check,
    encode_hello,
    hello,
    proof,
    split_challenge,
)

SWEEP_S: Final = 0.02
"""Pause between two looks at the deadlines."""
LATE_S: Final = 0.25
"""Delay of a sweep that says that this process stalled: answers may wait unread, so it expires nothing once."""


class DialledLink(Link):
    """See the module's head. Requests made before login is through wait for it. `on_closed` is called
    when it closes; no request may be made on it from then on."""

    def __init__(self, context: LinkContext, peer: NodeAddress, on_closed: Callable[["DialledLink"], None]) -> None:
        super().__init__(context)
        self.peer = peer
        self._on_closed = on_closed
        self.ready: asyncio.Future[None] = context.loop.create_future()
        self._hello: LoginHello | None = None
        self.plain = False
        """Set before it is connected: speak without encryption to one that has none, where that is allowed."""
        self.speaks_no_tls = False
        """True once the other end has closed the connection, or answered in plain, instead of beginning with TLS."""
        self._failure = ""
        """The complaint of the encryption or of the login."""
        self._proved = False
        """True once the other end has shown that it has the key; this end has answered with its own proof."""
        self._pending: dict[int, tuple[asyncio.Future[bytes], float]] = {}
        """Requests under way by their number: the future of the answer, and its deadline."""
        self._number = 0
        self._max_in_flight = context.settings.max_in_flight
        self._new_future = cast(Callable[[], "asyncio.Future[bytes]"], context.loop.create_future)
        self._now = context.clock.now
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self._spared = False
        """True after a sweep that came late and expired nothing."""
        self._pinged_at: float | None = None
        self._arm()

    def request(self, service: int, payload: bytes, timeout_s: float) -> "asyncio.Future[bytes]":
        """Queue one request. Raises `Overloaded` or `BadInput`, and then nothing was sent."""
        size = len(payload)
        pending = self._pending
        if len(pending) >= self._max_in_flight or self._out_bytes + size > self._max_buffered:
            raise self._overloaded()
        if size > self._max_payload:
            raise BadInput(f"{size} bytes are over transport.max_frame_bytes")
        self._number = number = self._number + 1
        future = self._new_future()
        pending[number] = (future, self._now() + timeout_s)
        self._out.append(HEAD.pack(COUNTED + size, VERSION, REQUEST, service, number) + payload)
        self._out_bytes += size
        if not self._held:
            self._held = True
            self._call_soon(self.flush)
            if self._timer is None:
                self._arm()
        return future

    def send(self, service: int, payload: bytes) -> None:
        """Queue one one-way message; dropped and counted where it does not fit."""
        size = len(payload)
        if self._out_bytes + size > self._max_buffered or size > self._max_payload:
            self._metrics.transport_refused_total += 1
            return
        self._out.append(HEAD.pack(COUNTED + size, VERSION, ONE_WAY, service, 0) + payload)
        self._out_bytes += size + COUNTED
        if not self._held:
            self._held = True
            self._call_soon(self.flush)

    @property
    def under_way(self) -> int:
        return len(self._pending) + super().under_way

    def _overloaded(self) -> Overloaded:
        self._metrics.transport_refused_total += 1
        return Overloaded(f"too much under way to {self.peer}")

    def _take(self, frames: list[Frame]) -> None:
        take = self._pending.pop
        self._pinged_at = None
        for kind, _, number, payload in frames:
            entry = take(number, None)  # None: too late, or a PONG, whose number is 0
            if kind == RESPONSE:
                if entry is not None and not entry[0].done():
                    entry[0].set_result(payload)
            elif kind == ERROR:
                if entry is not None and not entry[0].done():
                    entry[0].set_exception(decode_error(payload))
            elif kind != PONG:
                raise BadFrame("unexpected frame")

    # ---- login ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        encryption = self._context.encryption
        if self.reason or encryption is None or self.plain:
            self._say_hello()
            return
        assert self._socket is not None
        self._channel = Channel(encryption.ends, accepting=False)
        self._channel.shake()
        self._socket.write(self._channel.waiting())

    def _secured(self) -> None:
        self._say_hello()

    def _insecure(self, text: str) -> None:
        self._failure = text
        self.speaks_no_tls = text == NO_TLS

    def _say_hello(self) -> None:
        context = self._context
        self._hello = hello(context.cluster, context.me, self.peer, secrets.token_bytes(NONCE_BYTES))
        self._write(frame(HELLO, encode_hello(self._hello)))

    def _login(self, kind: int, payload: bytes) -> None:
        if self._hello is None or self.ready.done():
            raise BadFrame("unexpected frame")
        key, binding = self._context.key, self._channel.binding() if self._channel is not None else b""
        if kind == CHALLENGE:
            nonce, theirs = split_challenge(payload)
            finding = check(theirs, key, "acceptor", self._hello, nonce, binding)
            if finding != "good":
                self._refuse(EXPLAINED[finding], finding)
                return
            self._proved = True
            self._write(frame(PROOF, proof(key, "dialler", self._hello, nonce, binding) + binding))
        elif kind == READY and self._proved:
            self.ready.set_result(None)
            self._logged_in()
        elif kind == REFUSED:
            self._refuse(f"it refused: {payload.decode(errors='replace')}", "refused")
        else:
            raise BadFrame("unexpected frame")

    def _refuse(self, why: str, reason: str) -> None:
        self._failure = why
        self.close(reason)

    # ---- deadlines and silence ----

    def _arm(self) -> None:
        self._sweep_due = self._now() + SWEEP_S
        self._timer = self._context.loop.call_later(SWEEP_S, self._sweep)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._timer is None:
            self._arm()

    def _sweep(self) -> None:
        """Expire what is over its deadline; run again while anything is in flight."""
        self._timer = None
        now = self._now()
        self._spared = not self._spared and now - self._sweep_due >= LATE_S
        if not self._spared:
            expired = [number for number, (_, deadline) in self._pending.items() if deadline <= now]
            for number in expired:
                future, _ = self._pending.pop(number)
                if not future.done():
                    self._metrics.transport_deadlines_total += 1
                    future.set_exception(DeadlineExceeded(f"no answer from {self.peer} in time"))
            if expired and self._open:
                self._listen(now)
        if self._pinged_at is not None and now - self._pinged_at > self._context.settings.request_timeout_s:
            self.close("silent")
        elif self._pending or self._held or self._pinged_at is not None:
            self._arm()

    def _listen(self, now: float) -> None:
        """Ask whether the other end is there at all, since a request went unanswered. Without this a
        half-open connection would swallow requests for as long as TCP retransmits."""
        if self._pinged_at is None:
            self._pinged_at = now
            self._out.append(frame(PING))
            if not self._held:
                self.flush()

    def _why(self) -> str:
        """The reason of a close during the login, in words."""
        if self._failure:
            return self._failure
        if self.reason == "lost" and self._channel is not None and not self._channel.established:
            self.speaks_no_tls = True  # a version without encryption takes it for a frame that is too large
            return HUNG_UP
        return self.reason

    def _on_close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_closed(self)
        sent, why = self._open, f"link to {self.peer}: {self._why()}"
        if not self.ready.done():
            self.ready.set_exception(Unavailable(why))
            self.ready.exception()  # the dialler may have given up already
        pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            if not future.done():
                future.set_exception(ConnectionLost(why) if sent else Unreachable(why))
