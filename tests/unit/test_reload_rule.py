"""Which rows of events a node loads from the store again, and their times; rows of a stored log; room for them."""

from pathlib import Path

import numpy as np
import pytest

from game import messages as m
from game.columns import EVENTS, RECORDED
from server.actors.recorded import RecordedEvents
from server.cli.reload import alone
from server.columns import missing
from server.columns.layout import Writer
from server.columns.reader import StoredRowBlock, paths
from server.columns.store import look_through
from server.columns.table import Kept, Table, TableLimits
from server.errors import Unavailable
from server.eventlog import segment
from server.eventlog.entry import Entry, Record, encode_entry
from server.eventlog.ports import Chunk
from server.ids import ActorId
from server.reloads.loader import FIRST_NUMBER, BlockWriter, ReloadLimits, TableLoader, held_events, parts
from server.reloads.reader import RowReader
from server.reloads.rule import HeldEvents, LostSpan, Reckoning, RecordedSpan, without
from tests.support.virtual_time import LoopClock

NOW_MS = 1_800_000_000_000
MATCHES = next(each for each in RECORDED if isinstance(each, RecordedEvents))


def held(*rows: tuple[str, int]) -> HeldEvents:
    texts = ["", *dict.fromkeys(key for key, _ in rows)]
    found = HeldEvents()
    keys = np.array([texts.index(key) for key, _ in rows], np.uint16)
    found.add(keys, np.array([seq for _, seq in rows], np.uint32), texts)
    return found


@pytest.mark.parametrize(
    ("ranges", "left"),
    [
        ([], [(3, 9)]),
        ([(1, 2), (10, 20)], [(3, 9)]),
        ([(1, 3)], [(4, 9)]),
        ([(5, 6)], [(3, 4), (7, 9)]),
        ([(7, 9), (3, 4), (4, 5)], [(6, 6)]),
        ([(1, 20)], []),
    ],
)
def test_a_range_without_others(ranges: list[tuple[int, int]], left: list[tuple[int, int]]) -> None:
    assert without((3, 9), ranges) == left


def test_events_that_blocks_hold_are_not_lost() -> None:
    rows = held(*[("a", seq) for seq in (4, 2, 3, 9)], ("b", 1))
    assert rows.lost(RecordedSpan("a", 1, 10, 0)).ranges == [(1, 1), (5, 8), (10, 10)]
    assert rows.lost(RecordedSpan("b", 1, 1, 0)) == LostSpan(RecordedSpan("b", 1, 1, 0), [])
    assert rows.lost(RecordedSpan("c", 2, 3, 0)).rows == 2


def test_times_are_reckoned_from_what_events_say_of_themselves() -> None:
    reckoning = Reckoning(1_000, 50_000)
    assert [reckoning.time(clock, told) for clock, told in ((7, 0), (10, 0), (10, 20_000), (40, 0), (30, 0))] == [
        1_000, 1_003, 20_000, 20_030, 20_030,
    ]  # fmt: skip
    assert reckoning.time(99_000, 0) == 50_000  # never in the future


# ---- rows of a stored log ----


def log_of(events: int, name: str = "Guardian") -> list[Entry]:
    options = m.MatchOptions(mode="slayer", map_name=name)
    found = [m.Created(0, "h", options, NOW_MS - 60_000), m.Joined(0, "ann", 0, 1), m.Started(0, NOW_MS - 50_000)]
    found += [m.Medal(100 * number, "ann", f"Medal {number}") for number in range(1, events - 2)]
    return [encode_entry(Record(seq, event)) for seq, event in enumerate(found, 1)]


def chunks_of(entries: list[Entry], size: int = 4) -> list[Chunk]:
    parts = [entries[at : at + size] for at in range(0, len(entries), size)]
    return [Chunk(part[0].seq, part[-1].seq, False, segment.encode_open(part)) for part in parts]


