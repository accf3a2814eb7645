"""The store's address: `sqlite:///path/to/file` or `postgresql://user:password@host/database`."""

import os
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

    @property
    def missing(self) -> bool:
        """Whether it is a file that is not there, or that cannot be looked at."""
        return self.dialect == "sqlite" and not os.path.exists(self.path)


def parse(url: str) -> Address:
    """Raises `BadSetting` for anything but a SQLite file or a PostgreSQL database."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise BadSetting(FIELD, "not a database URL") from None
    shown = parsed.render_as_string(hide_password=True)
    if backend == "postgresql":
        _check_place(parsed)
        dsn = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
        return Address("postgresql", parsed.set(drivername="postgresql+asyncpg"), dsn, Path(), shown)
    if backend != "sqlite":
        raise BadSetting(FIELD, f"{backend} is not supported: sqlite or postgresql")
    if not parsed.database or parsed.database == ":memory:":
        raise BadSetting(FIELD, "SQLite needs a file")
    return Address("sqlite", parsed.set(drivername="sqlite+aiosqlite"), "", Path(parsed.database), shown)


def _check_place(parsed: URL) -> None:
    host, port = parsed.host or "", parsed.port or 0
    if port > 65_535:
        raise BadSetting(FIELD, f"there is no port {port}")
    try:
        if "%" not in host:  # else a folder of sockets, or an IPv6 address with its zone
            host.encode("idna")
    except UnicodeError:
        raise BadSetting(FIELD, f"{host[:100]!r} is no host's name") from None
