"""The store queries of matches that are over: a page of the history, newest first, and one match whole.

A page walks one index backwards, from the place where the page before ended: that of the table which says most of what
is asked for, a player, else a tag, a property, the map, the mode, or all. What else is asked for is looked up for each
match on the way, by a primary key. So a page costs by what is passed over, whatever the table has.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    TextClause,
    and_,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    text,
    true,
    tuple_,
)

from persistence.engine.functions import Together
from persistence.engine.queries import StoreQuery
from persistence.engine.tables import redactions
from persistence.game.tables import IMPORTED, careers, match_properties, match_tags, matches, participants, players

PAGE_ROWS: Final = 101
LINES: Final = 500
OF_PLAYER: Final = ("team", "result", "kills", "deaths", "assists", "medals", "objectives", "score")
_OF_MATCH: Final = (
    "mode", "map_name", "source", "created_wall_ms", "started_wall_ms", "ended_wall_ms", "time_ms", "end_reason",
    "winner", "team_scores", "player_count",
)  # fmt: skip
_OF_PAGE: Final = (
    "phase", "rules", "host", "teams", "max_players", "score_limit", "time_limit_ms", "join_in_progress",
    "countdown_ms", "private", "listed", "delayed", "next_seq", "head", "pinned",
)  # fmt: skip


class PropertyWanted(msgspec.Struct, frozen=True):
    """A property as its row has it: `number` of a whole number."""

    name: str
    value: str
    number: int | None = None


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """`viewer`: the player who asks, empty for a host, whose name as a host is `viewer_host`; None: it may see all."""

    viewer: str | None = None
    viewer_host: str = ""


class HistoryAsked(Viewer, frozen=True, kw_only=True):
    """Matches that ended from `from_ms` on and before `to_ms` (0: no bound); empty texts, and None: whichever.
    `opponent` and `result` go with `player`. `end_ms` and `end_match`: the last of the page before."""

    player: str = ""
    opponent: str = ""
    mode: str = ""
    map_name: str = ""
    properties: Annotated[list[PropertyWanted], Meta(max_length=16)] = []
    tags: Annotated[list[str], Meta(max_length=16)] = []
    result: Literal["won", "lost", "tied"] | None = None
    from_ms: int = 0
    to_ms: int = 0
    imported: bool | None = None
    end_ms: int = 0
    end_match: str = ""
    limit: int = 20


class OnePageAsked(Viewer, frozen=True, kw_only=True):
    """`skip`: lines of players that the pages before had."""

    match: str
    skip: Annotated[int, Meta(ge=0, le=2**31)] = 0
    limit: Annotated[int, Meta(ge=1, le=LINES)] = 200


def match_history(given: HistoryAsked) -> Select[Any]:
    """A row a match. Where a mode or properties are asked for, `known` says of each whether any match has it, and one
    row without a match says that of no matches."""
    page = match_page_of(given)
    asked = [select(literal(1)).where(matches.c.mode == given.mode)] if given.mode else []
    asked += [select(literal(1)).where(match_properties.c.name == wanted.name) for wanted in given.properties]
    if not asked:
        return page
    known = select(*(exists(each).label(f"known_{number}") for number, each in enumerate(asked))).subquery("known")
    found = page.limit(min(given.limit, PAGE_ROWS)).subquery("page")
    both = select(*known.c, *found.c).select_from(known.outerjoin(found, true()))
    return both.order_by(found.c.ended_wall_ms.desc(), found.c.match.desc())


def match_page_of(given: HistoryAsked) -> Select[Any]:
    """The matches themselves, by one index."""
    m, p = matches.c, participants.c
    driver, source, conditions = _walked(given)
    place = (driver.c.ended_wall_ms, driver.c.match_id)
    conditions += [driver.c.ended_wall_ms >= max(1, given.from_ms)]
    if given.to_ms:
        conditions.append(driver.c.ended_wall_ms < given.to_ms)
    if given.end_match:
        conditions.append(tuple_(*place) < tuple_(literal(given.end_ms), literal(given.end_match)))
    if given.imported is not None:
        conditions.append(text(f"matches.{IMPORTED}") if given.imported else m.source == "")
    columns = [m.match_id.label("match"), *(m[name] for name in _OF_MATCH), *_described()]
    if given.player:
        columns += [p[name].label(f"own_{name}") for name in OF_PLAYER]
    wanted = select(*columns).select_from(source).where(*conditions, _seen(given))
    return wanted.order_by(*(column.desc() for column in place))


def _walked(given: HistoryAsked) -> tuple[FromClause, FromClause, list[ColumnElement[bool] | TextClause]]:
    """The table whose index is walked, what it is joined to, and the conditions of all filters but those of time."""
    m, p = matches.c, participants.c
    conditions: list[ColumnElement[bool] | TextClause] = []
    properties, tags = list(given.properties), list(given.tags)
    driver: FromClause = matches
    if given.player:
        driver = participants
        conditions.append(p.player_id == given.player)
    elif tags:
        driver = match_tags
        conditions.append(match_tags.c.tag == tags.pop(0))
    elif properties:
        driver = match_properties
        conditions.append(_is(match_properties, properties.pop(0)))
    source = driver if driver is matches else driver.join(matches, m.match_id == driver.c.match_id)
    if given.opponent:
        conditions.append(_opposed(given.opponent) if given.player else false())
    if given.result is not None:
        conditions.append(p.result == given.result if given.player else false())
    if given.map_name:
        conditions.append(m.map_name == given.map_name)
    if given.mode:
        conditions.append(m.mode == given.mode)
    for wanted in properties:
        other = match_properties.alias()
        conditions.append(exists().where(other.c.match_id == m.match_id, _is(other, wanted)))
    for tag in tags:
        tagged = match_tags.alias()
        conditions.append(exists().where(tagged.c.match_id == m.match_id, tagged.c.tag == tag))
    return driver, source, conditions


def _is(table: FromClause, wanted: PropertyWanted) -> ColumnElement[bool]:
    c = table.c
    if wanted.number is not None:
        return and_(c.name == wanted.name, c.number == wanted.number)
    return and_(c.name == wanted.name, c.value == wanted.value, c.number.is_(None))


def _opposed(opponent: str) -> ColumnElement[bool]:
    """Whether that player was in the match too, on another side where there are sides."""
    p, other = participants.c, participants.alias()
    elsewhere = or_(p.team.is_(None), other.c.team.is_(None), other.c.team != p.team)
    return exists().where(other.c.match_id == p.match_id, other.c.player_id == opponent, elsewhere)


def _seen(given: HistoryAsked) -> ColumnElement[bool]:
    """The matches that the asking one may see: those that it took part in or was the host of, and by their options; who
    was not in it to the end hears of one with a spectators' delay after that."""
    m, me = matches.c, participants.alias()
    if given.viewer is None:
        return true()
    took_part = exists().where(me.c.match_id == m.match_id, me.c.player_id == given.viewer)
    now = or_(m.delayed.is_(False), took_part.where(me.c.present))
    return or_(m.host == given.viewer_host, and_(now, or_(m.private.is_(False), m.listed, took_part)))


