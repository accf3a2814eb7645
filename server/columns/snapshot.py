"""Snapshot tables: not a past, but what lives on a node now, taken anew each so many seconds.

    DIRECTORY/TABLE.INCARNATION.GENERATION.NUMBER.PART.rows    row blocks of one snapshot
    DIRECTORY/TABLE.manifest                                   the newest snapshot that is whole, and its blocks

A snapshot is written in slices while the node goes on. It counts once its manifest has replaced the former one, which
is one rename: a reader finds the whole of it or the whole of the one before, also after kill -9. Blocks of the former
one are unlinked after that; a reader that has read the old manifest and comes too late for them reads the manifest
again (copies with one root that is replaced last, as in shadow paging; Lorie, 1977).

A snapshot belongs to its run: the next run begins with an empty one, since nothing lives in it yet. One that is
held up keeps its age, which readers say: it is counted from the moment at which the snapshot was begun.
"""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog
from msgspec.structs import replace
from xxhash import xxh3_64_hexdigest

from server.columns.block import RefusedRow, Row, RowBlock, RowBlockFull
from server.columns.layout import MAX_TEXTS, Header, NotReady, Schema, Writer, shape_of
from server.columns.reader import StoredRowBlock
from server.columns.table import EARLIER_MS, MIN_HEAP_BYTES, MIN_TEXTS, TableLimits, TextRoom
from server.errors import Corrupt
from server.runtime.clock import Clock

ROWS_SUFFIX: Final = ".rows"
MANIFEST_SUFFIX: Final = ".manifest"
MIN_ROWS: Final = 256
MAX_ROWS: Final = 16_384
"""Rows of a block: making one takes a part of a millisecond."""
BLOCKS: Final = 8
"""Blocks of a snapshot that is as large as the one before it, about."""
TEXTS_A_ROW: Final = 1.25
TEXT_BYTES: Final = 20
"""Place for texts in the first block: nearly each row has one of its own, its key."""
ATTEMPTS: Final = 8
"""How often a reader begins anew that was overtaken."""
_CHECK_BYTES: Final = 16

log = structlog.get_logger(__name__)


class Manifest(msgspec.Struct, frozen=True):
    """A whole snapshot. `left_out`: what lives there too and found no place. `boot_ms`: the boot clock's when it was
    begun, of the boot `boot_id`."""

    table: str
    writer: Writer
    number: int
    blocks: list[str]
    rows: int
    left_out: int
    boot_ms: int
    boot_id: str

    def age_ms(self, boot_id: str, boot_s: float) -> int:
        """Milliseconds since it was begun, for who reads at `boot_s` by the boot clock of the boot `boot_id`."""
        return max(0, int(1000 * boot_s) - self.boot_ms) if boot_id == self.boot_id else 0


class WholeSnapshot(NamedTuple):
    """A snapshot as a reader has it: its blocks stay mapped as long as these objects are kept."""

    manifest: Manifest
    blocks: list[StoredRowBlock]


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Manifest).decode


def manifest_path(directory: Path, table: str) -> Path:
    return directory / f"{table}{MANIFEST_SUFFIX}"


def read_manifest(directory: Path, table: str) -> Manifest:
    """The manifest of the newest whole snapshot. Raises `NotReady` where there is none, `Corrupt`, `OSError`."""
    try:
        data = manifest_path(directory, table).read_bytes()
    except FileNotFoundError:
        raise NotReady("no snapshot was taken yet") from None
    check, body = data[:_CHECK_BYTES], data[_CHECK_BYTES:]
    if xxh3_64_hexdigest(body).encode() != check:
        raise Corrupt("the manifest of the snapshot is damaged")
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        raise Corrupt(f"the manifest of the snapshot says nonsense: {error}") from None


def read_snapshot(directory: Path, schema: Schema) -> WholeSnapshot:
    """The newest whole snapshot of a table. Raises `NotReady` where there is none, `Corrupt`, `OSError`."""
    before = None
    for _ in range(ATTEMPTS):
        manifest = read_manifest(directory, schema.table)
        if manifest == before:
            raise Corrupt("the snapshot lacks blocks that its manifest names")
        before = manifest
        try:
            blocks = [StoredRowBlock(directory / name) for name in manifest.blocks]
        except FileNotFoundError:
            continue
        if any(block.header.schema != schema for block in blocks):
            raise Corrupt("the snapshot has other columns than this program's table")
        if sum(block.rows for block in blocks) != manifest.rows:
            raise Corrupt("the snapshot has other rows than its manifest says")
        return WholeSnapshot(manifest, blocks)
    raise NotReady("snapshots are replaced faster than they can be read")


