"""PostgreSQL through asyncpg: the connections, and how a unit of work is run on one.

Statements come from many nodes at once. Each takes its rows in key order, so that two batches
wait for each other instead of dying; what deadlocks all the same is repeated, a few times.
Key order is what the planner is left with: hash and merge joins and sequential scans are off
for these connections, so a batch is a loop over sorted keys with an index look-up each.

Renewals of the node's lease have a connection of their own (and, in a node, a pool of one in the thread that
renews), and so has what judges other nodes: neither may wait behind a flush, nor a renewal behind a judgment.

What the protocol relies on is set for every connection, whatever the role or the database says:
READ COMMITTED, because a snapshot that is older than the lock for which a statement waited would
not see what was done under it, and issue an incarnation twice; commits that are on the disk,
because an incarnation or an epoch that is lost in a crash would be issued again; and timeouts.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final, Literal, NamedTuple, TypeVar

import asyncpg  # type: ignore[import-untyped]

from persistence.engine.connecting import DRIVER_ERRORS, Connector
from persistence.engine.rows import SURRENDERED
from persistence.engine.urls import FIELD, Address
from server.errors import BadSetting, GarrisonError, Internal, Unavailable
from server.runtime.backoff import backoff_s
from server.settings import StoreSettings

T = TypeVar("T")
Work = Callable[[Any], Awaitable[T]]
ATTEMPTS: Final = 5
"""Attempts at a unit of work that the database chooses as the victim of a deadlock."""
GRACE_S: Final = 0.25
"""The server's own timeout fires first; this long after it the connection is given up."""
SERVER_SHARE: Final = 0.9
"""The server's part of a short limit, where there is no time for a grace."""
RETRY_S: Final = 0.5

Lane = Literal["work", "lease", "judge"]
"""Connections that a unit of work takes: the pool for most things, or one of the two that stand apart, so that
a busy pool never delays a lease or a judgement."""
ALL_LANES: Final[tuple[Lane, ...]] = ("work", "lease", "judge")

_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
"""Its other values are about standbys, and are left to the operator."""
_UNFIT: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
"""Errors about a value: trying again would fail again."""
LOST_SERVER: Final = frozenset({
    "25006", "57P01", "57P02", "57P03", "57P04", "57P05", "08000", "08001", "08003", "08004", "08006", "08007", "08P01",
})  # fmt: skip
"""SQLSTATEs of a server that is read-only now (a demoted primary keeps its connections), that goes away or is not
there yet, or of a pooler that lost it."""
_VICTIM: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """Keeps no session state, so that giving it back needs no round trip."""

    def get_reset_query(self) -> str:
        return ""


class _Connections(NamedTuple):
    """A unit of work on one of `pool` has `limit_s`, with the wait for the connection."""

    pool: Any
    limit_s: float


