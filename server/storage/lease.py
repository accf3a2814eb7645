"""This node's lease: the right to acknowledge durable work, for a while (DESIGN rules 1 and 2).

The node may acknowledge until the *sending* time of its last successful renewal plus 0.9 of the
period, on the boot-time clock, which runs on while the machine sleeps; `holds` is checked as the
last step before a durable turn's outputs leave. A refused renewal is final: `on_lost` is called
once and the node must come back as a new incarnation.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import structlog

from server.errors import GarrisonError
from server.ids import NodeAddress
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import StoreSettings
from server.storage.ports import Store

log = structlog.get_logger(__name__)
SAFE_SHARE: Final = 0.9


class NodeLease:
    """Renews every `lease_renew_s`; also buries nodes whose lease has run out."""

    def __init__(
        self,
        store: Store,
        settings: StoreSettings,
        clock: Clock,
        metrics: Metrics,
        on_lost: Callable[[], None],
        lively: Callable[[], Collection[NodeAddress]],
    ) -> None:
        self._store, self._settings, self._clock, self._metrics = store, settings, clock, metrics
        self._on_lost, self._lively = on_lost, lively
        self.lost = False
        self.safe_until = 0.0 if settings.lease else float("inf")

    def granted(self, sent_at: float) -> None:
        """A lease was granted by a statement that was sent at `sent_at` (boot time)."""
        if self._settings.lease:
            self.safe_until = max(self.safe_until, sent_at + SAFE_SHARE * self._settings.lease_period_s)

    def holds(self) -> bool:
        """Whether durable work may be acknowledged now."""
        return self._clock.boot() < self.safe_until

    async def run(self, me: NodeAddress) -> None:
        """Renew until refused. Does nothing for a deployment without leases."""
        if not self._settings.lease:
            return
        while True:
            if not await self._renew(me):
                break
            await asyncio.sleep(self._settings.lease_renew_s)
        self.lost = True
        self.safe_until = 0.0
        log.error("lease refused: this incarnation is over", node=str(me))
        self._on_lost()

    async def _renew(self, me: NodeAddress) -> bool:
        sent_at = self._clock.boot()
        try:
            granted = await self._store.renew_lease(me, self._settings.lease_period_s)
        except Exception as error:
            self._failed("lease not renewed", error)
            return True
        if granted:
            self.granted(sent_at)
            self._metrics.lease_renewals_total += 1
            await self._bury()
        return granted

    async def _bury(self) -> None:
        try:
            gone = await self._store.bury_expired(self._lively(), self._settings.lease_grace_s)
        except Exception as error:
            self._failed("expired nodes not buried", error)
            return
        for address in gone:
            log.warning("node buried", node=str(address))

    def _failed(self, what: str, error: Exception) -> None:
        """Whatever the store raises, the series goes on: without it the node would neither renew
        nor learn that it is over."""
        self._metrics.lease_failures_total += 1
        known = isinstance(error, GarrisonError)
        left_s = round(self.safe_until - self._clock.boot(), 2)
        log.warning(what, why=str(error), left_s=left_s, exc_info=None if known else error)
