"""The theatre's routes: every scoreboard is that of the match's rules, whatever the log is like; bounded, and typed."""

import asyncio
import random
from collections import OrderedDict
from typing import Any

import msgspec
import pytest

from game import replay
from game.careers.events import Rated
from game.console import drawing
from game.console.theatre import KEPT, Reel, moment, steps, theatre
from game.match.board import lines
from game.match.state import MatchState
from game.messages import Created, Ended, Kill, MatchOptions, Score
from game.modes.mode import ModeRules, kill_points
from game.modes.registry import MODES
from server.errors import BadInput, NotFound, Overloaded
from server.eventlog.fold import LogGap
from server.eventlog.ports import Chunk, StoredLog
from tests.support.matches import Played, as_report, counted, read_recorded, recorded_params
from tests.support.recorded_logs import LogShelf, ShelfContext, busy_match


def shelf_with(log: StoredLog, match: str = "m") -> ShelfContext:
    shelf = LogShelf()
    shelf.put(match, log)
    return ShelfContext(shelf)


async def asked(route: Any, context: ShelfContext, **params: Any) -> Any:
    context_params = {name: str(value) for name, value in ({"match": "m"} | params).items()}
    return msgspec.to_builtins(await route(context, context_params))


def board_of(state: MatchState) -> list[Any]:
    return [drawing.line_row(line.player, state.players[line.player]) for line in lines(state)]


def damaged(log: StoredLog, place: int) -> StoredLog:
    chunks = [*log.chunks]
    data = bytearray(chunks[place].data)
    data[-3] ^= 4
    chunks[place] = msgspec.structs.replace(chunks[place], data=bytes(data))
    return msgspec.structs.replace(log, chunks=chunks)


@pytest.mark.virtual_time
@pytest.mark.parametrize("over", [True, False])
async def test_moments_are_those_of_the_rules(over: bool) -> None:
    match = busy_match()
    log = (match.end(400_000) if over else match).stored()
    context = shelf_with(log)
    for ms in [0, 1, 999, 1_000, *random.Random(7).sample(range(310_000), 40), 10**9]:
        told, state = await asked(moment, context, ms=ms), replay.at(log, ms=ms)
        assert told["board"] == board_of(state.state), ms
        assert (told["team_scores"], told["next_seq"]) == (list(state.state.team_scores), state.next_seq)
        assert (told["phase_then"], told["live"]) == (state.state.phase, not over)


@pytest.mark.virtual_time
async def test_a_page_that_takes_steps_has_the_board_of_every_later_moment() -> None:
    """A moment and the lines of each step after it are all that a page needs."""
    log = busy_match(120).end(130_000).stored()
    context = shelf_with(log)
    begin = await asked(moment, context, ms=20_000)
    board = {row[0]: row for row in begin["board"]}
    scores, next_seq = begin["team_scores"], begin["next_seq"]
    while True:
        page = await asked(steps, context, seq=next_seq, limit=9)
        for step in page["steps"]:
            board.update({row[0]: row for row in step.get("lines", [])})
            scores = step.get("team_scores") or scores
            state = replay.at(log, seq=step["seq"]).state
            assert board == {row[0]: row for row in board_of(state)} and scores == list(state.team_scores)
        next_seq = page["next_seq"]
        if not page["more"]:
            break
    assert next_seq == log.next_seq


@pytest.mark.virtual_time
@pytest.mark.parametrize("path", recorded_params())
async def test_a_recorded_match_has_all_its_marks(path: Any) -> None:
    rows = read_recorded(path)
    match = Played().create(mode="recorded", teams=0, max_players=0).start()
    for row in rows:
        match.report(as_report(row))
    told = await asked(theatre, shelf_with(match.end().stored(64)))
    people = [person[0] for person in told["people"]]
    found: dict[str, list[int]] = {}
    for what, player in zip(told["marks"]["what"], told["marks"]["player"], strict=True):
        place = {"kill": 0, "death": 1, "medal": 2, "objective": 3}.get(what)
        if place is not None:
            found.setdefault(people[player], [0, 0, 0, 0])[place] += 1
    assert {player: tuple(counts) for player, counts in found.items()} == counted(rows)
    best = told["scores"][0]
    assert told["measure"] == "kills" and best["score"][-1] == counted(rows)[best["side"]][0]
    assert told["left_out"] == {} and told["gaps"] == []


