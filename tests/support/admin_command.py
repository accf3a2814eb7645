"""Commands of `garrison` that ask a node's admin API, in a thread beside the servers of this process."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from server.cli.app import run
from tests.support.admin import TOKEN, TestCluster


@asynccontextmanager
async def two_nodes() -> AsyncIterator[TestCluster]:
    """Two nodes, whose log lines are kept: else they were in the commands' own output, as all is one process."""
    with structlog.testing.capture_logs() as lines:
        async with TestCluster(2) as nodes:
            nodes.log = lines
            yield nodes


class AdminCommand:
    """`words`, asked of the first node. `code` is the exit code, `said` and `failed` are what it has written."""

    def __init__(self, cluster: TestCluster, *words: str, token: str = TOKEN) -> None:
        self.said, self.failed = io.StringIO(), io.StringIO()
        self._words = [*words, "--url", cluster.nodes["node-1"].admin.url, "--token", token]
        self.code = asyncio.ensure_future(asyncio.to_thread(self._run))

    def _run(self) -> int:
        with contextlib.redirect_stdout(self.said), contextlib.redirect_stderr(self.failed):
            return run(self._words)

    async def fails(self) -> str:
        """Its one line."""
        assert await self.code == 2
        (line,) = self.failed.getvalue().splitlines()
        assert line.startswith("garrison: ")
        return line
