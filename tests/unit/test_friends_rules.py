"""Friends and blocks, pure: what two words make, who agrees, and what there is room for."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from game.friends import rules
from game.friends.rules import Act, At, Limits
from game.friends.state import FriendsState, Word
from server.actors.facts import Register, Stamp
from server.errors import Rejected, Unavailable

NEW = FriendsState()
ACTS: tuple[Act, ...] = ("invite", "accept", "decline", "remove", "block", "unblock")


class Side:
    """A player's list, with versions as the engine gives them; all of it is stored at once."""

    def __init__(self, name: str, limits: Limits | None = None) -> None:
        self.name, self.state, self.epoch, self.version = name, NEW, 1, 0
        self.limits = limits or Limits()

    def at(self) -> At:
        return At(Stamp(self.epoch, self.version + 1), 1_000 + self.version, lambda version: version <= self.version)

    def change(self, make: Callable[..., FriendsState], *args: Any) -> None:
        after = make(self.state, *args)
        if after is not self.state:
            self.state, self.version = after, self.version + 1

    def do(self, act: Act, other: str) -> None:
        self.change(rules.decide, act, other, self.at(), self.limits)

    def shows(self, other: str) -> str:
        link = self.state.links.get(other)
        return link.state if link is not None else "none"


def tell(source: Side, target: Side) -> None:
    """What `source` has to tell `target` is heard and stored there."""
    if target.name not in source.state.untold:
        return
    word = source.state.links[target.name].mine
    refused = ""
    try:
        target.change(rules.hear, source.name, word, target.at(), target.limits)
    except Rejected as error:
        refused = error.code
    source.change(rules.heard, target.name, word.stamp, refused, source.at())


def settle(one: Side, other: Side) -> None:
    for _ in range(6):
        tell(one, other)
        tell(other, one)
    assert other.name not in one.state.untold and one.name not in other.state.untold


def pair() -> tuple[Side, Side]:
    return Side("ann"), Side("bob")


def shown(one: Side, other: Side) -> tuple[str, str]:
    settle(one, other)
    return one.shows(other.name), other.shows(one.name)


def test_an_invite_that_is_accepted_makes_friends() -> None:
    ann, bob = pair()
    ann.do("invite", "bob")
    assert shown(ann, bob) == ("invited", "inviting")
    bob.do("accept", "ann")
    assert shown(ann, bob) == ("friend", "friend")
    assert rules.relations(ann.state).friends == ["bob"] and not rules.relations(ann.state).hidden


def test_invites_that_cross_make_friends() -> None:
    ann, bob = pair()
    ann.do("invite", "bob")
    bob.do("invite", "ann")
    assert shown(ann, bob) == ("friend", "friend")


def test_to_invite_who_has_invited_is_to_accept() -> None:
    ann, bob = pair()
    ann.do("invite", "bob")
    settle(ann, bob)
    bob.do("invite", "ann")
    assert shown(ann, bob) == ("friend", "friend")


@pytest.mark.parametrize("ends", ["ann", "bob"])
def test_a_friendship_that_is_ended_leaves_nothing(ends: str) -> None:
    ann, bob = pair()
    ann.do("invite", "bob")
    settle(ann, bob)
    bob.do("accept", "ann")
    settle(ann, bob)
    side, other = (ann, "bob") if ends == "ann" else (bob, "ann")
    side.do("remove", other)
    assert shown(ann, bob) == ("none", "none")
    assert ann.state.links == bob.state.links == {}, "both have forgotten it"


def test_an_invite_that_is_declined_leaves_nothing_and_can_be_made_anew() -> None:
    ann, bob = pair()
    for _ in range(2):
        ann.do("invite", "bob")
        assert shown(ann, bob) == ("invited", "inviting")
        bob.do("decline", "ann")
        assert shown(ann, bob) == ("none", "none")
        assert ann.state.links == bob.state.links == {}


def test_a_consent_does_not_count_for_the_invite_after() -> None:
    ann, bob = pair()
    ann.do("invite", "bob")
    settle(ann, bob)
    bob.do("accept", "ann")
    settle(ann, bob)
    ann.do("remove", "bob")
    ann.do("invite", "bob")  # bob has heard of neither
    assert shown(ann, bob) == ("invited", "inviting")