@pytest.mark.virtual_time
async def test_leads_change_when_somebody_passes() -> None:
    match = Played().live(4, score_limit=0)
    for time_ms, team, points in [(1, 0, 1), (2, 1, 1), (3, 1, 1), (4, 0, 1), (5, 1, 1), (6, 1, -3), (7, 0, 1)]:
        match.report(Score(1000 * time_ms, points, team))
    told = await asked(theatre, shelf_with(match.stored()))
    marks, people = told["marks"], [person[0] for person in told["people"]]
    leads = [
        (time_ms // 1000, people[player])
        for time_ms, what, player in zip(marks["time_ms"], marks["what"], marks["player"], strict=True)
        if what == "lead"
    ]
    assert leads == [(1, "team:0"), (3, "team:1"), (6, "team:0")]
    assert told["measure"] == "score"


@pytest.mark.virtual_time
async def test_a_long_match_is_thinned_and_says_how_much_it_leaves_out() -> None:
    taken = drawing.Drawing()
    match = Played().live(2, score_limit=0, time_limit_ms=0)
    total = 4 * drawing.MARKS + 17
    for number in range(total):
        match.report(Kill(number, "p0", "p1"))
    for step in replay.steps(match.stored(512)):
        taken.take(step)
    told = taken.summary()
    kills = told["marks"]["what"].count("kill")
    assert drawing.MARKS / 2 <= kills <= drawing.MARKS
    assert told["left_out"]["kill"] == total - kills
    curve = told["scores"][0]
    assert len(curve["score"]) <= drawing.POINTS + 1 and curve["score"][-1] == total, "the last one is never left out"


@pytest.mark.virtual_time
@pytest.mark.parametrize("place", [0, 2, 5])
async def test_damage_is_named_and_the_rest_is_shown(place: int) -> None:
    match = busy_match(150).end(160_000)
    log = match.stored()
    bad, context = log.chunks[place], shelf_with(damaged(log, place))
    told = await asked(theatre, context)
    (gap,) = told["gaps"]
    assert (gap["first_seq"], gap["last_seq"]) == (bad.first_seq, bad.last_seq) and "checksum" in gap["why"]
    assert told["phase"] == "ended"
    after = replay.at(log, seq=bad.last_seq + 3).state
    assert (await asked(moment, context, ms=after.time_ms))["board"] == board_of(after)
    within = await asked(moment, context, ms=max(gap["from_ms"], gap["to_ms"] - 1))
    assert within["gap"]["first_seq"] == bad.first_seq
    assert within["board"] == board_of(replay.at(log, seq=bad.first_seq - 1).state)
    page = await asked(steps, context, seq=max(1, bad.first_seq - 2), limit=40)
    (again,) = [step for step in page["steps"] if step["seq"] == bad.last_seq + 1]
    assert page["gaps"] and again["lines"] == board_of(replay.at(log, seq=bad.last_seq + 1).state), "a whole board"


@pytest.mark.virtual_time
async def test_rules_that_are_not_there_are_said_and_events_are_shown() -> None:
    first = ModeRules(name="duel", title="Duel", version=1, points=kill_points)
    MODES.add([first, msgspec.structs.replace(first, version=2)])
    try:
        match = Played().live(mode="duel", score_limit=0)
        match.report(*(Kill(1000 * n, "p0", "p1") for n in range(40)))
        log = match.end(50_000).stored()
    finally:
        MODES.remove("duel")
    context = shelf_with(log)
    told = await asked(theatre, context)
    assert told["unruled"] == "played by rules 2 of mode duel, which this program does not have"
    assert told["marks"]["what"].count("kill") == 40
    frame = [chunk for chunk in log.chunks if chunk.sealed][-1]
    kills = sum(isinstance(record.event, Kill) for record in match.records[: frame.first_seq - 1])
    assert (await asked(moment, context, ms=49_000))["team_scores"] == [kills, 0], "as of the keyframe before it"
    assert len((await asked(steps, context, seq=10, limit=20))["steps"]) > 10


@pytest.mark.virtual_time
async def test_an_event_that_the_rules_cannot_take_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    log = busy_match(20).stored()
    context = shelf_with(log)

    def raising(state: Any, record: Any) -> Any:
        if record.seq == 12:
            raise KeyError("gone")
        return replay.rules.evolve(state, record)

    monkeypatch.setattr(replay, "MATCH", msgspec.structs.replace(replay.MATCH, evolve=raising))
    told = await asked(theatre, context)
    assert told["unruled"] == "the rules cannot go on at event 12: KeyError: 'gone'"
    assert len(told["marks"]["seq"]) > 10


@pytest.mark.virtual_time
async def test_a_live_match_grows_and_goes_over_into_its_end() -> None:
    shelf, match = LogShelf(), busy_match(10)
    context = ShelfContext(shelf)
    next_seq, seen = 1, []
    for part in range(12):
        if part == 11:
            match.end(1_000_000)
        elif part:
            for number in range(7):
                match.report(Kill(20_000 * part + number, "p0", "p1"))
        shelf.put("m", match.stored())
        await asyncio.sleep(1)
        page = await asked(steps, context, seq=next_seq, limit=500)
        assert page["live"] == (part < 11) and not page["more"]
        seen += [step["seq"] for step in page["steps"]]
        next_seq = page["next_seq"]
        told = await asked(theatre, context)
        assert told["marks"]["what"].count("kill") == sum(isinstance(one.event, Kill) for one in match.records)
    assert next_seq == match.next_seq and seen == sorted(set(seen))
    assert (await asked(theatre, context))["phase"] == "ended"
    reads = shelf.reads
    await asyncio.sleep(1)
    assert (await asked(theatre, context))["phase"] == "ended" and shelf.reads == reads + 1


@pytest.mark.virtual_time
async def test_a_log_that_was_written_anew_is_read_anew() -> None:
    """Sealed or not, as long as before, shorter or longer."""
    context = shelf_with(busy_match(60).end(70_000).stored())
    await asked(theatre, context)
    for events, seed in ((60, 2), (40, 3), (90, 4), (5, 5), (5, 6), (4, 7)):
        other = busy_match(events, seed=seed)
        context.shelf.put("m", other.stored())
        await asyncio.sleep(1)
        assert (await asked(moment, context, ms=95_000))["board"] == board_of(other.state)
        marks = (await asked(theatre, context))["marks"]
        assert marks["what"].count("kill") == sum(isinstance(one.event, Kill) for one in other.records)


def test_scores_over_time_go_on_behind_a_gap() -> None:
    match = busy_match(60).end(70_000)
    taken, items = drawing.Drawing(), list(replay.steps(match.stored()))
    for step in items[:30]:
        taken.take(step)
    taken.take(LogGap(31, len(items) - 1, "gone"))
    taken.take(items[-1])
    assert [curve["score"][-1] for curve in taken.summary()["scores"]] == sorted(match.state.team_scores, reverse=True)


async def test_a_long_log_is_read_over_several_requests() -> None:
    context = shelf_with(busy_match(200).end(300_000).stored())
    reel = Reel("m", budget_s=0.0, slice_s=0.0)
    read = []
    while not read or reel.reading:
        await reel.follow(context)
        read.append(reel.theatre()["read"])
        if reel.reading:
            context.kept["theatre"] = {"m": reel}
    assert read[0] < read[-1] and len(read) > 3 and read == sorted(read)


@pytest.mark.virtual_time
async def test_a_moment_of_a_match_that_is_being_read_is_for_later() -> None:
    context = shelf_with(busy_match(200).end(300_000).stored())
    context.kept["theatre"] = OrderedDict(m=Reel("m", budget_s=0.0, slice_s=0.0))
    with pytest.raises(Overloaded, match="is being read"):
        await asked(moment, context, ms=5)
    told = await asked(theatre, context)
    assert told["reading"] and not told["live"] and 0 < told["read"] < told["events"]


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("route", "params"),
    [
        (moment, {}), (moment, {"ms": ""}), (moment, {"ms": "-1"}), (moment, {"ms": "1.5"}), (moment, {"ms": "x"}),
        (moment, {"ms": "²"}), (moment, {"ms": "9" * 200}), (steps, {"seq": "0"}), (steps, {}),
        (steps, {"seq": "1", "limit": "501"}), (steps, {"seq": "1", "limit": "0"}), (theatre, {"match": ""}),
        (theatre, {"match": "m/" + "x" * 300}),
    ],
)  # fmt: skip
async def test_bad_parameters_are_refused(route: Any, params: dict[str, str]) -> None:
    context = shelf_with(busy_match(3).stored())
    with pytest.raises(BadInput):
        await asked(route, context, **params)


