"""The rules of who is in a match, and of who hosts it: parties, private matches, reserved places, kicks, the role."""

from typing import Any

import pytest
from msgspec import UNSET

from game import replay
from game.match import admission, codes, guests, hosting, rules
from game.match.admission import Entry
from game.match.events import HostChanged, Invited, Kicked
from game.match.messages import AdmitParty
from game.match.state import MatchState, Reservation
from game.messages import Kill, Left, MatchOptions, PartyJoined, PartyPlace, PlayOptions
from server.errors import Rejected
from tests.support.matches import Played


def code_of(call: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(Rejected) as caught:
        call(*args, **more)
    assert caught.value.code in codes.CODES
    return caught.value.code


def coming(*players: str, number: int = 1, team: int | None = None) -> AdmitParty:
    return AdmitParty("red", number, list(players), "l", number, team)


def admit(played: Played, *players: str, number: int = 1, team: int | None = None) -> Played:
    played.emit(admission.admit_party(played.state, coming(*players, number=number, team=team), played.next_seq))
    return played


def test_a_party_comes_in_one_event_on_one_team() -> None:
    played = admit(Played().create().join("a", "b", "c"), "p", "q", "r")
    event = played.records[-1].event
    assert event == PartyJoined(0, "red", 1, [PartyPlace(player, 1, 5) for player in ("p", "q", "r")])
    assert [played.state.players[player].member for player in ("p", "q", "r")] == [5, 5, 5]
    assert played.state.players.present == 6
    assert replay.verify(played.stored()).state == played.state


def test_a_party_without_room_for_all_stays_out() -> None:
    played = Played().create(max_players=4).join("a", "b")
    assert code_of(admit, played, "p", "q", "r") == "match_full"
    assert played.next_seq == 4
    assert admit(played, "p", "q", "q").state.players.present == 4


def test_members_who_are_there_already_need_no_room_and_keep_their_team() -> None:
    played = admit(Played().create(max_players=4).join("a", "b"), "a", "p", "q", team=None)
    assert {name: (line.team, line.member) for name, line in played.state.players.items()} == {
        "a": (0, 4),
        "b": (1, played.state.players["b"].member),
        "p": (0, 4),
        "q": (0, 4),
    }
    assert code_of(admit, played, "a", team=1) == "already_joined"
    assert code_of(admit, played, "a", team=2) == "bad_team"


def test_a_party_is_refused_as_a_player_is() -> None:
    live = Played().live(2, join_in_progress=False)
    assert code_of(admit, live, "p0", "late") == "no_join_in_progress"
    assert code_of(admit, live.end(), "p0") == "match_ended"
    live = Played().live(3, join_in_progress=False)
    live.emit(admission.leave(live.state, "p0"))
    assert admit(live, "p0", "p1").state.players["p0"].present, "who has been there may come back"


def test_a_party_is_known_by_its_number() -> None:
    played = admit(Played().create(), "p", "q", number=3)
    first = played.next_seq - 1
    assert admission.party_before(played.state, coming("p", "q", number=3)) == first
    assert admission.party_before(played.state, coming("p", "q", number=4)) is None
    assert code_of(admission.party_before, played.state, coming("p", "q", number=2)) == "party_late"


def test_parties_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("game.match.rules.MAX_PARTIES", 2)
    played = Played().create()
    for name in ("c", "a", "b"):
        played.emit(admission.admit_party(played.state, AdmitParty(name, 1, ["p"], "l", 1), played.next_seq))
    assert sorted(played.state.parties or {}) == ["a", "b"]


def test_the_feed_names_the_party() -> None:
    played = admit(Played().create(), "p", "q")
    lines = [replay.feed_line(step) for step in replay.steps(played.stored())]
    assert lines[-1] == "00:00.000  party red joined: p (team 0), q (team 0)"
    played.emit([Left(0, "p", "left")])
    assert played.state.players.present == 1


# ---- private matches ----------------------------------------------------------------------------

SALT = "00" * 16
WALL = 1_700_000_000_000


def private(password: str = "", **options: Any) -> Played:
    played = Played()
    wanted = MatchOptions(private=True, **options)
    played.emit(rules.create(played.state, "m", "host", wanted, WALL, password, SALT))
    return played


def joins(played: Played, player: str, password: str = "", wall_ms: int = WALL) -> Played:
    fits = guests.fits(played.state, password)
    played.emit(admission.join(played.state, player, None, played.next_seq, Entry(wall_ms, fits)))
    return played


def test_a_private_match_takes_in_whom_it_names() -> None:
    played = private()
    assert code_of(joins, played, "ann") == "private"
    played.emit(guests.allow(played.state, "host", 1, ["ann", "bob", "ann"], True))
    assert played.records[-1].event == Invited(0, "", ["ann", "bob"])
    assert guests.allow(played.state, "host", 1, ["ann"], True) == []
    assert joins(played, "ann").state.players["ann"].present
    played.emit(guests.allow(played.state, "host", 1, ["ann", "bob"], False))
    assert code_of(joins, played, "bob") == "private"
    played.emit(admission.leave(played.state, "ann"))
    assert joins(played, "ann").state.players["ann"].present, "who has been there may come back"
    assert replay.verify(played.stored()).state == played.state


def test_a_password_lets_in_and_is_kept_as_a_salted_hash_only() -> None:
    played = private("hunter2")
    assert code_of(joins, played, "ann", "hunter3") == "private"
    assert joins(played, "ann", "hunter2").state.players["ann"].present
    other = Played()
    other.emit(rules.create(other.state, "m", "host", MatchOptions(private=True), WALL, "hunter2", "11" * 16))
    assert other.records[1].event.digest != played.records[1].event.digest, "salted"
    assert all(b"hunter2" not in entry.data for entry in played.entries())
    assert not guests.fits(private().state, "")
    assert code_of(rules.create, MatchState(), "m", "host", MatchOptions(), WALL, "x", SALT) == "bad_options"


def test_participants_invite_where_the_options_say_so() -> None:
    for open_invites in (False, True):
        played = private(open_invites=open_invites)
        played.emit(guests.allow(played.state, "host", 1, ["ann"], True))
        joins(played, "ann")
        wanted = (guests.invite, played.state, "player/ann", "ann", 1, ["bob"])
        if open_invites:
            played.emit(wanted[0](*wanted[1:]))
            assert played.records[-1].event == Invited(0, "player/ann", ["bob"])
            assert code_of(guests.invite, played.state, "player/cid", "cid", 1, ["dan"]) == "not_host"
        else:
            assert code_of(*wanted) == "not_host"
        assert guests.invite(played.state, "host", None, 1, ["cid"]) == [Invited(0, "host", ["cid"])]


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "MAX_NAMES", 2)
    played = private()
    assert code_of(guests.invite, played.state, "host", None, 1, ["a", "b", "c"]) == "too_many_names"
    played.emit(guests.invite(played.state, "host", None, 1, ["a", "b"]))
    assert code_of(guests.allow, played.state, "host", 1, ["c"], True) == "too_many_names"
    for name in ("x", "y"):
        played.emit(guests.kick(played.state, "host", 1, name, "", played.next_seq))
    assert code_of(guests.kick, played.state, "host", 1, "z", "", played.next_seq) == "too_many_names"


