"""Recorded matches of a real game through one running cluster: what every player received and
what the log replays has the totals that this test counts in the file."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.matches import recorded_params
from tests.support.program import Running, garrison, here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

COLUMNS = {"kill": "kills", "death": "deaths", "medal": "medals"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a running cluster of three nodes, nearly idle."""
    place = tmp_path_factory.mktemp("play")
    with Running("demo", "--port", "0", "--players", "2", "--speed", "1", cwd=place) as running:
        running.line("starting the bots")
        yield place
        running.interrupt()
        assert running.end()[0] == 0


def counted(recording: Path) -> tuple[int, dict[str, dict[str, int]]]:
    """Events, and each player's totals, straight from the file."""
    lines = [json.loads(line) for line in recording.read_text().splitlines()]
    count = Counter((line["player"], COLUMNS.get(line["type"])) for line in lines)
    players = dict.fromkeys(line["player"] for line in lines)
    return len(lines), {player: {column: count[player, column] for column in COLUMNS.values()} for player in players}


def play(recording: Path, speed: float, cwd: Path) -> None:
    done = garrison("play", str(recording), "--speed", str(speed), "--json", cwd=cwd, timeout_s=120)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    events, totals = counted(recording)
    assert figures["events_sent"] == events
    assert figures["events_received"] == events * len(totals)
    assert figures["events_logged"] > events  # joins, the start and the end are events too
    assert figures["players"] == totals
    assert figures["replay_equal"] is True
    verified = here("replay", figures["match_id"], "--verify", "--json", cwd=cwd)
    assert verified.returncode == 0, verified.stderr
    report = json.loads(verified.stdout)
    assert report["verified"] is True
    assert report["end_hash"] is True
    assert report["events"] == figures["events_logged"]
    shown = here("replay", figures["match_id"], "--json", cwd=cwd)
    replayed = json.loads(shown.stdout)["players"]
    assert {name: {column: line[column] for column in COLUMNS.values()} for name, line in replayed.items()} == totals


def test_a_cluster_that_is_started_for_it_has_the_settings_that_were_given(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"time_ms": 5, "player": "a", "type": "kill"}\n')
    bad = here("play", "one.jsonl", "--nodes", "1", "--set", "log.json=maybe", cwd=tmp_path)
    assert (bad.returncode, bad.stderr) == (2, "garrison: setting log.json: must be true or false\n")
    done = garrison("play", "one.jsonl", "--nodes", "1", "--speed", "0", "--set", "log.json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / ".garrison/demo/node-1.log").read_text().splitlines()
    assert lines and all(json.loads(line)["node"].startswith("node-1") for line in lines)


@pytest.mark.parametrize("recording", recorded_params())
def test_a_recorded_match_at_full_speed(recording: Path, cluster: Path) -> None:
    play(recording, 0, cluster)


@pytest.mark.parametrize("recording", recorded_params()[:1])
def test_a_recorded_match_at_its_own_pace_compressed(recording: Path, cluster: Path) -> None:
    play(recording, 120, cluster)
