"""Virtual time for async tests: `pytestmark = pytest.mark.virtual_time` in a module, or the mark on one test.

Such a test and its async fixtures run on the simulation's loop (`tests/sim/loop.py`), where a sleep
costs nothing and the same test takes the same steps each time. It may use memory drivers only: a
socket, a thread or a process raises `NotSimulated`, and a test in which nothing can happen any more
fails at once with `Deadlock` and the place where each task waits. Parts that need a clock get a
`LoopClock`, which reads the running loop, so that support code is the same on either loop.
"""

import asyncio
import time

from tests.sim.loop import SimLoop

EPOCH_MS = 1_700_000_000_000
"""Wall time at which virtual time begins."""
LIMIT_S = 24 * 3600.0


class LoopClock:
    """The clock of the running loop: virtual on a virtual loop, the machine's on any other and
    where no loop runs."""

    @staticmethod
    def now() -> float:
        return _loop_time() or time.monotonic()

    boot = now

    @staticmethod
    def wall_ms() -> int:
        virtual_s = _loop_time()
        return time.time_ns() // 1_000_000 if virtual_s is None else EPOCH_MS + int(1000 * virtual_s)


class VirtualTimeLoop(SimLoop):
    """The simulation's loop for one test. Time starts above zero, as it does on any machine; what
    reaches the exception handler is logged, as on a real loop."""

    def __init__(self) -> None:
        super().__init__(limit_s=LIMIT_S)
        self._now = 1_000.0
        self.set_exception_handler(None)


def _loop_time() -> float | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop.time() if isinstance(loop, SimLoop) else None
