"""SQL and commands that docs/operations.md tells operators, tried."""

import asyncio
import json
import re
import sys
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
