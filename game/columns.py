"""Tables of columns of the game: durable events of matches, how players showed themselves, and who is here now. Pure.

kills per map per minute: SELECT map_name, count(*) FROM events WHERE event = 'kill' GROUP BY map_name
"""

from functools import cache
from typing import Any, Final, get_args

import msgspec

from game.match.actor import Match
from game.match.guests import entry_of
from game.match.hosting import player_of
from game.messages import MatchEvent
from game.player.actor import Player
from server.actors.recorded import RecordedEvents, RecordedSnapshot, RecordedStates, Values
from server.columns.tables import SavedQuestion, schema

EVENTS: Final = schema(
    "events",
    match="text",
    map_name="text",
    mode="text",
    event="text",
    player="text",
    other="text",
    detail="text",
    seq="u32",
    clock_ms="u32",
    points="i32",
)
"""Events of matches. `player` did it, `other` had it done to them (of a kill: who died); `detail`: medal, objective
or reason. `clock_ms`: the match clock."""

_DETAILS: Final = ("medal", "name", "reason")
"""Fields of events of which the first that is there is the row's detail."""

PRESENCE: Final = schema("presence", player="text", status="text", before="text")
"""Changes of players' statuses: now, and before."""

MATCHES_NOW: Final = schema(
    "matches_now",
    match="text",
    map_name="text",
    mode="text",
    phase="text",
    host="text",
    players="u32",
    max_players="u32",
    score="i32",
    private="u8",
    clock_ms="u32",
    since_s="u32",
)
"""Matches that live now. `host`: of a dedicated host its name, or `player`; `players`: those in it; `score`: of the
best team; `since_s`: seconds since it was created."""

PLAYERS_NOW: Final = schema(
    "players_now",
    player="text",
    status="text",
    match="text",
    party="text",
    sessions="u8",
    client="text",
    device="text",
    since_s="u32",
)
"""Players that a node has in memory now, those who have just gone among them (`status` offline). `client` and `device`
are those of its newest session, `since_s` the seconds since its oldest one began."""


def event_row(match: str, seq: int, event: Any, state: Any) -> Values:
    """The row of a match's event, in the order of `EVENTS`."""
    tag, has_player, has_victim, has_points, details = _shape(event.__class__)
    options, detail = state.options, ""
    for name in details:
        if text := getattr(event, name):
            detail = str(text)
            break
    return (
        match,
        options.map_name,
        options.mode,
        tag,
        (event.player or "") if has_player else "",
        (event.victim or "") if has_victim else "",
        detail,
        seq,
        event.time_ms,
        event.points if has_points else 0,
    )


@cache
def _shape(event_type: type[msgspec.Struct]) -> tuple[str, bool, bool, bool, tuple[str, ...]]:
    """The tag of an event, which of the columns it has, and the fields of its detail."""
    fields = event_type.__struct_fields__
    has_player, has_victim, has_points = (name in fields for name in ("player", "victim", "points"))
    details = tuple(name for name in _DETAILS if name in fields)
    return str(event_type.__struct_config__.tag), has_player, has_victim, has_points, details


def presence_row(player: str, before: Any, after: Any) -> Values | None:
    """The row of a player's new status, in the order of `PRESENCE`; None where it has not changed."""
    return None if before.status == after.status else (player, after.status, before.status)


def match_now_row(match: str, _actor: Any, state: Any, now_ms: int) -> Values | None:
    """The row of a match, in the order of `MATCHES_NOW`; None for one that was never created."""
    if not state.host:
        return None
    options = state.options
    return (
        match,
        options.map_name,
        options.mode,
        state.phase,
        state.host if player_of(state.host) is None else "player",
        state.players.present,
        options.max_players,
        max(state.team_scores, default=0),
        entry_of(state).private,
        state.time_ms,
        max(0, now_ms - state.created_wall_ms) // 1000,
    )


def player_now_row(player: str, actor: Any, state: Any, _now_ms: int) -> Values | None:
    """The row of a player, in the order of `PLAYERS_NOW`; None for one that is being erased."""
    if state.erased:
        return None
    devices = list(actor.here.values())
    client = device = ""
    since_s = 0
    if devices:
        login = devices[-1].login
        client, device = login.client, login.kind
        since_s = int(actor.now() - min(each.since for each in devices))
    return (player, state.status, state.match, state.in_party.party, len(devices), client, device, since_s)


QUESTIONS: Final = (
    SavedQuestion(
        "Matches and players by map, now",
        "SELECT map_name, phase, count(*) AS matches, sum(players) AS players\nFROM matches_now\n"
        "GROUP BY map_name, phase\nORDER BY players DESC",
        "bars",
    ),
    SavedQuestion(
        "Players by status, now",
        "SELECT status, client, count(*) AS players\nFROM players_now\nGROUP BY status, client\nORDER BY players DESC",
    ),
    SavedQuestion(
        "Kills per map per minute",
        "SELECT time_bucket(INTERVAL 1 MINUTE, time) AS minute, map_name, count(*) AS kills\nFROM events\n"
        "WHERE event = 'kill'\nGROUP BY minute, map_name\nORDER BY minute",
        "areas",
    ),
    SavedQuestion(
        "Top killers",
        "SELECT player, count(*) AS kills\nFROM events\nWHERE event = 'kill'\nGROUP BY player\n"
        "ORDER BY kills DESC\nLIMIT 20",
        "bars",
    ),
    SavedQuestion(
        "Medals",
        "SELECT detail, count(*) AS medals FROM events WHERE event = 'medal' GROUP BY detail ORDER BY medals DESC",
        "bars",
    ),
)


def told_ms(event: Any) -> int:
    """The Unix time of an event that says it; 0 for the others, which have the match clock only."""
    return event.wall_ms if type(event) in _TOLD else 0


_TOLD: Final = frozenset(each for each in get_args(MatchEvent) if "wall_ms" in each.__struct_fields__)


RECORDED: Final = (
    RecordedEvents(Match, EVENTS, event_row, ("match", "seq"), told_ms),
    RecordedStates(Player, PRESENCE, presence_row),
    RecordedSnapshot(Match, MATCHES_NOW, match_now_row),
    RecordedSnapshot(Player, PLAYERS_NOW, player_now_row),
)