def test_rows_of_a_span_are_those_that_were_recorded() -> None:
    entries = log_of(12)
    reader = RowReader(MATCHES, 0, NOW_MS)
    chunks = chunks_of(entries)
    found = reader.rows(LostSpan(RecordedSpan("m1", 1, 12, 0), [(1, 12)]), chunks[:1], chunks)
    assert (len(found.rows), found.damaged) == (12, 0)
    time_ms, *values = found.rows[4]
    assert time_ms == NOW_MS - 50_000 + 200
    assert values == ["m1", "Guardian", "slayer", "medal", "ann", "", "Medal 2", 5, 200, 0]
    part = reader.rows(LostSpan(RecordedSpan("m1", 6, 12, NOW_MS - 9_000), [(7, 8), (11, 11)]), chunks[:1], chunks[1:])
    assert [row[8] for row in part.rows] == [7, 8, 11] and part.rows[0][2] == "Guardian"
    assert part.rows[0][0] == NOW_MS - 9_000 + 100  # by when the activation began, and by the clock since then


def test_rows_that_are_too_old_stay_away() -> None:
    chunks = chunks_of(log_of(12))
    reader = RowReader(MATCHES, NOW_MS - 50_000 + 350, NOW_MS)
    found = reader.rows(LostSpan(RecordedSpan("m1", 1, 12, 0), [(1, 12)]), chunks[:1], chunks)
    assert [row[8] for row in found.rows] == [7, 8, 9, 10, 11, 12] and found.damaged == 0


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_damaged_chunk_takes_no_other_along(place: int) -> None:
    chunks = chunks_of(log_of(12))
    damaged = bytearray(chunks[place].data)
    damaged[-3] ^= 1
    bad = [*chunks]
    bad[place] = Chunk(bad[place].first_seq, bad[place].last_seq, False, bytes(damaged))
    found = RowReader(MATCHES, 0, NOW_MS).rows(LostSpan(RecordedSpan("m1", 1, 12, 0), [(1, 12)]), bad[:1], bad)
    if place:
        assert (len(found.rows), found.damaged) == (8, 4) and "checksum" in found.why
    else:  # without the first event nobody knows the map
        assert (len(found.rows), found.damaged) == (0, 12) and "checksum" in found.why


def test_an_event_that_cannot_be_read_takes_no_other_along() -> None:
    entries = log_of(12)
    entries[5] = Entry(6, 300, b"\x93\x91\xa4nope\xc0\x00")
    found = RowReader(MATCHES, 0, NOW_MS).rows(
        LostSpan(RecordedSpan("m1", 1, 12, 0), [(1, 12)]), chunks_of(entries)[:1], chunks_of(entries)
    )
    assert (len(found.rows), found.damaged) == (11, 1) and "event 6" in found.why


# ---- a whole reload ----


class Shelf:
    """Logs in memory, and spans, newest first: `TableLoader`'s store and node."""

    def __init__(self, logs: dict[str, list[Entry]], spans: list[RecordedSpan]) -> None:
        self._logs = {key: chunks_of(entries) for key, entries in logs.items()}
        self._spans = spans
        self.away_after = 10**9
        self.reads = 0
        self.blocks: list[tuple[str, int, int]] = []
        self.grants = 10**9
        self.told: list[int] = []
        self.bad: list[str] = []
        self.broken: dict[str, Exception] = {}

    async def spans(self, kind: str, since_ms: int, after: RecordedSpan | None) -> list[RecordedSpan]:
        at = 0 if after is None else self._spans.index(after) + 1
        return self._spans[at : at + 2]

    async def chunks(self, kind: str, id: ActorId, from_seq: int, to_seq: int) -> list[Chunk]:
        self.reads += 1
        if self.reads > self.away_after:
            raise Unavailable("the store is away")
        key = id.partition("/")[2]
        if key in self.broken:
            raise self.broken[key]
        found = self._logs.get(key, [])
        return [chunk for chunk in found if chunk.last_seq >= from_seq and chunk.first_seq <= to_seq]

    async def room(self, table: str, size: int) -> bool:
        self.grants -= 1
        return self.grants >= 0

    def block(self, table: str, name: str, size: int, rows: int, until_ms: int) -> None:
        self.blocks.append((name, rows, until_ms))

    def missing(self, table: str, rows: int) -> None:
        self.told.append(rows)

    def damaged(self, log: ActorId, events: int, why: str) -> None:
        self.bad.append(log.partition("/")[2])

    def loader(self, directory: Path, max_bytes: int = 2**20) -> TableLoader:
        limits = ReloadLimits(max_bytes, 86_400.0, NOW_MS, 5_000, "boot")
        return TableLoader(directory, MATCHES, Writer("n", 7), limits, spans=self.spans, logs=self, node=self)


