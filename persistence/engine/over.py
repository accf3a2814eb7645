"""The SQL by which logs are deleted once their actors are over, and by which such logs are found and pinned.

A row is deleted only where nobody owns it, under the epoch at which it was looked at, in the transaction that takes its
chunks, children and reminders along. The highest epoch of what goes stands in `counters`
from that transaction on, and a row that is made anew begins above it: whatever an owner of the deleted one says late
is fenced as it always was (rule 3 in docs/guarantees.md).
"""

from typing import Final

from persistence.engine.mapping import Mapping, Over
from persistence.engine.rows import has_facts
from persistence.engine.tables import DELETED_EPOCH

NEXT_EPOCH: Final = (
    "CASE WHEN {0}epoch > 0 THEN {0}epoch ELSE "
    f"coalesce((SELECT value FROM counters WHERE name = '{DELETED_EPOCH}'), 0) END + 1"
)
"""The epoch of a claim. A new row has 0. It is inserted in the transaction of its claim, by a statement before this
one: so a deletion of the row that was there before is seen here."""
_RAISE: Final = (
    "ON CONFLICT (name) DO UPDATE SET value = "
    "CASE WHEN excluded.value > counters.value THEN excluded.value ELSE counters.value END"
)
RAISE_SQLITE: Final = f"INSERT INTO counters (name, value) VALUES ('{DELETED_EPOCH}', ?) {_RAISE}"
OF_LOG_DELETE_SQLITE: Final = tuple(
    f"DELETE FROM {table} WHERE kind = ? AND key = ?"
    for table in ("log_chunks", "log_recorders", "redactions", "reminders")
)


def _open(mapping: Mapping) -> str:
    return f"(t.owner_node IS NOT NULL{' OR t.open_facts' if has_facts(mapping) else ''})"


def _list(mapping: Mapping, over: Over, of_kind: str, places: tuple[str, ...], back: bool) -> str:
    """Key, time of the end, epoch, bytes (0 where no kind is given), pinned, open."""
    ended, key, limit, kind = places
    size = (
        f"CASE WHEN {kind} = '' THEN 0 ELSE coalesce((SELECT sum(length(c.data)) FROM log_chunks AS c "
        f"WHERE c.kind = {kind} AND c.key = t.{mapping.key}), 0) END"
    )
    order = " DESC" if back else ""
    return (
        f"SELECT t.{mapping.key}, t.{over.ended}, t.epoch, {size}, t.{over.pinned}, {_open(mapping)} "
        f"FROM {mapping.table.name} AS t WHERE {of_kind}{over.condition} AND t.next_seq > 1 "
        f"AND (t.{over.ended}, t.{mapping.key}) {'<' if back else '>'} ({ended}, {key}) "
        f"ORDER BY t.{over.ended}{order}, t.{mapping.key}{order} LIMIT {limit}"
    )


class PostgresOver:
    """For asyncpg."""

    def __init__(self, mapping: Mapping, over: Over) -> None:
        table, key = mapping.table.name, mapping.key
        of_kind = f"t.kind = '{mapping.kind}' AND " if mapping.kind else ""
        # time of the end, key, limit, kind
        places = ("$1::int8", "$2::text", "$3", "$4::text")
        self.first = _list(mapping, over, of_kind, places, back=False)
        self.last = _list(mapping, over, of_kind, places, back=True)
        children = "".join(
            f", child{place} AS (DELETE FROM {rows.table.name} AS c USING gone "
            f"WHERE c.{next(iter(rows.table.c)).name} = gone.k)"
            for place, rows in enumerate(mapping.children)
        )
        # keys, epochs. Who claims a row meanwhile is not waited for: it is needed, and stays.
        self.lock = (
            f"SELECT t.{key} FROM {table} AS t JOIN unnest($1::text[], $2::int8[]) AS v(k, epoch) ON t.{key} = v.k "
            f"WHERE {of_kind}{over.condition} AND NOT t.{over.pinned} AND NOT {_open(mapping)} AND t.next_seq > 1 "
            f"AND t.epoch = v.epoch ORDER BY t.{key} FOR UPDATE OF t SKIP LOCKED"
        )
        # kind, keys that are locked: a statement of its own, so that it sees the chunks that a late seal has left.
        self.delete = (
            f"WITH gone AS (DELETE FROM {table} AS t WHERE {of_kind}t.{key} = ANY($2::text[]) "
            f"RETURNING t.{key} AS k, t.epoch), "
            "chunks AS (DELETE FROM log_chunks AS c USING gone WHERE c.kind = $1 AND c.key = gone.k), "
            "recorders AS (DELETE FROM log_recorders AS r USING gone WHERE r.kind = $1 AND r.key = gone.k), "
            "marks AS (DELETE FROM redactions AS m USING gone WHERE m.kind = $1 AND m.key = gone.k), "
            f"calls AS (DELETE FROM reminders AS r USING gone WHERE r.kind = $1 AND r.key = gone.k){children} "
            f"INSERT INTO counters (name, value) SELECT '{DELETED_EPOCH}', max(epoch) FROM gone "
            f"HAVING count(*) > 0 {_RAISE}"
        )
        self.pin = (
            f"UPDATE {table} AS t SET {over.pinned} = $2 WHERE {of_kind}t.{key} = $1 AND t.next_seq > 1 RETURNING 1"
        )


class SqliteOver:
    """For sqlite3."""

    def __init__(self, mapping: Mapping, over: Over) -> None:
        table, key = mapping.table.name, mapping.key
        of_kind = f"t.kind = '{mapping.kind}' AND " if mapping.kind else ""
        places = ("?1", "?2", "?3", "?4")
        self.first = _list(mapping, over, of_kind, places, back=False)
        self.last = _list(mapping, over, of_kind, places, back=True)
        # key, epoch
        self.delete = (
            f"DELETE FROM {table} AS t WHERE {of_kind}t.{key} = ? AND t.epoch = ? AND {over.condition} "
            f"AND NOT t.{over.pinned} AND NOT {_open(mapping)} AND t.next_seq > 1"
        )
        self.children = [
            f"DELETE FROM {rows.table.name} WHERE {next(iter(rows.table.c)).name} = ?" for rows in mapping.children
        ]
        # pinned, key
        self.pin = f"UPDATE {table} AS t SET {over.pinned} = ? WHERE {of_kind}t.{key} = ? AND t.next_seq > 1"
