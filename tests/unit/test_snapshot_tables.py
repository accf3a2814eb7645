"""Snapshot tables: a reader finds a whole snapshot or the former one, whatever happens to the writer or the disk."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.catalog.census import KindCensus
from server.columns.layout import NotReady, Writer
from server.columns.reader import StoredRowBlock
from server.columns.snapshot import SnapshotTable, manifest_path, read_snapshot, unlink
from server.columns.store import ColumnStore
from server.columns.table import TableLimits
from server.columns.tables import schema
from server.errors import Corrupt
from server.ids import ActorId
from tests.support.session_parts import ManualClock

HERE = schema("here", name="text", place="text", number="u32")
LIMITS = TableLimits(max_bytes=8 * 1024 * 1024, max_age_s=3_600, reader_s=10)
RUN = Writer("alpha", 3)
Rows = list[tuple[Any, ...]]


def some(count: int, number: int = 0) -> Rows:
    return [(1_764_000_000_000 + at, f"spartan-{at}", ("Guardian", "The Pit")[at % 2], number) for at in range(count)]


def begun(
    directory: Path, clock: ManualClock | None = None, limits: TableLimits = LIMITS, writer: Writer = RUN
) -> SnapshotTable:
    table = SnapshotTable(directory, HERE, writer, limits, clock or ManualClock(), "boot")
    table.start()
    return table


def publish(table: SnapshotTable, rows: Rows, slice_rows: int = 300) -> None:
    snapshot = table.begin(len(rows))
    for first in range(0, len(rows), slice_rows):
        snapshot.add(rows[first : first + slice_rows])
    unlink(table.publish(snapshot))


def read(directory: Path) -> Rows:
    """The rows of the newest snapshot, in their order."""
    rows: Rows = []
    for block in read_snapshot(directory, HERE).blocks:
        block.verify()
        texts = block.all_texts()
        times = [block.header.base_ms + at for at in block.values("time").tolist()]
        named = [[texts[at] for at in block.values(name).tolist()] for name in ("name", "place")]
        rows += zip(times, *named, block.values("number").tolist(), strict=True)
    return rows


def files(directory: Path) -> int:
    return len(list(directory.glob("*.rows")))


@pytest.mark.parametrize("count", [0, 1, 257, 20_000])
def test_snapshot_comes_back_whole_once_it_is_published(tmp_path: Path, count: int) -> None:
    table = begun(tmp_path)
    assert read(tmp_path) == []
    snapshot = table.begin(count)
    for first in range(0, count, 256):
        snapshot.add(some(count)[first : first + 256])
        assert read(tmp_path) == []
    assert table.publish(snapshot) == []
    assert read(tmp_path) == some(count)
    publish(table, some(5, number=2))
    assert read(tmp_path) == some(5, number=2)
    assert files(tmp_path) == 1


def test_snapshot_says_its_age_by_the_boot_clock(tmp_path: Path) -> None:
    clock = ManualClock()
    table = begun(tmp_path, clock)
    clock.at += 5
    snapshot = table.begin(1)
    clock.at += 2
    snapshot.add(some(1))
    table.publish(snapshot)
    manifest = read_snapshot(tmp_path, HERE).manifest
    assert manifest.age_ms("boot", clock.boot()) == 2_000
    assert manifest.age_ms("another", clock.boot()) == 0


def test_overtaken_reader_reads_the_newer_one_and_keeps_what_it_has_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = begun(tmp_path)
    publish(table, some(1_000, number=1))
    mapped = read_snapshot(tmp_path, HERE).blocks
    opened = 0

    class Overtaken(StoredRowBlock):
        def __init__(self, path: Path) -> None:
            nonlocal opened
            opened += 1
            if opened == 2:  # between its first block and its second
                publish(table, some(700, number=2))
            super().__init__(path)

    monkeypatch.setattr("server.columns.snapshot.StoredRowBlock", Overtaken)
    blocks = read_snapshot(tmp_path, HERE).blocks
    assert {*blocks[0].values("number").tolist()} == {2} and sum(block.rows for block in blocks) == 700
    assert sum(block.rows for block in mapped) == 1_000 and {*mapped[-1].values("number").tolist()} == {1}


WRITE = """
import sys
from pathlib import Path
from tests.unit.test_snapshot_tables import begun, publish, some
from server.runtime.clock import SystemClock
from server.columns.layout import Writer
table = begun(Path(sys.argv[1]), SystemClock(), writer=Writer("alpha", int(sys.argv[2])))
number = 0
print("ready", flush=True)
while True:
    number += 1
    publish(table, some(400 + 300 * (number % 3), number))
