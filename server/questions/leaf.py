"""A node's own part of a question: its plan run over the row blocks of this node, newest first, until the deadline.

DuckDB runs the statements (`engine.py`), over the blocks' bytes as they lie in shared memory (`rows.py`). Blocks are
scanned some at a time, more where that is quick; what is not scanned when the deadline comes is left out, and the
coverage says so.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from server.columns.layout import NotReady, Schema
from server.columns.reader import StoredRowBlock, paths
from server.errors import Corrupt
from server.questions.engine import KeptEngine, table
from server.questions.histogram import TooManyCells, countable, counts
from server.questions.partial import Coverage, Merger, Partial, key_of, newest, sketch_of
from server.questions.plan import WEIGHT, BadQuestion, Plan, Split, bucket_sql
from server.questions.rows import (
    KEPT,
    ROWS_A_TEXT,
    Filters,
    Reading,
    Scratch,
    TextNumbers,
    bucket_name,
    number_name,
    rows_of,
)

T = TypeVar("T")
SLICE_ROWS: Final = 1_000_000
"""Rows that are scanned at once, between two looks at the clock: at first, and at most after slices that were quick."""
MOST_SLICE_ROWS: Final = 4_000_000
FETCHED_ROWS: Final = 8_192
"""Rows of groups that are taken over from the engine between two looks at the clock."""
QUICK: Final = 0.1
"""The share of the time that is left that a quick slice takes."""


class OpenBlocks:
    """The row blocks of a directory, mapped once and kept while they are there: a block's file never changes its name,
    and what is published of it only grows."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[str, StoredRowBlock] = {}
        self._bad: dict[str, str] = {}

    def refresh(self, schemas: Sequence[Schema]) -> list[str]:
        """Look for new blocks and new rows. Returns what is wrong with blocks that cannot be read."""
        there = {path.name: path for path in paths(self._directory)}
        known = {schema.table: schema for schema in schemas}
        for gone in [name for name in self._open if name not in there]:
            del self._open[gone]
        self._bad = {name: why for name, why in self._bad.items() if name in there}
        for name, path in there.items():
            if name in self._bad:
                continue
            try:
                block = self._open.get(name)
                if block is None:
                    block = StoredRowBlock(path)
                    if known.get(block.header.schema.table) != block.header.schema:
                        raise Corrupt("has other columns than this program's table")
                    self._open[name] = block
                block.refresh()
            except (NotReady, FileNotFoundError):
                continue
            except (Corrupt, OSError) as error:
                self._open.pop(name, None)
                self._bad[name] = str(error)
        return [f"{name} {why}" for name, why in self._bad.items()]

    def of(self, table: str) -> list[StoredRowBlock]:
        """The blocks of a table that have rows, the newest first."""
        blocks = [block for block in self._open.values() if block.header.schema.table == table and block.rows]
        return sorted(blocks, key=lambda block: (block.header.base_ms, block.header.number), reverse=True)


