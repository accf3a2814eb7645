"""The rows of runs on SQLite: incarnations, leases, generations, burials.

Statements in the name of a run say the generation of the process that sends them (`server/liveness/ports.py`): after a
succession those of the process before it change nothing.
"""

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, Final

from persistence.engine.rows import NO_COUNTER
from persistence.engine.sqlite import SqliteFile
from persistence.engine.statements import NEWEST_RUN, SQLITE_NOW
from persistence.engine.tables import INCARNATION, LIVING
from server.errors import Corrupt
from server.ids import Incarnation, NodeAddress, NodeId
from server.liveness.majority import holds_majority
from server.liveness.ports import Estate, NodeRow

_BURY_RUNS = (
    "UPDATE nodes SET state = 'dead' WHERE node_id = ? AND state <> 'dead' "
    f"AND (state = 'left' OR lease_until IS NULL OR lease_until <= {SQLITE_NOW})"
)
_LIVE_RUN = f"SELECT max(lease_until) - {SQLITE_NOW} FROM nodes WHERE node_id = ? AND state IN ('up', 'evicting')"
# The counter alone decides; rows that were put there in another way are not below it.
_ISSUE = (
    "UPDATE counters SET value = 1 + max(value, (SELECT coalesce(max(incarnation), 0) FROM nodes)) "
    f"WHERE name = '{INCARNATION}' RETURNING value"
)
_REGISTER = (
    "INSERT INTO nodes (node_id, incarnation, state, lease_until, journal, database) "
    f"VALUES (?, ?, 'up', {SQLITE_NOW} + ?, ?, (SELECT uuid FROM database_identity))"
)
_RENEW = (
    f"UPDATE nodes SET lease_until = {SQLITE_NOW} + ? "
    "WHERE node_id = ? AND incarnation = ? AND state = 'up' AND generation = ?"
)
# lease, journal, generation, heir, node, incarnation
_SUCCEED = (
    f"UPDATE nodes SET lease_until = {SQLITE_NOW} + ?1, journal = ?2, generation = ?3, heir = ?4 "
    "WHERE node_id = ?5 AND incarnation = ?6 AND state = 'up' "
    "AND (generation = ?3 - 1 OR (generation = ?3 AND heir = ?4 AND journal = ?2))"
)
_IS_EXPIRED = (
    f"state IN ('up', 'evicting') AND lease_until <= {SQLITE_NOW}"
    f" AND (state = 'evicting' OR lease_until <= {SQLITE_NOW} - ?"
    " OR node_id || '#' || incarnation NOT IN (SELECT value FROM json_each(?)))"
)
_EXPIRED = f"SELECT 1 FROM nodes WHERE {_IS_EXPIRED} LIMIT 1"
_BURY_EXPIRED = f"UPDATE nodes SET state = 'dead' WHERE {_IS_EXPIRED} RETURNING node_id, incarnation"
# node, incarnation, journal or NULL
_BURY = (
    "UPDATE nodes SET state = 'dead' WHERE node_id = ?1 AND incarnation = ?2 "
    "AND (?3 IS NULL OR journal = ?3 OR state IN ('dead', 'left'))"
)
_LIVE = (
    "SELECT node_id, incarnation FROM nodes "
    f"WHERE state IN ('up', 'evicting') AND (lease_until IS NULL OR lease_until > {SQLITE_NOW})"
)
_EVICT = "UPDATE nodes SET state = 'evicting' WHERE node_id = ? AND incarnation = ? AND state = 'up'"
# all_stored, node, incarnation, generation
_RETIRE = (
    "UPDATE nodes SET state = 'left', journal = iif(?, '', journal) "
    "WHERE node_id = ? AND incarnation = ? AND state IN ('up', 'evicting') AND generation = ?"
)
_ESTATES = (
    "SELECT node_id, incarnation, journal FROM nodes WHERE state IN ('dead', 'left') AND journal <> '' "
    "AND database IN ('', (SELECT uuid FROM database_identity))"
)
_CLOSE_ESTATE = "UPDATE nodes SET journal = '' WHERE node_id = ? AND incarnation = ? AND state IN ('dead', 'left')"
_FORGET_ESTATE = (
    "UPDATE nodes SET journal = '' WHERE node_id = ? AND incarnation = ? AND state IN ('dead', 'left') AND journal = ?"
)
_ROW = (
    f"SELECT node_id, incarnation, state, coalesce(lease_until - {SQLITE_NOW}, 9e999), journal, generation FROM nodes"
)
_NODES = f"{_ROW} ORDER BY node_id, incarnation"
_LIVING = f"{_ROW} WHERE {LIVING} ORDER BY node_id, incarnation"
_RUN = f"{_ROW} WHERE node_id = ? AND incarnation = ?"
_DONE = (
    "SELECT rowid FROM nodes WHERE state IN ('dead', 'left') AND journal = '' "
    f"AND (lease_until IS NULL OR lease_until <= {SQLITE_NOW} - ?) LIMIT ?"
)
_PRUNE = f"DELETE FROM nodes WHERE rowid IN ({_DONE})"
IS_UP: Final = "SELECT 1 FROM nodes WHERE node_id = ? AND incarnation = ? AND state = 'up' AND generation = ?"


