"""The rules of a player, one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from game.match.state import Line
from game.messages import ProfileSet
from game.player import rules
from game.player.state import PlayerState
from server.errors import OutcomeUnknown, Rejected

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
        rules.choose(NEW, word, 1)
    assert caught.value.code == "bad_status"


def test_an_invisible_player_looks_offline_to_others() -> None:
    state = rules.entered(rules.choose(rules.arrived(NEW, 100), "invisible", 200), "m1")
    state = rules.seen(rules.seen(state, 60_200), 120_200)
    others = rules.view(state, "a", 1, "Slayer on Recharge", own=False)
    assert (others.status, others.activity, others.match, others.last_seen_ms) == ("offline", "", None, 200)
    own = rules.view(state, "a", 1, "Slayer on Recharge", own=True)
    assert (own.status, own.activity, own.match) == ("invisible", "Slayer on Recharge", "m1")
    left = rules.departed(state, 130_000)
    assert rules.view(left, "a", 1, "", own=False) == others, "not even by leaving"
    assert rules.view(rules.arrived(left, 140_000), "a", 1, "", own=False) == others


def test_everybody_sees_a_visible_player() -> None:
    state = rules.entered(rules.arrived(NEW, 100), "m1")
    assert rules.view(state, "a", 1, "x", own=False) == rules.view(state, "a", 1, "x", own=True)


# ---- profile ---------------------------------------------------------------------------------


def test_a_profile_command_is_answered_again() -> None:
    state = rules.set_profile(NEW, ProfileSet(1, "c", 4, "Chief", "helmet"), 9)
    assert (state.display_name, state.emblem) == ("Chief", "helmet")
    assert rules.answer_to(state, "c", 4) == 9
    assert rules.answer_to(state, "c", 5) is None
    assert rules.answer_to(state, "d", 4) is None


def test_old_profile_commands_have_an_unknown_outcome() -> None:
    state = NEW
    for command in range(1, rules.MAX_COMMANDS + 2):
        state = rules.set_profile(state, ProfileSet(1, "c", command, "Chief"), command)
    with pytest.raises(OutcomeUnknown):
        rules.answer_to(state, "c", 1)
    assert rules.answer_to(state, "c", 2) == 2


def test_lineages_are_bounded() -> None:
    state = NEW
    for version in range(1, 200):
        state = rules.set_profile(state, ProfileSet(1, f"c{version}", 1, "Chief"), version)
    answers = [name for name, saved in state.answered.items() if saved.recent]
    assert sorted(answers) == sorted(f"c{version}" for version in range(200 - rules.MAX_LINEAGES, 200))
    assert len(state.answered) == rules.MAX_LINEAGES + rules.MAX_FORGOTTEN


def test_a_lineage_whose_answers_are_forgotten_has_unknown_outcomes() -> None:
    """F9: its old command is not executed again over newer data, its next one is."""
    state = NEW
    for version in range(1, rules.MAX_LINEAGES + 2):
        state = rules.set_profile(state, ProfileSet(1, f"c{version}", 7, f"name {version}"), version)
    with pytest.raises(OutcomeUnknown):
        rules.answer_to(state, "c1", 7)
    assert rules.answer_to(state, "c1", 8) is None
    state = rules.set_profile(state, ProfileSet(1, "c1", 8, "again"), 10)
    assert rules.answer_to(state, "c1", 8) == 10
    with pytest.raises(OutcomeUnknown):
        rules.answer_to(state, "c1", 7)
    for version in range(11, 10 + rules.MAX_FORGOTTEN):
        state = rules.set_profile(state, ProfileSet(1, f"d{version}", 1, "Chief"), version)
    with pytest.raises(OutcomeUnknown):
        rules.answer_to(state, "c3", 7)


def test_a_profile_shows_the_key_until_it_has_a_name() -> None:
    assert rules.profile(NEW, "spartan", 1, 0).display_name == "spartan"


# ---- matches ---------------------------------------------------------------------------------


def test_a_result_counts_once() -> None:
    line = Line(kills=10, deaths=4, assists=3, medals=2)
    state = rules.settle(rules.entered(NEW, "m"), "m", 1000, line, True)
    assert (state.matches, state.wins, state.kills, state.deaths, state.assists, state.medals) == (1, 1, 10, 4, 3, 2)
    assert state.match == ""
    assert rules.settle(state, "m", 1000, line, True) is state


def test_leaving_another_match_changes_nothing() -> None:
    state = rules.entered(NEW, "m2")
    assert rules.left(state, "m1") is state
    assert rules.settle(state, "m1", 5, Line(), False).match == "m2"


@given(st.lists(st.integers(0, 150), max_size=400))
def test_results_are_never_counted_twice(told: list[int]) -> None:
    """Whatever the order and the repetitions, also past the memory of 64: never twice, and, while
    they come in about the order in which the matches ended, all of them."""
    state = NEW
    counted: list[int] = []
    for number in told:
        before, state = state, rules.settle(state, f"m{number}", 1 + number, Line(kills=1), False)
        if state is not before:
            counted.append(number)
    assert len(counted) == len(set(counted)) == state.matches == state.kills
    assert len(state.settled) <= rules.MAX_SETTLED
    if told == sorted(told):
        assert set(counted) == set(told)