class Scanner:
    """Runs plans, one after the other; keeps from one to the next what is the same for all. `slice_rows`, `most_rows`:
    rows that are scanned at once, at first and at most."""

    def __init__(self, slice_rows: int = SLICE_ROWS, most_rows: int = MOST_SLICE_ROWS) -> None:
        self._slice_rows, self._most_rows = slice_rows, most_rows
        self._engine = KeptEngine()
        self._numbers: dict[str, TextNumbers] = {}

    def warm(self) -> None:
        """Make what takes its time before somebody waits for it."""
        self._engine.warm()

    def scan(
        self, plan: Plan, blocks: Sequence[StoredRowBlock], since_ms: int, until_ms: int, deadline: float
    ) -> Partial:
        """The partial answer of `blocks`, newest first, for rows from `since_ms` to before `until_ms` (0: no bound).
        `deadline` is on the monotonic clock."""
        merger = Merger(plan)
        held = [block for block in blocks if _within(block, since_ms, until_ms)]
        rows_held = sum(block.rows for block in held)
        scanned = stand_for = 0
        bounds = _bounds(since_ms, until_ms)
        if not held:
            return merger.result(Coverage(1, 1))
        with self._engine.lent() as connection:
            way = self._way(connection, plan, held, bounds, deadline)
            numbers = self._numbers.setdefault(plan.table, TextNumbers())
            most = min(self._most_rows, way.most_rows)
            scratch = Scratch(min(rows_held, most + max(block.rows for block in held)))
            run = _PlanRun(connection, plan, numbers, scratch, deadline)
            for part in _slices(held, min(self._slice_rows, most), most, deadline):
                try:
                    groups = _groups(run, way, part)
                except duckdb.InterruptException:
                    break
                merger.add(Partial(groups, Coverage(0, 0)))
                scanned += sum(block.rows for block in part)
                stand_for += sum(_weight(block) if plan.weighted else block.rows for block in part)
                if not plan.grouped and not plan.order and len(groups) >= plan.limit:
                    break
        spans = [span for block in held if (span := block.span_ms()) is not None]
        from_ms, to_ms = min((span[0] for span in spans), default=0), max((span[1] for span in spans), default=0)
        return merger.result(Coverage(1, 1, rows_held, scanned, stand_for, 0, from_ms, to_ms))

    def _way(
        self,
        connection: "duckdb.DuckDBPyConnection",
        plan: Plan,
        held: Sequence[StoredRowBlock],
        bounds: list[str],
        deadline: float,
    ) -> "_Way":
        """The way to scan `held`: by the numbers of texts, where a text has many rows and every text has an answer."""
        schema = held[0].header.schema
        split = plan.split
        if split is None or not (split.filters or split.keys):
            return _plain_way(plan, bounds, schema)
        rows, texts = sum(block.rows for block in held), sum(block.texts for block in held)
        numbers = self._numbers.setdefault(plan.table, TextNumbers())
        if rows < ROWS_A_TEXT * texts or not numbers.refresh(held) or rows < ROWS_A_TEXT * len(numbers.texts):
            return _plain_way(plan, bounds, schema)
        filters = []
        for name, sql in split.filters:
            with table(connection, "texts", pa.table({name: numbers.texts})), _interrupted_at(connection, deadline):
                try:
                    found = connection.execute(
                        f"SELECT CAST(CASE WHEN {sql} THEN 1 ELSE 0 END AS UTINYINT) AS yes FROM texts"
                    )
                    filters.append((name, found.fetchnumpy()["yes"]))
                except duckdb.Error:
                    # A text of another column, which no row would have been asked of: rows say whether it is an error.
                    return _plain_way(plan, bounds, schema)
        return _numbered_way(plan, split, bounds, schema, filters)

    def finish(self, plan: Plan, rows: list[list[Any]]) -> list[list[Any]]:
        """The rows of the answer, of merged groups with a value for each aggregate."""
        names = [f"k{number}" for number in range(len(plan.keys))]
        names += [f"a{number}" for number in range(len(plan.aggregates))]
        if not rows:
            return []
        merged = pa.table({name: [_naive(row[number]) for row in rows] for number, name in enumerate(names)})
        with self._engine.lent() as connection, table(connection, "merged", merged):
            return [[_plain(value) for value in row] for row in connection.execute(plan.finish).fetchall()]


# ---- statements ----


class _Way(NamedTuple):
    """A way to scan. `reading`: the columns that batches have; `statements`: one for the keys and the aggregates that
    are one value each, one for each of the others, "" for none; `numbered`: places of keys that are numbers of texts.

    `counted`: the columns of the aggregates, by place, that are counted without the engine (`histogram.py`), `key`: the
    column of texts that these are grouped by, `passes`: what else than the reading's texts decides which rows count;
    `without`: the way in which the engine does all, for rows that cannot be counted."""

    reading: Reading
    statements: list[str]
    numbered: Sequence[int] = ()
    filters: Filters = ()
    counted: Mapping[int, str] = {}
    key: str | None = None
    passes: str = ""
    without: "_Way | None" = None

    @property
    def most_rows(self) -> int:
        """Rows of a batch at most."""
        most = self.reading.most_rows
        return most if self.without is None else min(most, self.without.most_rows)


