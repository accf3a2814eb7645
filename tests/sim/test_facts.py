"""Two-sided facts in the simulated cluster; the checkers against a sound store and planted differences."""

from typing import Any

import pytest

from server.actors.actor import Stamp
from server.actors.facts import Register
from tests.sim.facts import (
    BoutState,
    FriendState,
    Gift,
    GiverState,
    PurseState,
    facts,
    gifts_differ,
    results_differ,
    words_differ,
)

ONE, TWO = Stamp(1, 1), Stamp(1, 2)


@pytest.mark.parametrize("seed", [1, 2])
def test_both_sides_agree_after_a_storm(seed: int) -> None:
    assert facts(seed) == []


def sound() -> dict[str, Any]:
    return {
        "givers": {"g": GiverState({"p": 5})},
        "purses": {"p": PurseState({"g": ((ONE, 2), (TWO, 3)), "bout b": ((Stamp(0, 1), 1),)})},
        "friends": {
            "f": FriendState({"o": Register(TWO)}, {"o": TWO}),
            "o": FriendState(theirs={"f": Register(TWO)}),
        },
        "bouts": {"b": BoutState(("p",))},
        "told": {"bout/b": True},
    }


def differences(givers: Any, purses: Any, friends: Any, bouts: Any, told: Any) -> list[str]:
    return [*gifts_differ(givers, purses), *words_differ(friends), *results_differ(bouts, purses, told)]


def test_a_sound_store_passes() -> None:
    assert differences(**sound()) == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"givers": {"g": GiverState({"p": 6})}}, "who gave 6"),
        ({"givers": {"g": GiverState({"p": 5}, (Gift(TWO, "p", 3),))}}, "open gifts"),
        ({"givers": {}}, "who gave nothing"),
        ({"purses": {"p": PurseState({"g": ((ONE, 2), (ONE, 3))})}}, "twice"),
        ({"purses": {}}, "who gave 5"),
        ({"friends": {"f": FriendState({"o": Register(TWO)}, {"o": ONE})}}, "open word"),
        ({"friends": {"f": FriendState({"o": Register(TWO)}, {"o": TWO}), "o": FriendState()}}, "who has None"),
        ({"friends": {"nobody": FriendState()}}, "made by what it was told"),
        ({"told": {"bout/b": False}}, "results to tell"),
        ({"bouts": {"b": BoutState(("p", "q"))}}, "lacks the result"),
    ],
)
def test_catches_what_differs(fault: dict[str, Any], says: str) -> None:
    assert any(says in line for line in differences(**{**sound(), **fault}))
