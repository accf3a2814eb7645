"""The gate before the timers of a node: timers that are due ring through it, few at a time.

Three things would let thousands of timers take the loop from everybody else, and with it the node:

    many are due at once      the first `AT_ONCE` ring, the others in the loop's next rounds, between which it
                              reads its sockets
    the lease is out          a timer of a durable actor is parked: its turn would be refused, and again, and again.
                              Granted anew, the lease lets the parked ones go in random order, a slice at a time, with
                              a jittered pause after each that is at least as long as the slice took
    a turn is refused         it is tried again later and later, with jitter (`put_off`)

Parked timers stay set: they can be moved, cancelled, and go to another node with their actor.

Closed, the gate lets nobody pass: what comes due waits in the order in which it did, and rings in slices once it is
open again. So a node that is about to go on in another process begins no turn by a timer, nor does that process before
it may.
"""

import asyncio
import random
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

from server.errors import Retryable
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics

AT_ONCE: Final = 64
"""Timers that ring one after the other before the loop gets its turn."""
SLICE_S: Final = 0.005
"""Time after which fewer are enough."""
PAUSE_S: Final = (0.01, 0.03)
"""Bounds of the pause between slices of timers that were parked."""
MOST_S: Final = 8.0
"""Bound of the wait before a refused timer is tried again; jitter can double it."""


class Lease(Protocol):
    """The node's lease, as far as timers wait for it."""

    def holds(self) -> bool: ...

    def when_granted(self, call: Callable[[float], None]) -> None: ...


class DueTimers(Protocol):
    """The timers of one activation, some of which are due and wait at the gate."""

    @property
    def needs_lease(self) -> bool: ...

    def ring_due(self) -> None:
        """Ring what is due and waits; nothing where that has been stopped or cancelled meanwhile."""
        ...


class TimerGate:
    """See the module's head. One for all activations of a node."""

    def __init__(self, lease: Lease, clock: Clock, rng: random.Random, metrics: Metrics) -> None:
        self._lease, self._clock, self._rng, self._metrics = lease, clock, rng, metrics
        self._rung, self._until = 0, 0.0
        """Timers that rang in this round of the loop, and when the others wait for the next."""
        self._queue: dict[DueTimers, None] = {}
        """Due, and for one of the next rounds."""
        self._parked: dict[DueTimers, None] = {}
        self._let_go: dict[DueTimers, None] = {}
        """Parked until the lease held again, and not rung yet."""
        self._letting_go = False
        self._closed = False
        lease.when_granted(self._granted)

    @property
    def waiting(self) -> int:
        """Activations with timers that are due and have not rung."""
        return len(self._queue) + len(self._parked) + len(self._let_go)

    def admit(self, timers: DueTimers) -> bool:
        """Whether one of `timers` that is due may ring now. False: `timers.ring_due` is called when it may."""
        if timers.needs_lease and not self._lease.holds():
            self._park(timers)
            return False
        if not self._rung:
            self._rung, self._until = 1, self._clock.now() + SLICE_S
            asyncio.get_running_loop().call_soon(self._next_round)
        elif self._rung >= AT_ONCE or self._queue or self._clock.now() >= self._until:
            self._queue[timers] = None
            return False
        else:
            self._rung += 1
        return True

    def close(self) -> None:
        """Let nobody pass until `open`. Idempotent."""
        self._closed = True
        self.admit = self._turn_away  # type: ignore[method-assign]  # so that an open gate asks for nothing

    def open(self) -> None:
        """Let pass again; those that came due meanwhile ring in the loop's next rounds. Idempotent."""
        if not self._closed:
            return
        self._closed = False
        del self.admit
        for timers in [timers for timers in self._queue if timers.needs_lease and not self._lease.holds()]:
            del self._queue[timers]
            self._park(timers)
        if self._queue:
            self._rung = AT_ONCE
            asyncio.get_running_loop().call_soon(self._next_round)
        self._granted(0.0)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def _turn_away(self, timers: DueTimers) -> bool:
        """`admit` while the gate is closed."""
        self._queue[timers] = None
        return False

    def forget(self, timers: DueTimers) -> None:
        """None of `timers` is set any more."""
        for waiting in (self._queue, self._parked, self._let_go):
            waiting.pop(timers, None)
        self._metrics.timers_parked = len(self._parked) + len(self._let_go)

    def put_off(self, needs_lease: bool, times: int, error: Retryable) -> float:
        """Seconds until a timer is tried again whose turn was refused `times` times in a row: the first time about as
        long as the refusal says, then twice as long each time. Where the lease has run out, none: it is parked."""
        if needs_lease and not self._lease.holds():
            return 0.0
        wait_s = min(MOST_S, (error.retry_after_s or Retryable.default_retry_s) * 2.0 ** min(times - 1, 10))
        return wait_s * self._rng.uniform(1.0, 2.0)

    def _park(self, timers: DueTimers) -> None:
        self._parked[timers] = None
        self._metrics.timers_parked = len(self._parked) + len(self._let_go)

    def _next_round(self) -> None:
        self._rung = 0
        if self._queue and not self._closed:
            self._rung = AT_ONCE  # timers that become due meanwhile queue behind
            asyncio.get_running_loop().call_soon(self._next_round)
            self._ring(self._queue)

    def _granted(self, _sent_at: float) -> None:
        if self._closed or not self._parked or not self._lease.holds():
            return  # nobody waits, or the answer came so late that the grant is over again
        parked = list(self._parked)
        self._parked.clear()
        self._rng.shuffle(parked)
        self._let_go.update(dict.fromkeys(parked))
        if not self._letting_go:
            self._letting_go = True
            self._after(self._rng.uniform(*PAUSE_S), self._let_some_go)

    def _let_some_go(self) -> None:
        if self._closed or not self._lease.holds():
            self._parked, self._let_go = {**self._let_go, **self._parked}, {}
        if not self._let_go:
            self._letting_go = False
            return
        began = self._clock.now()
        self._ring(self._let_go)
        pause_s = max(self._rng.uniform(*PAUSE_S), self._clock.now() - began)
        self._after(pause_s, self._let_some_go)
        self._metrics.timers_parked = len(self._parked) + len(self._let_go)

    def _ring(self, waiting: dict[DueTimers, None]) -> None:
        """Ring a slice of `waiting`, those that have waited longest first."""
        until = self._clock.now() + SLICE_S
        for timers in list(islice(waiting, AT_ONCE)):
            if timers not in waiting:
                continue  # ended by the turn of another
            del waiting[timers]
            timers.ring_due()
            if self._clock.now() >= until:
                return

    def _after(self, delay_s: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay_s, call)
