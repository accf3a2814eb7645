"""Garbage of a process with a loop: how much of its memory CPython's collector looks at in one pass, while everything
stands still.

Reference counts free nearly everything at once; the collector is for circles. Its full pass looks at every object that
is there, and comes again for each quarter more of them: with a million activations that is seconds. Here a pass that
took long is the last one over those objects: its survivors are set aside (`gc.freeze`), and the next ones look at what
has come since. So no pass takes much longer than `LONG_S`, and a process of few objects is looked at as ever.

A circle that was set aside before it became garbage stays until the process ends. Therefore what lives long in the
engine leaves no circle behind (`tests/support/circles.py` names those of a life), and a node that goes on in another
process (`garrison upgrade`) leaves all garbage behind.
"""

import gc
import time
from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol

from server.runtime.metrics import Metrics

Stage = Literal["start", "stop"]
LONG_S: Final = 0.01
"""CPU time of a pass after which its survivors are set aside. CPython begins a full pass when there is a quarter more
than the last one has left, and at least some ten thousand objects: the longest pass takes two or three times this."""
FULL: Final = 2
"""The oldest generation: its pass looks at all that is not set aside."""


class Collector(Protocol):
    """Port of the module `gc`, as far as it is needed here."""

    callbacks: list[Callable[[Stage, dict[str, int]], object]]

    def freeze(self) -> None: ...


class ShortPasses:
    """Rule of the module's head, from `begin` on, for all threads of the process. `metrics`: counters of the nodes that
    this process is now. `cpu` and `clock`: seconds of this thread's CPU, so that a busy machine makes no pass long, and
    of time, which is what those who wait see."""

    def __init__(
        self,
        metrics: Callable[[], Iterable[Metrics]],
        collector: Collector = gc,
        cpu: Callable[[], float] = time.thread_time,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._metrics, self._collector, self._cpu, self._clock = metrics, collector, cpu, clock
        self._began = self._began_cpu = 0.0

    def begin(self) -> None:
        self._collector.callbacks.append(self._pass)

    def end(self) -> None:
        self._collector.callbacks.remove(self._pass)

    def _pass(self, stage: Stage, info: dict[str, int]) -> None:
        """Called by the collector at the start and at the stop of each pass, by the thread that runs it."""
        if stage == "start":
            self._began, self._began_cpu = self._clock(), self._cpu()
            return
        is_long = self._cpu() - self._began_cpu > LONG_S
        if is_long:
            self._collector.freeze()  # also of a young generation: the older ones would look at its survivors, too
        took_s = self._clock() - self._began
        for metrics in self._metrics():
            metrics.collection_seconds.observe(took_s)
            metrics.collection_longest_seconds = max(metrics.collection_longest_seconds, took_s)
            metrics.collections_full_total += info["generation"] == FULL
            metrics.collections_set_aside_total += is_long


def collect_all() -> None:
    """Look at everything, what was set aside too: as long as it takes, for when nobody waits."""
    gc.unfreeze()
    gc.collect()
