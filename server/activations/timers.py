"""The timers of one activation: one a method name, set again it is moved.

Stopped, they keep their times and do not ring; what would have rung meanwhile rings when they go on.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from server.runtime.clock import Clock


class _Timer:
    __slots__ = ("args", "due", "handle")

    def __init__(self, due: float, args: tuple[Any, ...]) -> None:
        self.due, self.args = due, args
        self.handle: asyncio.TimerHandle | None = None


class Timers:
    """`ring(name, args)` is called when one is due; it is not set any more then."""

    __slots__ = ("_clock", "_ring", "_running", "_set")

    def __init__(self, ring: Callable[[str, tuple[Any, ...]], None], clock: Clock, running: bool) -> None:
        self._ring, self._clock, self._running = ring, clock, running
        self._set: dict[str, _Timer] = {}

    def __len__(self) -> int:
        return len(self._set)

    def __contains__(self, name: str) -> bool:
        return name in self._set

    def set(self, name: str, delay_s: float, args: tuple[Any, ...]) -> None:
        self.cancel(name)
        timer = self._set[name] = _Timer(self._clock.now() + delay_s, args)
        if self._running:
            self._start(name, timer, delay_s)

    def cancel(self, name: str) -> None:
        timer = self._set.pop(name, None)
        if timer is not None and timer.handle is not None:
            timer.handle.cancel()

    def clear(self) -> None:
        for name in list(self._set):
            self.cancel(name)

    def stop(self) -> None:
        self._running = False
        for timer in self._set.values():
            if timer.handle is not None:
                timer.handle.cancel()
                timer.handle = None

    def go_on(self) -> None:
        self._running = True
        now = self._clock.now()
        for name, timer in self._set.items():
            if timer.handle is None:
                self._start(name, timer, max(0.0, timer.due - now))

    def left(self) -> list[tuple[str, float, tuple[Any, ...]]]:
        """Name, seconds until it is due, arguments, of each."""
        now = self._clock.now()
        return [(name, max(0.0, timer.due - now), timer.args) for name, timer in self._set.items()]

    def _start(self, name: str, timer: _Timer, delay_s: float) -> None:
        timer.handle = asyncio.get_running_loop().call_later(delay_s, self._due, name, timer)

    def _due(self, name: str, timer: _Timer) -> None:
        if self._set.get(name) is timer:
            del self._set[name]
            self._ring(name, timer.args)
