"""A database's identity: a name of its own, and the place where its nodes last ran on it.

    uuid        made by the migration; a copy that lives on beside its original gets another
    timeline    1; a restore from a backup begins the next, since what came after the backup is not in it
    place       PostgreSQL: system identifier and oid of the database; SQLite: file system and inode

A dump copies the name and cannot copy the place. So a node compares the place that is written in the database with
the one where it finds it, and where they differ only an operator can say why (`garrison database`). The first node
after the migration writes the place.

A part that is not known is `?`, and differs from nothing: a role that may not execute `pg_control_system()` sees
only the oid. Of SQLite's file system its id counts (`f_fsid`), which on most outlives a restart of the machine; the
device's number does not.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from server.errors import Corrupt
from server.storage.ports import DatabaseIdentity

UNKNOWN: Final = "?"
READ: Final = "SELECT uuid, timeline, place FROM database_identity"
PG_OID: Final = (
    "SELECT (SELECT oid FROM pg_database WHERE datname = current_database())::text, coalesce("
    "has_function_privilege(to_regprocedure('pg_catalog.pg_control_system()')::oid, 'EXECUTE'), false)"
)
"""The database's oid, and whether the next statement is allowed: rights on functions are checked although a branch of
a statement that calls them is not taken."""
PG_SYSTEM: Final = "SELECT system_identifier::text FROM pg_control_system()"


def postgres_place(oid: str, system: str | None) -> str:
    return f"postgresql:{system or UNKNOWN}:{oid}"


def sqlite_place(path: Path) -> str:
    """Raises `OSError`."""
    return f"sqlite:{os.statvfs(path).f_fsid:x}:{os.stat(path).st_ino}"


def stored(rows: Sequence[Sequence[Any]]) -> DatabaseIdentity:
    """The identity in the rows that `READ` gives. Raises `Corrupt`."""
    if len(rows) != 1 or [type(value) for value in rows[0]] != [str, int, str] or not rows[0][0]:
        raise Corrupt("table database_identity does not hold one identity")
    return DatabaseIdentity(*rows[0])


def is_same(place: str, other: str) -> bool:
    """Whether two places are one, as far as is known."""
    parts, others = place.split(":"), other.split(":")
    if len(parts) != len(others):
        return False
    return all(a == b or UNKNOWN in (a, b) for a, b in zip(parts, others, strict=True))


def is_new(place: str, here: str) -> bool:
    """Whether `here` is to be written in the place of `place`: nothing is yet, or less is known."""
    return not place or (place != here and is_same(place, here) and UNKNOWN not in here)


def moved(shown: str, identity: DatabaseIdentity, here: str) -> str:
    """The complaint about a database, `shown` to people, that is found at another place."""
    return (
        f"database {identity.name} at {shown} was elsewhere when nodes last ran on it ({identity.place}; here {here}): "
        "say `garrison database moved --yes` where it has moved, `garrison database restored --yes` where it was "
        "restored from a backup, `garrison database copy --yes` where it is a copy and the original lives on"
    )
