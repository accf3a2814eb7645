"""The engine's tables. Each of `migrations/versions` makes a part of them.

`nodes` holds the runs of nodes that live or whose journals are open: one that is over and whose journal is
closed is pruned (`statements.py` says why its entities can be claimed all the same). The number of the newest
run stands in `counters`. Rows of owned entities are deleted with their logs only (`over.py`), and then the highest
epoch of such a row stands there, too: an epoch or an incarnation, once issued, is never issued again. Numbers are 64
bits; `lease_until` is in seconds since 1970 on the store's own clock; `journal` is where a run keeps what is not
stored yet, empty if there is no such place; `database` is the identity of the database in which it registered, empty
for runs of versions that knew none; `generation` counts the processes of a run that took it over from the one before,
and `heir` is a random name of the last of them. `database_identity` has one row.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    func,
    text,
)

SCHEMA_VERSION: Final = "0022"
"""The newest migration of the engine: the one that `SqlStore.open` asks for."""
VERSION_TABLE: Final = "alembic_version"
"""The table that says which of the engine's migrations was applied last. Of application `clans` it
is `alembic_version_clans`."""


def newer(found: str, app: str = "", known: str = SCHEMA_VERSION) -> str:
    """The complaint about a database with a migration of application `app` (empty: of the engine) that this
    program does not have."""
    schema, of = ("schema", "") if not app else (f"schema {app}:", f"{app}:")
    back = f"`garrison migrate --down {of}{known} --yes`"
    return f"has {schema} {found} and this program knows up to {known}: run the newer program, or its {back}"


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

KeyText: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""Keys compare byte by byte everywhere, so that rows are locked in one order by every node."""


def number(name: str, **options: Any) -> Column[int]:
    """A 64-bit column that begins at 0."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"), **options)


def ownership() -> tuple[Column[Any], ...]:
    """Columns of every owned entity. A released row has no `owner_node`, but keeps the last
    owner's incarnation and claim token, so that a late repetition of that claim is known."""
    return (
        number("epoch"),
        number("state_epoch"),
        number("state_version"),
        Column("owner_node", KeyText),
        Column("owner_incarnation", BigInteger),
        number("claim_token"),
    )


def log_end() -> tuple[Column[Any], ...]:
    """Columns of every entity that has an event log: the log's end, and how far the row's own
    state (a projection of the log) has come."""
    return (
        Column("next_seq", BigInteger, nullable=False, server_default=text("1")),
        Column("head", LargeBinary, nullable=False),
        number("projected_seq"),
    )


def facts() -> "Column[bool]":
    """The column of every entity that may have facts: whether one is open, so that it is looked for where its owner is
    gone (`server/actors/facts.py`)."""
    return Column("open_facts", Boolean, nullable=False, server_default=false())


LIVING: Final = "state IN ('up', 'evicting')"
LEFT_A_JOURNAL: Final = "state IN ('dead', 'left') AND journal <> ''"
INCARNATION: Final = "incarnation"
"""The counter of runs."""
DELETED_EPOCH: Final = "deleted_epoch"
"""The highest epoch of a row that was deleted: new rows begin above it."""
ERASURE_KEY: Final = "erasure_key"
"""The number that hashes of people's keys are made with."""

nodes = Table(
    "nodes",
    metadata,
    Column("node_id", KeyText, primary_key=True),
    Column("incarnation", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("lease_until", Double),
    Column("journal", Text, nullable=False, server_default=text("''")),
    Column("database", Text, nullable=False, server_default=text("''")),
    number("generation"),
    Column("heir", Text, nullable=False, server_default=text("''")),
    CheckConstraint("state IN ('up', 'evicting', 'dead', 'left')", name="state"),
    Index("ix_nodes_living", "node_id", postgresql_where=text(LIVING), sqlite_where=text(LIVING)),
    Index(
        "ix_nodes_left_a_journal", "node_id", postgresql_where=text(LEFT_A_JOURNAL), sqlite_where=text(LEFT_A_JOURNAL)
    ),
)

database_identity = Table(
    "database_identity",
    metadata,
    Column("single", Integer, primary_key=True, autoincrement=False),
    Column("uuid", Text, nullable=False),
    Column("timeline", BigInteger, nullable=False),
    Column("place", Text, nullable=False),
    CheckConstraint("single = 1", name="single"),
)

counters = Table(
    "counters",
    metadata,
    Column("name", KeyText, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Numbers of the whole database. `incarnation`: the newest run of any node, which only rises, as `deleted_epoch` does:
the highest epoch of a row that was deleted with its log, if any was. `erasure_key`: a random one, by which keys of
people are hashed in `tombstones`."""

actors = Table(
    "actors",
    metadata,
    Column("kind", KeyText, primary_key=True),
    Column("key", KeyText, primary_key=True),
    *ownership(),
    *log_end(),
    Column("state", LargeBinary),
    facts(),
    Index("ix_actors_open_facts", "kind", "key", postgresql_where=text("open_facts"), sqlite_where=text("open_facts")),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("kind", KeyText, primary_key=True),
    Column("key", KeyText, primary_key=True),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("sealed", Boolean, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False, server_default=func.current_timestamp()),
)

log_recorders = Table(
    "log_recorders",
    metadata,
    Column("kind", KeyText, primary_key=True),
    Column("key", KeyText, primary_key=True),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("node_id", KeyText, nullable=False),
    Column("incarnation", BigInteger, nullable=False),
    Column("began_ms", BigInteger, nullable=False),
    Index("ix_log_recorders_node_id", "kind", "node_id", "began_ms"),
)
"""A row for each activation of a log on a node that keeps its events as columns: events from `first_seq` on, up to the
next row's, were recorded there, and nowhere else. It is written with the first append."""

redactions = Table(
    "redactions",
    metadata,
    Column("kind", KeyText, primary_key=True),
    Column("key", KeyText, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("wall_ms", BigInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("events", BigInteger, nullable=False),
)
"""A row for each time that a log was redacted (`server/eventlog/redaction.py`), numbered from 1: the running hash that
it ended with before, and how many events were changed."""

tombstones = Table(
    "tombstones",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    number("epoch"),
    number("barred"),
    Column("until", Double, nullable=False, server_default=text("0")),
)
"""A row for each person that was erased, by a keyed hash (its key is the counter `erasure_key`). `barred`: 2 while the
erasure is going, and nothing makes an entity of that key; 1 afterwards, until somebody names it anew, which is refused
before `until`; 0 from then on. `epoch`: the highest one that was issued to an entity that is gone."""

reminders = Table(
    "reminders",
    metadata,
    Column("kind", KeyText, primary_key=True),
    Column("key", KeyText, primary_key=True),
    Column("name", KeyText, primary_key=True),
    Column("due_ms", BigInteger, nullable=False),
    number("epoch"),
    number("number"),
    Index("ix_reminders_due_ms", "due_ms", "kind", "key", "name"),
)
