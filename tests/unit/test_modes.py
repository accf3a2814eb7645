"""The modes: what each counts, when it ends, who wins."""

from typing import Any

import pytest

from game.commands.export_parquet import participant_rows
from game.match import admission, endings, rules
from game.match.events import RoundEnded
from game.match.state import MatchState
from game.messages import Created, Ended, Kill, MatchOptions, Medal, Objective, PlayOptions, Score
from game.modes.mode import MAX_POINTS, ModeRules, kill_points
from game.modes.registry import BUILT_IN, MODES
from server.errors import Rejected
from tests.support.matches import Played

WEEK_MS = 7 * 86_400_000


def live(mode: str, players: int = 4, **options: Any) -> Played:
    return Played().live(players=players, mode=mode, **options)


def held(time_ms: int, player: str, seconds: int, name: str = "hill_held") -> Objective:
    return Objective(time_ms, player, name, seconds)


def scores(played: Played) -> tuple[int, ...]:
    return played.state.team_scores


def ends(played: Played) -> list[tuple[int, str, str | None]]:
    events = [record.event for record in played.records]
    return [(event.time_ms, event.reason, event.winner) for event in events if isinstance(event, Ended | RoundEnded)]


# ---- options ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [versions[-1] for versions in BUILT_IN], ids=lambda mode: mode.name)
def test_absent_options_are_the_modes_own(mode: ModeRules) -> None:
    state = Played().create(mode=mode.name).state
    own = mode.options
    assert (state.options.teams, state.options.score_limit, state.options.time_limit_ms) == (
        own.teams,
        own.score_limit,
        own.time_limit_ms,
    )
    assert state.team_scores == (0,) * own.teams


def test_options_that_are_given_count() -> None:
    created = Played().create(mode="capture_the_flag", score_limit=0, countdown_ms=7).records[0].event
    assert isinstance(created, Created)
    assert (created.options.score_limit, created.options.countdown_ms, created.options.teams) == (0, 7, 2)
    assert created.rules == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"mode": "tag"}, "unknown_mode"),
        ({"mode": "capture_the_flag", "teams": 0}, "bad_options"),
        ({"mode": "oddball", "teams": 1}, "bad_options"),
        ({"mode": "free_for_all", "teams": 2}, "bad_options"),
        ({"mode": "slayer", "teams": 4, "max_players": 3}, "bad_options"),
    ],
)
def test_options_that_a_mode_cannot_have_are_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(Rejected) as refused:
        rules.create(MatchState(), "m", "host", MatchOptions(**options), 1)
    assert refused.value.code == code


def test_a_name_that_is_none_does_not_come_as_far() -> None:
    with pytest.raises(ValueError, match="regex"):
        ModeRules(name="No Mode", title="x")


# ---- points -------------------------------------------------------------------------------


def test_flags_are_points_when_captured_only() -> None:
    played = live("capture_the_flag").report(
        Objective(1, "p0", "flag_taken", 9), Kill(2, "p1", "p0"), Objective(3, "p1", "flag_returned")
    )
    assert scores(played) == (0, 0)
    played.report(Objective(4, "p0", "flag_captured"))
    assert scores(played) == (1, 0)
    assert (played.state.players["p0"].score, played.state.players["p0"].objectives) == (1, 2)
    assert played.state.players["p1"].kills == 1


def test_an_objective_that_a_mode_does_not_have_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(Rejected, match=r"flag_captred; capture_the_flag has flag_taken, .*flag_captured") as refused:
        live("capture_the_flag").report(Objective(1, "p0", "flag_captred"))
    assert refused.value.code == "unknown_objective"


def test_seconds_on_the_hill_are_points_and_a_betrayal_costs_one() -> None:
    played = live("king_of_the_hill").report(held(1, "p0", 12), held(2, "p1", 5), held(3, "p1", -5))
    assert scores(played) == (12, 5)
    played.report(Kill(4, "p0", "p2"))
    assert scores(played) == (11, 5)
    assert (played.state.players["p0"].kills, played.state.players["p2"].deaths) == (0, 1)


def test_custom_counts_what_the_host_says_and_has_no_end_of_its_own() -> None:
    played = live("custom", countdown_ms=0).report(Kill(1, "p0", "p1"), Objective(2, "p0", "found the key", 3))
    played.report(Score(3, 4, player="p1"))
    assert [played.state.players[name].score for name in ("p0", "p1")] == [3, 4]
    assert played.tick(10**9).state.phase == "live"
    assert played.end().state.winner == "p1"


def test_points_of_a_mode_are_cut_to_what_an_event_may_be_worth() -> None:
    MODES.add([ModeRules(name="much", title="Much", points=lambda _state, _event: 10**30)])
    try:
        played = live("much", score_limit=0).report(Kill(1, "p0", "p1"))
    finally:
        MODES.remove("much")
    assert played.state.players["p0"].score == MAX_POINTS


# ---- teams and leavers ---------------------------------------------------------------------


def test_teams_that_are_not_locked_may_be_changed_until_the_start() -> None:
    played = Played().create(mode="custom", teams=2).join("ann", team=0).join("ann", team=1)
    assert played.state.players["ann"].team == 1
    played.start()
    with pytest.raises(Rejected) as refused:
        played.join("ann", team=0)
    assert refused.value.code == "already_joined"


