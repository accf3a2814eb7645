"""The SQL of fenced state, made once for each kind and database.

Written by hand rather than compiled from expressions: these few statements are the ownership
protocol (rules 3, 4 and 7 in docs/guarantees.md), and they should be read as what the database
gets. Names come from the tables, never from input.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, LargeBinary, Table, Text

from persistence.engine.mapping import Additions, Mapping
from persistence.engine.over import NEXT_EPOCH
from persistence.engine.rows import BASE_COLUMNS, has_facts, has_log, written
from persistence.engine.tables import ERASURE_KEY, INCARNATION

PG_NOW: Final = "extract(epoch from clock_timestamp())::float8"
SQLITE_NOW: Final = "((julianday('now') - 2440587.5) * 86400.0)"
NEWEST_RUN: Final = f"SELECT value FROM counters WHERE name = '{INCARNATION}'"

_ARRAYS: Final = (
    (JSON, "text"),
    (Boolean, "bool"),
    (BigInteger, "int8"),
    (Integer, "int4"),
    (Double, "float8"),
    (LargeBinary, "bytea"),
    (Text, "text"),
)


def _array(column: "Column[object]") -> str:
    """The PostgreSQL element type that a column's values travel as."""
    for cls, name in _ARRAYS:
        if isinstance(column.type, cls):
            return name
    raise TypeError(f"no array type for {column.table.name}.{column.name}: {column.type}")


def _value(column: "Column[object]", alias: str) -> str:
    cast = "::jsonb" if isinstance(column.type, JSON) else ""
    return f"{alias}.{column.name}{cast}"


def unnest(table: Table, names: tuple[str, ...], first: int = 1) -> str:
    """`unnest($1::text[], …)` with one array for each named column of `table`."""
    return "unnest(" + ", ".join(f"${n}::{_array(table.c[name])}[]" for n, name in enumerate(names, first)) + ")"


def _select_list(mapping: Mapping, empty: Literal["''::bytea", "x''"]) -> str:
    end = ["t.next_seq", "t.head"] if has_log(mapping) else ["1", empty]
    end.append("t.open_facts" if has_facts(mapping) else "1 = 0")
    base = (mapping.key, *BASE_COLUMNS)
    names = [f"t.{name}" for name in base] + end + [f"t.{name}" for name in mapping.columns]
    return ", ".join(names)


def _next_epoch(mapping: Mapping, row: str) -> str:
    """The epoch that a claim gives; above all that were issued for rows of that name which were deleted."""
    return NEXT_EPOCH.format(row) if mapping.over is not None or mapping.goes else f"{row}epoch + 1"


def _live(mapping: Mapping) -> list[str]:
    """Conditions of entities that live on by themselves, or have open facts."""
    return [*([mapping.live] if mapping.live else []), *(["open_facts"] if has_facts(mapping) else [])]


def _unowned(mapping: Mapping, of_kind: str, wanted: Sequence[str], limit: str, after: str) -> str:
    """Keys of entities of which one of the conditions `wanted` holds, and whose owner does not live; empty where there
    are none. An index with this very condition makes it cheap."""
    if not wanted:
        return ""
    condition = " OR ".join(f"({some})" for some in wanted)
    if mapping.live and has_log(mapping):
        begun = ["t.next_seq > 1", *wanted[1:]]
        condition = f"{condition}) AND ({' OR '.join(begun)}"
    return (
        f"SELECT t.{mapping.key} FROM {mapping.table.name} AS t "
        f"WHERE {of_kind}({condition}) AND t.{mapping.key} > {after} AND (t.owner_node IS NULL "
        "OR NOT EXISTS (SELECT 1 FROM nodes AS o WHERE o.node_id = t.owner_node "
        "AND o.incarnation = t.owner_incarnation AND o.state IN ('up', 'evicting'))) "
        f"ORDER BY t.{mapping.key} LIMIT {limit}"
    )


