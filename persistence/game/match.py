"""`MatchState` and tables `matches` and `participants`: the projection of a match's log.

It is written, never read back into a state: an activation loads the log.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Table

from game.match.state import Line, MatchState
from persistence.engine.mapping import Additions, Children, Columns
from persistence.game import tables

_STATE_FIELDS: Final = (
    "host",
    "phase",
    "time_ms",
    "created_wall_ms",
    "started_wall_ms",
    "ended_wall_ms",
    "end_reason",
    "winner",
)
_OPTION_FIELDS: Final = (
    "mode",
    "map_name",
    "teams",
    "max_players",
    "score_limit",
    "time_limit_ms",
    "join_in_progress",
    "countdown_ms",
)
_MAP_NAME: Final = len(_STATE_FIELDS) + 1
_GETTERS: Final = [attrgetter(name) for name in _STATE_FIELDS] + [
    attrgetter(f"options.{name}") for name in _OPTION_FIELDS
]
_LINE_FIELDS: Final = tuple(name for name in Line.__struct_fields__ if name != "member")


class ParticipantRows:
    """Rows of table `participants`, one for each player of a match."""

    table: Table = tables.participants
    columns: tuple[str, ...] = _LINE_FIELDS

    def encode(self, keys: Sequence[str], seqs: Sequence[int], states: Sequence[Any], stored: Sequence[Any]) -> Columns:
        rows = [
            (key, player, seq, *astuple(state.players[player])[: len(_LINE_FIELDS)])
            for key, seq, state, before in zip(keys, seqs, states, stored, strict=True)
            for player in sorted(state.players if before is None else state.players.changes_since(before.players))
        ]
        return [list(column) for column in zip(*rows, strict=True)] if rows else []


class MatchMapping:
    """Row of table `matches`, one for each match."""

    state_type: type[msgspec.Struct] = MatchState
    table: Table = tables.matches
    key: str = "match_id"
    kind: str | None = None
    columns: tuple[str, ...] = (*_STATE_FIELDS, *_OPTION_FIELDS, "team_scores")
    children: Children | None = ParticipantRows()
    additions: Additions | None = None
    live: str | None = tables.LIVE_MATCH
    here: str | None = None

    def encode(self, states: Sequence[Any]) -> Columns:
        columns: Columns = [list(map(get, states)) for get in _GETTERS]
        columns[_MAP_NAME] = [name.replace("\0", "") for name in columns[_MAP_NAME]]  # PostgreSQL takes no NUL
        columns.append([msgspec.json.encode(state.team_scores).decode() for state in states])
        return columns

    def decode(self, values: Sequence[Any]) -> None:
        """Nothing: the log is the state."""

    def final(self, state: Any) -> bool:
        return bool(state.phase == "ended")
