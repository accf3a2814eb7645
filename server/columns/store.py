"""The columns of a node: its tables in one directory of shared memory, which outlives the process.

    DIRECTORY/CLUSTER/NODE/TABLE.INCARNATION.GENERATION.NUMBER.block

A process of a run writes files of its own and never those of a process before it (`block.py`: a block has one
writer). What earlier ones left is looked through in a thread: a block that is whole is kept, as the oldest of its
table; a damaged one, and one of a layout or a table that this program does not have, is named in the log with the time
that is lost with it, and dropped. That takes as long as reading all of it, so the first rows come meanwhile.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from server.columns.layout import NewerLayout, NotReady, Schema, Writer
from server.columns.missing import note_lost
from server.columns.reader import StoredRowBlock, paths
from server.columns.snapshot import SnapshotTable
from server.columns.table import Kept, Table, TableLimits
from server.errors import Corrupt
from server.runtime.clock import Clock

log = structlog.get_logger(__name__)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class FoundBlocks(NamedTuple):
    """Blocks of earlier runs: those to keep by table, rows in them, and those that were dropped, with the reason."""

    kept: dict[str, list[Kept]]
    rows: int
    dropped: dict[str, str]


class ColumnStore:
    """See the module's head. `start` before anything else."""

    def __init__(
        self,
        directory: Path,
        schemas: Sequence[Schema],
        limits: TableLimits,
        clock: Clock,
        snapshots: Sequence[Schema] = (),
    ) -> None:
        names = [schema.table for schema in (*schemas, *snapshots)]
        assert len(set(names)) == len(names), "two tables of columns have one name"
        self.directory = directory
        self.schemas, self._limits, self._clock = schemas, limits, clock
        self.snapshot_schemas = snapshots
        self.tables: dict[str, Table] = {}
        self.snapshots: dict[str, SnapshotTable] = {}
        self.not_reloaded = ""
        """The reason why rows that were lost and could be had again are not; empty where there is none."""
        self.found = FoundBlocks({}, 0, {})
        self._left: list[Path] = []
        """Files that were there before the first of this process."""
        self._looked = asyncio.Event()
        self._looked.set()

    async def start(self, writer: Writer) -> None:
        """Begin tables for the run `writer`, and look through what is there."""
        self.begin(writer)
        await self.look()

    async def look(self) -> None:
        """Look through what was there before `begin`; rows may come meanwhile."""
        left, self._left = self._left, []
        try:
            self.found = await asyncio.to_thread(look_through, left, self.schemas, boot_id(), self._clock.boot())
        except OSError as error:
            log.error("columns_unreadable", directory=str(self.directory), why=str(error))
        for name, why in self.found.dropped.items():
            log.warning("column_block_dropped", block=name, why=why)
        for schema in self.schemas:
            self.tables[schema.table].adopt(self.found.kept.get(schema.table, ()))
        self._looked.set()

    def begin(self, writer: Writer) -> None:
        """Begin tables for the process `writer`. A directory that cannot be made turns every table off, which each says
        at its first row."""
        boot = boot_id()
        try:
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._left = list(paths(self.directory))
            self._looked.clear()
        except OSError as error:
            log.error("columns_unreadable", directory=str(self.directory), why=str(error))
        for schema in self.schemas:
            self.tables[schema.table] = Table(self.directory, schema, writer, self._limits, self._clock, boot)
        for schema in self.snapshot_schemas:
            snapshot = SnapshotTable(self.directory, schema, writer, self._limits, self._clock, boot)
            try:
                snapshot.start()
            except OSError as error:
                log.error("snapshot_off", table=schema.table, why=str(error))
            self.snapshots[schema.table] = snapshot

    async def forget(self, text: str) -> int:
        """Let go of every row block in which `text` is the value of a row; the other rows of it go as well. Returns how
        many went. What is appended meanwhile may name it again."""
        await self._looked.wait()  # before that, blocks of earlier processes are not among those of the tables
        kept = [block.path for table in self.tables.values() for block in table.kept]
        named = await asyncio.to_thread(_with_text, kept, text)
        gone = sum(table.forget(text, named) for table in self.tables.values())
        return gone + sum([await snapshot.forget(text) for snapshot in self.snapshots.values()])

    def tick(self) -> None:
        """Publish what the last tick wrote, and write what has come since."""
        for table in self.tables.values():
            table.tick()

    def close(self) -> None:
        """Publish everything; the blocks stay for the next run. Snapshots stay as they are."""
        for table in self.tables.values():
            table.close()
        for snapshot in self.snapshots.values():
            snapshot.rest()

    def go_on(self) -> None:
        """Undo `close`."""
        for snapshot in self.snapshots.values():
            snapshot.go_on()

    @property
    def size(self) -> int:
        """Bytes of all tables."""
        return sum(table.size for table in self._all())

    @property
    def rows_written(self) -> int:
        """Rows of this run that are in blocks."""
        return sum(table.written for table in self.tables.values())

    @property
    def rows_lost(self) -> int:
        """Rows of this run that found no place."""
        return sum(table.lost for table in self.tables.values())

    def off(self) -> str:
        """The reason why tables take no rows, or get none of those back that they lost; empty while all is well."""
        found = [f"{table.schema.table} is off: {table.off}" for table in self._all() if table.off]
        found += [f"events are not reloaded: {self.not_reloaded}"] if self.not_reloaded else []
        return "; ".join(found)

    def _all(self) -> list[Table | SnapshotTable]:
        return [*self.tables.values(), *self.snapshots.values()]


