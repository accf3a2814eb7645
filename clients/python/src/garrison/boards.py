"""Leaderboards; docs/protocol.md says what each counts.

page = await client.boards.top("kills", mode="slayer", period="week:2026-11-23")
mine = await client.boards.around("rating", "ada", mode="slayer", count=1)
"""

from collections.abc import AsyncIterator
from typing import Literal, Protocol, TypeVar

from garrison._base import Request
from garrison.messages import Board, BoardAround, BoardFriends, BoardRow, BoardTop

R = TypeVar("R")
Metric = Literal["kills", "wins", "matches", "assists", "medals", "rating"]
PAGE = 100


class Client(Protocol):
    """The part of a client that this needs."""

    async def request(self, message: Request[R], *, timeout_s: float | None = None, retry: bool | None = None) -> R:
        """Send `message` and give its typed answer."""
        ...


class Boards:
    """Leaderboards, as `client.boards`. `mode`: `all` or one; `period`: `all`, `season:NAME`, `week:` with the date of
    a Monday, or `day:` with a date. Each raises the typed errors of `Client.request`; a board that nobody has asked for
    lately is read from the store first, and asked for again by itself meanwhile."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def top(
        self, metric: Metric, *, mode: str = "all", period: str = "all", limit: int = 10, cursor: str = ""
    ) -> Board:
        """The first of a board, or those after the `next` of a page: at most 100."""
        return await self._client.request(BoardTop(metric, mode, period, limit, cursor), retry=True)

    async def around(
        self, metric: Metric, player: str, *, mode: str = "all", period: str = "all", count: int = 11
    ) -> Board:
        """The place of `player` with its neighbours, at most 50 rows; none where it is not on the board."""
        return await self._client.request(BoardAround(metric, player, mode, period, count), retry=True)

    async def friends(self, metric: Metric, *, mode: str = "all", period: str = "all", limit: int = 100) -> Board:
        """The own place and those of the own friends."""
        return await self._client.request(BoardFriends(metric, mode, period, limit), retry=True)

    async def rows(self, metric: Metric, *, mode: str = "all", period: str = "all") -> AsyncIterator[BoardRow]:
        """All rows of a board, page by page. A row that moves meanwhile may be missed, or come twice."""
        cursor: str | None = ""
        while cursor is not None:
            page = await self.top(metric, mode=mode, period=period, limit=PAGE, cursor=cursor)
            for row in page.rows:
                yield row
            cursor = page.next
