"""A connection before its session: waits for the hello, and for what the hello needs."""

from typing import TYPE_CHECKING

from server.errors import BadInput, GarrisonError
from server.sessions.connection import NOBODY, Connection
from server.wire.codec import Format
from server.wire.messages import CloseCode, Failed, Hello, Reply

if TYPE_CHECKING:
    from server.sessions.gateway import Gateway
    from server.sessions.session import Session


class Opening:
    """The connection's receiver until it has a session. `busy`: the hello is being answered;
    what the client already sends after it waits, bounded."""

    __slots__ = ("_backlog", "_connection", "_controls", "_gateway", "busy", "closed", "format", "order", "waits_since")

    def __init__(self, gateway: "Gateway", connection: Connection) -> None:
        self._gateway = gateway
        self._connection = connection
        self._backlog: list[bytes] = []
        self._controls = 0
        self.format: Format = connection.format
        self.busy = False
        self.closed = False
        self.order = 0
        """The number of its hello: a later one has a higher number."""
        self.waits_since: float | None = None
        """Since when it waits for the view to know who serves its player."""

    # ---- from the connection ----

    def on_message(self, data: bytes) -> None:
        if self.busy:
            self._backlog.append(data)
            if len(self._backlog) > self._gateway.settings.max_in_flight:
                self.leave(None, CloseCode.PROTOCOL_ERROR, "too much was sent before the welcome")
            return
        gateway = self._gateway
        gateway.metrics.frames_in_total += 1
        try:
            message = gateway.codecs[self.format].decode(data)
        except BadInput as error:
            gateway.metrics.bad_frames_total += 1
            self.refuse(error.request_id, error, CloseCode.PROTOCOL_ERROR)
            return
        if isinstance(message, Hello):
            gateway.hello(self, message)
        else:
            self.refuse(message.id, BadInput("the first message must be hello"), CloseCode.PROTOCOL_ERROR)

    def on_control(self, connection: Connection) -> None:
        self._controls += 1
        if self._controls > self._gateway.settings.rate_burst:
            self.leave(None, CloseCode.FLOOD, "too many frames before the hello")

    def on_blocked(self, connection: Connection) -> None: ...

    def on_writable(self, connection: Connection) -> None: ...

    def on_closed(self, connection: Connection, code: int, reason: str) -> None:
        if not self.closed:
            self._gateway.metrics.closed(code if code < 4000 else 1006)
            self._finish()

    def check(self, _now: float) -> None:
        """The wheel's call: the hello's time is over (an actor that is slow to answer has its
        own deadline)."""
        if not self.closed and not self.busy:
            self.leave(None, CloseCode.HELLO_TIMEOUT, "no hello in time")

    # ---- from the gateway ----

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
            self._gateway.metrics.frames_out_total += 1
            connection.send(self._gateway.codecs[self.format].encode(answer))
        self._gateway.metrics.closed(code)
        connection.set_receiver(NOBODY)
        connection.close(code, reason)

    def hand_on(self, session: "Session", welcome: bytes) -> None:
        """The connection is the session's from here, with what came in the meantime."""
        connection, backlog = self._connection, self._backlog
        self._finish()
        session.order = self.order
        session.begin(connection, welcome)
        for data in backlog:
            if session.connection is not connection:
                return
            session.on_message(data)

    def _finish(self) -> None:
        self.closed = True
        self._backlog = []
        del self._connection  # the wheel keeps this object until the hello's time is over
        self._gateway.openings.pop(self, None)
