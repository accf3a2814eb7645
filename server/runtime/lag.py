"""Loop-lag probe: how late the event loop runs its timers. A node that is alive and cannot
serve shows here, and in gossip, as such."""

import asyncio

from server.runtime.clock import Clock
from server.runtime.metrics import Metrics

PROBE_INTERVAL_S = 0.1


class LagProbe:
    """`lag_s` is an exponential mean (weight 0.2) of the lateness of a 0.1 s timer."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock, self._metrics = clock, metrics
        self.lag_s = 0.0

    async def run(self) -> None:
        while True:
            due = self._clock.now() + PROBE_INTERVAL_S
            await asyncio.sleep(PROBE_INTERVAL_S)
            late = max(0.0, self._clock.now() - due)
            self.lag_s += 0.2 * (late - self.lag_s)
            self._metrics.loop_lag_seconds.observe(late)
            self._metrics.loop_lag_last_seconds = late
