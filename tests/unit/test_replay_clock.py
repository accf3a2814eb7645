"""The clock of a replay, held to a plain account of what was done to it."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.replays.pace import FASTEST, SLOWEST, ReplayClock

MOMENTS = st.floats(0, 1e6)
SPEEDS = st.integers(SLOWEST, FASTEST)
ACTS = st.lists(
    st.tuples(
        st.floats(0, 100),  # seconds that pass before it
        st.one_of(
            st.tuples(st.just("play"), st.booleans()),
            st.tuples(st.just("speed"), SPEEDS),
            st.tuples(st.just("seek"), st.integers(0, 10**9)),
            st.tuples(st.just("hold"), st.integers(0, 10**9)),
            st.tuples(st.just("release"), st.none()),
        ),
    ),
    max_size=30,
)


def act(clock: ReplayClock, now: float, name: str, value: Any) -> ReplayClock:
    match name:
        case "play":
            return clock.play(now, value)
        case "speed":
            return clock.at_speed(now, value)
        case "seek":
            return clock.seek(now, value)
        case "hold":
            return clock.hold(now, value)
    return clock.release(now)


@given(MOMENTS, ACTS)
def test_time_is_the_sum_of_what_passed_while_it_ran_and_only_seeks_and_holds_move_it(start: float, acts: Any) -> None:
    clock, now = ReplayClock(0.0, start), start
    shown, speed, plays, held = 0.0, 100, True, False
    for passes, (name, value) in acts:
        now += passes
        if plays and not held:
            shown += passes * 10 * speed
        assert math.isclose(clock.at(now), shown, rel_tol=1e-6, abs_tol=1e-2)
        clock = act(clock, now, name, value)
        match name:
            case "play":
                plays = value
            case "speed":
                speed = value
            case "seek":
                shown, held = value, False
            case "hold":
                shown, held = shown if held else min(shown, value), True
            case "release":
                held = False
        assert math.isclose(clock.at(now), shown, rel_tol=1e-6, abs_tol=1e-2)
        assert (clock.speed, clock.plays, clock.held) == (speed, plays, held)


@given(MOMENTS, ACTS, st.integers(0, 10**9))
def test_the_moment_at_which_a_time_is_due_is_when_the_clock_shows_it(start: float, acts: Any, ms: int) -> None:
    clock, now = ReplayClock(0.0, start), start
    for passes, (name, value) in acts:
        now += passes
        clock = act(clock, now, name, value)
    due = clock.due(ms)
    if ms <= clock.at(now):
        assert due is not None and due <= now
    elif clock.runs:
        assert due is not None and due >= now
        assert math.isclose(clock.at(due), ms, rel_tol=1e-6, abs_tol=1.0)
        assert clock.at((now + due) / 2) <= ms + 1.0
    else:
        assert due is None


@given(MOMENTS, SPEEDS, st.lists(st.floats(0, 50), max_size=10))
def test_a_clock_that_nobody_moves_never_goes_back(start: float, speed: int, pauses: list[float]) -> None:
    clock, now, before = ReplayClock(0.0, start).at_speed(start, speed), start, 0.0
    for pause in pauses:
        now += pause
        assert clock.at(now) >= before
        before = clock.at(now)
    assert clock.at(start - 1) == 0.0
