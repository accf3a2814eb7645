"""`PartyState` and tables `parties` and `party_members`."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Table

from game.party.rules import is_due
from game.party.state import PartyState
from persistence.engine.mapping import Additions, ColumnMapping, Columns, Totals
from persistence.game import tables


class MemberRows:
    """Rows of table `party_members`: each membership that was ever stored, written with the party that has it."""

    table: Table = tables.party_members
    columns: tuple[str, ...] = ("party_id", "number", "player_id", "joined_wall_ms")
    current: bool = False
    totals: tuple[Totals, ...] = ()

    def encode(self, keys: Sequence[str], stored: Sequence[int], states: Sequence[Any]) -> Columns:
        rows = [
            (key, member.number, player, member.joined_wall_ms)
            for key, version, state in zip(keys, stored, states, strict=True)
            for player, member in state.members.items()
            if member.since > version
        ]
        return [list(column) for column in zip(*rows, strict=True)]


def _player_ids(state: PartyState) -> str:
    return msgspec.json.encode(sorted(state.members)).decode()


class PartyMapping(ColumnMapping):
    """Row of table `parties`, one for each party."""

    additions: Additions | None = MemberRows()
    goes: bool = True

    def __init__(self) -> None:
        computed = {"size": lambda state: len(state.members), "player_ids": _player_ids, "is_due": is_due}
        super().__init__(PartyState, tables.parties, here=tables.PARTY_HERE, computed=computed)
