"""Timers of the core: times at which it wants to be called, kept as values.

Nothing is cancelled: a timer carries its subject (a call, a stream, a connection's number), and the part that set it
looks, when it is due, whether the subject still waits for it (stale timers are dropped by their token, as in
foca). Pure.
"""

import heapq
from collections.abc import Callable
from typing import Any, Final, Literal

Kind = Literal["pause", "attempt", "beat", "leave", "part", "deadline", "retry", "ask", "renew"]
ROOM: Final = 256
"""Timers below which none are swept out."""


class Timers:
    """A heap of times with their kinds and subjects. `stale` tells which timers are of no use any more: they are swept
    out when the heap has doubled since the last sweep, so that answered requests leave nothing behind for long."""

    __slots__ = ("_count", "_heap", "_sweep_at", "stale")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Kind, Any]] = []
        self._count = 0
        self._sweep_at = ROOM
        self.stale: Callable[[Kind, Any], bool] = lambda kind, key: False

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, when: float, kind: Kind, key: Any) -> None:
        """Set a timer."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, kind, key))
        if len(self._heap) > self._sweep_at:
            self._heap = [timer for timer in self._heap if not self.stale(timer[2], timer[3])]
            heapq.heapify(self._heap)
            self._sweep_at = max(ROOM, 2 * len(self._heap))

    @property
    def next_s(self) -> float | None:
        """The time of the earliest timer; None if there is none."""
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> tuple[Kind, Any] | None:
        """The earliest timer that is due at `now`, taken out; None if none is."""
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, kind, key = heapq.heappop(self._heap)
        return kind, key