@pytest.mark.parametrize(
    ("player", "host", "listed", "asks", "watches"),
    [
        ("ann", "player/ann", False, True, True),
        ("eve", "player/eve", False, False, False),
        ("eve", "player/eve", True, True, False),
        (None, "host", False, True, True),
        (None, "other", False, False, False),
    ],
)
def test_a_private_match_is_seen_by_those_who_may_come(
    player: str | None, host: str, listed: bool, asks: bool, watches: bool
) -> None:
    played = private(listed=listed)
    played.emit(guests.allow(played.state, "host", 1, ["ann"], True))
    seen = [guests.may_see(played.state, player, host, WALL, watch) for watch in (False, True)]
    assert seen == [asks, watches]
    assert guests.may_see(Played().create().state, player, host, WALL, True)


# ---- reserved places ----------------------------------------------------------------------------


def reserved(played: Played, *players: str, party: str | None = None, places: int = 0, for_ms: int = 1_000) -> Played:
    played.emit(guests.reserve(played.state, "host", 1, players, party, places, for_ms, WALL))
    return played


def test_reserved_places_are_for_whom_they_are_until_they_expire() -> None:
    played = reserved(Played().create(max_players=3), "ann", "bob")
    assert joins(played, "eve").state.players.present == 1
    assert code_of(joins, played, "eva") == "match_full"
    joins(played, "ann")
    assert code_of(joins, played, "eva") == "match_full"
    assert joins(played, "eva", wall_ms=WALL + 1_000).state.players.present == 3, "bob's place has expired"


