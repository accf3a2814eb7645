"""A cluster of node processes on this machine, as `garrison demo` runs one, and a host's way in."""

import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.cli.local_cluster import Home, LocalCluster
from server.sessions.tokens import issue
from tests.support.seen_up import seen_up


@asynccontextmanager
async def local_cluster(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch, nodes: int = 2, settings: Sequence[str] = ()
) -> AsyncIterator[LocalCluster]:
    """So many nodes over one SQLite file in `home`, which see each other up; at the end they are killed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    cluster = LocalCluster(Home(home), nodes, 0, list(settings))
    await cluster.prepare(name)
    try:
        await cluster.start(lambda _text: None)
        for node in cluster.nodes:
            await seen_up(node.ready["admin_url"], cluster.home.admin_token, nodes)
        yield cluster
    finally:
        cluster.kill()
        for node in cluster.nodes:
            await node.wait()


def host_token(cluster: LocalCluster) -> str:
    """For `dedicated-1`, a host, good for an hour."""
    key = cluster.home.key_file.read_text().strip().encode()
    return issue(key, "dedicated-1", "host", 3600, time.time_ns() // 1_000_000)
