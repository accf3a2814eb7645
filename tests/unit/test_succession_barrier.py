"""Which objects were touched since they were copied."""

import pytest

from server.runtime.barrier import Barrier


class Counter:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def add(self, by: int = 1) -> int:
        self.count += by
        return self.count

    def read(self) -> int:
        return self.count


class Louder(Counter):
    __slots__ = ()

    def add(self, by: int = 1) -> int:
        return super().add(2 * by)


def test_a_watched_object_is_noted_at_its_first_change_and_is_itself_again() -> None:
    barrier, counter, louder = Barrier(("add",)), Counter(), Louder()
    for it in (counter, louder):
        barrier.watch(it)
        barrier.watch(it)
    assert isinstance(counter, Counter) and not barrier.touched
    assert (counter.read(), louder.add(by=3), list(barrier.touched)) == (0, 6, [louder])
    assert type(louder) is Louder and type(counter) is not Counter
    louder.add()
    assert barrier.take() == [louder] and barrier.take() == []


def test_a_watched_object_is_noted_again_after_it_was_copied_again() -> None:
    barrier, counter = Barrier(("add",)), Counter()
    for expected in (1, 2, 3):
        barrier.watch(counter)
        assert counter.add() == expected
        assert barrier.take() == [counter]


def test_a_barrier_that_ended_notes_nothing_and_another_takes_its_objects() -> None:
    before, after = Barrier(("add",)), Barrier(("add",))
    counter = Counter()
    before.watch(counter)
    before.end()
    after.watch(counter)
    counter.add()
    assert (list(before.touched), list(after.touched), type(counter)) == ([], [counter], Counter)


def test_a_part_is_noted_as_its_owner() -> None:
    owner, part = object(), Counter()
    barrier = Barrier(("add",), key=lambda _part: owner)
    barrier.watch(part)
    part.add()
    assert list(barrier.touched) == [owner]


def test_a_method_that_is_not_there_is_an_error_and_no_change_that_nobody_notes() -> None:
    with pytest.raises(AttributeError, match="renamed"):
        Barrier(("add", "renamed")).watch(Counter())
