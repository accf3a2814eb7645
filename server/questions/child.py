"""The node's hold on its query process: started with the node, watched, started again when it ends, killed with it.

What is asked of it goes over its standard input one after the other and comes back in that order; whoever has asked
waits in `ask` for its own time. What took too long is answered all the same, later, and nobody hears it: the process
keeps to deadlines itself, so one that does not answer for `STUCK_S` longer is killed, as is one that never begins to.
"""

import asyncio
import importlib.util
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from server.columns.layout import Schema
from server.errors import BadInput, Corrupt, DeadlineExceeded, GarrisonError, Internal, Overloaded, Unavailable
from server.questions import wire
from server.runtime.process import signal_child

EXTRA: Final = ("duckdb", "sqlglot", "datasketches", "pyarrow")
"""Modules of the extra `query`."""
MAX_WAITING: Final = 16
"""Things that are asked at a time."""
STUCK_S: Final = 5.0
START_S: Final = 300.0
"""Seconds until a process that was begun answers, on a machine that is full too; one that takes longer is killed."""
PAUSES_S: Final = (0.1, 1.0, 5.0, 30.0)
"""Pauses before the process is started again, the last one again and again."""

log = structlog.get_logger(__name__)


def lacking() -> list[str]:
    """Modules of the extra that are not installed."""
    return [module for module in EXTRA if importlib.util.find_spec(module) is None]


async def start(directory: Path) -> Process:
    """Start a process for the blocks of `directory`; it ends when its standard input does. Raises `OSError`."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "server.questions", str(directory))
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)


class QueryProcess:
    """See the module's head. `run` is a task of the node for as long as it lives; `started` is the first process, where
    there is one already."""

    def __init__(
        self,
        directory: Path,
        schemas: Sequence[Schema],
        snapshots: Sequence[Schema] = (),
        started: Process | None = None,
        start_s: float = START_S,
    ) -> None:
        self._directory, self._schemas, self._snapshots = directory, list(schemas), list(snapshots)
        self._started, self._start_s = started, start_s
        self._process: Process | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._ready = False
        self.restarts = 0
        self.blocks_checked = False
        """Whether the node has looked through what earlier runs left: before that nobody is answered from it."""
        gone = ", ".join(lacking())
        self.unavailable = f"needs {gone}: install the extra garrison-server[query]" if gone else ""
        """The reason why there is no query process; empty while there is one, or soon."""

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Keep the process running. Returns at once where the extra is not installed."""
        if self.unavailable:
            log.info("questions are not answered", why=self.unavailable)
            return
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._live()
            except OSError as error:
                log.error("query process cannot be started", why=str(error))
            lived_s = asyncio.get_running_loop().time() - began
            failures = 0 if lived_s > PAUSES_S[-1] else failures + 1
            self.restarts += 1
            log.warning("query process ended", lived_s=round(lived_s, 1))
            await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])

    async def _live(self) -> None:
        process, self._started = self._started or await start(self._directory), None
        self._process, self._ready = process, False
        try:
            self._ask(process, "tables", [wire.encode(self._schemas), wire.encode(self._snapshots)]).add_done_callback(
                self._tables_told
            )
            starting = asyncio.get_running_loop().call_later(self._start_s, self._kill_stuck, process, self._number)
            try:
                await self._read(process)
            finally:
                starting.cancel()
        finally:
            self._process = None
            signal_child(process, signal.SIGKILL)
            self._give_up()
            await process.wait()

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        try:
            while True:
                head = await process.stdout.readexactly(wire.LENGTH_BYTES)
                data = await process.stdout.readexactly(wire.length_of(head))
                number, error, value = wire.read_answered(data)
                waiting = self._waiting.pop(number, None)
                if waiting is None or waiting.done():
                    continue
                if error is None:
                    waiting.set_result(value)
                else:
                    waiting.set_exception(_error(*error))
        except asyncio.IncompleteReadError:
            return
        except Corrupt as error:
            log.error("query process talks nonsense", why=error.message)

    async def ask(self, operation: str, values: list[Any], timeout_s: float) -> Any:
        """The process's answer within `timeout_s`. Raises `Unavailable`, `Overloaded`, `DeadlineExceeded`, and what the
        operation raises."""
        process = self._process
        if process is None or not self._ready or not self.blocks_checked:
            raise Unavailable(self.unavailable or "the query process starts", retry_after_s=1.0)
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded("too many questions at a time", retry_after_s=1.0)
        if sum(map(_room, values)) > wire.MAX_FRAME_BYTES:
            raise Overloaded("the answers of all nodes together are too large: fewer groups are less")
        waiting = self._ask(process, operation, values)
        number = self._number
        try:
            async with asyncio.timeout(timeout_s):
                return await waiting
        except TimeoutError:
            asyncio.get_running_loop().call_later(STUCK_S, self._kill_stuck, process, number)
            raise DeadlineExceeded("the query process did not answer in time") from None

    def _ask(self, process: Process, operation: str, values: list[Any]) -> "asyncio.Future[Any]":
        assert process.stdin is not None
        self._number += 1
        waiting = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        process.stdin.write(wire.frame((self._number, operation, values)))
        return waiting

    def _tables_told(self, told: "asyncio.Future[Any]") -> None:
        self._ready = not told.cancelled() and told.exception() is None

    def _kill_stuck(self, process: Process, number: int) -> None:
        if self._process is process and number in self._waiting:
            log.error("query process is stuck and killed", pid=process.pid)
            self._give_up()  # at once: nobody else has to find it stuck
            signal_child(process, signal.SIGKILL)

    def _give_up(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Unavailable("the query process ended", retry_after_s=1.0))
        self._waiting.clear()


def _room(value: Any) -> int:
    """Bytes that a value takes in a frame, about: never fewer."""
    if isinstance(value, list):
        return 16 + sum(map(_room, value))
    return 16 + (4 * len(value) if isinstance(value, str) else len(value) if isinstance(value, bytes) else 0)


def _error(code: str, message: str) -> GarrisonError:
    """The error that the process has told. What it says of a question is the asker's fault or its own."""
    if code == Overloaded.code:
        return Overloaded(message, retry_after_s=1.0)
    return BadInput(message) if code == BadInput.code else Internal(message)