def test_an_accept_does_not_cross_a_block() -> None:
    ann, bob = pair()
    ann.do("invite", "bob")
    settle(ann, bob)
    ann.do("block", "bob")
    bob.do("accept", "ann")
    assert shown(ann, bob) == ("blocked", "none")
    assert rules.relations(ann.state).hidden == ["bob"] and rules.relations(bob.state).hidden == ["ann"]


def test_an_invite_to_somebody_who_blocks_looks_like_any_other() -> None:
    """The same state in the list, and it does not appear when the block ends."""
    ann, bob = pair()
    bob.do("block", "ann")
    settle(ann, bob)
    before = ann.state.relations
    ann.do("invite", "bob")
    assert shown(ann, bob) == ("invited", "blocked")
    assert ann.state.relations == before
    bob.do("unblock", "ann")
    assert shown(ann, bob) == ("none", "none")
    assert ann.state.links == bob.state.links == {}


def test_an_unblock_brings_no_friend_back() -> None:
    ann, bob = pair()
    ann.do("invite", "bob")
    settle(ann, bob)
    bob.do("accept", "ann")
    settle(ann, bob)
    bob.do("block", "ann")
    assert shown(ann, bob) == ("none", "blocked")
    bob.do("unblock", "ann")
    assert shown(ann, bob) == ("none", "none")


@pytest.mark.parametrize("act", ["accept", "decline"])
def test_there_must_be_an_invite_to_answer(act: Act) -> None:
    ann, _ = pair()
    with pytest.raises(Rejected) as refused:
        ann.do(act, "bob")
    assert refused.value.code == "no_invite" and ann.state is NEW


def test_the_own_block_forbids_an_invite() -> None:
    ann, _ = pair()
    ann.do("block", "bob")
    with pytest.raises(Rejected) as refused:
        ann.do("invite", "bob")
    assert refused.value.code == "blocking"


def test_an_older_word_changes_nothing() -> None:
    ann, bob = pair()
    ann.do("invite", "bob")
    old = ann.state.links["bob"].mine
    settle(ann, bob)
    bob.do("accept", "ann")
    settle(ann, bob)
    before = bob.state
    assert rules.hear(before, "ann", old, bob.at(), bob.limits) is before


def test_the_number_of_the_lists_rises_with_friends_and_blocks_only() -> None:
    ann, bob = pair()
    numbers = [bob.state.relations]
    for act, changes in (("invite", False), ("accept", True), ("remove", True), ("block", True), ("unblock", True)):
        (bob if act == "accept" else ann).do(act, "ann" if act == "accept" else "bob")  # type: ignore[arg-type]
        settle(ann, bob)
        assert (bob.state.relations > numbers[-1]) is changes, act
        numbers.append(bob.state.relations)
    bob.epoch, bob.version = 2, 0
    bob.do("block", "ann")
    assert bob.state.relations > numbers[-1], "a later owner's are greater"


# ---- room ------------------------------------------------------------------------------------


def code_of(call: Callable[[], None]) -> str:
    with pytest.raises(Rejected) as refused:
        call()
    return refused.value.code


def test_friends_and_own_invites_are_bounded_together() -> None:
    limits = Limits(friends=3, invited=2)
    ann = Side("ann", limits)
    for name in ("bob", "cyd"):
        ann.do("invite", name)
    assert code_of(lambda: ann.do("invite", "dan")) == "too_many_invites"
    for name in ("bob", "cyd"):
        other = Side(name)
        settle(ann, other)
        other.do("accept", "ann")
        settle(ann, other)
    ann.do("invite", "dan")
    assert code_of(lambda: ann.do("invite", "eve")) == "too_many_friends"
    eve = Side("eve")
    eve.do("invite", "ann")
    tell(eve, ann)
    assert code_of(lambda: ann.do("accept", "eve")) == "too_many_friends"