class SnapshotTable:
    """The writer's side: `begin`, `OpenSnapshot.add` slice by slice, `publish`. See the module's head."""

    def __init__(
        self, directory: Path, schema: Schema, writer: Writer, limits: TableLimits, clock: Clock, boot_id: str = ""
    ) -> None:
        self.schema, self.limits = schema, limits
        self._directory, self._writer, self._clock, self._boot_id = directory, writer, clock, boot_id
        self._manifest: Manifest | None = None
        self._size = 0
        """Bytes of the blocks that the manifest names."""
        self._open: OpenSnapshot | None = None
        self._unlinked: deque[tuple[float, int]] = deque()
        self._number = 0
        self.room = TextRoom()
        self._resting = False
        self.off: str | None = None
        """The reason why no snapshot could be written the last time; None: there is none."""

    @property
    def rows(self) -> int:
        """Rows of the newest whole snapshot."""
        return self._manifest.rows if self._manifest is not None else 0

    @property
    def size(self) -> int:
        """Bytes of the blocks that are there or may still be mapped."""
        now = self._clock.boot()
        while self._unlinked and self._unlinked[0][0] <= now:
            self._unlinked.popleft()
        open_bytes = self._open.size if self._open is not None else 0
        return self._size + open_bytes + sum(size for _, size in self._unlinked)

    @property
    def has_room(self) -> bool:
        """True if a snapshot as large as the one before would fit now, or waiting makes no more room."""
        if self._resting:
            return False
        return self.size + self._size <= self.limits.max_bytes or not self._unlinked

    def start(self) -> None:
        """Begin a run. A process that was the same run before (a successor has its incarnation) leaves its snapshot;
        what others have left is unlinked, and the snapshot is an empty one. Raises `OSError`."""
        try:
            found = read_manifest(self._directory, self.schema.table)
        except Corrupt:
            found = None
        mine = found is not None and (found.writer.node, found.writer.incarnation) == (
            self._writer.node,
            self._writer.incarnation,
        )
        self._manifest = found if mine else None
        named = set(self._manifest.blocks) if self._manifest is not None else set()
        if self._manifest is None:
            self._replace(self._empty())
        else:
            self._number = self._manifest.number
        for path in self._directory.glob(f"{self.schema.table}.*{ROWS_SUFFIX}"):
            if path.name in named:
                self._size += path.stat().st_size
            else:
                path.unlink(missing_ok=True)

    def rest(self) -> None:
        """Take no snapshot until `go_on`, and drop the one under way: the files are another process's now."""
        self.drop()
        self._resting = True

    def go_on(self) -> None:
        """Undo `rest`."""
        self._resting = False

    def begin(self, expected: int) -> "OpenSnapshot":
        """Begin a snapshot of about so many rows. One that was begun before is dropped."""
        self.drop()
        self._number += 1
        self._open = OpenSnapshot(self, self._number, expected)
        return self._open

    def publish(self, snapshot: "OpenSnapshot") -> list[Path]:
        """Let `snapshot` replace the former one. Returns the files that are to be unlinked: their bytes count until
        `limits.reader_s` from now. One that was dropped, or could not be written, changes nothing."""
        if snapshot is not self._open:
            return []
        if snapshot.failed:
            self._turn_off(snapshot.failed)
            self.drop()
            return []
        try:
            blocks = snapshot.seal()
            manifest = replace(
                self._empty(),
                number=snapshot.number,
                blocks=[block.path.name for block in blocks],
                rows=sum(block.rows for block in blocks),
                left_out=snapshot.left_out,
                boot_ms=snapshot.begun_ms,
            )
            former = self._manifest
            self._replace(manifest)
        except OSError as error:
            self._turn_off(f"{type(error).__name__}: {error}")
            self.drop()
            return []
        self.off = None
        self._open = None
        if self._size:
            self._let_go(self._size)
        self._size = snapshot.size
        return [self._directory / name for name in (former.blocks if former is not None else ())]

    def drop(self) -> None:
        """Give up the snapshot that was begun, if there is one, with its files."""
        dropped, self._open = self._open, None
        if dropped is not None:
            dropped.dropped = True
            unlink([block.path for block in dropped.blocks])

    async def forget(self, text: str) -> int:
        """Let go of the snapshot in which `text` is the value of a row, and of the one that is written, whole; the next
        one is taken as ever. Returns how many blocks went."""
        while True:
            manifest = self._manifest
            found = manifest is not None and await asyncio.to_thread(self._names, text)
            if self._manifest is manifest:
                break  # otherwise the next one has been published meanwhile, which may name it too
        gone = 0
        if self._open is not None and any(block.has(text) for block in self._open.blocks):
            gone += len(self._open.blocks)
            self.drop()
        if manifest is None or not found:
            return gone
        unlink([manifest_path(self._directory, self.schema.table)])
        unlink([self._directory / name for name in manifest.blocks])
        self._let_go(self._size)
        self._manifest, self._size = None, 0
        return gone + len(manifest.blocks)

    def _names(self, text: str) -> bool:
        try:
            return any(text in block.all_texts() for block in read_snapshot(self._directory, self.schema).blocks)
        except (Corrupt, OSError):
            return True

    # ---- for the snapshot that is written ----

    def new_block(self, number: int, part: int, rows: int, base_ms: int) -> RowBlock | None:
        """An empty block; None where the table has no room for it. Raises `OSError`."""
        header = Header(
            self.schema, self._writer, part, rows, self.room.texts, self.room.heap, base_ms,
            int(1000 * self._clock.boot()), self._boot_id,
        )  # fmt: skip
        if self.size + shape_of(header).size > self.limits.max_bytes:
            return None
        writer = self._writer
        name = f"{self.schema.table}.{writer.incarnation}.{writer.generation}.{number}.{part}{ROWS_SUFFIX}"
        path = self._directory / name
        path.unlink(missing_ok=True)  # left by a run of another database that had this number
        return RowBlock(path, header)

    def boot_ms(self) -> int:
        """The boot clock."""
        return int(1000 * self._clock.boot())

    # ---- files ----

    def _empty(self) -> Manifest:
        """A snapshot in which nothing lives, of this moment."""
        return Manifest(self.schema.table, self._writer, 0, [], 0, 0, self.boot_ms(), self._boot_id)

    def _replace(self, manifest: Manifest) -> None:
        body = _encode(manifest)
        path = manifest_path(self._directory, self.schema.table)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(xxh3_64_hexdigest(body).encode() + body)
        os.replace(fresh, path)
        self._manifest = manifest

    def _let_go(self, size: int) -> None:
        self._unlinked.append((self._clock.boot() + self.limits.reader_s, size))

    def _turn_off(self, why: str) -> None:
        if self.off is None:
            log.error("snapshot_off", table=self.schema.table, why=why)
        self.off = why


