"""Tables of columns: rows come back as they were given, within the table's bounds, whatever the disk does."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.columns.block import RowBlock
from server.columns.layout import (
    CHUNK_ROWS,
    HEADER_BYTES,
    Column,
    NewerLayout,
    NotReady,
    Schema,
    Writer,
    decode_header,
    encode_header,
)
from server.columns.missing import is_whole, note_whole
from server.columns.reader import StoredRowBlock, paths
from server.columns.store import ColumnStore, look_through
from server.columns.table import RETRY_S, Kept, Table, TableLimits
from server.errors import Corrupt
from tests.support.session_parts import ManualClock

KILLS = Schema(
    "kills",
    (
        Column("time", "time"),
        Column("killer", "text"),
        Column("weapon", "text"),
        Column("small", "u8"),
        Column("code", "u16"),
        Column("distance", "u32"),
        Column("score", "i64"),
        Column("change", "i32"),
        Column("accuracy", "f64"),
    ),
)
BASE = 1_764_000_000_000
LIMITS = TableLimits(max_bytes=8 * 1024 * 1024, max_age_s=3_600, reader_s=10)


def row(number: int, killer: str | None = None) -> tuple[object, ...]:
    weapon = ("battle rifle", "sniper", "épée")[number % 3]
    return (
        BASE + number,
        killer or f"spartan-{number % 500}",
        weapon,
        number % 256,
        7,
        number,
        -number,
        -(number % 9),
        number / 3,
    )


def table(directory: Path, clock: ManualClock | None = None, limits: TableLimits = LIMITS) -> Table:
    return Table(directory, KILLS, Writer("alpha", 3), limits, clock or ManualClock())


def stored(directory: Path, *, verify: bool = True) -> list[tuple[object, ...]]:
    """The rows of every block, in the order in which they were written."""
    blocks = sorted((StoredRowBlock(path) for path in paths(directory)), key=lambda block: block.header.number)
    rows: list[tuple[object, ...]] = []
    for block in blocks:
        if verify:
            block.verify()
        texts = block.all_texts()
        columns: list[list[object]] = []
        for column in block.header.schema.columns:
            values = block.values(column.name).tolist()
            if column.type == "time":
                values = [block.header.base_ms + value for value in values]
            columns.append([texts[value] for value in values] if column.type == "text" else values)
        rows += zip(*columns, strict=True)
    return rows


def test_rows_come_back_over_several_blocks(tmp_path: Path) -> None:
    kills = table(tmp_path)
    given = [row(number) for number in range(40_000)]
    for first in range(0, len(given), 1_700):
        for each in given[first : first + 1_700]:
            kills.append(each)
        kills.tick()
    kills.close()
    assert stored(tmp_path) == given
    assert len(list(paths(tmp_path))) > 1
    assert (kills.written, kills.lost, kills.clamped) == (40_000, 0, 0)


def test_readers_see_what_was_written_a_tick_ago(tmp_path: Path) -> None:
    kills = table(tmp_path)
    seen = []
    for number in range(4):
        kills.append(row(number))
        kills.tick()
        seen.append(len(stored(tmp_path)))
    kills.tick()
    assert [*seen, len(stored(tmp_path))] == [0, 1, 2, 3, 4]


def test_block_that_is_open_grows_under_its_reader(tmp_path: Path) -> None:
    kills = table(tmp_path)
    kills.append(row(0))
    kills.tick()
    block = StoredRowBlock(next(iter(paths(tmp_path))))
    assert block.rows == 0
    kills.close()
    block.refresh()
    assert block.rows == 1 and block.values("distance").tolist() == [0] and block.span_ms() == (BASE, BASE)


def test_numbers_that_do_not_fit_are_the_nearest_that_do(tmp_path: Path) -> None:
    kills = table(tmp_path)
    kills.append(row(1))
    kills.append((BASE, "a", None, 300, -1, 2**40, 2**70, -(2**40), "not a number"))
    kills.append(row(2))
    kills.close()
    middle = stored(tmp_path)[1]
    assert middle == (BASE, "a", "", 255, 0, 2**32 - 1, 2**63 - 1, -(2**31), 0.0)
    kills = table(tmp_path)
    assert len(stored(tmp_path)) == 3


def test_values_that_all_rows_have_are_not_those_of_first_and_last(tmp_path: Path) -> None:
    kills, same, big = table(tmp_path), row(0), (*row(0)[:3], 300, *row(0)[4:])
    given = [same, row(1), same, *[same] * 5, row(2), same, same]
    for part in (given, [same] * 3, [big] * 3):
        for each in part:
            kills.append(each)
        kills.tick()
    kills.close()
    assert stored(tmp_path) == [*given, *[same] * 3, *[(*same[:3], 255, *same[4:])] * 3]
    assert kills._block is not None and kills._block.clamped == 3


def test_row_that_is_none_takes_no_others_along(tmp_path: Path) -> None:
    kills = table(tmp_path)
    kills.append(row(1))
    kills.append(("yesterday", *row(2)[1:]))
    kills.append((BASE, "too short"))
    kills.append(row(3))
    with capture_logs() as lines:
        kills.close()
    assert stored(tmp_path) == [row(1), row(3)] and kills.lost == 2
    assert [(line["event"], line["count"]) for line in lines] == [("rows_refused", 2)]


def test_texts_are_cut_between_characters(tmp_path: Path) -> None:
    kills = table(tmp_path)
    kills.append(row(1, "é" * 200))
    kills.append(row(2, "\ud800"))
    kills.close()
    assert [killer for _, killer, *_ in stored(tmp_path)] == ["é" * 127, "?"]


def test_each_row_may_bring_texts_of_its_own(tmp_path: Path) -> None:
    kills = table(tmp_path)
    given = [row(number, f"{number:0>40}") for number in range(9_000)]
    for each in given:
        kills.append(each)
    kills.close()
    assert stored(tmp_path) == given and kills.lost == 0


def test_clock_that_steps_back_begins_a_block(tmp_path: Path) -> None:
    kills = table(tmp_path)
    given = [(BASE + later, *row(number)[1:]) for number, later in enumerate((0, 5, 2, -10_000_000, -9_999_999, 7))]
    for each in given:
        kills.append(each)
    kills.close()
    assert stored(tmp_path) == given
    assert len(list(paths(tmp_path))) == 2


def test_bytes_stay_under_the_bound(tmp_path: Path) -> None:
    limits = TableLimits(max_bytes=1024 * 1024, max_age_s=3_600, reader_s=10)
    clock = ManualClock()
    kills = table(tmp_path, clock, limits)
    most = number = 0
    for _ in range(60):
        for _ in range(1_000):
            kills.append(row(number))
            number += 1
        kills.tick()
        clock.at += 5
        most = max(most, kills.size, sum(path.stat().st_size for path in paths(tmp_path)))
    kills.close()
    assert most <= limits.max_bytes
    assert kills.lost == 0 and kills.written == number
    rows = stored(tmp_path)
    assert rows == [row(each) for each in range(number - len(rows), number)] and len(rows) > 5_000


def test_blocks_that_readers_may_have_mapped_count(tmp_path: Path) -> None:
    limits = TableLimits(max_bytes=1024 * 1024, max_age_s=3_600, reader_s=1_000)
    kills = table(tmp_path, ManualClock(), limits)
    for number in range(60_000):
        kills.append(row(number))
        if not number % 1_000:
            kills.tick()
            assert kills.size <= limits.max_bytes
    kills.close()
    assert kills.lost > 0 and kills.written + kills.lost == 60_000


def test_old_blocks_go(tmp_path: Path) -> None:
    clock = ManualClock()
    kills = table(tmp_path, clock)
    earlier = tmp_path / "kills.2.0.0.block"
    earlier.write_bytes(b"a block of an earlier run")
    kills.adopt([Kept(earlier, 25, clock.boot() - 3_000)])
    kills.tick()
    assert earlier.exists() and kills.size == 25
    clock.at += 700
    kills.tick()
    assert not earlier.exists()
    clock.at += 11
    kills.tick()
    assert kills.size == 0


def test_full_disk_turns_the_table_off_and_room_on_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    clock = ManualClock()
    kills = table(tmp_path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_room)
        for number in range(10):
            kills.append(row(number))
            kills.tick()
    assert kills.off is not None and "No space left" in kills.off
    assert kills.lost == 10 and list(paths(tmp_path)) == []
    kills.append(row(10))
    kills.tick()
    assert kills.lost == 11
    clock.at += RETRY_S
    kills.append(row(11))
    kills.close()
    assert kills.off is None and stored(tmp_path) == [row(11)]


WRITER = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.unit.test_column_tables import row, table
from server.runtime.clock import SystemClock
kills = table(Path(sys.argv[1]), SystemClock())
number = 0
while True:
    for _ in range(777):
        kills.append(row(number))
        number += 1
    kills.tick()
    if number == 7770:
        print("writing", flush=True)
"""


