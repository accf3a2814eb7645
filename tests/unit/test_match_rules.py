"""The rules of a match, one by one."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from game import replay
from game.match import admission, board, codes, endings, rules
from game.match.state import MatchState
from game.messages import (
    Assist,
    Countdown,
    Created,
    Death,
    Ended,
    Joined,
    Kill,
    Left,
    MatchOptions,
    MatchTick,
    Medal,
    Objective,
    Score,
    Started,
)
from server import states
from server.errors import OutcomeUnknown, Rejected
from server.eventlog.entry import Record, state_hash
from tests.support.matches import Played, as_report, counted, read_recorded, recorded_params


def code_of(call: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(Rejected) as caught:
        call(*args, **more)
    assert caught.value.code in codes.CODES
    return caught.value.code


# ---- lobby and roster ---------------------------------------------------------------------


def test_a_match_is_created_once() -> None:
    played = Played().create(map_name="Recharge")
    state = played.state
    assert (state.host, state.phase, state.team_scores, state.created_wall_ms) == (
        "host",
        "lobby",
        (0, 0),
        played.wall_ms,
    )
    assert code_of(played.create, "other") == "match_exists"


@pytest.mark.parametrize("name", ["latest", ".", "..", "....", "-x", "--help"])
def test_names_that_nobody_could_name_are_refused(name: str) -> None:
    """F30: words of commands, and steps in addresses."""
    assert code_of(rules.create, MatchState(), name, "host", MatchOptions(), 1) == "bad_name"


@pytest.mark.parametrize("weeks", [3, 200, 3_000_000])
def test_a_world_of_weeks_is_a_match_like_others(weeks: int) -> None:
    """F31: its clock is the host's, far beyond a day."""
    late = weeks * 7 * 86_400_000
    tick = msgspec.convert(["match.tick", 1, "m", late], MatchTick)
    played = Played().live(score_limit=0, time_limit_ms=2 * late).tick(tick.time_ms)
    played.report(Kill(late + 1, "p0", "p1")).tick(2 * late - 1)
    assert (played.state.phase, played.state.time_ms) == ("live", late + 1)
    played.tick(2 * late)
    assert (played.state.phase, played.state.end_reason) == ("ended", "time")
    assert replay.verify(played.stored()).state == played.state
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(["match.tick", 1, "m", 2**52 + 1], MatchTick)


def test_texts_that_a_terminal_or_a_page_would_obey_are_refused() -> None:
    """F29, F66; logs of earlier versions have some, and are read."""
    rude = "Re\x9b2Jcharge"
    assert code_of(Played().create, map_name=rude) == "bad_text"
    played = Played().live(mode="objective")
    assert code_of(played.report, Medal(1_000, "p0", "\u202eevil")) == "bad_text"
    assert code_of(played.report, Objective(1_000, "p0", "\u200b")) == "bad_text"
    stored = msgspec.msgpack.encode(Created(0, "host", MatchOptions(map_name=rude), 1))
    assert msgspec.msgpack.decode(stored, type=Created).options.map_name == rude


@pytest.mark.parametrize("name", ["Latest", "latest-1", ".x", "x-", "=", "~", "match"])
def test_names_that_only_look_alike_are_taken(name: str) -> None:
    assert len(rules.create(MatchState(), name, "host", MatchOptions(), 1)) == 1


@pytest.mark.parametrize("options", [{"max_players": 0}, {"teams": 4, "max_players": 3}])
def test_options_that_cannot_be_played(options: dict[str, int]) -> None:
    assert code_of(Played().create, **options) == "bad_options"
    Played().create(mode="recorded", **options)


def test_players_fill_the_smallest_team() -> None:
    played = Played().create().join("a", "b", "c").join("d", team=1)
    assert {player: line.team for player, line in played.state.players.items()} == {"a": 0, "b": 1, "c": 0, "d": 1}
    played.emit(admission.leave(played.state, "a"))
    played.emit(admission.leave(played.state, "c"))
    assert played.join("e").state.players["e"].team == 0


def test_without_teams_nobody_has_one() -> None:
    played = Played().create(teams=0).join("a")
    assert played.state.players["a"].team is None
    assert code_of(played.join, "b", team=0) == "bad_team"