def _over(table: str, journals: str) -> str:
    """The condition that the owner of a row of `table` is over, and that its journal is closed or among `journals`.

    A run that is over and whose journal is closed is pruned from `nodes`, so an owner without a row is over too, if
    its incarnation was issued. Asking the counter for that is no formality: an update that waited for the row's lock
    sees the row's newest owner, and `nodes` as it was before (PostgreSQL looks again at the locked row only). A run
    that registered meanwhile has no row in that picture, and its incarnation is above the counter there: it keeps
    what it has.
    """
    run = f"SELECT 1 FROM nodes AS o WHERE o.node_id = {table}.owner_node AND o.incarnation = {table}.owner_incarnation"
    return (
        f"EXISTS ({run} AND o.state IN ('dead', 'left') AND (o.journal = '' OR {journals})) "
        f"OR (NOT EXISTS ({run}) AND {table}.owner_incarnation <= ({NEWEST_RUN}))"
    )


def _still_ours(table: str, generation: str) -> str:
    """The condition that no later process of the run that owns a row of `table` has taken over from this one's
    `generation`: what that one owns, this one gives to nobody."""
    return (
        f"NOT EXISTS (SELECT 1 FROM nodes AS h WHERE h.node_id = {table}.owner_node "
        f"AND h.incarnation = {table}.owner_incarnation AND h.generation > {generation})"
    )


def _count_owned(mapping: Mapping, of_kind: str) -> str:
    return (
        f"SELECT t.owner_node, t.owner_incarnation, count(*) FROM {mapping.table.name} AS t "
        f"WHERE {of_kind}t.owner_node IS NOT NULL GROUP BY t.owner_node, t.owner_incarnation"
    )


def _deletes(mapping: Mapping) -> list[str]:
    """Statements that delete an entity, and every row that belongs to it, by its key."""
    of_kind = f"kind = '{mapping.kind}' AND " if mapping.kind else ""
    found = [f"DELETE FROM {mapping.table.name} WHERE {of_kind}{mapping.key} = {{0}}"]
    more = [(children.table, next(iter(children.table.c)).name) for children in mapping.children]
    if mapping.additions is not None:
        key = mapping.additions.columns[0]
        more += [(mapping.additions.table, key), *((total.table, key) for total in mapping.additions.totals)]
    return found + [f"DELETE FROM {table.name} WHERE {key} = {{0}}" for table, key in more]


def _begun(mapping: Mapping, of_kind: str, limit: str, after: str) -> str:
    return (
        f"SELECT t.{mapping.key} FROM {mapping.table.name} AS t WHERE {of_kind}t.next_seq > 1 "
        f"AND t.{mapping.key} > {after} ORDER BY t.{mapping.key} LIMIT {limit}"
    )


def _adding(mapping: Mapping, write: str, first: int) -> str:
    """`write`, and the rows that its states bring along, for those that it hits; their columns are the parameters from
    number `first`. Empty for a kind without such rows."""
    if mapping.additions is None:
        return ""
    table, names = mapping.additions.table, ", ".join(mapping.additions.columns)
    key = mapping.additions.columns[0]
    if mapping.additions.current:
        gone = f"${first + len(mapping.additions.columns)}::bool[]"
        arrays = unnest(table, mapping.additions.columns, first).removesuffix(")") + f", {gone})"
        same = " AND ".join(f"c.{column.name} = m.{column.name}" for column in table.primary_key.columns)
        return (
            f"WITH hit AS ({write}), more AS MATERIALIZED (SELECT a.* FROM {arrays} AS a({names}, is_gone) "
            f"JOIN hit ON hit.{mapping.key} = a.{key}), "
            f"dropped AS (DELETE FROM {table.name} AS c USING more AS m WHERE m.is_gone AND {same}), "
            f"added AS (INSERT INTO {table.name} ({names}) SELECT {names} FROM more WHERE NOT is_gone "
            f"{_replacing(mapping.additions)}) SELECT {mapping.key} FROM hit"
        )
    rows = f"{unnest(table, mapping.additions.columns, first)} AS a({names})"
    values = ", ".join(_value(table.c[name], "a") for name in mapping.additions.columns)
    sums = "".join(
        f", sum{place} AS ({total.statement.format(added='added')})"
        for place, total in enumerate(mapping.additions.totals)
    )
    returning = " RETURNING *" if sums else ""
    return (
        f"WITH hit AS ({write}), added AS (INSERT INTO {table.name} ({names}) SELECT {values} FROM {rows} "
        f"JOIN hit ON hit.{mapping.key} = a.{key} ON CONFLICT DO NOTHING{returning}){sums} "
        f"SELECT {mapping.key} FROM hit"
    )