def test_teams_of_other_modes_are_locked() -> None:
    with pytest.raises(Rejected) as refused:
        Played().create(mode="slayer").join("ann", team=0).join("ann", team=1)
    assert refused.value.code == "already_joined"


def left(played: Played, player: str) -> None:
    played.emit(admission.leave(played.state, player))


def test_a_leaver_does_not_win_where_the_mode_says_so() -> None:
    played = live("free_for_all", score_limit=3).report(*(Kill(n, "p0", "p1") for n in (1, 2)), Kill(3, "p2", "p1"))
    left(played, "p0")
    played.end()
    assert played.state.winner == "p2"
    team = live("capture_the_flag", score_limit=1)
    left(team, "p2")
    team.report(Objective(1, "p0", "flag_captured"))
    assert team.state.winner == "team:0"
    assert endings.won(team.state, "p0") and not endings.won(team.state, "p2")
    exported = {row[1]: row[-1] for row in participant_rows("m", team.state)}
    assert exported["p0"] and not exported["p2"]


def test_a_leaver_of_slayer_wins_with_its_team() -> None:
    played = live("slayer", score_limit=1)
    left(played, "p2")
    played.report(Kill(1, "p0", "p1"))
    assert endings.won(played.state, "p2")


# ---- ends ----------------------------------------------------------------------------------


def test_a_tie_goes_on_until_somebody_is_ahead() -> None:
    played = live("free_for_all", score_limit=0).report(Kill(1, "p0", "p1"), Kill(2, "p1", "p0"))
    assert played.tick(600_000).state.phase == "live"
    played.report(Medal(610_000, "p0", "Late"))
    assert played.state.phase == "live"
    played.report(Kill(620_000, "p2", "p0"), Kill(620_001, "p2", "p0"))
    assert ends(played) == [(620_001, "time", "p2")]


def test_overtime_has_an_end() -> None:
    played = live("free_for_all").report(Kill(1, "p0", "p1"), Kill(2, "p1", "p0")).tick(660_000)
    assert ends(played) == [(660_000, "time", None)]


def test_a_leader_wins_at_once_when_time_is_up() -> None:
    assert ends(live("free_for_all").report(Kill(1, "p0", "p1")).tick(700_000)) == [(600_000, "time", "p0")]


def test_rounds_begin_anew_and_most_of_them_win() -> None:
    played = live("oddball").report(held(1_000, "p0", 100, "ball_held"))
    assert (scores(played), played.state.phase) == ((0, 0), "live")
    assert played.state.players["p0"].score == 100
    played.report(held(2_000, "p1", 100, "ball_held")).report(held(3_000, "p0", 60, "ball_held"))
    played.tick(302_000)
    assert ends(played) == [
        (1_000, "score", "team:0"),
        (2_000, "score", "team:1"),
        (302_000, "time", "team:0"),
        (302_000, "time", "team:0"),
    ]
    assert played.records[-1].event == Ended(302_000, "time", "team:0", played.wall_ms)


def test_two_rounds_of_three_are_enough() -> None:
    played = live("oddball").report(held(1, "p0", 100, "ball_held")).report(held(2, "p0", 100, "ball_held"))
    assert [reason for _, reason, _ in ends(played)] == ["score", "score", "score"]
    assert played.state.winner == "team:0"


def test_a_tie_of_rounds_is_won_by_nobody() -> None:
    played = live("oddball").report(held(1, "p0", 100, "ball_held")).report(held(2, "p1", 100, "ball_held"))
    played.tick(2 + 300_000 + 30_000)
    assert ends(played)[-1] == (330_002, "time", None)


def test_a_host_that_ends_in_a_round_has_a_winner_too() -> None:
    played = live("oddball").report(held(1, "p1", 30, "ball_held")).end()
    assert played.state.winner == "team:1"


def test_a_winner_who_takes_no_part_is_none() -> None:
    MODES.add([ModeRules(name="odd", title="Odd", points=kill_points, winner=lambda _state: "team:99")])
    try:
        assert live("odd").end().state.winner is None
    finally:
        MODES.remove("odd")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"rounds": 3}, "rounds are for teams"),
        ({"rounds": 16, "fewest_teams": 2}, "1 to 15"),
        ({"version": 0}, "version"),
        ({"fewest_teams": 3}, "within"),
        ({"options": PlayOptions(teams=9)}, "Expected"),
    ],
)
def test_rules_that_cannot_be_played_are_none(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ModeRules(name="x", title="X", **more)


# ---- weeks ---------------------------------------------------------------------------------


def test_a_match_may_stand_for_weeks() -> None:
    played = Played().create(mode="custom", countdown_ms=86_400_000).join("ann", "bob").start()
    played.tick(86_400_000)
    assert played.state.phase == "live"
    for week in range(1, 60):
        played.report(Medal(week * WEEK_MS, "ann", "Week"), Objective(week * WEEK_MS, "bob", "harvest", 10_000))
    assert played.tick(60 * WEEK_MS).state.phase == "live"
    assert (played.state.time_ms, played.state.players["bob"].score) == (59 * WEEK_MS, 590_000)


def test_a_time_limit_of_weeks_ends_a_match_to_the_millisecond() -> None:
    played = live("slayer", time_limit_ms=4 * WEEK_MS).tick(4 * WEEK_MS - 1)
    assert played.state.phase == "live"
    assert ends(played.report(Kill(4 * WEEK_MS - 1, "p0", "p1")).tick(4 * WEEK_MS)) == [(4 * WEEK_MS, "time", "team:0")]