def test_joining_twice() -> None:
    played = Played().create().join("a")
    assert admission.join(played.state, "a", None) == []
    assert admission.join(played.state, "a", 0) == []
    assert code_of(played.join, "a", team=1) == "already_joined"
    assert code_of(played.join, "b", team=2) == "bad_team"


def test_a_full_match_counts_those_present() -> None:
    played = Played().create(max_players=2).join("a", "b")
    assert code_of(played.join, "c") == "match_full"
    played.emit(admission.leave(played.state, "a"))
    played.join("c")
    assert code_of(played.join, "a") == "match_full"


def test_join_in_progress_and_coming_back() -> None:
    played = Played().live(2, join_in_progress=False)
    assert code_of(played.join, "late") == "no_join_in_progress"
    played.emit(admission.leave(played.state, "p1", "disconnected"))
    assert not played.state.players["p1"].present
    played.report(Death(1000, "p0"))
    played.join("p1", team=0)
    assert played.state.players["p1"].present
    assert played.state.players["p1"].team == 1, "who comes back keeps the team"
    assert Played().live(2).join("late").state.players["late"].team == 0


def test_leaving_needs_to_be_there() -> None:
    played = Played().create().join("a")
    assert code_of(admission.leave, played.state, "b") == "not_in_match"
    played.emit(admission.leave(played.state, "a"))
    assert isinstance(played.records[-1].event, Left) and played.records[-1].event.reason == "left"
    assert code_of(admission.leave, played.state, "a") == "not_in_match"


# ---- start ------------------------------------------------------------------------------------


def test_only_the_host_starts_and_only_from_the_lobby() -> None:
    played = Played().create()
    assert code_of(rules.start, played.state, "a", 0, 0) == "not_host"
    assert code_of(played.start) == "no_players"
    played.join("a").start(100)
    assert (played.state.phase, played.state.countdown_from_ms) == ("countdown", 100)
    assert code_of(played.start) == "already_started"


def test_the_hosts_clock_ends_the_countdown() -> None:
    played = Played().create().join("a", "b").start(100).tick(3099)
    assert played.state.phase == "countdown"
    played.tick(3200)
    assert (played.state.phase, played.state.live_from_ms, played.state.time_ms) == ("live", 3100, 3100)
    assert played.state.started_wall_ms == played.wall_ms
    assert rules.countdown_over(played.state, 0) == []


def test_a_report_after_the_countdown_starts_the_match() -> None:
    played = Played().create().join("a", "b").start(0)
    assert code_of(played.report, Medal(2999, "a", "Early")) == "not_live"
    played.report(Medal(3000, "a", "First"))
    assert [type(record.event) for record in played.records[-2:]] == [Started, Medal]


def test_the_servers_timer_ends_the_countdown_without_moving_the_clock() -> None:
    played = Played().create(time_limit_ms=10_000).join("a", "b").start(500)
    played.emit(rules.countdown_over(played.state, played.wall_ms))
    assert (played.state.phase, played.state.time_ms, played.state.live_from_ms) == ("live", 500, 3500)
    played.report(Death(600, "a")).tick(13_499)
    assert played.state.phase == "live"
    assert played.tick(13_500).state.end_reason == "time"


def test_everybody_leaving_before_the_start_abandons_it() -> None:
    played = Played().create().join("a").start()
    played.emit(admission.leave(played.state, "a"))
    assert (played.state.phase, played.state.end_reason) == ("ended", "abandoned")


# ---- live --------------------------------------------------------------------------------------


def test_slayer_counts_kills() -> None:
    played = Played().live()
    played.report(Kill(10, "p0", "p1"), Assist(10, "p2"), Medal(10, "p0", "Snipe"), Kill(20, "p3", "p2"))
    lines = played.state.players
    assert (lines["p0"].kills, lines["p0"].score, lines["p0"].medals) == (1, 1, 1)
    assert (lines["p1"].deaths, lines["p2"].deaths, lines["p2"].assists) == (1, 1, 1)
    assert played.state.team_scores == (1, 1)
    assert played.state.time_ms == 20


def test_a_betrayal_is_a_death_only() -> None:
    played = Played().live().report(Kill(10, "p0", "p2"))
    assert played.state.players["p0"].kills == 0
    assert played.state.players["p2"].deaths == 1
    assert played.state.team_scores == (0, 0)


