"""The stretches of time that a leaderboard counts: all, a season, a week, a day. Pure.

A result counts for the stretches that hold its match's end, `ended_wall_ms`, which is in its log: so a board that is
made again counts as the one before did, whatever the clocks of the nodes say. Days are UTC's, weeks begin on Monday
(ISO 8601); both are named by their first day. A season is a result's own, by its match's beginning.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from server.errors import BadInput

DAY_MS: Final = 86_400_000
FOREVER_MS: Final = 2**53


class Span(NamedTuple):
    """From `from_ms` on, and before `to_ms`; Unix time."""

    from_ms: int
    to_ms: int


def span(period: str) -> Span:
    """The stretch of `all`, `week:DATE` or `day:DATE`. Raises `BadInput` for any other name."""
    if period == "all":
        return Span(0, FOREVER_MS)
    kind, _, date = period.partition(":")
    days = {"week": 7, "day": 1}.get(kind)
    try:
        first = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        days = None
        first = datetime.min
    if days is None or first.strftime("%Y-%m-%d") != date or first.year < 1970:
        raise BadInput(f"{period} is no period: all, season:NAME, week:YYYY-MM-DD (a Monday) or day:YYYY-MM-DD")
    if days == 7 and first.weekday() != 0:
        monday = first - timedelta(days=first.weekday())
        raise BadInput(f"{period} is no Monday; its week is week:{monday:%Y-%m-%d}")
    from_ms = int(first.timestamp()) * 1000
    return Span(from_ms, from_ms + days * DAY_MS)
