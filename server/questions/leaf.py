"""A node's own part of a question: its plan run over the row blocks of this node, newest first, until the deadline.

DuckDB runs the statements, over the blocks' bytes as they lie in shared memory: a column is wrapped as an Arrow array,
texts as a dictionary, without a copy. Only times are computed, where a question reads them. Blocks are scanned some at
a time; what is not scanned when the deadline comes is left out, and the coverage says so. The engine is locked: it
opens no file, loads no extension, and stays under its memory.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from server.columns.layout import NotReady, Schema
from server.columns.reader import StoredRowBlock, paths
from server.errors import Corrupt, Overloaded
from server.questions.partial import Coverage, Merger, Partial, newest, sketch_of
from server.questions.plan import WEIGHT, BadQuestion, Plan, bucket_sql

SLICE_ROWS: Final = 1_000_000
"""Rows that are scanned at once, between two looks at the clock."""
MEMORY: Final = "256MB"
_ARROW: Final = {
    "u8": pa.uint8(), "u16": pa.uint16(), "u32": pa.uint32(), "i32": pa.int32(), "i64": pa.int64(), "f64": pa.float64(),
}  # fmt: skip
_TIME: Final = pa.timestamp("ms")
_TEXT: Final = pa.dictionary(pa.uint16(), pa.utf8())


def engine(memory: str = MEMORY) -> "duckdb.DuckDBPyConnection":
    """An engine in memory that reaches nothing outside of it."""
    connection = duckdb.connect(
        config={
            "threads": 1,
            "memory_limit": memory,
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
    )
    connection.execute("SET lock_configuration = true")
    return connection


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


def scan(plan: Plan, blocks: Sequence[StoredRowBlock], since_ms: int, until_ms: int, deadline: float) -> Partial:
    """The partial answer of `blocks`, newest first, for rows from `since_ms` to before `until_ms` (0: no bound).
    `deadline` is on the monotonic clock."""
    merger = Merger(plan)
    held = [block for block in blocks if _within(block, since_ms, until_ms)]
    rows_held = sum(block.rows for block in held)
    scanned = stand_for = 0
    statements = _statements(plan, since_ms, until_ms)
    columns = plan.columns if not (since_ms or until_ms) or "time" in plan.columns else ["time", *plan.columns]
    connection = engine()
    try:
        for part in _slices(held):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            connection.register("rows", pa.Table.from_batches([_batch(block, columns) for block in part]))
            timer = threading.Timer(left, connection.interrupt)
            timer.start()
            try:
                groups = _groups(connection, plan, statements)
            except duckdb.InterruptException:
                break
            except duckdb.OutOfMemoryException:
                raise Overloaded("the question needs more memory than it may have") from None
            except duckdb.Error as error:
                raise BadQuestion(str(error).splitlines()[0][:300]) from None
            finally:
                timer.cancel()
            merger.add(Partial(groups, Coverage(0, 0)))
            scanned += sum(block.rows for block in part)
            stand_for += sum(_weight(block) if plan.weighted else block.rows for block in part)
            if not plan.grouped and not plan.order and len(groups) >= plan.limit:
                break
    finally:
        connection.close()
    spans = [span for block in held if (span := block.span_ms()) is not None]
    from_ms, to_ms = min((span[0] for span in spans), default=0), max((span[1] for span in spans), default=0)
    return merger.result(Coverage(1, 1, rows_held, scanned, stand_for, 0, from_ms, to_ms))


def finish(plan: Plan, rows: list[list[Any]]) -> list[list[Any]]:
    """The rows of the answer, of merged groups with a value for each aggregate."""
    names = [f"k{number}" for number in range(len(plan.keys))]
    names += [f"a{number}" for number in range(len(plan.aggregates))]
    if not rows:
        return []
    table = pa.table({name: [_naive(row[number]) for row in rows] for number, name in enumerate(names)})
    connection = engine()
    try:
        connection.register("merged", table)
        return [[_plain(value) for value in row] for row in connection.execute(plan.finish).fetchall()]
    except duckdb.Error as error:
        raise BadQuestion(str(error).splitlines()[0][:300]) from None
    finally:
        connection.close()


# ---- statements ----


def _statements(plan: Plan, since_ms: int, until_ms: int) -> list[str]:
    """Statements: one for the keys and the aggregates that are one value each, one for each of the others."""
    conditions = [f"({plan.where})"] if plan.where else []
    if since_ms:
        conditions.append(f'"time" >= make_timestamp({since_ms * 1000})')
    if until_ms:
        conditions.append(f'"time" < make_timestamp({until_ms * 1000})')
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    keys = [f"{key} AS k{number}" for number, key in enumerate(plan.keys)]
    if not plan.grouped:
        return [f"SELECT {', '.join(keys)} FROM rows{where}{plan.order} LIMIT {plan.limit}"]
    group = f" GROUP BY {', '.join(str(number + 1) for number in range(len(keys)))}" if keys else ""
    plain = [
        f"{aggregate.sql} AS a{number}"
        for number, aggregate in enumerate(plan.aggregates)
        if aggregate.op in ("add", "least", "greatest")
    ]
    statements = [f"SELECT {', '.join([*keys, *plain])} FROM rows{where}{group}" if keys or plain else ""]
    for aggregate in plan.aggregates:
        if aggregate.op == "sketch":
            statements.append(f"SELECT {', '.join([*keys, f'list(DISTINCT {aggregate.sql})'])} FROM rows{where}{group}")
        elif aggregate.op == "buckets":
            count = f'sum("{WEIGHT}")' if plan.weighted else "count(*)"
            value = f"CAST(({aggregate.sql}) AS DOUBLE)"
            only = f"{where}{' AND' if where else ' WHERE'} {value} IS NOT NULL"
            by = f" GROUP BY {', '.join(str(number + 1) for number in range(len(keys) + 1))}"
            inner = ", ".join([*keys, f"{bucket_sql(value)} AS b", f"CAST({count} AS BIGINT) AS n"])
            statements.append(f"SELECT {inner} FROM rows{only}{by}")
    return statements


def _groups(connection: "duckdb.DuckDBPyConnection", plan: Plan, statements: list[str]) -> list[list[Any]]:
    """The groups of the rows that are registered."""
    if not plan.grouped:
        rows = connection.execute(statements[0]).fetchall()
        return newest(plan, [[_plain(value) for value in row] for row in rows])
    width, keys = len(plan.aggregates), len(plan.keys)
    groups: dict[tuple[Any, ...], list[Any]] = {}
    plain = [number for number, each in enumerate(plan.aggregates) if each.op in ("add", "least", "greatest")]
    if statements[0]:
        for row in connection.execute(statements[0]).fetchall():
            values: list[Any] = [None] * width
            for number, value in zip(plain, row[keys:], strict=True):
                values[number] = _plain(value)
            groups[row[:keys]] = values
    others = [number for number, each in enumerate(plan.aggregates) if each.op in ("sketch", "buckets")]
    for number, statement in zip(others, statements[1:], strict=True):
        rows = connection.execute(statement).fetchall()
        if plan.aggregates[number].op == "sketch":
            for row in rows:
                groups.setdefault(row[:keys], [None] * width)[number] = sketch_of(row[keys])
            continue
        for row in rows:
            found = groups.setdefault(row[:keys], [None] * width)
            if found[number] is None:
                found[number] = {}
            found[number][row[keys]] = row[keys + 1]
    return [[*map(_plain, key), *values] for key, values in groups.items()]


def _plain(value: Any) -> Any:
    """A value as messages have it: sums of whole numbers may be longer than 64 bits, times are those of UTC."""
    if isinstance(value, Decimal) or (isinstance(value, int) and abs(value) >= 2**63):
        return float(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    return value if value is None or isinstance(value, (bool, int, float, str, bytes)) else str(value)


def _naive(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


# ---- rows ----


def _within(block: StoredRowBlock, since_ms: int, until_ms: int) -> bool:
    span = block.span_ms()
    return span is not None and span[1] >= since_ms and (not until_ms or span[0] < until_ms)


def _slices(blocks: Sequence[StoredRowBlock]) -> Iterator[list[StoredRowBlock]]:
    part: list[StoredRowBlock] = []
    for block in blocks:
        part.append(block)
        if sum(each.rows for each in part) >= SLICE_ROWS:
            yield part
            part = []
    if part:
        yield part


def _weight(block: StoredRowBlock) -> int:
    return int(block.values(WEIGHT).sum())


def _batch(block: StoredRowBlock, columns: Sequence[str]) -> "pa.RecordBatch":
    """The rows of a block as an Arrow batch over its own bytes. A question that reads no column still counts rows."""
    kinds = {column.name: column.type for column in block.header.schema.columns}
    arrays: dict[str, Any] = {}
    texts = None
    for name in columns or ["time"]:
        kind = kinds[name]
        values = block.values(name)
        if kind == "time":
            arrays[name] = pa.array(values.astype(np.int64) + block.header.base_ms).cast(_TIME)
        elif kind == "text":
            if texts is None:
                offsets, heap = block.text_parts()
                texts = pa.Array.from_buffers(pa.utf8(), block.texts, [None, pa.py_buffer(offsets), pa.py_buffer(heap)])
            codes = pa.Array.from_buffers(pa.uint16(), block.rows, [None, pa.py_buffer(values)])
            arrays[name] = pa.DictionaryArray.from_arrays(codes, texts, safe=False)
        else:
            arrays[name] = pa.Array.from_buffers(_ARROW[kind], block.rows, [None, pa.py_buffer(values)])
    return pa.record_batch(arrays)