def _plain_way(plan: Plan, bounds: list[str], schema: Schema) -> _Way:
    buckets = _buckets(plan, schema)
    reading = Reading(_with_time(plan.columns, bounds), buckets=list(buckets.values()))
    where = [f"({plan.where})"] if plan.where else []
    return _Way(reading, _statements(plan, plan.keys, [*where, *bounds], buckets))


def _numbered_way(plan: Plan, split: Split, bounds: list[str], schema: Schema, filters: Filters) -> _Way:
    """The way by numbers of texts: with aggregates that are counted without the engine, where there are such."""
    buckets = _buckets(plan, schema)
    columns = _with_time(split.columns, bounds)
    keys = [f'"{number_name(split.keys[at])}"' if at in split.keys else key for at, key in enumerate(plan.keys)]
    conditions = [*([f"({split.where})"] if split.where else []), *bounds]
    where = [*([f'"{KEPT}" = 1'] if filters else []), *conditions]
    numbered = list(dict.fromkeys(split.keys.values()))
    reading = Reading(columns, numbered, list(buckets.values()), filters)
    plainly = _Way(reading, _statements(plan, keys, where, buckets), list(split.keys))
    kinds = {column.name: column.type for column in schema.columns}
    counted = {at: name for at, name in buckets.items() if countable(kinds[name])}
    if not counted or len(keys) != len(split.keys) or len(keys) > 1:
        return plainly
    buckets = {at: name for at, name in buckets.items() if at not in counted}
    statements = _statements(plan, keys, where, buckets, counted)
    reading = Reading(columns, numbered, list(buckets.values()), filters) if any(statements) else Reading(columns)
    key = split.keys[0] if keys else None
    return _Way(
        reading, statements, plainly.numbered, filters, counted, key, " AND ".join(conditions), plainly
    )  # fmt: skip


def _bounds(since_ms: int, until_ms: int) -> list[str]:
    """Conditions of a row's time."""
    bounds = [f'"time" >= make_timestamp({since_ms * 1000})'] if since_ms else []
    return bounds + ([f'"time" < make_timestamp({until_ms * 1000})'] if until_ms else [])


def _with_time(columns: Sequence[str], bounds: list[str]) -> Sequence[str]:
    return columns if not bounds or "time" in columns else ["time", *columns]


def _buckets(plan: Plan, schema: Schema) -> dict[int, str]:
    """The aggregates, by place, that are buckets of a plain column of numbers, with its name."""
    numbers = {f'"{column.name}"': column.name for column in schema.columns if column.type not in ("time", "text")}
    aggregates = enumerate(plan.aggregates)
    return {at: numbers[each.sql] for at, each in aggregates if each.op == "buckets" and each.sql in numbers}


def _statements(
    plan: Plan,
    keys: Sequence[str],
    conditions: Sequence[str],
    buckets: Mapping[int, str],
    counted: Mapping[int, str] = {},
) -> list[str]:
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    keys = [f"{key} AS k{number}" for number, key in enumerate(keys)]
    if not plan.grouped:
        return [f"SELECT {', '.join(keys)} FROM rows{where}{plan.order} LIMIT {plan.limit}"]
    group = f" GROUP BY {', '.join(str(number + 1) for number in range(len(keys)))}" if keys else ""
    plain = [
        f"{aggregate.sql} AS a{number}"
        for number, aggregate in enumerate(plan.aggregates)
        if aggregate.op in ("add", "least", "greatest")
    ]
    # Groups are found by another statement already where that has all of them: no values of its are left out.
    found = any(each.op == "sketch" or at in buckets or at in counted for at, each in enumerate(plan.aggregates))
    first = plain or (keys and not found)
    statements = [f"SELECT {', '.join([*keys, *plain])} FROM rows{where}{group}" if first else ""]
    for at, aggregate in enumerate(plan.aggregates):
        if at in counted:
            statements.append("")
        elif aggregate.op == "sketch":
            statements.append(f"SELECT {', '.join([*keys, f'list(DISTINCT {aggregate.sql})'])} FROM rows{where}{group}")
        elif aggregate.op == "buckets":
            count = f'sum("{WEIGHT}")' if plan.weighted else "count(*)"
            value = f"CAST(({aggregate.sql}) AS DOUBLE)"
            bucket = f'"{bucket_name(buckets[at])}"' if at in buckets else bucket_sql(value)
            only = where if at in buckets else f"{where}{' AND' if where else ' WHERE'} {value} IS NOT NULL"
            by = f" GROUP BY {', '.join(str(number + 1) for number in range(len(keys) + 1))}"
            inner = ", ".join([*keys, f"{bucket} AS b", f"CAST({count} AS BIGINT) AS n"])
            statements.append(f"SELECT {inner} FROM rows{only}{by}")
    return statements


