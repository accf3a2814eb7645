"""Recorded matches: the reader's errors, and a recording played through sockets."""

import json
from collections import Counter
from pathlib import Path

import pytest

from garrison.messages import Death, Kill, Medal, Objective
from garrison_bots.recorded import RecordingError, play, read_recording
from tests.support.bots import ToyNode, plain_token
from tests.support.matches import shared_data
from tests.support.sdk import scripted

GOOD = [
    {"time_ms": 10, "player": "a", "type": "kill"},
    {"time_ms": 10, "player": "b", "type": "death"},
    {"time_ms": 10, "player": "a", "type": "medal", "medal": "No Scope"},
    {"time_ms": 900, "player": "c", "type": "mode"},
    {"time_ms": 2_000, "player": "b", "type": "kill"},
]
SHARED = shared_data() / "halo_infinite"


def written(path: Path, *lines: object) -> Path:
    file = path / "recording.jsonl"
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return file


def test_reads_a_recording(tmp_path: Path) -> None:
    recording = read_recording(written(tmp_path, *GOOD, ""))
    assert recording.players == ("a", "b", "c")
    assert recording.events[:4] == (
        Kill(10, "a"),
        Death(10, "b"),
        Medal(10, "a", "No Scope"),
        Objective(900, "c", "mode"),
    )
    assert recording.length_ms == 2_000
    assert recording.totals()["a"] == {"kills": 1, "deaths": 0, "medals": 1}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ({"time_ms": "1", "player": "a", "type": "kill"}, "time_ms must be"),
        ({"time_ms": True, "player": "a", "type": "kill"}, "time_ms must be"),
        ({"time_ms": -1, "player": "a", "type": "kill"}, "time_ms must be"),
        ({"time_ms": 5, "player": "a", "type": "kill"}, "before the 2000"),
        ({"time_ms": 3_000, "player": "a b", "type": "kill"}, "player must be"),
        ({"time_ms": 3_000, "type": "kill"}, "player must be"),
        ({"time_ms": 3_000, "player": "a", "type": "win"}, "type must be"),
        ({"time_ms": 3_000, "player": "a", "type": "medal"}, "medal needs its name"),
        ("x" * 5_000, "longer than"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, says: str) -> None:
    with pytest.raises(RecordingError, match=rf"recording.jsonl:6: .*{says}"):
        read_recording(written(tmp_path, *GOOD, line))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        read_recording(tmp_path / "none")
    with pytest.raises(RecordingError, match="holds no event"):
        read_recording(written(tmp_path, ""))
    (tmp_path / "latin").write_bytes(b'{"player": "\xe9"}')
    with pytest.raises(RecordingError, match="not UTF-8"):
        read_recording(tmp_path / "latin")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded matches are not here")
def test_the_recorded_matches() -> None:
    for file in sorted(SHARED.glob("*.jsonl")):
        recording = read_recording(file)
        kinds = Counter(json.loads(line)["type"] for line in file.read_text().splitlines())
        totals = recording.totals().values()
        assert sum(each["kills"] for each in totals) == kinds["kill"]
        assert sum(each["deaths"] for each in totals) == kinds["death"]
        assert sum(each["medals"] for each in totals) == kinds["medal"]


async def test_each_player_receives_each_event_once(tmp_path: Path) -> None:
    lines = [{"time_ms": n * 7, "player": "abcd"[n % 4], "type": ("kill", "death")[n % 2]} for n in range(600)]
    recording = read_recording(written(tmp_path, *lines))
    node = ToyNode(drop_every=2, drop_after=6)
    seen: list[int] = []
    async with scripted(node.script) as server:
        played = await play(recording, [server.url], plain_token, speed=20, progress=lambda n, of: seen.append(n))
        connections = len(server.talks)
    assert played.complete, played.faults
    assert played.events_sent == 600
    assert played.received == dict.fromkeys("abcd", 600)
    assert all(totals == recording.totals() for totals in played.totals_of.values())
    assert played.next_seq - 1 == len(node.logs[played.match]) == 600 + 1 + 4 + 2
    assert seen[-1] == 600
    assert connections > 5  # some were broken and came back
