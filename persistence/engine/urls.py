"""The store's address: `sqlite:///path/to/file` or `postgresql://user:password@host/database`.

A PostgreSQL URL is read here for every command and every driver alike, in the forms that providers print: the words of
libpq (`sslmode=require`), of other drivers (`ssl=true`), and words that mean nothing here and are passed over. What is
shown to people never has a password in it, wherever in the URL it stood.
"""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, quote, unquote

import msgspec
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from server.errors import BadSetting

FIELD = "store.url"
HIDDEN: Final = "***"
DEFAULT_PORT: Final = 5432

_DRIVER: Final = ("passfile", "krbsrvname", "gsslib", "service", "servicefile", "target_session_attrs")
"""Parameters that asyncpg takes as they are."""
_TLS: Final = ("sslmode", "ssl", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl")
_PASSED_OVER: Final = frozenset({
    "channel_binding", "client_encoding", "connect_timeout", "connection_limit", "fallback_application_name",
    "gssencmode", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts",
    "max_protocol_version", "min_protocol_version", "pool_mode", "pool_timeout", "requirepeer", "socket_timeout",
    "sslaccept", "sslcertmode", "sslcompression", "sslnegotiation", "sslsni", "ssl_max_protocol_version",
    "ssl_min_protocol_version", "supa", "tcp_user_timeout", "uselibpqcompat",
})  # fmt: skip
"""Parameters of other clients, about things that are decided elsewhere."""
_NO_PREPARED: Final = ("prepared_statement_cache_size", "statement_cache_size", "prepareThreshold", "pgbouncer")
"""Parameters by which clients are told that a pooler does not keep prepared statements."""
_MODES: Final = {
    "disable": "disable", "false": "disable", "0": "disable", "off": "disable", "allow": "allow", "prefer": "prefer",
    "require": "require", "true": "require", "1": "require", "on": "require", "no-verify": "require",
    "verify-ca": "verify-ca", "verify-full": "verify-full",
}  # fmt: skip
_SERVER_SETTING: Final = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+)?")


class Address(msgspec.Struct, frozen=True):
    """`url` is for SQLAlchemy's asynchronous engine, without parameters; `path` is SQLite's file; `shown` has no
    password in it. PostgreSQL: `driver` are arguments of `asyncpg.connect`, `tls` the parameters about it,
    `startup` and `settings` those of the server, with the login and after it, and `prepared` is False where the URL
    says that statements cannot be prepared."""

    dialect: Literal["sqlite", "postgresql"]
    url: URL
    path: Path
    shown: str
    driver: Mapping[str, Any] = {}
    tls: Mapping[str, str] = {}
    startup: Mapping[str, str] = {}
    settings: Mapping[str, str] = {}
    prepared: bool = True
    secrets: tuple[str, ...] = ()

    @property
    def missing(self) -> bool:
        """Whether it is a file that is not there, or that cannot be looked at."""
        return self.dialect == "sqlite" and not os.path.exists(self.path)

    def arguments(self) -> dict[str, Any]:
        """All arguments of `asyncpg.connect` that the URL decides. Raises `BadSetting` for certificates that cannot
        be read."""
        found = dict(self.driver)
        if (secured := _security(self.tls)) is not None:
            found["ssl"] = secured
        if not self.prepared:
            found["statement_cache_size"] = 0
        return found

    def without_secrets(self, text: str) -> str:
        """`text`, a driver's words, with passwords hidden."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return text


def parse(url: str) -> Address:
    """Raises `BadSetting` for anything but a SQLite file or a PostgreSQL database."""
    scheme, colon, rest = url.strip().partition("://")
    backend = scheme.partition("+")[0].lower()
    if colon and backend in ("postgresql", "postgres"):
        return _postgres(rest)
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise BadSetting(FIELD, "not a database URL") from None
    if backend != "sqlite":
        raise BadSetting(FIELD, f"{backend} is not supported: sqlite or postgresql")
    if not parsed.database or parsed.database == ":memory:":
        raise BadSetting(FIELD, "SQLite needs a file")
    shown = f"sqlite:///{parsed.database}"
    return Address("sqlite", parsed.set(drivername="sqlite+aiosqlite"), Path(parsed.database), shown)


def _postgres(rest: str) -> Address:
    before, _, query = rest.partition("?")
    login, place = _login(before)
    authority, _, database = place.partition("/")
    user, colon, password = login.partition(":")
    words = _parameters(query)
    user = words.pop("user", "") or unquote(user)
    given = words.pop("password", None)
    secret: str | None = given if given is not None else unquote(password) if colon else None
    database = words.pop("dbname", "") or words.pop("database", "") or unquote(database)
    hosts = _hosts(authority, words.pop("host", ""), words.pop("hostaddr", ""), words.pop("port", ""))
    names, ports = [host for host, _ in hosts], [port for _, port in hosts]
    driver: dict[str, Any] = {"user": user, "password": secret, "database": database}
    driver = {name: value for name, value in driver.items() if value}
    if names:
        driver |= {"host": names if len(names) > 1 else names[0], "port": ports if len(ports) > 1 else ports[0]}
    if len(names) > 1:
        driver["target_session_attrs"] = "read-write"  # at most one of several servers takes writes
    driver |= {name: words.pop(name) for name in _DRIVER if words.get(name)}
    tls: dict[str, str] = {name: words.pop(name) for name in _TLS if name in words}
    _mode(tls)
    off = [words.pop(name, "").lower() for name in _NO_PREPARED]
    prepared = not (off[-1] in ("true", "1") or "0" in off[:-1])
    if (schema := words.pop("currentSchema", None) or words.pop("schema", None)) is not None:
        words.setdefault("search_path", schema)
    startup = {name: words.pop(name) for name in ("application_name", "options") if words.get(name)}
    settings = {name: value for name, value in words.items() if name not in _PASSED_OVER}
    for name in settings:
        if not _SERVER_SETTING.fullmatch(name):
            raise BadSetting(FIELD, "has a parameter that is none of PostgreSQL's")
    plain = URL.create("postgresql+asyncpg", user or None, secret, database=database or None)
    if names and names[0].startswith("/"):
        plain = plain.set(query={"host": names[0], "port": str(ports[0])})
    elif names:
        plain = plain.set(host=names[0], port=ports[0])
    return Address(
        "postgresql", plain, Path(), _shown(user, secret is not None, hosts, database), driver, tls, startup, settings,
        prepared,
        _secrets(secret, password, tls.get("sslpassword")),
    )  # fmt: skip


def _login(before: str) -> tuple[str, str]:
    """User and password, and the rest. A password may have signs in it that should have been escaped."""
    login, at, place = before.rpartition("@")
    if at and "/" in login.partition(":")[0]:
        return "", before  # the sign is one of the database's name
    return login, place


def _parameters(query: str) -> dict[str, str]:
    """The URL's parameters; of one that is repeated, as SQLAlchemy's hosts are, the values as a list with commas."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        found[name] = f"{found[name]},{value}" if name in ("host", "port") and name in found else value
    return found


