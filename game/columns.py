"""Tables of columns of the game: durable events of matches, and how players showed themselves. Pure.

kills per map per minute: SELECT map_name, count(*) FROM events WHERE event = 'kill' GROUP BY map_name
"""

from typing import Any, Final

from game.match.actor import Match
from game.player.actor import Player
from server.actors.recorded import RecordedEvents, RecordedStates, Values
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


def event_row(match: str, seq: int, event: Any, state: Any) -> Values:
    """The row of a match's event, in the order of `EVENTS`."""
    tag = str(event.__struct_config__.tag)
    other = getattr(event, "victim", None) or ""
    detail = next((text for name in _DETAILS if (text := getattr(event, name, None))), "")
    player, points = getattr(event, "player", None) or "", getattr(event, "points", 0)
    return (
        match,
        state.options.map_name,
        state.options.mode,
        tag,
        player,
        other,
        str(detail),
        seq,
        event.time_ms,
        points,
    )


def presence_row(player: str, before: Any, after: Any) -> Values | None:
    """The row of a player's new status, in the order of `PRESENCE`; None where it has not changed."""
    return None if before.status == after.status else (player, after.status, before.status)


QUESTIONS: Final = (
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

RECORDED: Final = (RecordedEvents(Match, EVENTS, event_row), RecordedStates(Player, PRESENCE, presence_row))
