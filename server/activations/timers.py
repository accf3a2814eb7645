"""The timers of one activation: one a method name, set again it is moved.

Stopped, they keep their times and do not ring; what would have rung meanwhile rings when they go on. What is due
rings through the node's gate (`timer_gate.py`), which may let it wait.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from server.activations.timer_gate import TimerGate
from server.errors import Retryable
from server.runtime.clock import Clock


class _Timer:
    """A timer. The loop calls it itself: most players have one, and a bound method with arguments is 130 bytes."""

    __slots__ = ("args", "due", "handle", "name", "timers", "waits")

    def __init__(self, timers: "Timers", name: str, due: float, args: tuple[Any, ...]) -> None:
        self.timers, self.name, self.due, self.args = timers, name, due, args
        self.handle: asyncio.TimerHandle | None = None
        self.waits = False
        """Due, and at the gate."""

    def __call__(self) -> None:
        self.timers.comes_due(self)


class Timers:
    """`ring(name, args)` is called when one is due; it is not set any more then. `needs_lease`: its turn would be
    refused while the node's lease is out."""

    __slots__ = ("_clock", "_gate", "_refusals", "_ring", "_running", "_set", "needs_lease")

    def __init__(
        self,
        ring: Callable[[str, tuple[Any, ...]], None],
        clock: Clock,
        gate: TimerGate,
        *,
        needs_lease: bool,
        running: bool,
    ) -> None:
        self._ring, self._clock, self._gate, self._running = ring, clock, gate, running
        self.needs_lease = needs_lease
        self._set: dict[str, _Timer] = {}
        self._refusals: dict[str, int] | None = None
        """Refusals in a row of each timer's turn, once there were any."""

    def __len__(self) -> int:
        return len(self._set)

    def __contains__(self, name: str) -> bool:
        return name in self._set

    def set(self, name: str, delay_s: float, args: tuple[Any, ...]) -> None:
        self.cancel(name)
        timer = self._set[name] = _Timer(self, name, self._clock.now() + delay_s, args)
        if self._running:
            self._start(timer, delay_s)

    def cancel(self, name: str) -> None:
        timer = self._set.pop(name, None)
        if timer is not None and timer.handle is not None:
            timer.handle.cancel()

    def clear(self) -> None:
        for name in list(self._set):
            self.cancel(name)
        self._gate.forget(self)

    def stop(self) -> None:
        self._running = False
        for timer in self._set.values():
            timer.waits = False
            if timer.handle is not None:
                timer.handle.cancel()
                timer.handle = None

    def go_on(self) -> None:
        self._running = True
        now = self._clock.now()
        for timer in self._set.values():
            if timer.handle is None and not timer.waits:
                self._start(timer, max(0.0, timer.due - now))

    def left(self) -> list[tuple[str, float, tuple[Any, ...]]]:
        """Name, seconds until it is due, arguments, of each."""
        now = self._clock.now()
        return [(name, max(0.0, timer.due - now), timer.args) for name, timer in self._set.items()]

    def ring_due(self) -> None:
        """Ring those that wait at the gate."""
        for name, timer in list(self._set.items()):
            if timer.waits and self._set.get(name) is timer:
                del self._set[name]
                self._ring(name, timer.args)

    def refused(self, name: str, args: tuple[Any, ...], error: Retryable) -> None:
        """Set a timer again whose turn was refused."""
        if self._refusals is None:
            self._refusals = {}
        times = self._refusals[name] = self._refusals.get(name, 0) + 1
        self.set(name, self._gate.put_off(self.needs_lease, times, error), args)

    def went_well(self, name: str) -> None:
        """The turn of a timer was not refused."""
        if self._refusals is not None:
            self._refusals.pop(name, None)

    @staticmethod
    def _start(timer: _Timer, delay_s: float) -> None:
        timer.handle = asyncio.get_running_loop().call_later(delay_s, timer)

    def comes_due(self, timer: _Timer) -> None:
        """Ring a timer of these that is due, or let it wait at the gate."""
        if self._set.get(timer.name) is not timer:
            return
        timer.handle = None
        if self._gate.admit(self):
            del self._set[timer.name]
            self._ring(timer.name, timer.args)
        else:
            timer.waits = True
