"""A connection before its session: it waits for the hello, and for the answer that the hello needs."""

from collections.abc import Mapping
from typing import Final, Protocol

from server.errors import BadInput, GarrisonError
from server.runtime.metrics import Metrics
from server.sessions.connection import NOBODY, Connection
from server.sessions.session import Session
from server.settings import GatewaySettings
from server.wire.codec import Codec, Format
from server.wire.messages import CloseCode, Failed, Hello, Reply

BACKLOG_BYTES: Final = 16 * 1024
"""Bytes that a client may send between its hello and the welcome."""


class Reception(Protocol):
    """Receives new connections' hellos."""

    @property
    def settings(self) -> GatewaySettings: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def codecs(self) -> Mapping[Format, Codec]: ...

    def hello(self, opening: "Opening", hello: Hello) -> None:
        """Answer the first message of a connection, now or later."""
        ...

    def opening_over(self, opening: "Opening") -> None:
        """The connection is closed, or belongs to a session now."""
        ...


class Opening:
    """The connection's receiver until it has a session. `busy`: the hello is being answered;
    messages that the client sends after it wait, bounded. `order`: the number of its hello; a later one has a
    higher number. `since` and `since_ms`: when that hello came, by the node's clock and the wall clock. `subject`,
    `role` and `issued_ms`: as its token says, once that was found good. `waits_since`: since when it waits for the view
    to know who serves its player."""

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_connection",
        "_controls",
        "_reception",
        "busy",
        "closed",
        "format",
        "issued_ms",
        "order",
        "role",
        "since",
        "since_ms",
        "subject",
        "waits_since",
    )  # fmt: skip

    def __init__(self, reception: Reception, connection: Connection) -> None:
        self._reception = reception
        self._connection = connection
        self._backlog: list[bytes] = []
        self._backlog_bytes = 0
        self._controls = 0
        self.format: Format = connection.format
        self.busy = False
        self.closed = False
        self.order = self.since_ms = 0
        self.since = 0.0
        self.subject = self.role = ""
        self.issued_ms = 0
        self.waits_since: float | None = None

    @property
    def country(self) -> str:
        """See `Connection.country`."""
        return self._connection.country

    # ---- from the connection ----

    def on_message(self, data: bytes) -> None:
        if self.busy:
            self._backlog.append(data)
            self._backlog_bytes += len(data)
            if len(self._backlog) > self._reception.settings.max_in_flight or self._backlog_bytes > BACKLOG_BYTES:
                self.leave(None, CloseCode.PROTOCOL_ERROR, "too much was sent before the welcome")
            return
        reception = self._reception
        reception.metrics.frames_in_total += 1
        try:
            message = reception.codecs[self.format].decode(data)
        except BadInput as error:
            reception.metrics.bad_frames_total += 1
            self.refuse(error.request_id, error, CloseCode.PROTOCOL_ERROR)
            return
        if isinstance(message, Hello):
            reception.hello(self, message)
        else:
            self.refuse(message.id, BadInput("the first message must be hello"), CloseCode.PROTOCOL_ERROR)

    def on_control(self, connection: Connection) -> None:
        self._controls += 1
        if self._controls > self._reception.settings.rate_burst:
            self.leave(None, CloseCode.FLOOD, "too many frames before the hello")

    def on_blocked(self, connection: Connection) -> None: ...

    def on_writable(self, connection: Connection) -> None: ...

    def on_closed(self, connection: Connection, code: int, reason: str) -> None:
        if not self.closed:
            self._reception.metrics.client_closed(code)
            self._finish()

    def check(self, _now: float) -> None:
        """Close if the hello's time is over: the wheel's call (an actor that is slow to answer has its
        own deadline)."""
        if not self.closed and not self.busy:
            self.leave(None, CloseCode.HELLO_TIMEOUT, "no hello in time")

    # ---- from the greeter ----

    def refuse(self, request_id: int, error: GarrisonError, code: int) -> None:
        """Answer with a typed error and close."""
        retry_ms = None if error.retry_after_s is None else round(error.retry_after_s * 1000)
        self.leave(Failed(request_id, error.code, error.message[:500], retry_ms), code, error.message)

    def leave(self, answer: Reply | None, code: int, reason: str) -> None:
        """Say `answer` and close. Nothing happens if the connection is gone already."""
        if self.closed:
            return
        connection = self._connection
        self._finish()
        if answer is not None:
            self._reception.metrics.frames_out_total += 1
            connection.send(self._reception.codecs[self.format].encode(answer))
        self._reception.metrics.closed(code)
        connection.set_receiver(NOBODY)
        connection.close(code, reason)

    def hand_on(self, session: Session, welcome: bytes) -> None:
        """Give the connection to the session, with the messages that came in the meantime."""
        connection, backlog = self._connection, self._backlog
        self._finish()
        session.order = self.order
        connection.welcomed()
        session.begin(connection, welcome)
        for data in backlog:
            if session.connection is not connection:
                return
            session.on_message(data)

    def _finish(self) -> None:
        self.closed = True
        self._backlog = []
        del self._connection  # the wheel keeps this object until the hello's time is over
        self._reception.opening_over(self)
