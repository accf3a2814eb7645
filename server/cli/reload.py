"""The reload process of a node: rows of events that its columns have lost, loaded from the store again.

    python -m server.cli.reload        started by the node, which tells it the rest on standard input

It reads the store as a command does, claims nothing, and ends with its node, whose end of the pipe closes. It gets the
time that nobody else wants, and is among the first to be killed where memory runs out.
"""

import asyncio
import fcntl
import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from server.actors.recorded import RecordedEvents
from server.cli.stored import opened_store
from server.columns.layout import Writer
from server.columns.store import boot_id
from server.drivers import build_recorders, load_app
from server.errors import GarrisonError, Unavailable
from server.eventlog.ports import Chunk
from server.ids import ActorId
from server.reloads.loader import ReloadLimits, TableLoader
from server.reloads.messages import (
    Damaged,
    NewBlock,
    ReloadBegin,
    ReloadDone,
    Room,
    RowsMissing,
    Stopped,
    line,
    read_begin,
    read_granted,
)
from server.reloads.rule import RecordedSpan
from server.runtime.clock import SystemClock
from server.runtime.process import give_way
from server.settings import Settings

if TYPE_CHECKING:
    from persistence.sql_queries import SqlStoreQueries
    from persistence.sql_store import SqlStore

PAGE = 1_000
LAST_MS = 2**62


class NodePipe:
    """The node at the other end of the standard streams (`server.reloads.loader.ReloadNode`)."""

    def __init__(self, asked: BinaryIO, answers: BinaryIO) -> None:
        self._asked, self._answers = asked, answers

    def tell(self, message: msgspec.Struct) -> None:
        self._answers.write(line(message))
        self._answers.flush()

    async def room(self, table: str, size: int) -> bool:
        self.tell(Room(table, size))
        answer = self._asked.readline()
        if not answer:
            raise SystemExit(0)  # the node is gone
        return read_granted(answer).granted

    def block(self, table: str, name: str, size: int, rows: int, until_ms: int) -> None:
        self.tell(NewBlock(table, name, size, rows, until_ms))

    def missing(self, table: str, rows: int) -> None:
        self.tell(RowsMissing(table, rows))

    def damaged(self, log: ActorId, events: int, why: str) -> None:
        self.tell(Damaged(log, events, why[:300]))


class StoredLogs:
    """The store as the loader reads it."""

    def __init__(self, store: "SqlStore", recorders: "SqlStoreQueries", begin: ReloadBegin) -> None:
        self._store, self._recorders, self._begin = store, recorders, begin

    async def chunks(self, kind: str, id: ActorId, from_seq: int, to_seq: int) -> Sequence[Chunk]:
        found = await self._store.read_log(kind, id, from_seq, to_seq)
        return () if found is None else found.chunks

    async def spans(self, kind: str, since_ms: int, after: RecordedSpan | None) -> list[RecordedSpan]:
        given: dict[str, Any] = {
            "kind": kind, "node": self._begin.node, "incarnation": self._begin.incarnation, "since_ms": since_ms,
            "before_ms": LAST_MS if after is None else after.began_ms, "before_key": "" if after is None else after.key,
            "limit": PAGE,
        }  # fmt: skip
        rows = await self._recorders.run("recorded", given)
        return [RecordedSpan(row["key"], row["first_seq"], row["last_seq"], row["began_ms"]) for row in rows]


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Be the only process that reloads what belongs in `directory`: that of a node which is succeeded may not have
    ended yet, and would load the same rows. Raises `Unavailable` while there is another one."""
    with open(directory / "reload.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable("another process of this node still does", retry_after_s=1.0) from None
        yield


async def reload(begin: ReloadBegin, pipe: NodePipe) -> int:
    """Load what is missing of each table. Returns the rows. Raises `GarrisonError`, `OSError`."""
    settings = msgspec.convert(begin.settings, Settings)
    app, clock = load_app(settings), SystemClock()
    columns = settings.columns
    limits = ReloadLimits(columns.max_bytes, columns.max_age_s, clock.wall_ms(), int(1000 * clock.boot()), boot_id())
    writer = Writer(begin.node, begin.incarnation)
    rows = 0
    async with AsyncExitStack() as stack:
        stack.enter_context(alone(Path(begin.directory)))
        store = await stack.enter_async_context(opened_store(settings))
        recorders = build_recorders(settings)
        stack.push_async_callback(recorders.close)
        logs = StoredLogs(store, recorders, begin)
        for recorded in app.recorded:
            if isinstance(recorded, RecordedEvents) and recorded.place and recorded.schema.table in begin.tables:
                directory = Path(begin.directory)
                loader = TableLoader(directory, recorded, writer, limits, spans=logs.spans, logs=logs, node=pipe)
                await loader.run()
                rows += loader.rows
    return rows


def main() -> int:
    """Serve the node that has started this process."""
    give_way("900")
    gc.set_threshold(200_000, 50, 100)  # rows come and go by the thousand, and none is part of a circle
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # an application's prints are no answer
    first = sys.stdin.buffer.readline()
    if not first:
        return 0
    pipe, began = NodePipe(sys.stdin.buffer, answers), time.monotonic()
    try:
        rows = asyncio.run(reload(read_begin(first), pipe))
    except (GarrisonError, OSError) as error:
        pipe.tell(Stopped(str(getattr(error, "message", error))[:300]))
        return 1
    pipe.tell(ReloadDone(rows, time.monotonic() - began))
    return 0


if __name__ == "__main__":
    sys.exit(main())