def test_objective_counts_points() -> None:
    played = Played().live(mode="objective")
    played.report(Kill(1, "p0", "p1"), Objective(2, "p1", "capture", 5), Score(3, -2, team=0), Score(4, 3, player="p1"))
    assert played.state.team_scores == (-2, 8)
    assert (played.state.players["p0"].kills, played.state.players["p0"].score) == (1, 0)
    assert (played.state.players["p1"].objectives, played.state.players["p1"].score) == (1, 8)


def test_in_slayer_an_objective_is_worth_nothing() -> None:
    played = Played().live().report(Objective(2, "p1", "capture", 5))
    assert played.state.team_scores == (0, 0) and played.state.players["p1"].objectives == 1


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Kill(10, "p0"), "victim_required"),
        (Kill(10, "p0", "p0"), "same_player"),
        (Kill(10, "p0", "nobody"), "unknown_player"),
        (Kill(10, "nobody", "p0"), "unknown_player"),
        (Kill(10, "p0", "p3"), "not_present"),
        (Death(10, "p3"), "not_present"),
        (Medal(10, "nobody", "Ghost"), "unknown_player"),
        (Score(10, 1), "no_target"),
        (Score(10, 1, team=0, player="p0"), "no_target"),
        (Score(10, 1, team=2), "bad_team"),
        (Death(4, "p0"), "clock_backwards"),
    ],
)
def test_a_host_cannot_report_impossible_events(event: Any, code: str) -> None:
    played = Played().live()
    played.report(Death(5, "p3"))
    played.emit(admission.leave(played.state, "p3"))
    before = played.state
    assert code_of(played.report, Medal(5, "p0", "Fine"), event) == code
    assert played.state is before, "all or nothing"


def test_reports_need_the_host_and_a_live_match() -> None:
    played = Played().create().join("p0", "p1")
    assert code_of(played.report, Death(0, "p0")) == "not_live"
    assert code_of(rules.report, played.state, "p0", [Death(0, "p0")], 0) == "not_host"
    played.start().tick(3000).end(4000)
    assert code_of(played.report, Death(5000, "p0")) == "match_ended"
    assert code_of(played.join, "p2") == "match_ended"
    assert code_of(admission.leave, played.state, "p0") == "match_ended"
    assert code_of(played.tick, 6000) == "match_ended"
    assert code_of(played.end, 6000) == "match_ended"


def test_equal_times_keep_their_order() -> None:
    played = Played().live()
    events = [Medal(7, "p0", str(number)) for number in range(20)]
    played.report(*events[:9]).report(*events[9:])
    assert [record.event for record in played.records[-20:]] == events


# ---- the end --------------------------------------------------------------------------------------


def test_the_score_ends_the_match_after_the_report_that_reached_it() -> None:
    played = Played().live(score_limit=2)
    played.report(Kill(10, "p0", "p1")).report(Kill(20, "p0", "p3"), Medal(20, "p0", "Last"), Kill(30, "p1", "p0"))
    assert played.records[-1].event == Ended(30, "score", "team:0", played.wall_ms)
    assert (played.state.phase, played.state.winner, played.state.ended_wall_ms) == ("ended", "team:0", played.wall_ms)
    assert endings.won(played.state, "p0") and endings.won(played.state, "p2") and not endings.won(played.state, "p1")


def test_time_ends_the_match() -> None:
    played = Played().live(time_limit_ms=60_000).report(Kill(10, "p0", "p1")).tick(59_999)
    assert played.state.phase == "live"
    played.tick(61_000)
    assert (played.state.end_reason, played.state.time_ms, played.state.winner) == ("time", 60_000, "team:0")


def test_no_limits() -> None:
    played = Played().live(score_limit=0, time_limit_ms=0).tick(86_400_000)
    assert played.report(*(Kill(n, "p0", "p1") for n in range(200))).state.phase == "live"


def test_a_draw_has_no_winner() -> None:
    assert Played().live().end(10).state.winner is None


def test_without_teams_a_player_wins() -> None:
    played = Played().live(teams=0, score_limit=2).report(Kill(1, "p0", "p1"), Kill(2, "p0", "p2"))
    assert played.state.winner == "p0" and endings.won(played.state, "p0") and not endings.won(played.state, "p1")


