"""Replay from stored bytes: the same states, totals and text; damage and lies are named."""

from itertools import pairwise
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from game import replay
from game.match import admission
from game.match.state import MatchState
from game.messages import Death, Kill, MatchEvent, Medal, Objective, PartyPlace, Score
from server import states
from server.actors.actor import Caller
from server.errors import BadInput, Corrupt
from server.eventlog import fold, segment
from server.eventlog.entry import NO_HEAD, Entry, state_hash
from server.eventlog.ports import Chunk, StoredLog
from tests.support.matches import Played, as_report, counted, read_recorded, recorded_params


@pytest.fixture
def played() -> Played:
    """Fifty events over 40 s, not over."""
    one = Played().live(6)
    for number in range(40):
        killer, victim = f"p{number % 2}", f"p{3 if number % 2 == 0 else 2}"
        one.report(Kill(1000 * number, killer, victim), Medal(1000 * number, killer, "Snipe"))
    return one


def test_players_of_an_event_are_all_that_it_names() -> None:
    named = {"player": "p", "victim": "v", "players": ["q"], "members": [PartyPlace("m", None, 0)]}
    for cls in get_args(MatchEvent):
        event = cls(*(named.get(field, 0) for field in cls.__struct_fields__))
        wanted = {{"player": "p", "victim": "v", "players": "q", "members": "m"}.get(f) for f in cls.__struct_fields__}
        assert set(replay.players_in(event)) == wanted - {None}, cls
    assert list(replay.players_in(Kill(0, "p", None))) == ["p"]


def test_onlookers_of_a_match_with_a_delay_see_it_later_and_all_others_at_once(played: Played) -> None:
    state, wall_ms = played.state, played.state.started_wall_ms + 25_000
    late = msgspec.structs.replace(state, spectator_delay_ms=10_000)
    onlooker, player = Caller("player", "stranger", "s"), Caller("player", "p1", "s")
    assert replay.public_until_ms(late, onlooker, wall_ms) == (state.live_from_ms or 0) + 15_000
    for free_state, caller in ((state, onlooker), (late, player), (late, Caller("service", "stats", "s"))):
        assert replay.public_until_ms(free_state, caller, wall_ms) is None


def test_scene_is_the_scoreboard_of_then(played: Played) -> None:
    log = played.stored(7)
    then = replay.at(log, seq=30)
    shown = replay.scene("m", then.state, then.next_seq)
    assert (shown.match, shown.next_seq, shown.time_ms) == ("m", 31, then.state.time_ms)
    assert {line.player: line.kills for line in shown.players} == {
        player: total.kills for player, total in replay.totals(then.state).items()
    }


def whole(log: StoredLog, place: int, chunk: Chunk) -> StoredLog:
    return StoredLog(log.next_seq, log.head, [*log.chunks[:place], chunk, *log.chunks[place + 1 :]])


@pytest.mark.parametrize("segment_entries", [1, 7, 1000])
def test_steps_are_what_happened(played: Played, segment_entries: int) -> None:
    steps = list(replay.steps(played.stored(segment_entries)))
    assert [step.record for step in steps] == played.records
    assert steps[0].before == MatchState() and steps[-1].after == played.state
    assert all(one.after == two.before for one, two in pairwise(steps))


def test_a_log_that_goes_on_verifies(played: Played) -> None:
    report = replay.verify(played.stored())
    assert (report.events, report.segments, report.keyframes, report.end_hash) == (len(played.records), 5, 5, False)
    assert report.open_chunks > 0
    assert report.state == played.state == replay.final_state(played.stored())


def test_a_finished_log_verifies_with_its_end(played: Played) -> None:
    report = replay.verify(played.end(60_000).stored())
    assert report.end_hash and report.open_chunks == 0
    assert state_hash(report.state) == state_hash(played.state)


def test_seeking_uses_the_keyframe_at_or_before(played: Played) -> None:
    log = played.stored(16)
    for from_ms in (0, 1, 999, 15_000, 15_001, 39_000):
        expected = [record for record in played.records if record.event.time_ms >= from_ms]
        steps = list(replay.steps(log, from_ms))
        assert [step.record for step in steps] == expected
        assert steps[-1].after == played.state
    assert list(replay.steps(log, 99_000)) == []
    broken = whole(log, 0, Chunk(log.chunks[0].first_seq, log.chunks[0].last_seq, True, b"broken"))
    assert next(replay.steps(broken, 30_000)).before.time_ms < 30_000, "what is earlier is not read"
    with pytest.raises(Corrupt):
        next(replay.steps(broken))


def damaged(log: StoredLog, place: int, data: bytes) -> StoredLog:
    """With other bytes in one chunk."""
    chunks = [*log.chunks]
    chunks[place] = msgspec.structs.replace(chunks[place], data=data)
    return msgspec.structs.replace(log, chunks=chunks)


