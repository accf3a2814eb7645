"""The triggers that write `chaos_writes`, made of the tables' own columns: see `writes.Write`."""

from typing import Final

from sqlalchemy import Table

import migrations

TABLE: Final = "chaos_writes"
_BOOKKEEPING: Final = {
    "epoch", "state_epoch", "state_version", "owner_node", "owner_incarnation", "claim_token", "next_seq", "head",
    "projected_seq", "open_facts",
}  # fmt: skip
_WATCHED: Final = ("epoch", "owner_node", "owner_incarnation", "state_epoch", "state_version")
_COLUMNS: Final = (
    "entity, old_epoch, epoch, old_state_epoch, state_epoch, old_version, version, owner, old_next_seq, next_seq, "
    "rewritten, writer, transaction_name"
)
SELECT: Final = f"SELECT {_COLUMNS} FROM {TABLE} ORDER BY seq"


def owned_tables() -> list[Table]:
    """Every table whose rows have an owner and an epoch."""
    found = migrations.metadata().sorted_tables
    return [table for table in found if {"epoch", "state_epoch", "owner_node"} <= set(table.c.keys())]


def statements(dialect: str) -> list[str]:
    """Statements that make the table and its triggers in an empty, migrated database."""
    made = [_TABLES[dialect]]
    for table in owned_tables():
        made += _sqlite(table) if dialect == "sqlite" else _postgres(table)
    return made


_SHAPE: Final = (
    "entity text NOT NULL, old_epoch bigint NOT NULL, epoch bigint NOT NULL, old_state_epoch bigint NOT NULL, "
    "state_epoch bigint NOT NULL, old_version bigint NOT NULL, version bigint NOT NULL, owner text NOT NULL, "
    "old_next_seq bigint NOT NULL, next_seq bigint NOT NULL, rewritten boolean NOT NULL, writer text NOT NULL, "
    "transaction_name text NOT NULL"
)
_TABLES: Final = {
    "sqlite": f"CREATE TABLE {TABLE} (seq integer PRIMARY KEY AUTOINCREMENT, {_SHAPE})",
    "postgresql": f"CREATE TABLE {TABLE} (seq bigserial PRIMARY KEY, {_SHAPE})",
}


def kind_of(table: Table) -> str:
    """The kind of the actors whose rows are in a table: as its key is called, unless the table says it."""
    (key,) = table.primary_key
    return str(table.info.get("kind", key.name.removesuffix("_id")))


def _content(table: Table) -> list[str]:
    """The columns that are the entity's state."""
    return [column.name for column in table.c if not column.primary_key and column.name not in _BOOKKEEPING]


def _entity(table: Table) -> str:
    keys = [column.name for column in table.primary_key]
    if keys == ["kind", "key"]:
        return "NEW.kind || '/' || NEW.key"
    (key,) = keys
    return f"'{kind_of(table)}/' || NEW.{key}"


def _insert(table: Table, old: str, rewritten: str, writer: str = "'', ''") -> str:
    """The statement for a change of a row of `table`; `old` is OLD, or empty for an insertion. `writer` gives
    the last two values."""

    def before(name: str, none: int = 0) -> str:
        return f"{old}.{name}" if old else str(none)

    logged = "next_seq" in table.c
    owner = "coalesce(NEW.owner_node || '#' || NEW.owner_incarnation, '')"
    values = [
        _entity(table), before("epoch"), "NEW.epoch", before("state_epoch"), "NEW.state_epoch",
        before("state_version"), "NEW.state_version", owner, before("next_seq", 1) if logged else "1",
        "NEW.next_seq" if logged else "1", rewritten, writer,
    ]  # fmt: skip
    return f"INSERT INTO {TABLE} ({_COLUMNS}) VALUES ({', '.join(values)})"


def _sqlite(table: Table) -> list[str]:
    watched = [*_WATCHED, *(["next_seq"] if "next_seq" in table.c else [])]
    changed = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in watched)
    content = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in _content(table))
    rewritten = f"(NEW.state_version IS OLD.state_version AND ({content}))"
    name = f"chaos_{table.name}"
    return [
        f"CREATE TRIGGER {name}_insert AFTER INSERT ON {table.name} BEGIN {_insert(table, '', '0')}; END",
        f"CREATE TRIGGER {name}_update AFTER UPDATE ON {table.name} WHEN {changed} OR {content} "
        f"BEGIN {_insert(table, 'OLD', rewritten)}; END",
    ]


def _postgres(table: Table) -> list[str]:
    watched = [*_WATCHED, *(["next_seq"] if "next_seq" in table.c else [])]
    changed = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in watched)
    content = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in _content(table))
    rewritten = f"(NEW.state_version = OLD.state_version AND ({content}))"
    writer = "coalesce(current_setting('garrison.writer', true), ''), pg_current_xact_id()::text"
    name = f"chaos_{table.name}"
    return [
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP = 'INSERT' THEN {_insert(table, '', 'false', writer)}; "
        f"ELSIF {changed} OR {content} THEN {_insert(table, 'OLD', rewritten, writer)}; END IF; RETURN NULL; END $$",
        f"CREATE TRIGGER {name} AFTER INSERT OR UPDATE ON {table.name} FOR EACH ROW EXECUTE FUNCTION {name}()",
    ]
