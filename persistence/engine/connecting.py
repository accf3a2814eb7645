"""A connection to PostgreSQL, the same for nodes, queries, migrations and tools.

The settings of a session go with its login. Poolers such as PgBouncer refuse those that they do not know, or drop
them without a word: then they are set after the login, and looked at.
"""

from collections.abc import Mapping
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from persistence.engine.urls import FIELD, Address
from server.errors import BadSetting

DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)
_SET: Final = "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS wanted(name, value)"
_LOOK: Final = "SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])"
_REFUSED: Final = "startup parameter"
"""Words of poolers that take no settings with a login."""


class Connector:
    """Makes sessions with `settings`, in the units of `pg_settings`; `name` is shown to the server's operators. Each
    call looks the host's name up anew. `asyncpg.create_pool` takes it as `connect`, SQLAlchemy as its creator."""

    def __init__(self, address: Address, settings: Mapping[str, str], name: str) -> None:
        self._address, self._settings = address, dict(settings)
        self._login = {"application_name": name, **address.startup}
        self.by_set = False
        """A pooler stands between: settings did not come through with the login."""

    async def __call__(self, *_: Any, **how: Any) -> Any:
        """A session. Raises what asyncpg raises, and `BadSetting` where it does not keep its settings."""
        wanted = {**self._address.settings, **self._settings}
        how |= self._address.arguments()
        if not self.by_set:
            try:
                connection = await asyncpg.connect(**how, server_settings={**wanted, **self._login})
            except asyncpg.PostgresError as error:
                if _REFUSED not in str(error):
                    raise
                self.by_set = True
        if self.by_set:
            connection = await asyncpg.connect(**how, server_settings=self._login)
        try:
            await self._prepare(connection, wanted)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _prepare(self, connection: Any, wanted: Mapping[str, str]) -> None:
        if not self.by_set:
            words = {name: value for name, value in self._settings.items() if not value.isdigit()}
            if not words:
                return
            columns = ", ".join(f"current_setting('{name}')" for name in words)
            self.by_set = tuple(await connection.fetchrow(f"SELECT {columns}")) != tuple(words.values())
        if self.by_set and wanted:
            await connection.execute(_SET, list(wanted), list(wanted.values()))
            found = dict(await connection.fetch(_LOOK, list(self._settings)))
            for name, value in self._settings.items():
                if found.get(name, value) != value:
                    raise BadSetting(FIELD, f"sessions do not keep {name}={value}: a pooler must be in session mode")


def make_engine(
    address: Address, timeout_s: float, settings: Mapping[str, str], name: str, **options: Any
) -> AsyncEngine:
    """SQLAlchemy's engine for PostgreSQL; each of its connections has `settings`. `options` are the engine's."""
    connector = Connector(address, settings, name)

    async def connect(*_: Any, **__: Any) -> Any:
        return await connector(timeout=timeout_s)

    how: dict[str, Any] = {"async_creator_fn": connect}
    if not address.prepared:
        how |= {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}
    return create_async_engine(address.url, connect_args=how, **options)
