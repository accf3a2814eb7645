"""A lease is renewed however busy the event loop is, and not for a loop that stands still for good (F48): the real
thread over real databases, with a loop that really computes."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from persistence.engine.sqlite import SqliteFile, _urgent
from persistence.lease_store import SqlLeaseStore
from persistence.sql_store import SqlStore
from server.ids import NodeAddress, NodeId
from server.liveness.lease import NodeLease
from server.liveness.renewing import RenewalThread
from server.runtime.clock import SystemClock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import from_tree
from tests.support.databases import postgres_url, sqlite_url
from tests.support.silent_proxy import silent_proxy
from tests.support.waiting import until

ME = NodeId("node-1")
LONGEST_S = 30.0


class Renewals(SqlLeaseStore):
    """Counts the renewals that the store has granted."""

    granted = 0

    async def renew_lease(self, me: NodeAddress, lease_s: float, generation: int = 0) -> bool:
        granted = await super().renew_lease(me, lease_s, generation)
        type(self).granted += granted
        return granted


class Bench:
    def __init__(self, url: str, **more: Any) -> None:
        self.settings = from_tree({"store": {"url": url, "lease_renew_s": 0.05, **more}}).store
        self.metrics, self.supervisor, self.lost = Metrics(), Supervisor("test"), asyncio.Event()
        self.store = SqlStore(self.settings, state_types={}, mappings={}, rng=random.Random(1))
        self.lease = NodeLease(self.store, self.settings, SystemClock(), self.metrics, self.lost.set)

        class Counted(Renewals):
            pass

        self.counted = Counted
        self.thread = RenewalThread(lambda: Counted(self.settings))
        self.me = NodeAddress(ME, 0)  # type: ignore[arg-type]

    def compute(self, enough: Callable[[], bool]) -> None:
        """Keep the event loop busy with Python code until `enough`."""
        end = time.monotonic() + LONGEST_S
        while not enough():
            assert time.monotonic() < end, "nothing happened beside a busy loop"
            sum(range(1_000))


@asynccontextmanager
async def renewing(url: str, **more: Any) -> AsyncIterator[Bench]:
    bench = Bench(url, **more)
    await bench.store.open()
    sent_at = SystemClock.boot()
    bench.me = NodeAddress(ME, await bench.store.register_node(ME, bench.settings.lease_period_s))
    bench.lease.granted(sent_at)
    bench.thread.start(bench.lease, bench.me, bench.supervisor)
    try:
        await until(lambda: bench.counted.granted > 0)
        yield bench
    finally:
        await bench.thread.stop()
        await bench.supervisor.stop()
        await bench.store.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return sqlite_url(tmp_path)


async def _stays_ours(url: str) -> None:
    async with renewing(url) as bench:
        begin = bench.counted.granted
        safe_until = bench.lease.safe_until
        bench.compute(lambda: bench.counted.granted >= begin + 10 and bench.lease.safe_until > safe_until)
        assert bench.lease.holds() and not bench.lease.failure
        counted = bench.metrics.lease_renewals_total
        assert counted < bench.counted.granted, "the loop has not heard of these yet"
        await until(lambda: bench.metrics.lease_renewals_total >= begin + 10)
        assert bench.lease.renewed.is_set() and not bench.lost.is_set()


async def test_a_busy_loop_keeps_its_lease(sqlite: str) -> None:
    await _stays_ours(sqlite)


async def test_a_busy_loop_keeps_its_lease_in_postgres() -> None:
    await _stays_ours(postgres_url())


async def test_a_loop_that_stands_still_is_not_renewed_for_until_it_goes_on(sqlite: str) -> None:
    async with renewing(sqlite, lease_stall_s=0.3, lease_period_s=0.5) as bench:
        bench.compute(lambda: "stood still" in bench.lease.standstill)
        granted = bench.counted.granted
        bench.compute(lambda: not bench.lease.holds())
        assert bench.counted.granted == granted
        await until(lambda: bench.counted.granted > granted and bench.lease.holds())
        assert not bench.lease.standstill and not bench.lost.is_set()


async def test_a_refusal_ends_it_and_is_heard_on_the_loop(sqlite: str) -> None:
    async with renewing(sqlite) as bench:
        await bench.store.retire_node(bench.me)
        await until(bench.lost.is_set)
        assert bench.lease.lost and not bench.lease.holds()


async def test_a_database_that_is_away_is_asked_until_it_is_back(sqlite: str) -> None:
    async with renewing(sqlite, lease_period_s=0.5, busy_timeout_s=0.1) as bench:
        held, free = threading.Event(), threading.Event()
        holder = threading.Thread(target=_hold, args=(sqlite, held, free))
        holder.start()
        await asyncio.to_thread(held.wait, LONGEST_S)
        await until(lambda: "locked" in bench.lease.failure and not bench.lease.holds())
        free.set()
        await asyncio.to_thread(holder.join)
        await until(bench.lease.holds)
        assert bench.metrics.lease_failures_total > 0


async def test_a_renewal_comes_before_other_work_that_waits_for_the_lock(sqlite: str) -> None:
    settings = from_tree({"store": {"url": sqlite, "busy_timeout_s": LONGEST_S}}).store
    path = Path(sqlite.removeprefix("sqlite:///"))
    work = SqliteFile(path, settings, random.Random(1))
    renewal = SqliteFile(path, settings, random.Random(2), urgent=True)
    await work.open()
    await renewal.open()
    order: list[str] = []
    held, free = threading.Event(), threading.Event()
    holder = threading.Thread(target=_hold, args=(sqlite, held, free))
    holder.start()
    await asyncio.to_thread(held.wait, LONGEST_S)
    waiting = [asyncio.ensure_future(work.write(lambda _: order.append("work")))]
    waiting.append(asyncio.ensure_future(renewal.write(lambda _: order.append("renewal"))))
    await until(lambda: bool(_urgent.get(path)))
    free.set()
    await asyncio.gather(*waiting)
    assert order == ["renewal", "work"] and not _urgent[path]
    await asyncio.to_thread(holder.join)
    await work.close()
    await renewal.close()


def _hold(url: str, held: threading.Event, free: threading.Event) -> None:
    """Hold the write lock as another process would."""
    connection = connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    held.set()
    free.wait(LONGEST_S)
    connection.execute("ROLLBACK")
    connection.close()


async def test_a_connection_to_postgres_that_goes_silent_is_made_anew() -> None:
    async with silent_proxy(postgres_url()) as proxy, renewing(proxy.url) as bench:
        granted = bench.counted.granted
        proxy.silence()
        await until(lambda: bench.metrics.lease_failures_total > 0)
        await until(lambda: bench.counted.granted > granted + 2 and bench.lease.holds() and not bench.lease.failure)
        assert not bench.lost.is_set()


async def test_none_is_sent_after_the_stop(sqlite: str) -> None:
    async with renewing(sqlite) as bench:
        name = f"lease {bench.me}"
        assert name in [thread.name for thread in threading.enumerate()]
        await bench.thread.stop()
        granted = bench.counted.granted
        await bench.store.retire_node(bench.me)
        assert name not in [thread.name for thread in threading.enumerate()]
        assert bench.counted.granted == granted and not bench.lost.is_set()


async def test_a_thread_that_is_paused_sends_nothing_until_it_is_resumed(sqlite: str) -> None:
    async with renewing(sqlite) as bench:
        await bench.thread.pause()
        granted, safe_until = bench.counted.granted, bench.lease.safe_until
        later = time.monotonic() + 10 * bench.settings.lease_renew_s
        bench.compute(lambda: time.monotonic() > later)
        assert (bench.counted.granted, bench.lease.safe_until) == (granted, safe_until)
        bench.thread.resume()
        await until(lambda: bench.counted.granted > granted and bench.lease.safe_until > safe_until)
        bench.lease.surrender()
        await bench.thread.pause()
        granted = bench.counted.granted
        bench.thread.resume()
        later = time.monotonic() + 10 * bench.settings.lease_renew_s
        bench.compute(lambda: time.monotonic() > later)
        assert bench.counted.granted == granted and not bench.lease.holds() and not bench.lost.is_set()
