"""Registers of two-sided facts: words of one writer, in any order and any number of times."""

from functools import reduce
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from server.actors.facts import Register, Stamp, newest

stamps = st.builds(Stamp, st.integers(1, 4), st.integers(1, 4))
words = st.lists(st.tuples(stamps, st.sampled_from((True, False, None))), max_size=6, unique_by=lambda word: word[0])


def heard(arrivals: list[Register[bool]]) -> Register[bool] | None:
    return reduce(newest, arrivals, None)  # type: ignore[arg-type]


@given(words)
def test_every_order_of_arrival_ends_with_the_newest_word(said: list[tuple[Stamp, bool | None]]) -> None:
    registers = [Register(stamp, value) for stamp, value in said]
    due = max(registers, key=lambda word: word.stamp, default=None)
    assert all(heard(list(order)) == due for order in permutations(registers[:5])) or len(registers) > 5
    assert heard(registers) == due


@given(words, st.data())
def test_a_word_that_comes_again_changes_nothing(said: list[tuple[Stamp, bool | None]], data: st.DataObject) -> None:
    registers = [Register(stamp, value) for stamp, value in said]
    kept = heard(registers)
    for word in data.draw(st.lists(st.sampled_from(registers), max_size=8)) if registers else []:
        assert newest(kept, word) is kept


@given(words)
def test_a_word_that_was_taken_back_stays_so(said: list[tuple[Stamp, bool | None]]) -> None:
    """An add, and its removal, which comes first."""
    for stamp, _ in said:
        gone = Register[bool](Stamp(stamp.epoch, stamp.version + 1))
        assert newest(gone, Register(stamp, True)) is gone


@given(stamps, stamps)
def test_a_version_of_a_later_epoch_is_newer(one: Stamp, other: Stamp) -> None:
    assert (one < other) == ((one.epoch, one.version) < (other.epoch, other.version))
