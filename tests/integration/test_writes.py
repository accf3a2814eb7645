"""Rows change in place: what a commit of events costs beside the events (F47)."""

import re
import sqlite3
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from game.match.state import Line, Lines, MatchState
from persistence.engine import tables
from persistence.engine.statements import PostgresStatements, SqliteStatements
from persistence.engine.urls import parse
from persistence.game.mappings import MAPPINGS
from persistence.game.tables import matches
from server.eventlog.ports import Append
from server.ids import ActorId, NodeAddress, NodeId
from server.storage.ports import Claim, Owned
from tests.support.databases import postgres_url, sql_store, sqlite_url
from tests.support.waiting import until

IN_PLACE = {"next_seq", "head", "projected_seq", "state_epoch", "state_version", "time_ms", "team_scores"}
"""Columns that commits of a log's events change."""
LOGS = 40
COMMITS = 60
ROWS = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = $1"


@pytest.mark.parametrize("table", [matches, tables.actors], ids=str)
def test_no_index_names_a_column_that_each_event_changes(table: object) -> None:
    for index in table.indexes:  # type: ignore[attr-defined]
        made = str(CreateIndex(index).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
        assert not IN_PLACE & set(re.findall(r"\w+", made)), made


def played(players: int, kills: int) -> MatchState:
    return MatchState("host", players=Lines({f"p{n}": Line(kills=kills) for n in range(players)}))


async def test_commits_of_events_change_rows_in_place() -> None:
    url = postgres_url()
    ids = sorted(ActorId(f"match/m{n}") for n in range(LOGS))
    store = sql_store(url)
    await store.open()
    try:
        me = NodeAddress(NodeId("node-a"), await store.register_node(NodeId("node-a"), 60.0))
        claimed = await store.claim("match", [Claim(id, n + 1) for n, id in enumerate(ids)], me)
        heads = dict.fromkeys(ids, b"")
        stored: MatchState | None = None
        for seq in range(1, COMMITS + 1):
            state = played(8, seq) if seq == 1 or seq % 20 == 0 else None
            batch = []
            for id in ids:
                owned = claimed[id]
                assert isinstance(owned, Owned)
                head = f"{seq:016}".encode()
                batch.append(
                    Append(id, owned.epoch, seq, seq, heads[id], head, b"x" * 60, state, stored if state else None)
                )
                heads[id] = head
            assert set((await store.append("match", batch)).values()) == {"written"}
            stored = state or stored
    finally:
        await store.close()  # its connections tell their counts as they end
    connection = await asyncpg.connect(url)
    try:

        async def counted() -> bool:
            updated, _ = await connection.fetchrow(ROWS, "matches")
            return bool(updated >= LOGS * COMMITS)

        await until(counted)
        for table, wanted, share in (("matches", LOGS * COMMITS, 0.85), ("participants", LOGS * 8 * 3, 0.5)):
            updated, in_place = await connection.fetchrow(ROWS, table)
            assert updated >= wanted and in_place >= share * updated, (table, updated, in_place)
    finally:
        await connection.close()


async def test_tables_leave_room_for_the_next_version_of_a_row() -> None:
    connection = await asyncpg.connect(postgres_url())
    try:
        found = dict(await connection.fetch("SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL"))
    finally:
        await connection.close()
    for table in ("matches", "participants", "players", "actors", "nodes"):
        assert any(option.startswith("fillfactor=") for option in found[table]), table
    assert found["log_chunks"] == ["autovacuum_vacuum_scale_factor=0.02"]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_matches_without_a_node_are_found_by_their_index(database: str, tmp_path: Path) -> None:
    if database == "sqlite":
        sql = SqliteStatements(MAPPINGS["match"]).unowned
        with sqlite3.connect(parse(sqlite_url(tmp_path)).path) as file:
            plan = "\n".join(row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {sql}", (10, "")))
        file.close()
    else:
        sql = PostgresStatements(MAPPINGS["match"]).unowned
        connection = await asyncpg.connect(postgres_url(), server_settings={"enable_seqscan": "off"})
        try:
            text = sql.replace("$1", "10").replace("$2", "''")
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {text}"))
        finally:
            await connection.close()
    assert "ix_matches_live" in plan, plan