def _replacing(additions: Additions) -> str:
    """The clause by which a row that is current takes the place of the one of its primary key."""
    keys = [column.name for column in additions.table.primary_key.columns]
    sets = ", ".join(f"{name} = excluded.{name}" for name in additions.columns if name not in keys)
    return f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets}"


class ChildStatements(NamedTuple):
    """For one kind of children: put rows, drop those of older projections, or all of an entity's."""

    put: str
    drop: str
    clear: str


class PostgresStatements:
    """For asyncpg: a batch is one array a column, and one statement."""

    def __init__(self, mapping: Mapping) -> None:
        table, key = mapping.table.name, mapping.key
        logged = has_log(mapping)
        of_kind = f"t.kind = '{mapping.kind}' AND " if mapping.kind else ""
        rows = _select_list(mapping, "''::bytea")
        put = {key: "k", **({"kind": f"'{mapping.kind}'"} if mapping.kind else {})}
        if logged:
            put["head"] = "''::bytea"
        self.insert = (
            f"INSERT INTO {table} ({', '.join(put)}) SELECT {', '.join(put.values())} "
            "FROM unnest($1::text[]) AS k ON CONFLICT DO NOTHING"
        )
        self.insert_barred = (
            f"INSERT INTO {table} ({', '.join((*put, 'epoch', 'state_epoch'))}) "
            f"SELECT {', '.join(put.values())}, coalesce(b.epoch + 1, 0), coalesce(b.epoch + 1, 0) "
            "FROM unnest($1::text[], $2::bytea[], $3::int8[]) AS v(k, hash, revive) "
            "LEFT JOIN tombstones AS b ON b.hash = v.hash WHERE b.hash IS NULL OR b.barred = 0 "
            f"OR (b.barred = 1 AND (v.revive = 2 OR (v.revive = 1 AND b.until <= {PG_NOW}))) ON CONFLICT DO NOTHING"
        )
        self.owner = f"SELECT t.epoch, t.owner_node FROM {table} AS t WHERE {of_kind}t.{key} = $1 FOR UPDATE"
        self.delete = [text.format("$1") for text in _deletes(mapping)]
        claim = (
            f"UPDATE {table} AS t SET epoch = {_next_epoch(mapping, 't.')}, owner_node = $3, owner_incarnation = $4, "
            "claim_token = v.token FROM unnest($1::text[], $2::int8[]) AS v(k, token) "
            f"WHERE {of_kind}t.{key} = v.k "
            "AND EXISTS (SELECT 1 FROM nodes AS m WHERE m.node_id = $3 AND m.incarnation = $4 "
            "AND m.state = 'up' AND m.generation = $5) "
            "AND (t.owner_incarnation IS DISTINCT FROM $4 OR t.claim_token < v.token)"
        )
        self.claim = f"{claim} AND t.owner_node IS NULL RETURNING {rows}"
        self.take_over = (
            f"{claim} AND ((t.owner_node = $3 AND t.owner_incarnation = $4) "
            f"OR {_over('t', '$6::text[] IS NULL OR o.journal = ANY($6)')}) RETURNING {rows}"
        )
        self.read = f"SELECT {rows} FROM {table} AS t WHERE {of_kind}t.{key} = ANY($1::text[]) ORDER BY t.{key}"
        columns = written(mapping)
        sets = ", ".join(f"{name} = {_value(mapping.table.c[name], 'v')}" for name in columns)
        self.write = (
            f"UPDATE {table} AS t SET state_epoch = v.epoch, state_version = v.state_version, {sets} "
            f"FROM {unnest(mapping.table, (key, 'epoch', 'state_version', *columns))} "
            f"AS v({', '.join(('k', 'epoch', 'state_version', *columns))}) "
            f"WHERE {of_kind}t.{key} = v.k AND t.epoch = v.epoch AND t.state_version < v.state_version "
            f"RETURNING t.{key}"
        )
        self.write_adding = _adding(mapping, self.write, first=len(columns) + 4)
        end = "t.next_seq, t.head" if logged else "1::int8, ''::bytea"
        self.versions = (
            f"SELECT t.{key}, t.epoch, t.state_epoch, t.state_version, {end} FROM {table} AS t "
            f"WHERE {of_kind}t.{key} = ANY($1::text[])"
        )
        told = ", open_facts = t.open_facts AND NOT v.told" if has_facts(mapping) else ""
        self.release = (
            f"UPDATE {table} AS t SET owner_node = NULL{told} "
            "FROM unnest($1::text[], $2::int8[], $3::bool[]) AS v(k, epoch, told) "
            f"WHERE {of_kind}t.{key} = v.k AND t.epoch = v.epoch AND {_still_ours('t', '$4')}"
        )
        whole = "AND (v.next_seq = 0 OR t.next_seq = v.next_seq) " if logged else ""
        self.move = (
            f"UPDATE {table} AS t SET epoch = t.epoch + 1, owner_node = v.node, owner_incarnation = v.run, "
            "claim_token = v.token "
            "FROM unnest($1::text[], $2::int8[], $3::text[], $4::int8[], $5::int8[], $6::int8[]) "
            "AS v(k, epoch, node, run, next_seq, token) "
            f"WHERE {of_kind}t.{key} = v.k AND t.epoch = v.epoch AND t.owner_node IS NOT NULL {whole}"
            f"AND {_still_ours('t', '$7')} "
            "AND EXISTS (SELECT 1 FROM nodes AS m WHERE m.node_id = v.node AND m.incarnation = v.run "
            f"AND m.state = 'up') RETURNING t.{key}"
        )
        self.owners = (
            f"SELECT t.{key}, t.epoch, t.owner_node, t.owner_incarnation FROM {table} AS t "
            f"WHERE {of_kind}t.{key} = ANY($1::text[])"
        )
        self.unowned = _unowned(mapping, of_kind, _live(mapping), "$1", "$2")
        self.strays = _unowned(mapping, of_kind, [mapping.here] if mapping.here else [], "$1", "$2")
        self.count_owned = _count_owned(mapping, of_kind)
        # kind, key, name, epoch, number, due_ms. A claim or a move that has the entity's row already is
        # waited for, and the epoch is compared after it; one that comes later waits for this statement.
        mine = (
            f"WITH mine AS MATERIALIZED (SELECT t.epoch FROM {table} AS t "
            f"WHERE {of_kind}t.{key} = $2 AND t.epoch = $4 FOR SHARE)"
        )
        self.set_reminder = (
            f"{mine}, put AS (INSERT INTO reminders (kind, key, name, epoch, number, due_ms) "
            f"SELECT $1::text, $2::text, $3::text, $4::int8, $5::int8, $6::int8 FROM mine {REMINDER_NEWER}) "
            "SELECT 1 FROM mine"
        )
        self.unset_reminder = (
            f"{mine}, gone AS (DELETE FROM reminders AS r USING mine "
            "WHERE r.kind = $1 AND r.key = $2 AND r.name = $3 AND (r.epoch, r.number) < ($4, $5)) "
            "SELECT 1 FROM mine"
        )
        if logged:
            self._log(mapping, table, key, of_kind, sets)

    def _log(self, mapping: Mapping, table: str, key: str, of_kind: str, sets: str) -> None:
        columns = written(mapping)
        self.append = (
            f"WITH moved AS (UPDATE {table} AS t SET next_seq = v.last_seq + 1, head = v.head "
            "FROM unnest($2::text[], $3::int8[], $4::int8[], $5::int8[], $6::bytea[], $7::bytea[], $8::bytea[]) "
            "AS v(k, epoch, first_seq, last_seq, prev_head, head, data) "
            f"WHERE {of_kind}t.{key} = v.k AND t.epoch = v.epoch AND t.next_seq = v.first_seq "
            f"AND t.head = v.prev_head RETURNING t.{key} AS k, v.first_seq, v.last_seq, v.data) "
            "INSERT INTO log_chunks (kind, key, first_seq, last_seq, sealed, data) "
            "SELECT $1, k, first_seq, last_seq, false, data FROM moved RETURNING key"
        )
        self.project = (
            f"UPDATE {table} AS t SET state_epoch = v.epoch, state_version = v.state_version, "
            f"projected_seq = v.state_version, {sets} "
            f"FROM {unnest(mapping.table, (key, 'epoch', 'state_version', *columns))} "
            f"AS v({', '.join(('k', 'epoch', 'state_version', *columns))}) "
            f"WHERE {of_kind}t.{key} = v.k AND t.epoch = v.epoch AND t.state_version < v.state_version "
            "AND t.next_seq = v.state_version + 1"
        )
        # key, next_seq, head: a row that nobody owns and that has no event. Who claims it meanwhile is waited for.
        self.fill = (
            f"UPDATE {table} AS t SET epoch = {_next_epoch(mapping, 't.')}, next_seq = $2, head = $3 "
            f"WHERE {of_kind}t.{key} = $1 AND t.next_seq = 1 AND t.owner_node IS NULL RETURNING t.epoch"
        )
        # key, next_seq, head before, head after
        told = " AND NOT t.open_facts" if has_facts(mapping) else ""
        self.redact = (
            f"UPDATE {table} AS t SET epoch = t.epoch + 1, owner_node = NULL, head = $4, state_version = 0 "
            f"WHERE {of_kind}t.{key} = $1 AND t.next_seq = $2 AND t.head = $3{told} "
            f"AND (t.owner_node IS NULL OR {_over('t', '1 = 1')}) RETURNING t.epoch"
        )
        self.list_logs = _begun(mapping, of_kind, "$1", "$2")
        self.lock = f"SELECT t.epoch FROM {table} AS t WHERE {of_kind}t.{key} = $1 FOR UPDATE"
        self.end = f"SELECT t.next_seq, t.head FROM {table} AS t WHERE {of_kind}t.{key} = $1"
        self.children: list[ChildStatements] = []
        for children in mapping.children:
            owner, child, seq = (column.name for column in list(children.table.c)[:3])
            names = (owner, child, seq, *children.columns)
            updates = ", ".join(f"{name} = excluded.{name}" for name in names[2:])
            put = (
                f"INSERT INTO {children.table.name} ({', '.join(names)}) "
                f"SELECT * FROM {unnest(children.table, names)} ON CONFLICT ({owner}, {child}) DO UPDATE SET {updates}"
            )
            drop = (
                f"DELETE FROM {children.table.name} AS c USING unnest($1::text[], $2::int8[]) AS v(k, seq) "
                f"WHERE c.{owner} = v.k AND c.{seq} < v.seq"
            )
            clear = f"DELETE FROM {children.table.name} WHERE {owner} = $1"
            self.children.append(ChildStatements(put, drop, clear))