class _PlanRun(NamedTuple):
    """The run of a plan on `connection`, until `deadline`, over one slice of row blocks after the other."""

    connection: "duckdb.DuckDBPyConnection"
    plan: Plan
    numbers: TextNumbers
    scratch: Scratch
    deadline: float

    @contextmanager
    def reading(self, way: _Way, blocks: Sequence[StoredRowBlock]) -> Iterator[None]:
        """The rows of `blocks`, which the engine has as `rows` meanwhile; at the deadline it is interrupted."""
        rows = rows_of(blocks, way.reading, self.numbers, self.scratch)
        with table(self.connection, "rows", rows), _interrupted_at(self.connection, self.deadline):
            yield


def _groups(run: _PlanRun, way: _Way, blocks: Sequence[StoredRowBlock]) -> list[list[Any]]:
    """The groups of the rows of `blocks`, or rows where there are none. Raises `duckdb.InterruptException` at the
    deadline."""
    if way.without is not None:
        try:
            return _counted_groups(run, way, blocks)
        except duckdb.InterruptException:
            raise
        except (TooManyCells, duckdb.Error):
            way = way.without  # no error where only rows fail that no filter lets pass
    with run.reading(way, blocks):
        if run.plan.grouped:
            return _named(run, way, _found(run, way))
        rows = run.connection.execute(way.statements[0]).fetchall()
    return newest(run.plan, [[_mergeable(value) for value in row] for row in rows])


def _counted_groups(run: _PlanRun, way: _Way, blocks: Sequence[StoredRowBlock]) -> list[list[Any]]:
    """As `_groups`, with aggregates that are counted. Raises `TooManyCells`, and what the engine raises."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    passes = None
    if way.passes or any(way.statements):
        with run.reading(way, blocks):
            if way.passes:
                asked = f"SELECT CAST(({way.passes}) AS BOOLEAN) AS passes FROM rows"
                passes = np.ma.filled(run.connection.execute(asked).fetchnumpy()["passes"], False)
            found = _found(run, way)
    for at, column in way.counted.items():
        counted = counts(blocks, column, way.key, passes, way.filters, run.numbers, run.plan.weighted)
        for key, buckets in counted.items():
            found.setdefault(key, [None] * len(run.plan.aggregates))[at] = buckets
    return _named(run, way, found)


def _found(run: _PlanRun, way: _Way) -> dict[tuple[Any, ...], list[Any]]:
    """The groups that the statements find in the rows that are registered, by their keys as the engine has them."""
    plan = run.plan
    width, keys = len(plan.aggregates), len(plan.keys)
    groups: dict[tuple[Any, ...], list[Any]] = {}
    plain = [number for number, each in enumerate(plan.aggregates) if each.op in ("add", "least", "greatest")]
    if way.statements[0]:
        for row in _fetched(run.connection, way.statements[0], run.deadline):
            values: list[Any] = [None] * width
            for number, value in zip(plain, row[keys:], strict=True):
                values[number] = _mergeable(value)
            groups[key_of(row[:keys])] = values
    others = [number for number, each in enumerate(plan.aggregates) if each.op in ("sketch", "buckets")]
    for number, statement in zip(others, way.statements[1:], strict=True):
        rows = _fetched(run.connection, statement, run.deadline) if statement else ()
        if plan.aggregates[number].op == "sketch":
            for row in rows:
                groups.setdefault(key_of(row[:keys]), [None] * width)[number] = sketch_of(row[keys])
            continue
        for row in rows:
            found = groups.setdefault(key_of(row[:keys]), [None] * width)
            if found[number] is None:
                found[number] = {}
            found[number][row[keys]] = row[keys + 1]
    return groups


def _fetched(connection: "duckdb.DuckDBPyConnection", statement: str, deadline: float) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement. Of many groups each takes longer here than in the engine: so this raises
    `duckdb.InterruptException` at the deadline too, where there are more than are fetched at once."""
    found = connection.execute(statement)
    rows: list[tuple[Any, ...]] = []
    while part := found.fetchmany(FETCHED_ROWS):
        rows += part
        if len(part) == FETCHED_ROWS and time.monotonic() >= deadline:
            abort = getattr(connection, "abort", None)  # engines before version 2 let go of the rest by themselves
            if abort is not None:
                abort()
            raise duckdb.InterruptException("too many groups for the time")
    return _in_time(rows, deadline)


