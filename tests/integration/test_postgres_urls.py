"""Addresses of PostgreSQL as people give them, and servers that change behind a name, on a real server."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import migrations
from server.errors import Unavailable
from server.ids import NodeAddress, NodeId
from server.lab.chaos.stores import connected
from tests.support.databases import empty_url, sql_store
from tests.support.program import garrison, here


@pytest.fixture
def empty(tmp_path: Path) -> str:
    """A database without tables; the URL has parameters already."""
    url = empty_url("postgres", tmp_path)
    return url if "?" in url else f"{url}?application_name=t"


@pytest.mark.parametrize(
    "query", ["sslmode=prefer&channel_binding=require", "ssl=false&connect_timeout=5", "pgbouncer=true"]
)
async def test_every_part_takes_the_urls_that_providers_print(empty: str, query: str) -> None:
    """F13: migrations, the store and tools read one URL alike."""
    url = "postgres" + empty.removeprefix("postgresql") + "&" + query
    await migrations.upgrade_async(url)
    assert await migrations.current_async(url) == migrations.newest()
    store = sql_store(url)
    await store.open()
    try:
        assert await store.register_node(NodeId("n"), 60.0) == 1
    finally:
        await store.close()
    async with connected(url) as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM nodes")).scalar() == 1


async def test_a_wrong_password_is_told_without_it_by_every_command(empty: str, tmp_path: Path) -> None:
    """F56: the host is wrong, so that nobody answers."""
    for url in ("postgresql://u:s3cret@127.0.0.1:1/x", "postgresql://u@127.0.0.1:1/x?password=s3cret"):
        for command in (("migrate",), ("replay", "latest"), ("node", "--set", "security.signing_key=" + "k" * 32)):
            program = garrison if command[0] == "node" else here
            done = await asyncio.to_thread(program, *command, "--set", f"store.url={url}", cwd=tmp_path)
            assert done.returncode == 2
            assert "u:***@127.0.0.1:1/x" in done.stderr or "no database" in done.stderr, done.stderr
            assert "s3cret" not in done.stderr + done.stdout


@pytest.mark.parametrize("lane", ["work", "lease"])
async def test_a_server_that_is_read_only_now_is_left(empty: str, lane: Any) -> None:
    """F15: after a failover the connections are to what was the primary; new ones find the new one."""
    await migrations.upgrade_async(empty)
    store = sql_store(empty, pool_size=2)
    await store.open()
    pool = store._database._pool  # type: ignore[attr-defined]

    async def backend(connection: Any) -> int:
        pid: int = await connection.fetchval("SELECT pg_backend_pid()")
        return pid

    try:
        node = NodeAddress(NodeId("n"), await store.register_node(NodeId("n"), 60.0))
        assert await store.renew_lease(node, 60.0)
        others = {name: await pool.run(backend, lane=name) for name in ("work", "lease", "judge")}
        await pool.run(lambda connection: connection.execute("SET default_transaction_read_only = on"), lane=lane)
        with pytest.raises(Unavailable, match="read-only"):
            await pool.run(lambda connection: connection.execute("UPDATE nodes SET state = state"), lane=lane)
        assert await store.renew_lease(node, 60.0)
        for name, pid in others.items():
            assert await pool.run(backend, lane=name) != pid, "all connections are to the same server"
        await pool.run(lambda connection: connection.execute("UPDATE nodes SET state = state"), lane=lane)
    finally:
        await store.close()
