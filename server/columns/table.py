"""A table of a node's recent past: rows in memory until the next tick, then in blocks, the oldest of which go first.

`append` is all that a turn pays for: a row is put into a list. A tick, some times a second, moves the list into the
current block and publishes what was written a tick ago (`block.py`). A block that is full is *whole* once
all of its rows are published.

The table never holds more than `max_bytes`: a new block is made only where it fits beside those that are there, those
of earlier runs included, and beside those unlinked so recently that a reader may still have them mapped. Room is made
a block ahead, so that this costs no rows. Where a block cannot be made (the tmpfs is full, the directory has gone),
the table is *off*: rows are counted as lost, the node goes on, and the table is tried again later.
"""

from collections import deque
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from server.columns.block import RefusedRow, Row, RowBlock, RowBlockFull
from server.columns.layout import MAX_TEXTS, Header, Schema, Writer, shape_of
from server.columns.reader import block_name
from server.runtime.clock import Clock

WRITE_ROWS: Final = 512
"""Rows that are put into a block at once: so few that the iterators over them do not wake the garbage collector, which
comes at 700 new objects, and that they are in the processor's cache from column to column."""
RETRY_S: Final = 60.0
"""Seconds until a table that is off is tried again."""
MAX_ROWS: Final = 32_768
"""Rows of a block at most."""
FIRST_TEXTS: Final = 4_096
"""Texts that the first block has place for; those after it have a third more than the one before them needed."""
EARLIER_MS: Final = 60_000
"""Milliseconds before its first row that a block begins: rows come nearly in order, not quite."""
MIN_TEXTS: Final = 256
MIN_HEAP_BYTES: Final = 32_768
"""Texts in a block at least, and bytes of these: one row's, whatever it has."""
BLOCKS: Final = 4
"""Blocks that fit into a table at least: one that is written, one that waits for its end, one to keep, the next one."""

log = structlog.get_logger(__name__)


class TableLimits(NamedTuple):
    """`max_age_s`: of a block's newest row; `reader_s`: for how long a reader keeps what has been unlinked."""

    max_bytes: int
    max_age_s: float
    reader_s: float