def test_killed_writer_leaves_whole_rows(tmp_path: Path) -> None:
    script = WRITER.format(root=str(Path(__file__).parents[2]))
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
    rows = stored(tmp_path)
    first = (rows[0][5]) if rows else 0
    assert isinstance(first, int)
    assert len(rows) >= 6_000 and rows == [row(first + number) for number in range(len(rows))]


def test_run_of_another_database_with_the_same_number_is_no_obstacle(tmp_path: Path) -> None:
    for number in range(3):
        kills = table(tmp_path)
        kills.append(row(number))
        kills.close()
        assert kills.off is None
    assert stored(tmp_path) == [row(number) for number in range(3)]


async def test_texts_that_are_forgotten_are_in_no_block(tmp_path: Path) -> None:
    store = ColumnStore(tmp_path, [KILLS], LIMITS, ManualClock())
    await store.start(Writer("alpha", 1))
    for number in range(100):
        store.tables["kills"].append(row(number, "ann" if number == 50 else "bob"))
    store.close()
    store = ColumnStore(tmp_path, [KILLS], LIMITS, ManualClock())
    await store.start(Writer("alpha", 2))
    kills = store.tables["kills"]
    kills.append(row(1, "bob"))
    kills.tick()
    assert await store.forget("cyd") == 0
    assert await store.forget("ann") == 1, "the block of the earlier run"
    kills.append(row(2, "ann"))
    kills.tick()
    kills.append(row(3, "ann"))
    kills.append(row(4, "eve"))
    assert await store.forget("ann") == 1, "the block that is written"
    store.close()
    assert stored(tmp_path) == [row(4, "eve")]
    assert kills.size >= sum(path.stat().st_size for path in paths(tmp_path))


