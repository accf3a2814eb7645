"""The dirty set against the plainest model of it."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from server.ids import ActorId
from server.storage.dirty import DirtySet


class Thing(NamedTuple):
    id: ActorId
    life: int
    """A second activation of the same id is another entity."""


THINGS = [Thing(ActorId(f"thing/{n}"), life) for n in range(4) for life in range(2)]
STEPS = st.lists(
    st.tuples(st.sampled_from(["mark", "clean", "renew"]), st.sampled_from(THINGS), st.integers(0, 3)), max_size=60
)


@given(STEPS)
def test_dirty_set_agrees_with_a_list_of_pairs(steps: list[tuple[str, Thing, int]]) -> None:
    dirty: DirtySet[Thing] = DirtySet()
    model: list[tuple[Thing, float]] = []
    now = 0.0
    for name, thing, passed in steps:
        now += passed
        held = next((pair for pair in model if pair[0].id == thing.id), None)
        if name == "mark":
            dirty.mark(thing, now)
            if held is None:
                model.append((thing, now))
        elif name == "clean":
            dirty.clean(thing)
            if held is not None and held[0] is thing:
                model.remove(held)
        else:
            dirty.renew(thing, now)
            if held is not None and held[0] is thing:
                model.remove(held)
                model.append((thing, now))
        assert list(dirty) == [one for one, _ in model]
        assert len(dirty) == len(model)
        assert dirty.age_s(now) == (now - model[0][1] if model else 0.0)
        assert dirty.oldest(2) == [one for one, _ in model[:2]]
        assert all((thing.id in dirty) == any(pair[0].id == thing.id for pair in model) for thing in THINGS)


def test_changes_coalesce_and_the_first_one_counts() -> None:
    dirty: DirtySet[Thing] = DirtySet()
    for now in (1.0, 2.0, 3.0):
        dirty.mark(THINGS[0], now)
    assert len(dirty) == 1 and dirty.age_s(5.0) == 4.0


def test_an_older_life_does_not_take_a_newer_ones_place() -> None:
    dirty: DirtySet[Thing] = DirtySet()
    old, new = THINGS[0], THINGS[1]
    dirty.mark(new, 1.0)
    dirty.renew(old, 2.0)
    dirty.clean(old)
    assert list(dirty) == [new] and dirty.age_s(1.0) == 0.0