class TextRoom(NamedTuple):
    """Place for texts in a block: their number, and bytes of them."""

    texts: int = FIRST_TEXTS
    heap: int = 16 * FIRST_TEXTS

    def after(self, texts: int, heap: int, full: bool) -> "TextRoom":
        """The place in the next block, after one that used so much; `full`: it ended because that was all."""
        if full:
            return TextRoom(min(MAX_TEXTS, 2 * self.texts), 2 * self.heap)
        return TextRoom(min(MAX_TEXTS, max(MIN_TEXTS, texts + texts // 3)), max(MIN_HEAP_BYTES, heap + heap // 3))


class Kept(NamedTuple):
    """A block that is not written any more; `until`: the boot clock when its last row came, as far as is known."""

    path: Path
    size: int
    until: float


def rows_of_blocks(schema: Schema, max_bytes: int) -> int:
    """Rows of a block so that `BLOCKS` of them fit into `max_bytes`: a power of two, at most `MAX_ROWS`."""
    rows = MAX_ROWS
    while rows > 256 and BLOCKS * shape_of(_header(schema, Writer("", 0), 0, rows, TextRoom())).size > max_bytes:
        rows //= 2
    return rows


class Table:
    """See the module's head."""

    def __init__(
        self, directory: Path, schema: Schema, writer: Writer, limits: TableLimits, clock: Clock, boot_id: str = ""
    ) -> None:
        self.schema, self.limits = schema, limits
        self._directory, self._writer, self._clock, self._boot_id = directory, writer, clock, boot_id
        self._rows = rows_of_blocks(schema, limits.max_bytes)
        self._room = TextRoom()
        self._pending: list[Row] = []
        self.append: Final = self._pending.append
        """`append(row)`: add a row, a value for each column, in the order of the schema. Nothing of Python's runs for
        it. The list is emptied by the ticks, which the event loop runs as it runs those who append: between two ticks
        it cannot grow for longer than the loop is late."""
        self._block: RowBlock | None = None
        self._finishing: list[RowBlock] = []
        self.kept: deque[Kept] = deque()
        """Blocks that are whole, the oldest first."""
        self._unlinked: deque[tuple[float, int]] = deque()
        self._granted = 0
        self._number = 0
        self._off_until = 0.0
        self.off: str | None = None
        """The reason why the table takes no rows; None: it does."""
        self.written = 0
        self.lost = 0
        """Rows that found no place."""
        self.clamped = 0
        self._refused, self._refusal = 0, ""

    @property
    def size(self) -> int:
        """Bytes of the blocks that are there or may still be mapped."""
        return self._held + self._granted + sum(size for _, size in self._unlinked)

    @property
    def _held(self) -> int:
        """Bytes of the blocks that are there."""
        return sum(block.size for block in self._written_blocks()) + sum(kept.size for kept in self.kept)

    def _written_blocks(self) -> list[RowBlock]:
        return [*self._finishing, *([self._block] if self._block is not None else ())]

    def adopt(self, blocks: Iterable[Kept]) -> None:
        """Count blocks of earlier processes as this table's oldest."""
        self.kept.extendleft(sorted(blocks, key=lambda kept: kept.until, reverse=True))
        self._make_room()

    def grant(self, size: int) -> bool:
        """Keep room for a block of `size` bytes that another process makes of rows older than all that are here. False
        where it would take the room of the next block of this run. One at a time."""
        self._granted = 0
        if self.size + self._next_size() + size > self.limits.max_bytes:
            return False
        self._granted = size
        return True

    def take_in(self, block: Kept | None) -> None:
        """Count the block that was granted as one of this table's; None: it will never come."""
        self._granted = 0
        if block is not None:
            others = [kept for kept in self.kept if kept.path != block.path]
            self.kept = deque(sorted([*others, block], key=lambda kept: kept.until))

    def tick(self) -> None:
        """Write what has come, publish what was written before, and let go of what is too old."""
        self._write()
        for block in self._finishing:
            block.tick()
        if self._finishing and self._finishing[0].whole:
            self._finish()
        if self._block is not None:
            self._block.tick()
        now = self._clock.boot()
        while self._unlinked and self._unlinked[0][0] <= now:
            self._unlinked.popleft()
        while self.kept and self.kept[0].until + self.limits.max_age_s < now:
            self._drop_oldest()

    def close(self) -> None:
        """Publish every row; the blocks stay."""
        self.tick()
        self.tick()

    def forget(self, text: str, named: Collection[Path]) -> int:
        """Let go of every row block that has `text`, whole: nothing is ever taken out of one. `named`: those of the
        kept blocks that have it. Returns how many blocks went."""
        self._pending[:] = [row for row in self._pending if text not in row]
        gone = [kept for kept in self.kept if kept.path in named]
        self.kept = deque(kept for kept in self.kept if kept.path not in named)
        for block in self._written_blocks():
            if block.has(text):
                gone.append(Kept(block.path, block.size, 0.0))
                self._finishing = [each for each in self._finishing if each is not block]
                self._block = None if self._block is block else self._block
        for kept in gone:
            self._unlink(kept)
        return len(gone)

    # ---- writing ----

    def _write(self) -> None:
        if not self._pending:
            return
        rows = self._pending[:]
        self._pending.clear()
        if self.off is not None and self._clock.boot() < self._off_until:
            self.lost += len(rows)
            return
        for first in range(0, len(rows), WRITE_ROWS):
            self._put(rows[first : first + WRITE_ROWS])
        if self._refused:
            # A single line a tick: a function of rows that is wrong is wrong each time.
            log.error("rows_refused", table=self.schema.table, count=self._refused, error=self._refusal)
            self._refused = 0

    def _put(self, rows: list[Row]) -> None:
        """Write `rows` into the current block, and what does not fit into new ones."""
        left = [rows]
        while left:
            part = left.pop()
            block = self._block
            if block is not None:
                before = block.rows
                try:
                    left += block.put(part)
                except RefusedRow as error:
                    self.lost += 1
                    self._refused, self._refusal = self._refused + 1, str(error)
                    continue
                except RowBlockFull:
                    pass
                else:
                    self.written += block.rows - before
                    continue
            if not self._next_block(part[0]):
                self.lost += len(part) + sum(map(len, left))
                return
            left.append(part)

    def _next_block(self, row: Row) -> bool:
        if self._block is not None:
            self._room = self._room.after(*self._block.texts_used, self._block.texts_full)
            self._finishing.append(self._block)
            self._block = None
        try:
            base_ms = int(row[0]) - EARLIER_MS
        except (TypeError, ValueError, OverflowError):
            base_ms = self._clock.wall_ms()
        header = _header(self.schema, self._writer, self._number, self._rows, self._room)
        header = msgspec.structs.replace(
            header, base_ms=base_ms, boot_ms=int(1000 * self._clock.boot()), boot_id=self._boot_id
        )
        size = shape_of(header).size
        if self.size + size > self.limits.max_bytes:
            self._make_room()
            if self.size + size > self.limits.max_bytes:
                return False
        try:
            self._block = self._new_block(header)
        except (OSError, ValueError) as error:
            self._turn_off(f"{type(error).__name__}: {error}")
            return False
        self._number += 1
        if self.off is not None:
            log.info("table_on_again", table=self.schema.table, lost=self.lost)
            self.off = None
        self._make_room()
        return True

    def _new_block(self, header: Header) -> RowBlock:
        """A block under the next number that is free: a run of another database may have had this run's number in the
        same directory. Raises `OSError`, `ValueError`."""
        while True:
            header = msgspec.structs.replace(header, number=self._number)
            try:
                return RowBlock(self._directory / block_name(header), header)
            except FileExistsError:
                self._number += 1

    def _turn_off(self, why: str) -> None:
        if self.off is None:
            log.error("table_off", table=self.schema.table, why=why)
        self.off = why
        self._off_until = self._clock.boot() + RETRY_S

    # ---- retention ----

    def _finish(self) -> None:
        block = self._finishing.pop(0)
        self.clamped += block.clamped
        self.kept.append(Kept(block.path, block.size, self._clock.boot()))

    def _make_room(self) -> None:
        """Unlink the oldest blocks until one more would fit."""
        size = self._next_size()
        while self.kept and self._held + size > self.limits.max_bytes:
            self._drop_oldest()

    def _next_size(self) -> int:
        return shape_of(_header(self.schema, self._writer, 0, self._rows, self._room)).size

    def _drop_oldest(self) -> None:
        self._unlink(self.kept.popleft())

    def _unlink(self, kept: Kept) -> None:
        kept.path.unlink(missing_ok=True)
        self._unlinked.append((self._clock.boot() + self.limits.reader_s, kept.size))


def _header(schema: Schema, writer: Writer, number: int, rows: int, room: TextRoom) -> Header:
    return Header(schema, writer, number, rows, room.texts, room.heap, 0, 0)
