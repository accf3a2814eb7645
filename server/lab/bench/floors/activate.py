"""Floor of `activate`: claim rows by their keys and read them, in one transaction, bare sqlite3."""

import sqlite3

from server.lab.bench.floors.flush import COLUMNS

CLAIM = (
    "UPDATE players SET epoch = epoch + 1, owner_node = 'bench', owner_incarnation = 1 "
    "WHERE player_id = ? AND owner_node IS NULL"
)
READ = f"SELECT player_id, epoch, state_epoch, state_version, {', '.join(COLUMNS)} FROM players WHERE player_id IN "


def run(connection: sqlite3.Connection, keys: list[str], batch: int) -> int:
    found = 0
    for start in range(0, len(keys), batch):
        some = keys[start : start + batch]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(CLAIM, [(key,) for key in some])
        found += len(connection.execute(f"{READ} ({','.join('?' * len(some))})", some).fetchall())
        connection.execute("COMMIT")
    return found