def test_a_place_is_kept_for_a_player_who_leaves_and_comes_back_in_time() -> None:
    played = joins(reserved(Played().create(max_players=2), "ann"), "ann")
    played.emit(admission.leave(played.state, "ann", "disconnected"))
    joins(played, "eve")
    assert code_of(joins, played, "eva") == "match_full"
    assert joins(played, "ann").state.players.present == 2


def test_a_party_finds_the_places_that_are_reserved_for_it() -> None:
    played = reserved(Played().create(max_players=3), party="red", places=2)
    joins(played, "eve")
    assert code_of(joins, played, "eva") == "match_full"
    message = coming("p", "q")
    played.emit(admission.admit_party(played.state, message, played.next_seq, Entry(WALL)))
    assert played.state.players.present == 3 and played.state.reserved == {}
    closed = reserved(private(), party="red", places=2)
    assert admission.admit_party(closed.state, message, 9, Entry(WALL))
    assert code_of(admission.admit_party, closed.state, message, 9, Entry(WALL + 1_000)) == "private"


def test_places_are_reserved_where_there_are_some() -> None:
    played = Played().create(max_players=3).join("ann")
    assert code_of(reserved, played, "bob", "cid", "dan") == "match_full"
    reserved(played, "ann", "bob", "cid")
    assert code_of(reserved, played, "dan") == "match_full"
    reserved(played, "bob", "cid", for_ms=0)
    assert reserved(played, "dan").state.players.present == 1
    for players, party, places in (((), None, 0), (("a",), "red", 0), (("a",), None, 2)):
        assert code_of(reserved, played, *players, party=party, places=places) == "bad_reservation"
    assert code_of(guests.reserve, played.state, "other", 1, ["x"], None, 0, 1_000, WALL) == "not_host"


def test_reservations_that_are_over_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "MAX_RESERVATIONS", 2)
    played = reserved(Played().create(max_players=9), "a", "b")
    assert code_of(reserved, played, "c") == "too_many_names"
    played.emit(guests.reserve(played.state, "host", 1, ["c"], None, 0, 1_000, WALL + 1_000))
    assert played.state.reserved == {"player/c": Reservation(1, WALL + 2_000)}


# ---- kicks ----------------------------------------------------------------------------------------


def kicked(played: Played, player: str, reason: str = "") -> Played:
    played.emit(guests.kick(played.state, "host", 1, player, reason, played.next_seq))
    return played


def test_a_kicked_player_is_out_until_it_is_allowed_again() -> None:
    played = kicked(Played().live(3), "p1", "afk")
    assert played.records[-1].event == Kicked(0, "p1", "afk", played.next_seq - 1)
    assert not played.state.players["p1"].present
    assert guests.kick(played.state, "host", 1, "p1", "", 9) == []
    assert code_of(joins, played, "p1") == "kicked"
    assert code_of(admit, played, "x", "p1") == "kicked"
    assert code_of(guests.invite, played.state, "host", None, 1, ["p1"]) == "kicked"
    first = played.next_seq - 1
    assert guests.unkick(played.state, "host", 1, "p1", first + 1) == [], "another kick's number"
    played.emit(guests.unkick(played.state, "host", 1, "p1", first))
    assert joins(played, "p1").state.players["p1"].present
    kicked(played, "p1")
    assert guests.unkick(played.state, "host", 1, "p1", first) == [], "said late"
    assert replay.verify(played.stored()).state == played.state


def test_a_player_can_be_kept_out_before_it_comes() -> None:
    played = kicked(Played().create(), "eve")
    assert "eve" not in played.state.players
    assert code_of(joins, played, "eve") == "kicked"
    assert code_of(guests.kick, played.state, "other", 1, "ann", "", 9) == "not_host"
    assert code_of(guests.kick, played.state, "host", 1, "ann", "\x1b[2J", 9) == "bad_text"


def test_a_match_whose_last_player_is_kicked_is_abandoned() -> None:
    assert kicked(Played().live(1), "p0").state.end_reason == "abandoned"


# ---- the host's role ------------------------------------------------------------------------------


