"""Changes of a database's identity, as an operator says what became of it; each in one transaction.

    moved       it is the same one: the place is written anew
    copied      its original lives on: a name of its own, and none of the original's runs
    restored    it is the same one, as it was earlier: the next timeline, and numbers that were never issued

Runs in the `nodes` of a copy are those of the original, whose journals are theirs. In a restored database they are
over, and their journals hold what came before or after. In both the runs are closed as dead; their journals are neither
read nor removed.

Epochs and incarnations that were issued after the backup are not in it. Issued again they would let a process of
that time, which was stopped and wakes, write as an owner: so both go on far above all that can have been issued.
"""

from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, inspect, text

from persistence.engine import identity
from persistence.engine.identity import postgres_place, sqlite_place
from persistence.engine.statements import NEWEST_RUN
from persistence.engine.tables import INCARNATION
from server.errors import BadSetting
from server.storage.ports import DatabaseIdentity

EPOCHS: Final = 1 << 32
"""Step of every epoch: more claims of one entity than there can have been since a backup."""
INCARNATIONS: Final = 1_000_000
"""Step of the incarnations: more runs of nodes than there can have been since a backup."""


class ClosedRun(msgspec.Struct, frozen=True):
    """A run that was closed: `node#incarnation`, the entities that it owned, and its journal's place or nothing."""

    run: str
    entities: int
    journal: str


def read(connection: Connection) -> tuple[DatabaseIdentity, str]:
    """The identity that is stored, and the place where the database is. Raises `BadSetting` for a schema without
    one, `Corrupt`."""
    if not inspect(connection).has_table("database_identity"):
        raise BadSetting("store.url", "this database has no identity yet: run `garrison migrate`")
    rows = [tuple(row) for row in connection.execute(text(identity.READ))]
    return identity.stored(rows), _place(connection)


def _place(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        return sqlite_place(Path(connection.engine.url.database or ""))
    oid, may_ask = connection.execute(text(identity.PG_OID)).all()[0]
    system: Any = connection.execute(text(identity.PG_SYSTEM)).scalar_one() if may_ask else None
    return postgres_place(oid, system)


def moved(connection: Connection) -> DatabaseIdentity:
    """The same database is here now."""
    found, here = read(connection)
    return _write(connection, DatabaseIdentity(found.uuid, found.timeline, here))


def copied(connection: Connection, uuid: str) -> tuple[DatabaseIdentity, list[ClosedRun]]:
    """This is a copy, and called `uuid` from now on; the runs of the original that were closed in it."""
    _, here = read(connection)
    closed = _close_runs(connection, keep_journals=False)
    return _write(connection, DatabaseIdentity(uuid, 1, here)), closed


def restored(connection: Connection, keep_journals: bool) -> tuple[DatabaseIdentity, list[ClosedRun]]:
    """This database is as it was at an earlier time; the runs that were closed. `keep_journals`: what their journals
    hold is newer than the backup, and to be taken over."""
    found, here = read(connection)
    closed = _close_runs(connection, keep_journals)
    for table in owned_tables(connection):
        connection.execute(text(f"UPDATE {table} SET epoch = epoch + {EPOCHS}"))
    connection.execute(text(f"UPDATE tombstones SET epoch = epoch + {EPOCHS}"))
    newest = f"{NEWEST_RUN} UNION ALL SELECT coalesce(max(incarnation), 0) AS value FROM nodes"
    connection.execute(
        text(
            f"UPDATE counters SET value = (SELECT max(value) FROM ({newest}) AS known) + {INCARNATIONS} "
            f"WHERE name = '{INCARNATION}'"
        )
    )
    return _write(connection, DatabaseIdentity(found.uuid, found.timeline + 1, here)), closed


def owned_tables(connection: Connection) -> list[str]:
    """Tables whose rows have owners, the application's own too, as SQL names them."""
    found = inspect(connection)
    quote = connection.dialect.identifier_preparer.quote
    wanted = {"epoch", "owner_node", "owner_incarnation"}
    names = sorted(found.get_table_names())
    return [quote(name) for name in names if wanted <= {column["name"] for column in found.get_columns(name)}]


def _write(connection: Connection, new: DatabaseIdentity) -> DatabaseIdentity:
    connection.execute(
        text("UPDATE database_identity SET uuid = :uuid, timeline = :timeline, place = :place"),
        {"uuid": new.uuid, "timeline": new.timeline, "place": new.place},
    )
    return new


def _close_runs(connection: Connection, keep_journals: bool) -> list[ClosedRun]:
    entities: dict[tuple[str, int], int] = {}
    for table in owned_tables(connection):
        owners = (
            f"SELECT owner_node, owner_incarnation, count(*) FROM {table} WHERE owner_node IS NOT NULL GROUP BY 1, 2"
        )
        for node, run, number in connection.execute(text(owners)):
            entities[node, run] = entities.get((node, run), 0) + number
    unsettled = "state IN ('up', 'evicting') OR journal <> ''"
    runs = connection.execute(text(f"SELECT node_id, incarnation, journal FROM nodes WHERE {unsettled} ORDER BY 1, 2"))
    closed = [ClosedRun(f"{node}#{run}", entities.get((node, run), 0), journal) for node, run, journal in runs]
    connection.execute(text("UPDATE nodes SET state = 'dead' WHERE state IN ('up', 'evicting')"))
    if not keep_journals:
        connection.execute(text("UPDATE nodes SET journal = '' WHERE journal <> ''"))
    return closed
