"""The way of a match from another game's log, and from play, to careers that can be proven: recorded matches and logs
are imported, one is played on two nodes of which the owner is killed in the middle, and what careers have is what the
files say."""

import asyncio
import json
import os
import signal
import sqlite3
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

import garrison
from game.imports.encode import Origins, whole_log
from game.imports.importing import FileImport
from garrison_bots import recorded
from server.cli.app import run
from server.cli.common import token_maker
from server.cli.config import read_settings
from server.cli.local_cluster import LocalCluster
from tests.support import matches
from tests.support.local_clusters import local_cluster
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
FIELDS = ("matches", "kills", "deaths", "medals")
FILES = [*matches.recorded_files(), *sorted((matches.shared_data() / "formats").glob("*.log"))]
Totals = Counter[tuple[str, str]]


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "home", "walk", monkeypatch) as nodes:
        yield nodes


def counted(recording: Path) -> Totals:
    """Totals of each player, straight from a recording."""
    lines = matches.counted(matches.read_recorded(recording))
    found: Totals = Counter()
    for player, (kills, deaths, medals, _) in lines.items():
        found.update(dict(zip(((player, field) for field in FIELDS), (1, kills, deaths, medals), strict=True)))
    return found


def read(log: Path) -> Totals:
    """Totals of each player with an id of its own in the matches of a log, as it is read."""
    found: Totals = Counter()
    with log.open("rb") as stream:
        for match in FileImport(stream, Origins("", counts=True)):
            for player, line in whole_log(match.events).projection.players.items():
                if line.local is UNSET:
                    said = (1, line.kills, line.deaths, line.medals)
                    found.update(dict(zip(((player, field) for field in FIELDS), said, strict=True)))
    return found


async def command(cluster: LocalCluster, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """Run a command with `--json` in a thread, where it has a loop of its own."""
    capsys.readouterr()
    code = await asyncio.to_thread(run, (*words, "--json", "--config", str(cluster.home.config)))
    return code, json.loads(capsys.readouterr().out)


def admin(cluster: LocalCluster, path: str) -> Any:
    """An answer of the admin API of a node that is alive."""
    url = next(node for node in cluster.nodes if node.process.returncode is None).ready["admin_url"]
    request = urllib.request.Request(
        f"{url}/api/v1/{path}", headers={"authorization": f"Bearer {cluster.home.admin_token}"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.load(answer)


def owner_of(cluster: LocalCluster, match: str) -> str:
    """The node that has a live match in memory."""
    return next(str(row["node"]) for row in admin(cluster, "matches")["rows"] if row["match"] == match)


def in_theatre(cluster: LocalCluster, match: str) -> Totals:
    """Totals of each player at the end of a match, as its theatre shows them."""
    whole = admin(cluster, f"matches/{match}/theatre")
    shown = admin(cluster, f"matches/{match}/moment?ms={whole['edge_ms']}")
    found: Totals = Counter()
    for line in shown["board"]:
        named = dict(zip(shown["columns"], line, strict=True))
        found.update({(named["player"], field): named.get(field, 1) for field in FIELDS})
    return found


def asked(cluster: LocalCluster, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(cluster.home.database)) as connection:
        return connection.execute(statement).fetchall()


async def play(cluster: LocalCluster, recording: Path, match: str) -> Any:
    """Play a recording; the owner of the match is killed half-way."""
    killed: list[str] = []

    def progress(events: int, of: int) -> None:
        if events == of // 2:
            killed.append(owner_of(cluster, match))
            os.kill(next(node.pid for node in cluster.nodes if node.name == killed[0]), signal.SIGKILL)

    token = token_maker(read_settings(cluster.home.config, None))
    played = await recorded.play(
        recorded.read_recording(recording), cluster.gateways, token, speed=0, match=match, progress=progress
    )
    assert killed and played.complete, played.faults
    return played


@pytest.mark.skipif(len(FILES) < 2, reason="no recorded matches (GARRISON_SHARED)")
async def test_careers_have_what_files_say_though_the_owner_of_a_match_dies(
    cluster: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = min(matches.recorded_files(), key=lambda path: path.stat().st_size)
    due: Totals = Counter()
    for file in FILES:
        due += counted(file) if file.suffix == ".jsonl" else read(file)
    code, said = await command(cluster, capsys, "import", *map(str, FILES), "--counts")
    stored = sum(len(file["matches"]) for file in said["files"])
    assert (code, {match["outcome"] for file in said["files"] for match in file["matches"]}) == (0, {"stored"})

    await play(cluster, recording, "played-on")
    due += counted(recording)
    code, early = await command(cluster, capsys, "stats", "rebuild", "--check", "--processes", "1")
    assert (code, early["differences"]) == (0, 0), "results are being told"
    over = "SELECT count(*) FROM matches WHERE phase = 'ended' AND NOT open_facts"
    await until(lambda: asked(cluster, over) == [(stored + 1,)], timeout_s=60)
    rows = asked(
        cluster, f"SELECT player_id, {', '.join(f'sum({field})' for field in FIELDS)} FROM career_totals GROUP BY 1"
    )
    found = Counter({(row[0], field): count for row in rows for field, count in zip(FIELDS, row[1:], strict=True)})
    assert +found == +due
    player = next(iter(matches.counted(matches.read_recorded(recording))))
    living = next(node for node in cluster.nodes if node.process.returncode is None)
    token = token_maker(read_settings(cluster.home.config, None))(player, "player")
    async with garrison.connect([living.ready["client_url"]], token) as client:
        career = await client.career(player)
    assert sum(line.kills for line in career.lines) == due[player, "kills"]

    assert +in_theatre(cluster, "played-on") == +counted(recording)

    code, proven = await command(cluster, capsys, "stats", "rebuild", "--check", "--processes", "1")
    assert (code, proven["differences"], proven["waiting"], proven["matches"], proven["kinds"]) == (
        0, 0, 0, stored + 1, {}
    ), (proven["tables"], proven["listed"][:6])  # fmt: skip
    code, verified = await command(cluster, capsys, "verify", "--all", "--processes", "1")
    assert (code, verified["bad"], verified["logs"]) == (0, [], stored + 1)
