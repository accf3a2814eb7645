"""Pushes that wait for their readers: all of them, and those of one type."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from garrison._base import Push
from garrison._stats import Stats

P = TypeVar("P", bound=Push)


class Pushes(Generic[P]):
    """An async iterator over pushes of one type, from the moment at which it was made: leave it with `async with` or
    `aclose`. It ends with the client. At most `size` of them wait; when it is full, the oldest is dropped."""

    def __init__(self, cls: type[P], size: int, leave: Callable[["Pushes[Any]"], None]) -> None:
        self.cls = cls
        self._waiting: deque[P] = deque(maxlen=size)
        self._leave, self._over = leave, False
        self._wake = asyncio.Event()

    def put(self, push: P) -> bool:
        """Keep a push for the reader; called by the client. True if another one was dropped for it."""
        full = len(self._waiting) == self._waiting.maxlen
        self._waiting.append(push)
        self._wake.set()
        return full

    def end(self) -> None:
        """Give the reader what waits, and then no more; called by the client."""
        self._over = True
        self._wake.set()

    async def aclose(self) -> None:
        """Leave: what was not read is dropped."""
        self._leave(self)
        self._waiting.clear()
        self.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> P:
        while not self._waiting:
            if self._over:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.popleft()


class Inbox:
    """The pushes of a client. At most `size` wait for each who reads them; then the oldest is dropped, and counted in
    `stats`."""

    def __init__(self, size: int, stats: Stats) -> None:
        self._size, self._stats = size, stats
        self._waiting: deque[Push] = deque(maxlen=size)
        self._wake = asyncio.Event()
        self._of_one_type: list[Pushes[Any]] = []
        self._over = False

    def put(self, push: Push) -> None:
        """Keep a push for all who read it."""
        self._stats.pushes_dropped += len(self._waiting) == self._size
        self._waiting.append(push)
        self._wake.set()
        for pushes in self._of_one_type:
            if isinstance(push, pushes.cls):
                self._stats.pushes_dropped += pushes.put(push)

    def end(self) -> None:
        """Give the readers what waits, and then no more."""
        self._over = True
        self._wake.set()
        for pushes in self._of_one_type:
            pushes.end()

    async def read(self) -> AsyncIterator[Push]:
        """Pushes of any type."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._over:
                return
            self._wake.clear()
            await self._wake.wait()

    def of(self, cls: type[P]) -> Pushes[P]:
        """The pushes of one type from now on."""
        pushes = Pushes(cls, self._size, self._forget)
        if self._over:
            pushes.end()
        else:
            self._of_one_type.append(pushes)
        return pushes

    def _forget(self, pushes: Pushes[Any]) -> None:
        if pushes in self._of_one_type:
            self._of_one_type.remove(pushes)
