"""`PlayerState` and tables `players` and `careers`."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import json
from msgspec.structs import astuple, replace
from sqlalchemy import Table

from game.careers.events import Gain
from game.party.place import NO_PARTY, InParty
from game.places import Membership
from game.player.state import PlayerState, SettledMatch
from game.saved_commands import SavedCommands
from persistence.engine.mapping import Additions, Children, Columns, Over, Totals
from persistence.game import tables
from persistence.game.careers import CAREER_TOTALS
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
    erased: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Recent).decode
_NOTHING: Final = _Recent()


def _recent(state: PlayerState) -> bytes | None:
    kept = _Recent(*[getattr(state, name) for name in _Recent.__struct_fields__])
    if any(done.gain is not None for done in state.settled):  # rows of its own, in the same transaction
        kept = replace(kept, settled=tuple(replace(done, gain=None) for done in state.settled))
    return None if kept == _NOTHING else _encode(kept)


def _without_nul(column: Sequence[Any]) -> Sequence[Any]:
    return [text.replace("\0", "") for text in column] if "\0" in "".join(column) else column


_GAINS: Final = tuple(name for name in Gain.__struct_fields__ if name != "names")
_gain = attrgetter(*_GAINS)
_NO_GAIN: Final = Gain()


def _gains(gain: Gain) -> tuple[Any, ...]:
    """The columns of a result, the names of medals last; PostgreSQL takes no NUL in them."""
    names = {name.replace("\0", ""): count for name, count in gain.names.items()}
    return (*_gain(gain), json.encode(names).decode())


class CareerRows:
    """Rows of table `careers`: a result is counted and its row is there, or neither. Each that is new is added to the
    totals of its player, mode and season, and to its rating."""

    table: Table = tables.careers
    columns: tuple[str, ...] = ("player_id", "match_id", "birth", "ended_wall_ms", *_GAINS, "medal_names")
    current: bool = False
    totals: tuple[Totals, ...] = CAREER_TOTALS

    def encode(self, keys: Sequence[str], stored: Sequence[int], states: Sequence[Any]) -> Columns:
        rows = [
            (key, done.match, done.birth, done.ended_wall_ms, *_gains(done.gain or _NO_GAIN))
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
    kept: tuple[str, ...] = ()
    live: str | None = None
    here: str | None = tables.PLAYER_HERE
    over: Over | None = None
    goes: bool = False

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
