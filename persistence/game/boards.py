"""The store queries of leaderboards: sums a player, in the order of players' names, a page after another.

Each takes `players`: only those, where it is not empty. A board is read whole once (`game/boards/actor.py`), and then
only the rows of players whose results have changed.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import ColumnElement, Select, case, func, select

from persistence.engine.queries import StoreQuery
from persistence.game.tables import career_totals, careers, ratings

PAGE_ROWS: Final = 5_000
Sum = Literal["kills", "wins", "matches", "assists", "medals"]
Names = Annotated[list[str], Meta(max_length=1_000)]


class PageAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a mode's board (`all`: of every mode): players after `after`."""

    mode: str
    after: str = ""
    players: Names = []
    limit: Annotated[int, Meta(ge=1, le=PAGE_ROWS)] = 1_000


class TotalsAsked(PageAsked, frozen=True, kw_only=True):
    """`metric`: a column of sums; `season`: only that one, empty for all."""

    metric: Sum
    season: str = ""


class ResultsAsked(PageAsked, frozen=True, kw_only=True):
    """`metric`: what is summed up of matches that ended from `from_ms` on and before `to_ms`."""

    metric: Sum
    from_ms: int
    to_ms: int


def board_totals(given: TotalsAsked) -> Select[Any]:
    """A row a player with its `points`, from the sums that careers have."""
    c = career_totals.c
    wanted = _sums(given, c, func.sum(c[given.metric]))
    return wanted.where(c.season == given.season) if given.season else wanted


def board_results(given: ResultsAsked) -> Select[Any]:
    """A row a player with its `points`, from its results in that time."""
    c = careers.c
    sums = {"matches": func.count(), "wins": func.sum(case((c.won, 1), else_=0))}
    points = sums.get(given.metric)
    wanted = _sums(given, c, func.sum(c[given.metric]) if points is None else points)
    return wanted.where(c.ended_wall_ms >= given.from_ms, c.ended_wall_ms < given.to_ms, c.mode != "")


def board_ratings(given: PageAsked) -> Select[Any]:
    """A row a player that has a rating in the group of that name, with `mu` and `log_sigma`."""
    c = ratings.c
    wanted = select(c.player_id.label("player"), c.mu, c.log_sigma)
    return _page(given, c, wanted.where(c.rating_group == given.mode))


def _sums(given: PageAsked, c: Any, points: ColumnElement[Any]) -> Select[Any]:
    wanted = select(c.player_id.label("player"), points.label("points")).group_by(c.player_id)
    return _page(given, c, wanted if given.mode == "all" else wanted.where(c.mode == given.mode))


def _page(given: PageAsked, c: Any, wanted: Select[Any]) -> Select[Any]:
    wanted = wanted.where(c.player_id > given.after)
    if given.players:
        wanted = wanted.where(c.player_id.in_(given.players))
    return wanted.order_by(c.player_id)


QUERIES: Final[Mapping[str, StoreQuery]] = {
    "board_totals": StoreQuery(TotalsAsked, board_totals, max_rows=PAGE_ROWS),
    "board_results": StoreQuery(ResultsAsked, board_results, max_rows=PAGE_ROWS),
    "board_ratings": StoreQuery(PageAsked, board_ratings, max_rows=PAGE_ROWS),
}
