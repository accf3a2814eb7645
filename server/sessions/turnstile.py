"""Fairness between connections: one that sends faster than it may waits in line.

While a session uses its tokens faster than it regains them, its messages wait: a few are handled
in a turn of the loop, of all such sessions together, between what everybody else sends, and it
is read no further until its own are done. So a burst within the limits is only spread, and a
flood, up to its close, costs the neighbours a few messages' time a turn, however many flood.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from server.sessions.connection import Connection, Receiver
from server.sessions.rate_bucket import TokenBucket

PER_TURN: Final = 4
"""Messages that are handled in one turn of the loop, of all sessions in line together."""


class HurriedSession(Receiver, Protocol):
    """A session, as far as the line is concerned."""

    bucket: TokenBucket
    connection: Connection | None
    in_line: "InLine | None"

    def read_on(self) -> None:
        """Read the connection again, unless there is another reason not to."""
        ...


class Turnstile:
    """The line of one gateway."""

    def __init__(self) -> None:
        self._line: deque[InLine] = deque()
        self._turning = self._rests = False

    def __len__(self) -> int:
        return 0 if self._rests else len(self._line)

    def rest(self) -> None:
        """Let the messages in line wait until `go_on`."""
        self._rests = True

    def go_on(self) -> None:
        """Handle the messages in line."""
        self._rests = False
        if self._line and not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def join(self, waiting: "InLine") -> None:
        """Go to the end of the line."""
        self._line.append(waiting)
        if not (self._turning or self._rests):
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        if self._rests:
            self._turning = False
            return
        waiting = self._line.popleft()
        try:
            if waiting.go_on():
                self._line.append(waiting)
        finally:
            self._turning = bool(self._line)
            if self._turning:
                asyncio.get_running_loop().call_soon(self._turn)


class InLine:
    """The receiver of a connection whose session is in a hurry. It keeps the messages of one read at
    most, since the connection is read no further meanwhile."""

    __slots__ = ("_connection", "_controls", "_end", "_in_line", "_messages", "_paused", "_session", "_turnstile")

    def __init__(self, turnstile: Turnstile, session: HurriedSession, connection: Connection) -> None:
        self._turnstile = turnstile
        self._session = session
        self._connection = connection
        self._messages: deque[bytes] = deque()
        self._controls = 0
        self._in_line = False
        self._paused = False
        self._end: tuple[int, str] | None = None
        connection.set_receiver(self)

    # ---- from the connection ----

    def on_message(self, data: bytes) -> None:
        self._messages.append(data)
        self._wait(len(self._messages))

    def on_control(self, connection: Connection) -> None:
        self._controls += 1
        self._wait(self._controls)
        self._session.on_control(connection)

    def on_blocked(self, connection: Connection) -> None:
        self._session.on_blocked(connection)

    def on_writable(self, connection: Connection) -> None:
        self._session.on_writable(connection)

    def on_closed(self, connection: Connection, code: int, reason: str) -> None:
        """Keep the end in its place, after the messages before it."""
        self._end = code, reason
        self._wait(0)

    def _wait(self, count: int) -> None:
        if count >= PER_TURN and not self._paused:
            self._paused = True
            self._connection.pause_reading()
        if not self._in_line:
            self._in_line = True
            self._turnstile.join(self)

    # ---- to the next process of this node ----

    @property
    def messages(self) -> list[bytes]:
        """Messages that are not handled yet."""
        return list(self._messages)

    def go_on_over(self, connection: Connection) -> None:
        """Go on: its connection has taken another form."""
        self._connection = connection
        connection.set_receiver(self)
        if self._paused:
            connection.pause_reading()

    # ---- from the turnstile and the session ----

    @property
    def paused(self) -> bool:
        """True while the connection must not be read."""
        return self._paused

    def go_on(self) -> bool:
        """Handle the next few messages. True: there are more. After the last one the session
        takes its messages itself again if it has slowed down."""
        session, connection = self._session, self._connection
        for _ in range(min(PER_TURN, len(self._messages))):
            if session.connection is not connection:
                break
            session.on_message(self._messages.popleft())
        if session.connection is not connection:
            return False  # closed, or resumed on another one, maybe while it stood in line: nobody wants the rest
        if self._messages:
            return True
        paused, self._paused = self._paused, False
        self._in_line = False
        self._controls = 0
        if not session.bucket.hurried:
            session.in_line = None
            connection.set_receiver(session)
        if self._end is not None:
            session.on_closed(connection, *self._end)
        elif paused:
            session.read_on()
        return False
