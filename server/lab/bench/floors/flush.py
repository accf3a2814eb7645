"""Floor of `flush-…`: one fenced statement for a batch of player rows, by the bare driver."""

import sqlite3
from typing import Any

COLUMNS = (
    "display_name", "emblem", "status", "chosen", "last_seen_ms", "current_match",
    "matches", "wins", "kills", "deaths", "assists", "medals", "recent",
)  # fmt: skip
TYPES = (*["text"] * 4, "int8", "text", *["int8"] * 6, "bytea")
VALUES = ("Spartan", "", "online", "online", 1_700_000_000_000, "", 0, 0, 0, 0, 0, 0, None)
SQLITE = (
    f"UPDATE players SET state_epoch = epoch, state_version = ?, {', '.join(f'{name} = ?' for name in COLUMNS)} "
    "WHERE player_id = ? AND epoch = ? AND state_version < ?"
)
ARRAYS = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(("text", "int8", "int8", *TYPES), 1))
POSTGRES = (
    "UPDATE players AS t SET state_epoch = t.epoch, state_version = v.version, "
    f"{', '.join(f'{name} = v.{name}' for name in COLUMNS)} "
    f"FROM unnest({ARRAYS}) AS v(k, epoch, version, {', '.join(COLUMNS)}) "
    "WHERE t.player_id = v.k AND t.epoch = v.epoch AND t.state_version < v.version RETURNING t.player_id"
)


def sqlite(connection: sqlite3.Connection, keys: list[str], version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    done = connection.executemany(SQLITE, [(version, *VALUES, key, 1, version) for key in keys])
    assert done.rowcount == len(keys)
    connection.execute("COMMIT")


async def postgres(connection: Any, keys: list[str], version: int) -> None:
    count = len(keys)
    columns = [[value] * count for value in VALUES]
    assert len(await connection.fetch(POSTGRES, keys, [1] * count, [version] * count, *columns)) == count