def test_a_thousand_strangers_do_not_fill_a_list() -> None:
    """The invite of a stranger that there is no room for is over for the stranger, too; others go on."""
    ann = Side("ann", Limits(inviting=10))
    strangers = [Side(f"s{number}") for number in range(1_000)]
    for stranger in strangers:
        stranger.do("invite", "ann")
        settle(stranger, ann)
    assert rules.count(ann.state, "inviting") == 10 and len(ann.state.links) == 10
    assert [stranger.shows("ann") for stranger in strangers] == ["invited"] * 10 + ["none"] * 990
    ann.do("invite", "bob")
    ann.do("decline", "s0")
    settle(ann, strangers[0])
    strangers[999].do("invite", "ann")
    assert shown(ann, strangers[999]) == ("inviting", "invited")


def test_blocks_are_bounded() -> None:
    ann = Side("ann", Limits(blocked=1, blocked_by=2))
    ann.do("block", "bob")
    assert code_of(lambda: ann.do("block", "cyd")) == "too_many_blocks"
    for number in range(4):
        stranger = Side(f"s{number}")
        stranger.do("block", "ann")
        settle(stranger, ann)
        assert stranger.shows("ann") == "blocked"
    assert len(rules.relations(ann.state).hidden) == 3


def test_untold_words_are_bounded() -> None:
    """Strangers that cannot be reached, invited and left again: each is kept until it has heard, and no more than so
    many."""
    ann = Side("ann")
    for number in range(rules.MAX_UNTOLD):
        ann.do("invite", f"s{number}")
        ann.do("remove", f"s{number}")
    with pytest.raises(Unavailable):
        ann.do("invite", "bob")
    assert len(ann.state.links) == rules.MAX_UNTOLD
    settle(ann, Side("s0"))
    ann.do("invite", "bob")


def test_rows_that_are_to_go_are_remembered_until_that_is_stored() -> None:
    ann, bob = pair()
    for _ in range(3):
        ann.do("invite", "bob")
        settle(ann, bob)
        ann.do("remove", "bob")
        settle(ann, bob)
        assert [it.player for it in ann.state.dropped] == ["bob"]
    ann.do("invite", "cyd")
    assert ann.state.dropped == ()


# ---- pages -----------------------------------------------------------------------------------


def test_pages_go_on_after_a_name() -> None:
    ann = Side("ann")
    for number in range(7):
        ann.do("invite" if number % 2 else "block", f"p{number}")
    first, more = rules.page(ann.state, None, "", 4)
    assert [entry.player for entry in first] == ["p0", "p1", "p2", "p3"] and more == "p3"
    ann.do("remove", "p1")  # a change before the cursor moves nobody to another page
    rest, more = rules.page(ann.state, None, "p3", 4)
    assert [entry.player for entry in rest] == ["p4", "p5", "p6"] and more is None
    assert [entry.player for entry in rules.page(ann.state, "invited", "", 9)[0]] == ["p3", "p5"]


# ---- any order -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_both_sides_agree_whatever_they_do_and_hear(seed: int) -> None:
    """Commands at random, words that come in any order and again, and turns that are lost with their node."""
    rng = random.Random(seed)
    sides = pair()
    said: dict[str, list[Register[Word]]] = {"ann": [], "bob": []}
    for _ in range(300):
        one, other = rng.sample(sides, 2)
        what = rng.random()
        if what < 0.5:
            try:
                one.do(rng.choice(ACTS), other.name)
            except Rejected:
                continue
        elif what < 0.8:
            tell(one, other)
        elif what < 0.9 and said[one.name] and rules.has_heard(other.state, one.name):
            other.change(rules.hear, one.name, rng.choice(said[one.name]), other.at(), other.limits)
        elif what < 0.92:
            one.epoch += 1
        if other.name in one.state.untold:
            said[one.name].append(one.state.links[other.name].mine)
    states = shown(*sides)
    words = [rules.said(side.state.links[other].mine) if other in side.state.links else rules.SILENT
             for side, other in zip(sides, ("bob", "ann"), strict=True)]  # fmt: skip
    assert states == (rules.state_of(*words), rules.state_of(*reversed(words)))
    assert "friend" not in states or states == ("friend", "friend")
    assert "none" not in states or "blocked" in states or not sides[0].state.links
