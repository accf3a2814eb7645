"""`garrison drain` on a real cluster of two processes: what lives on one node is served by the
other afterwards, with nothing lost and no client that has to begin anew."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.messages import Kill
from garrison.messages import MatchOptions as Options
from server.cli.local_cluster import LocalCluster
from tests.support.local_clusters import host_token, local_cluster
from tests.support.program import command, environment
from tests.support.waiting import until

pytestmark = pytest.mark.slow
MATCHES = 40


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "home", "drained", monkeypatch) as nodes:
        yield nodes


async def run(cluster: LocalCluster, *arguments: str) -> tuple[int, str, str]:
    """A command as a process of its own, with the cluster's settings."""
    words = command(*arguments, "--config", str(cluster.home.config))
    process = await asyncio.create_subprocess_exec(
        *words, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, failed = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(), failed.decode()


async def nodes_of(cluster: LocalCluster) -> dict[str, Any]:
    code, said, failed = await run(cluster, "status", "--json")
    assert code == 0, failed
    return {node["node"]: node for node in json.loads(said)["nodes"]}


async def test_a_node_is_emptied_while_matches_are_played(cluster: LocalCluster) -> None:
    token = host_token(cluster)
    one, two = cluster.nodes
    options = Options(mode="recorded", map_name="Recharge", teams=0, max_players=0)
    async with garrison.connect([one.ready["client_url"]], token) as client, AsyncExitStack() as stack:
        made = [garrison.Host(client, f"m-{number}", options=options) for number in range(MATCHES)]
        hosts = [await stack.enter_async_context(host) for host in made]
        for host in hosts:
            await host.create()
            await host.start()
        here = 0

        async def some_there() -> bool:  # the count may be a second old
            nonlocal here
            here = (await nodes_of(cluster))["node-2"]["report"]["kinds"]["match"]
            return bool(here)

        await until(some_there)

        async def play() -> None:
            for time_ms in range(1_000, 6_000, 1_000):
                await asyncio.gather(*(host.report(Kill(time_ms, "ann")) for host in hosts))

        playing = asyncio.create_task(play())
        code, said, failed = await run(cluster, "drain", "node-2", "--wait", "60s", "--json")
        assert code == 0, (said, failed)
        told = json.loads(said)
        assert (told["drained"], told["activations_left"], told["sessions_left"]) == (True, 0, 0)
        assert told["moved"] >= here
        await playing

        async def all_here() -> bool:
            after = await nodes_of(cluster)
            assert (after["node-2"]["state"], after["node-2"]["slots"]) == ("leaving", 0)
            return bool(after["node-1"]["report"]["kinds"]["match"] == MATCHES)

        await until(all_here)
        code, said, failed = await run(cluster, "drain", "node-2", "--json")
        assert code == 0, failed  # asked again, it is empty still
        code, _, failed = await run(cluster, "drain", "node-1")
        assert (code, failed.count("\n")) == (2, 1) and "there is nowhere to go" in failed
        two.process.terminate()
        await two.process.wait()
        for host in hosts:
            await host.report(Kill(9_000, "ann"))
            await host.end()
    code, said, _ = await run(cluster, "drain", "node-2")
    assert code == 2
