"""A match whose node is killed goes on at another one although nobody calls it."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.messages import MatchOptions as Options
from server.cli.local_cluster import LocalCluster
from tests.support.local_clusters import host_token, local_cluster
from tests.support.waiting import until

pytestmark = pytest.mark.slow
MATCHES = 20


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "home", "woken", monkeypatch) as nodes:
        yield nodes


def live_matches(cluster: LocalCluster, number: int) -> int:
    """How many a node has in memory; asking wakes none."""
    url = cluster.nodes[number].ready["admin_url"] + "/api/v1/activations"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {cluster.home.admin_token}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        rows: list[dict[str, Any]] = json.load(answer)["rows"]
    name = cluster.nodes[number].name
    return sum(row["count"] for row in rows if (row["node"], row["kind"]) == (name, "match"))


async def test_a_woken_match_is_in_memory_again_soon(cluster: LocalCluster) -> None:
    token = host_token(cluster)
    one, two = cluster.nodes
    options = Options(mode="recorded", map_name="Recharge", teams=0, max_players=0)
    async with garrison.connect([one.ready["client_url"]], token) as client:
        for number in range(MATCHES):
            host = garrison.Host(client, f"m-{number}", options=options)
            await host.create()
            await host.aclose()
    await until(lambda: live_matches(cluster, 0) + live_matches(cluster, 1) == MATCHES)
    lost = live_matches(cluster, 1)
    assert 0 < lost < MATCHES
    os.kill(two.pid, signal.SIGKILL)
    began = time.monotonic()
    await until(lambda: live_matches(cluster, 0) == MATCHES, timeout_s=20)
    print(f"{lost} matches woken {time.monotonic() - began:.2f} s after their node was killed")
