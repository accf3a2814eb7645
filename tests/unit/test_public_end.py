"""The public end of a log that some watch with a delay."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.activations.public_end import GROUP_S, PublicEnd, PublicParts, arrived

DELAYS = st.floats(0.001, 600)
STEPS = st.lists(st.tuples(st.floats(0, 60), st.integers(0, 3)), max_size=60)
"""Seconds that pass, and events that become durable then."""


@given(DELAYS, STEPS, st.integers(0, 60))
def test_an_event_is_public_once_the_delay_is_over_and_soon_after_wherever_it_moves(
    delay: float, steps: list[tuple[float, int]], moves_at: int
) -> None:
    public: PublicEnd[int] = PublicEnd(delay)
    now, stored = 0.0, list[float]()
    for step, (passed, events) in enumerate(steps):
        now += passed
        before = public.seq
        assert public.move(now) == (public.seq > before)
        assert all(now - at >= delay - 1e-6 for at in stored[: public.seq - 1]), "none is too young"
        assert all(now - at <= delay + GROUP_S + 1e-6 for at in stored[public.seq - 1 :]), "none is kept for long"
        stored += [now] * events
        if events:
            public.note(len(stored) + 1, len(stored), now)
        if step == moves_at:
            public = arrived(public.parts(now), public.state, now)
    while (at := public.next_at()) is not None:
        assert public.move(at)
    assert public.seq == len(stored) + 1


@given(DELAYS, STEPS)
def test_the_state_that_is_shown_is_the_one_at_the_public_end(delay: float, steps: list[tuple[float, int]]) -> None:
    public: PublicEnd[int] = PublicEnd(delay)
    now, count = 0.0, 0
    for passed, events in steps:
        now += passed
        public.move(now)
        assert public.state == (public.seq - 1 or None)
        if events:
            count += events
            public.note(count + 1, count, now)


def test_the_groups_that_are_kept_are_bounded() -> None:
    public: PublicEnd[int] = PublicEnd(600.0)
    for number in range(120_000):
        public.note(number + 2, number, number * 0.005)
    assert len(public.parts(600.0).groups) <= 600.0 / GROUP_S + 1


def test_time_is_left_until_all_of_it_is_public() -> None:
    public: PublicEnd[int] = PublicEnd(10.0)
    assert public.left_s(1, 0.0) == 0.0
    assert public.left_s(2, 0.0) == 10.0 + GROUP_S, "not durable yet"
    public.note(2, 1, 0.0)
    public.note(5, 4, 4.0)
    assert [public.left_s(seq, 5.0) for seq in (2, 3, 5, 6)] == [5.25, 9.25, 9.25, 10.25]
    assert public.next_at() == 10.25 and public.move(10.25) and public.left_s(2, 10.25) == 0.0


def test_a_state_stays_while_those_after_it_have_not_come_along() -> None:
    public: PublicEnd[Any] = arrived(PublicParts(10.0, 3, b"", [(2.0, 7)]), "before", 100.0)
    public.note(9, "after", 101.0)
    assert public.move(102.0) and (public.seq, public.state) == (7, "before")
    assert public.move(112.0) and (public.seq, public.state) == (9, "after")
