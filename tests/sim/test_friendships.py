"""Friends and blocks in the simulated cluster; the checkers against a sound store and planted differences."""

from typing import Any

import pytest
from msgspec.structs import replace

from game.friends.state import FriendsState, Link, Word
from game.player.state import PlayerState
from server.actors.facts import NEVER, Register, Stamp
from tests.sim.friendships import Tried, crossings, friends_differ, friendships, unwanted

ONE = Stamp(1, 5)
ASKED = Register[Word](ONE, Word(invite=ONE))
YES = Register[Word](Stamp(1, 3), Word(answered=ONE, yes=True))
SILENT = Register[Word](NEVER)
BLOCK = Register[Word](Stamp(1, 9), Word(blocks=True))


@pytest.mark.parametrize("seed", [1, 2])
def test_both_sides_agree_after_a_storm(seed: int) -> None:
    assert friendships(seed) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_words_that_come_late_and_words_that_cross_end_nowhere_wrong(seed: int) -> None:
    assert crossings(seed) == []


def lists(ann: Link | None, bob: Link | None, **more: Any) -> dict[str, FriendsState]:
    return {
        "ann": FriendsState({"bob": ann} if ann is not None else {}, **more),
        "bob": FriendsState({"ann": bob} if bob is not None else {}),
    }


FRIENDS = lists(Link(ASKED, YES, "friend"), Link(YES, ASKED, "friend"))


@pytest.mark.parametrize(
    "sound",
    [
        FRIENDS,
        lists(Link(ASKED, SILENT, "invited"), Link(SILENT, ASKED, "inviting")),
        lists(Link(ASKED, BLOCK, "invited"), Link(BLOCK, ASKED, "blocked")),
        lists(None, None),
    ],
    ids=["friends", "invited", "blocked", "strangers"],
)
def test_a_sound_store_passes(sound: dict[str, FriendsState]) -> None:
    assert friends_differ(sound, {}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        lists(Link(ASKED, YES, "friend"), None),
        lists(Link(ASKED, YES, "friend"), Link(YES, ASKED, "none")),
        lists(Link(ASKED, YES, "friend"), Link(BLOCK, ASKED, "blocked")),
        lists(Link(replace(ASKED, stamp=Stamp(2, 1)), YES, "friend"), Link(YES, ASKED, "friend")),
        lists(Link(ASKED, YES, "friend"), Link(YES, ASKED, "friend"), untold=("bob",)),
        lists(Link(ASKED, YES, "friend"), Link(YES, ASKED, "friend"), relations=7),
        lists(Link(ASKED, YES, "none"), Link(YES, ASKED, "none")),
    ],
    ids=["one side", "half", "friend of a block", "older mirror", "untold", "player unaware", "over and kept"],
)
def test_catches_a_difference(wrong: dict[str, FriendsState]) -> None:
    assert friends_differ(wrong, {"ann": PlayerState()})


def tried(*acts: tuple[str, str, bool]) -> list[Tried]:
    return [Tried(player, act, "bob" if player == "ann" else "ann", done) for player, act, done in acts]


def test_friends_who_want_it_pass() -> None:
    wanted = tried(("ann", "remove", True), ("ann", "invite", False), ("bob", "accept", True))
    assert unwanted(wanted, FRIENDS) == []


@pytest.mark.parametrize(
    "acts",
    [
        tried(("ann", "invite", True)),
        tried(("ann", "invite", True), ("bob", "accept", True), ("bob", "remove", True)),
        tried(("ann", "invite", True), ("bob", "accept", True), ("ann", "block", True)),
    ],
    ids=["never asked", "removed", "blocked"],
)
def test_catches_friends_who_do_not_want_it(acts: list[Tried]) -> None:
    assert unwanted(acts, FRIENDS)
