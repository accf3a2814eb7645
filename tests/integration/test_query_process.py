"""The query process and the node's hold on it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from server.columns.tables import TABLES
from server.errors import Unavailable
from server.questions import wire
from server.questions.child import QueryProcess, lacking, start
from tests.support.fair_share import fair_share

pytestmark = pytest.mark.skipif(bool(lacking()), reason="needs the extra query")


@pytest.fixture(autouse=True)
async def query_processes_have_a_fair_share() -> AsyncIterator[None]:
    async with fair_share():
        yield


async def test_a_process_that_was_started_before_its_node_is_the_first_and_another_follows_it(tmp_path: Path) -> None:
    early = await start(tmp_path)
    process = QueryProcess(tmp_path, TABLES, started=early)
    process.blocks_checked = True
    running = asyncio.ensure_future(process.run())
    try:
        assert await planned(process)
        assert process.pid == early.pid
        early.kill()
        assert await planned(process)
        assert process.pid != early.pid
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_process_that_never_begins_to_answer_is_killed(tmp_path: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    early = await asyncio.create_subprocess_exec("sleep", "60", stdin=pipe, stdout=pipe)
    process = QueryProcess(tmp_path, TABLES, started=early, start_s=0.01)
    running = asyncio.ensure_future(process.run())
    try:
        async with asyncio.timeout(30):
            assert await early.wait() == -signal.SIGKILL
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@pytest.mark.parametrize("asked", [b"", wire.frame((1, "tables", [[]]))], ids=["never asked", "with an answer for it"])
async def test_a_process_ends_in_order_where_its_node_has_ended(tmp_path: Path, asked: bytes) -> None:
    early = await start(tmp_path)
    assert early.stdin is not None
    os.kill(early.pid, 0)
    early._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    early.stdin.write(asked)
    early.stdin.close()
    async with asyncio.timeout(30):
        assert await early.wait() == 0


async def planned(process: QueryProcess) -> bytes:
    """The plan of a question, once the process is there."""
    async with asyncio.timeout(30):
        while True:
            with suppress(Unavailable):
                plan: bytes = await process.ask("plan", ["SELECT count(*) FROM calls", 0], 20.0)
                return plan
            await asyncio.sleep(0.01)
