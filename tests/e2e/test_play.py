"""Recorded matches of a real game through one running cluster: what every player received and
what the log replays has the totals that this test counts in the file. The README's script runs beside them."""

import json
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.matches import recorded_params
from tests.support.program import ROOT, Running, environment, garrison, here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

COLUMNS = {"kill": "kills", "death": "deaths", "medal": "medals"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a running cluster of three nodes, nearly idle."""
    place = tmp_path_factory.mktemp("play")
    plain = ("--upgrade-after", "0", "--set", "columns.enabled=false")
    with Running("demo", "--port", "0", "--players", "2", "--speed", "1", *plain, cwd=place) as running:
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


def test_the_readmes_script_prints_a_live_match(cluster: Path, tmp_path: Path) -> None:
    script = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert script is not None
    code = script[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (tmp_path / "hello.py").write_text(code)
    gateway = tomllib.loads((cluster / ".garrison/demo/garrison.toml").read_text())["gateway"]
    url = f"ws://{gateway['host']}:{gateway['port']}"
    token = here("token", "spartan-117", cwd=cluster).stdout.strip()
    printed = run_for_lines(tmp_path, [url, token], 5)
    refused = subprocess.run(
        [sys.executable, "hello.py", url, token[:-4]],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert [line.split()[0] for line in printed] == ["1", "2", "3", "4", "5"]
    assert "Created" in printed[0]
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert refused.stderr.strip()


def hearing_ctrl_c() -> None:
    """A program hears Ctrl-C also where the tests run in the background of a shell, which has it ignored there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_for_lines(place: Path, arguments: list[str], count: int) -> list[str]:
    """The first `count` lines that `hello.py` prints. It needs a live match: tried until there is one."""
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "hello.py", *arguments],
            cwd=place,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hearing_ctrl_c,  # noqa: PLW1509 - one call into the kernel
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            lines = [process.stdout.readline() for _ in range(count)]
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=30)[1]
            if all(lines):
                assert (process.returncode, told) == (0, "")  # Ctrl-C ends it
                return lines
            assert "IndexError" in told
    raise AssertionError("never a live match")