class SqliteStatements:
    """For sqlite3: a batch is one statement run once a row, within one short transaction."""

    def __init__(self, mapping: Mapping) -> None:
        table, key = mapping.table.name, mapping.key
        logged = has_log(mapping)
        of_kind = f"kind = '{mapping.kind}' AND " if mapping.kind else ""
        rows = _select_list(mapping, "x''")
        put = {key: "?", **({"kind": f"'{mapping.kind}'"} if mapping.kind else {})}
        if logged:
            put["head"] = "x''"
        self.insert = (
            f"INSERT INTO {table} ({', '.join(put)}) VALUES ({', '.join(put.values())}) ON CONFLICT DO NOTHING"
        )
        # key, hash, revive
        barred = f"barred = 2 OR (barred = 1 AND (?3 = 0 OR (?3 = 1 AND until > {SQLITE_NOW})))"
        floor = "coalesce((SELECT epoch + 1 FROM tombstones WHERE hash = ?2), 0)"
        self.insert_barred = (
            f"INSERT INTO {table} ({', '.join((*put, 'epoch', 'state_epoch'))}) "
            f"SELECT {', '.join(put.values()).replace('?', '?1')}, {floor}, {floor} "
            f"WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE hash = ?2 AND ({barred})) ON CONFLICT DO NOTHING"
        )
        self.owner = f"SELECT epoch, owner_node FROM {table} WHERE {of_kind}{key} = ?"
        self.delete = [text.format("?") for text in _deletes(mapping)]
        # key, token, node, incarnation, journals as JSON or NULL, generation. A text plus one would be 1: an epoch that
        # is given out again.
        self.claim = (
            f"UPDATE {table} SET epoch = {_next_epoch(mapping, '')}, "
            "owner_node = ?3, owner_incarnation = ?4, claim_token = ?2 "
            f"WHERE {of_kind}{key} = ?1 AND typeof(epoch) = 'integer' "
            "AND EXISTS (SELECT 1 FROM nodes AS m WHERE m.node_id = ?3 AND m.incarnation = ?4 "
            "AND m.state = 'up' AND m.generation = ?6) "
            "AND (owner_incarnation IS NOT ?4 OR claim_token < ?2) "
            "AND (owner_node IS NULL OR (owner_node = ?3 AND owner_incarnation = ?4) "
            f"OR {_over(table, '?5 IS NULL OR o.journal IN (SELECT value FROM json_each(?5))')})"
        )
        self.owned = f"SELECT t.{key} FROM {table} AS t WHERE {of_kind}t.{key} IN (%s) AND t.owner_node IS NOT NULL"
        self.read = f"SELECT {rows} FROM {table} AS t WHERE {of_kind}t.{key} IN (%s) ORDER BY t.{key}"
        sets = "".join(f", {name} = ?" for name in written(mapping))
        # epoch, version, columns, key, epoch, version
        self.write = (
            f"UPDATE {table} SET state_epoch = ?, state_version = ?{sets} "
            f"WHERE {of_kind}{key} = ? AND epoch = ? AND state_version < ?"
        )
        self.add = self.drop = ""
        self.sums: list[str] = []
        """Statements that add a row which `add` has inserted to totals; its primary key is given."""
        self.adds_keys = 0
        if mapping.additions is not None:
            more, names = mapping.additions.table, mapping.additions.columns
            current = mapping.additions.current
            keys = [column.name for column in more.primary_key.columns]
            self.adds_keys = len(keys)
            added = f"(SELECT * FROM {more.name} WHERE {' AND '.join(f'{name} = ?' for name in keys)})"
            self.sums = [(total.sqlite or total.statement).format(added=added) for total in mapping.additions.totals]
            self.add = (
                f"INSERT INTO {more.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
                f"{_replacing(mapping.additions) if current else 'ON CONFLICT DO NOTHING'}"
            )
            if current:
                same = " AND ".join(f"{column.name} = ?" for column in more.primary_key.columns)
                self.drop = f"DELETE FROM {more.name} WHERE {same}"
        end = "t.next_seq, t.head" if logged else "1, x''"
        self.versions = (
            f"SELECT t.{key}, t.epoch, t.state_epoch, t.state_version, {end} FROM {table} AS t "
            f"WHERE {of_kind}t.{key} IN (%s)"
        )
        # told, key, epoch, generation
        told = ", open_facts = open_facts AND NOT ?1" if has_facts(mapping) else ""
        self.release = (
            f"UPDATE {table} SET owner_node = NULL{told} "
            f"WHERE {of_kind}{key} = ?2 AND epoch = ?3 AND {_still_ours(table, '?4')}"
        )
        # key, epoch, node, incarnation, next_seq, token, generation
        whole = "(?5 = 0 OR next_seq = ?5)" if logged else "?5 = 0"
        self.move = (
            f"UPDATE {table} SET epoch = epoch + 1, owner_node = ?3, owner_incarnation = ?4, claim_token = ?6 "
            f"WHERE {of_kind}{key} = ?1 AND epoch = ?2 AND owner_node IS NOT NULL AND {whole} "
            f"AND {_still_ours(table, '?7')} "
            "AND EXISTS (SELECT 1 FROM nodes AS m WHERE m.node_id = ?3 AND m.incarnation = ?4 AND m.state = 'up')"
        )
        self.owners = (
            f"SELECT t.{key}, t.epoch, t.owner_node, t.owner_incarnation FROM {table} AS t "
            f"WHERE {of_kind}t.{key} IN (%s)"
        )
        self.unowned = _unowned(mapping, of_kind, _live(mapping), "?1", "?2")
        self.strays = _unowned(mapping, of_kind, [mapping.here] if mapping.here else [], "?1", "?2")
        self.count_owned = _count_owned(mapping, of_kind)
        self.is_at = f"SELECT 1 FROM {table} WHERE {of_kind}{key} = ? AND epoch = ?"
        if logged:
            self._log(mapping, table, key, of_kind, sets)

    def _log(self, mapping: Mapping, table: str, key: str, of_kind: str, sets: str) -> None:
        # next_seq, head, key, epoch, first_seq, prev_head
        self.advance = (
            f"UPDATE {table} SET next_seq = ?, head = ? "
            f"WHERE {of_kind}{key} = ? AND epoch = ? AND next_seq = ? AND head = ?"
        )
        # key, next_seq, head: a row that nobody owns and that has no event
        self.fill = (
            f"UPDATE {table} SET epoch = {_next_epoch(mapping, '')}, next_seq = ?2, head = ?3 "
            f"WHERE {of_kind}{key} = ?1 AND next_seq = 1 AND owner_node IS NULL AND typeof(epoch) = 'integer' "
            "RETURNING epoch"
        )
        # key, next_seq, head before, head after
        told = " AND NOT open_facts" if has_facts(mapping) else ""
        self.redact = (
            f"UPDATE {table} SET epoch = epoch + 1, owner_node = NULL, head = ?4, state_version = 0 "
            f"WHERE {of_kind}{key} = ?1 AND next_seq = ?2 AND head = ?3{told} AND typeof(epoch) = 'integer' "
            f"AND (owner_node IS NULL OR {_over(table, '1 = 1')}) RETURNING epoch"
        )
        self.list_logs = _begun(mapping, of_kind, "?1", "?2")
        # epoch, seq, seq, columns, key, epoch, seq, next_seq
        self.project = (
            f"UPDATE {table} SET state_epoch = ?, state_version = ?, projected_seq = ?{sets} "
            f"WHERE {of_kind}{key} = ? AND epoch = ? AND state_version < ? AND next_seq = ?"
        )
        self.end = f"SELECT next_seq, head, epoch FROM {table} WHERE {of_kind}{key} = ?"
        self.children: list[ChildStatements] = []
        for children in mapping.children:
            owner, child, seq = (column.name for column in list(children.table.c)[:3])
            names = (owner, child, seq, *children.columns)
            updates = ", ".join(f"{name} = excluded.{name}" for name in names[2:])
            put = (
                f"INSERT INTO {children.table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
                f"ON CONFLICT ({owner}, {child}) DO UPDATE SET {updates}"
            )
            drop = f"DELETE FROM {children.table.name} WHERE {owner} = ? AND {seq} < ?"
            clear = f"DELETE FROM {children.table.name} WHERE {owner} = ?"
            self.children.append(ChildStatements(put, drop, clear))


