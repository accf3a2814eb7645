"""Signals for a child that has ended a moment ago: its exit code is its watcher's to take."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from server.runtime.process import signal_child


@pytest.fixture
def watcher() -> Iterator[None]:
    """Children are reaped by the loop, not by a thread between two lines of a test, as Python 3.12 does by itself."""
    if sys.version_info >= (3, 12):
        yield
        return
    before = asyncio.get_child_watcher()
    asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    yield
    asyncio.set_child_watcher(before)


async def test_a_child_that_has_ended_keeps_its_exit_code(watcher: None) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 (the loop must not reap it)
    signal_child(child, signal.SIGKILL)
    async with asyncio.timeout(30):
        assert await child.wait() == 7
    signal_child(child, signal.SIGKILL)  # reaped: no signal to whoever has its number now


async def test_a_child_that_runs_gets_it(watcher: None) -> None:
    child = await asyncio.create_subprocess_exec("sleep", "60")
    signal_child(child, signal.SIGKILL)
    async with asyncio.timeout(30):
        assert await child.wait() == -signal.SIGKILL
