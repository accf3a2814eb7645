"""`garrison replay` and `garrison matches` on a store that no cluster uses any more, and on one
with a flipped byte."""

import contextlib
import json
import random
import re
import shlex
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from garrison.messages import Assist, Kill, Medal
from garrison_bots.generate import generate
from tests.support.program import command, environment, garrison, here, processes_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NAMES = {Kill: "kill", Medal: "medal"}
PLAYERS = [f"spartan-{number}" for number in range(8)]
LENGTH_MS = 1_500_000
DEMO_SETTINGS = "settings of the demo: .garrison/demo/garrison.toml\n"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `garrison play` started a cluster for one generated match, and stopped it."""
    place = tmp_path_factory.mktemp("replay")
    lines = []
    for event in generate(dict.fromkeys(PLAYERS), LENGTH_MS, random.Random(117)):
        if isinstance(event, Assist):
            continue  # recordings have none
        line = {"time_ms": event.time_ms, "player": event.player, "type": NAMES[type(event)]}
        lines.append(line | ({"medal": event.medal} if isinstance(event, Medal) else {}))
        if isinstance(event, Kill):
            lines.append({"time_ms": event.time_ms, "player": event.victim, "type": "death"})
    (place / "match.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = garrison("play", "match.jsonl", "--speed", "0", "--nodes", "1", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["replay_equal"] is True
    assert processes_in(place) == {}
    return place


def test_the_newest_match_is_shown_without_a_cluster(played: Path) -> None:
    listed = json.loads(here("matches", "--json", cwd=played).stdout)["matches"]
    assert [match["phase"] for match in listed] == ["ended"]
    table = here("matches", cwd=played).stdout
    assert listed[0]["match"] in table
    shown = here("replay", "latest", cwd=played)
    assert shown.returncode == 0, shown.stderr
    feed, _, scoreboard = shown.stdout.partition("\n\n")
    assert len(feed.splitlines()) == listed[0]["events"]
    assert "the match is over" in feed.splitlines()[-2] and feed.splitlines()[-1].endswith(" results")
    assert all(player in scoreboard for player in PLAYERS)


def test_from_a_moment_on(played: Path) -> None:
    whole = here("replay", "latest", cwd=played).stdout
    late = here("replay", "latest", "--from", "20:00", cwd=played).stdout
    feed = late.partition("\n\n")[0].splitlines()
    assert feed == [line for line in whole.partition("\n\n")[0].splitlines() if line >= "20:00"]
    assert 5 < len(feed) < len(whole.splitlines()) / 2
    assert late.partition("\n\n")[2] == whole.partition("\n\n")[2]  # the same scoreboard at the end
    after = here("replay", "latest", "--from", "99:00", cwd=played)
    assert after.stdout.strip() == whole.partition("\n\n")[2].strip()
    wrong = here("replay", "latest", "--from", "late", cwd=played)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)


def test_a_reader_that_goes_away_is_no_error(played: Path) -> None:
    line = f"{shlex.join(command('replay', 'latest'))} | head -1"
    done = subprocess.run(
        ["bash", "-c", line], cwd=played, env=environment(), capture_output=True, text=True, check=True
    )
    assert (len(done.stdout.splitlines()), done.stderr) == (1, DEMO_SETTINGS)


def test_a_replay_is_paced_when_asked(played: Path) -> None:
    began = time.monotonic()
    shown = here("replay", "latest", "--from", "24:30", "--speed", "15", cwd=played)
    assert shown.returncode == 0
    last = re.match(r"(\d+):([\d.]+)", shown.stdout.partition("\n\n")[0].splitlines()[-1])
    assert last is not None
    span_s = int(last[1]) * 60 + float(last[2]) - (24 * 60 + 30)
    assert time.monotonic() - began >= span_s / 15


def test_a_replay_verifies_in_a_fresh_process(played: Path) -> None:
    done = here("replay", "latest", "--verify", cwd=played)
    assert done.returncode == 0, done.stderr
    assert "verifies" in done.stdout
    assert "end hash" in done.stdout


def test_a_flipped_byte_is_named_by_segment_and_events(played: Path, tmp_path: Path) -> None:
    shutil.copytree(played / ".garrison", tmp_path / ".garrison")
    database = tmp_path / ".garrison/demo/garrison.db"
    settings = tmp_path / ".garrison/demo/garrison.toml"
    settings.write_text(settings.read_text().replace(str(played), str(tmp_path)))
    with contextlib.closing(sqlite3.connect(database)) as opened:
        chunks = opened.execute("SELECT first_seq, last_seq, data FROM log_chunks WHERE sealed").fetchall()
    assert len(chunks) >= 2
    for first, last, data in chunks:
        flip(database, first, data, len(data) * 3 // 4)
        done = here("replay", "latest", "--verify", cwd=tmp_path)
        named = re.search(r"segment at event (\d+): events (\d+) to (\d+): checksum", done.stderr)
        assert done.returncode == 2, done.stdout
        assert len(done.stderr.removeprefix(DEMO_SETTINGS).splitlines()) == 1
        assert named is not None, done.stderr
        assert [int(number) for number in named.groups()] == [first, first, last]
        store(database, first, data)
    flip(database, chunks[0][0], chunks[0][2], 12)
    done = here("replay", "latest", "--verify", "--json", cwd=tmp_path)
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert told["verified"] is False
    assert f"segment at event {chunks[0][0]}: header" in told["why"]
    shown = here("replay", "latest", cwd=tmp_path)  # nor is it shown as if nothing were
    assert shown.returncode == 2
    store(database, chunks[0][0], chunks[0][2])
    assert here("replay", "latest", "--verify", cwd=tmp_path).returncode == 0


def flip(database: Path, first_seq: int, data: bytes, at: int) -> None:
    store(database, first_seq, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def store(database: Path, first_seq: int, data: bytes) -> None:
    with contextlib.closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("UPDATE log_chunks SET data = ? WHERE first_seq = ?", (data, first_seq))
