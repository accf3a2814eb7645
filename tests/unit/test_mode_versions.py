"""Rules that changed: each match is read by the version that it began with, or says which one that was."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from game import replay
from game.app import App
from game.commands import replay as command
from game.match import rules
from game.match.state import MatchState
from game.messages import Kill, MatchCreate, MatchEnd, MatchGet, MatchOptions, MatchReport, MatchStart, Score
from game.modes.mode import ModeRules, kill_points
from game.modes.registry import MODES
from server.actors.actor import Caller
from server.cli.log import verify_log
from server.errors import Corrupt, UnknownRules
from server.eventlog import fold
from server.eventlog.ports import Chunk, StoredLog
from server.ids import actor_id
from tests.support.engine import cluster
from tests.support.matches import Played
from tests.support.waiting import until

SETTINGS: dict[str, Any] = {"store": {"group_commit_s": 0.001}}
HOST = Caller("host", "host", "h1")

FIRST = ModeRules(name="duel", title="Duel", version=1, points=kill_points)
SECOND = ModeRules(name="duel", title="Duel", version=2, points=lambda _state, _event: 3)


@pytest.fixture(autouse=True)
def _no_mode_stays() -> Iterator[None]:
    yield
    MODES.remove("duel")


def played(*versions: ModeRules, kills: int = 40) -> Played:
    MODES.add(versions)
    match = Played().live(mode="duel", score_limit=0)
    return match.report(*(Kill(n, "p0", "p1") for n in range(kills)))


def test_a_match_keeps_the_rules_that_it_began_with() -> None:
    before = played(FIRST)
    stored = before.end().stored()
    verified = replay.verify(stored)
    after = played(FIRST, SECOND).end()
    assert (before.state.team_scores, after.state.team_scores) == ((40, 0), (120, 0))
    assert replay.verify(stored) == verified
    assert replay.verify(after.stored()).state.rules == 2
    assert [step.after.rules for step in replay.steps(stored)][-1] is msgspec.UNSET


def test_a_match_goes_on_by_the_rules_that_it_began_with() -> None:
    match = played(FIRST)
    MODES.add([SECOND])
    match.report(Kill(50, "p0", "p1"))
    assert match.state.team_scores == (41, 0)


def without_second(over: bool = True) -> StoredLog:
    match = played(FIRST, SECOND)
    stored = (match.end() if over else match).stored()
    MODES.remove("duel")
    MODES.add([FIRST])
    return stored


@pytest.mark.parametrize("over", [True, False])
def test_rules_that_are_not_there_are_said_and_the_chain_is_checked(
    over: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = without_second(over)
    with pytest.raises(UnknownRules) as said:
        verify_log(replay.MATCH, "match", "m", stored, json=True)
    assert said.value.message == (
        f"match m: played by rules 2 of mode duel, which this program does not have; "
        f"its hash chain of {stored.next_seq - 1} events is good"
    )
    document = msgspec.json.decode(capsys.readouterr().out)
    assert (document["verified"], document["chain"], document["events"]) == (None, True, stored.next_seq - 1)


def broken(stored: StoredLog, place: int, bit: int = 1) -> StoredLog:
    data = bytearray(stored.chunks[1].data)
    data[place] ^= bit
    chunks = [*stored.chunks]
    chunks[1] = msgspec.structs.replace(chunks[1], data=bytes(data))
    return msgspec.structs.replace(stored, chunks=chunks)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda log: broken(log, -1),
        lambda log: broken(log, 30),
        lambda log: msgspec.structs.replace(log, chunks=log.chunks[1:]),
        lambda log: msgspec.structs.replace(log, chunks=log.chunks[:-1]),
        lambda log: msgspec.structs.replace(log, chunks=[log.chunks[0], *log.chunks[2:]]),
        lambda log: msgspec.structs.replace(log, head=bytes(16)),
    ],
)
def test_a_broken_chain_does_not_verify_whatever_the_rules(spoil: "object") -> None:
    with pytest.raises(Corrupt, match="match m does not verify"):
        verify_log(replay.MATCH, "match", "m", spoil(without_second()), json=False)  # type: ignore[operator]


def test_a_segment_of_another_log_breaks_the_chain() -> None:
    stored, other = without_second(), played(FIRST, kills=41).end().stored()
    chunks = [*stored.chunks[:2], other.chunks[2], *stored.chunks[3:]]
    with pytest.raises(Corrupt, match="running hash"):
        fold.chain(msgspec.structs.replace(stored, chunks=chunks))


def test_the_newest_keyframe_is_shown_of_a_match_that_cannot_be_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    stored = without_second()
    newest = [chunk for chunk in stored.chunks if chunk.sealed][-1]
    with pytest.raises(UnknownRules, match=f"scoreboard before event {newest.first_seq} of {stored.next_seq - 1}"):
        command._show_or_tell("m", stored, 0, None, json=False)
    assert "p0" in capsys.readouterr().out


def test_a_short_log_has_no_keyframe_to_show() -> None:
    MODES.add([SECOND])
    stored = Played().create(mode="duel").stored()
    MODES.remove("duel")
    assert replay.newest_keyframe(stored) is None
    assert replay.newest_keyframe(StoredLog(1, b"", list[Chunk]())) is None


def test_a_new_match_gets_the_newest_rules_in_whatever_order_they_came() -> None:
    MODES.add([SECOND, FIRST])
    created = rules.create(MatchState(), "m", "host", MatchOptions(mode="duel"), 1)[0]
    assert created.rules == 2  # type: ignore[union-attr]


@pytest.mark.virtual_time
async def test_a_node_without_the_rules_of_a_match_says_so_and_changes_nothing() -> None:
    filmed = ModeRules(name="duel", title="Duel", version=2, recording=True)
    MODES.add([FIRST, filmed])
    async with cluster(("node-1",), app=App, **SETTINGS) as world:
        system, match = world.systems["node-1"], actor_id("match", "m")

        async def ask(command: int, method: str, make: Any, *fields: Any) -> Any:
            return await system.ask(match, method, (HOST, make(1, "line", command, "m", *fields)))

        await ask(1, "create", MatchCreate, MatchOptions(mode="duel", countdown_ms=0))
        await ask(2, "start", MatchStart)
        MODES.remove("duel")
        with pytest.raises(UnknownRules, match="rules 2 of mode duel"):
            await ask(3, "report", MatchReport, [Score(5, 1, 0)])
        MODES.add([filmed])
        accepted = await ask(3, "report", MatchReport, [Score(5, 1, 0)])
        assert accepted.next_seq - accepted.first_seq == 1
        await ask(4, "end", MatchEnd)
        await until(lambda: system.find(match) is None)
        MODES.remove("duel")
        with pytest.raises(UnknownRules, match="match/m is played by rules 2 of mode duel"):
            await system.ask(match, "get", (HOST, MatchGet(1, "m")))
