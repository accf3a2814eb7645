"""What the engine relies on in PostgreSQL holds whatever the role and the database say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

import migrations
from persistence.engine.postgres_runs import REGISTER_LOCK
from tests.support.databases import postgres_server, postgres_url, sql_store
from tests.support.stores import LEASE_S, A, B
from tests.support.waiting import until

WAITING = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


async def set_for(url: str, name: str, value: str) -> None:
    """What every later connection to the database at `url` begins with."""
    database = url.rsplit("/", 1)[1].partition("?")[0]
    await postgres_server().execute(f"ALTER DATABASE {database} SET {name} = '{value}'")


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def shown(store: Any, lane: str, name: str) -> str:
    value: str = await store._database._pool.run(lambda connection: connection.fetchval(f"SHOW {name}"), lane=lane)
    return value


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_two_that_start_at_once_never_get_one_incarnation(level: str) -> None:
    """Both wait for the lock under which incarnations are issued; the second must see the first's."""
    url = postgres_url()
    await set_for(url, "default_transaction_isolation", level)
    a, b = sql_store(url), sql_store(url)
    await a.open()
    await b.open()
    try:
        async with client(url) as holder:
            await holder.execute(f"SELECT pg_advisory_lock({REGISTER_LOCK})")
            starting = [asyncio.ensure_future(one.register_node(name, LEASE_S)) for one, name in ((a, A), (b, B))]

            async def both_wait() -> bool:
                return bool(await holder.fetchval(WAITING) == 2)

            await until(both_wait)
            await holder.execute(f"SELECT pg_advisory_unlock({REGISTER_LOCK})")
            assert sorted(await asyncio.gather(*starting)) == [1, 2]
    finally:
        await a.close()
        await b.close()


async def test_two_that_migrate_at_once_take_turns_at_any_level() -> None:
    url = postgres_url(template="template0")
    await set_for(url, "default_transaction_isolation", "repeatable read")
    async with client(url) as holder:
        await holder.execute(f"SELECT pg_advisory_lock({migrations.PG_LOCK})")
        both = [asyncio.ensure_future(asyncio.to_thread(migrations.upgrade, url)) for _ in range(2)]

        async def both_wait() -> bool:
            return bool(await holder.fetchval(WAITING) == 2)

        await until(both_wait)
        await holder.execute(f"SELECT pg_advisory_unlock({migrations.PG_LOCK})")
        await asyncio.gather(*both)


@pytest.mark.parametrize("lane", ["work", "lease", "judge"])
async def test_every_connection_has_what_the_protocol_needs(lane: str) -> None:
    url = postgres_url()
    for name, value in {
        "default_transaction_isolation": "repeatable read",
        "synchronous_commit": "off",
        "lock_timeout": "1ms",
        "statement_timeout": "1ms",
        "idle_in_transaction_session_timeout": "1ms",
    }.items():
        await set_for(url, name, value)
    store = sql_store(url, statement_timeout_s=20.0, lease_period_s=20.0, lease_renew_s=10.0)
    await store.open()
    try:
        assert await shown(store, lane, "transaction_isolation") == "read committed"
        assert await shown(store, lane, "synchronous_commit") == "on"
        assert await shown(store, lane, "lock_timeout") == ("5s" if lane == "judge" else "0")
        assert await shown(store, lane, "statement_timeout") == ("20s" if lane == "work" else "9s")
        assert await shown(store, lane, "idle_in_transaction_session_timeout") == ("40s" if lane == "work" else "18s")
    finally:
        await store.close()


async def test_the_operators_settings_of_standbys_are_kept() -> None:
    url = postgres_url()
    await set_for(url, "synchronous_commit", "remote_apply")
    store = sql_store(url)
    await store.open()
    try:
        assert await shown(store, "work", "synchronous_commit") == "remote_apply"
    finally:
        await store.close()


async def test_leases_do_not_depend_on_the_time_zone() -> None:
    url = postgres_url()
    here, there = sql_store(url), sql_store(url)
    await here.open()
    await here.register_node(A, LEASE_S)
    await set_for(url, "TimeZone", "Pacific/Kiritimati")
    await there.open()
    try:
        assert await shown(there, "work", "TimeZone") == "Pacific/Kiritimati"
        assert await there.bury_expired() == []
        (row,) = await there.nodes()
        assert 0 < row.lease_left_s <= LEASE_S
    finally:
        await here.close()
        await there.close()
