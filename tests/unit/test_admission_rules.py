"""The rules of who is in a match: parties that come together."""

from typing import Any

import pytest

from game import replay
from game.match import admission, codes
from game.match.messages import AdmitParty
from game.messages import Left, PartyJoined, PartyPlace
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
