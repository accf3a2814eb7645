"""Watchers in the simulated cluster see what is true, or that nobody knows; the checker against planted lies."""

from typing import Any, cast

import pytest

from server.actors.pictures import Pictures
from tests.sim.not_known import NotKnown
from tests.sim.presence_cores import presence_cores, presence_views
from tests.sim.presence_successions import presence_successions
from tests.sim.presences import KNOWN_S, OFFLINE, PROMISE_S, Checker, presences


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_watchers_see_the_truth_or_that_nobody_knows_in_a_storm(seed: int) -> None:
    assert presences(seed) == []


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 10, 12, 16, 28])
def test_watchers_of_many_words_on_their_way_see_the_truth_or_that_nobody_knows(seed: int) -> None:
    """Each mutant of `presence_mutations.py` is found by one of these."""
    assert presence_cores(seed) == []
    assert presence_views(seed) == []


@pytest.mark.parametrize("seed", [1, 2, 3, 6, 9])
def test_watchers_see_the_truth_while_nodes_go_on_in_other_processes(seed: int) -> None:
    assert presence_successions(seed) == []


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
        self.lingering: dict[str, float] = {}
        presence = Part(core=Part(watching=watching, home=Part(lingering=self.lingering)))
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


@pytest.mark.parametrize(("lingers_s", "shown_s", "found"), [(2.4, 6.8, False), (2.4, 7.1, True), (9.0, 7.1, True)])
def test_the_checker_bears_with_who_has_moved_to_a_node_that_died_as_long_as_the_one_before_may_show_it(
    lingers_s: float, shown_s: float, found: bool
) -> None:
    world = Planted(ONLINE)
    checker = Checker(cast(Any, world), ["ann"])
    checker.true_at["ann", ONLINE] = died_at = world.now
    world.lingering["ann"] = died_at + 2.5
    world.now = died_at + min(lingers_s, shown_s)
    checker.note()
    world.lingering.clear()
    world.now = died_at + shown_s
    checker.look()
    assert any("not true since" in line for line in checker.wrong) == found


def test_the_checker_catches_what_differs_in_the_end() -> None:
    assert any("not Pictures(everybody=b'off'" in line for line in wrong(Planted(ONLINE), 0.0, ONLINE))


def spells(lasted_s: float, calm_at: float = 0.0) -> list[str]:
    """The words about a picture that is not known from 10 s on, and for so long."""
    not_known = NotKnown(4.5)
    not_known.calm(calm_at)
    said = [line for tenths in range(100, 101 + int(10 * lasted_s)) for line in not_known.look(["ann"], tenths / 10)]
    return [*said, *not_known.look([], 99.0)]


def test_a_picture_may_be_unknown_for_a_while_after_all_trouble_but_not_for_ever() -> None:
    assert spells(4.4) == [] and spells(7.0, calm_at=12.6) == []
    assert "ann is not known for more than 4.5 s" in spells(4.7)[0]
    assert spells(7.0, calm_at=12.3)


def test_the_checker_catches_an_entry_that_is_unknown_for_ever() -> None:
    world = Planted(None)
    checker = Checker(cast(Any, world), ["ann"])
    checker.not_known.calm(world.now)
    checker.look()
    world.now += KNOWN_S + 0.1
    assert not checker.wrong
    checker.look()
    assert ["ann at n1#1 is not known" in line for line in checker.wrong] == [True]


def test_the_checker_catches_an_entry_that_is_known_by_an_owner_nobody_trusts() -> None:
    assert any("others of the same owner" in line for line in wrong(Planted(OFFLINE, trusted=False), None))