def rows_in(directory: Path) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for path in paths(directory):
        block = StoredRowBlock(path)
        block.verify()
        texts = block.all_texts()
        keys, seqs = block.values("match").tolist(), block.values("seq").tolist()
        found += [(texts[key], seq) for key, seq in zip(keys, seqs, strict=True)]
    return sorted(found)


async def test_a_reload_that_begins_again_doubles_nothing(tmp_path: Path) -> None:
    logs = {f"m{number}": log_of(40) for number in range(30)}
    spans = [RecordedSpan(key, 1, 40, NOW_MS - 60_000 - place) for place, key in enumerate(logs)]
    shelf = Shelf(logs, spans)
    shelf.away_after = 20
    with pytest.raises(Unavailable):
        await shelf.loader(tmp_path).run()
    shelf.away_after = 10**9
    assert missing.missing_rows(tmp_path, "events") == 400
    await shelf.loader(tmp_path).run()
    wanted = [(key, seq) for key in logs for seq in range(1, 41)]
    assert rows_in(tmp_path) == sorted(wanted) and missing.is_whole(tmp_path, "events")
    again = Shelf(logs, spans)
    await again.loader(tmp_path).run()
    assert again.blocks == [] and again.reads == 0 and shelf.bad == [] and rows_in(tmp_path) == sorted(wanted)
    (name, rows, until_ms) = shelf.blocks[0]
    assert f".7.0.{FIRST_NUMBER}.block" in name and rows == 800 and until_ms <= NOW_MS
    found = look_through(list(paths(tmp_path)), [EVENTS], "boot", 5.0)
    assert found.rows == 1_200 and found.kept["events"][0].until < 5.0


async def test_the_newest_come_first_and_none_without_room(tmp_path: Path) -> None:
    logs = {f"m{number:02}": log_of(2_000) for number in range(20)}
    spans = [RecordedSpan(key, 1, 2_000, NOW_MS - 60_000 - place) for place, key in enumerate(logs)]
    shelf = Shelf(logs, spans)
    shelf.grants = 2
    await shelf.loader(tmp_path).run()
    assert len(shelf.blocks) == 2 and missing.is_whole(tmp_path, "events")
    keys = sorted({key for key, _ in rows_in(tmp_path)})
    assert keys == sorted(logs)[: len(keys)] and 0 < len(keys) < 20
    assert list(parts(tmp_path)) == [] and shelf.bad == []


def test_a_damaged_block_is_noted_before_it_goes(tmp_path: Path) -> None:
    table = Table(tmp_path, EVENTS, Writer("n", 1), TableLimits(2**20, 1e9, 1.0), LoopClock())
    table.append((NOW_MS, "m1", "x", "y", "kill", "a", "b", "", 1, 2, 3))
    table.close()
    (path,) = paths(tmp_path)
    missing.note_whole(tmp_path, "events")
    assert held_events(tmp_path, EVENTS, ("match", "seq")).lost(RecordedSpan("m1", 1, 1, 0)).ranges == []
    damaged = bytearray(path.read_bytes())
    damaged[StoredRowBlock(path).shape.columns[3]] ^= 1
    path.write_bytes(damaged)
    assert look_through(list(paths(tmp_path)), [EVENTS], "", 0.0).dropped
    assert missing.missing_rows(tmp_path, "events") == 0 and not missing.is_whole(tmp_path, "events")