def _in_time(rows: Iterable[T], deadline: float) -> Iterator[T]:
    """`rows`, until the deadline where they are many. Raises `duckdb.InterruptException`."""
    for number, row in enumerate(rows, 1):
        yield row
        if not number % FETCHED_ROWS and time.monotonic() >= deadline:
            raise duckdb.InterruptException("too many groups for the time")


def _named(run: _PlanRun, way: _Way, groups: Mapping[tuple[Any, ...], list[Any]]) -> list[list[Any]]:
    """Groups as rows, with texts in the place of their numbers."""
    result: list[list[Any]] = []
    for key, values in _in_time(groups.items(), run.deadline):
        result.append([*map(_mergeable, key), *values])
    for at in way.numbered:
        for group in result:
            group[at] = run.numbers.texts[group[at]].as_py()
    return result


def _mergeable(value: Any) -> Any:
    """A value that can be merged with those of other nodes. Raises `BadQuestion` for a stretch of time: no message has
    one."""
    if isinstance(value, timedelta):
        raise BadQuestion("rows have no INTERVAL: extract(epoch FROM …) is one in seconds")
    return _plain(value)


def _plain(value: Any) -> Any:
    """A value as messages have it: sums of whole numbers may be longer than 64 bits, times are those of UTC."""
    if isinstance(value, Decimal) or (isinstance(value, int) and abs(value) >= 2**63):
        return float(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    return value if value is None or isinstance(value, (bool, int, float, str, bytes)) else str(value)


def _naive(value: Any) -> Any:
    """A merged value as an Arrow column has it."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    return float(value) if isinstance(value, int) and abs(value) >= 2**63 else value


# ---- rows ----


def _within(block: StoredRowBlock, since_ms: int, until_ms: int) -> bool:
    span = block.span_ms()
    return span is not None and span[1] >= since_ms and (not until_ms or span[0] < until_ms)


def _slices(blocks: Sequence[StoredRowBlock], size: int, most: int, deadline: float) -> Iterator[list[StoredRowBlock]]:
    """`blocks` some at a time, until the deadline: about `size` rows, and after quick slices up to `most`."""
    left = list(reversed(blocks))
    while left and (begun := time.monotonic()) < deadline:
        part, rows = [], 0
        while left and rows < size:
            part.append(left.pop())
            rows += part[-1].rows
        yield part
        if time.monotonic() - begun < QUICK * (deadline - begun):
            size = min(most, 2 * size)


@contextmanager
def _interrupted_at(connection: "duckdb.DuckDBPyConnection", deadline: float) -> Iterator[None]:
    """The block's statements, which end at the deadline with an `InterruptException`."""
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # else it might interrupt the next statement


def _weight(block: StoredRowBlock) -> int:
    return int(block.values(WEIGHT).sum())
