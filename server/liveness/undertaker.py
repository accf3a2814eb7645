"""The undertaker: it sets in the store that the run of another node is over, on one of three grounds.

    proof      its journal's lock is free: its process is gone, and its lease need not be waited for. The store buries
               it only while its row names that journal: an heir has one of its own
    expiry     its lease has run out
    eviction   gossip has lost it and it renews its lease all the same; a majority refuses its next renewal

A node whose own lease had run out judges nobody until it has held for a full period again: after an outage of
the store the first to come back must not bury the others. A node that was alone evicts nobody for as long
after: the others may be well, and it the one that was cut off. A wrong judgement costs time, never safety: who
is buried cannot renew, and so does not acknowledge.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from server.errors import GarrisonError
from server.ids import NodeAddress
from server.liveness.lease import NodeLease
from server.liveness.ports import Neighbours, NodeStore, RunJournal
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import StoreSettings

log = structlog.get_logger(__name__)
MAX_PLACES: Final = 10_000
"""Runs whose journal's place is remembered."""
PRUNE_AT_ONCE: Final = 500
"""Rows in a statement that prunes."""
PRUNE_PAUSE_S: Final = 0.2
"""Pause between two such statements: renewals of leases want the same rows' table."""


class Undertaker:
    """See the module's head. Without a journal nothing is ever proven."""

    def __init__(
        self,
        *,
        nodes: NodeStore,
        lease: NodeLease,
        neighbours: Neighbours,
        journal: RunJournal | None,
        settings: StoreSettings,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._nodes, self._lease, self._neighbours, self._journal = nodes, lease, neighbours, journal
        self._settings, self._clock, self._metrics = settings, clock, metrics
        self._places: dict[NodeAddress, str] = {}
        """The place of each live run's journal; empty for a run without one."""
        self._expired_at = float("-inf")
        """Boot time of the last look for expired leases."""

    async def run(self) -> None:
        """Bury and evict after each renewal of this node's lease, until cancelled."""
        while True:
            await self._lease.renewed.wait()
            self._lease.renewed.clear()
            try:
                await self.bury_expired()
                await self._evict()
            except Exception as error:
                self._metrics.lease_failures_total += 1
                known = isinstance(error, GarrisonError)
                log.warning("others not judged", why=str(error), exc_info=None if known else error)

    async def bury(self, owner: NodeAddress) -> None:
        """Bury `owner` at once if its process is proven to be gone, else every run whose lease has run out.
        Raises `Unavailable`."""
        if not await self.bury_proven([owner]):
            await self.bury_expired()

    async def bury_proven(self, owners: Sequence[NodeAddress]) -> list[NodeAddress]:
        """Bury those of `owners` whose journal proves that their process is gone; returns those that are dead
        now. Raises `Unavailable`."""
        journal = self._journal
        if journal is None:
            return []
        if any(owner not in self._places for owner in owners):
            rows = await self._nodes.runs(owners)
            known = self._places if len(self._places) < MAX_PLACES else {}
            self._places = {**known, **{owner: rows[owner].journal if owner in rows else "" for owner in owners}}
        proven = [owner for owner in owners if (place := self._places[owner]) and journal.is_dead(owner, place)]
        buried = [owner for owner in proven if await self._bury(owner)]
        for owner in buried:
            self._metrics.buried_total += 1
            log.warning("node buried: its process is gone", node=str(owner))
        return buried

    async def _bury(self, owner: NodeAddress) -> bool:
        """Bury `owner`, whose process is proven to be gone by the journal at its place. Where that is not its place any
        more, another process has taken the run over, and it is asked for anew."""
        buried = await self._nodes.bury(owner, self._places[owner])
        if not buried:
            self._places.pop(owner, None)
        return buried

    async def prune(self, kept_s: float) -> None:
        """Delete the rows of runs that are done, `kept_s` after their leases. Raises `Unavailable`."""
        while True:
            pruned = await self._nodes.prune_nodes(kept_s, PRUNE_AT_ONCE)
            if pruned:
                log.info("rows of runs that are over were deleted", count=pruned)
            if pruned < PRUNE_AT_ONCE:
                return
            await asyncio.sleep(PRUNE_PAUSE_S)

    async def bury_expired(self) -> None:
        """Bury runs whose lease has run out, if this node may judge; at most once a quarter of a renewal
        interval, however many ask. Raises `Unavailable`."""
        now = self._clock.boot()
        if now < self._expired_at + self._settings.lease_renew_s / 4:
            return
        if self._settings.lease and not self._lease.held_for(self._lease.held_since):
            return
        self._expired_at = now
        for address in await self._nodes.bury_expired(self._neighbours.lively(), self._settings.lease_grace_s):
            self._metrics.buried_total += 1
            log.warning("node buried", node=str(address))

    async def _evict(self) -> None:
        suspects = self._neighbours.vanished()
        if not suspects or not self._lease.held_for(max(self._lease.held_since, self._neighbours.alone_at)):
            return
        for address in await self._nodes.evict(suspects, self._neighbours.lively()):
            self._metrics.evictions_total += 1
            log.warning("node evicted: it renews its lease and nobody here reaches it", node=str(address))
