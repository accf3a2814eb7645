"""Waking of actors that a dead node left with a state that says that somebody is here (strays).

A player's row says online, and in which match; the node dies, and the player never comes back. Nobody calls the
player, so the row would say so for ever, and the match's roster with it. So some time after a death slot owners look
for such rows (`Actor.strays_after_s`, `Mapping.here`) and wake them as orphans are woken: bounded, at most
`actors.rebalance_per_s` a second, each node those of its slots. Who came back by then has claimed the player already,
which is no stray any more; who comes back later finds it in memory.

Looks are rare, as each goes through everybody who is here: a few after each death, a few after the start (the whole
cluster may have been gone), and one now and then for what these have missed.
"""

import asyncio
from typing import Final

from server.catalog.orphans import LIMITS, OrphanLimits, Orphans
from server.catalog.ports import ActorCalls, Population
from server.catalog.services import CurrentView, Services
from server.cluster.view import View
from server.ids import ActorId

LOOKS_S: Final = (0.0, 5.0, 20.0)
"""Times of the looks after a death, from `strays_after_s` on: its run may become dead in the store late, and what was
refused once is tried again."""
POLL_S: Final = 600.0
JITTER: Final = 0.3
"""Nodes do not look at the same moment: looks are later by up to this share."""


class Strays(Orphans):
    """See the module's head."""

    def __init__(
        self,
        services: Services,
        current: CurrentView,
        *,
        catalog: Population,
        calls: ActorCalls,
        limits: OrphanLimits = LIMITS,
    ) -> None:
        super().__init__(services, current, catalog=catalog, calls=calls, limits=limits)
        delays = {cls.kind: cls.strays_after_s for cls in services.app.actors if cls.strays_after_s is not None}
        self._kinds = list(delays)
        self._delay_s = max(delays.values(), default=0.0)
        self._due: list[float] = []

    def on_view(self, before: View, view: View) -> None:
        if self._kinds:
            super().on_view(before, view)

    def _look_often(self) -> None:
        now, late = self._clock.now(), self._services.rng.uniform(1.0, 1.0 + JITTER)
        planned = [at for at in self._due if at <= now + self._delay_s]
        self._due = planned + [now + late * (self._delay_s + more) for more in LOOKS_S]

    async def _pause(self) -> None:
        """Wait for the next look that is due; who goes meanwhile makes others due."""
        while True:
            now = self._clock.now()
            at = min(self._due, default=now + POLL_S * self._services.rng.uniform(1.0, 1.0 + JITTER))
            self._gone.clear()
            try:
                async with asyncio.timeout(max(0.0, at - now)):
                    await self._gone.wait()
            except TimeoutError:
                self._due = [due for due in self._due if due > at]
                return

    async def _find(self, kind: str, after: ActorId | None) -> list[ActorId]:
        return await self._services.store.strays(kind, self.limits.page, after)
