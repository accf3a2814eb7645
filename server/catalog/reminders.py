"""Delivery of due reminders: a node asks the store for them now and then, and calls the actors of its slots.

A row is dropped only once the actor says that the effect is stored; see `server/activations/reminding.py`.
"""

import asyncio
from typing import Final

import msgspec
import structlog

from server.actors.reminders import has_reminders, is_reminder
from server.catalog.ports import ActorCalls, Population
from server.catalog.retries import Retries
from server.catalog.services import CurrentView, Services
from server.errors import GarrisonError, NotFound
from server.ids import kind_of, parse_actor_id
from server.runtime.backoff import backoff_s
from server.storage.ports import Reminder

log = structlog.get_logger(__name__)


class ReminderLimits(msgspec.Struct, frozen=True):
    """Numbers and times that the delivery goes by."""

    page: int = 256
    """Due reminders that the store is asked for at a time."""
    pages_a_poll: int = 8
    under_way: int = 64
    """Deliveries of a node at a time."""
    unknown_kept_ms: int = 24 * 3600 * 1000
    """Time after its due for which a reminder is left alone if this program has no method for it: in a rolling
    upgrade a node of another version may have it."""


LIMITS: Final = ReminderLimits()


class Reminders:
    """Delivers due reminders of this node's slots: a bounded number a poll and at a time."""

    def __init__(
        self,
        services: Services,
        current: CurrentView,
        *,
        catalog: Population,
        calls: ActorCalls,
        limits: ReminderLimits = LIMITS,
    ) -> None:
        self.limits = limits
        self._services, self._current, self._catalog, self._calls = services, current, catalog, calls
        self._clock, self._store = services.clock, services.store
        self._under_way: dict[Reminder, None] = {}
        self._room = asyncio.Semaphore(limits.under_way)
        self._retries: Retries[Reminder] = Retries(services.rng)
        self._after: Reminder | None = None

    @property
    def wanted(self) -> bool:
        """True where the application has actors with reminders."""
        return any(has_reminders(cls) for cls in self._services.app.actors)

    @property
    def under_way(self) -> int:
        """Deliveries under way."""
        return len(self._under_way)

    @property
    def busy(self) -> bool:
        """True while a delivery is under way."""
        return bool(self._under_way)

    async def run(self) -> None:
        """Poll for ever; a store that is away is asked less often."""
        interval_s, failures = self._services.settings.actors.reminder_poll_s, 0
        while True:
            await asyncio.sleep(interval_s + backoff_s(failures, self._services.rng, interval_s / 4, 10.0))
            try:
                await self.poll()
                failures = 0
            except Exception as error:
                failures += 1
                if failures == 1:
                    known = isinstance(error, GarrisonError)
                    log.warning("cannot look for reminders", why=str(error), exc_info=None if known else error)

    async def poll(self) -> None:
        """Begin to deliver what is due. Continues where the last poll ended, so that what fails again
        and again holds nothing else up. Raises the store's `Unavailable`."""
        until_ms = self._clock.wall_ms()
        if self._catalog.closed is not None or self._current.resting:
            return
        for _ in range(self.limits.pages_a_poll):
            page = await self._store.due_reminders(until_ms, self.limits.page, self._after)
            for reminder in page:
                self._after = reminder
                await self._consider(reminder)
            if len(page) < self.limits.page:
                self._after = None
                return

    async def _consider(self, reminder: Reminder) -> None:
        if not self._current.is_mine(reminder.id) or reminder in self._under_way or self._current.resting:
            return
        if not self._retries.ready(reminder, self._clock.now()):
            return
        await self._room.acquire()
        self._under_way[reminder] = None
        self._services.supervisor.spawn(self._handle(reminder), f"reminder {reminder.id}")

    async def _handle(self, reminder: Reminder) -> None:
        try:
            if await self._deliver(reminder):
                await self._store.drop_reminder(reminder)
            self._retries.done(reminder)
        except Exception as error:
            times = self._retries.failed(reminder, self._clock.now())
            if times & (times - 1) == 0:  # the first, second, fourth, eighth … time
                known = isinstance(error, GarrisonError)
                log.warning(
                    "reminder failed", actor=reminder.id, method=reminder.name, times=times, why=str(error),
                    exc_info=None if known else error,
                )  # fmt: skip
        finally:
            del self._under_way[reminder]
            self._room.release()

    async def _deliver(self, reminder: Reminder) -> bool:
        """Call the actor. True if the reminder may be dropped."""
        parse_actor_id(reminder.id)  # a row may have been made by hand: it fails alone
        cls = self._services.app.actor(kind_of(reminder.id))
        if cls is not None and is_reminder(cls, reminder.name):
            return bool(await self._calls.ask(reminder.id, "reminded", (reminder.name, reminder.due_ms)))
        if self._clock.wall_ms() - reminder.due_ms < self.limits.unknown_kept_ms:
            raise NotFound(f"no reminder {reminder.name} of {kind_of(reminder.id)} in this version")
        what = {"actor": reminder.id, "method": reminder.name, "due_ms": reminder.due_ms}
        log.error("reminder dropped: there is no such method", **what)
        return True