def test_everybody_leaving_abandons_a_live_match() -> None:
    played = Played().live(2).report(Kill(5, "p0", "p1"))
    for player in ("p0", "p1"):
        played.emit(admission.leave(played.state, player, "disconnected"))
    assert (played.state.end_reason, played.state.winner) == ("abandoned", None)


def test_a_host_that_vanishes_ends_it_without_a_winner() -> None:
    assert rules.host_vanished(MatchState(), 0) == []
    played = Played().live().report(Kill(5, "p0", "p1"))
    played.emit(rules.host_vanished(played.state, 77))
    assert played.records[-1].event == Ended(5, "host_vanished", None, 77)
    assert rules.host_vanished(played.state, 78) == []


# ---- recorded ----------------------------------------------------------------------------------


def test_recorded_takes_what_it_is_given() -> None:
    played = Played().create(mode="recorded", teams=0, max_players=0, score_limit=1, time_limit_ms=1).join("a")
    assert code_of(played.report, Kill(10, "a")) == "not_live"
    played.start().report(Kill(10, "a"), Death(10, "late"), Kill(86_400_000, "a"), Objective(86_400_000, "late"))
    state = played.state
    assert state.phase == "live"
    assert (state.players["a"].kills, state.players["a"].deaths, state.players["a"].score) == (2, 0, 0)
    late = state.players["late"]
    assert (late.deaths, late.objectives, late.present, late.team) == (1, 1, False, None)
    assert played.join("late", "b").state.players["late"].deaths == 1
    assert code_of(played.report, Kill(5, "a")) == "clock_backwards"
    for player in ("a", "late", "b"):
        played.emit(admission.leave(played.state, player))
    assert played.state.phase == "live"
    assert played.end().state.winner is None


def test_recorded_ignores_a_countdown_and_an_empty_lobby() -> None:
    assert Played().create(mode="recorded").start().state.phase == "live"


@pytest.mark.parametrize("path", recorded_params())
@pytest.mark.parametrize("batch", [1, 37])
def test_recorded_matches_count_as_their_files(path: Path, batch: int) -> None:
    rows = read_recorded(path)
    played = Played().create(mode="recorded", teams=0, max_players=0)
    played.join(*sorted({row["player"] for row in rows})[::2]).start()
    for start in range(0, len(rows), batch):
        played.report(*map(as_report, rows[start : start + batch]))
    played.end()
    assert counted(rows) == {
        player: (line.kills, line.deaths, line.medals, line.objectives) for player, line in played.state.players.items()
    }
    told = [record.event for record in played.records if isinstance(record.event, rules.Report)]
    assert told == list(map(as_report, rows)), "in the order of the file"


# ---- duplicates --------------------------------------------------------------------------------


def test_an_answer_is_remembered_over_all_its_events() -> None:
    played = Played().live(score_limit=1)
    first, after = played.emit(
        rules.report(played.state, "host", [Medal(1, "p0", "A"), Kill(2, "p0", "p1")], 0), "host/x", 7
    )
    assert after - first == 3, "the end is part of the command that brought it"
    answer = rules.answer_to(played.state, "host/x", 7)
    assert answer is not None and (answer.first_seq, answer.next_seq) == (first, after)
    assert rules.answer_to(played.state, "host/x", 8) is None
    assert rules.answer_to(played.state, "p0/x", 7) is None, "a lineage is its caller's own"


def test_old_commands_have_an_unknown_outcome() -> None:
    played = Played().live()
    for command in range(1, rules.MAX_COMMANDS + 3):
        played.emit([Medal(command, "p0", "A")], "host/x", command)
    assert len(played.state.answered["host/x"].recent) == rules.MAX_COMMANDS
    assert rules.answer_to(played.state, "host/x", 3) is not None
    with pytest.raises(OutcomeUnknown):
        rules.answer_to(played.state, "host/x", 2)


def test_commands_may_arrive_out_of_order() -> None:
    played = Played().live()
    for command in (5, 3, 9, 4):
        played.emit([Medal(1, "p0", "A"), Medal(1, "p0", "B")], "host/x", command)
    assert [answer.command for answer in played.state.answered["host/x"].recent] == [3, 4, 5, 9]
    assert rules.answer_to(played.state, "host/x", 1) is None
    assert all(answer.next_seq - answer.first_seq == 2 for answer in played.state.answered["host/x"].recent)