"""


def test_killed_writer_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    for incarnation in (2, 3):
        seen: set[int] = set()
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(tmp_path), str(incarnation)], stdout=subprocess.PIPE
        )
        try:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
            while len(seen) < 12:
                seen.add(whole_number(tmp_path))
        finally:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
        assert whole_number(tmp_path) >= max(seen)
    begun(tmp_path, writer=Writer("alpha", 3, 1))
    assert whole_number(tmp_path) >= max(seen)  # a successor of that run goes on with it
    begun(tmp_path, writer=Writer("alpha", 4))
    assert read(tmp_path) == [] and not files(tmp_path)  # in the next run nothing lives yet


def whole_number(directory: Path) -> int:
    rows = read(directory)
    number = rows[0][3] if rows else 0
    assert rows == (some(400 + 300 * (number % 3), number) if rows else [])
    return int(number)


def test_table_stays_within_its_bytes_and_counts_what_is_left_out(tmp_path: Path) -> None:
    clock, limits = ManualClock(), TableLimits(max_bytes=512 * 1024, max_age_s=1e9, reader_s=10)
    table = begun(tmp_path, clock, limits)
    for number in range(6):
        publish(table, some(8_000, number))
        assert table.size <= limits.max_bytes
        manifest = read_snapshot(tmp_path, HERE).manifest
        assert manifest.rows + manifest.left_out == 8_000
        assert read(tmp_path) == some(8_000, number)[: manifest.rows]
        clock.at += 11
    assert 0 < manifest.left_out < 8_000
    assert not table.off


def test_next_snapshot_waits_for_the_room_of_what_readers_may_have(tmp_path: Path) -> None:
    clock, limits = ManualClock(), TableLimits(max_bytes=700 * 1024, max_age_s=1e9, reader_s=10)
    table = begun(tmp_path, clock, limits)
    publish(table, some(4_000))
    assert table.has_room
    publish(table, some(4_000))
    assert not table.has_room
    clock.at += 11
    assert table.has_room
    publish(table, some(4_000))
    assert len(read(tmp_path)) == 4_000


def test_disk_that_takes_no_blocks_leaves_the_former_snapshot(tmp_path: Path) -> None:
    table = begun(tmp_path)
    publish(table, some(10, number=1))
    tmp_path.chmod(0o500)
    away = tmp_path.with_name("away")
    tmp_path.rename(away)  # root writes where it may not
    publish(table, some(10, number=2))
    assert table.off
    away.rename(tmp_path)
    tmp_path.chmod(0o700)
    assert read(tmp_path) == some(10, number=1)
    publish(table, some(10, number=3))
    assert not table.off and read(tmp_path) == some(10, number=3) and files(tmp_path) == 1


async def test_table_of_a_process_that_is_succeeded_writes_nothing_more(tmp_path: Path) -> None:
    """The walk under way goes nowhere, also once it ends; the heir keeps what there is, until its own first one."""
    store = ColumnStore(tmp_path, (), LIMITS, ManualClock(), (HERE,))
    await store.start(RUN)
    table = store.snapshots["here"]
    publish(table, some(5, number=1))
    under_way = table.begin(600)
    under_way.add(some(600, number=2))
    store.close()
    heir = begun(tmp_path, writer=Writer("alpha", 3, 1))
    under_way.add(some(10, number=2))
    assert table.publish(under_way) == [] and not table.has_room
    assert read(tmp_path) == some(5, number=1) and files(tmp_path) == 1
    publish(heir, some(6, number=3))
    assert read(tmp_path) == some(6, number=3) and files(tmp_path) == 1
    store.go_on()
    assert table.has_room


def test_row_that_is_none_takes_no_other_along(tmp_path: Path) -> None:
    table = begun(tmp_path)
    rows = some(10)
    publish(table, [*rows[:4], (1,), *rows[4:], ("when", "x", "y", 1)])
    assert sorted(read(tmp_path)) == rows
    assert read_snapshot(tmp_path, HERE).manifest.left_out == 2


async def test_forgotten_text_is_in_no_snapshot(tmp_path: Path) -> None:
    store = ColumnStore(tmp_path, (), LIMITS, ManualClock(), (HERE,))
    await store.start(RUN)
    table = store.snapshots["here"]
    publish(table, some(3_000))
    assert await store.forget("somebody else") == 0
    assert len(read(tmp_path)) == 3_000
    open_one = table.begin(600)
    open_one.add(some(300))
    assert await store.forget("spartan-2999") > 0  # in the published one only
    with pytest.raises(NotReady):
        read_snapshot(tmp_path, HERE)
    assert await store.forget("spartan-7") > 0  # in the one that is written
    open_one.add(some(600))
    assert table.publish(open_one) == [] and not files(tmp_path)
    publish(table, some(5))
    assert len(read(tmp_path)) == 5


def test_damaged_manifest_is_none(tmp_path: Path) -> None:
    table = begun(tmp_path)
    publish(table, some(3))
    path = manifest_path(tmp_path, "here")
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 5):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(Corrupt):
            read_snapshot(tmp_path, HERE)
    path.write_bytes(data)
    next(tmp_path.glob("*.rows")).unlink()
    with pytest.raises(Corrupt, match="lacks blocks"):
        read_snapshot(tmp_path, HERE)


def test_census_shows_each_name_once_while_others_come_and_go() -> None:
    rng, census = random.Random(8), KindCensus()
    names = [ActorId(f"player/{number}") for number in range(6_000)]
    stay = set(names[:2_000])
    for name in names[:4_000]:
        census.add(name)
    for _ in range(3):
        seen: list[ActorId] = []
        for part in census.walk(100):
            seen += part
            for name in rng.sample(names, 50):
                if name not in stay:
                    rng.choice((census.add, census.remove))(name)
        assert len(seen) == len(set(seen)) and stay <= set(seen)
    for name in names:
        census.remove(name)
    assert not len(census) and not list(census.walk(1))
