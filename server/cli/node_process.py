"""A node as a process of this machine, which is followed when another process succeeds it.

The processes of a node share their standard output, a pipe to here: each says on it that it is ready, with its number.
So the node has ended when nobody has the other end any more. This process takes in orphans, for a process that
succeeds another is one: its end is seen, and reaped, as that of the first.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from server.errors import Unavailable

READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
_PR_SET_CHILD_SUBREAPER: Final = 36


class NodeProcess:
    """The processes of a node, one after the other. `process` is the first, the leader of the process group of all.
    `ready`: the newest line of readiness, empty until there is one."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.ready: dict[str, Any] = {}
        self.stopping = False
        self.returncode: int | None = None
        """The exit code of the last process, negative for a signal; None while the node runs."""
        self.succeeded: Callable[[NodeProcess], None] = lambda node: None
        """Called when another process has become the node."""
        self._heir = -1
        """A descriptor of the process that is the node; -1 while it is the first."""
        self._pid = process.pid
        self._is_ready, self._ended = asyncio.Event(), asyncio.Event()
        take_in_orphans()
        self._following = asyncio.ensure_future(self._follow())

    @property
    def pid(self) -> int:
        """The process that is the node now."""
        return self._pid

    @property
    def generation(self) -> int:
        """The number of successions before this process of the node's run."""
        return int(self.ready.get("generation", 0))

    @property
    def running(self) -> bool:
        return self.returncode is None

    async def wait(self) -> int:
        """Wait until the node has ended, whatever process it is by then; its exit code."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    async def stop(self) -> bool:
        """Ask it to stop, and kill it if it does not. True if it ended by itself."""
        self.stopping = True
        if not self.running:
            return True
        try:
            os.kill(self._pid, signal.SIGTERM)
        except ProcessLookupError:  # the heir has not said its number yet
            self._signal_all(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._ended.wait()
        except TimeoutError:
            self._signal_all(signal.SIGKILL)
            await self._ended.wait()
            return False
        return True

    def kill(self) -> None:
        """Like `kill -9` of all its processes."""
        self.stopping = True
        self._signal_all(signal.SIGKILL)

    async def wait_ready(self) -> None:
        """Until the node says that it serves. Raises `Unavailable` with its last words."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._is_ready, self._ended)]
        try:
            await asyncio.wait(waits, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._is_ready.is_set():
            return
        if self._ended.is_set():
            raise Unavailable(f"{self.name} stopped while starting: {last_words(self.log)}")
        raise Unavailable(f"{self.name} is not ready after {READY_TIMEOUT_S:.0f} s; see {self.log}")

    def _signal_all(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    async def _follow(self) -> None:
        """Heed its lines of readiness until nobody has its output any more, then reap it."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict) and told.get("ready"):
                    self._heed(told)
        code = await self.process.wait()
        if self._heir >= 0:
            code = await self._end_of_heir(self._heir)
        _reap_group(self.process.pid)
        self.returncode = code
        self._ended.set()

    def _heed(self, told: dict[str, Any]) -> None:
        before, self._pid, self.ready = self._pid, int(told["pid"]), told
        self._is_ready.set()
        if self._pid == before:
            return
        if before != self.process.pid:
            _reap(before)  # the first one has somebody who does
        if self.stopping:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)  # SIGTERM has reached only the one before
        if self._heir >= 0:
            os.close(self._heir)
            self._heir = -1
        with contextlib.suppress(OSError):  # ended already
            self._heir = os.pidfd_open(self._pid)
        self.succeeded(self)

    async def _end_of_heir(self, descriptor: int) -> int:
        """Wait for the last process, and reap it; its exit code."""
        gone, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(descriptor, gone.set)
        await gone.wait()
        loop.remove_reader(descriptor)
        os.close(descriptor)
        self._heir = -1
        return _reap(self._pid)


def _reap(process: int) -> int:
    """Reap an orphan that has ended; its exit code, 0 where somebody else has got it."""
    with contextlib.suppress(ChildProcessError):
        _, status = os.waitpid(process, os.WNOHANG)
        return os.waitstatus_to_exitcode(status)
    return 0


def _reap_group(group: int) -> None:
    """Reap the orphans of a process group that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass


def take_in_orphans() -> None:
    """Be the parent of processes below this one whose own parent ends (`PR_SET_CHILD_SUBREAPER`)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def last_words(log: Path) -> str:
    """The last line that a child wrote to its log."""
    with contextlib.suppress(OSError):
        lines = log.read_text("utf-8", errors="replace").split("\n")
        for line in reversed(lines):
            if line.strip():
                return line.strip()[:300]
    return f"see {log}"
