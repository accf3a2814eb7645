"""The rows of runs on PostgreSQL: incarnations, leases, generations, burials.

Statements in the name of a run say the generation of the process that sends them (`server/liveness/ports.py`): after a
succession those of the process before it change nothing.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

from persistence.engine.postgres import PostgresPool, affected
from persistence.engine.rows import NO_COUNTER
from persistence.engine.statements import NEWEST_RUN, PG_NOW
from persistence.engine.tables import INCARNATION, LIVING
from server.errors import Corrupt
from server.ids import Incarnation, NodeAddress, NodeId
from server.liveness.ports import Estate, NodeRow

REGISTER_LOCK: Final = 0x67617272
"""Advisory lock under which incarnations are issued, one at a time."""

_BURY_RUNS = (
    "UPDATE nodes SET state = 'dead' WHERE node_id = $1 AND state <> 'dead' "
    f"AND (state = 'left' OR lease_until IS NULL OR lease_until <= {PG_NOW})"
)
_LIVE_RUN = f"SELECT max(lease_until) - {PG_NOW} FROM nodes WHERE node_id = $1 AND state IN ('up', 'evicting')"
_REGISTER = (
    # The counter alone decides; rows that were put there in another way are not below it.
    "WITH issued AS (UPDATE counters SET value = 1 + "
    "greatest(value, (SELECT coalesce(max(incarnation), 0) FROM nodes)) "
    f"WHERE name = '{INCARNATION}' RETURNING value) "
    "INSERT INTO nodes (node_id, incarnation, state, lease_until, journal, database) "
    f"SELECT $1, value, 'up', {PG_NOW} + $2::float8, $3, "
    "(SELECT uuid FROM database_identity) FROM issued RETURNING incarnation"
)
_RENEW = (
    f"UPDATE nodes SET lease_until = {PG_NOW} + $3::float8 WHERE node_id = $1 AND incarnation = $2 AND state = 'up' "
    "AND generation = $4"
)
_SUCCEED = (
    f"UPDATE nodes SET lease_until = {PG_NOW} + $5::float8, journal = $4, generation = $3, heir = $6 "
    "WHERE node_id = $1 AND incarnation = $2 AND state = 'up' "
    "AND (generation = $3 - 1 OR (generation = $3 AND heir = $6 AND journal = $4))"
)
_BURY_EXPIRED = (
    # A row that is locked is being renewed, buried or registered anew, perhaps by a process that has
    # stopped in the middle: it must not hinder the burial of the others.
    "WITH expired AS MATERIALIZED (SELECT node_id, incarnation FROM nodes "
    f"WHERE state IN ('up', 'evicting') AND lease_until <= {PG_NOW} "
    f"AND (state = 'evicting' OR lease_until <= {PG_NOW} - $1::float8 "
    "OR node_id || '#' || incarnation <> ALL($2::text[])) "
    "ORDER BY node_id, incarnation FOR UPDATE SKIP LOCKED) "
    "UPDATE nodes AS n SET state = 'dead' FROM expired "
    "WHERE n.node_id = expired.node_id AND n.incarnation = expired.incarnation "
    "RETURNING n.node_id, n.incarnation"
)
_BURY = (
    "UPDATE nodes SET state = 'dead' WHERE node_id = $1 AND incarnation = $2 "
    "AND ($3::text IS NULL OR journal = $3 OR state IN ('dead', 'left'))"
)
_IS_PRUNED = (
    f"SELECT $2::int8 BETWEEN 1 AND ({NEWEST_RUN}) "
    "AND NOT EXISTS (SELECT 1 FROM nodes WHERE node_id = $1::text AND incarnation = $2::int8)"
)
_EVICT = (
    # A single statement, so that a node which stops in the middle keeps no row of `nodes` locked; the
    # rows are locked before they are counted, so that evictions at once see each other's.
    "WITH held AS MATERIALIZED (SELECT node_id, incarnation, lease_until FROM nodes "
    "WHERE state IN ('up', 'evicting') ORDER BY node_id, incarnation FOR UPDATE), "
    "side AS MATERIALIZED (SELECT * FROM unnest($3::text[], $4::int8[]) AS s(node_id, incarnation)), "
    "live AS MATERIALIZED (SELECT node_id, incarnation, "
    "(node_id, incarnation) IN (SELECT node_id, incarnation FROM side) AS ours FROM held "
    f"WHERE lease_until IS NULL OR lease_until > {PG_NOW}), "
    "counted AS (SELECT count(*) FILTER (WHERE ours) AS ours, count(*) AS whole, "
    "(SELECT ours FROM live ORDER BY node_id, incarnation LIMIT 1) AS lowest FROM live) "
    "UPDATE nodes AS n SET state = 'evicting' FROM unnest($1::text[], $2::int8[]) AS v(node, run) "
    "WHERE n.node_id = v.node AND n.incarnation = v.run AND n.state = 'up' "
    "AND (n.node_id, n.incarnation) NOT IN (SELECT node_id, incarnation FROM side) "
    "AND (SELECT 2 * ours > whole OR (2 * ours = whole AND lowest) FROM counted) "
    "RETURNING n.node_id, n.incarnation"
)
_RETIRE = (
    "UPDATE nodes SET state = 'left', journal = CASE WHEN $3 THEN '' ELSE journal END "
    "WHERE node_id = $1 AND incarnation = $2 AND state IN ('up', 'evicting') AND generation = $4"
)
_ESTATES = (
    "SELECT node_id, incarnation, journal FROM nodes WHERE state IN ('dead', 'left') AND journal <> '' "
    "AND database IN ('', (SELECT uuid FROM database_identity))"
)
_CLOSE_ESTATE = "UPDATE nodes SET journal = '' WHERE node_id = $1 AND incarnation = $2 AND state IN ('dead', 'left')"
_FORGET_ESTATE = (
    "UPDATE nodes SET journal = '' "
    "WHERE node_id = $1 AND incarnation = $2 AND state IN ('dead', 'left') AND journal = $3"
)
_ROW = (
    f"SELECT node_id, incarnation, state, coalesce(lease_until - {PG_NOW}, 'infinity'), journal, generation FROM nodes"
)
_NODES = f"{_ROW} ORDER BY node_id, incarnation"
_LIVING = f"{_ROW} WHERE {LIVING} ORDER BY node_id, incarnation"
_RUNS = f"{_ROW} JOIN unnest($1::text[], $2::int8[]) AS v(node, run) ON node_id = v.node AND incarnation = v.run"
_PRUNE = (
    "DELETE FROM nodes WHERE (node_id, incarnation) IN (SELECT node_id, incarnation FROM nodes "
    "WHERE state IN ('dead', 'left') AND journal = '' "
    f"AND (lease_until IS NULL OR lease_until <= {PG_NOW} - $1::float8) LIMIT $2 FOR UPDATE SKIP LOCKED)"
)
IS_UP: Final = "SELECT 1 FROM nodes WHERE node_id = $1 AND incarnation = $2 AND state = 'up' AND generation = $3"


class PostgresRuns:
    """The part of `persistence.engine.rows.Database` that is about runs."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def register_node(self, node: str, lease_s: float | None, journal: str) -> tuple[int, float]:
        async def work(connection: Any) -> tuple[int, float]:
            await connection.execute(f"SELECT pg_advisory_xact_lock({REGISTER_LOCK})")
            await connection.execute(_BURY_RUNS, node)
            live: float | None = await connection.fetchval(_LIVE_RUN, node)
            if live is not None:
                return 0, max(live, 0.01)
            incarnation: int | None = await connection.fetchval(_REGISTER, node, lease_s, journal)
            if incarnation is None:
                raise Corrupt(NO_COUNTER)
            return incarnation, 0.0

        return await self._pool.run(work, transaction="BEGIN")

    async def renew_lease(self, me: NodeAddress, lease_s: float, generation: int) -> bool:
        async def work(connection: Any) -> bool:
            return affected(await connection.execute(_RENEW, me.node, me.incarnation, lease_s, generation)) == 1

        return await self._pool.run(work, lane="lease")

    async def succeed_node(
        self, me: NodeAddress, generation: int, journal: str, lease_s: float | None, heir: str
    ) -> bool:
        async def work(connection: Any) -> bool:
            return affected(await connection.execute(_SUCCEED, *me, generation, journal, lease_s, heir)) == 1

        return await self._pool.run(work, lane="lease")

    async def bury_expired(self, spare: Sequence[str], grace_s: float) -> list[NodeAddress]:
        given = (grace_s, list(spare))
        rows = await self._pool.run(lambda connection: connection.fetch(_BURY_EXPIRED, *given), lane="judge")
        return sorted(NodeAddress(NodeId(node), Incarnation(run)) for node, run in rows)

    async def bury(self, address: NodeAddress, journal: str | None) -> bool:
        async def work(connection: Any) -> bool:
            if affected(await connection.execute(_BURY, *address, journal)) == 1:
                return True
            return bool(await connection.fetchval(_IS_PRUNED, *address))

        return await self._pool.run(work, lane="judge")

    async def evict(self, suspects: Collection[NodeAddress], side: Collection[NodeAddress]) -> list[NodeAddress]:
        given = (*addresses(suspects), *addresses(side))
        rows = await self._pool.run(lambda connection: connection.fetch(_EVICT, *given), lane="judge")
        return [NodeAddress(NodeId(node), Incarnation(run)) for node, run in rows]

    async def retire_node(self, me: NodeAddress, all_stored: bool, generation: int) -> None:
        given = (*me, all_stored, generation)
        await self._pool.run(lambda connection: connection.execute(_RETIRE, *given), lane="lease")

    async def estates(self) -> list[Estate]:
        rows = await self._pool.run(lambda connection: connection.fetch(_ESTATES))
        return [Estate(NodeAddress(NodeId(node), Incarnation(run)), journal) for node, run, journal in rows]

    async def close_estate(self, owner: NodeAddress) -> None:
        await self._pool.run(lambda connection: connection.execute(_CLOSE_ESTATE, *owner))

    async def forget_estate(self, estate: Estate) -> bool:
        given = (*estate.owner, estate.journal)
        return affected(await self._pool.run(lambda connection: connection.execute(_FORGET_ESTATE, *given))) == 1

    async def nodes(self) -> list[NodeRow]:
        return _node_rows(await self._pool.run(lambda connection: connection.fetch(_NODES)))

    async def living(self) -> list[NodeRow]:
        return _node_rows(await self._pool.run(lambda connection: connection.fetch(_LIVING)))

    async def runs(self, of: Sequence[NodeAddress]) -> tuple[list[NodeRow], int]:
        async def work(connection: Any) -> tuple[list[NodeRow], int]:
            rows = _node_rows(await connection.fetch(_RUNS, *addresses(of)))
            return rows, await connection.fetchval(NEWEST_RUN) or 0

        return await self._pool.run(work)

    async def prune_nodes(self, kept_s: float, limit: int) -> int:
        status = await self._pool.run(lambda connection: connection.execute(_PRUNE, kept_s, limit), lane="judge")
        return affected(status)


def _node_rows(rows: Sequence[Any]) -> list[NodeRow]:
    return [NodeRow(NodeId(node), Incarnation(run), *rest) for node, run, *rest in rows]


def addresses(nodes: Collection[NodeAddress]) -> tuple[list[str], list[int]]:
    """As two columns."""
    return [node.node for node in nodes], [node.incarnation for node in nodes]
