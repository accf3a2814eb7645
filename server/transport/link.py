"""The common part of both ends of a node-to-node connection: framing, login, coalesced writes, the end.

Every node dials every other, so a pair of nodes has two connections: requests and one-way
messages run from the dialler (`dialled.py`) to the acceptor (`accepted.py`), answers run back. Neither end has to
decide which of two connections survives, and an acceptor whose answers are not read can stop reading
requests without any risk that both ends wait for each other.

Frames written in one loop iteration leave in one write, and are encrypted in one go. Until login is through, and
while the socket is full, they wait in `_out`, bounded by `max_buffered_bytes`.
"""

import asyncio
import ssl
from typing import Final, cast

import structlog

from server.errors import BadFrame, Internal
from server.ids import NodeAddress
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import TransportSettings
from server.transport.encryption import Channel, Encryption, why
from server.transport.frames import MAX_LOGIN_BYTES, Frame, FrameReader
from server.transport.ports import Handler

log = structlog.get_logger(__name__)

LOG_INTERVAL_S: Final = 1.0
"""Least time between two log lines about handlers that fail, and between two about strangers that are refused; all
are counted."""


class LinkContext:
    """The common ground of all links of a transport: settings, identity, clock, counters and handlers, and
    `encryption`, None where links are plain."""

    def __init__(
        self,
        settings: TransportSettings,
        cluster: str,
        key: bytes,
        me: NodeAddress,
        clock: Clock,
        metrics: Metrics,
        handlers: dict[int, Handler],
        encryption: Encryption | None = None,
    ) -> None:
        self.encryption = encryption
        self.settings, self.cluster, self.key, self.me = settings, cluster, key, me
        self.clock, self.metrics = clock, metrics
        self.handlers: list[Handler | None] = [handlers.get(number) for number in range(256)]
        self.loop = asyncio.get_running_loop()
        self._crash_logged_at = self._refusal_logged_at = -LOG_INTERVAL_S

    def crashed(self, service: int, error: BaseException) -> Internal:
        """Count a handler's untyped failure and log at most one a second. Returns the error for the caller."""
        self.metrics.transport_handler_crashes_total += 1
        now = self.clock.now()
        if now - self._crash_logged_at >= LOG_INTERVAL_S:
            self._crash_logged_at = now
            log.error("transport handler failed", service=service, exc_info=error)
        return Internal("the handler failed")

    def refused(self, stranger: object, text: str) -> None:
        """Log that the connection of `stranger`, an address, is refused, at most once a second."""
        now = self.clock.now()
        if now - self._refusal_logged_at >= LOG_INTERVAL_S:
            self._refusal_logged_at = now
            log.warning("a connection of a node was refused", peer=str(stranger), why=text)


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
        self._channel: Channel | None = None
        """The encryption of this link; None while it is plain."""
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._begun = False
        """True once the first byte has come."""
        self._open = False
        """True once login is through."""
        self._paused = False
        """True while the socket is full."""
        self._held = True
        """True while frames in `_out` need no new flush: one is due, or they must wait."""
        self._resting = False
        """True while nothing is read (`rest`)."""
        self._max_payload = context.settings.max_frame_bytes
        self._max_buffered = context.settings.max_buffered_bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        if self.reason:
            self._socket.abort()
        elif self._resting:
            self._call_soon(self._still)  # uvloop begins to read after this call, whatever it is told in it

    def data_received(self, data: bytes) -> None:
        if self.reason:
            return
        try:
            if not self._begun:
                self._begun = True
                if not self._greeted(data[0]):
                    return
            if self._channel is not None and not (data := self._decrypted(self._channel, data)):
                return
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

    def _greeted(self, first: int) -> bool:
        """Called once, with the first byte that comes; False: this link is refused for it."""
        return True

    def _decrypted(self, channel: Channel, data: bytes) -> bytes:
        """The part of `data` that is for this link. Raises `BadFrame` where the encryption fails."""
        assert self._socket is not None, "it gives data"
        secure = channel.established
        try:
            data = channel.receive(data)
        except ssl.SSLError as error:
            if alert := channel.waiting():
                self._socket.write(alert)
            self._insecure(why(error))
            raise BadFrame("no encryption") from None
        if channel.established:
            if not secure:
                self._secured()
        elif step := channel.waiting():
            self._socket.write(step)
        return data

    def _secured(self) -> None:
        """Called once, when the handshake of the encryption is through at this end."""

    def _insecure(self, text: str) -> None:
        """Called when the encryption has failed, before the link is closed for it."""

    def _take(self, frames: list[Frame]) -> None:
        raise NotImplementedError

    def _login(self, kind: int, payload: bytes) -> None:
        raise NotImplementedError

    def _logged_in(self) -> None:
        assert not self._open, "one login a link"
        self._open = True
        self._reader.limit = self._max_payload
        self.flush()

    def _write(self, data: bytes) -> None:
        """Write past the queue: login frames only, before any other frame may leave."""
        assert not self._open, "frames of an open link wait in `_out`"
        if self._socket is not None and not self.reason:
            self._socket.write(data if self._channel is None else self._channel.send(data))

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
            self._socket.write(data if self._channel is None else self._channel.send(data))

    def rest(self) -> None:
        """Read nothing until `go_on`; what comes waits in the socket."""
        self._resting = True
        self._still()

    def _still(self) -> None:
        if self._resting and self._socket is not None and not self._socket.is_closing():
            self._socket.pause_reading()

    def go_on(self) -> None:
        """Read again, unless the other end does not read its answers."""
        self._resting = False
        if self._socket is not None and not self._paused and not self._socket.is_closing():
            self._socket.resume_reading()

    @property
    def under_way(self) -> int:
        """Exchanges that are not over, and 1 for bytes of an open link that the operating system has not taken yet."""
        if not self._open or self._socket is None or self.reason:
            return 0
        return 1 if self._out or self._socket.get_write_buffer_size() else 0

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
        self._on_close()
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

    def _on_close(self) -> None:
        """Called once, when the link closes."""