@pytest.mark.virtual_time
async def test_unknown_matches_are_not_kept_and_known_ones_in_bounded_number() -> None:
    context = shelf_with(busy_match(3).stored())
    for route, params in ((theatre, {}), (moment, {"ms": 0}), (steps, {"seq": 1})):
        with pytest.raises(NotFound, match="no match nobody"):
            await asked(route, context, match="nobody", **params)
    assert not context.kept["theatre"]
    for number in range(KEPT + 3):
        context.shelf.put(f"m{number}", busy_match(3).stored())
        await asked(theatre, context, match=f"m{number}")
    assert list(context.kept["theatre"]) == [f"m{number}" for number in range(3, KEPT + 3)]


@pytest.mark.virtual_time
async def test_a_match_of_many_players_and_weeks_is_told_in_part() -> None:
    match = Played().create(mode="recorded", teams=0, max_players=0).start()
    week = 7 * 86_400_000
    match.report(*(Kill(week, f"p{number:04d}") for number in range(250)))
    match.report(*(Kill(2 * week, f"p{number:04d}") for number in range(200, 450)))
    match.report(*(Kill(3 * week, f"p{number:04d}") for number in range(400, 600)))
    context = shelf_with(match.stored(512))
    told = await asked(theatre, context)
    assert (told["player_count"], told["lanes"], told["edge_ms"]) == (600, drawing.LANES, 3 * week)
    assert len(told["scores"]) == drawing.CURVES
    at = await asked(moment, context, ms=2 * week)
    assert len(at["board"]) == drawing.ROWS and at["player_count"] == 450


