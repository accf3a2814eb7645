"""The client messages of leaderboards.

A board is named by what it counts, the mode of the matches (`all`: every mode) and the stretch of time: `all`,
`season:NAME`, `week:YYYY-MM-DD` (a Monday) or `day:YYYY-MM-DD`, days being UTC's. `rating` has the period `all` only,
and a mode's rating group for its mode.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from game.fields import Key
from server.ids import KEY_PATTERN, whole
from server.texts import LINE_PATTERN
from server.wire.messages import Reply, Request

Metric = Literal["kills", "wins", "matches", "assists", "medals", "rating"]
ModeOrAll = Annotated[str, Meta(max_length=32, pattern=whole(KEY_PATTERN))]
Period = Annotated[str, Meta(max_length=72, pattern=whole(LINE_PATTERN))]


class BoardTop(Request, tag="board.top", frozen=True):
    """The first of a board, or a page of it."""

    metric: Metric
    mode: ModeOrAll = "all"
    period: Period = "all"
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    cursor: Annotated[str, Meta(max_length=96, pattern=whole(LINE_PATTERN))] = ""
    """The `next` of the page before; empty for the first page."""


class BoardAround(Request, tag="board.around", frozen=True):
    """The place of `player` and its neighbours, `count` rows with it; 1: its place only."""

    metric: Metric
    player: Key
    mode: ModeOrAll = "all"
    period: Period = "all"
    count: Annotated[int, Meta(ge=1, le=50)] = 11


class BoardFriends(Request, tag="board.friends", frozen=True):
    """The own place and those of the own friends, best first, at most `limit`."""

    metric: Metric
    mode: ModeOrAll = "all"
    period: Period = "all"
    limit: Annotated[int, Meta(ge=1, le=100)] = 100


class BoardRow(msgspec.Struct, array_like=True, frozen=True):
    """A player's row. Places count from 1; of players with equal points the one whose name comes first is before."""

    place: int
    player: str
    points: int


class Board(Reply, tag="board", frozen=True):
    """Rows of a board in order. `total` counts all its players; `next` is the cursor of the next page, None where this
    is the last, or none of pages. The points of `rating` are thousandths of mu less three sigma."""

    rows: list[BoardRow]
    total: int
    next: str | None = None


REQUESTS: tuple[type[Request], ...] = (BoardTop, BoardAround, BoardFriends)
ANSWERS: tuple[type[Reply], ...] = (Board,)
