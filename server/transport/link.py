"""The two ends of one node-to-node connection, as asyncio protocols.

Every node dials every other, so a pair of nodes has two connections: requests and one-way
messages run from the dialler to the acceptor, answers run back. Neither end has to decide
which of two connections survives, and an acceptor whose answers are not read can stop reading
requests without any risk that both ends wait for each other.

Frames written in one loop iteration leave in one write. Until login is through, and while the
socket is full, they wait in `_out`, bounded by `max_buffered_bytes`. Deadlines are looked at
every `SWEEP_S` while anything is in flight: no timer per request.
"""

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import structlog

from server.errors import (
    BadFrame,
    BadInput,
    ConnectionLost,
    DeadlineExceeded,
    GarrisonError,
    Internal,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
    UnknownType,
    Unreachable,
)
from server.ids import NodeAddress
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import TransportSettings
from server.transport.frames import (
    CHALLENGE,
    COUNTED,
    ERROR,
    HEAD,
    HELLO,
    MAX_LOGIN_BYTES,
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
    FrameReader,
    decode_error,
    encode_error,
    frame,
)
from server.transport.login import (
    NONCE_BYTES,
    LoginHello,
    decode_hello,
    encode_hello,
    hello,
    proof,
    same,
    split_challenge,
)
from server.transport.ports import Answer, Handler

log = structlog.get_logger(__name__)

SWEEP_S: Final = 0.02
LATE_S: Final = 0.25  # a sweep this late follows a stall: answers may wait unread, so it spares them once
CRASH_LOG_INTERVAL_S: Final = 1.0


class LinkContext:
    """The common ground of all links of a transport: settings, identity, clock, counters and handlers."""

    def __init__(
        self,
        settings: TransportSettings,
        cluster: str,
        key: bytes | None,
        me: NodeAddress,
        clock: Clock,
        metrics: Metrics,
        handlers: dict[int, Handler],
    ) -> None:
        self.settings, self.cluster, self.key, self.me = settings, cluster, key, me
        self.clock, self.metrics = clock, metrics
        self.handlers: list[Handler | None] = [handlers.get(number) for number in range(256)]
        self.loop = asyncio.get_running_loop()
        self._crash_logged_at = -CRASH_LOG_INTERVAL_S

    def crashed(self, service: int, error: BaseException) -> Internal:
        """Count a handler's untyped failure and log at most one a second. Returns the error for the caller."""
        self.metrics.transport_handler_crashes_total += 1
        now = self.clock.now()
        if now - self._crash_logged_at >= CRASH_LOG_INTERVAL_S:
            self._crash_logged_at = now
            log.error("transport handler failed", service=service, exc_info=error)
        return Internal("the handler failed")


class Link(asyncio.Protocol):
    """Framing, coalesced writes and close reasons. `closed` is set when the socket is gone."""

    def __init__(self, context: LinkContext) -> None:
        self.closed = asyncio.Event()
        self.reason = ""
        self._context = context
        self._metrics = context.metrics
        self._call_soon = context.loop.call_soon
        self._reader = FrameReader(MAX_LOGIN_BYTES)
        self._socket: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._open = False  # login is through
        self._paused = False
        self._held = True  # frames in `_out` need no new flush: one is due, or they must wait
        self._max_payload = context.settings.max_frame_bytes
        self._max_buffered = context.settings.max_buffered_bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        if self.reason:
            self._socket.abort()

    def data_received(self, data: bytes) -> None:
        if self.reason:
            return
        try:
            frames = self._reader.feed(data)
            self._metrics.transport_bytes_in_total += len(data)
            self._metrics.transport_frames_in_total += len(frames)
            if self._open:
                self._take(frames)
            else:
                for kind, _, _, payload in frames:
                    self._login(kind, payload)
        except BadFrame as error:
            self.close(error.message)

    def _take(self, frames: list[Frame]) -> None:
        raise NotImplementedError

    def _login(self, kind: int, payload: bytes) -> None:
        raise NotImplementedError

    def _logged_in(self) -> None:
        self._open = True
        self._reader.limit = self._max_payload
        self.flush()

    def _write(self, data: bytes) -> None:
        """Past the queue: login frames only."""
        if self._socket is not None and not self.reason:
            self._socket.write(data)

    def flush(self) -> None:
        """Hand all waiting frames to the socket in one write."""
        if not self._open or self._paused or self.reason or self._socket is None:
            return
        self._held = False
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            self._metrics.transport_bytes_out_total += len(data)
            self._socket.write(data)

    def pause_writing(self) -> None:
        self._paused = self._held = True

    def resume_writing(self) -> None:
        self._paused = False
        self.flush()

    def close(self, reason: str, *, gently: bool = False) -> None:
        """Close for `reason`, which is counted. Gently: frames that wait are still sent."""
        if self.reason:
            return
        if gently:
            self.flush()
        self.reason = reason
        self._metrics.transport_closed(reason)
        self._held = True
        self._out.clear()
        self._gone()
        if self._socket is None:
            self.closed.set()
        elif gently:
            self._socket.close()
        else:
            self._socket.abort()

    def abort(self) -> None:
        """Drop the socket now; after a gentle close that does not come to an end."""
        if self._socket is not None:
            self._socket.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.close("lost")
        self.closed.set()

    def _gone(self) -> None:
        """Called once, when the link closes."""


