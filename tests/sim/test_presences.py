"""Watchers in the simulated cluster see what is true, or that nobody knows; the checker against planted lies."""

from typing import Any, cast

import pytest

from server.actors.pictures import Pictures
from tests.sim.presence_cores import presence_cores, presence_views
from tests.sim.presences import OFFLINE, PROMISE_S, Checker, presences


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_watchers_see_the_truth_or_that_nobody_knows_in_a_storm(seed: int) -> None:
    assert presences(seed) == []


@pytest.mark.parametrize("seed", range(1, 21))
def test_watchers_of_many_words_on_their_way_see_the_truth_or_that_nobody_knows(seed: int) -> None:
    assert presence_cores(seed) == []
    assert presence_views(seed) == []


ENDED_ELSEWHERE = "a node that had just come did not know who had ended, and believed the home before"
BEHIND = "a home that had much to tell over a slow link counted as one that has told all"
FOUND = {
    533: BEHIND,
    588: ENDED_ELSEWHERE,
    708: ENDED_ELSEWHERE,
    717: ENDED_ELSEWHERE,
    903: ENDED_ELSEWHERE,
    1075: BEHIND,
    1338: ENDED_ELSEWHERE,
    1344: ENDED_ELSEWHERE,
}
"""Seeds that once found something, with what it was."""


@pytest.mark.parametrize("seed", FOUND)
def test_seeds_that_found_something_once_find_nothing(seed: int) -> None:
    assert presence_cores(seed) == []


class Planted:
    """A world of one node with one entry and no activation."""

    def __init__(self, pictures: Pictures | None, trusted: bool = True) -> None:
        self.now = 100.0
        entry = Part(player="ann", pictures=pictures, state="known", source=Part(trusted=trusted))
        watching = Part(entries={"ann": entry}, holds=lambda _entry: False)
        presence = Part(core=Part(watching=watching))
        catalog = Part(live={})
        node = Part(presence=presence, lease_lost=False, system=Part(catalog=catalog))
        self.nodes = {"n1": Part(node=node, address="n1#1")}
        self.database = Part(nodes={"n1#1": Part(state="up")})
        self.loop = Part(time=lambda: self.now)


class Part:
    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


def wrong(world: Planted, shown_s_ago: float | None, pictures: Pictures = OFFLINE) -> list[str]:
    checker = Checker(cast(Any, world), ["ann"])
    if shown_s_ago is not None:
        checker.true_at["ann", pictures] = world.now - shown_s_ago
    checker.look()
    return [*checker.wrong, *checker.different()]


ONLINE = Pictures(b"1", b"1", b"1!")


def test_the_checker_passes_what_is_true_and_what_is_unknown() -> None:
    assert wrong(Planted(OFFLINE), None) == []
    assert [line for line in wrong(Planted(None), None) if "not true" in line] == []


def test_the_checker_bears_for_a_while_with_what_was_true() -> None:
    assert [line for line in wrong(Planted(ONLINE), PROMISE_S - 0.1, ONLINE) if "not true" in line] == []


@pytest.mark.parametrize("ago", [None, PROMISE_S + 0.1])
def test_the_checker_catches_a_ghost(ago: float | None) -> None:
    assert any("not true since" in line for line in wrong(Planted(ONLINE), ago, ONLINE))


def test_the_checker_catches_what_differs_in_the_end() -> None:
    assert any("not Pictures(everybody=b'off'" in line for line in wrong(Planted(ONLINE), 0.0, ONLINE))


def test_the_checker_catches_an_entry_that_is_known_by_an_owner_nobody_trusts() -> None:
    assert any("others of the same owner" in line for line in wrong(Planted(OFFLINE, trusted=False), None))