@pytest.mark.virtual_time
async def test_an_empty_and_a_headless_log_are_shown_as_what_they_are() -> None:
    match = Played()
    match.emit([Created(0, "host", MatchOptions(), 1)])
    context = shelf_with(match.stored())
    told = await asked(theatre, context)
    assert (told["live"], told["edge_ms"], told["marks"]["seq"]) == (True, 0, [])
    headless = StoredLog(50, bytes(16), list[Chunk]())
    context.shelf.put("gone", headless)
    told = await asked(theatre, context, match="gone")
    assert told["gaps"][0]["why"].startswith("no event of the log is there")
    assert (await asked(moment, context, match="gone", ms=0))["board"] == []


@pytest.mark.virtual_time
@pytest.mark.parametrize("results", [False, True])
async def test_the_theatre_waits_as_long_as_the_match_says(results: bool) -> None:
    """Nothing after the public moment is told, also not that the match is over, until that is old enough, or the
    match has logged its results."""
    match = busy_match(100, spectator_delay_ms=20_000)
    match.emit([Ended(100_000, "host_ended", None, match.wall_ms, rated=True)])
    context = shelf_with(match.stored())
    began = match.state.started_wall_ms
    for wall_s in (-5, 0, 19, 20, 21, 60, 85, 110):
        context.now_ms = began + 1_000 * wall_s
        await asyncio.sleep(1)
        told = await asked(theatre, context)
        due_ms = 1_000 * (wall_s - 20)
        last = max((one.event.time_ms for one in match.records if one.event.time_ms <= due_ms), default=0)
        assert (told["live"], told["edge_ms"], told["delay_ms"]) == (True, last, 20_000)
        assert max(told["marks"]["time_ms"], default=0) <= max(due_ms, 0)
        assert told["winner"] is None and told["end_reason"] is None and told["events"] < match.next_seq - 1
        at = await asked(moment, context, ms=10**7)
        assert at["board"] == (board_of(replay.at(match.stored(), ms=due_ms).state) if due_ms >= 0 else [])
        page = await asked(steps, context, seq=1, limit=500)
        assert not page["more"] and all(step["time_ms"] <= due_ms for step in page["steps"])
    if results:
        match.emit([Rated(100_000, "", "", [])])
        context.shelf.put("m", match.stored())
    else:
        context.now_ms = began + 121_000
    await asyncio.sleep(1)
    assert (await asked(theatre, context))["phase"] == "ended"
