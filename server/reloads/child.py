"""The node's hold on its reload: a process that begins where rows of events were lost, watched, ended with the node.

It runs on the scheduler's idle class, as the query process does, and asks for room before each block. Where it cannot
go on (the store is away, memory is full, it was killed) it is started again after a pause, and goes on with what is
missing then. `quiet` holds it back while rows are let go of by name: what it has read before that it must not write
afterwards.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from server.actors.recorded import RecordedEvents
from server.columns.missing import is_whole, note_missing
from server.columns.store import ColumnStore
from server.columns.table import Kept
from server.ids import NodeAddress
from server.reloads.loader import parts
from server.reloads.messages import (
    Damaged,
    Granted,
    NewBlock,
    ReloadBegin,
    ReloadDone,
    Room,
    RowsMissing,
    Stopped,
    line,
    read_told,
)
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.process import signal_child

PAUSES_S: Final = (1.0, 5.0, 15.0, 60.0)
"""Pauses before the process is started again, the last one again and again."""
LINE_BYTES: Final = 1 << 20
NAMED: Final = 20
"""Damaged logs that are named in the node's log, of one process."""
MODULE: Final = "server.cli.reload"

log = structlog.get_logger(__name__)


class Reload:
    """See the module's head. `settings`: the node's, as plain values. `run` is a task of the node until it is done."""

    def __init__(
        self, store: ColumnStore, recorded: Sequence[RecordedEvents], settings: Any, clock: Clock, metrics: Metrics,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:  # fmt: skip
        self._store, self._settings, self._clock, self._metrics = store, settings, clock, metrics
        self._tables = [each.schema.table for each in recorded if each.place is not None]
        self._pauses_s = pauses_s
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._held_back = self._ended = False

    def note(self) -> list[str]:
        """Note what is missing, before the first question is answered. Returns the tables of which something is."""
        lost = [table for table in self._tables if not is_whole(self._store.directory, table)]
        for table in lost:
            with suppress(OSError):  # the tables are off then, and say why
                note_missing(self._store.directory, table, None)
        return lost

    async def run(self, me: NodeAddress) -> None:
        """Reload what is missing, however often the process ends. Returns when nothing is."""
        failures = 0
        while not self._ended and (tables := self.note()):
            async with self._lock:
                self._held_back = False
                self._store.not_reloaded = await self._live(me, tables)
            if self._held_back:
                failures = 0
            elif self._store.not_reloaded and not self._ended:
                pause_s = self._pauses_s[min(failures, len(self._pauses_s) - 1)]
                log.warning("events are not reloaded", why=self._store.not_reloaded, again_s=pause_s)
                failures += 1
                await asyncio.sleep(pause_s)
        self._store.not_reloaded = ""

    def end(self) -> None:
        """End the process, and begin none any more: from now on another run of this node may have the directory."""
        self._ended = True
        self._kill()

    def go_on(self) -> None:
        """Undo `end`, before `run` has seen it: the process is begun anew."""
        self._ended = False

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """While this is held no process runs; it begins anew afterwards."""
        self._held_back = True
        self._kill()
        async with self._lock:
            yield

    async def _live(self, me: NodeAddress, tables: list[str]) -> str:
        """Run the process to its end. Returns why it ended before its time, empty where all is done."""
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", MODULE, stdin=pipe, stdout=pipe, limit=LINE_BYTES
            )
        except OSError as error:
            return f"no process: {error}"
        self._process = process
        if self._held_back or self._ended:  # while the process was made
            self._kill()
        assert process.stdin is not None and process.stdout is not None
        begin = ReloadBegin(self._settings, str(self._store.directory.absolute()), me.node, me.incarnation, tables)
        why = "the process ended"
        named = 0
        try:
            process.stdin.write(line(begin))
            while text := await process.stdout.readline():
                told = read_told(text)
                if isinstance(told, Room):
                    granted = self._store.tables[told.table].grant(told.bytes)
                    process.stdin.write(line(Granted(granted)))
                elif isinstance(told, NewBlock):
                    self._take_in(told)
                elif isinstance(told, RowsMissing):
                    self._store.not_reloaded, self._metrics.column_rows_missing = "", told.rows
                elif isinstance(told, Damaged):
                    self._metrics.column_rows_damaged_total += told.events
                    named += 1
                    if named <= NAMED:
                        log.error("damaged events are not reloaded", log=told.log, events=told.events, why=told.why)
                elif isinstance(told, Stopped):
                    why = told.why
                elif isinstance(told, ReloadDone):
                    log.info("events are reloaded", rows=told.rows, seconds=round(told.seconds, 1), damaged_logs=named)
                    why = ""
        except (msgspec.MsgspecError, ValueError) as error:
            why = f"the process talks nonsense: {error}"
        finally:
            self._kill()
            self._process = None
            self._tidy(tables)
            await process.wait()
        return why

    def _take_in(self, told: NewBlock) -> None:
        age_s = (self._clock.wall_ms() - told.until_ms) / 1000
        path = self._store.directory / Path(told.name).name
        self._store.tables[told.table].take_in(Kept(path, told.bytes, self._clock.boot() - max(0.0, age_s)))
        self._metrics.column_rows_reloaded_total += told.rows

    def _tidy(self, tables: Sequence[str]) -> None:
        """Let go of a block that the process has begun and not finished."""
        for path in parts(self._store.directory):
            path.unlink(missing_ok=True)
        for table in tables:
            self._store.tables[table].take_in(None)

    def _kill(self) -> None:
        if self._process is not None:
            signal_child(self._process, signal.SIGKILL)
