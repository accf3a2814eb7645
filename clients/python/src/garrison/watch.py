"""One subscription to a stream: each event once, in order, whatever the connection does.

The watch keeps a cursor, the number of the next event to hand on to its buffer. What comes below
the cursor is a repetition and is dropped; what comes above it is a gap, and the stream is asked
for again from the cursor. A full buffer gives the subscription up until half of it is read, so
that a slow reader costs a bounded amount of memory and loses nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from garrison._base import Event
from garrison.errors import GarrisonError
from garrison.messages import Events


class Watch:
    """An async iterator of `(number, event)`. Made by `Client.watch`; leave it with
    `async with` or `aclose`. Raises the typed error that ended the subscription."""

    def __init__(
        self, topic: str, from_seq: int, limit: int, ask: Callable[["Watch"], None], drop: Callable[["Watch"], None]
    ) -> None:
        self.topic = topic
        self.next_seq = from_seq
        """The next event to come from the server."""
        self.asking = False
        """A `watch` request is under way."""
        self.paused = False
        self.repeated = 0
        """Events that came again and were dropped."""
        self.gaps = 0
        """Times that an event was missing and the stream was asked for again."""
        self.closed = False
        self._limit = limit
        self._buffer: deque[tuple[int, Event]] = deque()
        self._wake = asyncio.Event()
        self._error: GarrisonError | None = None
        self._ask = ask
        self._drop = drop

    # ---- the reader's side ------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, Event]:
        while not self._buffer:
            if self._error is not None:
                raise self._error
            if self.closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        item = self._buffer.popleft()
        if self.paused and len(self._buffer) <= self._limit // 2:
            self.paused = False
            self._ask(self)
        return item

    async def aclose(self) -> None:
        """End the subscription; what is buffered is dropped."""
        if not self.closed:
            self.closed = True
            self._buffer.clear()
            self._wake.set()
            self._drop(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # ---- the client's side ------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Events are to come."""
        return not (self.closed or self.paused or self._error is not None)

    def accept(self, push: Events) -> None:
        """Take what is new in a push."""
        skip = self.next_seq - push.first_seq
        if skip < 0:
            if not self.asking:
                self.gaps += 1
                self._ask(self)
            return
        self.repeated += min(skip, len(push.events))
        fresh = push.events[skip:]
        room = self._limit - len(self._buffer)
        for event in fresh[:room]:
            self._buffer.append((self.next_seq, event))
            self.next_seq += 1
        if fresh:
            self._wake.set()
        if len(fresh) >= room:
            self.paused = True
            self._drop(self)

    def fail(self, error: GarrisonError) -> None:
        """No more will come; the reader gets `error` after what is buffered."""
        self._error = error
        self._wake.set()
