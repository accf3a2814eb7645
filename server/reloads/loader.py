"""The reload of one table: spans from the store, newest first, rows into blocks of their own, until there is no more or
no room.

A block is written under a name that no reader looks at, and gets its own once it is whole and its checksums are there:
so readers see all of its rows at once. The node grants each before it is made (`max_bytes` is the node's to keep).

A log that is damaged is left out. One that the store cannot give, for example because a page of the database is
damaged, waits: the others are loaded first, and the process ends with the reason, to be started again for it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from server.actors.recorded import RecordedEvents
from server.columns.block import RefusedRow, Row, RowBlock, RowBlockFull
from server.columns.layout import Header, Schema, Writer, shape_of
from server.columns.missing import note_missing, note_whole
from server.columns.reader import SUFFIX, StoredRowBlock, block_name, paths
from server.columns.table import WRITE_ROWS, TextRoom, rows_of_blocks
from server.errors import BadInput, Corrupt, GarrisonError, Unavailable
from server.eventlog.ports import Chunk
from server.ids import ActorId, actor_id
from server.reloads.reader import LoadedRows, RowReader
from server.reloads.rule import MARGIN_S, HeldEvents, LostSpan, RecordedSpan

FIRST_NUMBER: Final = 2**24
"""Numbers of blocks that were reloaded begin here: the run's own never come so far."""
PART: Final = ".part"
AT_ONCE: Final = 8
"""Logs that are asked for at a time."""
AWAY: Final = 3 * AT_ONCE
"""Logs that cannot be had one after the other until it is the store that is away."""
SHARE_OF_ONE: Final = 16
"""The part of the room for rows that one span counts for at most when spans are listed: its numbers may be damaged."""
BASE_MS: Final = 30 * 86_400_000
"""Milliseconds before its first row that a block of reloaded rows begins: the next log's rows are older."""
APART_MS: Final = 15 * 86_400_000
"""The greatest difference between rows that are written together: a block of them has room for that after its base."""
TELL_ROWS: Final = 100_000

Spans = Callable[[str, int, RecordedSpan | None], Awaitable[list[RecordedSpan]]]
"""`spans(kind, since_ms, after)`: what this node recorded in activations from `since_ms` on, newest first; none at the
end of the list. Raises `Unavailable`."""


class Logs(Protocol):
    """The log store, as far as a reload reads it."""

    async def chunks(self, kind: str, id: ActorId, from_seq: int, to_seq: int) -> Sequence[Chunk]:
        """Chunks with events `from_seq` to `to_seq`. Raises `Unavailable`."""
        ...


class ReloadLimits(NamedTuple):
    """`boot_ms`: of the boot clock, at the same moment as `now_ms`, Unix ms."""

    max_bytes: int
    max_age_s: float
    now_ms: int
    boot_ms: int
    boot_id: str


class ReloadNode(Protocol):
    """The node, which is told, and asked for room."""

    async def room(self, table: str, size: int) -> bool:
        """Whether a block of `size` bytes may be made."""
        ...

    def block(self, table: str, name: str, size: int, rows: int, until_ms: int) -> None: ...

    def missing(self, table: str, rows: int) -> None: ...

    def damaged(self, log: ActorId, events: int, why: str) -> None: ...


class NoRoom(Exception):
    """The table is full: what is older stays away."""


def held_events(directory: Path, schema: Schema, place: tuple[str, str]) -> HeldEvents:
    """The events of `schema`'s table that blocks in `directory` hold. A block that cannot be read holds none."""
    held = HeldEvents()
    for path in paths(directory):
        if not path.name.startswith(f"{schema.table}."):
            continue
        try:
            block = StoredRowBlock(path)
        except (Corrupt, OSError):
            continue
        if block.header.schema == schema and block.rows:
            held.add(block.values(place[0]), block.values(place[1]), block.all_texts())
    return held


