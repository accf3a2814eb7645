"""Fairness between requests that take long: a turn of the loop does some of them.

A login is worth a fifth of a millisecond, and the presence of 200 friends as much again; when thousands come back at
once, each socket that can be read has one. All such work of a node stands in one line, in the order in which it came: a
turn of the loop does as much as a *slice* has room for, at least one piece, and everybody's heartbeats are answered
before the next. While there is room, nothing waits.

The line is as long as its users let it be: a connection waits in it with one hello, a session with as many requests as
it may have in flight.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
SLICE_S: Final = 0.002
SLICE_UNITS: Final = 500
"""Room of a slice: seconds, and units, of which a pair of watcher and player is one. A slice is over when it has used
up either."""


class Slices:
    """See the module's head. `now`: a clock that moves while the loop works."""

    __slots__ = ("_begun", "_left", "_line", "_now", "_slice_s", "_units", "_until")

    def __init__(self, now: Callable[[], float], slice_s: float = SLICE_S, units: int = SLICE_UNITS) -> None:
        self._now, self._slice_s, self._units = now, slice_s, units
        self._line: deque[tuple[int, Callable[[], object]]] = deque()
        self._begun = False
        """Whether this turn of the loop has done some work, or work waits: another slice begins with the next turn."""
        self._left = 0
        self._until = 0.0

    def __len__(self) -> int:
        return len(self._line)

    def do(self, units: int, work: Callable[[], object]) -> None:
        """Do this work, which is worth so many units: now, or when its turn comes."""
        if not self._begun:
            self._begin()
        if self._line or not self._has_room():
            self._line.append((units, work))
        else:
            self._left -= units
            work()

    async def turn(self, units: int, work: Callable[[], T]) -> T:
        """The result of this work, when its turn has come. Raises what it raises."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def do() -> None:
            if done.done():
                return  # nobody waits any more
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        self.do(units, do)
        return done.result() if done.done() else await done

    def _begin(self) -> None:
        self._begun = True
        self._left, self._until = self._units, self._now() + self._slice_s
        asyncio.get_running_loop().call_soon(self._next)

    def _has_room(self) -> bool:
        return self._left > 0 and self._now() < self._until

    def _next(self) -> None:
        """Begin the next slice, in the next turn of the loop."""
        self._begun = False
        if not self._line:
            return
        self._begin()
        while self._line and self._has_room():
            units, work = self._line.popleft()
            self._left -= units
            work()
