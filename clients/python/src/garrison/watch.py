"""A subscription to a stream as the program sees it: an async iterator over a stream of the core."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from garrison._base import Event
from garrison._streams import Stream


class Watch:
    """An async iterator of `(number, event)`. Made by `Client.watch`; leave it with `async with` or `aclose`.
    Raises the typed error that ended the subscription, after the events that came before it."""

    def __init__(
        self, stream: Stream, read: Callable[[Stream], tuple[int, Event] | None], leave: Callable[[Stream], None]
    ) -> None:
        self._stream = stream
        self._read = read
        self._leave = leave
        self._wake = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, Event]:
        stream = self._stream
        while (item := self._read(stream)) is None:
            if stream.phase == "closed":
                raise StopAsyncIteration
            if stream.error is not None:
                raise stream.error
            self._wake.clear()
            await self._wake.wait()
        return item

    async def aclose(self) -> None:
        """End the subscription and drop the events that are buffered."""
        self._leave(self._stream)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def stir(self) -> None:
        """Wake a reader that waits. Called by the client."""
        self._wake.set()

    # ---- how it stands ------------------------------------------------------------------------

    @property
    def topic(self) -> str:
        """The stream's name, `match/ID`."""
        return self._stream.topic

    @property
    def next_seq(self) -> int:
        """The number of the next event to come from the server."""
        return self._stream.next_seq

    @property
    def asking(self) -> bool:
        """A `watch` request is under way or due."""
        return self._stream.phase == "asking"

    @property
    def paused(self) -> bool:
        """The buffer is full; the subscription is taken up again once half of it is read."""
        return self._stream.phase == "paused"

    @property
    def closed(self) -> bool:
        """The program has left it."""
        return self._stream.phase == "closed"

    @property
    def repeated(self) -> int:
        """Events that came again and were dropped."""
        return self._stream.repeated

    @property
    def gaps(self) -> int:
        """Times that an event was missing and the stream was asked for again."""
        return self._stream.gaps
