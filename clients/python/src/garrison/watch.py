"""Subscriptions as the program sees them: async iterators over a stream's events, a latest topic's pictures, or the
players whose presence changes."""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Generic, Self, TypeVar

from garrison._base import Event
from garrison._core import Core
from garrison._people import Following
from garrison._pictures import Picture
from garrison._streams import Stream
from garrison._subscriptions import Subscription
from garrison.errors import SessionClosed

S = TypeVar("S", bound=Subscription)
V = TypeVar("V")


class Watching(Generic[S]):
    """The program's end of a subscription: leave it with `async with` or `aclose`."""

    def __init__(self, subscription: S, leave: Callable[[Subscription], None]) -> None:
        self._subscription = subscription
        self._leave = leave
        self._wake = asyncio.Event()

    async def aclose(self) -> None:
        """End the subscription and drop what was not read."""
        self._leave(self._subscription)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def stir(self) -> None:
        """Wake a reader that waits. Called by the client."""
        self._wake.set()

    async def _news(self) -> None:
        """Wait until there may be something to read. Raises the error that ended the subscription, and
        `StopAsyncIteration` where the program has left it."""
        if self._subscription.phase == "closed":
            raise StopAsyncIteration
        if self._subscription.error is not None:
            raise self._subscription.error
        self._wake.clear()
        await self._wake.wait()

    @property
    def topic(self) -> str:
        """The topic's name, `kind/key`."""
        return self._subscription.topic

    @property
    def asking(self) -> bool:
        """A request for it is under way or due."""
        return self._subscription.phase == "asking"

    @property
    def closed(self) -> bool:
        """The program has left it."""
        return self._subscription.phase == "closed"


class Watch(Watching[Stream]):
    """An async iterator of `(number, event)`. Made by `Client.watch`. Raises the typed error that ended the
    subscription, after the events that came before it."""

    def __init__(
        self,
        stream: Stream,
        read: Callable[[Stream], tuple[int, Event] | None],
        leave: Callable[[Subscription], None],
    ) -> None:
        super().__init__(stream, leave)
        self._read = read

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, Event]:
        while (item := self._read(self._subscription)) is None:
            await self._news()
        return item

    @property
    def next_seq(self) -> int:
        """The number of the next event to come from the server."""
        return self._subscription.next_seq

    @property
    def paused(self) -> bool:
        """The buffer is full; the subscription is taken up again once half of it is read."""
        return self._subscription.phase == "paused"

    @property
    def repeated(self) -> int:
        """Events that came again and were dropped."""
        return self._subscription.repeated

    @property
    def gaps(self) -> int:
        """Times that an event was missing and the stream was asked for again."""
        return self._subscription.gaps


class LatestWatch(Watching[Picture]):
    """An async iterator of pictures: the newest value of each key, whenever some have changed. Made by
    `Client.watch_latest`. A reader that is slow gets fewer and newer pictures. Raises the typed error that ended
    the subscription."""

    def __init__(self, picture: Picture, leave: Callable[[Subscription], None]) -> None:
        super().__init__(picture, leave)
        self._read = 0
        """The revision of the picture that was read last."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Mapping[str, Any]:
        while self._subscription.revision == self._read or self.closed:
            await self._news()
        self._read = self._subscription.revision
        return self.values

    @property
    def values(self) -> Mapping[str, Any]:
        """The newest value of each key, as known now; empty before the first picture."""
        return MappingProxyType(self._subscription.values)


class PlayersWatch(Watching[Following], Generic[V]):
    """An async iterator of `(player, presence)`: the newest presence of each player that has changed since it was read,
    None of a friend who is none any more. Made by `Client.watch_players` and `Client.watch_friends`. A reader that is
    slow gets fewer and newer. A presence is made by `picture` of what the application shows, which may say that nobody
    knows right now. Raises the typed error that ended the watch, after the news that came before it."""

    def __init__(
        self,
        following: Following,
        leave: Callable[[Subscription], None],
        core: Core,
        picture: Callable[[Any], V],
    ) -> None:
        super().__init__(following, leave)
        self._core, self._picture = core, picture

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, V | None]:
        while not self._subscription.news:
            await self._news()
        player = next(iter(self._subscription.news))
        value = self._subscription.news.pop(player)
        return player, None if value is None else self._picture(value)

    async def ready(self) -> None:
        """Wait until all of them are known. Raises the typed error that ended the watch, `SessionClosed` where the
        program has left it."""
        while self._subscription.phase == "asking":
            self._wake.clear()
            await self._wake.wait()
        if self.closed:
            raise SessionClosed("the watch was left")
        if self._subscription.error is not None:
            raise self._subscription.error

    @property
    def players(self) -> Mapping[str, V]:
        """The newest presence of each player, as far as it was told."""
        told = self._core.people.picture(self._subscription)
        return MappingProxyType({player: self._picture(value) for player, value in told.items()})

    @property
    def current(self) -> bool:
        """False: `players` may be old, as the connection is broken, or the server was asked and has not answered."""
        return self._core.connected and self._subscription.phase == "live"

    @property
    def bad(self) -> list[str]:
        """Names that no player can have, which are not watched."""
        return list(self._subscription.bad)