CHUNK_INSERT_SQLITE: Final = (
    "INSERT INTO log_chunks (kind, key, first_seq, last_seq, sealed, data) VALUES (?, ?, ?, ?, ?, ?)"
)
CHUNK_INSERT: Final = (
    "INSERT INTO log_chunks (kind, key, first_seq, last_seq, sealed, data) VALUES ($1, $2, $3, $4, true, $5)"
)
CHUNKS_DROP: Final = "DELETE FROM log_chunks WHERE kind = {0} AND key = {1}"
REDACTION_INSERT: Final = (
    "INSERT INTO redactions (kind, key, number, wall_ms, head, events) VALUES ({0}, {1}, {2}, {3}, {4}, {5})"
)
REDACTIONS: Final = "SELECT wall_ms, head, events FROM redactions WHERE kind = {0} AND key = {1} ORDER BY number"
REDACTIONS_DROP: Final = "DELETE FROM redactions WHERE kind = {0} AND key = {1}"
CHUNK_COVERED: Final = (
    "SELECT first_seq, last_seq, sealed FROM log_chunks "
    "WHERE kind = {0} AND key = {1} AND last_seq >= {2} AND first_seq <= {3} ORDER BY first_seq"
)
CHUNK_DELETE: Final = "DELETE FROM log_chunks WHERE kind = {0} AND key = {1} AND first_seq >= {2} AND first_seq <= {3}"
CHUNKS_FROM: Final = (
    "SELECT first_seq, last_seq, sealed, data FROM log_chunks "
    "WHERE kind = {0} AND key = {1} AND last_seq >= {2} AND first_seq < {3} ORDER BY first_seq"
)
CHUNKS_TAIL: Final = (
    "SELECT first_seq, last_seq, sealed, data FROM log_chunks WHERE kind = {0} AND key = {1} "
    "AND first_seq >= coalesce((SELECT max(first_seq) FROM log_chunks WHERE kind = {0} AND key = {1} AND sealed), 0) "
    "ORDER BY first_seq"
)

