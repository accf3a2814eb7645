"""`garrison play`: its verdict over what was sent, received and logged."""

from typing import Any

import pytest

from game.commands import play
from game.messages import Death, Kill, Medal
from garrison import messages as sdk
from garrison_bots import recorded
from server.eventlog.ports import StoredLog
from tests.support.matches import Played

RECORDING = recorded.Recording(
    "match", ("p0", "p1"), (sdk.Kill(1_000, "p0"), sdk.Death(1_000, "p1"), sdk.Medal(2_000, "p0", "Snipe"))
)


def outcome(**changed: Any) -> recorded.Played:
    totals = {"p0": RECORDING.totals(), "p1": RECORDING.totals()}
    fields: dict[str, Any] = {"events_sent": 3, "received": {"p0": 3, "p1": 3}, "totals_of": totals}
    return recorded.Played("m-1", RECORDING.players, **(fields | changed))


def logged(*more: Kill) -> StoredLog:
    match = Played().live(players=2, teams=0, mode="recorded")
    match.report(Kill(1_000, "p0"), Death(1_000, "p1"), Medal(2_000, "p0", "Snipe"), *more)
    return match.end(3_000).stored()


def test_match_that_equals_its_recording_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    figures = play._compare(RECORDING, outcome(), logged())
    assert figures["replay_equal"] is True and capsys.readouterr().err == ""
    assert (figures["events_sent"], figures["events_received"]) == (3, 6)
    assert figures["players"] == {
        "p0": {"kills": 1, "deaths": 0, "medals": 1},
        "p1": {"kills": 0, "deaths": 1, "medals": 0},
    }
    play._show(figures)
    said = capsys.readouterr().out
    assert "match m-1: 3 events sent, 6 received by 2 players" in said
    assert "the replay equals the recording" in said and "replay m-1 --speed 30" in said


@pytest.mark.parametrize(
    ("played", "log", "fault"),
    [
        (outcome(received={"p0": 3, "p1": 2}), logged(), "not every player received each event exactly once"),
        (outcome(faults=["p1: event 2 came twice"]), logged(), "p1: event 2 came twice"),
        (outcome(totals_of={"p0": {}}), logged(), "p0 received other totals than the file has"),
        (outcome(), logged(Kill(2_500, "p1")), "the replay has other totals than the file"),
    ],
)
def test_each_difference_is_told_and_is_no_success(
    played: recorded.Played, log: StoredLog, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = play._compare(RECORDING, played, log)
    assert figures["replay_equal"] is False
    assert fault in capsys.readouterr().err
    play._show(figures)
    assert "DIFFERS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "answers"), [("ws://127.0.0.1:1", False), ("ws://a..b", False), ("wss://127.0.0.1:1", False)]
)
def test_place_where_nobody_listens_does_not_answer(url: str, answers: bool) -> None:
    assert play._answers(url) is answers
