"""The store's address: `sqlite:///path/to/file` or `postgresql://user:password@host/database`."""

from pathlib import Path
from typing import Literal

import msgspec
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from server.errors import BadSetting

FIELD = "store.url"


class Address(msgspec.Struct, frozen=True):
    """`url` is for SQLAlchemy's asynchronous engine; `dsn` (PostgreSQL) for asyncpg itself;
    `path` is SQLite's file; `shown` has no password in it."""

    dialect: Literal["sqlite", "postgresql"]
    url: URL
    dsn: str
    path: Path
    shown: str


def parse(url: str) -> Address:
    """Raises `BadSetting` for anything but a SQLite file or a PostgreSQL database."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise BadSetting(FIELD, "not a database URL") from None
    shown = parsed.render_as_string(hide_password=True)
    if backend == "postgresql":
        dsn = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
        return Address("postgresql", parsed.set(drivername="postgresql+asyncpg"), dsn, Path(), shown)
    if backend != "sqlite":
        raise BadSetting(FIELD, f"{backend} is not supported: sqlite or postgresql")
    if not parsed.database or parsed.database == ":memory:":
        raise BadSetting(FIELD, "SQLite needs a file; use memory: for a store that forgets")
    return Address("sqlite", parsed.set(drivername="sqlite+aiosqlite"), "", Path(parsed.database), shown)