@pytest.mark.parametrize("place", ["column", "last rows", "offsets", "texts", "word"])
def test_flipped_byte_is_found(tmp_path: Path, place: str) -> None:
    kills = table(tmp_path)
    for number in range(CHUNK_ROWS + 10):
        kills.append(row(number))
    kills.close()
    path = next(iter(paths(tmp_path)))
    block = StoredRowBlock(path)
    shape = block.shape
    at = {
        "column": shape.columns[5] + 4 * 100,
        "last rows": shape.columns[5] + 4 * (CHUNK_ROWS + 3),
        "offsets": shape.offsets + 4 * 9,
        "texts": shape.heap + 3,
        "word": shape.word,
    }[place]
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt):
        StoredRowBlock(path).verify()


def test_only_a_plain_file_with_the_name_of_a_block_is_one(tmp_path: Path) -> None:
    kills = table(tmp_path)
    kills.append(row(0))
    kills.close()
    [path] = paths(tmp_path)
    (tmp_path / f"kills.9.0.0{path.suffix}").mkdir()
    (tmp_path / f"kills.9.0.1{path.suffix}").symlink_to(path)
    os.mkfifo(tmp_path / f"kills.9.0.2{path.suffix}")
    assert paths(tmp_path) == [path]


def test_bytes_behind_the_published_rows_are_nobodys_business(tmp_path: Path) -> None:
    kills = table(tmp_path)
    kills.append(row(0))
    kills.close()
    path = next(iter(paths(tmp_path)))
    data = bytearray(path.read_bytes())
    data[StoredRowBlock(path).shape.columns[5] + 4] ^= 1
    path.write_bytes(data)
    assert stored(tmp_path) == [row(0)]