def test_granted_room_is_kept_and_blocks_are_ordered_by_age(tmp_path: Path) -> None:
    table = Table(tmp_path, EVENTS, Writer("n", 1), TableLimits(2**20, 1e9, 1.0), LoopClock())
    table.append((NOW_MS, "m1", "x", "y", "kill", "a", "b", "", 1, 2, 3))
    table.tick()
    size = table.size
    assert not table.grant(2**20 - size) and table.size == size
    assert table.grant(1_000) and table.size == size + 1_000
    table.take_in(Kept(tmp_path / "b", 1_000, 5.0))
    assert table.grant(2_000)
    table.take_in(Kept(tmp_path / "a", 2_000, 3.0))
    assert [kept.path.name for kept in table.kept] == ["a", "b"] and table.size == size + 3_000
    assert table.grant(500)
    table.take_in(None)
    assert table.size == size + 3_000


def test_two_processes_never_reload_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(Unavailable), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


async def test_one_bad_match_takes_no_other_along(tmp_path: Path) -> None:
    """Logs that no code foresees, newest first: each is left out or waits, and the others come back."""
    good = {f"m{number}": log_of(40) for number in range(20)}
    spans = [RecordedSpan(key, 1, 40, NOW_MS - 60_000 - place) for place, key in enumerate(good)]
    strange = [
        RecordedSpan("endless", 1, 2**60, NOW_MS),
        RecordedSpan("negative", -(2**62), 40, NOW_MS),
        RecordedSpan("text", "one", 40, NOW_MS),  # type: ignore[arg-type] # SQLite keeps what it is given
        RecordedSpan("nothing", 1, 40, None),  # type: ignore[arg-type]
        RecordedSpan("no key", 1, 40, NOW_MS),
        RecordedSpan("long", 1, 2**31, NOW_MS),
    ]
    shelf = Shelf(good | {span.key: log_of(40) for span in strange}, [*strange, *spans])
    shelf.broken["m3"] = Unavailable("database: missing chunk number 0 for toast value 16421")
    with pytest.raises(Unavailable, match="toast"):
        await shelf.loader(tmp_path).run()
    wanted = sorted((key, seq) for key in good if key != "m3" for seq in range(1, 41))
    assert [row for row in rows_in(tmp_path) if row[0] in good] == wanted
    assert not missing.is_whole(tmp_path, "events") and missing.missing_rows(tmp_path, "events") == 40
    assert set(shelf.bad) == {"endless", "negative", "text", "nothing", "no key", "long"}
    del shelf.broken["m3"]
    await shelf.loader(tmp_path).run()
    assert sum(key in good for key, _ in rows_in(tmp_path)) == 800 and missing.is_whole(tmp_path, "events")


def test_an_event_of_another_time_does_not_take_the_later_ones_there() -> None:
    for told in (NOW_MS + 9 * 10**9, 2**62, 5):
        reckoning = Reckoning(NOW_MS - 60_000, NOW_MS)
        times = [
            reckoning.time(clock, event) for clock, event in ((0, told), (100, 0), (200, NOW_MS - 50_000), (300, 0))
        ]
        assert times == [NOW_MS - 60_000, NOW_MS - 59_900, NOW_MS - 50_000, NOW_MS - 49_900]


async def test_rows_weeks_apart_are_all_written(tmp_path: Path) -> None:
    node = Shelf({}, [])
    limits = ReloadLimits(2**20, 1e9, NOW_MS, 5_000, "boot")
    writer = BlockWriter(tmp_path, EVENTS, Writer("n", 7), limits, node)
    weeks = [0, 3, 9, 1, 12, 5]
    rows = [
        (NOW_MS - 7 * 86_400_000 * ago, "m1", "x", "y", "kill", "a", "b", "", seq, 2, 3)
        for seq, ago in enumerate(weeks)
    ]
    await writer.add(rows)  # type: ignore[arg-type]
    await writer.flush()
    assert rows_in(tmp_path) == [("m1", seq) for seq in range(6)]
