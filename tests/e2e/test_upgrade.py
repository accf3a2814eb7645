"""`garrison upgrade` on a real cluster of two processes: every node goes on in another process, and a client that
plays meanwhile keeps its connection."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import garrison
from garrison.messages import Kill
from garrison.messages import MatchOptions as Options
from server.cli.local_cluster import Home, LocalCluster
from server.lab.upgrading import upgrade
from tests.support.local_clusters import host_token, local_cluster
from tests.support.program import command, environment
from tests.support.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalCluster]:
    journal = (f"journal.directory={tmp_path / 'journal'}", "journal.mode=local")
    async with local_cluster(tmp_path / "home", "upgraded", monkeypatch, settings=journal) as nodes:
        yield nodes


async def test_a_match_goes_on_over_upgrades_of_all_nodes_without_a_close(cluster: LocalCluster) -> None:
    first, second = cluster.nodes
    options = Options(mode="recorded", map_name="Recharge", teams=0, max_players=0)
    async with garrison.connect([first.ready["client_url"]], host_token(cluster)) as client:
        async with garrison.Host(client, "m-1", options=options) as host:
            await host.create()
            await host.start()
            playing = asyncio.ensure_future(_play(host))
            before = [node.pid for node in cluster.nodes]
            noticed = await upgrade(cluster.home, lambda: {"now": float("inf")}, "--all")
            assert (noticed.nodes, noticed.why) == (2, "")
            assert noticed.sessions_moved >= 1 and 0 < noticed.longest_pause_ms < 5_000
            await until(lambda: [node.generation for node in cluster.nodes] == [1, 1])
            assert not {node.pid for node in cluster.nodes} & set(before)
            seen = host.events_acknowledged
            await until(lambda: host.events_acknowledged > seen)
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        assert client.stats.connects == 1
    assert first.ready["incarnation"] == 1
    config = cluster.home.config  # of the same node with other settings
    config.write_text("weight = 7\n" + config.read_text())
    refused = await upgrade(cluster.home, lambda: {"now": float("inf")}, "node-1")
    assert refused.why == "node-1: setting weight is 7 for the new program, and 4 here"
    assert first.running and first.generation == 1
    assert await second.stop() and await first.stop()


async def _play(host: garrison.Host) -> None:
    """Report as fast as it is acknowledged: something is under way whenever the node rests."""
    for time_ms in itertools.count(1_000, 10):
        await host.report(Kill(time_ms, "ann"))
        await host.drain()


async def test_a_supervised_node_is_upgraded_below_its_supervisor(tmp_path: Path) -> None:
    nodes = LocalCluster(Home(tmp_path / "home"), 1, 0, [])
    await nodes.prepare("supervised")
    words = [*nodes.arguments(0), "--supervised"]
    process = await asyncio.create_subprocess_exec(
        *command(*words), env=environment(), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    try:
        seen = []
        for generation in range(2):
            async with asyncio.timeout(60.0):
                seen.append(json.loads(await process.stdout.readline()))
            assert seen[-1]["generation"] == generation
            if generation < 1:
                process.send_signal(signal.SIGUSR2)
        assert len({process.pid, *(line["pid"] for line in seen)}) == 3
        assert {line["incarnation"] for line in seen} == {1}
        process.terminate()
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
