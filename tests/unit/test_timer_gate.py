"""Timers that are due: they wait for the lease, ring few at a time, and back off when they are refused (F48)."""

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from server.activations.timer_gate import AT_ONCE, MOST_S, TimerGate
from server.activations.timers import Timers
from server.actors.actor import Actor, remote
from server.actors.app import App
from server.errors import Internal, Unavailable
from server.ids import ActorId, actor_id
from server.runtime.metrics import Metrics
from tests.support.engine import TestSystem, cluster
from tests.support.tiny import Total
from tests.support.virtual_time import LoopClock

pytestmark = pytest.mark.virtual_time
MATCHES = 2_000


class Lease:
    """A lease that a test gives and takes."""

    def __init__(self) -> None:
        self.held = True
        self._told: list[Callable[[float], None]] = []

    def holds(self) -> bool:
        return self.held

    def when_granted(self, call: Callable[[float], None]) -> None:
        self._told.append(call)

    def grant(self) -> None:
        self.held = True
        for call in self._told:
            call(0.0)


class Bench:
    """A gate, and the moments at which timers rang."""

    def __init__(self) -> None:
        self.lease, self.clock, self.metrics = Lease(), LoopClock(), Metrics()
        self.gate = TimerGate(self.lease, self.clock, random.Random(7), self.metrics)
        self.rang: list[tuple[float, str]] = []

    def timers(self, needs_lease: bool = True) -> Timers:
        def ring(name: str, _args: tuple[Any, ...]) -> None:
            self.rang.append((self.clock.now(), name))

        return Timers(ring, self.clock, self.gate, needs_lease=needs_lease, running=True)

    def many(self, count: int) -> list[Timers]:
        made = [self.timers() for _ in range(count)]
        for number, timers in enumerate(made):
            timers.set(f"t{number}", 1.0, ())
        return made


async def test_timers_wait_for_the_lease_and_then_ring_spread_in_another_order() -> None:
    bench = Bench()
    bench.lease.held = False
    bench.many(1_000)
    await asyncio.sleep(30.0)
    assert bench.rang == [] and bench.gate.waiting == bench.metrics.timers_parked == 1_000
    bench.lease.grant()
    granted_at = bench.clock.now()
    await asyncio.sleep(5.0)
    moments = [at for at, _ in bench.rang]
    assert len(bench.rang) == 1_000 and bench.gate.waiting == bench.metrics.timers_parked == 0
    assert max(moments.count(at) for at in set(moments)) <= AT_ONCE, "a slice has a bound"
    assert 0.15 < moments[-1] - granted_at < 1.0, "paced, and not for ever"
    assert [name for _, name in bench.rang] != [f"t{number}" for number in range(1_000)]


async def test_a_lease_that_runs_out_again_parks_the_rest_again() -> None:
    bench = Bench()
    bench.lease.held = False
    bench.many(1_000)
    await asyncio.sleep(2.0)
    bench.lease.grant()
    await asyncio.sleep(0.1)
    bench.lease.held = False
    rang = len(bench.rang)
    assert 0 < rang < 1_000
    await asyncio.sleep(5.0)
    assert len(bench.rang) <= rang + AT_ONCE
    bench.lease.grant()
    await asyncio.sleep(5.0)
    assert sorted(name for _, name in bench.rang) == sorted(f"t{number}" for number in range(1_000)), "each once"


async def test_a_grant_that_is_over_when_it_is_heard_lets_nothing_go() -> None:
    bench = Bench()
    bench.lease.held = False
    bench.many(10)
    await asyncio.sleep(2.0)
    bench.lease.grant()
    bench.lease.held = False
    await asyncio.sleep(2.0)
    assert bench.rang == [] and bench.gate.waiting == 10


async def test_thousands_that_are_due_at_once_leave_the_loop_to_others_in_between() -> None:
    bench = Bench()
    bench.many(1_000)
    await asyncio.sleep(1.0)
    seen = [len(bench.rang)]
    while len(bench.rang) < 1_000:
        await asyncio.sleep(0)
        seen.append(len(bench.rang))
    assert max(after - before for before, after in pairwise(seen)) <= AT_ONCE
    assert seen[0] <= 4 * AT_ONCE and len({at for at, _ in bench.rang}) == 1, (
        "nothing but the loop's rounds is between them"
    )


async def test_waiting_timers_can_be_moved_cancelled_stopped_and_dropped() -> None:
    bench = Bench()
    bench.lease.held = False
    cancelled, moved, stopped, ended = bench.many(4)
    await asyncio.sleep(2.0)
    cancelled.cancel("t0")
    moved.set("t1", 60.0, ())
    stopped.stop()
    assert stopped.left() == [("t2", 0.0, ())], "it goes to another node with its actor"
    ended.clear()
    assert bench.gate.waiting == 3
    bench.lease.grant()
    await asyncio.sleep(10.0)
    assert bench.rang == [] and bench.gate.waiting == 0
    stopped.go_on()
    await asyncio.sleep(1.0)
    assert [name for _, name in bench.rang] == ["t2"]


async def test_timers_of_volatile_actors_need_no_lease() -> None:
    bench = Bench()
    bench.lease.held = False
    bench.timers(needs_lease=False).set("beat", 1.0, ())
    await asyncio.sleep(1.5)
    assert [name for _, name in bench.rang] == ["beat"]


def test_refused_timers_back_off_with_jitter_up_to_a_bound() -> None:
    gate = Bench().gate
    error = Unavailable("no room", retry_after_s=0.5)
    waits = [[gate.put_off(True, times, error) for _ in range(200)] for times in range(1, 12)]
    for times, some in enumerate(waits):
        low = min(MOST_S, 0.5 * 2**times)
        assert low <= min(some) < max(some) <= 2 * low and len(set(some)) > 100


