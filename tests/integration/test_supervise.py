"""The first process of a container above a node that changes its process: real processes, in a namespace of their own
where that is allowed."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
NODE = '''
"""Stands for a node: says its process, starts an heir at SIGUSR2, ends with its generation as the code."""
import asyncio, os, signal, subprocess, sys
sys.path.insert(0, {root!r})
from server.runtime.service_manager import ServiceManager

async def main(generation):
    loop, stop, upgrade = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, print, "hangup", generation)
    loop.add_signal_handler(signal.SIGUSR2, upgrade.set)
    manager = ServiceManager(os.environ)
    manager.ready()
    subprocess.Popen(["true"])  # is not waited for: an orphan one day
    while generation and os.getppid() == int(sys.argv[2]):
        await asyncio.sleep(0.001)  # until the one before has told who is the node, and has ended
    print("node", generation, os.getpid(), flush=True)
    waits = [asyncio.ensure_future(event.wait()) for event in (stop, upgrade)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        return 10 + generation
    heir = subprocess.Popen([sys.executable, "-u", __file__, str(generation + 1), str(os.getpid())])
    await manager.main_process(heir.pid)
    os._exit(0)

sys.exit(asyncio.run(main(int(sys.argv[1]))))
'''


def namespaces() -> bool:
    tried = subprocess.run(["unshare", "--fork", "--pid", "--mount-proc", "true"], capture_output=True, check=False)
    return tried.returncode == 0


def let_its_heir_die(node: Path) -> None:
    """And the node itself after it, before it has said that it is the node again."""
    dying = "await manager.main_process(heir.pid)\n    heir.kill(), heir.wait(), os.kill(os.getpid(), 9)"
    node.write_text(node.read_text().replace("await manager.main_process(heir.pid)", dying))


def let_its_supervisor_stand_still(node: Path) -> None:
    """From when it knows the heir until it is woken."""
    told = "await manager.main_process(heir.pid)\n"
    node.write_text(node.read_text().replace(told, f"{told}    os.kill(os.getppid(), signal.SIGSTOP)\n"))


@contextlib.asynccontextmanager
async def supervised(before: Sequence[str], node: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [*before, sys.executable, "-m", "server.cli.supervise", sys.executable, "-u", str(node), "0"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def a_line(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    async with asyncio.timeout(60.0):
        return (await process.stdout.readline()).decode().split()


@pytest.fixture
def node(tmp_path: Path) -> Path:
    path = tmp_path / "node.py"
    path.write_text(NODE.format(root=str(ROOT)))
    return path


async def test_a_supervisor_follows_the_node_over_successions_and_ends_with_its_code(node: Path) -> None:
    async with supervised([], node) as process:
        assert (await a_line(process))[:2] == ["node", "0"]
        for generation in ("1", "2"):
            process.send_signal(signal.SIGUSR2)
            assert (await a_line(process))[:2] == ["node", generation]
        process.send_signal(signal.SIGHUP)
        assert await a_line(process) == ["hangup", "2"]
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 12


async def test_a_supervisor_ends_as_a_killed_node_does(node: Path) -> None:
    async with supervised([], node) as process:
        await a_line(process)
        process.send_signal(signal.SIGUSR2)
        _, _, heir = await a_line(process)
        os.kill(int(heir), signal.SIGKILL)
        assert await process.wait() == 128 + signal.SIGKILL


async def test_a_supervisor_that_finds_the_node_and_the_one_before_ended_together_ends_as_the_node_does(
    node: Path,
) -> None:
    let_its_supervisor_stand_still(node)
    async with supervised([], node) as process:
        _, _, first = await a_line(process)
        process.send_signal(signal.SIGUSR2)
        _, _, heir = await a_line(process)
        os.kill(int(heir), signal.SIGKILL)
        await until(lambda: has_ended(first) and has_ended(heir))
        process.send_signal(signal.SIGCONT)
        assert await process.wait() == 128 + signal.SIGKILL


def has_ended(process: str) -> bool:
    """Whether nobody but its parent has still to hear of it."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


async def test_a_supervisor_ends_where_neither_the_node_nor_its_heir_is_left(node: Path) -> None:
    let_its_heir_die(node)
    async with supervised([], node) as process:
        await a_line(process)
        process.send_signal(signal.SIGUSR2)
        async with asyncio.timeout(60.0):
            assert await process.wait() == 128 + signal.SIGKILL


@pytest.mark.skipif(shutil.which("unshare") is None or not namespaces(), reason="no process namespaces here")
async def test_the_first_process_of_a_namespace_supervises_and_reaps(node: Path) -> None:
    async with supervised(["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"], node) as process:
        assert (await a_line(process))[:2] == ["node", "0"]
        (first,) = children(process.pid)
        for generation in ("1", "2"):
            os.kill(first, signal.SIGUSR2)
            line = await a_line(process)
            assert line[:2] == ["node", generation]
        await until(lambda: len(children(first)) == 1)  # the nodes before it and their orphans are reaped
        os.kill(first, signal.SIGTERM)
        assert await process.wait() == 12


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server.cli.supervise", str(tmp_path / "nothing")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)  # noqa: ASYNC221
    assert done.returncode == 127 and b"No such file" in done.stderr
