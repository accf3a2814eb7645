"""Parts of a unit of work on PostgreSQL: new rows, and the projections of logs with their children."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from persistence.engine.rows import Bar, Batch, Projection
from persistence.engine.statements import PG_NOW, REVIVED, PostgresStatements

_REVIVED: Final = {revive: REVIVED[revive].format("ANY($1::bytea[])", PG_NOW) for revive in REVIVED}


async def insert_rows(
    connection: Any, sql: PostgresStatements, keys: list[str], bar_of: Mapping[str, Bar] | None
) -> None:
    """Make rows of those of `keys` that have none, but for those that their bars keep from it."""
    if bar_of is None:
        await connection.execute(sql.insert, keys)
        return
    bars = [bar_of[key] for key in keys]
    await connection.execute(sql.insert_barred, keys, [bar.hash for bar in bars], [bar.revive for bar in bars])
    for revive, statement in _REVIVED.items():
        if revived := [bar.hash for bar in bars if bar.revive == revive]:
            await connection.execute(statement, revived)


async def project(connection: Any, sql: PostgresStatements, projection: Projection, written: set[str]) -> None:
    """Store the projections of the logs that this very transaction has advanced."""
    batch = of_keys(projection.batch, written)
    if not batch.keys:
        return
    await connection.execute(sql.project, batch.keys, batch.epochs, batch.versions, *batch.columns)
    some_missed = len(batch.keys) < len(projection.batch.keys)
    for statements, children in zip(sql.children, projection.children, strict=True):
        columns = children.columns
        if columns and some_missed:
            rows = [n for n, key in enumerate(columns[0]) if key in written]
            columns = [only(column, rows) for column in columns]
        if columns and columns[0]:
            await connection.execute(statements.put, *columns)
        whole = of_keys(batch, set(children.whole))
        if whole.keys:
            await connection.execute(statements.drop, whole.keys, whole.versions)


def of_keys(batch: Batch, keys: Collection[str]) -> Batch:
    """The part of `batch` that is of `keys`."""
    some = [n for n, key in enumerate(batch.keys) if key in keys]
    if len(some) == len(batch.keys):
        return batch
    return Batch(
        only(batch.keys, some),
        only(batch.epochs, some),
        only(batch.versions, some),
        [only(column, some) for column in batch.columns],
        batch.additions,  # only those of the keys are added
    )


def only(column: Sequence[Any], places: Sequence[int]) -> list[Any]:
    return [column[n] for n in places]
