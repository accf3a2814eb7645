"""Runs of nodes in a database: the part of `SqlStore` that is `server.liveness.ports.NodeStore`."""

import secrets
from collections.abc import Collection
from math import inf

from persistence.engine.rows import Database
from server.errors import Unavailable
from server.ids import Incarnation, NodeAddress, NodeId
from server.liveness.ports import Estate, NodeRow


class SqlRuns:
    """Implements `server.liveness.ports.NodeStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._heir = secrets.token_hex(8)
        """The name of this process among those that may take a run over."""

    async def register_node(self, node: NodeId, lease_s: float | None, journal: str = "") -> Incarnation:
        incarnation, wait_s = await self._database.register_node(node, lease_s, journal)
        if not incarnation:
            raise Unavailable(f"another run of node {node} still holds its lease", retry_after_s=wait_s)
        return Incarnation(incarnation)

    async def renew_lease(self, me: NodeAddress, lease_s: float, generation: int = 0) -> bool:
        return await self._database.renew_lease(me, lease_s, generation)

    async def succeed_node(self, me: NodeAddress, generation: int, journal: str, lease_s: float | None) -> bool:
        return await self._database.succeed_node(me, generation, journal, lease_s, self._heir)

    async def bury_expired(self, spare: Collection[NodeAddress] = (), grace_s: float = 0.0) -> list[NodeAddress]:
        return await self._database.bury_expired([str(address) for address in spare], grace_s)

    async def bury(self, address: NodeAddress, journal: str | None = None) -> bool:
        return await self._database.bury(address, journal)

    async def evict(self, suspects: Collection[NodeAddress], side: Collection[NodeAddress]) -> list[NodeAddress]:
        return sorted(await self._database.evict(suspects, side)) if suspects else []

    async def retire_node(self, me: NodeAddress, all_stored: bool = True, generation: int = 0) -> None:
        await self._database.retire_node(me, all_stored, generation)

    async def estates(self) -> list[Estate]:
        return sorted(await self._database.estates())

    async def close_estate(self, owner: NodeAddress) -> None:
        await self._database.close_estate(owner)

    async def forget_estate(self, estate: Estate) -> bool:
        return bool(estate.journal) and await self._database.forget_estate(estate)

    async def nodes(self) -> list[NodeRow]:
        """Every run of every node, ordered; `lease_left_s` is infinite for one without a lease."""
        return await self._database.nodes()

    async def living(self) -> list[NodeRow]:
        return await self._database.living()

    async def runs(self, of: Collection[NodeAddress]) -> dict[NodeAddress, NodeRow]:
        if not of:
            return {}
        asked = sorted(of)
        rows, newest = await self._database.runs(asked)
        pruned = {node: NodeRow(*node, "dead", -inf) for node in asked if 0 < node.incarnation <= newest}
        return {**pruned, **{NodeAddress(row.node, row.incarnation): row for row in rows}}

    async def prune_nodes(self, kept_s: float, limit: int) -> int:
        return await self._database.prune_nodes(kept_s, limit)