class Watched(Actor[Total]):
    """A match whose host is gone: a timer that changes state, and is set until it could."""

    kind = "watched"
    durability = "write_behind"
    State = Total
    ended: list[tuple[float, ActorId]] = []

    @remote
    def begin(self, delay_s: float) -> None:
        self.after(delay_s, self.over)

    def over(self) -> None:
        Watched.ended.append((self.now(), self.id))
        self.state = replace(self.state, total=self.state.total + 1)


WatchedApp = App(name="watched", actors=(Watched,))


async def _begin(system: TestSystem, count: int) -> None:
    for number in range(count):
        await system.ask(actor_id("watched", f"m{number}"), "begin", (5.0,))
    Watched.ended = []


async def test_matches_whose_hosts_are_gone_wait_for_the_lease_with_a_line_a_second() -> None:
    """F48, at a smaller size: the lease is out for 40 s; counted are attempts and lines, not times."""
    async with cluster(app=WatchedApp) as made:
        system = made.systems["node-1"]
        await _begin(system, MATCHES)
        system.lease.safe_until = 0.0
        with capture_logs() as lines:
            await asyncio.sleep(45.0)
            assert Watched.ended == [] and system.metrics.timers_parked == MATCHES
            system.lease.granted(made.clock.boot())
            await asyncio.sleep(1.7)
            system.lease.granted(made.clock.boot())
            await asyncio.sleep(1.7)
        assert len(Watched.ended) == len({id for _, id in Watched.ended}) == MATCHES, "each once"
        assert system.metrics.timers_refused_total == 0
        assert len([line for line in lines if line["event"] == "timer turn failed"]) == 0


async def test_refused_work_is_tried_again_later_and_later_with_a_line_a_second() -> None:
    async with cluster(app=WatchedApp) as made:
        system = made.systems["node-1"]
        await _begin(system, MATCHES)
        system.write_behind.refusal = "too many changed states wait for the store"
        with capture_logs() as lines:
            await asyncio.sleep(45.0)
            tries = len(Watched.ended)
            assert MATCHES < tries <= 8 * MATCHES, "every 0.5 s they were 80 each"
            assert system.metrics.timers_refused_total == tries
            system.write_behind.refusal = None
            await asyncio.sleep(2 * MOST_S + 1)
        told = [line for line in lines if line["event"] == "timer turn failed"]
        assert len(told) <= 46 and sum(line.get("count", 1) for line in told) == tries
        assert {id for _, id in Watched.ended[tries:]} == {actor_id("watched", f"m{n}") for n in range(MATCHES)}
        assert len(Watched.ended) == tries + MATCHES


class Faulty(Actor[Total]):
    kind = "faulty"
    State = Total

    @remote
    def add(self) -> None:
        raise ZeroDivisionError("planted")


async def test_turns_that_crash_have_a_line_a_second_too() -> None:
    async with cluster(app=App(name="faulty", actors=(Faulty,))) as made:
        system = made.systems["node-1"]
        with capture_logs() as lines:
            for _ in range(1_000):
                with pytest.raises(Internal):
                    await system.ask(actor_id("faulty", "a"), "add", ())
            await asyncio.sleep(3.0)
        told = [line for line in lines if line["event"] == "turn crashed"]
        assert [line.get("count", 1) for line in told] == [1, 999]
        assert all(isinstance(line["exc_info"], ZeroDivisionError) for line in told)
        assert system.metrics.turn_errors_total == 1_000


async def test_a_closed_gate_lets_nobody_pass_and_those_that_waited_ring_in_slices_once_it_is_open() -> None:
    bench = Bench()
    some = [bench.timers(needs_lease=False) for _ in range(3 * AT_ONCE)]
    bench.gate.close()
    bench.gate.close()
    for number, timers in enumerate(some):
        timers.set(f"t{number}", 0.01, ())
    await asyncio.sleep(1.0)
    assert bench.rang == [] and bench.gate.waiting == len(some)
    bench.gate.open()
    bench.gate.open()
    await asyncio.sleep(0)
    assert len(bench.rang) == AT_ONCE
    await asyncio.sleep(0.01)
    assert [name for _, name in bench.rang] == [f"t{number}" for number in range(len(some))]


async def test_a_gate_that_closes_between_slices_keeps_the_others_and_those_that_wait_for_the_lease() -> None:
    bench = Bench()
    plain = [bench.timers(needs_lease=False) for _ in range(3 * AT_ONCE)]
    leased = [bench.timers() for _ in range(3 * AT_ONCE)]
    bench.lease.held = False
    for timers in plain + leased:
        timers.set("t", 0.01, ())
    await asyncio.sleep(0.01)
    bench.lease.grant()
    bench.gate.close()
    rang = len(bench.rang)
    await asyncio.sleep(1.0)
    assert len(bench.rang) == rang < len(plain)
    bench.gate.open()
    await asyncio.sleep(1.0)
    assert len(bench.rang) == len(plain) + len(leased)


async def test_timers_that_came_due_at_a_closed_gate_wait_for_the_lease_once_it_is_open() -> None:
    bench = Bench()
    timers = bench.timers()
    bench.gate.close()
    timers.set("t", 0.01, ())
    await asyncio.sleep(0.1)
    bench.lease.held = False
    bench.gate.open()
    await asyncio.sleep(1.0)
    assert bench.rang == []
    bench.lease.grant()
    await asyncio.sleep(1.0)
    assert len(bench.rang) == 1
