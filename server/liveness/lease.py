"""This node's lease: the right to acknowledge durable work, for a while (Gray & Cheriton 1989).

The node may acknowledge until the *sending* time of its last successful renewal plus 0.9 of the
period, on the boot-time clock, which runs on while the machine sleeps; `holds` is checked as the
last step before a durable turn's outputs leave. A refused renewal is final: `on_lost` is called
once and the node must come back as a new incarnation.

A node renews from a thread (`renewing.py`), so that a busy event loop costs no lease. `safe_until`, `held_since`
and `lost` are written by whoever renews, and read anywhere: each is one reference, `safe_until` only grows until
it falls for good, and the loop compares it with a clock that it reads first. A lock is held for each change, so that
`surrender`, by which a process gives its run to its heir, has the last word: whatever is granted before it is
overwritten, and whatever is granted after it finds it surrendered. Everything else that a renewal
brings about happens on the loop, by way of `to_loop`. A loop that stands still must not hold its actors for ever:
`watch_loop` notes that it runs, and past `lease_stall_s` without such a note nothing is renewed until the next.

Judging others (`undertaker.py`) has a task of its own: it may have to wait for locks, and renewing must not
wait for it.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

import structlog

from server.errors import GarrisonError
from server.ids import NodeAddress
from server.liveness.ports import LeaseStore
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import StoreSettings

log = structlog.get_logger(__name__)
SAFE_SHARE: Final = 0.9
"""Share of the period for which a node relies on its lease: the rest is for clocks that run at different speeds."""
LATE_RENEWALS: Final = 2
"""Pauses between renewals for which one may wait before it counts as failing."""
TICK_S: Final = 0.1
"""Pause between notes that the event loop runs, and between looks at one that stands still."""


class NodeLease:
    """See the module's head. `run` renews every `lease_renew_s`."""

    def __init__(
        self,
        store: LeaseStore,
        settings: StoreSettings,
        clock: Clock,
        metrics: Metrics,
        on_lost: Callable[[], None],
    ) -> None:
        self._store, self._settings, self._clock, self._metrics = store, settings, clock, metrics
        self._on_lost = on_lost
        self.lost = False
        self.generation = 0
        """The generation of this process within its run, which renewals say."""
        self.surrendered = False
        self._changing = threading.Lock()
        """Held for a change of `safe_until`, and for the decision to send a renewal; never while anything is waited
        for."""
        self._rests = self._asking = False
        self._rested: asyncio.Future[None] | None = None
        self.safe_until = 0.0 if settings.lease else float("inf")
        self._on_granted: list[Callable[[float], None]] = []
        self.to_loop: Callable[..., object] = _at_once
        """`to_loop(call, *args)` calls on the event loop; whoever renews from elsewhere sets it."""
        self.held_since = 0.0
        """Boot time since which it has held without a gap."""
        self._ticked_at: float | None = None
        """Boot time of the loop's last note that it runs; None where nobody notes it."""
        self.standstill = ""
        """For how long the event loop had not run when a renewal was left out last; empty once it goes on."""
        self._failed_why = ""
        self._asked_at: float | None = None
        self.renewed = asyncio.Event()
        """Set after each renewal, for whoever judges others then."""

    def when_granted(self, call: Callable[[float], None]) -> None:
        """Call `call(sent_at)` on the loop after each grant, with the boot time at which it was asked for: what waited
        for the lease to hold may go on, if it holds then."""
        self._on_granted.append(call)

    def granted(self, sent_at: float) -> None:
        """A lease was granted by a statement that was sent at `sent_at` (boot time)."""
        if not self._settings.lease:
            return
        now = self._clock.boot()
        with self._changing:
            if self.surrendered:
                return
            if now >= self.safe_until:
                self.held_since = now  # granted between the sending and now, and perhaps run out before
            self.safe_until = max(self.safe_until, sent_at + SAFE_SHARE * self._settings.lease_period_s)
        self.to_loop(self._tell, sent_at)

    def surrender(self) -> None:
        """Hold no more, for good: another process acknowledges from now on. No renewal is sent any more, and the answer
        to one that is under way is nobody's."""
        with self._changing:
            self.surrendered = True
            self.safe_until = float("-inf")

    async def rest(self) -> None:
        """Send no renewal until `go_on`; returns when none is under way. Call it on the loop."""
        with self._changing:
            self._rests = True
            if self._asking and self._rested is None:
                self._rested = asyncio.get_running_loop().create_future()
            rested = self._rested
        if rested is not None:
            await asyncio.shield(rested)

    def go_on(self) -> None:
        """End `rest`: the next renewal is sent within `TICK_S`."""
        self._rests = False

    def _tell(self, sent_at: float) -> None:
        if self.surrendered:
            return
        for call in self._on_granted:
            call(sent_at)

    def holds(self) -> bool:
        """Whether durable work may be acknowledged now."""
        return self._clock.boot() < self.safe_until

    @property
    def failure(self) -> str:
        """Why the last renewal did not come through, or how long one waits for its answer; empty while all is well."""
        if self._failed_why:
            return self._failed_why
        waited_s = self._clock.boot() - self._asked_at if self._asked_at is not None else 0.0
        if waited_s > LATE_RENEWALS * self._settings.lease_renew_s:
            return f"a renewal of the lease has waited {waited_s:.0f} s for an answer"
        return ""

    def renewed_since(self, at: float) -> bool:
        """Whether a renewal that was sent after `at` (boot time) was granted."""
        return self.safe_until > at + SAFE_SHARE * self._settings.lease_period_s

    def held_for(self, since: float) -> bool:
        """Whether this node's lease has held for a full period since `since` (boot time), and does."""
        now = self._clock.boot()
        if now >= self.safe_until:
            return False
        # Granted anew, it has its `held_since` first and its `safe_until` after that: read the other way round here,
        # or the thread could come in between and a lease that had run out would seem to have held all the while.
        since = max(since, self.held_since)
        return now >= since + self._settings.lease_period_s

    async def watch_loop(self) -> None:
        """Note again and again that the event loop runs. A task of the loop, before renewals from elsewhere begin."""
        while True:
            self._ticked_at = self._clock.boot()
            await asyncio.sleep(TICK_S)

    def _stands_still(self, now: float) -> bool:
        """Whether the event loop has not run for too long to be held up for; tells it once each time."""
        still_s = now - self._ticked_at if self._ticked_at is not None else 0.0
        stalled = still_s > self._settings.lease_stall_s
        if stalled and not self.standstill:
            log.warning("lease not renewed: the event loop stands still", for_s=round(still_s, 1))
        self.standstill = f"the event loop has stood still for {still_s:.0f} s" if stalled else ""
        return stalled

    async def run(self, me: NodeAddress, store: LeaseStore | None = None) -> None:
        """Renew until refused, at once where the answer to the last renewal took longer than
        `lease_renew_s`. Does nothing for a deployment without leases. `store`: instead of the one of the loop,
        where this runs elsewhere."""
        if not self._settings.lease:
            return
        while True:
            sent_at = self._clock.boot()
            pause_s = self._settings.lease_renew_s
            if self._stands_still(sent_at) or not self._may_ask():
                pause_s = TICK_S
            elif not await self._renew(me, sent_at, store or self._store):
                break
            await asyncio.sleep(max(0.0, sent_at + pause_s - self._clock.boot()))
        with self._changing:
            if self.surrendered:
                return
            self.lost = True
            self.safe_until = 0.0
        log.error("lease refused: this incarnation is over", node=str(me))
        self.to_loop(self._on_lost)

    def _may_ask(self) -> bool:
        """Whether a renewal may be sent now; it is under way then."""
        with self._changing:
            self._asking = not (self._rests or self.surrendered)
            return self._asking

    def _asked(self) -> None:
        """Note that no renewal is under way."""
        with self._changing:
            self._asking = False
            rested, self._rested = self._rested, None
        if rested is not None:
            self.to_loop(_set, rested)

    async def _renew(self, me: NodeAddress, sent_at: float, store: LeaseStore) -> bool:
        self._asked_at = sent_at
        try:
            return await self._ask(me, sent_at, store)
        finally:
            self._asked()

    async def _ask(self, me: NodeAddress, sent_at: float, store: LeaseStore) -> bool:
        try:
            granted = await store.renew_lease(me, self._settings.lease_period_s, self.generation)
        except Exception as error:
            self._failed("lease not renewed", error)
            return True
        finally:
            self._asked_at = None
        self._failed_why = ""
        if granted:
            self.granted(sent_at)
            self.to_loop(self._renewed)
        return granted

    def _renewed(self) -> None:
        self._metrics.lease_renewals_total += 1
        self.renewed.set()

    def _failed(self, what: str, error: Exception) -> None:
        """Count and log it. Whatever the store raises, the series goes on: without it the node would neither
        renew nor learn that it is over."""
        self._failed_why = str(error)
        self.to_loop(self._count_failure)
        known = isinstance(error, GarrisonError)
        left_s = round(self.safe_until - self._clock.boot(), 2)
        log.warning(what, why=str(error), left_s=left_s, exc_info=None if known else error)

    def _count_failure(self) -> None:
        self._metrics.lease_failures_total += 1


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _at_once(call: Callable[..., Any], *args: Any) -> None:
    call(*args)