def test_the_longest_silent_lineage_is_forgotten() -> None:
    played = Played().live()
    for number in range(rules.MAX_LINEAGES + 1):
        played.emit([Medal(1, "p0", "A")], f"host/{number}", 1)
        played.emit([Medal(1, "p0", "A")], "host/0", number + 2)
    assert len(played.state.answered) == rules.MAX_LINEAGES
    assert "host/1" not in played.state.answered and "host/0" in played.state.answered


def test_a_caller_with_many_lineages_makes_the_match_forget_no_other_callers() -> None:
    played = Played().live()
    played.emit([Medal(1, "p0", "A")], "host/only", 1)
    for number in range(rules.MAX_LINEAGES + 2):
        played.emit([Medal(1, "p0", "A")], f"p1/{number}", 1)
    assert len(played.state.answered) == rules.MAX_LINEAGES
    assert rules.answer_to(played.state, "host/only", 1) is not None
    assert "p1/0" not in played.state.answered


# ---- the state ----------------------------------------------------------------------------------


def test_a_state_survives_its_keyframe() -> None:
    """Also where dicts come back in another order, further play gives the same hash."""
    played = Played().live(8)
    for command, player in enumerate(("p7", "p0", "p3"), 1):
        played.emit([Medal(1, player, "A")], f"{player}/x", command)
    loaded = states.decoder(MatchState)(states.encode_canonical(played.state))
    assert loaded == played.state
    more = Record(played.next_seq, Kill(2, "p1", "p2"), "a/b", 1)
    assert state_hash(rules.evolve(loaded, more)) == state_hash(rules.evolve(played.state, more))


def test_evolve_changes_no_state_in_place() -> None:
    played = Played().live()
    before, image = played.state, state_hash(played.state)
    played.emit([Kill(1, "p0", "p1"), Joined(1, "x", 0)], "host/x", 1)
    assert state_hash(before) == image and played.state is not before


def test_the_scoreboard_is_in_order() -> None:
    played = Played().live(6).report(Kill(1, "p2", "p1"), Kill(2, "p2", "p1"), Kill(3, "p5", "p0"))
    shown = board.scoreboard(played.state, "m", 9, played.next_seq, 50)
    assert [line.player for line in shown.players] == ["p2", "p0", "p4", "p5", "p1", "p3"]
    assert (shown.id, shown.time_ms, shown.team_scores, shown.next_seq) == (9, 50, [2, 1], played.next_seq)


def test_every_event_can_be_evolved() -> None:
    from game.messages import EVENTS

    assert set(rules._EVOLVE) == set(EVENTS)
    assert MatchOptions().mode == "slayer"


# ---- F63 ----


def test_the_rest_of_a_countdown_is_told_by_the_log() -> None:
    """F63: by whichever node's clock, and never longer than it was."""
    played = Played().create(countdown_ms=15_000).join("ann").start(5)
    state, began = played.state, played.wall_ms
    assert state.countdown_wall_ms == began
    left = [rules.countdown_left_ms(state, began + ms) for ms in (0, 10_000, 15_000, 99_000, -1, -3_600_000)]
    assert left == [15_000, 5_000, 0, 0, 15_000, 15_000]


def test_a_log_of_an_earlier_version_knows_no_wall_time_and_hashes_as_before() -> None:
    """F63: its countdown has no wall time; nor has any state outside of a countdown."""
    played = Played().create(countdown_ms=15_000).join("ann")
    lobby = msgspec.to_builtins(played.state, enc_hook=states.to_plain)
    played.emit([Countdown(0, 15_000)])
    assert rules.countdown_left_ms(played.state, played.wall_ms + 9) == 15_000
    assert set(msgspec.to_builtins(played.state, enc_hook=states.to_plain)) == set(lobby)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(["countdown", 0, 15_000]), type=Countdown).wall_ms == 0
    told = Played().create(countdown_ms=15_000).join("ann").start(5)
    assert set(msgspec.to_builtins(told.state, enc_hook=states.to_plain)) == {*lobby, "countdown_wall_ms"}
    told.emit(rules.countdown_over(told.state, told.wall_ms))
    assert set(msgspec.to_builtins(told.state, enc_hook=states.to_plain)) == set(lobby)