class Dialled(Link):
    """The requesting end. Requests made before login is through wait for it. `left` is told
    when it closes; no request may be made on it from then on."""

    def __init__(self, context: LinkContext, peer: NodeAddress, left: Callable[["Dialled"], None]) -> None:
        super().__init__(context)
        self.peer = peer
        self._left = left
        self.ready: asyncio.Future[None] = context.loop.create_future()
        self._hello: LoginHello | None = None
        self._proved = False  # the other end has shown that it has the key, and this one does
        self._pending: dict[int, tuple[asyncio.Future[bytes], float]] = {}
        self._number = 0
        self._max_in_flight = context.settings.max_in_flight
        self._new_future = cast(Callable[[], "asyncio.Future[bytes]"], context.loop.create_future)
        self._now = context.clock.now
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self._spared = False
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

    # login

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        context = self._context
        self._hello = hello(context.cluster, context.me, self.peer, secrets.token_bytes(NONCE_BYTES))
        self._write(frame(HELLO, encode_hello(self._hello)))

    def _login(self, kind: int, payload: bytes) -> None:
        if self._hello is None or self.ready.done():
            raise BadFrame("unexpected frame")
        key = self._context.key
        if kind == CHALLENGE:
            nonce, theirs = split_challenge(payload)
            if not same(theirs, proof(key, "acceptor", self._hello, nonce)):
                self._refuse(f"{self.peer} has another cluster key", "wrong key")
                return
            self._proved = True
            self._write(frame(PROOF, proof(key, "dialler", self._hello, nonce)))
        elif kind == READY and self._proved:
            self.ready.set_result(None)
            self._logged_in()
        elif kind == REFUSED:
            self._refuse(f"{self.peer} refused: {payload.decode(errors='replace')}", "refused")
        else:
            raise BadFrame("unexpected frame")

    def _refuse(self, why: str, reason: str) -> None:
        self.ready.set_exception(Unavailable(why))
        self.ready.exception()  # the dialler may have given up already
        self.close(reason)

    # deadlines and silence

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
        """Something went unanswered: ask whether the other end is there at all. Without this a
        half-open connection would swallow requests for as long as TCP retransmits."""
        if self._pinged_at is None:
            self._pinged_at = now
            self._out.append(frame(PING))
            if not self._held:
                self.flush()

    def _gone(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._left(self)
        sent = self._open
        if not self.ready.done():
            self.ready.set_exception(Unavailable(f"{self.peer}: {self.reason}"))
            self.ready.exception()  # the dialler may have given up already
        pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            if not future.done():
                why = f"link to {self.peer}: {self.reason}"
                future.set_exception(ConnectionLost(why) if sent else Unreachable(why))


class Accepted(Link):
    """The answering end. `admit` is asked when a hello has come (it raises `Unavailable` to
    refuse) and `entered` is told when the dialler has proved itself."""

    def __init__(
        self,
        context: LinkContext,
        admit: Callable[[LoginHello], None],
        entered: Callable[["Accepted"], None],
        left: Callable[["Accepted"], None],
    ) -> None:
        super().__init__(context)
        self.peer = context.me  # until the hello says who it is
        self._admit, self._entered, self._left = admit, entered, left
        self._hello: LoginHello | None = None
        self._nonce = b""
        self._working = 0
        self._max_working = context.settings.max_in_flight
        self._handlers = context.handlers
        self._timer = context.loop.call_later(context.settings.connect_timeout_s, self._too_slow)

    def _too_slow(self) -> None:
        self.close("login too slow")

    def _login(self, kind: int, payload: bytes) -> None:
        key = self._context.key
        if kind == HELLO and self._hello is None:
            self._hello = decode_hello(payload)
            try:
                self._admit(self._hello)
            except Unavailable as error:
                self._write(frame(REFUSED, error.message.encode()))
                self.close("refused", gently=True)
                return
            self._nonce = secrets.token_bytes(NONCE_BYTES)
            mine = proof(key, "acceptor", self._hello, self._nonce)
            self._write(frame(CHALLENGE, self._nonce + mine))
        elif kind == PROOF and self._hello is not None:
            if not same(payload, proof(key, "dialler", self._hello, self._nonce)):
                raise BadFrame("wrong key")
            self._timer.cancel()
            self.peer = self._hello.sender
            self._entered(self)
            self._write(frame(READY))
            self._logged_in()
        else:
            raise BadFrame("unexpected frame")

    def _take(self, frames: list[Frame]) -> None:
        self._held = True  # a single write for all answers of this read, at its end
        handlers, peer, out = self._handlers, self.peer, self._out
        for kind, service, number, payload in frames:
            asked = kind == REQUEST
            if not asked and kind != ONE_WAY:
                if kind != PING:
                    raise BadFrame("unexpected frame")
                out.append(frame(PONG))
                continue
            handler = handlers[service]
            try:
                if handler is None:
                    raise UnknownType(f"no service {service}")
                if self._working >= self._max_working:
                    raise Overloaded(f"too many calls under way from {peer}")
                answer = handler(peer, payload)
            except Exception as error:
                self._failed(asked, service, number, error)
                continue
            if type(answer) is bytes and asked and len(answer) <= self._max_payload:
                out.append(HEAD.pack(COUNTED + len(answer), VERSION, RESPONSE, 0, number) + answer)
                self._out_bytes += len(answer)
            else:
                self._unusual(asked, service, number, answer)
            if self.reason:
                return
        if self._out_bytes > self._max_buffered and self._paused:
            raise BadFrame("answers not read")
        self.flush()

    def _unusual(self, asked: bool, service: int, number: int, answer: Answer) -> None:
        """Deal with an answer off the hot path: a future, nothing, or too many bytes."""
        if isinstance(answer, asyncio.Future):
            self._working += 1
            answer.add_done_callback(partial(self._worked, asked, service, number))
        elif asked:
            self._answer(number, answer or b"")

    def _worked(self, asked: bool, service: int, number: int, done: "asyncio.Future[bytes]") -> None:
        self._working -= 1
        if done.cancelled():
            self._failed(asked, service, number, OutcomeUnknown("the call was cancelled"))
        elif (error := done.exception()) is not None:
            self._failed(asked, service, number, error)
        elif asked:
            self._answer(number, done.result())

    def _answer(self, number: int, payload: bytes) -> None:
        if len(payload) > self._max_payload:
            self._put(ERROR, number, encode_error(Internal("the answer is over transport.max_frame_bytes")))
        else:
            self._put(RESPONSE, number, payload)

    def _failed(self, asked: bool, service: int, number: int, error: BaseException) -> None:
        typed = error if isinstance(error, GarrisonError) else self._context.crashed(service, error)
        if asked:
            self._put(ERROR, number, encode_error(typed))

    def _put(self, kind: int, number: int, payload: bytes) -> None:
        if self.reason:
            return
        self._out.append(frame(kind, payload, 0, number))
        self._out_bytes += len(payload)
        if not self._held:
            self._held = True
            self._call_soon(self.flush)
        elif self._paused and self._out_bytes > self._max_buffered:
            self.close("answers not read")

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._socket is not None and not self._socket.is_closing():
            self._socket.pause_reading()

    def resume_writing(self) -> None:
        if self._socket is not None and not self._socket.is_closing():
            self._socket.resume_reading()
        super().resume_writing()

    def _gone(self) -> None:
        self._timer.cancel()
        self._left(self)