def _hosts(authority: str, host: str, hostaddr: str, port: str) -> list[tuple[str, int]]:
    """Hosts with their ports, of the URL's own place or else of its parameters. Raises `BadSetting`."""
    listed = host or hostaddr or authority
    parts = [part.strip() for part in listed.split(",")] if listed else []
    ports = port.split(",") if port else []
    found = []
    for number, part in enumerate(parts):
        name, own = _host_and_port(part, not host and not hostaddr)
        chosen = own or (ports[number] if number < len(ports) else ports[0] if len(ports) == 1 else "")
        found.append((name or "localhost", _port(chosen)))
    return found


def _host_and_port(part: str, of_authority: bool) -> tuple[str, str]:
    if part.startswith("["):
        name, bracket, rest = part[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadSetting(FIELD, "has a host that cannot be read")
        return unquote(name), rest[1:]
    if part.startswith("/") or part.count(":") > 1:  # a folder of sockets, or an IPv6 address among parameters
        return part, ""
    name, _, port = part.partition(":")
    name = unquote(name) if of_authority else name
    try:
        if not name.startswith("/"):
            name.encode("idna")
    except UnicodeError:
        raise BadSetting(FIELD, "has a host that is no host's name") from None
    return name, port


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not text.isascii() or not text.isdigit():
        why = "has a port that is no number; signs like / ? # @ : in a password are written as %2F %3F %23 %40 %3A"
        raise BadSetting(FIELD, why)
    if not 0 < int(text) <= 65_535:
        raise BadSetting(FIELD, "has a port that there is not: 1 to 65535")
    return int(text)


def _shown(user: str, secret: bool, hosts: list[tuple[str, int]], database: str) -> str:
    login = f"{quote(user)}{':' + HIDDEN if secret else ''}@" if user or secret else ""
    places = []
    for name, port in hosts:
        place = quote(name, safe="") if name.startswith("/") else f"[{name}]" if ":" in name else name
        places.append(place if port == DEFAULT_PORT else f"{place}:{port}")
    return f"postgresql://{login}{','.join(places)}/{database}"


def _secrets(*passwords: str | None) -> tuple[str, ...]:
    forms = {
        form for password in passwords if password for form in (password, unquote(password), quote(password, safe=""))
    }
    return tuple(sorted(forms, key=len, reverse=True))


def _mode(tls: Mapping[str, str]) -> str | None:
    """How the connection is secured, in libpq's words; None where the URL does not say. Raises `BadSetting`."""
    if (word := tls.get("sslmode") or tls.get("ssl")) is None:
        return "verify-full" if tls.get("sslrootcert") == "system" else None
    if word.lower() not in _MODES:
        raise BadSetting(FIELD, f"has an sslmode that there is not; use {', '.join(sorted(set(_MODES.values())))}")
    return _MODES[word.lower()]


def _security(tls: Mapping[str, str]) -> ssl.SSLContext | str | bool | None:
    """The argument `ssl` of asyncpg; None leaves it to the environment, and to what the server offers."""
    mode, root = _mode(tls), tls.get("sslrootcert")
    own = tls.get("sslcert")
    if mode == "disable":
        return False
    if mode in (None, "allow", "prefer") and not root and not own:
        return mode
    usual = Path.home() / ".postgresql" / "root.crt"
    verified = mode in ("verify-ca", "verify-full") or bool(root)
    if verified and not root and usual.is_file():
        root = str(usual)
    try:
        context = ssl.create_default_context(cafile=root if root and root != "system" else None)
        if tls.get("sslcrl"):
            context.load_verify_locations(tls["sslcrl"])
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        if own:
            context.load_cert_chain(own, tls.get("sslkey"), lambda: tls.get("sslpassword", ""))
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise BadSetting(FIELD, f"its certificates (sslrootcert, sslcert, sslkey) cannot be used: {why}") from None
    context.check_hostname = mode == "verify-full"
    if not verified:
        context.verify_mode = ssl.CERT_NONE
    return context
