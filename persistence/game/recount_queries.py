"""Store queries of `garrison stats rebuild`: stored matches that are over, and careers, a page after another.

Each is a statement of its own and so sees one moment of the store: rows of `careers` and the sums that were written
with them are both in it, or neither is. So it may run while the cluster lives. Pages are by names: nothing is skipped
or read twice, whatever comes and goes meanwhile.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Subquery,
    and_,
    case,
    cast,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from game.careers.events import Gain
from game.careers.ratings import FIRST
from game.careers.recount import COUNTS, CareerRow, Sums, SumsPage
from persistence.engine.queries import StoreQuery
from persistence.game.tables import career_medals, career_totals, careers, matches, participants, players, ratings

MAX_SUMS: Final = 200_000
"""Rows of sums that are read at a time; a page that has more is read in two."""
MAX_PAIRS: Final = 500
_GAIN: Final = tuple(name for name in Gain.__struct_fields__ if name != "names")


# ---- matches and rows -----------------------------------------------------------------------------------------------


class MatchesAsked(msgspec.Struct, frozen=True):
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 500


def recount_matches(given: MatchesAsked) -> Select[Any]:
    """Matches that are over, by name: whether all of their results are told, and whether they count for careers."""
    c = matches.c
    stored = select(
        c.match_id.label("match"), c.created_wall_ms.label("birth"), not_(c.open_facts).label("told"), c.counts
    )
    return stored.where(c.match_id > given.after, c.phase == "ended", c.next_seq > 1).order_by(c.match_id)


class RowsAsked(msgspec.Struct, frozen=True):
    """`pairs` of player and match."""

    pairs: Annotated[list[tuple[str, str]], Meta(max_length=MAX_PAIRS)]


def _row_columns() -> list[Any]:
    c = careers.c
    first = [c.player_id.label("player"), c.match_id.label("match"), c.birth, c.ended_wall_ms]
    return [*first, *(c[name] for name in _GAIN), c.medal_names.label("names")]


def recount_rows(given: RowsAsked) -> Select[Any]:
    """The rows of `careers` of those players and matches, of whatever birth. By the primary key, each."""
    c = careers.c
    return select(*_row_columns()).where(tuple_(c.player_id, c.match_id).in_(given.pairs))


def row_of(row: Mapping[str, Any]) -> CareerRow:
    """A row of these queries."""
    gain = Gain(**{name: row[name] for name in _GAIN}, names=row["names"])
    return CareerRow(row["player"], row["match"], row["birth"], row["ended_wall_ms"], gain)


class PlayersAsked(msgspec.Struct, frozen=True):
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 200


def recount_players(given: PlayersAsked) -> Select[Any]:
    """Names of players that have a row."""
    c = players.c
    return select(c.player_id.label("player")).where(c.player_id > given.after).order_by(c.player_id)


class NamesAsked(msgspec.Struct, frozen=True):
    """Names after `after`, up to `upto`; empty: without an end."""

    after: str = ""
    upto: str = ""


def _among(column: Any, given: NamesAsked) -> ColumnElement[bool]:
    within = and_(true(), column > given.after)
    return and_(within, column <= given.upto) if given.upto else within


def _with_ground() -> Any:
    """Rows of `careers` beside their match, their place in it, and their player."""
    c, m, p = careers.c, matches.c, participants.c
    joined = careers.outerjoin(matches, and_(m.match_id == c.match_id, m.created_wall_ms == c.birth, m.next_seq > 1))
    joined = joined.outerjoin(participants, and_(p.match_id == c.match_id, p.player_id == c.player_id))
    return joined.outerjoin(players, players.c.player_id == c.player_id)


def recount_groundless(given: NamesAsked) -> Select[Any]:
    """Rows of matches that are not over, or that their player was not in, and rows of players who have none."""
    c, m = careers.c, matches.c
    elsewhere = and_(m.match_id.is_not(None), or_(m.phase != "ended", participants.c.player_id.is_(None)))
    wanted = select(*_row_columns()).select_from(_with_ground())
    wanted = wanted.where(_among(c.player_id, given), or_(elsewhere, players.c.player_id.is_(None)))
    return wanted.order_by(c.player_id, c.match_id, c.birth)


def recount_gone(given: NamesAsked) -> Select[Any]:
    """Matches that are gone, and whose rows have stayed: how many rows, and the first and last names."""
    c, m = careers.c, matches.c
    names = (func.count().label("rows"), func.min(c.match_id).label("first"), func.max(c.match_id).label("last"))
    wanted: Any = select(*names).select_from(_with_ground())
    found: Select[Any] = wanted.where(
        _among(c.player_id, given), m.match_id.is_(None), players.c.player_id.is_not(None)
    )
    return found


# ---- sums -----------------------------------------------------------------------------------------------------------


class JsonEach(FunctionElement[Any]):
    """The entries of a JSON object as rows of `key` and `value`, which is text on PostgreSQL."""

    inherit_cache = True
    name = "json_each"


@compiles(JsonEach)
def _json_each(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(JsonEach, "postgresql")
def _jsonb_each_text(element: Any, compiler: Any, **options: Any) -> str:
    return f"jsonb_each_text({compiler.process(element.clauses, **options)})"


NUMBERS: Final = 9
_NOTHING: Any = literal_column("''")


def _side(table: str, c: Any, texts: Iterable[Any], numbers: Iterable[Any]) -> Select[Any]:
    """A part of a page: the table's name, up to four texts of a key, the player first, and numbers."""
    keys = [c.player_id, *texts]
    keys += [_NOTHING] * (4 - len(keys))
    counts: list[Any] = [cast(number, BigInteger) for number in numbers]
    counts += [literal_column("0")] * (NUMBERS - len(counts))
    labels = [key.label(f"k{place}") for place, key in enumerate(keys)]
    return select(
        literal_column(f"'{table}'").label("part"), *labels, *(count.label(f"n{n}") for n, count in enumerate(counts))
    )


