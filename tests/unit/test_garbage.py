"""Passes of the garbage collector: after a long one its survivors are set aside, and each pass is counted."""

import gc
import time
from collections.abc import Callable
from typing import Any

from server.runtime.garbage import FULL, LONG_S, ShortPasses, Stage
from server.runtime.metrics import Metrics


class PlayedCollector:
    """A collector whose passes a test plays; `cpu` and `clock` say how long each has taken."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Stage, dict[str, int]], object]] = []
        self.frozen = 0
        self.cpu_s = self.clock_s = 0.0

    def freeze(self) -> None:
        self.frozen += 1

    def play(self, generation: int, cpu_s: float, clock_s: float) -> None:
        for callback in self.callbacks:
            callback("start", {"generation": generation})
        self.cpu_s += cpu_s
        self.clock_s += clock_s
        for callback in self.callbacks:
            callback("stop", {"generation": generation, "collected": 0, "uncollectable": 0})


def test_survivors_of_a_long_pass_are_set_aside_and_those_of_a_short_one_are_not() -> None:
    collector = PlayedCollector()
    metrics = Metrics()
    passes = ShortPasses(lambda: [metrics], collector, lambda: collector.cpu_s, lambda: collector.clock_s)
    passes.begin()
    collector.play(FULL, LONG_S * 0.9, LONG_S)
    collector.play(0, LONG_S / 100, 1.0)  # a busy machine: long by the clock, and no work
    assert collector.frozen == 0
    collector.play(FULL, LONG_S * 1.1, 2.0)
    assert collector.frozen == 1
    collector.play(0, LONG_S * 1.1, LONG_S * 1.1)  # many young ones: they would make the next passes long
    assert collector.frozen == 2
    assert (metrics.collections_full_total, metrics.collections_set_aside_total) == (2, 2)
    assert (metrics.collection_seconds.count, round(metrics.collection_longest_seconds, 6)) == (4, 2.0)
    passes.end()
    collector.play(FULL, 1.0, 1.0)
    assert (collector.frozen, metrics.collection_seconds.count) == (2, 4)


def test_no_pass_over_a_growing_memory_takes_as_long_as_one_over_all_of_it() -> None:
    """The real collector, over more and more objects that all stay."""
    took: list[float] = []
    began_s = 0.0

    def measure(stage: Stage, info: dict[str, int]) -> None:
        nonlocal began_s
        if stage == "start":
            began_s = time.thread_time()
        else:
            took.append(time.thread_time() - began_s)

    def grow() -> list[Any]:
        return [{"number": [number], "more": [[number]]} for number in range(250_000)]

    gc.collect()
    gc.freeze()
    gc.callbacks.append(measure)
    try:
        gc.disable()
        kept = grow()
        gc.collect()
        whole_s = max(took)
        del kept
        took.clear()
        passes = ShortPasses(lambda: ())
        passes.begin()
        gc.enable()
        kept = grow()
        passes.end()
    finally:
        gc.callbacks.remove(measure)
        gc.enable()
    assert len(kept) == 250_000 and max(took) < whole_s / 2, (max(took), whole_s)
