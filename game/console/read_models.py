"""Read models of live matches and of players: for the dashboard, and for clients that list matches. They run on
every node over its own activations; the answers of all nodes are put together elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from game.history import live
from game.match import board
from game.match.describing import as_told
from game.match.events import (
    HostChanged,
    Kicked,
    RoundEnded,
)
from game.match.guests import entry_of
from game.match.hidden import present
from game.match.state import MatchState
from game.messages import (
    Assist,
    Death,
    Ended,
    Joined,
    Kill,
    Left,
    MatchEvent,
    MatchRow,
    Medal,
    Objective,
    PartyJoined,
    Score,
)
from game.player import pictures
from server.actors.app import LocalActors, ReadModel
from server.actors.context import ActorLog
from server.errors import BadInput

FEED_EVENTS: Final = 200
"""How far back, in events of the log, the feed of one match looks: the first of these that is
in memory as a whole."""
FEED_ROWS: Final = 40
LEADERS: Final = 4
BOARD_ROWS: Final = 200
"""Players on the page of one match: the first of the scoreboard."""
RANKED: Final = 8 * board.SLICE
"""Lines of a large match that a read model puts in order at most: it never waits for the rest."""
MAX_MATCHES: Final = 500
_event = msgspec.msgpack.Decoder(MatchEvent)


class Leader(msgspec.Struct, frozen=True):
    """A line of a short scoreboard."""

    player: str
    team: int | None
    kills: int
    deaths: int
    assists: int
    score: int


class Happening(msgspec.Struct, frozen=True):
    """A line of the kill feed. `victim` is the other player, `detail` a medal, objective or
    reason, `points` what it was worth."""

    seq: int
    time_ms: int
    what: str
    player: str = ""
    victim: str = ""
    detail: str = ""
    points: int = 0


def live_matches(actors: LocalActors, params: Mapping[str, Any]) -> list[Any]:
    """A mapping for each match that has not ended, newest first by when it was made, at most `limit` (default and
    bound 500), those after `cursor` if there is one: the fields of `MatchRow`, and `leaders`, the best of its
    scoreboard, if `leaders` is 1. With `public` of 1 private matches are left out, unless their options list them.
    With `outside` of 1 players who are invisible do not count, and a match with a delay is as its onlookers may know
    it, which is for a while after it has ended. Raises `BadInput`.
    Filters are those of `game.history.live.wanted`; where it has looked at many matches and found too few that fit, the
    last row is the place, `until`, as far as it has looked."""
    limit, with_leaders = min(_count(params, "limit", MAX_MATCHES), MAX_MATCHES), _count(params, "leaders", 0) > 0
    outside = _count(params, "outside", 0) > 0
    public, filters = _count(params, "public", 0) > 0, live.wanted(params)
    place = after(params.get("cursor", ""))
    if not public and filters is live.ALL:
        return [_row(actor, with_leaders, outside) for actor in actors.listed("match", place, limit)]
    found: list[Any] = []
    looked_at = 0
    while len(found) < limit:
        page = actors.listed("match", place, limit)
        found += [actor for actor in page if _is_wanted(actor.state, public, filters)]
        looked_at += len(page)
        if len(page) < limit:
            break
        place = (-page[-1].state.created_wall_ms, page[-1].key)
        if looked_at >= live.LOOKED_AT and len(found) < limit:
            rows: list[Any] = [_row(actor, with_leaders, outside) for actor in found]
            return [*rows, {"until": list(place)}]
    return [_row(actor, with_leaders, outside) for actor in found[:limit]]


def _is_wanted(state: MatchState, public: bool, filters: live.Wanted) -> bool:
    entry = entry_of(state)
    return (entry.listed or not entry.private or not public) and filters.fits(state)


def match_board(actors: LocalActors, params: Mapping[str, Any]) -> list[Any]:
    """Match `match`, if it is in memory here: one mapping with the fields of `Scoreboard`, plus
    `node`, `team_count` and `feed`, its newest `Happening`s, newest first. Raises `BadInput`."""
    key = params.get("match")
    if not isinstance(key, str) or not key:
        raise BadInput("match_board needs the parameter match")
    actor = actors.find("match", key)
    return [_board(actor)] if actor is not None and actor.state.host else []


def player_here(actors: LocalActors, params: Mapping[str, Any]) -> list[Any]:
    """Player `player`, if it is in memory here: one mapping with the fields of `PlayerPicture` as the player itself
    sees them, `party`, `party_size` and `party_room`, and `node`. Raises `BadInput`."""
    key = params.get("player")
    if not isinstance(key, str) or not key:
        raise BadInput("player_here needs the parameter player")
    actor = actors.find("player", key)
    return [_here(actor)] if actor is not None else []


def _here(actor: Any) -> dict[str, Any]:
    party = actor.shown_party()
    picture = pictures.for_operator(actor.state, actor.said, actor.shown_devices(), party)
    out: dict[str, Any] = _plain(picture)
    size, room = (party.size, party.room) if party is not None else (0, 0)
    return out | {"party": actor.state.in_party.party, "party_size": size, "party_room": room, "node": actor.node}


def _plain(value: Any) -> Any:
    """Fields by name, where the wire has arrays."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(inner) for name, inner in msgspec.structs.asdict(value).items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def cursor_of(row: MatchRow) -> str:
    """The place of a row in the list of live matches, which stays where it is as long as the match lives."""
    return f"{row.created_wall_ms}/{row.match}"