def passed(played: Played, to: str | None, caller: str = "host", term: int = 1) -> Played:
    played.emit(hosting.pass_host(played.state, caller, term, to, played.next_seq, WALL))
    return played


def test_a_host_that_passed_its_role_on_cannot_report() -> None:
    played = passed(Played().live(2), "second")
    term = played.next_seq - 1
    assert (played.state.host, played.state.term) == ("second", term)
    for caller, number in (("host", 1), ("host", term), ("second", 1), ("second", term + 1)):
        assert code_of(rules.report, played.state, caller, [Kill(1, "p0", "p1")], WALL, number) == "not_host"
        assert code_of(rules.tick, played.state, caller, 1, WALL, number) == "not_host"
    played.emit(rules.report(played.state, "second", [Kill(1, "p0", "p1")], WALL, term))
    passed(played, "host", "second", term)
    assert code_of(rules.report, played.state, "host", [Kill(2, "p0", "p1")], WALL, 1) == "not_host", (
        "of its first term"
    )
    assert rules.end(played.state, "host", 2, WALL, played.next_seq - 1)
    assert replay.verify(played.stored()).state == played.state


def test_a_successor_takes_over_from_a_silent_host_once() -> None:
    played = Played().live(2)
    played.emit(hosting.name_successor(played.state, "host", 1, "second"))
    assert hosting.name_successor(played.state, "host", 1, "second") == []
    played.emit(rules.host_vanished(played.state, WALL, played.next_seq))
    assert played.records[-1].event == HostChanged(0, "second", "silent", played.next_seq - 1, WALL)
    played.emit(rules.host_vanished(played.state, WALL, played.next_seq))
    assert played.state.end_reason == "host_vanished", "nobody is named any more"


def test_a_role_passes_to_somebody() -> None:
    played = Played().live(2)
    assert code_of(passed, played, None) == "bad_host"
    assert code_of(passed, played, "host") == "bad_host"
    assert code_of(passed, played, "second", "second") == "not_host"
    assert code_of(hosting.name_successor, played.state, "host", 1, "host") == "bad_host"
    played.emit(hosting.name_successor(played.state, "host", 1, "second"))
    assert passed(played, None).state.host == "second"
    term = played.next_seq - 1
    played.emit(hosting.name_successor(played.state, "second", term, "third"))
    played.emit(hosting.name_successor(played.state, "second", term, None))
    assert played.state.successor is UNSET


def test_a_player_is_no_host_of_the_same_name() -> None:
    assert hosting.host_name("player", "host") == "player/host"
    assert code_of(rules.tick, Played().live(2).state, hosting.host_name("player", "host"), 1, WALL) == "not_host"


# ---- one match at a time --------------------------------------------------------------------------


def test_a_match_that_takes_nobody_out_of_others_asks_those_who_come() -> None:
    assert admission.newcomers(Played().create().state, ["a"]) == []
    played = Played().create(refuses_elsewhere=True).join("a")
    assert admission.newcomers(played.state, ["a", "b", "b"]) == ["b"]
    admission.must_be_free("m", "a", "")
    admission.must_be_free("m", "a", "m")
    assert code_of(admission.must_be_free, "m", "a", "other") == "in_another_match"


def test_plain_matches_have_the_state_that_they_always_had() -> None:
    state = Played().live(2).state
    assert all(getattr(state, name) is UNSET for name in ("entry", "secret", "allowed", "reserved", "kicked", "term"))
    assert type(state.options) is PlayOptions


def test_the_feed_tells_of_guests_and_hosts() -> None:
    played = private("x")
    played.emit(guests.invite(played.state, "host", None, 1, ["ann"]))
    played.emit(guests.allow(played.state, "host", 1, ["ann"], False))
    reserved(played, "bob", party="red", places=2)
    kicked(played, "eve", "afk")
    played.emit(guests.unkick(played.state, "host", 1, "eve", 0))
    played.emit(hosting.name_successor(played.state, "host", 1, "second"))
    passed(played, None)
    assert [replay.feed_line(step)[11:] for step in replay.steps(played.stored())][1:] == [
        "a password lets in",
        "host lets in ann",
        "no longer let in: ann",
        "places are reserved for bob, party red (2)",
        "eve was removed by the host: afk",
        "eve may come again",
        "second is to take over",
        "second hosts the match",
    ]
