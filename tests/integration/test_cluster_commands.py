"""`garrison status` and `garrison matches --live` against real admin servers."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from server.cli.app import run
from server.runtime.troubles import Trouble
from tests.support.admin import TOKEN, PlayedMatch, TestCluster


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestCluster]:
    monkeypatch.chdir(tmp_path)
    async with TestCluster(2) as nodes:
        yield nodes


async def command(*words: str) -> str:
    """What a command that succeeds prints, run in a thread beside the servers."""
    said = io.StringIO()

    def work() -> int:
        with contextlib.redirect_stdout(said):
            return run(words)

    assert await asyncio.to_thread(work) == 0
    return said.getvalue()


async def test_status_shows_where_each_node_gossips(cluster: TestCluster) -> None:
    said = await command("status", "--url", cluster.nodes["node-1"].admin.url, "--token", TOKEN)
    for name in ("node-1", "node-2"):
        (line,) = [line for line in said.splitlines() if f"{name}#1" in line]
        assert f"{name}:7370" in line


async def test_status_says_why_a_node_is_not_ready(cluster: TestCluster) -> None:
    node = cluster.nodes["node-2"]
    place = ("--url", f"{node.admin.url}/#token={TOKEN}", "--token", TOKEN)  # as copied from a dashboard
    assert "not ready" not in await command("status", *place)
    node.reason = "gossip does not reach node-1 [lease here]"
    assert "\nnode-2 is not ready: gossip does not reach node-1 [lease here]\n" in await command("status", *place)


async def test_status_tells_the_troubles_of_each_node_f36(cluster: TestCluster) -> None:
    place = ("--url", cluster.nodes["node-1"].admin.url, "--token", TOKEN)
    cluster.nodes["node-2"].troubles = [Trouble("database", "database unreachable: [no] answer", 1_700_000_000_000)]
    said = await command("status", *place)
    assert "\nnode-2, since 22:13:20 UTC: database unreachable: [no] answer\n" in said
    assert "node-1, since" not in said


async def test_live_matches_are_newest_first_whatever_node_has_them(cluster: TestCluster) -> None:
    made = {"m-1": 50_000, "m-2": 10_000, "m-3": 90_000, "m-4": 70_000, "m-5": 95_000}
    for number, (key, wall_ms) in enumerate(made.items()):
        host = cluster.nodes[("node-1", "node-2")[number % 2]].system
        match = PlayedMatch(key, host.me, teams=2, players=["ann", "bob"])
        match.state = msgspec.structs.replace(match.state, created_wall_ms=wall_ms)
        host.actors["match"].append(match)
    place = ("--set", f"admin.advertise_url={cluster.nodes['node-1'].admin.url}", "--set", f"admin.token={TOKEN}")
    rows = json.loads(await command("matches", "--live", "--json", *place))["matches"]
    assert [row["match"] for row in rows] == ["m-5", "m-3", "m-4", "m-1", "m-2"]
    rows = json.loads(await command("matches", "--live", "--json", "--limit", "2", *place))["matches"]
    assert [row["match"] for row in rows] == ["m-5", "m-3"]


async def test_live_matches_as_a_table_name_the_nodes_that_did_not_answer(
    cluster: TestCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--set", f"admin.advertise_url={cluster.nodes['node-1'].admin.url}", "--set", f"admin.token={TOKEN}")
    assert "no match is live" in await command("matches", "--live", *place)
    system = cluster.nodes["node-1"].system
    system.actors["match"] = [PlayedMatch("m-1", system.me, teams=2, players=["ann", "bob"])]
    cluster.silent.add("node-2")
    said = await command("matches", "--live", *place)
    (line,) = [line for line in said.splitlines() if "m-1" in line]
    assert "Recharge" in line and "0 : 0" in line and line.rstrip().endswith("node-1")
    assert "no answer from node-2" in capsys.readouterr().err


async def test_status_names_nodes_that_are_gone_and_that_do_not_answer(cluster: TestCluster) -> None:
    place = ("--url", cluster.nodes["node-1"].admin.url, "--token", TOKEN)
    cluster.silent.add("node-2")
    said = await command("status", *place)
    assert "no answer from node-2" in said
    (line,) = [line for line in said.splitlines() if "node-2#1" in line]
    assert "?" in line  # nothing is known of it
    assert json.loads(await command("status", *place, "--json"))["missing"] == ["node-2"]
    cluster.lose("node-2")
    assert "node-2 lost 0 s ago" in await command("status", *place)
