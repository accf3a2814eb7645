"""SQL and commands that docs/operations.md tells operators, tried."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from server.cli.local_cluster import Home, LocalCluster
from tests.support.databases import postgres_url

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


def sql_of(section: str) -> str:
    """The SQL below the words `section`."""
    found = re.search(r"```sql\n(.*?)```", PAGE[PAGE.index(section) :], re.DOTALL)
    assert found is not None
    return found[1]


async def test_old_matches_are_dropped_whole_and_no_others() -> None:
    """D20."""
    connection = await asyncpg.connect(postgres_url().replace("postgresql+asyncpg", "postgresql"))
    now_ms = int(time.time() * 1000)
    day_ms = 86_400_000
    matches = [
        ("old", "ended", None, now_ms - 91 * day_ms),
        ("settling", "ended", "node-1", now_ms - 91 * day_ms),
        ("young", "ended", None, now_ms - 89 * day_ms),
        ("live", "live", "node-1", 0),
    ]
    try:
        for match, phase, owner, ended_ms in matches:
            await connection.execute(
                "INSERT INTO matches (match_id, phase, owner_node, ended_wall_ms, head) VALUES ($1, $2, $3, $4, '')",
                *(match, phase, owner, ended_ms),
            )
            await connection.execute(
                "INSERT INTO participants (match_id, player_id, present) VALUES ($1, 'p', true)", match
            )
            await connection.execute("INSERT INTO match_tags (match_id, tag) VALUES ($1, 't')", match)
            await connection.execute("INSERT INTO match_properties (match_id, name, value) VALUES ($1, 'n', '')", match)
            await connection.execute(
                "INSERT INTO log_chunks (kind, key, first_seq, last_seq, sealed, data) "
                "VALUES ('match', $1, 1, 1, true, '')",
                match,
            )
        await connection.execute(sql_of("## What grows"))
        of_matches = ("matches", "participants", "match_properties", "match_tags")
        for table, column in (*((table, "match_id") for table in of_matches), ("log_chunks", "key")):
            left = await connection.fetch(f"SELECT {column} FROM {table} ORDER BY 1")
            assert [row[0] for row in left] == ["live", "settling", "young"], table
    finally:
        await connection.close()


@pytest.mark.slow
async def test_bots_play_on_a_node_whose_role_has_the_rights_that_the_page_names(tmp_path: Path) -> None:
    """D17, D23."""
    owner = make_url(postgres_url()).set(drivername="postgresql")
    connection = await asyncpg.connect(owner.render_as_string(hide_password=False))
    role = f"garrison_node_{owner.database}"
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    nodes = LocalCluster(Home(tmp_path / "home"), 1, 0, [])
    try:
        await connection.execute(sql_of("**Rights of").replace("garrison_node", role))
        limited = owner.set(username=role, password="secret").render_as_string(hide_password=False)
        await nodes.prepare("rights", limited)
        await nodes.start(lambda text: None)
        ledger = tmp_path / "bots.jsonl"
        options = f"--players 8 --speed 60 --ledger {ledger} --config {nodes.home.config}".split()
        command = [sys.executable, "-m", "server.main", "bots", "--url", nodes.gateways[0], *options]
        bots = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert bots.stdout is not None
        async with asyncio.timeout(60):
            while json.loads(await bots.stdout.readline())["kind"] != "ended":
                pass
            bots.terminate()
            rest = await bots.stdout.read()
            assert await bots.wait() == 0
        assert json.loads(rest.splitlines()[-1])["kind"] == "done"
        assert ledger.stat().st_size
        assert await connection.fetchval("SELECT count(*) FROM matches")
    finally:
        await nodes.stop()
        await connection.execute(f"DROP OWNED BY {role}")
        await connection.execute(f"DROP ROLE {role}")
        await connection.close()
