"""Asks many actors again, a slice at each tick, so that a link has room for other requests."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from server.sessions.ticks import TickClock

T = TypeVar("T")
_SLICE: Final = 256
"""Topics in one turn of the loop, where a renewal need not be spread wider."""


class Renewals(Generic[T]):
    """Calls `renew` for each topic that is due. Many take slices, up to `within_s` in all. `at_most`: topics in one
    turn of the loop."""

    def __init__(self, ticks: TickClock, renew: Callable[[T], None], at_most: int, within_s: float) -> None:
        self._ticks, self._renew, self._at_most, self._within_s = ticks, renew, at_most, within_s
        self._due: deque[T] = deque()
        self._slice = _SLICE
        self._under_way = False

    def begin(self, due: Sequence[T], hurry: bool) -> None:
        """Renew `due`, in this order, instead of what is left of the time before. `hurry`: slices as large as a link
        bears."""
        self._due = deque(due)
        spread = math.ceil(len(due) * self._ticks.tick_s / self._within_s)
        self._slice = self._at_most if hurry else min(self._at_most, max(_SLICE, spread))
        if not self._under_way:
            self._under_way = self._next_slice()
            if self._under_way:
                self._ticks.after(self._ticks.tick_s, self._go_on)

    def _go_on(self, now: float) -> float | None:
        self._under_way = self._next_slice()
        return now + self._ticks.tick_s if self._under_way else None

    def _next_slice(self) -> bool:
        due = self._due
        for _ in range(min(self._slice, len(due))):
            self._renew(due.popleft())
        return bool(due)
