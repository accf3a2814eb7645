"""A node followed over successions, by whoever has started it: real processes that stand for a node."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.cli.node_process import NodeProcess
from server.errors import Unavailable
from tests.support.waiting import until

NODE = """
import json, os, signal, subprocess, sys, time
generation, parent = map(int, sys.argv[1:])
while os.getppid() == parent:
    time.sleep(0.001)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])
print(json.dumps({"ready": True, "pid": os.getpid(), "generation": generation}), flush=True)
if signal.sigwait([signal.SIGTERM, signal.SIGUSR2]) == signal.SIGTERM:
    sys.exit(10 + generation)
subprocess.Popen([sys.executable, __file__, str(generation + 1), str(os.getpid())])
"""


@contextlib.asynccontextmanager
async def started(directory: Path, text: str = NODE) -> AsyncIterator[NodeProcess]:
    script, log = directory / "node.py", directory / "node.log"
    script.write_text(text)
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), "0", "0", stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True
        )
    node = NodeProcess("node-1", process, log)
    try:
        yield node
    finally:
        node.kill()
        await node.wait()


async def test_a_node_is_followed_to_its_next_process_and_ends_with_that_ones_code(tmp_path: Path) -> None:
    async with started(tmp_path) as node:
        seen: list[int] = []
        node.succeeded = lambda node: seen.append(node.pid)
        await node.wait_ready()
        first = node.pid
        for generation in (1, 2):
            os.kill(node.pid, signal.SIGUSR2)
            await until(lambda wanted=generation: node.generation == wanted)  # type: ignore[misc]
        assert node.running and len({first, *seen}) == 3 and node.pid == seen[-1]
        with pytest.raises(ProcessLookupError):  # it is reaped once another one is the node
            os.kill(seen[0], 0)
        assert await node.stop()
        assert (node.returncode, node.running) == (12, False)
        with pytest.raises(ChildProcessError):  # all are reaped
            os.waitpid(-node.process.pid, os.WNOHANG)  # noqa: ASYNC222


async def test_a_stop_that_comes_while_another_process_takes_over_reaches_that(tmp_path: Path) -> None:
    async with started(tmp_path) as node:
        await node.wait_ready()
        os.kill(node.pid, signal.SIGUSR2)
        assert await node.stop() and node.returncode == 11


async def test_the_death_of_a_later_process_is_the_nodes(tmp_path: Path) -> None:
    async with started(tmp_path) as node:
        await node.wait_ready()
        os.kill(node.pid, signal.SIGUSR2)
        await until(lambda: node.generation == 1)
        os.kill(node.pid, signal.SIGKILL)
        assert await node.wait() == -signal.SIGKILL
        assert await node.stop()


async def test_every_process_of_a_node_is_killed(tmp_path: Path) -> None:
    async with started(tmp_path) as node:
        await node.wait_ready()
        os.kill(node.pid, signal.SIGUSR2)
        await until(lambda: node.generation == 1)
        node.kill()
        assert await node.wait() == -signal.SIGKILL


async def test_a_node_that_never_serves_is_told_with_its_last_words(tmp_path: Path) -> None:
    text = "import sys\nprint('no such table', file=sys.stderr)\nsys.exit(2)\n"
    async with started(tmp_path, text) as node:
        with pytest.raises(Unavailable, match="node-1 stopped while starting: no such table"):
            await node.wait_ready()
        assert node.returncode == 2