class OpenSnapshot:
    """A snapshot that is being written, seen by nobody yet."""

    def __init__(self, table: SnapshotTable, number: int, expected: int) -> None:
        self.number = number
        self._table = table
        self._rows = MIN_ROWS
        while self._rows < min(MAX_ROWS, expected / BLOCKS):
            self._rows *= 2
        if table.room == TextRoom():
            texts = max(MIN_TEXTS, min(MAX_TEXTS, int(TEXTS_A_ROW * self._rows)))
            table.room = TextRoom(texts, max(MIN_HEAP_BYTES, TEXT_BYTES * texts))
        self.begun_ms = table.boot_ms()
        self.blocks: list[RowBlock] = []
        self.left_out = 0
        self.dropped = False
        """True once the table has given it up: what is added then goes nowhere."""
        self.failed = ""
        self._full = False

    @property
    def size(self) -> int:
        return sum(block.size for block in self.blocks)

    def add(self, rows: list[Row]) -> None:
        """Write `rows`. Those that find no place are left out, and counted."""
        left = [rows] if rows and not self.dropped else []
        while left:
            part = left.pop()
            if self.failed or self._full or not (self.blocks or self._next(part[0])):
                self.left_out += len(part)
                continue
            block = self.blocks[-1]
            try:
                left += block.put(part)
            except RowBlockFull:
                if block.rows and self._next(part[0]):
                    left.append(part)
                else:
                    self.left_out += len(part)  # there is no room, or for this row in no block
            except RefusedRow as error:
                self.left_out += 1
                log.error("row_refused", table=block.header.schema.table, error=str(error))

    def seal(self) -> list[RowBlock]:
        """Publish the rows of every block. Returns the blocks."""
        for block in self.blocks:
            _seal(block)
        return self.blocks

    def _next(self, row: Row) -> bool:
        table = self._table
        if self.blocks:
            last = self.blocks[-1]
            _seal(last)  # now, not all of them in the moment of publishing
            table.room = table.room.after(*last.texts_used, last.texts_full)
        try:
            base_ms = int(row[0]) - EARLIER_MS
            block = table.new_block(self.number, len(self.blocks), self._rows, base_ms)
        except (OSError, ValueError, TypeError, OverflowError) as error:
            self.failed = f"{type(error).__name__}: {error}"
            return False
        if block is None:
            self._full = True
            return False
        self.blocks.append(block)
        return True


def _seal(block: RowBlock) -> None:
    while not block.whole:
        block.tick()


def unlink(paths: Sequence[Path]) -> None:
    """Unlink files of a former snapshot."""
    for path in paths:
        path.unlink(missing_ok=True)