def recount_page(given: NamesAsked) -> Select[Any]:
    """All sums of a page of players, as they are stored and as rows of `careers` make them, of one moment."""
    t, m, r, p, c = career_totals.c, career_medals.c, ratings.c, players.c, careers.c
    numbers = [t[name] for name in (*COUNTS, "played_ms", "best_streak", "best_kills")]
    each = JsonEach(c.medal_names).table_valued("key", "value").alias("named")
    rating = [FIRST.mu + func.sum(c.mu), FIRST.log_sigma + func.sum(c.log_sigma), func.count()]
    told = c.mode != ""
    parts = [
        _side("totals", t, [t.mode, t.season, t.best_match], numbers).where(t.mode != ""),
        _side("older", t, [t.mode, t.season], numbers[: len(COUNTS)]).where(t.mode == ""),
        _side("medals", m, [m.mode, m.season, m.medal], [m.earned]),
        _side("ratings", r, [r.rating_group], [r.mu, r.log_sigma, r.matches]),
        _side("players", p, [], [p[name] for name in COUNTS]),
        _of_rows(given),
        _side("medals due", c, [c.mode, c.season, each.c.key], [func.sum(cast(each.c.value, BigInteger))])
        .select_from(careers.join(each, true()))
        .where(told)
        .group_by(c.player_id, c.mode, c.season, each.c.key),
        _side("ratings due", c, [c.rating_group], rating)
        .where(told, c.rating_group != "")
        .group_by(c.player_id, c.rating_group),
    ]  # fmt: skip
    tables = (t, t, m, r, p, None, c, c)
    bounded = [
        part if table is None else part.where(_among(table.player_id, given))
        for part, table in zip(parts, tables, strict=True)
    ]
    page = union_all(*bounded).subquery("page")
    return select(page)


def _of_rows(given: NamesAsked) -> Select[Any]:
    """Careers as sums over rows, with the match of most kills."""
    c = careers.c
    parts = [c.player_id, c.mode, c.season]
    place = func.row_number().over(partition_by=parts, order_by=[c.kills.desc(), c.match_id])
    wanted = [*parts, c.match_id, c.won, c.kills, c.deaths, c.assists, c.medals, c.played_ms, c.best_streak]
    rows: Subquery = (
        select(*wanted, place.label("place")).where(_among(c.player_id, given), c.mode != "").subquery("placed")
    )
    o = rows.c
    won = func.sum(case((o.won, 1), else_=0))
    counts = [func.count(), won, *(func.sum(o[name]) for name in ("kills", "deaths", "assists", "medals", "played_ms"))]
    best = func.max(case((o.place == 1, o.match_id)))
    numbers = [*counts, func.max(o.best_streak), func.max(o.kills)]
    return _side("totals due", o, [o.mode, o.season, best], numbers).group_by(o.player_id, o.mode, o.season)


def page_of(rows: Iterable[Mapping[str, Any]]) -> SumsPage:
    """The sums that the rows of `recount_page` say."""
    page = SumsPage(Sums(), Sums(), {}, {})
    stored, due = page.stored, page.due
    parts = {
        "totals": stored.totals, "medals": stored.medals, "ratings": stored.ratings, "players": page.players,
        "older": page.older, "totals due": due.totals, "medals due": due.medals, "ratings due": due.ratings,
    }  # fmt: skip
    for row in rows:
        numbers = [row[f"n{place}"] for place in range(NUMBERS)]
        key, values = _entry(row["part"].removesuffix(" due"), row, numbers)
        parts[row["part"]][key] = values
    return page


def _entry(part: str, row: Mapping[str, Any], numbers: list[int]) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    key: tuple[str, ...] = (row["k0"], row["k1"], row["k2"])
    if part == "totals":
        return key, (*numbers, row["k3"])
    if part == "medals":
        return (*key, row["k3"]), (numbers[0],)
    if part == "ratings":
        return key[:2], tuple(numbers[:3])
    return (key[:1] if part == "players" else key), tuple(numbers[: len(COUNTS)])


QUERIES: Final[Mapping[str, StoreQuery]] = {
    "recount_matches": StoreQuery(MatchesAsked, recount_matches, max_rows=500),
    "recount_rows": StoreQuery(RowsAsked, recount_rows, max_rows=100_000),
    "recount_players": StoreQuery(PlayersAsked, recount_players, max_rows=1_000),
    "recount_groundless": StoreQuery(NamesAsked, recount_groundless, max_rows=100_000),
    "recount_gone": StoreQuery(NamesAsked, recount_gone, max_rows=1),
    "recount_page": StoreQuery(NamesAsked, recount_page, max_rows=MAX_SUMS),
}
