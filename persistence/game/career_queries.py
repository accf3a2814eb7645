"""Store queries of careers and ratings, and of results that wait to be told."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from sqlalchemy import ColumnElement, Select, Table, and_, case, func, not_, select, true

from game.careers.messages import MAX_LINES, MAX_MEDALS
from persistence.engine.queries import StoreQuery
from persistence.game.tables import career_medals, career_totals, careers, matches, participants, players, ratings

LINE_COLUMNS: Final = tuple(column.name for column in career_totals.c if column.name != "player_id")


class RatingsAsked(msgspec.Struct, frozen=True):
    rating_group: str
    players: Annotated[list[str], Meta(max_length=1_000)]


def stored_ratings(given: RatingsAsked) -> Select[Any]:
    """The ratings of `players` that have one, in millionths."""
    c = ratings.c
    stored = select(c.player_id.label("player"), c.mu, c.log_sigma)
    return stored.where(c.rating_group == given.rating_group, c.player_id.in_(given.players))


class CareerAsked(msgspec.Struct, frozen=True):
    """`mode` and `season`: None for all."""

    player: str
    mode: str | None = None
    season: str | None = None


def _of(given: CareerAsked, table: Table) -> ColumnElement[bool]:
    asked = {"mode": given.mode, "season": given.season}
    return and_(true(), *(table.c[name] == value for name, value in asked.items() if value is not None))


def _with_version(given: CareerAsked, table: Table, *columns: Any) -> Select[Any]:
    """The player's rows of `table`, each with the version of the player that it goes with; that alone in one row, where
    there are none."""
    p = players.c
    joined = players.outerjoin(table, and_(table.c.player_id == p.player_id, _of(given, table)))
    return select(p.state_version.label("version"), *columns).select_from(joined).where(p.player_id == given.player)


def career_lines(given: CareerAsked) -> Select[Any]:
    """Totals by mode and season, the newest seasons first, with streaks of matches won: the longest, and the one that
    the newest match is part of."""
    c = careers.c
    order, parts = [c.birth, c.match_id], [c.mode, c.season]
    place = func.row_number().over(partition_by=parts, order_by=order)
    alike = func.row_number().over(partition_by=[*parts, c.won], order_by=order)
    numbered = (
        select(*parts, c.won, place.label("place"), (place - alike).label("island"))
        .where(c.player_id == given.player, _of(given, careers))
        .subquery()
    )
    n = numbered.c
    islands = (
        select(n.mode, n.season, func.count().label("length"), func.max(n.place).label("last"))
        .where(n.won)
        .group_by(n.mode, n.season, n.island)
        .subquery()
    )
    newest = select(n.mode, n.season, func.max(n.place).label("last")).group_by(n.mode, n.season).subquery()
    i, e = islands.c, newest.c
    now = func.max(case((i.last == e.last, i.length), else_=0))
    streaks = (
        select(i.mode, i.season, func.max(i.length).label("best"), now.label("now"))
        .select_from(islands.join(newest, and_(i.mode == e.mode, i.season == e.season)))
        .group_by(i.mode, i.season)
        .subquery()
    )
    p, t, s = players.c, career_totals.c, streaks.c
    columns = [t[name] for name in LINE_COLUMNS]
    more = [func.coalesce(s.now, 0).label("win_streak"), func.coalesce(s.best, 0).label("best_win_streak")]
    joined = players.outerjoin(career_totals, and_(t.player_id == p.player_id, _of(given, career_totals)))
    joined = joined.outerjoin(streaks, and_(s.mode == t.mode, s.season == t.season))
    stored = select(p.state_version.label("version"), *columns, *more).select_from(joined)
    return stored.where(p.player_id == given.player).order_by(t.season.desc(), t.mode)


def career_named(given: CareerAsked) -> Select[Any]:
    """Medals by name, mode and season; `matches` is there where a row is one."""
    c = career_medals.c
    found = _with_version(given, career_medals, c.mode, c.season, c.medal, c.earned, c.earned.label("matches"))
    return found.order_by(c.season.desc(), c.mode, c.earned.desc(), c.medal)


def career_ratings(given: CareerAsked) -> Select[Any]:
    """The player's ratings, in millionths."""
    p, c = players.c, ratings.c
    joined = players.outerjoin(ratings, c.player_id == p.player_id)
    columns = (p.state_version.label("version"), c.rating_group, c.mu, c.log_sigma, c.matches)
    return select(*columns).select_from(joined).where(p.player_id == given.player).order_by(c.rating_group)


class Waiting(msgspec.Struct, frozen=True):
    """`since`: the first name; empty: from the first of all."""

    since: str = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


def waiting_results(given: Waiting) -> Select[Any]:
    """Participants of matches that are over who have not stored their result: their nodes or rows cannot be reached,
    or it ended a moment ago. By the names of matches, then of players."""
    m, p, c = matches.c, participants.c, careers.c
    counted = select(c.birth).where(c.player_id == p.player_id, c.match_id == m.match_id, c.birth == m.created_wall_ms)
    return (
        select(
            m.match_id.label("match"), p.player_id.label("player"), m.mode, m.ended_wall_ms, p.kills, p.deaths, p.score,
            m.owner_node.label("node"),
        )
        .select_from(matches.join(participants, p.match_id == m.match_id))
        .where(m.open_facts, m.phase == "ended", m.match_id >= given.since, not_(counted.exists()))
        .order_by(m.match_id, p.player_id)
    )  # fmt: skip


QUERIES: Final = {
    "ratings": StoreQuery(RatingsAsked, stored_ratings),
    "career_lines": StoreQuery(CareerAsked, career_lines, max_rows=MAX_LINES),
    "career_medals": StoreQuery(CareerAsked, career_named, max_rows=MAX_MEDALS),
    "career_ratings": StoreQuery(CareerAsked, career_ratings, max_rows=100),
    "waiting_results": StoreQuery(Waiting, waiting_results, max_rows=500),
}
