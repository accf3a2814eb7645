"""PostgreSQL through asyncpg: the connections, and how a unit of work is run on one.

Statements come from many nodes at once. Each takes its rows in key order, so that two batches
wait for each other instead of dying; what deadlocks all the same is repeated, a few times.
Key order is what the planner is left with: hash and merge joins and sequential scans are off
for these connections, so a batch is a loop over sorted keys with an index look-up each.

Renewals of the node's lease have a connection of their own: they must not wait behind a flush.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import asyncpg  # type: ignore[import-untyped]

from persistence.engine.urls import Address
from server.errors import GarrisonError, Internal, Unavailable
from server.runtime.backoff import backoff_s
from server.settings import StoreSettings

T = TypeVar("T")
Work = Callable[[Any], Awaitable[T]]
ATTEMPTS: Final = 5
"""Of a unit of work that the database chose as the victim of a deadlock."""
GRACE_S: Final = 0.25
"""The server's own timeout fires first; this long after it the connection is given up."""
RETRY_S: Final = 0.5

_UNFIT: Final = (asyncpg.DataError, asyncpg.NotNullViolationError, asyncpg.CheckViolationError)
"""What is wrong with a value, and so would be wrong again."""
_VICTIM: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_DRIVER: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """Keeps no session state, so that giving it back needs no round trip."""

    def get_reset_query(self) -> str:
        return ""


class PostgresPool:
    """Runs units of work. Raises `Internal` for a value that the database cannot take, and
    `Unavailable` for whatever else goes wrong below."""

    def __init__(self, address: Address, settings: StoreSettings, rng: random.Random) -> None:
        self._address, self._settings, self._rng = address, settings, rng
        self._pool: Any = None
        self._lease_pool: Any = None

    async def open(self) -> None:
        self._pool = self._make(self._settings.pool_size)
        self._lease_pool = self._make(1)
        await self._pool
        await self._lease_pool

    def _make(self, size: int) -> Any:
        timeout_ms = max(1, int(self._settings.statement_timeout_s * 1000))
        return asyncpg.create_pool(
            self._address.dsn,
            min_size=0,
            max_size=size,
            connection_class=_Connection,
            timeout=self._settings.statement_timeout_s,
            server_settings={
                "application_name": "garrison",
                "statement_timeout": str(timeout_ms),
                "idle_in_transaction_session_timeout": str(2 * timeout_ms),
                "enable_hashjoin": "off",
                "enable_mergejoin": "off",
                "enable_seqscan": "off",
                "jit": "off",
            },
        )

    async def close(self) -> None:
        """Close every connection; those in use are cut off after a moment."""
        for pool in (self._pool, self._lease_pool):
            if pool is None:
                continue
            try:
                async with asyncio.timeout(1.0):
                    await pool.close()
            except (TimeoutError, *_DRIVER):
                pool.terminate()
        self._pool = self._lease_pool = None

    async def run(self, work: Work[T], *, transaction: str | None = None, lease: bool = False) -> T:
        """The result of `work(connection)`, within a transaction begun by the words
        `transaction` if given. Repeated when it was a deadlock's victim."""
        for attempt in range(ATTEMPTS):
            try:
                async with asyncio.timeout(self._settings.statement_timeout_s + GRACE_S):
                    return await self._once(work, transaction, lease)
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
            except _DRIVER as error:
                raise self._unavailable(error) from None
        raise AssertionError("unreachable")

    async def _once(self, work: Work[T], transaction: str | None, lease: bool) -> T:
        pool = self._lease_pool if lease else self._pool
        if pool is None:
            raise Unavailable("the store is closed", retry_after_s=RETRY_S)
        connection = await pool.acquire()
        try:
            if transaction is None:
                return await work(connection)
            await connection.execute(transaction)
            result = await work(connection)
            await connection.execute("COMMIT")
            return result
        except (asyncpg.PostgresError, GarrisonError):
            if transaction is not None and not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
        except BaseException:
            # Cancelled, timed out or out of step: whether it took effect is unknown, and waiting
            # for the server to say so could take for ever.
            connection.terminate()
            raise
        finally:
            await pool.release(connection)

    def _unavailable(self, error: BaseException) -> Unavailable:
        return Unavailable(f"database {self._address.shown}: {_first_line(error)}", retry_after_s=RETRY_S)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def affected(status: str) -> int:
    """Rows that a statement changed, from its command tag (`UPDATE 3`)."""
    return int(status.rpartition(" ")[2])
