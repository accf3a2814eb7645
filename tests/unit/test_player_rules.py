"""The rules of a player, one by one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from game import saved_commands
from game.match.state import Line
from game.places import Membership
from game.player import rules
from game.player.messages import ProfileSet
from game.player.state import PlayerState, SettledMatch
from server.errors import OutcomeUnknown, Rejected, Unavailable

NEW = PlayerState()


def test_coming_and_going() -> None:
    here = rules.arrived(NEW, 100)
    assert (here.status, here.last_seen_ms) == ("online", 100)
    gone = rules.departed(here, 200)
    assert (gone.status, gone.last_seen_ms) == ("offline", 200)
    assert rules.departed(gone, 300) is gone


def test_a_chosen_status_comes_back_but_nobody_is_still_away() -> None:
    for chosen, back in (("busy", "busy"), ("invisible", "invisible"), ("away", "online")):
        state = rules.choose(rules.arrived(NEW, 1), chosen, 2)
        assert state.status == chosen
        assert rules.arrived(rules.departed(state, 3), 4).status == back


def test_choosing_the_same_status_changes_nothing() -> None:
    here = rules.arrived(NEW, 100)
    assert rules.choose(here, "online", 200) is here
    assert rules.choose(here, "busy", 200).last_seen_ms == 200


@pytest.mark.parametrize("word", ["offline", "", "ONLINE", "x" * 100])
def test_not_every_word_is_a_status(word: str) -> None:
    with pytest.raises(Rejected) as caught:
        rules.chosen(word)
    assert caught.value.code == "bad_status"


# ---- profile ---------------------------------------------------------------------------------


def test_a_profile_command_is_answered_again() -> None:
    state = rules.set_profile(NEW, ProfileSet(1, "c", 4, "Chief", "helmet"), 9)
    assert (state.display_name, state.emblem) == ("Chief", "helmet")
    assert rules.answer_to(state, "c", 4) == 9
    assert rules.answer_to(state, "c", 5) is None
    assert rules.answer_to(state, "d", 4) is None


def test_old_profile_commands_have_an_unknown_outcome() -> None:
    state = NEW
    for command in range(1, saved_commands.MAX_COMMANDS + 2):
        state = rules.set_profile(state, ProfileSet(1, "c", command, "Chief"), command)
    with pytest.raises(OutcomeUnknown):
        rules.answer_to(state, "c", 1)
    assert rules.answer_to(state, "c", 2) == 2


def test_lineages_are_bounded() -> None:
    state = NEW
    for version in range(1, 200):
        state = rules.set_profile(state, ProfileSet(1, f"c{version}", 1, "Chief"), version)
    answers = [name for name, saved in state.answered.items() if saved.recent]
    assert sorted(answers) == sorted(f"c{version}" for version in range(200 - saved_commands.MAX_LINEAGES, 200))
    assert len(state.answered) == saved_commands.MAX_LINEAGES + saved_commands.MAX_FORGOTTEN


def test_a_lineage_whose_answers_are_forgotten_has_unknown_outcomes() -> None:
    """F9: its old command is not executed again over newer data, its next one is."""
    state = NEW
    for version in range(1, saved_commands.MAX_LINEAGES + 2):
        state = rules.set_profile(state, ProfileSet(1, f"c{version}", 7, f"name {version}"), version)
    with pytest.raises(OutcomeUnknown):
        rules.answer_to(state, "c1", 7)
    assert rules.answer_to(state, "c1", 8) is None
    state = rules.set_profile(state, ProfileSet(1, "c1", 8, "again"), 10)
    assert rules.answer_to(state, "c1", 8) == 10
    with pytest.raises(OutcomeUnknown):
        rules.answer_to(state, "c1", 7)
    for version in range(11, 10 + saved_commands.MAX_FORGOTTEN):
        state = rules.set_profile(state, ProfileSet(1, f"d{version}", 1, "Chief"), version)
    with pytest.raises(OutcomeUnknown):
        rules.answer_to(state, "c3", 7)


def test_a_profile_shows_the_key_until_it_has_a_name() -> None:
    assert rules.profile(NEW, "spartan", 1, 0).display_name == "spartan"


# ---- matches ---------------------------------------------------------------------------------


LINE = Line(kills=10, deaths=4, assists=3, medals=2)


def always(version: int) -> bool:
    return True


def test_a_result_is_in_the_totals_and_remembered() -> None:
    state = rules.settle(rules.entered(NEW, Membership("m")), SettledMatch("m", 1000, 7, 1), LINE, True, always)
    assert (state.matches, state.wins, state.kills, state.deaths, state.assists, state.medals) == (1, 1, 10, 4, 3, 2)
    assert state.match == ""
    assert rules.settled(state, "m", 1000, 7) == SettledMatch("m", 1000, 7, 1)


def test_a_match_of_the_same_name_is_another_one() -> None:
    state = rules.settle(NEW, SettledMatch("m", 1000, 7, 1), LINE, True, always)
    assert rules.settled(state, "m", 1000, 8) is None and rules.settled(state, "m", 1001, 7) is None
    assert rules.settled(state, "m", 1000, 0) is not None, "a match of an earlier version does not tell its birth"
    earlier = replace(state, settled=(SettledMatch("m", 1000),))
    assert rules.settled(earlier, "m", 1000, 7) is not None, "nor did its result"


def test_leaving_another_match_changes_nothing() -> None:
    state = rules.entered(NEW, Membership("m2"))
    assert rules.left(state, "m1") is state
    assert rules.settle(state, SettledMatch("m1", 5, 1, 1), Line(), False, always).match == "m2"


def test_a_result_that_is_not_stored_is_never_forgotten() -> None:
    state = NEW
    for number in range(rules.MAX_SETTLED):
        state = rules.settle(state, SettledMatch(f"m{number}", 9, 1, number), LINE, False, always)
    with pytest.raises(Unavailable):
        rules.settle(state, SettledMatch("one more", 9, 1, 99), LINE, False, lambda version: False)
    assert len(rules.settle(state, SettledMatch("one more", 9, 1, 99), LINE, False, always).settled) == len(
        state.settled
    )


class Career:
    """A player and its rows in the store, as the actor and the mapping treat them."""

    def __init__(self) -> None:
        self.state, self.version, self.stored = NEW, 0, 0
        self.rows: set[tuple[str, int]] = set()
        self.waiting: list[SettledMatch] = []

    def flush(self) -> None:
        self.rows |= {(done.match, done.birth) for done in self.state.settled if done.version > self.stored}
        self.stored = self.version

    def tell(self, match: str, birth: int, ended_wall_ms: int) -> None:
        if rules.settled(self.state, match, ended_wall_ms, birth) is not None:
            return
        if rules.is_forgotten(self.state, ended_wall_ms) and (match, birth) in self.rows:
            return
        result = SettledMatch(match, ended_wall_ms, birth, self.version + 1)
        try:
            self.state = rules.settle(self.state, result, Line(kills=1), False, lambda version: version <= self.stored)
        except Unavailable:
            self.flush()
            self.tell(match, birth, ended_wall_ms)
        else:
            self.version += 1


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 2), st.booleans()), max_size=300),
    st.randoms(use_true_random=False),
)
def test_f5_each_result_counts_once_whatever_the_clocks_say(
    told: list[tuple[int, int, bool]], chance: random.Random
) -> None:
    """However often and in whatever order results are told, past the memory of 64, with clocks that are wrong by
    hours, and names that are used again."""
    ended = {(number, birth): chance.randint(0, 20_000_000) for number, birth, _ in told}
    career = Career()
    for number, birth, flushes in told:
        career.tell(f"m{number}", birth, ended[number, birth])
        if flushes:
            career.flush()
    assert career.state.matches == career.state.kills == len(ended)
    career.flush()
    assert career.rows == {(f"m{number}", birth) for number, birth in ended}


# ---- places in matches (F6) ----------------------------------------------------------------------


def test_f6_a_player_is_in_one_match_and_leaves_the_one_before() -> None:
    state = rules.entered(rules.entered(NEW, Membership("m1", 7, 3)), Membership("m2", 8, 5))
    assert (state.match, state.birth, state.member) == ("m2", 8, 5)
    assert state.leaving == (Membership("m1", 7, 3, "left"),)
    assert rules.heard(state, "m1", 7, 3).leaving == ()
    assert rules.heard(state, "m1", 7, 2) is state, "another number is another fact"


def test_f6_a_late_word_about_a_place_that_was_left_changes_nothing() -> None:
    state = rules.depart(rules.entered(NEW, Membership("m", 7, 3)), "disconnected")
    assert (state.match, rules.entered(state, Membership("m", 7, 3))) == ("", state)
    back = rules.entered(state, Membership("m", 7, 9))
    assert (back.match, back.member, back.leaving) == ("m", 9, state.leaving)
    assert rules.left(back, "m", 7, 3).member == 9
    assert rules.left(back, "m", 7, 9).match == ""
    assert rules.left(back, "m", 6, 0) is back, "a match of that name which is another one"


def test_a_place_of_an_earlier_version_gets_its_number() -> None:
    state = replace(NEW, match="m")
    assert rules.entered(state, Membership("m", 7, 3)) == replace(state, birth=7, member=3)
    assert rules.depart(state, "disconnected").leaving == (Membership("m", 0, 0, "disconnected"),)
    assert rules.settle(state, SettledMatch("m", 5, 7, 1), Line(), False, always).match == ""


words = st.lists(
    st.tuples(st.sampled_from(("m1", "m2")), st.integers(1, 6), st.sampled_from(("joined", "left", "depart"))),
    max_size=30,
)


@given(words)
def test_f6_places_come_to_rest_whatever_the_order(said: list[tuple[str, int, str]]) -> None:
    """The player is in no place that it has left, and every place it has left is told to its match once."""
    state, over = NEW, set()
    for match, number, word in said:
        before = state
        if word == "joined":
            state = rules.entered(state, Membership(match, 1, number))
        elif word == "left":
            state = rules.left(state, match, 1, number)
            over |= {(match, one) for one in range(number + 1)}
        else:
            state = rules.depart(state, "disconnected")
        if before.match and (before.match, before.member) != (state.match, state.member):
            over.add((before.match, before.member)) if state.match != before.match else None
        assert not state.match or (state.match, state.member) not in over
        assert len(set(state.leaving)) == len(state.leaving)
        assert (state.match, state.member) not in {(place.name, place.number) for place in state.leaving}
