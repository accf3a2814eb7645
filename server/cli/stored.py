"""The store as commands read it: no cluster, no claim, and nothing written but by the few that say so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from server.errors import BadSetting
from server.settings import Settings

if TYPE_CHECKING:
    from persistence.sql_store import SqlStore


def check_there(settings: Settings) -> None:
    """Raise `BadSetting` where there is no store to read."""
    from persistence.engine.urls import parse

    address = parse(settings.store.url)
    if address.dialect == "sqlite" and not address.path.is_file():
        raise BadSetting("store.url", f"there is no database {address.path}; run `garrison demo` or `garrison migrate`")


@asynccontextmanager
async def opened_store(settings: Settings, *, writes: bool = False) -> AsyncIterator["SqlStore"]:
    """The store of `settings`, opened, to be read only unless the command `writes`. Raises `BadSetting`,
    `Unavailable`."""
    from server.drivers import build_store

    check_there(settings)
    store = build_store(settings)
    await store.open(reads_only=not writes)
    try:
        yield store
    finally:
        await store.close()
