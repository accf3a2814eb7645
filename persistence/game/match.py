"""`MatchState` and tables `matches` and `participants`: the projection of a match's log.

It is written, never read back into a state: an activation loads the log.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import UNSET
from msgspec.structs import astuple
from sqlalchemy import Table

from game.match import endings
from game.match.describing import number_of, properties_of, tags_of, text_of
from game.match.guests import entry_of
from game.match.spectating import is_public
from game.match.state import Line, MatchState
from game.modes.registry import version_of
from persistence.engine.mapping import Additions, Children, Columns, Over
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
_MORE: Final = ("team_scores", "rules", "private", "listed", "delayed", "source", "player_count", "counts")
_GETTERS: Final = [attrgetter(name) for name in _STATE_FIELDS] + [
    attrgetter(f"options.{name}") for name in _OPTION_FIELDS
]
_LINE_FIELDS: Final = tuple(name for name in Line.__struct_fields__ if name not in ("member", "name", "local"))


def _ends(state: Any, stored: Any) -> bool:
    """Whether the match has ended since `stored`: then every row of it learns when."""
    return bool(state.ended_wall_ms != stored.ended_wall_ms)


class ParticipantRows:
    """Rows of table `participants`, one for each player of a match."""

    table: Table = tables.participants
    columns: tuple[str, ...] = (*_LINE_FIELDS, "ended_wall_ms", "result", "name")

    def is_whole(self, state: Any, stored: Any) -> bool:
        return stored is None or _ends(state, stored)  # a line stays for good

    def encode(self, keys: Sequence[str], seqs: Sequence[int], states: Sequence[Any], stored: Sequence[Any]) -> Columns:
        rows = [
            (
                key,
                player,
                seq,
                *astuple(line)[: len(_LINE_FIELDS)],
                state.ended_wall_ms,
                endings.result_of(state, player),
                "" if line.name is UNSET else line.name,
            )
            for key, seq, state, before in zip(keys, seqs, states, stored, strict=True)
            for player in sorted(
                state.players if self.is_whole(state, before) else state.players.changes_since(before.players)
            )
            for line in (state.players[player],)
        ]
        return [list(column) for column in zip(*rows, strict=True)] if rows else []


class PropertyRows:
    """Rows of table `match_properties`, one for each property. `number` is that of a whole number; `value` says all."""

    table: Table = tables.match_properties
    columns: tuple[str, ...] = ("value", "number", "ended_wall_ms")

    def is_whole(self, state: Any, stored: Any) -> bool:
        return stored is None or state.properties is not stored.properties or _ends(state, stored)

    def encode(self, keys: Sequence[str], seqs: Sequence[int], states: Sequence[Any], stored: Sequence[Any]) -> Columns:
        rows = [
            (key, name, seq, text_of(value), number_of(value), state.ended_wall_ms)
            for key, seq, state, before in zip(keys, seqs, states, stored, strict=True)
            if self.is_whole(state, before)
            for name, value in sorted(properties_of(state).items())
        ]
        return [list(column) for column in zip(*rows, strict=True)] if rows else []


class TagRows:
    """Rows of table `match_tags`, one for each tag."""

    table: Table = tables.match_tags
    columns: tuple[str, ...] = ("ended_wall_ms",)

    def is_whole(self, state: Any, stored: Any) -> bool:
        return stored is None or state.tags is not stored.tags or _ends(state, stored)

    def encode(self, keys: Sequence[str], seqs: Sequence[int], states: Sequence[Any], stored: Sequence[Any]) -> Columns:
        rows = [
            (key, tag, seq, state.ended_wall_ms)
            for key, seq, state, before in zip(keys, seqs, states, stored, strict=True)
            if self.is_whole(state, before)
            for tag in sorted(tags_of(state))
        ]
        return [list(column) for column in zip(*rows, strict=True)] if rows else []


class MatchMapping:
    """Row of table `matches`, one for each match."""

    state_type: type[msgspec.Struct] = MatchState
    table: Table = tables.matches
    key: str = "match_id"
    kind: str | None = None
    columns: tuple[str, ...] = (*_STATE_FIELDS, *_OPTION_FIELDS, *_MORE)
    children: tuple[Children, ...] = (ParticipantRows(), PropertyRows(), TagRows())
    additions: Additions | None = None
    kept: tuple[str, ...] = ("source", "counts")
    live: str | None = tables.LIVE_MATCH
    here: str | None = None
    over: Over | None = Over(tables.MATCH_OVER, "ended_wall_ms", "pinned")
    goes: bool = False

    def encode(self, states: Sequence[Any]) -> Columns:
        columns: Columns = [list(map(get, states)) for get in _GETTERS]
        columns[_MAP_NAME] = [name.replace("\0", "") for name in columns[_MAP_NAME]]  # PostgreSQL takes no NUL
        columns.append([msgspec.json.encode(state.team_scores).decode() for state in states])
        columns.append([version_of(state) for state in states])
        columns.append([entry_of(state).private for state in states])
        columns.append([entry_of(state).listed for state in states])
        columns.append([not is_public(state) for state in states])
        columns.append(["" if state.origin is UNSET else state.origin.source for state in states])
        columns.append([len(state.players) for state in states])
        columns.append([state.origin is UNSET or state.origin.counts for state in states])
        return columns

    def decode(self, values: Sequence[Any]) -> None:
        """Nothing: the log is the state."""

    def final(self, state: Any) -> bool:
        return bool(state.phase == "ended")
