"""This node's lease: the right to acknowledge durable work, for a while (DESIGN rules 1 and 2).

The node may acknowledge until the *sending* time of its last successful renewal plus 0.9 of the
period, on the boot-time clock, which runs on while the machine sleeps; `holds` is checked as the
last step before a durable turn's outputs leave. A refused renewal is final: `on_lost` is called
once and the node must come back as a new incarnation.

A node also judges others: it buries those whose lease has run out, and evicts, if it is on the side
of the majority, those that gossip has lost and that renew their leases all the same. A node whose
own lease had run out judges nobody until it has held for a full period again: after an outage of
the store the first to come back must not bury the others. One that was alone evicts nobody for as
long after. Judging has a task of its own: it may have to wait for locks, and renewing must not wait
for it.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

import structlog

from server.errors import GarrisonError
from server.ids import NodeAddress
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import StoreSettings
from server.storage.ports import NodeStore

log = structlog.get_logger(__name__)
SAFE_SHARE: Final = 0.9


class Neighbours(Protocol):
    """What gossip says of the others, as the lease sees it."""

    def lively(self) -> Collection[NodeAddress]:
        """Who answers gossip now, this node included."""
        ...

    def vanished(self) -> Collection[NodeAddress]:
        """Who has been gone from the view for `evict_after_s` without having said goodbye."""
        ...


class NodeLease:
    """Renews every `lease_renew_s` (`run`); also buries and evicts (`judge`)."""

    def __init__(
        self,
        store: NodeStore,
        settings: StoreSettings,
        clock: Clock,
        metrics: Metrics,
        on_lost: Callable[[], None],
        neighbours: Neighbours,
    ) -> None:
        self._store, self._settings, self._clock, self._metrics = store, settings, clock, metrics
        self._on_lost, self._neighbours = on_lost, neighbours
        self.lost = False
        self.safe_until = 0.0 if settings.lease else float("inf")
        self.on_granted: Callable[[float], None] = lambda sent_at: None
        """Called after each grant, with the boot time at which it was asked for: what waited for
        the lease to hold may go on."""
        self._held_since = 0.0
        self._in_touch_since = 0.0
        self._buried_at = float("-inf")
        self._renewed = asyncio.Event()

    def granted(self, sent_at: float) -> None:
        """A lease was granted by a statement that was sent at `sent_at` (boot time)."""
        if not self._settings.lease:
            return
        now = self._clock.boot()
        if now >= self.safe_until:
            self._held_since = now  # granted between the sending and now, and perhaps run out before
        self.safe_until = max(self.safe_until, sent_at + SAFE_SHARE * self._settings.lease_period_s)
        self.on_granted(sent_at)

    def holds(self) -> bool:
        """Whether durable work may be acknowledged now."""
        return self._clock.boot() < self.safe_until

    def renewed_since(self, at: float) -> bool:
        """Whether a renewal that was sent after `at` (boot time) was granted."""
        return self.safe_until > at + SAFE_SHARE * self._settings.lease_period_s

    def alone(self) -> None:
        """Gossip has lost all the others: who is cut off is not known."""
        self._in_touch_since = self._clock.boot()

    async def run(self, me: NodeAddress) -> None:
        """Renew until refused, at once where the answer to the last renewal took longer than
        `lease_renew_s`. Does nothing for a deployment without leases."""
        if not self._settings.lease:
            return
        while True:
            sent_at = self._clock.boot()
            if not await self._renew(me, sent_at):
                break
            await asyncio.sleep(max(0.0, sent_at + self._settings.lease_renew_s - self._clock.boot()))
        self.lost = True
        self.safe_until = 0.0
        log.error("lease refused: this incarnation is over", node=str(me))
        self._on_lost()

    async def _renew(self, me: NodeAddress, sent_at: float) -> bool:
        try:
            granted = await self._store.renew_lease(me, self._settings.lease_period_s)
        except Exception as error:
            self._failed("lease not renewed", error)
            return True
        if granted:
            self.granted(sent_at)
            self._metrics.lease_renewals_total += 1
            self._renewed.set()
        return granted

    # ---- the others ----

    def _held_for(self, since: float) -> bool:
        """Whether this node's lease has held for a full period since `since`, and does."""
        now = self._clock.boot()
        return now < self.safe_until and now >= since + self._settings.lease_period_s

    async def judge(self) -> None:
        """Bury and evict after each renewal, until cancelled."""
        while True:
            await self._renewed.wait()
            self._renewed.clear()
            try:
                await self.bury_expired()
                await self._evict()
            except Exception as error:
                self._failed("others not judged", error)

    async def bury_expired(self) -> None:
        """Set expired nodes `dead`, if this node may judge; at most once a quarter of a renewal
        interval, however many ask. Raises `Unavailable`."""
        now = self._clock.boot()
        if now < self._buried_at + self._settings.lease_renew_s / 4:
            return
        if self._settings.lease and not self._held_for(self._held_since):
            return
        self._buried_at = now
        for address in await self._store.bury_expired(self._neighbours.lively(), self._settings.lease_grace_s):
            self._metrics.buried_total += 1
            log.warning("node buried", node=str(address))

    async def _evict(self) -> None:
        suspects = self._neighbours.vanished()
        if not suspects or not self._held_for(max(self._held_since, self._in_touch_since)):
            return
        for address in await self._store.evict(suspects, self._neighbours.lively()):
            self._metrics.evictions_total += 1
            log.warning("node evicted: it renews its lease and nobody here reaches it", node=str(address))

    def _failed(self, what: str, error: Exception) -> None:
        """Whatever the store raises, the series goes on: without it the node would neither renew
        nor learn that it is over."""
        self._metrics.lease_failures_total += 1
        known = isinstance(error, GarrisonError)
        left_s = round(self.safe_until - self._clock.boot(), 2)
        log.warning(what, why=str(error), left_s=left_s, exc_info=None if known else error)
