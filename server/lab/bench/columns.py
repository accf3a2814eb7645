"""`columns`: events of a generated match are appended to a table of columns, and written: CPU us a row.

The floor packs the same rows with msgspec, each into the end of one buffer. A row of the table is appended by the call
that a turn makes; its share of the ticks, which write and publish some thousand at once, is in the figure. `detail` has
the turn's own part, `turn_us`; the bytes a row in full blocks, everything that is preallocated for them included,
beside the row as JSON; and the same of rows of calls, which have fewer columns.
"""

import gc
import random
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Any, Final

import msgspec

from server.columns.layout import Schema, Writer
from server.columns.reader import StoredRowBlock, paths
from server.columns.table import Table, TableLimits
from server.columns.tables import CALLS
from server.lab.bench import log_samples
from server.lab.bench.harness import Effort, Outcome, alternate
from server.runtime.clock import SystemClock

ROWS: Final = 100_000
TICK_ROWS: Final = 2_000
MAX_BYTES: Final = 64 * 1024 * 1024
GOAL: Final = 1.5
FIRST_MS: Final = 1_764_000_000_000
SHARED_MEMORY: Final = Path("/dev/shm")

Row = tuple[Any, ...]


async def run(effort: Effort) -> Outcome:
    """CPU us a row of `events`."""
    from game.columns import EVENTS

    count = effort.size(ROWS)
    events, calls = _events(count), _calls(count)
    gc.collect()
    gc.freeze()  # as a node does once it serves
    found = await _appended(effort, "columns", EVENTS, events, GOAL)
    other = await _appended(effort, "columns of calls", CALLS, calls, None)
    found.detail["calls"] = {"us": other.figure, "ratio": other.ratio, **other.detail}
    return found


async def _appended(effort: Effort, name: str, schema: Schema, rows: list[Row], goal: float | None) -> Outcome:
    directory = _directory()
    table = Table(directory, schema, Writer("bench", 1), TableLimits(MAX_BYTES, 3_600.0, 0.001), SystemClock())

    async def below() -> float:
        buffer, pack = bytearray(), msgspec.msgpack.Encoder().encode_into
        return _spent(lambda part: _pack(part, pack, buffer), rows)

    turns: list[float] = []

    async def above() -> float:
        append, tick = table.append, table.tick
        nowhere: list[Row] = []
        turns.append(_spent(lambda part: _append(part, nowhere.append), rows))

        def put(part: Sequence[Row]) -> None:
            _append(part, append)
            tick()

        return _spent(put, rows)

    try:
        found = await alternate(name, "us", below, above, effort, goal, columns=len(schema.columns))
        table.close()
        assert table.lost == 0, f"{table.lost} rows found no place"
        blocks = [StoredRowBlock(path) for path in paths(directory)]
        full = sorted(blocks, key=lambda block: block.header.number)[:-1] or blocks
        stored = sum(block.size for block in full) / sum(block.rows for block in full)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    plain = sum(len(_json(schema, row)) for row in rows) / len(rows)
    found.detail.update(
        {
            "turn_us": round(median(turns), 4),
            "bytes_a_row": round(stored, 1),
            "json_bytes_a_row": round(plain, 1),
            "share_of_json": round(stored / plain, 3),
        }
    )
    return found


def _directory() -> Path:
    return Path(mkdtemp(prefix="garrison-bench-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))


def _spent(put: Callable[[Sequence[Row]], None], rows: list[Row]) -> float:
    begin = time.process_time()
    for first in range(0, len(rows), TICK_ROWS):
        put(rows[first : first + TICK_ROWS])
    return (time.process_time() - begin) * 1e6 / len(rows)


def _append(rows: Sequence[Row], append: Callable[[Row], None]) -> None:
    for row in rows:
        append(row)


def _pack(rows: Sequence[Row], pack: Callable[[Any, bytearray, int], None], buffer: bytearray) -> None:
    for row in rows:
        pack(row, buffer, -1)


def _json(schema: Schema, row: Row) -> bytes:
    """A row as a query prints it."""
    named = dict(zip((column.name for column in schema.columns), row, strict=True))
    named["time"] = datetime.fromtimestamp(named["time"] / 1000, UTC)
    return msgspec.json.encode(named)


def _events(count: int) -> list[Row]:
    from game.columns import event_row
    from game.match.state import MatchState
    from game.messages import PlayOptions

    matches = [MatchState(options=PlayOptions(map_name=name)) for name in ("Guardian", "The Pit", "Valhalla")]
    records = log_samples.match().records
    rows: list[Row] = []
    while len(rows) < count:
        state = matches[len(rows) // len(records) % len(matches)]
        match = f"match-{len(rows) // len(records):06}"
        rows += [
            (FIRST_MS + len(rows) + number, *event_row(match, record.seq, record.event, state))
            for number, record in enumerate(records)
        ]
    return rows[:count]


def _calls(count: int) -> list[Row]:
    rng = random.Random(log_samples.SEED)
    methods = ("match.report", "presence.set", "match.list", "friends.list", "career.get")
    return [
        (
            FIRST_MS + number,
            rng.choice(methods),
            "player",
            rng.choice(("", "", "", "forbidden")),
            rng.randrange(10**5),
            1,
        )
        for number in range(count)
    ]
