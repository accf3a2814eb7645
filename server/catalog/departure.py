"""The orderly end of a node's activations: moved where there is somewhere to go, otherwise stored and released."""

import asyncio

import structlog

from server.activations.activation import Activation
from server.catalog.catalog import Catalog
from server.catalog.ports import ActorCalls
from server.catalog.rebalance import Rebalance
from server.catalog.services import CurrentView, Services
from server.catalog.steps import guarded
from server.errors import Moved

log = structlog.get_logger(__name__)
LOOK_S = 0.02
"""Pause before the next try, where nothing was idle or the store is away."""


class Departure:
    """Ends all activations of this node by a deadline."""

    def __init__(
        self, services: Services, current: CurrentView, *, catalog: Catalog, rebalance: Rebalance, calls: ActorCalls
    ) -> None:
        self._services, self._current = services, current
        self._catalog, self._rebalance, self._calls = catalog, rebalance, calls
        self.unstored = 0
        """Acknowledged changes that did not get into the store in time."""

    async def run(self, deadline: float) -> None:
        """Move everything to other nodes, for half of the time until `deadline`; store and release
        the rest, waiting for turns that are under way."""
        live = self._catalog.live
        left_s = max(0.0, deadline - self._services.clock.now())
        try:
            async with asyncio.timeout(left_s):
                await self._rebalance.move_all(deadline - left_s / 2)
                while live:
                    await self._store_some()
        except TimeoutError:
            self.unstored = sum(activation.unstored_changes for activation in live.values())
            log.error("not everything could be stored", activations=len(live), changes=self.unstored)
        for activation in list(live.values()):
            self._catalog.discard(activation, Moved())

    async def _store_some(self) -> None:
        everything = list(self._catalog.live.values())
        for activation in everything:
            activation.pins = 0  # sessions have ended or moved: nobody is held up any more
        if await guarded(self._catalog.deactivate(everything)) == 0:
            await asyncio.sleep(LOOK_S)
        for activation in everything:
            if activation.dropped and self._current.owner(activation.id) not in (None, self._current.me):
                self._wake_elsewhere(activation)

    def _wake_elsewhere(self, activation: Activation) -> None:
        """Wake an actor that lives by itself where its slot is now: it has ended here."""
        if activation.had_timers or type(activation.actor).lives_on:
            self._calls.tell(activation.id, "wake", ())
