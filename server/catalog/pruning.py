"""A node's part in retention: logs of matches that are over are deleted by `settings.retention`, if it says so.

One node at a time does it for each kind: the owner of a slot that the kind's name gives. While nodes differ about who
that is two of them may, which costs some reading and nothing else (`LogStore.delete_logs`). A sweep is made of short
statements with pauses between them, and it ends where the node has other things to do: its lease does not hold, its
event loop is late, changes wait for the store, or the node is leaving. The next sweep, on whatever node, goes on.

A log that would go, and that somebody owns, is woken at the end: where the answer of a release was lost a row says that
its node has it, which it has put away, and nothing else would come to tell it.
"""

import asyncio
from typing import Final

import msgspec
import structlog

from server.catalog.ports import ActorCalls
from server.catalog.services import CurrentView, Services, StorageParts
from server.errors import GarrisonError
from server.eventlog import pruning
from server.eventlog.retention import RetentionLimits
from server.ids import ActorId, actor_id

log = structlog.get_logger(__name__)
DAY_MS: Final = 86_400_000


class Pace(msgspec.Struct, frozen=True):
    """Seconds between batches and between looks at what there is, and when a node has other things to do."""

    batch_s: float = 0.25
    page_s: float = 0.1
    again_s: float = 30.0
    """Time until a sweep that ended early is begun again."""
    lag_s: float = 0.1
    dirty_share: float = 0.5
    """Share of `store.max_dirty_age_s`."""


class Pruning:
    """See the module's head."""

    def __init__(
        self,
        services: Services,
        current: CurrentView,
        *,
        storage: StorageParts,
        calls: ActorCalls,
        pace: Pace | None = None,
    ) -> None:
        self.pace = pace or Pace()
        self._services, self._current, self._lease, self._calls = services, current, storage.lease, calls
        settings = services.settings.retention
        self._every_s = settings.interval_s
        self.limits = RetentionLimits(settings.max_age_days * DAY_MS, settings.max_matches, settings.max_bytes)
        self._kinds = [cls.kind for cls in services.app.actors if cls.durability == "logged"]
        self._wakes = {cls.kind for cls in services.app.actors if cls.lives_on}

    @property
    def wanted(self) -> bool:
        """True where the settings have a limit."""
        return bool(self.limits) and bool(self._kinds)

    async def run(self) -> None:
        """Sweep for ever."""
        failed, done = False, True
        while True:
            pause_s = self._every_s if done else min(self.pace.again_s, self._every_s)
            await asyncio.sleep(pause_s * self._services.rng.uniform(0.8, 1.2))
            try:
                done, failed = await self.sweep(), False
            except Exception as error:
                self._services.metrics.retention_failures_total += 1
                if not failed:
                    known = isinstance(error, GarrisonError)
                    log.warning("cannot delete old logs", why=str(error), exc_info=None if known else error)
                done, failed = False, True

    async def sweep(self) -> bool:
        """Delete what goes now, of the kinds that are this node's to sweep. False where it ended early. Raises the
        store's errors."""
        return all([await self._sweep(kind) for kind in self._kinds])

    def _is_mine(self, kind: str) -> bool:
        return self._current.is_mine(actor_id(kind, "retention")) and not self._current.is_leaving

    def _is_busy(self) -> bool:
        metrics, store = self._services.metrics, self._services.settings.store
        late = metrics.loop_lag_last_seconds > self.pace.lag_s
        old = metrics.dirty_age_seconds > self.pace.dirty_share * store.max_dirty_age_s
        return self._current.resting or late or old or (store.lease and not self._lease.holds())

    async def _sweep(self, kind: str) -> bool:
        if not self._is_mine(kind):
            return True
        if self._is_busy():
            return False
        logs, metrics = self._services.logs, self._services.metrics
        bound = await pruning.find_bound(logs, kind, self.limits, self.pace.page_s)
        deleted = size = 0
        held: list[ActorId] = []
        try:
            async for batch in pruning.due(logs, kind, bound, held):
                if self._is_busy() or not self._is_mine(kind):
                    return False
                done = await pruning.delete(logs, kind, batch)
                deleted, size = deleted + len(done.deleted), size + done.size
                metrics.logs_deleted_total += len(done.deleted)
                metrics.log_bytes_deleted_total += done.size
                metrics.logs_spared_total += len(done.kept)
                await asyncio.sleep(self.pace.batch_s)
        finally:
            if deleted:
                log.info("old logs deleted", kind=kind, logs=deleted, bytes=size)
        for identity in held if kind in self._wakes else ():
            self._calls.tell(identity, "wake", ())
        return True
