"""`PlayerState` and tables `players` and `careers`."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Table

from game.party.place import NO_PARTY, InParty
from game.places import Membership
from game.player.state import PlayerState, SettledMatch
from game.saved_commands import SavedCommands
from persistence.engine.mapping import Additions, Children, Columns
from persistence.game import tables
from server.actors.facts import NEVER, Stamp

_FIELDS: Final = (
    "display_name",
    "emblem",
    "status",
    "chosen",
    "last_seen_ms",
    "match",
    "matches",
    "wins",
    "kills",
    "deaths",
    "assists",
    "medals",
)
_CLIENT_TEXTS: Final = 2
"""The first columns are what a player wrote: PostgreSQL refuses a NUL in text, and one name with
a NUL must not keep a whole batch from being stored."""
_PLACES: Final = [PlayerState.__struct_fields__.index(name) for name in _FIELDS]


class _Recent(msgspec.Struct, array_like=True, frozen=True):
    """Contents of column `recent`; the array grows only at the end."""

    answered: dict[str, SavedCommands] = {}
    settled: tuple[SettledMatch, ...] = ()
    settled_floor_ms: int = 0
    birth: int = 0
    member: int = 0
    leaving: tuple[Membership, ...] = ()
    gone: tuple[Membership, ...] = ()
    standing_number: Stamp = NEVER
    banned_until_ms: int = 0
    ban_reason: str = ""
    muted_until_ms: int = 0
    tokens_from_ms: int = 0
    relations: int = 0
    in_party: InParty = NO_PARTY


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Recent).decode
_NOTHING: Final = _Recent()


def _recent(state: PlayerState) -> bytes | None:
    kept = _Recent(*[getattr(state, name) for name in _Recent.__struct_fields__])
    return None if kept == _NOTHING else _encode(kept)


def _without_nul(column: Sequence[Any]) -> Sequence[Any]:
    return [text.replace("\0", "") for text in column] if "\0" in "".join(column) else column


class CareerRows:
    """Rows of table `careers`: a result is counted and its row is there, or neither."""

    table: Table = tables.careers
    columns: tuple[str, ...] = ("player_id", "match_id", "birth", "ended_wall_ms")
    current: bool = False

    def encode(self, keys: Sequence[str], stored: Sequence[int], states: Sequence[Any]) -> Columns:
        rows = [
            (key, done.match, done.birth, done.ended_wall_ms)
            for key, version, state in zip(keys, stored, states, strict=True)
            for done in state.settled
            if done.version > version
        ]
        return [list(column) for column in zip(*rows, strict=True)]


class PlayerMapping:
    """Row of table `players`, one for each player."""

    state_type: type[msgspec.Struct] = PlayerState
    table: Table = tables.players
    key: str = "player_id"
    kind: str | None = None
    columns: tuple[str, ...] = (
        *("current_match" if name == "match" else name for name in _FIELDS),
        "recent",
        "current_party",
    )
    children: tuple[Children, ...] = ()
    additions: Additions | None = CareerRows()
    live: str | None = None
    here: str | None = tables.PLAYER_HERE

    def encode(self, states: Sequence[Any]) -> Columns:
        whole = list(zip(*map(astuple, states), strict=True))
        columns: Columns = [list(whole[place]) for place in _PLACES] if whole else [[] for _ in _PLACES]
        columns[:_CLIENT_TEXTS] = [_without_nul(column) for column in columns[:_CLIENT_TEXTS]]
        columns.append(list(map(_recent, states)))
        columns.append([state.in_party.party for state in states])
        return columns

    def decode(self, values: Sequence[Any]) -> PlayerState:
        packed = values[len(_FIELDS)]
        recent = _NOTHING if packed is None else _decode(packed)
        fields = dict(zip(_FIELDS, values, strict=False))
        fields |= {name: getattr(recent, name) for name in _Recent.__struct_fields__}
        return msgspec.convert(fields, PlayerState)

    def final(self, state: Any) -> bool:
        return False
