"""The rules of a party, and of a player's own half of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from game.party import codes, place, rules
from game.party.rules import Grace
from game.party.state import PartyState, Word
from server.actors.actor import Stamp
from server.errors import Rejected, Unavailable

GRACE = Grace(leader_ms=10, member_ms=100, invite_ms=50)


def party(*others: str, room: int = 4) -> PartyState:
    """A party that ann leads; the others have joined by its code. Memberships are 1, 2, …"""
    state = rules.create(PartyState(), "ann", room, "CODE", 1, 1, 5)
    for number, player in enumerate(others, 2):
        state = rules.join_code(state, player, "CODE", number, number, 5)
    return state


def refused(code: str, rule: Any, *args: Any) -> None:
    with pytest.raises(Rejected) as error:
        rule(*args)
    assert error.value.code == code and code in rules.CODES


def test_a_new_party_has_its_leader() -> None:
    state = party()
    assert (state.leader, list(state.members), state.untold) == ("ann", ["ann"], {"ann": Word(1, True)})
    refused("party_exists", rules.create, state, "bob", 4, "X", 2, 2, 6)


def test_only_who_is_invited_or_knows_the_code_comes_in() -> None:
    state = party()
    refused("not_invited", rules.join, state, "bob", 2, 2, 6)
    refused("no_such_code", rules.join_code, state, "bob", "EDOC", 2, 2, 6)
    invited = rules.invite(state, "ann", "bob", 2, 6, GRACE)
    assert "bob" in rules.join(invited, "bob", 3, 3, 55).members
    refused("not_invited", rules.join, invited, "bob", 3, 3, 56)
    assert rules.join(invited, "bob", 3, 3, 7).invited == {}


def test_invitations_are_of_members_and_bounded() -> None:
    state = party("bob")
    refused("not_in_party", rules.invite, state, "eve", "cyd", 3, 6)
    refused("in_party", rules.invite, state, "ann", "bob", 3, 6)
    for number in range(rules.MAX_INVITED):
        state = rules.invite(state, "bob", f"p{number}", 10 + number, 6, GRACE)
    refused("too_many_invited", rules.invite, state, "bob", "cyd", 99, 6, GRACE)
    assert rules.invite(state, "bob", "p0", 99, 6, GRACE).invited["p0"].number == 99
    assert list(rules.invite(state, "bob", "cyd", 99, 70, GRACE).invited) == ["cyd"], "the others are over"


def test_room_is_bounded_and_untold_words_are() -> None:
    refused("party_full", rules.join_code, party("bob", room=2), "cyd", "CODE", 3, 3, 6)
    state = party()
    state = replace(state, untold={f"p{number}": Word(number, False) for number in range(rules.MAX_UNTOLD)})
    with pytest.raises(Unavailable):
        rules.join_code(state, "cyd", "CODE", 3, 3, 6)


def test_a_kick_names_the_membership_and_changes_the_code() -> None:
    state = party("bob", "cyd")
    refused("not_leader", rules.kick, state, "bob", "cyd", 3, "NEW", 6)
    back = rules.join_code(state, "bob", "CODE", 9, 9, 6)
    refused("not_in_party", rules.kick, back, "ann", "bob", 2, "NEW", 7)
    kicked = rules.kick(back, "ann", "bob", 9, "NEW", 7)
    assert (list(kicked.members), kicked.untold["bob"], kicked.code) == (["ann", "cyd"], Word(9, False), "NEW")


def test_a_late_leave_does_not_take_out_who_has_come_back() -> None:
    state = rules.join_code(party("bob"), "bob", "CODE", 9, 9, 6)
    assert rules.gone(state, "bob", 5, 2, 7) is state
    assert rules.gone(state, "bob", 4, 9, 7) is state, "of a party of the same name"
    assert "bob" not in rules.gone(state, "bob", 5, 9, 7).members


def test_a_leader_who_leaves_is_replaced_by_the_longest_standing_who_is_here() -> None:
    state = rules.seen(party("bob", "cyd", "dan"), "bob", 5, 2, 1, 6)
    assert rules.leave(state, "ann", 7).leader == "cyd"
    refused("member_away", rules.promote, state, "ann", "bob")
    refused("not_leader", rules.promote, state, "cyd", "bob")
    assert rules.promote(state, "ann", "dan").leader == "dan"


def test_a_leader_who_is_away_is_replaced_once_its_grace_is_over() -> None:
    state = rules.seen(party("bob", "cyd"), "ann", 5, 1, 1, 20)
    assert rules.due_at(state, GRACE) == 30 and rules.due(state, 29, GRACE) is state
    assert rules.due(state, 30, GRACE).leader == "bob"
    alone = rules.seen(rules.seen(state, "bob", 5, 2, 1, 21), "cyd", 5, 3, 1, 22)
    assert rules.due(alone, 40, GRACE) is alone, "nobody is here"
    assert rules.due_at(alone, GRACE) == 120
    back = rules.seen(alone, "cyd", 5, 3, 2, 50)
    assert rules.due_at(back, GRACE) == 30 and rules.due(back, 50, GRACE).leader == "cyd"


def test_a_member_away_for_long_is_let_go_and_an_empty_party_is_over() -> None:
    state = rules.seen(party("bob"), "bob", 5, 2, 1, 20)
    assert rules.is_due(state) and not rules.is_due(party())
    after = rules.due(state, 120, GRACE)
    assert (list(after.members), after.untold["bob"]) == (["ann"], Word(2, False))
    over = rules.due(rules.seen(after, "ann", 5, 1, 1, 130), 230, GRACE)
    assert (over.members, over.ended_wall_ms, over.leader, over.code) == ({}, 230, "", "")
    refused("party_over", rules.join, over, "bob", 9, 9, 240)
    refused("no_such_code", rules.join_code, over, "bob", "", 9, 9, 240)
    refused("party_over", rules.check_member, over, "ann")
    assert rules.picture(over) == {}


def test_words_of_presence_count_in_their_order() -> None:
    state = rules.seen(party("bob"), "bob", 5, 2, 2, 20)
    assert rules.seen(state, "bob", 5, 2, 1, 21) is state
    assert rules.seen(state, "bob", 5, 1, 3, 21) is state, "of an earlier membership"
    assert not rules.seen(state, "bob", 5, 2, 3, 21).members["bob"].here


def test_a_word_is_untold_until_that_very_word_is_stored() -> None:
    state = party("bob")
    assert rules.heard(state, "bob", 1, True, False, 6).untold == state.untold
    heard = rules.heard(state, "bob", 2, True, False, 6)
    assert list(heard.untold) == ["ann"] and "bob" in heard.members
    left = rules.leave(state, "bob", 6)
    assert rules.heard(left, "bob", 2, True, False, 6).untold["bob"] == Word(2, False)
    assert "bob" not in rules.heard(state, "bob", 2, True, True, 6).members, "there is no such player"


def test_members_who_are_here_play_and_the_leader_says_so() -> None:
    state = rules.ready(rules.seen(party("bob", "cyd"), "bob", 5, 2, 1, 6), "cyd", True)
    refused("not_leader", rules.players, state, "cyd")
    assert rules.players(state, "ann") == ["ann", "cyd"]
    played = rules.played(state, "m1", 7)
    assert played.match_id == "m1" and not played.members["cyd"].ready


def test_numbers_rise_also_where_some_were_lost() -> None:
    state = party("bob")
    assert rules.number_of(state, Stamp(0, 9)) == 3
    assert rules.number_of(state, Stamp(1, 9)) > rules.number_of(replace(state, newest=1_000_000), Stamp(0, 9))


def test_the_size_is_told_to_all_when_it_changes() -> None:
    assert set(rules.told_size(party(), party("bob"))) == {"ann", "bob"}
    assert list(rules.told_size(party("bob"), rules.promote(party("bob"), "ann", "bob"))) == []


# ---- the player's own half ------------------------------------------------------------------


def test_a_player_is_in_one_party() -> None:
    state = place.joined(place.NO_PARTY, "p", 5, 1, True)
    other = place.joined(state, "q", 6, 1, True)
    assert other.party == "q" and [left.name for left in other.places.leaving] == ["p"]
    assert place.joined(other, "p", 5, 1, True) is other, "it was told late"
    assert place.heard_left(other, "p", 5, 1).places.leaving == ()


def test_the_end_of_one_membership_ends_no_newer_one() -> None:
    state = place.joined(place.joined(place.NO_PARTY, "p", 5, 1, True), "p", 5, 4, True)
    assert place.left(state, "p", 5, 1).party == "p"
    assert place.left(state, "p", 5, 4).party == ""
    assert place.left(state, "q", 5, 9).party == "p"


def test_words_say_whether_the_player_is_here() -> None:
    state = place.joined(place.NO_PARTY, "p", 5, 1, False)
    assert (state.word, place.stand(state, False)) == (1, state)
    back = place.stand(state, True)
    assert (back.word, back.heard) == (2, 0)
    assert place.heard_word(back, "p", 1, 1, False).heard == 1
    assert place.heard_word(back, "p", 2, 1, False) is back
    assert place.heard_word(back, "p", 1, 2, True).party == "", "there is no such party"
    assert place.stand(place.NO_PARTY, False) is place.NO_PARTY


def test_invitations_are_bounded_and_end() -> None:
    state = place.NO_PARTY
    for number in range(20):
        state = place.invited(state, place.Invitation(f"p{number}", 1, "bob", 50 + number), 10)
    assert [other.party for other in state.invitations] == [f"p{number}" for number in range(4, 20)]
    assert place.invited(state, place.Invitation("p9", 1, "bob", 99), 10) is state
    again = place.invited(state, place.Invitation("p9", 2, "cyd", 99), 10)
    assert again.invitations[-1].by == "cyd" and len(again.invitations) == 16
    assert [other.party for other in place.open_invitations(again, 68)] == ["p19", "p9"]
    assert all(other.party != "p9" for other in place.joined(again, "p9", 5, 1, True).invitations)


# ---- codes ------------------------------------------------------------------------------------


@given(st.integers(0, 2**45 - 1))
def test_codes_are_read_as_they_are_shown(number: int) -> None:
    code = codes.new_code(lambda bits: number)
    assert len(code) == codes.LENGTH
    assert codes.read_code(codes.shown_code(code)) == code
    assert codes.read_code(codes.shown_code(code).lower().replace("0", "o").replace("1", "l")) == code


def test_the_name_of_a_new_party_is_its_commands() -> None:
    names = {codes.name_of_new("ann", "l", 1), codes.name_of_new("ann", "l", 2), codes.name_of_new("bob", "l", 1)}
    assert len(names) == 3 and codes.name_of_new("ann", "l", 1) in names


def test_guesses_are_limited_and_time_gives_them_back() -> None:
    guesses = codes.Guesses()
    for _ in range(codes.GUESSES):
        assert guesses.wait_s(100.0) == 0.0
        guesses.wrong(100.0)
    wait_s = guesses.wait_s(100.0)
    assert 5.9 < wait_s < 6.1 and guesses.wait_s(100.0 + wait_s + 0.001) == 0.0
