"""Renewing and judging on PostgreSQL while other connections wait, rows are locked and the network
is silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from persistence.engine.postgres_runs import REGISTER_LOCK
from persistence.sql_store import SqlStore
from server.errors import Unavailable
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId
from server.storage.ports import Change, Claim
from tests.support.databases import Wallet, postgres_url, sql_store
from tests.support.silent_proxy import silent_proxy
from tests.support.stores import LEASE_S, A, B, expired
from tests.support.waiting import until

C = NodeId("node-c")
ONE = ActorId("wallet/one")
SOON_S = 10.0
"""Far less than the statement timeout of a store in tests, far more than anything here takes."""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[SqlStore]:
    store = sql_store(url, **settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def holding(url: str, *statements: str) -> AsyncIterator[Any]:
    """A client in the middle of a transaction that has done `statements`."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN")
        for statement in statements:
            await connection.execute(statement)
        yield connection
    finally:
        await connection.close()


async def registered(store: SqlStore, name: NodeId, lease_s: float = LEASE_S) -> NodeAddress:
    return NodeAddress(name, await store.register_node(name, lease_s))


async def waits(connection: Any, count: int) -> None:
    """Until `count` others wait for what `connection` has locked."""

    async def so_many() -> bool:
        return bool(await connection.fetchval(WAITING) == count)

    await until(so_many)


async def test_judging_and_renewing_wait_for_no_flush() -> None:
    url = postgres_url()
    async with opened(url, pool_size=1) as store:
        a, b, c = [await registered(store, name) for name in (A, B, C)]
        await store.claim("wallet", [Claim(ONE, 1)], a)
        d = await registered(store, NodeId("node-d"), 0.001)
        await until(lambda: expired(store, d))
        async with holding(url, "LOCK TABLE actors") as holder:
            flush = asyncio.ensure_future(store.write("wallet", [Change(ONE, Epoch(1), 1, Wallet(1))]))
            await waits(holder, 1)
            async with asyncio.timeout(SOON_S):
                assert await store.evict([b], [a, c]) == [b]
                assert await store.bury_expired() == [d]
                assert await store.bury(c)
                assert await store.renew_lease(a, LEASE_S)
            assert not flush.done()
            await holder.execute("COMMIT")
            assert await flush == {ONE: "written"}


async def test_a_row_that_is_locked_hinders_neither_the_burial_of_others_nor_renewals() -> None:
    url = postgres_url()
    async with opened(url) as store:
        a, b, c = await registered(store, A), await registered(store, B, 0.001), await registered(store, C, 0.001)
        await until(lambda: expired(store, b))
        await until(lambda: expired(store, c))
        async with holding(url, "SELECT FROM nodes WHERE node_id = 'node-b' FOR UPDATE") as holder:
            async with asyncio.timeout(SOON_S):
                assert await store.bury_expired() == [c]
                assert await store.renew_lease(a, LEASE_S)
            await holder.execute("ROLLBACK")
        assert await store.bury_expired() == [b]


async def test_a_burial_sees_a_renewal_that_was_under_way() -> None:
    url = postgres_url()
    async with opened(url) as store:
        me = await registered(store, A, 0.001)
        await until(lambda: expired(store, me))
        async with holding(url, "UPDATE nodes SET lease_until = lease_until + 60") as holder:
            async with asyncio.timeout(SOON_S):
                assert await store.bury_expired() == []
            await holder.execute("COMMIT")
        assert await store.bury_expired() == []


async def test_an_eviction_gives_up_on_a_locked_row_and_lets_renewals_through() -> None:
    """It has the rows before that one locked itself, and for those renewals wait."""
    url = postgres_url()
    async with opened(url, lease_renew_s=2.0) as store:
        a, b, c = [await registered(store, name) for name in (A, B, C)]
        async with holding(url, "SELECT FROM nodes WHERE node_id = 'node-c' FOR UPDATE") as holder:
            evicting = asyncio.ensure_future(store.evict([b], [a, c]))
            await waits(holder, 1)
            async with asyncio.timeout(SOON_S):
                assert await store.renew_lease(a, LEASE_S)
                with pytest.raises(Unavailable):
                    await evicting
            await holder.execute("ROLLBACK")
        assert await store.evict([b], [a, c]) == [b]


async def test_a_registration_waits_longer_than_a_lease_for_those_before_it() -> None:
    url = postgres_url()
    async with opened(url, lease_period_s=0.1, lease_renew_s=0.02) as store:
        async with holding(url, f"SELECT pg_advisory_xact_lock({REGISTER_LOCK})") as holder:
            starting = asyncio.ensure_future(store.register_node(A, LEASE_S))
            await waits(holder, 1)
            await holder.fetch("SELECT pg_sleep(0.3)")
            await holder.execute("COMMIT")
        assert await starting == 1


async def test_a_lease_survives_a_connection_that_goes_silent() -> None:
    async with silent_proxy(postgres_url()) as proxy, opened(proxy.url, lease_period_s=2.0, lease_renew_s=0.5) as store:
        me = await registered(store, A)
        assert await store.renew_lease(me, LEASE_S)
        assert await store.bury_expired() == []
        assert proxy.silence() == 3
        async with asyncio.timeout(SOON_S):
            with pytest.raises(Unavailable, match="in time"):
                await store.renew_lease(me, LEASE_S)
            assert await store.renew_lease(me, LEASE_S)
            with pytest.raises(Unavailable, match="in time"):
                await store.bury_expired()
            assert await store.bury_expired() == []


async def test_a_rollback_that_is_not_answered_ends_the_unit_of_work() -> None:
    async with silent_proxy(postgres_url()) as proxy, opened(proxy.url, statement_timeout_s=1.0, pool_size=1) as store:
        nobody = NodeAddress(A, Incarnation(999))
        proxy.silence_on = b"ROLLBACK"
        for why in ("in time", "claim nothing"):
            claim = asyncio.ensure_future(store.claim("wallet", [Claim(ONE, 1)], nobody))
            await asyncio.wait([claim], timeout=SOON_S)
            assert claim.done()
            with pytest.raises(Unavailable, match=why):
                claim.result()
            proxy.speak()