def place_cursor(place: Sequence[Any]) -> str:
    """The cursor of a place in that list: an order and a name."""
    return f"{-place[0]}/{place[1]}"


def after(cursor: object) -> tuple[int, str] | None:
    """The sort key after which a page begins; None for the first page. Raises `BadInput`."""
    if cursor == "":
        return None
    wall_ms, slash, match = str(cursor).partition("/")
    if not slash or not wall_ms.isascii() or not wall_ms.isdigit() or len(wall_ms) > 16:
        raise BadInput("cursor is the next of another page")
    return -int(wall_ms), match


def _row(actor: Any, with_leaders: bool, outside: bool) -> dict[str, Any]:
    state: MatchState = actor.outside() if outside else actor.state
    clock_ms = 0 if state is not actor.state else actor.clock_ms
    properties, tags = as_told(state)
    row = MatchRow(
        match=actor.key,
        phase=state.phase,
        mode=state.options.mode,
        map_name=state.options.map_name,
        players=present(state, actor.hidden.players) if outside else state.players.present,
        team_scores=list(state.team_scores),
        time_ms=max(state.time_ms, clock_ms),
        started_wall_ms=state.started_wall_ms,
        node=actor.node,
        created_wall_ms=state.created_wall_ms,
        private=entry_of(state).private,
        properties=properties,
        tags=tags,
    )
    out = msgspec.structs.asdict(row)
    out["properties"] = msgspec.to_builtins(properties)
    if with_leaders:
        out["leaders"] = [
            msgspec.to_builtins(Leader(line.player, line.team, line.kills, line.deaths, line.assists, line.score))
            for line in board.best(state, LEADERS, actor.ranked(RANKED, outside))
        ]
    return out


def _board(actor: Any) -> dict[str, Any]:
    state: MatchState = actor.state
    log = actor.context.log()
    page = board.Page(BOARD_ROWS)
    found = board.scoreboard(state, actor.key, 0, log.durable_seq, actor.clock_ms, page, actor.ranked(RANKED))
    out = msgspec.structs.asdict(found)
    del out["id"]
    out["players"] = [msgspec.structs.asdict(line) | {"name": _name(state, line.player)} for line in found.players]
    feed = [line for seq, data in _recent(log) if (line := happening(seq, _event.decode(data))) is not None]
    out["feed"] = [msgspec.structs.asdict(line) for line in reversed(feed[-FEED_ROWS:])]
    return out | {"node": actor.node, "team_count": state.options.teams}


def _name(state: MatchState, player: str) -> str:
    """The display name that a match's log has of a player, empty where it has none."""
    name = state.players[player].name
    return "" if name is UNSET else name


def _recent(log: ActorLog) -> list[tuple[int, bytes]]:
    """The newest durable events that are in memory, numbered. What would have to be read from
    the store is left out: a read model never waits."""
    batch = log.recent(FEED_EVENTS)
    return list(enumerate(batch.events, batch.first_seq))


def happening(seq: int, event: MatchEvent) -> Happening | None:
    """An event as a line of the feed; None for what is none."""
    time_ms = event.time_ms
    match event:
        case Kill(player=player, victim=victim):
            return Happening(seq, time_ms, "kill", player, victim or "")
        case Death(player=player):
            return Happening(seq, time_ms, "death", player)
        case Assist(player=player):
            return Happening(seq, time_ms, "assist", player)
        case Medal(player=player, medal=medal):
            return Happening(seq, time_ms, "medal", player, detail=medal)
        case Objective(player=player, name=name, points=points):
            return Happening(seq, time_ms, "objective", player, detail=name, points=points)
        case Score(player=scorer, team=team, points=points):
            return Happening(seq, time_ms, "score", scorer or f"team {team}", points=points)
        case Joined(player=player):
            return Happening(seq, time_ms, "joined", player)
        case PartyJoined(members=members):
            names = ", ".join(place.player for place in members)
            return Happening(seq, time_ms, "joined", names, detail="together")
        case Kicked(player=player, reason=reason):
            return Happening(seq, time_ms, "kicked", player, detail=reason)
        case HostChanged(host=host, reason=reason):
            return Happening(seq, time_ms, "host", host, detail=reason)
        case Left(player=player, reason=reason):
            return Happening(seq, time_ms, "left", player, detail=reason)
        case RoundEnded(number=number, winner=winner):
            return Happening(seq, time_ms, "round", winner or "", detail=str(number))
        case Ended(reason=reason, winner=winner):
            return Happening(seq, time_ms, "ended", winner or "", detail=reason)
        case _:
            return None


def _count(params: Mapping[str, Any], name: str, default: int) -> int:
    """A whole number, also as text (from a query string). Raises `BadInput`."""
    given = params.get(name, default)
    try:
        value = int(given)
    except (TypeError, ValueError):
        raise BadInput(f"{name} must be a whole number") from None
    if value < 0:
        raise BadInput(f"{name} must not be negative")
    return value


READ_MODELS: Final[Mapping[str, ReadModel]] = {
    "live_matches": live_matches,
    "match_board": match_board,
    "player_here": player_here,
}

__all__ = ["READ_MODELS", "Happening", "Leader", "happening", "live_matches", "match_board", "player_here"]