class TableLoader:
    """See the module's head."""

    def __init__(
        self,
        directory: Path,
        recorded: RecordedEvents,
        writer: Writer,
        limits: ReloadLimits,
        *,
        spans: Spans,
        logs: Logs,
        node: ReloadNode,
    ) -> None:
        assert recorded.place is not None
        self._directory, self._recorded, self._place, self._limits = directory, recorded, recorded.place, limits
        self._spans, self._logs, self._node = spans, logs, node
        self._schema, self._kind = recorded.schema, recorded.actor.kind
        self._since_ms = limits.now_ms - int(1000 * limits.max_age_s)
        self._reader = RowReader(recorded, self._since_ms, limits.now_ms)
        self._blocks = BlockWriter(directory, recorded.schema, writer, limits, node)
        self.rows = 0
        """Rows that were loaded."""
        self._missing = self._told = 0
        self._away: GarrisonError | None = None
        """Why logs that wait could not be had."""

    async def run(self) -> None:
        """Load until nothing is missing that can be had. Raises `GarrisonError` where logs wait, once what could be had
        is there, and `OSError` where memory is full."""
        table = self._schema.table
        held = held_events(self._directory, self._schema, self._place)
        lost = await self._lost(held)
        self._missing = sum(each.rows for each in lost)
        self._tell()
        try:
            async for span, loaded in self._loaded(lost):
                if loaded.damaged:
                    self._damaged(span.span, loaded.damaged, loaded.why)
                await self._blocks.add(loaded.rows)
                self.rows += len(loaded.rows)
                self._missing -= span.rows
                if self._told - self._missing >= TELL_ROWS:
                    self._tell()
            await self._blocks.flush()
            if self._away is not None:
                self._tell()
                raise self._away
        except NoRoom:
            pass
        note_whole(self._directory, table)
        self._node.missing(table, 0)

    def _damaged(self, span: RecordedSpan, events: int, why: str) -> None:
        self._node.damaged(ActorId(f"{self._kind}/{span.key}"), events, why)  # its key may be none

    def _tell(self) -> None:
        self._told = self._missing
        note_missing(self._directory, self._schema.table, self._missing)
        self._node.missing(self._schema.table, self._missing)

    async def _lost(self, held: HeldEvents) -> list[LostSpan]:
        """Spans to be loaded, newest first: no more than would ever find room."""
        most = self._limits.max_bytes // self._schema.width
        found: list[LostSpan] = []
        rows = 0
        after: RecordedSpan | None = None
        since_ms = self._since_ms - int(1000 * MARGIN_S)
        while rows < most and (page := await self._spans(self._kind, since_ms, after)):
            after = page[-1]
            for span in page:
                if not span.is_sound:
                    self._damaged(span, 1, f"the store says it is events {span.first_seq} to {span.last_seq}")
                elif (lost := held.lost(span)).ranges:
                    found.append(lost)
                    rows += min(lost.rows, 1 + most // SHARE_OF_ONE)
        return found

    async def _loaded(self, lost: Sequence[LostSpan]) -> AsyncIterator[tuple[LostSpan, LoadedRows]]:
        """The spans whose logs can be had, and their rows."""
        failures = 0
        for begin in range(0, len(lost), AT_ONCE):
            some = lost[begin : begin + AT_ONCE]
            for span, read in zip(some, await asyncio.gather(*map(self._chunks, some)), strict=True):
                if isinstance(read, GarrisonError):
                    self._away, failures = read, failures + 1
                    continue
                failures = 0
                try:
                    loaded = self._reader.rows(span, *read)
                except Exception as error:  # the application's rules never made this log
                    loaded = LoadedRows([], span.rows, f"{type(error).__name__}: {error}")
                yield span, loaded
            if failures >= AWAY:
                return

    async def _chunks(self, lost: LostSpan) -> tuple[Sequence[Chunk], Sequence[Chunk]] | GarrisonError:
        """The chunk with event 1, and those with the span's; or why they cannot be had now."""
        span = lost.span
        try:
            id = actor_id(self._kind, span.key)
            chunks = await self._logs.chunks(self._kind, id, span.first_seq, span.last_seq)
            first = chunks if span.first_seq == 1 else await self._logs.chunks(self._kind, id, 1, 1)
        except (Corrupt, BadInput):
            return (), ()
        except GarrisonError as error:
            return error
        except Exception as error:  # the driver makes nothing of a value
            return Unavailable(f"the log of {span.key}: {type(error).__name__}: {error}")
        return first[:1], chunks


class BlockWriter:
    """Puts rows into blocks of a table, one after the other."""

    def __init__(self, directory: Path, schema: Schema, writer: Writer, limits: ReloadLimits, node: ReloadNode) -> None:
        self._directory, self._schema, self._writer, self._limits, self._node = directory, schema, writer, limits, node
        for path in parts(directory):  # leftovers of a process before this one: there is one at a time
            path.unlink(missing_ok=True)
        self._number = _next_number(directory, schema.table, writer)
        self._block: RowBlock | None = None
        self._room = TextRoom()
        self._most = rows_of_blocks(schema, limits.max_bytes)
        self._rows: list[Row] = []

    async def add(self, rows: list[Row]) -> None:
        """Keep rows, and write them once there are many. Raises `NoRoom`, `OSError`."""
        self._rows += rows
        while len(self._rows) >= WRITE_ROWS:
            part, self._rows = self._rows[:WRITE_ROWS], self._rows[WRITE_ROWS:]
            await self._write(part)

    async def flush(self) -> None:
        """Write all that is kept, and finish the block. Raises as `add`."""
        part, self._rows = self._rows, []
        if part:
            await self._write(part)
        self._finish()

    async def _write(self, rows: list[Row]) -> None:
        left = _by_time(rows)
        while left:
            part = left.pop()
            block = self._block or await self._begin(part)
            try:
                left += block.put(part)
                block.tick()
            except RowBlockFull:
                if block.rows:  # else the row fits in no block
                    self._finish()
                    left.append(part)
            except RefusedRow:
                continue

    async def _begin(self, rows: Sequence[Row]) -> RowBlock:
        base_ms = min(row[0] for row in rows) - BASE_MS
        header = Header(self._schema, self._writer, self._number, self._most, self._room.texts, self._room.heap, 0, 0)
        header = msgspec.structs.replace(
            header, base_ms=base_ms, boot_id=self._limits.boot_id,
            boot_ms=self._limits.boot_ms - (self._limits.now_ms - base_ms),
        )  # fmt: skip
        if not await self._node.room(self._schema.table, shape_of(header).size):
            self._finish()
            raise NoRoom
        self._block = RowBlock(self._directory / f"{block_name(header)}{PART}", header)
        self._number += 1
        return self._block

    def _finish(self) -> None:
        """Publish the block, all of it at once."""
        block, self._block = self._block, None
        if block is None:
            return
        block.tick()
        block.tick()
        self._room = self._room.after(*block.texts_used, block.texts_full)
        name = block.path.name.removesuffix(PART)
        found = StoredRowBlock(block.path)
        span = found.span_ms()
        # The node counts it before it is there: nobody could count one whose process ends in between.
        self._node.block(self._schema.table, name, block.size, block.rows, span[1] if span is not None else 0)
        os.rename(block.path, block.path.with_name(name))


def _by_time(rows: list[Row]) -> list[list[Row]]:
    """`rows` in parts none of which is longer than `APART_MS`, the newest last."""
    times = [row[0] for row in rows]
    if max(times) - min(times) <= APART_MS:
        return [rows]
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row[0] // APART_MS, []).append(row)
    return [found[place] for place in sorted(found)]


def parts(directory: Path) -> Iterator[Path]:
    """Blocks that a reload has begun and never finished."""
    try:
        yield from [path for path in directory.iterdir() if path.name.endswith(f"{SUFFIX}{PART}")]
    except FileNotFoundError:
        return


def _next_number(directory: Path, table: str, writer: Writer) -> int:
    begin = f"{table}.{writer.incarnation}.{writer.generation}."
    texts = [
        path.name.removeprefix(begin).removesuffix(SUFFIX) for path in paths(directory) if path.name.startswith(begin)
    ]
    return max([FIRST_NUMBER - 1, *(int(text) for text in texts if text.isdecimal())]) + 1
