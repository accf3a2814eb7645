"""The account that this process gives of itself, for `fits.py`."""

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from server.actors.actor import Actor
from server.actors.app import App
from server.actors.forms import described
from server.columns.layout import LAYOUT_VERSION
from server.eventlog import segment
from server.settings import Settings
from server.succession.fits import PROTOCOL, Account, KindForm
from server.transport import frames

_KEPT: Final = (
    "weight",
    "gateway.host", "gateway.port", "gateway.advertise_url",
    "admin.enabled", "admin.host", "admin.port", "admin.advertise_url", "admin.base_path",
    "gossip.bind", "gossip.advertise",
    "transport.host", "transport.port", "transport.advertise_host", "transport.encryption",
    "store.lease", "journal.mode", "columns.enabled",
)  # fmt: skip
"""Settings that are the same before and after a succession: addresses, and what outlives a process."""


def account_of(
    settings: Settings,
    app: App,
    program: str,
    database: str,
    schemas: Mapping[str, str],
    *,
    system: Callable[[], Mapping[str, str]] | None = None,
) -> Account:
    """The account of a process with these settings and this application. `program`: the version of what is installed.
    `database`: the identity of the open store. `schemas`: versions of the tables that the program was made for, as
    `schema` and, where the application has its own, `app_schema`."""
    key = settings.security.cluster_key
    return Account(
        protocol=PROTOCOL,
        program=program,
        python=platform.python_version(),
        app=app.name,
        cluster=settings.cluster,
        node=settings.node,
        kinds={cls.kind: _form(cls) for cls in app.actors},
        layouts={
            "columns": str(LAYOUT_VERSION),
            "logs": str(segment.VERSION),
            "frames": str(frames.VERSION),
            **schemas,
        },
        database=database,
        settings=_kept(settings),
        machine=dict((system or machine)()),
        cluster_key=hashlib.sha256(key.encode()).hexdigest() if key else "",
    )


def machine() -> dict[str, str]:
    """Names of what a process has in common with those of its machine: its boot, its user, and the namespaces in which
    its clock, its sockets and its process number mean something."""
    found = {"user": f"{os.getuid()}:{os.getgid()}", "boot": _text(Path("/proc/sys/kernel/random/boot_id"))}
    for name, noun in (("time", "time namespace"), ("pid", "pid namespace"), ("net", "network namespace")):
        try:
            found[noun] = os.readlink(f"/proc/self/ns/{name}")
        except OSError:
            found[noun] = ""  # an old kernel: there is one for all
    return found


def _form(cls: type[Actor[object]]) -> KindForm:  # type: ignore[type-var]
    return KindForm(cls.durability, described(cls.State), described(cls.Event) if hasattr(cls, "Event") else "")


def _kept(settings: Settings) -> dict[str, str]:
    found = {}
    for name in _KEPT:
        value: object = settings
        for part in name.split("."):
            value = getattr(value, part)
        found[name] = "" if value is None else str(value)
    journal, columns, gateway = settings.journal, settings.columns, settings.gateway
    found["gateway.tls_certificate"] = "set" if gateway.tls_certificate else ""
    if journal.mode == "local":
        found["journal.directory"] = os.path.abspath(journal.directory)
    elif journal.mode == "redis":
        found["journal.redis_url"] = _without_password(journal.redis_url)
    if columns.enabled:
        found["columns.directory"] = os.path.abspath(columns.directory)
    return found


def _without_password(url: str) -> str:
    """A URL as it may be shown: its password may change."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
