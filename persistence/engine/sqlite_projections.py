"""Projections of logs with their children, as SQLite takes them: a statement a row."""

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from persistence.engine.mapping import Columns
from persistence.engine.rows import Projection
from persistence.engine.statements import SqliteStatements


def by_key(additions: Columns) -> dict[str, list[tuple[Any, ...]]]:
    """Rows that come with states, by the key of their entity."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in zip(*additions, strict=True):
        found.setdefault(row[0], []).append(row)
    return found


class Child(NamedTuple):
    """The rows of one kind of children of one projection; `whole`: others are to be deleted."""

    rows: list[tuple[Any, ...]]
    whole: bool


def project(
    connection: sqlite3.Connection, sql: SqliteStatements, key: str, row: tuple[Any, ...], children: list[Child]
) -> None:
    """Store the projection of a log that this very transaction has advanced."""
    connection.execute(sql.project, row)
    for statements, child in zip(sql.children, children, strict=True):
        connection.executemany(statements.put, child.rows)
        if child.whole:
            connection.execute(statements.drop, (key, row[1]))


def projection_rows(projection: Projection | None) -> list[tuple[str, tuple[Any, ...], list[Child]]]:
    """Key, parameters and child rows of each projection."""
    if projection is None:
        return []
    batch = projection.batch
    children: dict[str, list[Child]] = {key: [] for key in batch.keys}
    for kind in projection.children:
        rows, whole = by_key(kind.columns), set(kind.whole)
        for key in batch.keys:
            children[key].append(Child(rows.get(key, []), key in whole))
    values: Iterator[tuple[Any, ...]] = zip(*batch.columns, strict=True)
    return [
        (key, (epoch, seq, seq, *row, key, epoch, seq, seq + 1), children[key])
        for key, epoch, seq, row in zip(batch.keys, batch.epochs, batch.versions, values, strict=True)
    ]
