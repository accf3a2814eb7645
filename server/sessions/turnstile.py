"""Fairness between connections: one that sends faster than it may waits in line.

A session that uses its tokens faster than it regains them is read no further. What had come with
that read is handled a few messages at a time, one such session a turn of the loop, between what
everybody else sends; then it is read again. So a burst within the limits is only spread, and a
flood, up to its close, costs the neighbours a few messages' time a turn, however many flood.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from server.sessions.connection import Connection

if TYPE_CHECKING:
    from server.sessions.session import Session

PER_TURN: Final = 8
"""Messages of sessions in a hurry that are handled in one turn of the loop, of all together."""


class Turnstile:
    """The line of one gateway."""

    def __init__(self) -> None:
        self._line: deque[Held] = deque()

    def __len__(self) -> int:
        return len(self._line)

    def hold(self, session: "Session", connection: Connection) -> "Held":
        """`session` waits in line with what `connection` still brings. Bounded by what one read
        may bring, since it is read no further."""
        held = Held(session, connection)
        connection.set_receiver(held)
        connection.pause_reading()
        if not self._line:
            asyncio.get_running_loop().call_soon(self._turn)
        self._line.append(held)
        return held

    def _turn(self) -> None:
        held = self._line.popleft()
        try:
            if held.go_on():
                self._line.append(held)
        finally:
            if self._line:
                asyncio.get_running_loop().call_soon(self._turn)


class Held:
    """The receiver of a connection whose session waits in line."""

    __slots__ = ("_connection", "_end", "_messages", "_session")

    def __init__(self, session: "Session", connection: Connection) -> None:
        self._session = session
        self._connection = connection
        self._messages: deque[bytes] = deque()
        self._end: tuple[int, str] | None = None

    def on_message(self, data: bytes) -> None:
        self._messages.append(data)

    def on_control(self, connection: Connection) -> None:
        self._session.on_control(connection)

    def on_blocked(self, connection: Connection) -> None:
        self._session.on_blocked(connection)

    def on_writable(self, connection: Connection) -> None:
        self._session.on_writable(connection)

    def on_closed(self, connection: Connection, code: int, reason: str) -> None:
        """The end has its place after the messages before it."""
        self._end = code, reason

    def go_on(self) -> bool:
        """The next few messages; False once all are handled or nobody wants them any more."""
        session = self._session
        for _ in range(min(PER_TURN, len(self._messages))):
            if session.connection is not self._connection:
                return False
            session.on_message(self._messages.popleft())
        if self._messages:
            return True
        if session.connection is self._connection:
            self._connection.set_receiver(session)
            session.let_through()
            if self._end is not None:
                session.on_closed(self._connection, *self._end)
        return False