def look_through(left: Sequence[Path], schemas: Sequence[Schema], boot: str, now: float) -> FoundBlocks:
    """Check the blocks of earlier runs, and unlink those that are of no use. `now`: the boot clock."""
    known = {schema.table: schema for schema in schemas}
    kept: dict[str, list[Kept]] = {}
    dropped: dict[str, str] = {}
    rows = 0
    for path in left:
        try:
            block = StoredRowBlock(path)
            block.verify()
            header = block.header
            if known.get(header.schema.table) != header.schema:
                raise Corrupt(f"has columns of table {header.schema.table} that this program does not have")
            if not block.rows:
                raise NotReady("has no rows")
        except (NotReady, FileNotFoundError):  # a look of the run before may still be under way
            path.unlink(missing_ok=True)
        except (Corrupt, OSError) as error:
            since = f", rows since {error.base_ms} (Unix ms) are lost" if isinstance(error, NewerLayout) else ""
            dropped[path.name] = f"{getattr(error, 'message', error)}{since}"
            note_lost(path.parent, path.name.partition(".")[0])
            path.unlink(missing_ok=True)
        else:
            rows += block.rows
            kept.setdefault(header.schema.table, []).append(Kept(path, block.size, _until(block, boot, now)))
    return FoundBlocks(kept, rows, dropped)


def _with_text(paths_of_blocks: Sequence[Path], text: str) -> set[Path]:
    """Paths of blocks that have `text`, and those that cannot be read."""
    found: set[Path] = set()
    for path in paths_of_blocks:
        try:
            if text in StoredRowBlock(path).all_texts():
                found.add(path)
        except FileNotFoundError:
            continue
        except (Corrupt, OSError):
            found.add(path)
    return found


def _until(block: StoredRowBlock, boot: str, now: float) -> float:
    """The boot clock when the block's last row came: by its rows' times after its base, where it is of this boot. The
    wall clock may have been set meanwhile, the time between two rows is right all the same."""
    span = block.span_ms()
    assert span is not None, "a block without rows is not kept"
    if block.header.boot_id != boot:
        return now
    return min(now, (block.header.boot_ms + span[1] - block.header.base_ms) / 1000)


def boot_id() -> str:
    """The name of the machine's boot, by which its boot clock counts; empty where it cannot be read."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