ERASURE_KEY_READ: Final = f"SELECT value FROM counters WHERE name = '{ERASURE_KEY}'"
BAR: Final = (
    "INSERT INTO tombstones (hash, barred, until) VALUES ({0}, 2, {1}) ON CONFLICT (hash) DO UPDATE SET barred = 2, "
    "until = CASE WHEN tombstones.until < excluded.until THEN excluded.until ELSE tombstones.until END"
)
LIFT: Final = "UPDATE tombstones SET barred = 1 WHERE hash = {0} AND barred > 0"
PARDON: Final = "UPDATE tombstones SET until = 0 WHERE hash = {0}"
FLOOR: Final = (
    "UPDATE tombstones SET epoch = CASE WHEN epoch < {1} THEN {1} ELSE epoch END WHERE hash = {0} AND barred = 2"
)
FLOORS_PG: Final = "SELECT hash, epoch FROM tombstones WHERE hash = ANY($1::bytea[])"
FLOORS_SQLITE: Final = "SELECT hash, epoch FROM tombstones WHERE hash IN (%s)"
REVIVED: Final = {
    1: "UPDATE tombstones SET barred = 0 WHERE barred = 1 AND until <= {1} AND hash = {0}",
    2: "UPDATE tombstones SET barred = 0 WHERE barred = 1 AND hash = {0}",
}
"""By `Claim.revive`."""
REMINDERS_OF_DROP: Final = "DELETE FROM reminders WHERE kind = {0} AND key = {1}"