class PostgresPool:
    """Runs units of work. Raises `Internal` for a value that the database cannot take, and
    `Unavailable` for whatever else goes wrong below."""

    def __init__(
        self, address: Address, settings: StoreSettings, rng: random.Random, wanted: Collection[Lane] = ALL_LANES
    ) -> None:
        self._address, self._settings, self._rng, self._wanted = address, settings, rng, wanted
        self._lanes: dict[Lane, _Connections] = {}
        self._connectors: list[Connector] = []
        self._surrendered = False
        self.under_way = 0
        """Units of work that have begun and not ended. The server has given up one that nobody waits for any more: its
        own timeout fires first."""

    async def open(self) -> None:
        """Raises `BadSetting`, `Unavailable`."""
        settings = self._settings
        whole_s = settings.statement_timeout_s
        # Half a lease is left for a renewal on a new connection when this one has gone silent.
        short_s = min(whole_s, settings.lease_period_s / 2)
        lanes: dict[Lane, _Connections] = {
            "work": self._make(settings.pool_size, whole_s, whole_s + GRACE_S),
            "lease": self._make(1, SERVER_SHARE * short_s, short_s),
            # A unit of work that waits here may hold rows for which renewals wait.
            "judge": self._make(1, SERVER_SHARE * short_s, short_s, lock_s=settings.lease_renew_s / 2),
        }
        self._lanes = {name: lane for name, lane in lanes.items() if name in self._wanted}
        for lane in self._lanes.values():
            await lane.pool
        try:
            if "work" in self._lanes:
                await self._check_pooler()
        except BaseException:
            await self.close()
            raise

    async def _check_pooler(self) -> None:
        """Raises `BadSetting` for a pooler that hands each transaction to any session (PgBouncer's transaction mode):
        there, settings of one connection come and go with those of others."""

        async def backend(connection: Any) -> int:
            return int(await connection.fetchval("SELECT pg_backend_pid()"))

        async def both(connection: Any) -> bool:
            pooled = any(connector.by_set for connector in self._connectors)
            return pooled and await self.run(backend, lane="lease") == await backend(connection)

        if await self.run(both):
            why = "leads to a pooler in transaction mode: use session mode, or the server's own address"
            raise BadSetting(FIELD, why)

    def _make(self, size: int, server_s: float, limit_s: float, lock_s: float = 0.0) -> _Connections:
        """`server_s`: when the server ends a statement; `lock_s`: when it ends one that waits for a
        lock, if above 0."""
        settings = {
            "default_transaction_isolation": "read committed",
            "statement_timeout": _ms(server_s),
            "lock_timeout": _ms(lock_s) if lock_s else "0",
            "idle_in_transaction_session_timeout": _ms(2 * server_s),
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "enable_seqscan": "off",
            "jit": "off",
        }

        connector = Connector(self._address, settings, "garrison")
        self._connectors.append(connector)
        pool = asyncpg.create_pool(
            connect=connector,
            min_size=0,
            max_size=size,
            connection_class=_Connection,
            timeout=limit_s,
            init=_make_durable,
        )
        return _Connections(pool, limit_s)

    async def close(self) -> None:
        """Close every connection; those in use are cut off after a moment."""
        for pool, _ in self._lanes.values():
            try:
                async with asyncio.timeout(1.0):
                    await pool.close()
            except (TimeoutError, *DRIVER_ERRORS):
                pool.terminate()
        self._lanes = {}

    async def run(self, work: Work[T], *, transaction: str | None = None, lane: Lane = "work") -> T:
        """The result of `work(connection)`, within a transaction begun by the words
        `transaction` if given. Repeated when it was a deadlock's victim."""
        self.under_way += 1
        try:
            return await self._run(work, transaction, lane)
        finally:
            self.under_way -= 1

    def surrender(self) -> None:
        """See `server.storage.ports.Store`. A unit of work that is under way sends nothing more either: its connection
        is closed, which ends its transaction."""
        self._surrendered = True
        for lane in self._lanes.values():
            lane.pool.terminate()

    async def _run(self, work: Work[T], transaction: str | None, lane: Lane) -> T:
        for attempt in range(ATTEMPTS):
            try:
                return await self._once(work, transaction, lane)
            except _VICTIM as error:
                if attempt + 1 == ATTEMPTS:
                    raise self._unavailable(error) from None
                await asyncio.sleep(backoff_s(attempt, self._rng, base_s=0.01, cap_s=0.2))
            except _UNFIT as error:
                raise Internal(f"database {self._address.shown} cannot take a value: {_first_line(error)}") from None
            except GarrisonError:
                raise
            except TimeoutError:
                raise Unavailable("the database does not answer in time", retry_after_s=RETRY_S) from None
            except DRIVER_ERRORS as error:
                raise self._unavailable(error) from None
        raise AssertionError("unreachable")

    async def _once(self, work: Work[T], transaction: str | None, lane: Lane) -> T:
        if not self._lanes:
            raise Unavailable("the store is closed", retry_after_s=RETRY_S)
        if self._surrendered:
            raise Unavailable(SURRENDERED)
        pool, limit_s = self._lanes[lane]
        async with asyncio.timeout(limit_s):
            connection = await pool.acquire()
            try:
                if transaction is None:
                    return await work(connection)
                await connection.execute(transaction)
                result = await work(connection)
                await connection.execute("COMMIT")
                return result
            except (asyncpg.PostgresError, GarrisonError) as error:
                if getattr(error, "sqlstate", None) in LOST_SERVER:
                    await self._leave(connection)
                if transaction is not None and not connection.is_closed():
                    await _roll_back(connection)
                raise
            except BaseException:
                # Cancelled, timed out or out of step: whether it took effect is unknown, and waiting
                # for the server to say so could take for ever.
                connection.terminate()
                raise
            finally:
                await pool.release(connection, timeout=limit_s)

    async def _leave(self, connection: Any) -> None:
        """Give up every connection: this server takes no changes any more, and after a failover the same name leads to
        another one. It is asked for again whenever a connection is made."""
        connection.terminate()
        for lane in self._lanes.values():
            await lane.pool.expire_connections()

    def _unavailable(self, error: BaseException) -> Unavailable:
        why = self._address.without_secrets(_first_line(error))
        return Unavailable(f"database {self._address.shown}: {why}", retry_after_s=RETRY_S)


async def _make_durable(connection: Any) -> None:
    await connection.execute(_DURABLE)


async def _roll_back(connection: Any) -> None:
    """End a transaction that failed, or the connection if the server does not say so."""
    try:
        await connection.execute("ROLLBACK")
    except DRIVER_ERRORS:
        connection.terminate()
    except BaseException:
        connection.terminate()
        raise


def _ms(seconds: float) -> str:
    """As the server takes it: whole milliseconds, at least one."""
    return str(max(1, int(seconds * 1000)))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def affected(status: str) -> int:
    """Rows that a statement changed, from its command tag (`UPDATE 3`)."""
    return int(status.rpartition(" ")[2])
