"""Named store queries' connections to PostgreSQL. A module of its own: a node on SQLite does not import this driver."""

from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.engine.connecting import DRIVER_ERRORS, make_engine
from persistence.engine.urls import Address

POSTGRES_CONNECTIONS: Final = 2
Row = dict[str, Any]


class PostgresReader:
    """Implements `persistence.sql_queries.Reader`: a small pool whose sessions are read only."""

    errors: Final = (SQLAlchemyError, *DRIVER_ERRORS)

    def __init__(self, address: Address, limit_s: float) -> None:
        settings = {"default_transaction_read_only": "on", "statement_timeout": str(max(1, int(limit_s * 1000)))}
        self._engine: AsyncEngine = make_engine(
            address,
            limit_s,
            settings,
            "garrison-queries",
            pool_size=POSTGRES_CONNECTIONS,
            max_overflow=0,
            pool_timeout=limit_s,
            pool_pre_ping=True,
        )

    async def rows(self, statement: Select[Any]) -> list[Row]:
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

    async def close(self) -> None:
        await self._engine.dispose()