@pytest.mark.parametrize("place", [0, 2, 3, 4])
def test_a_damaged_segment_leaves_the_rest_readable(played: Played, place: int) -> None:
    """Header, keyframe and events, flipped and torn: what is before it is shown, and from the next keyframe on."""
    log = played.end(60_000).stored(16)
    whole_match = list(replay.steps(log))
    target = log.chunks[place]
    changes = [
        target.data[:at] + bytes([target.data[at] ^ 0x10]) + target.data[at + 1 :] for at in range(len(target.data))
    ]
    for data in (*changes[::5], b"", target.data[: len(target.data) // 2]):
        (*shown,) = replay.readable(damaged(log, place, data))
        (gap,) = [step for step in shown if isinstance(step, fold.LogGap)]
        assert (gap.first_seq, gap.last_seq) == (target.first_seq, target.last_seq)
        assert f"segment at event {target.first_seq}: " in gap.why
        at = shown.index(gap)
        assert [*shown[:at], *shown[at + 1 :]] == [
            step for step in whole_match if not target.first_seq <= step.record.seq <= target.last_seq
        ]
        assert len(shown[:at]) == target.first_seq - 1


def test_a_gap_among_open_chunks_goes_to_the_end(played: Played) -> None:
    log = played.stored(16)
    assert [chunk.sealed for chunk in log.chunks[-2:]] == [False, False]
    first_open = next(place for place, chunk in enumerate(log.chunks) if not chunk.sealed)
    *shown, gap = replay.readable(damaged(log, first_open, b"GLog"))
    assert isinstance(gap, fold.LogGap) and len(shown) == gap.first_seq - 1 == log.chunks[first_open].first_seq - 1
    assert gap.last_seq == log.next_seq - 1
    missing = msgspec.structs.replace(log, chunks=[log.chunks[0], *log.chunks[2:]])
    gaps = [step for step in replay.readable(missing) if isinstance(step, fold.LogGap)]
    assert [(gap.first_seq, gap.last_seq) for gap in gaps] == [(log.chunks[1].first_seq, log.chunks[1].last_seq)]
    short = msgspec.structs.replace(log, chunks=log.chunks[:2])
    (gap,) = [step for step in replay.readable(short) if isinstance(step, fold.LogGap)]
    assert (gap.first_seq, gap.last_seq) == (log.chunks[1].last_seq + 1, log.next_seq - 1)
    assert [step for step in replay.readable(log) if isinstance(step, fold.LogGap)] == []


def test_seeking_gives_the_state_of_that_moment(played: Played) -> None:
    log = played.end(60_000).stored(16)
    steps = list(replay.steps(log))
    for seq in (0, 1, 15, 16, 17, 40, len(steps) - 1, len(steps), len(steps) + 5):
        found = replay.at(log, seq=seq)
        last = min(seq, len(steps))
        assert found.next_seq == last + 1
        assert found.state == (steps[last - 1].after if last else steps[0].before)
    for ms in {step.record.event.time_ms for step in steps} | {0, 7, 10**9}:
        before = [step for step in steps if step.record.event.time_ms <= ms]
        assert replay.at(log, ms=ms).state == before[-1].after
        assert [step.record.seq for step in replay.steps(log, ms + 1)] == [
            step.record.seq for step in steps[len(before) :]
        ]


def test_seeking_decodes_a_segment_at_most(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    log = played.end(60_000).stored(16)
    decoded = []
    plain = segment.decode
    monkeypatch.setattr(segment, "decode", lambda data, first=None: decoded.append(first) or plain(data, first))
    for step in list(replay.steps(log)):
        decoded.clear()
        replay.at(log, seq=step.record.seq)
        assert len(decoded) <= 2
        decoded.clear()
        replay.at(log, ms=step.record.event.time_ms)
        assert len(decoded) <= 2


def test_one_flipped_byte_is_named(played: Played) -> None:
    log = played.end(60_000).stored(16)
    target = log.chunks[2]
    for place in range(0, len(target.data), 3):
        data = bytearray(target.data)
        data[place] ^= 0x10
        with pytest.raises(Corrupt, match=r"^segment at event 33: (header|keyframe|events 33 to 48): "):
            replay.verify(whole(log, 2, Chunk(target.first_seq, target.last_seq, True, bytes(data))))


def resealed(
    log: StoredLog, place: int, entries: list[Entry], state: MatchState, end: bytes | None = None
) -> StoredLog:
    """The log with one segment replaced by a well-made other one."""
    old = log.chunks[place]
    head = segment.decode(old.data).head_before or NO_HEAD
    return whole(log, place, Chunk(old.first_seq, old.last_seq, True, segment.seal(entries, head, state, end)))


def test_a_segment_that_lies_is_named(played: Played) -> None:
    """Everything well-formed and checksummed, but not what happened."""
    log = played.end(60_000).stored(16)
    parts = [segment.decode(chunk.data) for chunk in log.chunks]
    keyframe = states.decoder(MatchState)(parts[2].keyframe or b"")
    wrong_state = msgspec.structs.replace(keyframe, winner="p0")
    with pytest.raises(Corrupt, match="segment at event 33: keyframe: stored"):
        replay.verify(resealed(log, 2, parts[2].entries, wrong_state))
    other = list(parts[2].entries)
    other[5] = msgspec.structs.replace(other[5], time_ms=other[5].time_ms + 1)
    with pytest.raises(Corrupt, match="segment at event 49: event 49: running hash"):
        replay.verify(resealed(log, 2, other, keyframe))
    last = len(log.chunks) - 1
    state = states.decoder(MatchState)(parts[last].keyframe or b"")
    with pytest.raises(Corrupt, match=rf"segment at event {parts[last].first_seq}: event \d+: end hash"):
        replay.verify(resealed(log, last, parts[last].entries, state, b"x" * 16))
    no_event = list(parts[2].entries)
    no_event[1] = Entry(no_event[1].seq, no_event[1].time_ms, b"\xc1")
    with pytest.raises(Corrupt, match="segment at event 33: event 34: "):
        replay.verify(resealed(log, 2, no_event, keyframe))


def test_missing_entries_are_named(played: Played) -> None:
    log = played.stored(16)
    with pytest.raises(Corrupt, match="events 17 to 32 are missing"):
        replay.verify(StoredLog(log.next_seq, log.head, [log.chunks[0], *log.chunks[2:]]))
    with pytest.raises(Corrupt, match="the log ends at event"):
        replay.verify(StoredLog(log.next_seq, log.head, log.chunks[:-1]))
    with pytest.raises(Corrupt, match="the log ends at event"):
        replay.verify(StoredLog(log.next_seq, b"x" * 16, log.chunks))
    with pytest.raises(Corrupt, match="no keyframe to begin with"):
        list(replay.steps(StoredLog(log.next_seq, log.head, log.chunks[-1:])))


def test_an_empty_log() -> None:
    assert replay.verify(StoredLog(1, NO_HEAD, [])).events == 0
    assert list(replay.steps(StoredLog(1, NO_HEAD, []))) == []


@pytest.mark.parametrize("path", recorded_params())
def test_recorded_matches_replay_as_their_files_count(path: Path) -> None:
    rows = read_recorded(path)
    played = Played().create(mode="recorded", teams=0, max_players=0)
    played.join(*sorted({row["player"] for row in rows})).start()
    for row in rows:
        played.report(as_report(row))
    report = replay.verify(played.end().stored(256))
    assert report.end_hash
    assert replay.totals(report.state) == {
        player: replay.Totals(*counts[:3]) for player, counts in sorted(counted(rows).items())
    }


# ---- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ms"), [("0", 0), ("90", 90_000), ("01:30", 90_000), ("100:00", 6_000_000), ("1:00:01", 3_601_000)]
)
def test_clock_times_are_read(text: str, ms: int) -> None:
    assert replay.parse_clock(text) == ms


@pytest.mark.parametrize("text", ["", "x", "1:60", "-1", "1:2:3:4", "1:", "²", "1.5"])
def test_malformed_clock_times_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not a match time"):
        replay.parse_clock(text)


def test_the_feed_reads_like_the_game() -> None:
    played = (
        Played().create(map_name="Recharge", countdown_ms=3000, score_limit=2).join("ann", "bob").start().tick(3000)
    )
    played.report(Kill(61_001, "ann", "bob"))
    played.emit([Medal(61_001, "ann", "Sn\x9b2Jipe"), Death(62_000, "bob")])  # logged by an earlier version
    played.report(Objective(63_000, "ann", "flag"), Score(64_000, -1, team=1))
    played.emit(admission.leave(played.state, "bob", "disconnected"))
    played.join("bob").report(Kill(65_000, "ann", "bob"))
    assert [replay.feed_line(step) for step in replay.steps(played.stored())] == [
        "00:00.000  match created by host: slayer on Recharge",
        "00:00.000  ann joined team 0",
        "00:00.000  bob joined team 1",
        "00:00.000  the match starts in 3 s",
        "00:03.000  the match is live",
        "01:01.001  ann kills bob  [1 - 0]",
        "01:01.001  ann earns Sn\\x9b2Jipe",
        "01:02.000  bob dies",
        "01:03.000  ann: flag",
        "01:04.000  team 1 scores -1  [1 - -1]",
        "01:04.000  bob lost the connection",
        "01:04.000  bob joined team 1",
        "01:05.000  ann kills bob  [2 - -1]",
        "01:05.000  the match is over (score): team:0 wins",
    ]
    assert replay.scoreboard_lines(played.state) == [
        "player  team  score  kills  deaths  assists  medals  objectives",
        "ann        0      2      2       0        0       1           1",
        "bob        1      0      0       3        0       0           0",
    ]


def test_a_recorded_kill_has_no_victim() -> None:
    played = Played().create(mode="recorded", teams=0).start().report(Kill(5, "ann"), Kill(6, "ann"))
    assert replay.feed_line(list(replay.steps(played.stored()))[-1]) == "00:00.006  ann kills (2)"
