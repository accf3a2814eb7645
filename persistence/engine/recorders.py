"""Nodes that keep events of logs as columns, as the store notes them: `log_recorders`, a row for each activation.

A row is written in the transaction of the activation's first append, which is fenced by the row's epoch: so of every
event that was appended since there are rows, the one node that recorded it is that of the last row up to it. Logs that
are deleted take their rows along (`over.py`); redaction leaves them, for it keeps the numbers of events.
"""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, func, select

from persistence.engine.queries import StoreQuery
from persistence.engine.tables import log_chunks, log_recorders
from server.eventlog.ports import Append
from server.ids import key_of

_INSERT: Final = (
    "INSERT INTO log_recorders (kind, key, first_seq, node_id, incarnation, began_ms) VALUES ({0}) "
    "ON CONFLICT (kind, key, first_seq) DO UPDATE SET "
    "node_id = excluded.node_id, incarnation = excluded.incarnation, began_ms = excluded.began_ms"
)
_SQLITE: Final = _INSERT.format("?, ?, ?, ?, ?, ?")
_POSTGRES: Final = _INSERT.format("$1, $2, $3, $4, $5, $6")


def note_recorders(
    connection: sqlite3.Connection, kind: str, batch: Sequence[Append], written: Collection[str]
) -> None:
    """Store the recorders of the appends that were `written`, in their transaction."""
    if rows := _rows(kind, batch, written):
        connection.executemany(_SQLITE, rows)


async def note_recorders_postgres(
    connection: Any, kind: str, batch: Sequence[Append], written: Collection[str]
) -> None:
    """The same."""
    if rows := _rows(kind, batch, written):
        await connection.executemany(_POSTGRES, rows)


def _rows(kind: str, batch: Sequence[Append], written: Collection[str]) -> list[tuple[Any, ...]]:
    return [
        (kind, key, append.first_seq, *append.recorder.address, append.recorder.began_ms)
        for append in batch
        if append.recorder is not None and (key := key_of(append.id)) in written
    ]


class RecordedBy(msgspec.Struct, frozen=True):
    """Parameters of `RECORDED`: events of logs of `kind` that runs of `node` before `incarnation` have recorded, in
    activations from `since_ms` on, those after `before` (`began_ms`, key) only, the newest first."""

    kind: str
    node: str
    incarnation: int
    since_ms: int
    before_ms: int
    before_key: str
    limit: int


def _recorded(given: RecordedBy) -> Select[Any]:
    noted, later = log_recorders, log_recorders.alias("later")
    following = (
        select(func.min(later.c.first_seq))
        .where(later.c.kind == noted.c.kind, later.c.key == noted.c.key, later.c.first_seq > noted.c.first_seq)
        .scalar_subquery()
    )
    end = (
        select(log_chunks.c.last_seq)
        .where(log_chunks.c.kind == noted.c.kind, log_chunks.c.key == noted.c.key)
        .order_by(log_chunks.c.first_seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    is_after = (noted.c.began_ms < given.before_ms) | (
        (noted.c.began_ms == given.before_ms) & (noted.c.key > given.before_key)
    )
    return (
        select(
            noted.c.key.label("key"),
            noted.c.first_seq.label("first_seq"),
            func.coalesce(following - 1, end, 0).label("last_seq"),
            noted.c.began_ms.label("began_ms"),
        )
        .where(noted.c.kind == given.kind, noted.c.node_id == given.node, noted.c.incarnation < given.incarnation)
        .where(noted.c.began_ms >= given.since_ms, is_after)
        .order_by(noted.c.began_ms.desc(), noted.c.key)
    )


RECORDED: Final = StoreQuery(RecordedBy, _recorded)
