"""Time and chance as seams. Everything that needs either is handed one of these.

`now` is for durations, `boot` for leases (it runs on while the machine is suspended),
`wall_ms` only for what is stored or shown.
"""

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds, monotonic, from an arbitrary zero."""
        ...

    def boot(self) -> float:
        """Seconds since boot, suspended time included."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...


class SystemClock:
    now = staticmethod(time.monotonic)

    @staticmethod
    def boot() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    @staticmethod
    def wall_ms() -> int:
        return time.time_ns() // 1_000_000
