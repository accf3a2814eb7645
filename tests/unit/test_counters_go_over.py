"""Counters of a node that goes on in another process: to who reads them nothing has begun anew."""

import msgspec
import pytest

from server.admin.history import Sampler
from server.admin.metrics import MetricsText
from server.errors import BadInput
from server.runtime.metrics import Histogram, Metrics
from tests.support.leases import HandClock


def counted() -> Metrics:
    """Metrics of which every counter has counted something, and every gauge has a value."""
    metrics = Metrics()
    for number, (name, value) in enumerate(vars(metrics).items(), 1):
        if isinstance(value, Histogram):
            value.observe(0.01 * number)
        elif isinstance(value, dict):
            value.update({1000: number, "other": 2 * number})
        elif not name.startswith("_") and name != "generation":
            setattr(metrics, name, number)
    return metrics


def test_every_counter_goes_over_and_no_gauge() -> None:
    before, after = counted(), Metrics()
    after.inherit(before.bequeath())
    assert after.generation == 1
    for name, value in vars(before).items():
        now = getattr(after, name)
        if isinstance(value, Histogram):
            assert (now.counts, now.total) == (value.counts, value.total), name
        elif name.endswith("_total"):
            assert now == value, name
        elif not name.startswith("_") and name != "generation":
            assert now == getattr(Metrics(), name), name


def test_counters_go_on_from_there_and_over_again() -> None:
    first, second, third = counted(), Metrics(), Metrics()
    second.inherit(first.bequeath())
    second.heartbeats_total += 5
    second.closed(1000)
    second.flush_seconds.observe(0.5)
    third.inherit(second.bequeath())
    assert third.heartbeats_total == first.heartbeats_total + 5
    assert third.closes_total[1000] == first.closes_total[1000] + 1
    assert third.flush_seconds.count == 2 and third.generation == 2
    assert b'garrison_generation{node="n"} 2.0' in MetricsText(third, "n").render()


def test_turns_of_activations_that_came_over_count_from_where_they_were() -> None:
    before, after = Metrics(), Metrics()
    before.count_turns(1_000)
    after.inherit(before.bequeath())
    for turns, total in ((0, 1_000), (7, 1_007), (8, 1_008)):
        after.count_turns(turns)
        assert after.turns_total == total


def test_counters_of_another_version_are_left_out() -> None:
    bequest = msgspec.msgpack.decode(counted().bequeath())
    bequest[1] |= {"of_a_later_version_total": 3, "sessions": 99}
    bequest[3]["flush_seconds"] = [[0.5], [1, 2], 3.0]
    after = Metrics()
    after.inherit(msgspec.msgpack.encode([*bequest, "more"]))
    assert not hasattr(after, "of_a_later_version_total") and after.sessions == 0
    assert after.flush_seconds.count == 0 and after.heartbeats_total > 0
    for bad in (b"", b"\xc1", msgspec.msgpack.encode([1, {"heartbeats_total": "x"}])):
        with pytest.raises(BadInput):
            Metrics().inherit(bad)


def test_rates_do_not_jump_by_what_came_over() -> None:
    clock, metrics = HandClock(), Metrics()
    sampler = Sampler(metrics, clock)
    metrics.inherit(counted().bequeath())
    for beats in (0, 10):
        metrics.heartbeats_total += beats
        clock.at += 1.0
        sampler.sample()
    assert [(it.heartbeats_per_s, it.turns_per_s) for it in sampler.all()] == [(0.0, 0.0), (10.0, 0.0)]
