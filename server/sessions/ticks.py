"""The gateway's coarse clock: the time as of its last tick, and the wheel of checks that each tick turns."""

from typing import Final

from server.runtime.clock import Clock
from server.sessions.wheel import Check, Wheel


class TickClock:
    """Time for everything that lives on a gateway. `tick` is `now()` as of the last tick: good enough to know
    who was heard, and read where every message passes."""

    __slots__ = ("now", "tick", "tick_s", "wall_ms", "wheel")

    def __init__(self, clock: Clock, tick_s: float) -> None:
        self.now: Final = clock.now
        self.wall_ms: Final = clock.wall_ms
        self.tick_s: Final = tick_s
        self.tick = self.now()
        self.wheel: Final = Wheel(tick_s, self.tick)

    def advance(self) -> None:
        """Take the time, and run every check that is due."""
        self.tick = self.now()
        self.wheel.turn(self.tick)

    def after(self, wait_s: float, check: Check) -> None:
        """Call `check` in `wait_s` seconds, up to a tick late."""
        self.wheel.add(self.now() + wait_s, check)
