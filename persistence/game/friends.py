"""`FriendsState` and tables `friends` and `friendships`.

The state is read from the row of `friends` alone; `friendships` has what its list shows, for whoever asks with SQL.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, Table, and_, select

from game.friends.state import FriendsState
from persistence.engine.mapping import Additions, ColumnMapping, Columns, Totals
from persistence.engine.queries import StoreQuery
from persistence.game import tables
from persistence.game.tables import careers, matches, participants

MET_MATCHES: Final = 20
"""Newest matches in which players count as met lately."""


class FriendshipRows:
    """Rows of table `friendships`, one for each entry of a list: those whose state has changed are written."""

    table: Table = tables.friendships
    columns: tuple[str, ...] = ("player_id", "other_id", "state", "since_ms")
    current: bool = True
    totals: tuple[Totals, ...] = ()

    def encode(self, keys: Sequence[str], stored: Sequence[int], states: Sequence[Any]) -> Columns:
        rows = [row for each in zip(keys, stored, states, strict=True) for row in _changed(*each)]
        return [list(column) for column in zip(*rows, strict=True)]


def _changed(key: str, stored: int, state: FriendsState) -> list[tuple[str, str, str, int, bool]]:
    """The rows of a state that are not in the store with version `stored`."""
    rows: list[tuple[str, str, str, int, bool]] = [
        (key, other, link.state, link.since_ms, link.state == "none")
        for other, link in state.links.items()
        if link.version > stored
    ]
    return rows + [(key, pair.player, "none", 0, True) for pair in state.dropped if pair.version > stored]


class FriendsMapping(ColumnMapping):
    """Row of table `friends`, one for each player that has ever had a friend, an invite or a block."""

    additions: Additions | None = FriendshipRows()


FRIENDS: Final = FriendsMapping(FriendsState, tables.friends)


class Met(msgspec.Struct, frozen=True):
    player: str


def recent_players(given: Met) -> Select[Any]:
    """The others in the newest matches of `player` that are over and counted, the newest first: a row for each player
    and match. A match is among them once its result is in the player's totals."""
    c = careers.c
    newest = (
        select(c.match_id, c.birth, c.ended_wall_ms)
        .where(c.player_id == given.player)
        .order_by(c.ended_wall_ms.desc())
        .limit(MET_MATCHES)
        .subquery()
    )
    return (
        select(
            participants.c.player_id.label("player"),
            newest.c.match_id.label("match"),
            newest.c.ended_wall_ms.label("ended_ms"),
        )
        .join_from(
            newest, matches, and_(matches.c.match_id == newest.c.match_id, matches.c.created_wall_ms == newest.c.birth)
        )
        .join(participants, participants.c.match_id == newest.c.match_id)
        .where(participants.c.player_id != given.player)
        .order_by(newest.c.ended_wall_ms.desc(), newest.c.match_id, participants.c.player_id)
    )


QUERIES: Final[Mapping[str, StoreQuery]] = {"recent_players": StoreQuery(Met, recent_players, max_rows=1_000)}