REMINDER_NEWER: Final = (
    "ON CONFLICT (kind, key, name) "
    "DO UPDATE SET due_ms = excluded.due_ms, epoch = excluded.epoch, number = excluded.number "
    "WHERE (reminders.epoch, reminders.number) < (excluded.epoch, excluded.number)"
)
REMINDER_SET_SQLITE: Final = (
    f"INSERT INTO reminders (kind, key, name, epoch, number, due_ms) VALUES (?, ?, ?, ?, ?, ?) {REMINDER_NEWER}"
)
# kind, key, name, epoch, number
REMINDER_UNSET_SQLITE: Final = (
    "DELETE FROM reminders WHERE kind = ? AND key = ? AND name = ? AND (epoch, number) < (?, ?)"
)
REMINDER_DROP: Final = (
    "DELETE FROM reminders "
    "WHERE due_ms = {0} AND kind = {1} AND key = {2} AND name = {3} AND epoch = {4} AND number = {5}"
)
REMINDERS_DUE: Final = (
    "SELECT due_ms, kind, key, name, epoch, number FROM reminders "
    "WHERE (due_ms, kind, key, name) > ({0}, {1}, {2}, {3}) AND due_ms <= {4} "
    "ORDER BY due_ms, kind, key, name LIMIT {5}"
)
