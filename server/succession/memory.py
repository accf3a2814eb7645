"""The in-memory twin of `SocketChannel`, for tests and simulation: messages over the running loop, descriptors of any
kind, and ends that close or fall silent at any message.

The process that asks in an `exchange` does nothing else until it is answered. Here both processes are in one: so the
answer comes from a function of the other end, called at once (`answering`), or, in the simulation, from the other
process while this one stands still.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from server.errors import Unavailable
from server.succession.ports import Received

GONE: Final = "the other process is gone"
NO_ANSWER: Final = "the other process does not answer in time"


class MemoryChannel:
    """An end of a channel; `pair` makes two."""

    def __init__(self, delay: Callable[[], float]) -> None:
        self.other: MemoryChannel = self
        self.delay = delay
        self.answering: Callable[[Received], bytes] | None = None
        """Answers what the other end exchanges."""
        self.closed = self.silent = False
        self._inbox: deque[Received] = deque()
        self._flight: deque[tuple[float, Received]] = deque()
        self._waiter: asyncio.Future[None] | None = None

    @classmethod
    def pair(cls, delay: Callable[[], float] = lambda: 0.0) -> tuple[Self, Self]:
        """The two ends of a channel. `delay`: seconds that a message takes, asked for each."""
        ours, theirs = cls(delay), cls(delay)
        ours.other, theirs.other = theirs, ours
        return ours, theirs

    async def send(self, message: bytes, descriptors: Sequence[Any] = ()) -> None:
        """See `server.succession.ports.HeirChannel`."""
        self._send(Received(message, list(descriptors)))

    async def receive(self) -> Received:
        """See `server.succession.ports.HeirChannel`."""
        while not self._inbox:
            if self.closed or (self.other.closed and not self._flight):
                raise Unavailable(GONE)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._inbox.popleft()

    def exchange(self, message: bytes, timeout_s: float) -> bytes:
        """See `server.succession.ports.HeirChannel`."""
        self._check()
        if self.silent or self.other.answering is None:
            raise Unavailable(NO_ANSWER)
        return self.other.answering(Received(message))

    def last_word(self, message: bytes) -> None:
        """See `server.succession.ports.HeirChannel`."""
        self._send(Received(message))

    def close(self) -> None:
        """Close this end, as the end of its process does: what was sent before still arrives."""
        self.closed = True
        self.wake()
        self.other.wake()

    def fall_silent(self) -> None:
        """Let nothing pass from here on, either way, and nobody be told."""
        self.silent = self.other.silent = True

    # ---- under way ----

    def _check(self) -> None:
        if self.closed or self.other.closed:
            raise Unavailable(GONE)

    def _send(self, received: Received) -> None:
        self._check()
        if self.silent:
            return
        loop, flight = asyncio.get_running_loop(), self.other._flight
        due = loop.time() + self.delay()
        if flight:
            due = max(due, flight[-1][0])
        flight.append((due, received))
        self.carry(due, self.other.arrived)

    def carry(self, due: float, arrive: Callable[[], None]) -> None:
        """Call `arrive` at `due`."""
        asyncio.get_running_loop().call_at(due, arrive)

    def arrived(self) -> None:
        """Take what was sent first: it is due."""
        self._inbox.append(self._flight.popleft()[1])
        self.wake()

    def wake(self) -> None:
        """Let the receiver look again."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