def _described() -> list[ColumnElement[Any]]:
    """The properties and the tags of a match, as columns."""
    m, p, t = matches.c, match_properties.alias().c, match_tags.alias().c
    properties = select(Together(p.name, p.value, p.number)).where(p.match_id == m.match_id).scalar_subquery()
    tags = select(Together(t.tag)).where(t.match_id == m.match_id).scalar_subquery()
    return [properties.label("properties"), tags.label("tags")]


def match_page(given: OnePageAsked) -> Select[Any]:
    """The match, with a row for each of its players, best score first, then most kills; one without a player where it
    has none. `sees_all`: the asking one is an operator, a service or the host; `is_part` and `is_present` are of the
    player who asks."""
    m, p, c, me = matches.c, participants.c, careers.c, participants.alias().c
    mine = (me.match_id == m.match_id, me.player_id == (given.viewer or ""))
    columns: list[ColumnElement[Any]] = [
        m.match_id.label("match"), *(m[name] for name in (*_OF_MATCH, *_OF_PAGE)), *_described(),
        (true() if given.viewer is None else m.host == given.viewer_host).label("sees_all"),
        exists().where(*mine).label("is_part"), exists().where(*mine, me.present).label("is_present"),
        _redacted().label("redacted"),
        p.player_id.label("player"), p.name.label("logged_name"), players.c.display_name,
        p.present, *(p[name] for name in OF_PLAYER), c.season, c.rating_group, c.best_streak, c.played_ms,
        c.medal_names, c.mu, c.log_sigma,
    ]  # fmt: skip
    source = (
        matches.outerjoin(participants, p.match_id == m.match_id)
        .outerjoin(careers, and_(c.player_id == p.player_id, c.match_id == m.match_id, c.birth == m.created_wall_ms))
        .outerjoin(players, players.c.player_id == p.player_id)
    )
    order = (p.score.desc(), p.kills.desc(), p.player_id)
    wanted = select(*columns).select_from(source).where(m.match_id == given.match, m.next_seq > 1)
    return wanted.order_by(*order).offset(given.skip)


def _redacted() -> ColumnElement[Any]:
    """How often the match's log was redacted."""
    r = redactions.c
    return select(func.count()).where(r.kind == "match", r.key == matches.c.match_id).scalar_subquery()


QUERIES: Final[Mapping[str, StoreQuery]] = {
    "match_history": StoreQuery(HistoryAsked, match_history, max_rows=PAGE_ROWS),
    "match_page": StoreQuery(OnePageAsked, match_page, max_rows=LINES),
}
