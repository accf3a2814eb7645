"""`MatchState` and tables `matches` and `participants`: the projection of a match's log.

It is written, never read back into a state: an activation loads the log.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Table

from game.match.describing import properties_of, tags_of
from game.match.events import PropertyValue
from game.match.state import Line, MatchState
from game.modes.registry import version_of
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
_LINE_FIELDS: Final = tuple(name for name in Line.__struct_fields__ if name not in ("member", "name", "local"))


class ParticipantRows:
    """Rows of table `participants`, one for each player of a match."""

    table: Table = tables.participants
    columns: tuple[str, ...] = _LINE_FIELDS

    def is_whole(self, _state: Any, stored: Any) -> bool:
        return stored is None  # a line stays for good

    def encode(self, keys: Sequence[str], seqs: Sequence[int], states: Sequence[Any], stored: Sequence[Any]) -> Columns:
        rows = [
            (key, player, seq, *astuple(state.players[player])[: len(_LINE_FIELDS)])
            for key, seq, state, before in zip(keys, seqs, states, stored, strict=True)
            for player in sorted(state.players if before is None else state.players.changes_since(before.players))
        ]
        return [list(column) for column in zip(*rows, strict=True)] if rows else []


class PropertyRows:
    """Rows of table `match_properties`, one for each property. `number` is that of a whole number; `value` says all."""

    table: Table = tables.match_properties
    columns: tuple[str, ...] = ("value", "number")

    def is_whole(self, state: Any, stored: Any) -> bool:
        return stored is None or state.properties is not stored.properties

    def encode(self, keys: Sequence[str], seqs: Sequence[int], states: Sequence[Any], stored: Sequence[Any]) -> Columns:
        rows = [
            (key, name, seq, _text(value), value if type(value) is int else None)
            for key, seq, state, before in zip(keys, seqs, states, stored, strict=True)
            if self.is_whole(state, before)
            for name, value in sorted(properties_of(state).items())
        ]
        return [list(column) for column in zip(*rows, strict=True)] if rows else []


class TagRows:
    """Rows of table `match_tags`, one for each tag."""

    table: Table = tables.match_tags
    columns: tuple[str, ...] = ()

    def is_whole(self, state: Any, stored: Any) -> bool:
        return stored is None or state.tags is not stored.tags

    def encode(self, keys: Sequence[str], seqs: Sequence[int], states: Sequence[Any], stored: Sequence[Any]) -> Columns:
        rows = [
            (key, tag, seq)
            for key, seq, state, before in zip(keys, seqs, states, stored, strict=True)
            if self.is_whole(state, before)
            for tag in sorted(tags_of(state))
        ]
        return [list(column) for column in zip(*rows, strict=True)] if rows else []


def _text(value: PropertyValue) -> str:
    """A property's value as SQL sees it: `true` and `false`, digits, or the text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class MatchMapping:
    """Row of table `matches`, one for each match."""

    state_type: type[msgspec.Struct] = MatchState
    table: Table = tables.matches
    key: str = "match_id"
    kind: str | None = None
    columns: tuple[str, ...] = (*_STATE_FIELDS, *_OPTION_FIELDS, "team_scores", "rules")
    children: tuple[Children, ...] = (ParticipantRows(), PropertyRows(), TagRows())
    additions: Additions | None = None
    live: str | None = tables.LIVE_MATCH
    here: str | None = None

    def encode(self, states: Sequence[Any]) -> Columns:
        columns: Columns = [list(map(get, states)) for get in _GETTERS]
        columns[_MAP_NAME] = [name.replace("\0", "") for name in columns[_MAP_NAME]]  # PostgreSQL takes no NUL
        columns.append([msgspec.json.encode(state.team_scores).decode() for state in states])
        columns.append([version_of(state) for state in states])
        return columns

    def decode(self, values: Sequence[Any]) -> None:
        """Nothing: the log is the state."""

    def final(self, state: Any) -> bool:
        return bool(state.phase == "ended")