class SqliteRuns:
    """The part of `persistence.engine.rows.Database` that is about runs."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def register_node(self, node: str, lease_s: float | None, journal: str) -> tuple[int, float]:
        def work(connection: sqlite3.Connection) -> tuple[int, float]:
            connection.execute(_BURY_RUNS, (node,))
            live = connection.execute(_LIVE_RUN, (node,)).fetchone()[0]
            if live is not None:
                return 0, max(live, 0.01)
            issued = connection.execute(_ISSUE).fetchall()
            if not issued:
                raise Corrupt(NO_COUNTER)
            connection.execute(_REGISTER, (node, issued[0][0], lease_s, journal)).close()
            return issued[0][0], 0.0

        # Through to the disk: an incarnation, once handed out, is never issued again.
        return await self._file.write(work, through=True)

    async def renew_lease(self, me: NodeAddress, lease_s: float, generation: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            return connection.execute(_RENEW, (lease_s, me.node, me.incarnation, generation)).rowcount == 1

        return await self._file.write(work)

    async def succeed_node(
        self, me: NodeAddress, generation: int, journal: str, lease_s: float | None, heir: str
    ) -> bool:
        given = (lease_s, journal, generation, heir, *me)
        # Through to the disk: a machine that loses power must not bring the process before it back.
        return await self._file.write(
            lambda connection: connection.execute(_SUCCEED, given).rowcount == 1, through=True
        )

    async def bury_expired(self, spare: Sequence[str], grace_s: float) -> list[NodeAddress]:
        given = (grace_s, json.dumps(list(spare)))
        # Every node asks twice a second: the write lock is for when there is somebody to bury.
        if not await self._file.read(lambda connection: connection.execute(_EXPIRED, given).fetchall()):
            return []
        rows = await self._file.write(lambda connection: connection.execute(_BURY_EXPIRED, given).fetchall())
        return sorted(NodeAddress(NodeId(node), Incarnation(run)) for node, run in rows)

    async def bury(self, address: NodeAddress, journal: str | None) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            if connection.execute(_BURY, (*address, journal)).rowcount == 1:
                return True
            if connection.execute(_RUN, address).fetchall():
                return False
            newest = connection.execute(NEWEST_RUN).fetchall()
            return bool(newest) and 0 < address.incarnation <= newest[0][0]

        return await self._file.write(work)

    async def evict(self, suspects: Collection[NodeAddress], side: Collection[NodeAddress]) -> list[NodeAddress]:
        wanted = sorted(set(suspects) - set(side))

        def work(connection: sqlite3.Connection) -> list[NodeAddress]:
            live = [NodeAddress(NodeId(node), Incarnation(run)) for node, run in connection.execute(_LIVE)]
            if not holds_majority(side, live):
                return []
            return [node for node in wanted if connection.execute(_EVICT, node).rowcount == 1]

        return await self._file.write(work)

    async def retire_node(self, me: NodeAddress, all_stored: bool, generation: int) -> None:
        given = (all_stored, *me, generation)
        await self._file.write(lambda connection: connection.execute(_RETIRE, given).rowcount)

    async def estates(self) -> list[Estate]:
        rows = await self._file.read(lambda connection: connection.execute(_ESTATES).fetchall())
        return [
            Estate(NodeAddress(NodeId(node), Incarnation(run)), journal)
            for node, run, journal in rows
            if type(run) is int
        ]

    async def close_estate(self, owner: NodeAddress) -> None:
        await self._file.write(lambda connection: connection.execute(_CLOSE_ESTATE, owner).rowcount)

    async def forget_estate(self, estate: Estate) -> bool:
        given = (*estate.owner, estate.journal)
        return await self._file.write(lambda connection: connection.execute(_FORGET_ESTATE, given).rowcount == 1)

    async def nodes(self) -> list[NodeRow]:
        return _node_rows(await self._file.read(lambda connection: connection.execute(_NODES).fetchall()))

    async def living(self) -> list[NodeRow]:
        return _node_rows(await self._file.read(lambda connection: connection.execute(_LIVING).fetchall()))

    async def runs(self, of: Sequence[NodeAddress]) -> tuple[list[NodeRow], int]:
        def work(connection: sqlite3.Connection) -> tuple[list[NodeRow], int]:
            rows = [row for node in of for row in connection.execute(_RUN, node)]
            newest = connection.execute(NEWEST_RUN).fetchall()
            return _node_rows(rows), newest[0][0] if newest else 0

        return await self._file.read(work)

    async def prune_nodes(self, kept_s: float, limit: int) -> int:
        # Every node asks now and then: the write lock is for when there is something to delete.
        if not await self._file.read(lambda connection: connection.execute(_DONE, (kept_s, 1)).fetchall()):
            return 0
        return await self._file.write(lambda connection: connection.execute(_PRUNE, (kept_s, limit)).rowcount)


def _node_rows(rows: Sequence[Any]) -> list[NodeRow]:
    return [NodeRow(NodeId(node), Incarnation(run), *rest) for node, run, *rest in rows if type(run) is int]
