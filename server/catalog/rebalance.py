"""Rebalancing: what is misplaced moves home, at a bounded rate while the node serves, and all of it before a
planned stop."""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from server.activations.activation import Activation
from server.catalog.misplaced import Misplaced
from server.catalog.ports import Moves, Population
from server.catalog.services import CurrentView, Services
from server.catalog.steps import guarded
from server.ids import NodeAddress

log = structlog.get_logger(__name__)
STEP_S: Final = 0.1
"""Time between two steps; each moves its share of `actors.rebalance_per_s`."""
LEAVE_BATCH: Final = 500
"""Activations that a leaving node moves at a time."""


class Rebalance:
    """Moves misplaced activations with `migrator`."""

    def __init__(
        self, services: Services, current: CurrentView, *, catalog: Population, misplaced: Misplaced, migrator: Moves
    ) -> None:
        self._services, self._current = services, current
        self._live, self._misplaced, self._migrator = catalog.live, misplaced, migrator

    async def run(self) -> None:
        """Move what is misplaced for ever, at most `rebalance_per_s`."""
        clock, took_s = self._services.clock, 0.0
        per_step = max(1, round(self._services.settings.actors.rebalance_per_s * STEP_S))
        while True:
            await asyncio.sleep(max(STEP_S / 10, STEP_S - took_s))
            self._misplaced.observe()
            if not len(self._misplaced) or self._current.resting:
                took_s = 0.0
                continue
            begin = clock.now()
            ids = self._misplaced.take(per_step)
            away = [self._live[identity] for identity in ids if identity in self._live]
            await guarded(self.move_home(away))
            for activation in away:
                if not activation.dropped:
                    self._misplaced.consider(activation)
            took_s = clock.now() - begin

    async def move_home(self, activations: Iterable[Activation]) -> int:
        """Move these to where they belong, to all homes at the same time; returns how many moved."""
        homes: dict[NodeAddress, list[Activation]] = {}
        for activation in activations:
            home = self._misplaced.home(activation)
            if home != self._current.me and not activation.paused:
                homes.setdefault(home, []).append(activation)
        spawn = self._services.supervisor.spawn
        moves = [spawn(self._migrator.move(some, home), f"move {home}") for home, some in homes.items()]
        return sum(await asyncio.gather(*moves))

    async def move_all(self, until: float) -> None:
        """Move everything off this node, what lives by itself first. Ends when nothing more moves, and at
        `until` at the latest, whoever has not answered by then: the rest of the time is for storing."""
        left_s = until - self._services.clock.now()
        if left_s <= 0:
            return
        try:
            async with asyncio.timeout(left_s):
                moved = 1
                while moved:
                    moved = 0
                    going = sorted(self._live.values(), key=_lives_by_itself, reverse=True)
                    for start in range(0, len(going), LEAVE_BATCH):
                        moved += await guarded(self.move_home(going[start : start + LEAVE_BATCH]))
        except TimeoutError:
            log.warning("not everything could be moved", activations=len(self._live))


def _lives_by_itself(activation: Activation) -> bool:
    return bool(activation.timers) or type(activation.actor).lives_on