def test_headers_that_are_not_ready_newer_or_damaged(tmp_path: Path) -> None:
    kills = table(tmp_path)
    kills.append(row(0))
    kills.close()
    whole = next(iter(paths(tmp_path))).read_bytes()[:HEADER_BYTES]
    with pytest.raises(NotReady):
        decode_header(encode_header(decode_header(whole)))
    with pytest.raises(NotReady):
        decode_header(whole[:100])
    newer = bytearray(whole)
    newer[8] = 9
    with pytest.raises(NewerLayout) as told:
        decode_header(bytes(newer))
    assert (told.value.table, told.value.version) == ("kills", 9)
    for at in range(0, 400, 7):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        with pytest.raises(Corrupt):
            decode_header(bytes(damaged))
    assert decode_header(whole).writer == Writer("alpha", 3)


def test_file_of_another_size_is_refused(tmp_path: Path) -> None:
    kills = table(tmp_path)
    kills.append(row(0))
    kills.close()
    path = next(iter(paths(tmp_path)))
    path.write_bytes(path.read_bytes()[:-HEADER_BYTES])
    with pytest.raises(Corrupt, match="its header says"):
        StoredRowBlock(path)


def test_block_is_never_made_twice(tmp_path: Path) -> None:
    kills = table(tmp_path)
    kills.append(row(0))
    kills.close()
    path = next(iter(paths(tmp_path)))
    with pytest.raises(FileExistsError):
        RowBlock(path, StoredRowBlock(path).header)
    assert stored(tmp_path) == [row(0)]


async def test_texts_are_forgotten_in_blocks_that_nobody_has_looked_through_yet(tmp_path: Path) -> None:
    old = ColumnStore(tmp_path, [KILLS], LIMITS, ManualClock())
    await old.start(Writer("alpha", 1))
    old.tables["kills"].append(row(1, "ann"))
    old.close()
    store = ColumnStore(tmp_path, [KILLS], LIMITS, ManualClock())
    store.begin(Writer("alpha", 2))
    forgotten = asyncio.create_task(store.forget("ann"))
    await asyncio.sleep(0)
    await store.look()
    assert await forgotten == 1 and stored(tmp_path) == []
    store.close()


def test_block_that_another_look_has_dropped_is_nothing_lost(tmp_path: Path) -> None:
    note_whole(tmp_path, "kills")
    gone = look_through([tmp_path / "kills.1.0.0.block"], [KILLS], "", 0.0)
    assert (gone.kept, gone.dropped) == ({}, {}) and is_whole(tmp_path, "kills")


async def test_heir_writes_files_of_its_own_beside_those_that_it_finds(tmp_path: Path) -> None:
    """Rows come before it has looked, and its own blocks are no find."""
    old = ColumnStore(tmp_path, [KILLS], LIMITS, ManualClock())
    await old.start(Writer("alpha", 1))
    old.tables["kills"].append(row(1))
    old.close()
    heir = ColumnStore(tmp_path, [KILLS], LIMITS, ManualClock())
    heir.begin(Writer("alpha", 1, 1))
    heir.tables["kills"].append(row(2))
    heir.tick()
    heir.tick()
    assert not heir.tables["kills"].kept
    await heir.look()
    assert [kept.path.name for kept in heir.tables["kills"].kept] == ["kills.1.0.0.block"]
    assert heir.found.rows == 1 and not heir.found.dropped
    assert sorted(path.name for path in paths(tmp_path)) == ["kills.1.0.0.block", "kills.1.1.0.block"]
    heir.close()


async def test_blocks_that_are_found_late_are_older_than_those_that_are_whole_by_then(tmp_path: Path) -> None:
    kills = table(tmp_path)
    for number in range(3 * kills._rows):
        kills.append(row(number))
    kills.close()
    kills.close()
    own = [kept.path for kept in kills.kept]
    assert own
    earlier = [tmp_path / f"kills.1.0.{number}.block" for number in range(2)]
    kills.adopt([Kept(path, 1, float(number)) for number, path in reversed(list(enumerate(earlier)))])
    assert [kept.path for kept in kills.kept] == [*earlier, *own]
