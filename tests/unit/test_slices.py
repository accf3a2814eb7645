"""Work that waits for its turn in the loop."""

import asyncio

import pytest

from server.sessions.slices import Slices

pytestmark = pytest.mark.virtual_time


class Clock:
    """A clock that each piece of work moves by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


async def test_a_slice_has_room_for_its_units_and_the_rest_follows_in_order() -> None:
    done: list[tuple[int, int]] = []
    turns = 0
    slices = Slices(Clock(), units=10)
    for number in range(7):
        slices.do(4, lambda number=number: done.append((turns, number)))  # type: ignore[misc]
    assert done == [(0, 0), (0, 1), (0, 2)] and len(slices) == 4
    for _ in range(2):
        turns += 1
        await asyncio.sleep(0)
    assert done[3:] == [(1, 3), (1, 4), (1, 5), (2, 6)]


async def test_a_slice_ends_with_its_time_and_has_room_for_one_piece_at_least() -> None:
    clock = Clock()
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        clock.at += 0.003

    slices = Slices(clock, slice_s=0.002)
    for number in range(3):
        slices.do(1, lambda number=number: work(number))  # type: ignore[misc]
    assert done == [0]
    await asyncio.sleep(0)
    assert done == [0, 1]
    await asyncio.sleep(0)
    assert done == [0, 1, 2]


async def test_other_callbacks_run_between_two_slices() -> None:
    order: list[str] = []
    slices = Slices(Clock(), units=1)
    for name in ("a", "b", "c"):
        slices.do(1, lambda name=name: order.append(name))  # type: ignore[misc]

    for _ in range(2):
        order.append("beat")
        await asyncio.sleep(0)
    assert order == ["a", "beat", "b", "beat", "c"]


async def test_work_that_fails_does_not_hold_up_what_waits() -> None:
    slices = Slices(Clock(), units=1)
    done: list[str] = []

    def fail() -> None:
        raise ValueError("planted")

    slices.do(1, lambda: done.append("first"))
    turn = asyncio.ensure_future(slices.turn(1, fail))
    given_up = asyncio.ensure_future(slices.turn(1, lambda: done.append("given up")))
    last = asyncio.ensure_future(slices.turn(1, lambda: done.append("last")))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(ValueError, match="planted"):
        await turn
    await last
    assert done == ["first", "last"]
