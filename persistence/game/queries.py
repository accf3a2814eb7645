"""The game's named store queries: stored matches and their players, players seen last; `game.app.App` names them.

A match's row is the projection of its log: of a live match it may be a moment behind.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from sqlalchemy import Select, and_, func, literal, or_, select, text

from persistence.engine.queries import StoreQuery
from persistence.game import boards, career_queries, friends, history, moderation, recount_queries
from persistence.game.tables import LIVE_OR_OPEN, careers, friendships, matches, participants, parties, players
from persistence.game.tables import friends as friends_table


class MatchList(msgspec.Struct, frozen=True):
    """`phase`: only matches that are in it."""

    limit: int = 20
    phase: str | None = None


class MatchName(msgspec.Struct, frozen=True):
    match: str


def stored_matches(given: MatchList) -> Select[Any]:
    """The newest matches first, a row each: the fields of `game.commands.stored.StoredMatch`."""
    c = matches.c
    players = (
        select(func.count()).select_from(participants).where(participants.c.match_id == c.match_id).scalar_subquery()
    )
    wanted = select(
        c.match_id.label("match"),
        c.phase,
        c.mode,
        c.map_name,
        c.host,
        players.label("players"),
        c.team_scores,
        c.time_ms,
        c.created_wall_ms,
        c.ended_wall_ms,
        c.end_reason,
        c.winner,
        (c.next_seq - 1).label("events"),
        c.pinned,
    ).where(c.next_seq > 1)
    if given.phase is not None:
        wanted = wanted.where(c.phase == given.phase)
    return wanted.order_by(c.created_wall_ms.desc(), c.match_id)


def match_players(given: MatchName) -> Select[Any]:
    """The participants of a match, best score first, then most kills: their totals, and their names, as another game's
    log has them or as they are displayed."""
    c, p = participants.c, players.c
    return (
        select(
            c.player_id.label("player"),
            func.coalesce(func.nullif(c.name, ""), p.display_name, "").label("name"),
            c.team,
            c.present,
            c.kills,
            c.deaths,
            c.assists,
            c.medals,
            c.objectives,
            c.score,
        )
        .select_from(participants.outerjoin(players, p.player_id == c.player_id))
        .where(c.match_id == given.match)
        .order_by(c.score.desc(), c.kills.desc(), c.player_id)
    )


class Hosted(msgspec.Struct, frozen=True):
    host: str
    limit: int = 100


def hosted_matches(given: Hosted) -> Select[Any]:
    """Matches of a host that are not over, by their rows."""
    c = matches.c
    living = and_(text(f"({LIVE_OR_OPEN})"), c.phase != "ended")  # the condition of the index
    return select(c.match_id.label("match")).where(living, c.host == given.host)


class Career(msgspec.Struct, frozen=True):
    """A result of `player`; `birth` is 0 where a match of an earlier version tells it."""

    player: str
    match: str
    birth: int
    ended_wall_ms: int


def career(given: Career) -> Select[Any]:
    """A row if the result is in the player's totals."""
    c = careers.c
    unnamed = and_(literal(given.birth) == 0, c.ended_wall_ms == given.ended_wall_ms)
    this = or_(c.birth == given.birth, unnamed)
    return select(c.birth).where(c.player_id == given.player, c.match_id == given.match, this)


class Keys(msgspec.Struct, frozen=True):
    keys: list[str]


def last_seen(given: Keys) -> Select[Any]:
    """A row for each of `keys` that was ever here: the status that is stored of the player, and when it was seen last.
    An index lookup each: a player's name is the table's key."""
    c = players.c
    stored = select(c.player_id.label("key"), c.status, c.last_seen_ms)
    return stored.where(c.player_id.in_(given.keys), c.state_version > 0)


def stored_relations(given: Keys) -> Select[Any]:
    """A row for each of `keys` that ever had a friend, an invite or a block: what `game.friends.stored` reads of it. An
    index lookup each."""
    c = friends_table.c
    stored = select(c.player_id.label("key"), c.relations, c.links)
    return stored.where(c.player_id.in_(given.keys), c.state_version > 0)


class PartyCode(msgspec.Struct, frozen=True):
    """`code`: as it is stored, without dashes."""

    code: str


def party_of_code(given: PartyCode) -> Select[Any]:
    """The party that has that code: its name."""
    c = parties.c
    return select(c.party_id.label("party")).where(c.code == given.code, c.code != "").order_by(c.party_id)


class PlayersAsked(msgspec.Struct, frozen=True):
    """`since`: the first name; empty: from the first of all. `limit`: players at most."""

    since: str = ""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


def stored_players(given: PlayersAsked) -> Select[Any]:
    """Players by name, as their rows say. A match and a party are empty for none; `friends` are counted."""
    c, f = players.c, friendships.c
    count = select(func.count()).where(f.player_id == c.player_id, f.state == "friend").scalar_subquery()
    stored = select(
        c.player_id.label("player"), c.display_name, c.status, c.last_seen_ms, c.current_match.label("match"),
        c.current_party.label("party"), count.label("friends"),
    )  # fmt: skip
    return stored.where(c.state_version > 0, c.player_id >= given.since).order_by(c.player_id).limit(given.limit)


QUERIES: Final[Mapping[str, StoreQuery]] = {
    "stored_matches": StoreQuery(MatchList, stored_matches, max_rows=10_000),
    "last_seen": StoreQuery(Keys, last_seen, by_keys=True),
    "stored_relations": StoreQuery(Keys, stored_relations, by_keys=True),
    "hosted_matches": StoreQuery(Hosted, hosted_matches, max_rows=100),
    "career": StoreQuery(Career, career, max_rows=1),
    "party_of_code": StoreQuery(PartyCode, party_of_code, max_rows=1),
    "stored_players": StoreQuery(PlayersAsked, stored_players, max_rows=200),
    "match_players": StoreQuery(MatchName, match_players),
    **career_queries.QUERIES,
    **moderation.QUERIES,
    **friends.QUERIES,
    **boards.QUERIES,
    **history.QUERIES,
    **recount_queries.QUERIES,
}
