"""The order of a leaderboard, against a list that is sorted anew for each question."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from game.boards.order import Entry, Order
from game.boards.periods import Span, span
from server.errors import BadInput

NAMES = [f"spartan-{number}" for number in range(12)]
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from(NAMES), st.integers(-5, 5)),
        st.tuples(st.just("drop"), st.sampled_from(NAMES), st.just(0)),
    ),
    max_size=60,
)


def _played(changes: list[Any]) -> tuple[Order, list[Entry]]:
    order, points = Order(), {}
    for change, player, value in changes:
        if change == "set":
            order.set(player, value)
            points[player] = value
        else:
            order.drop(player)
            points.pop(player, None)
    return order, sorted(Entry(-value, player) for player, value in points.items())


@given(CHANGES)
def test_places_and_pages_are_those_of_a_sorted_list(changes: list[Any]) -> None:
    order, expected = _played(changes)
    assert len(order) == len(expected)
    assert order.page(1, 100) == expected
    assert [order.place(entry.player) for entry in expected] == list(range(1, len(expected) + 1))
    assert all(order.place(name) is None for name in set(NAMES) - {entry.player for entry in expected})
    assert order.among(NAMES) == list(enumerate(expected, 1))


@given(CHANGES, st.integers(1, 5))
def test_pages_after_an_entry_hold_everybody_once(changes: list[Any], count: int) -> None:
    order, expected = _played(changes)
    walked: list[Entry] = []
    while True:
        first, page = order.after(walked[-1] if walked else None, count)
        if not page:
            break
        assert first == len(walked) + 1
        walked += page
    assert walked == expected


@given(CHANGES, st.sampled_from(NAMES), st.integers(1, 12))
def test_neighbours_surround_the_player(changes: list[Any], player: str, count: int) -> None:
    order, expected = _played(changes)
    first, found = order.around(player, count)
    if order.place(player) is None:
        assert found == []
        return
    assert found == expected[first - 1 : first - 1 + count]
    assert player in [entry.player for entry in found]
    assert len(found) == min(count, len(expected))


def test_an_entry_that_is_gone_still_begins_a_page() -> None:
    order = Order([("ada", 3), ("bo", 2), ("cy", 1)])
    last = order.page(2, 1)[0]
    order.drop("bo")
    assert order.after(last, 10) == (2, [Entry(-1, "cy")])


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ("all", Span(0, 2**53)),
        ("day:2026-11-29", Span(1795910400000, 1795996800000)),
        ("week:2026-11-23", Span(1795392000000, 1795996800000)),
    ],
)
def test_periods(period: str, expected: Span) -> None:
    assert span(period) == expected


@pytest.mark.parametrize("period", ["", "week:2026-11-24", "day:2026-02-30", "day:26-1-1", "month:2026-01-01", "day:"])
def test_bad_periods_are_refused(period: str) -> None:
    with pytest.raises(BadInput):
        span(period)
