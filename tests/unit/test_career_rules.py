"""What a match adds to careers and ratings: counts over its log, seasons, and OpenSkill in whole numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from game.careers import ratings
from game.careers.events import Outcome
from game.careers.ratings import FIRST, MAX_SIDES, Rating
from game.careers.seasons import season_at
from game.careers.tally import MAX_NAMES, OTHERS, Tally
from game.match.results import boards_of
from game.match.state import MatchState
from game.messages import Death, Ended, Joined, Kill, Left, Medal, PartyJoined, PartyPlace, PlayOptions
from server.errors import BadSetting
from server.settings import from_tree
from tests.support.matches import Played


def tally(match: Played) -> Tally:
    made = Tally()
    made.take_all(record.event for record in match.records)
    return made


def live(*players: str, **options: Any) -> Played:
    given = {"teams": 0, "countdown_ms": 0, "score_limit": 0, "time_limit_ms": 0, **options}
    return Played().create(**given).join(*players).start(100)


def ended(match: Played, winner: str | None, time_ms: int = 10_100) -> MatchState:
    match.emit([Ended(time_ms, "host_ended", winner, 7, True)])
    return match.state


# ---- counts ----------------------------------------------------------------------------------


def test_a_streak_ends_with_a_death_and_the_best_counts() -> None:
    match = live("a", "b")
    match.report(Kill(200, "a", "b"), Kill(210, "a", "b"), Kill(220, "b", "a"), Kill(230, "a", "b"), Death(240, "a"))
    match.report(Kill(250, "a", "b"))
    counted = tally(match).players
    assert (counted["a"].best_streak, counted["b"].best_streak) == (2, 1)


def test_a_kill_of_ones_own_team_is_no_part_of_a_streak() -> None:
    match = live("a", "b", "c", "d", teams=2)
    team = {name: line.team for name, line in match.state.players.items()}
    friend = next(name for name in "bcd" if team[name] == team["a"])
    foe = next(name for name in "bcd" if team[name] != team["a"])
    match.report(Kill(200, "a", foe), Kill(210, "a", friend), Kill(220, friend, foe))
    counted = tally(match).players
    assert (counted["a"].best_streak, counted[friend].best_streak) == (1, 1)


def test_time_counts_while_the_match_is_live_and_the_player_in_it() -> None:
    match = live("a", "b")
    match.emit([Left(1_100, "b", "left"), Joined(2_100, "b", None, 9)])
    match.emit([PartyJoined(5_100, "p", 1, [PartyPlace("c", None, 10)])])
    ended(match, None)
    counted = tally(match).players
    assert [counted[name].played_ms for name in "abc"] == [10_000, 9_000, 5_000]


def test_a_player_of_a_recording_has_the_time_between_its_first_event_and_its_last() -> None:
    match = live(mode="recorded")
    match.report(Kill(1_000, "a"), Medal(3_000, "a", "x"), Kill(4_000, "b"))
    ended(match, None)
    assert {name: counted.played_ms for name, counted in tally(match).players.items()} == {"a": 2_000, "b": 0}


def test_names_of_medals_are_bounded() -> None:
    match = live(mode="recorded")
    for number in range(MAX_NAMES + 10):
        match.report(Medal(1_000, "a", f"m{number}"), Medal(1_000, "a", "m0"))
    medals = tally(match).players["a"].medals
    assert len(medals) == MAX_NAMES + 1 and medals[OTHERS] == 10
    assert sum(medals.values()) == match.state.players["a"].medals


# ---- seasons ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("teams", "group", "boards"),
    [
        (2, "slayer", ["all", "slayer"]),
        (0, "slayer.solo", ["all", "slayer", "slayer.solo"]),
        (2, "", ["all", "slayer"]),
    ],
)
def test_results_change_the_boards_of_their_mode_and_of_their_ratings(
    teams: int, group: str, boards: list[str]
) -> None:
    state = MatchState(options=PlayOptions(mode="slayer", teams=teams), outcome=Outcome(rating_group=group))
    assert boards_of(state) == boards


def test_a_season_lasts_until_the_next() -> None:
    seasons = [(100, "first"), (200, "second")]
    assert [season_at(seasons, at) for at in (99, 100, 199, 200)] == ["", "first", "first", "second"]
    assert season_at([], 5) == ""


def test_seasons_are_a_setting() -> None:
    settings = from_tree({"careers": {"seasons": ["Spring 2026=1000", "s-2=2000"]}})
    assert settings.careers.beginnings == [(1000, "Spring 2026"), (2000, "s-2")]
    assert from_tree({"careers": {"seasons": "a=1,b=2"}}).careers.beginnings == [(1, "a"), (2, "b")]
    for bad in ("", "a", "a=", "=1", "a=b", "a=1=2"):
        with pytest.raises(BadSetting):
            from_tree({"careers": {"seasons": [bad]}})


# ---- ratings ---------------------------------------------------------------------------------


def changes(match: Played, state: MatchState, known: dict[str, Rating] | None = None) -> dict[str, tuple[int, int]]:
    assert ratings.group_of(state)
    return ratings.differences(state, ratings.sides_of(state, tally(match)), known or {})


def test_the_winner_gains_the_loser_loses_and_both_are_surer() -> None:
    match = live("a", "b")
    match.report(Kill(200, "a", "b"))
    found = changes(match, ended(match, "a"))
    assert found["a"][0] > 0 > found["b"][0] and found["a"][0] == -found["b"][0]
    assert found["a"][1] < 0 and found["b"][1] < 0
    assert all(isinstance(number, int) for pair in found.values() for number in pair)


def test_a_tie_of_equals_changes_no_mu_and_one_with_a_stronger_player_does() -> None:
    match = live("a", "b")
    state = ended(match, None)
    assert {mu for mu, _ in changes(match, state).values()} == {0}
    unequal = changes(match, state, {"a": Rating(35_000_000, FIRST.log_sigma)})
    assert unequal["a"][0] < 0 < unequal["b"][0]


def test_a_team_is_a_side_and_matches_without_teams_have_ratings_of_their_own() -> None:
    match = live("a", "b", "c", "d", teams=2)
    winners = [name for name, line in match.state.players.items() if line.team == 0]
    match.report(Kill(200, winners[0], next(name for name in "abcd" if name not in winners)))
    found = changes(match, ended(match, "team:0"))
    assert {name for name, (mu, _) in found.items() if mu > 0} == {*winners}
    assert ratings.group_of(match.state) == "slayer"
    alone = live("a", "b")
    assert ratings.group_of(ended(alone, "a")) == "slayer.solo"


def test_early_leavers_lose_with_their_side_and_do_not_win_with_it() -> None:
    match = live("a", "b", "c", "d", teams=2)
    winners = [name for name, line in match.state.players.items() if line.team == 0]
    losers = [name for name in "abcd" if name not in winners]
    match.report(Kill(200, winners[0], losers[0]))
    match.emit([Left(300, winners[1], "left"), Left(300, losers[1], "disconnected")])
    found = changes(match, ended(match, "team:0"))
    assert found[winners[0]][0] > 0 == found[winners[1]][0]
    assert found[losers[0]][0] == found[losers[1]][0] < 0


@pytest.mark.parametrize("reason", ["host_vanished", "abandoned"])
def test_an_end_that_decides_nothing_is_not_rated(reason: Any) -> None:
    match = live("a", "b")
    match.emit([Ended(500, reason, None, 7, True)])
    assert ratings.group_of(match.state) == ""


def test_recordings_and_matches_that_never_began_are_not_rated() -> None:
    recorded = live("a", "b", mode="recorded")
    assert ratings.group_of(ended(recorded, None)) == ""
    lobby = Played().create(teams=0).join("a", "b")
    assert ratings.group_of(ended(lobby, None)) == ""


def test_a_player_who_was_not_there_while_it_was_live_is_on_no_side() -> None:
    match = live("a", "b", "c")
    match.emit([Left(100, "c", "left")])
    state = ended(match, "a")
    assert ratings.sides_of(state, tally(match)) == [["a"], ["b"]]
    alone = live("a")
    assert ratings.sides_of(ended(alone, "a"), tally(alone)) == []


@pytest.mark.parametrize(("players", "rated"), [(MAX_SIDES, True), (MAX_SIDES + 1, False)])
def test_sides_are_bounded(players: int, rated: bool) -> None:
    match = live(*(f"p{number}" for number in range(players)), max_players=100)
    assert bool(ratings.sides_of(ended(match, None), tally(match))) is rated


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_any_ratings_give_whole_numbers_within_reason(scores: list[int], mu: int, log_sigma: int) -> None:
    """Sums that drifted far away, too: nobody's rating is lost to an overflow."""
    names = [f"p{number}" for number in range(len(scores))]
    match = live(*names)
    for name, score in zip(names, scores, strict=True):
        for _ in range(score):
            match.report(Kill(200, name, next(other for other in names if other != name)))
    found = changes(match, ended(match, None), {"p0": Rating(mu, log_sigma)})
    assert set(found) == set(names)
    assert all(abs(change) < 2**53 for pair in found.values() for change in pair)
