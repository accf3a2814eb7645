"""The composition root: the only place that builds drivers and may import everything.

`run_node` is what `garrison node` does; `build_store` and `load_app` serve the commands that work
without a cluster. Each imports what it builds when it is called: `garrison token` needs no driver.
"""

import asyncio
import base64
import binascii
import gc
import importlib
import json
import logging
import os
import random
import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from server.errors import BadSetting, GarrisonError
from server.ids import NodeId
from server.settings import MIN_KEY_BYTES, Settings

if TYPE_CHECKING:
    from persistence.sql_store import SqlStore
    from server.actors.app import App
    from server.admin.app import AdminServer
    from server.node import Node
    from server.runtime.clock import Clock
    from server.runtime.metrics import Metrics
    from server.runtime.supervisor import Supervisor
    from server.storage.journal.ports import Journal

log = structlog.get_logger(__name__)
LEASE_LOST_PAUSE_S = 0.5


def load_app(settings: Settings) -> "App":
    """The application that `settings.app` names. Raises `BadSetting`."""
    from server.actors.app import App

    module, _, name = settings.app.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BadSetting("app", f"cannot load {settings.app}: {error}") from None
    if not isinstance(found, App):
        raise BadSetting("app", f"{settings.app} is not an App")
    return found


def build_store(settings: Settings, app: "App | None" = None) -> "SqlStore":
    """The relational store of `settings` (Store and LogStore), not open yet."""
    from persistence.game.mappings import mappings_for
    from persistence.sql_store import SqlStore

    app = app or load_app(settings)
    types = {cls.kind: cls.State for cls in app.actors if cls.durability != "volatile"}
    return SqlStore(settings.store, state_types=types, mappings=mappings_for(types))


def signing_key(settings: Settings) -> bytes:
    """The key of client tokens. Raises `BadSetting`."""
    security = settings.security
    text = security.signing_key or ""
    if security.signing_key_file is not None:
        try:
            text = Path(security.signing_key_file).read_text("utf-8").strip()
        except OSError as error:
            why = f"cannot read {security.signing_key_file}: {error.strerror}"
            raise BadSetting("security.signing_key_file", why) from None
        except UnicodeDecodeError:
            raise BadSetting("security.signing_key_file", f"{security.signing_key_file} is not text") from None
    if len(text.encode()) < MIN_KEY_BYTES:
        if security.signing_key_file is not None:
            why = f"{security.signing_key_file} must hold {MIN_KEY_BYTES} bytes or more"
            raise BadSetting("security.signing_key_file", why)
        why = f"is needed, {MIN_KEY_BYTES} bytes or more; GARRISON_SECURITY__SIGNING_KEY may give it"
        raise BadSetting("security.signing_key", why)
    return text.encode()


def cluster_key(settings: Settings) -> bytes | None:
    """32 bytes, or None for a cluster on loopback. Raises `BadSetting`."""
    text = settings.security.cluster_key
    if text is None:
        return None
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise BadSetting("security.cluster_key", "must be 32 bytes in base64")
    return key


def build_journal(
    settings: Settings, metrics: "Metrics", supervisor: "Supervisor", clock: "Clock", rng: random.Random
) -> "Journal | None":
    """The crash journal of `settings`, if it keeps one. Raises `BadSetting`."""
    if settings.journal.mode == "none":
        return None
    if settings.journal.mode == "local":
        from server.storage.journal.local import LocalJournal

        return LocalJournal(settings.journal, settings.cluster, NodeId(settings.node), metrics)
    from server.storage.journal.redis import RedisJournal

    return RedisJournal(settings.journal, settings.cluster, NodeId(settings.node), metrics, supervisor, clock, rng)


def build_node(settings: Settings) -> "Node":
    """One node with its real drivers. Raises `BadSetting`."""
    from server.cluster.membership import KinshipMembership
    from server.node import Drivers, Node
    from server.runtime.clock import SystemClock
    from server.runtime.metrics import Metrics
    from server.runtime.supervisor import Supervisor
    from server.sessions.picows_driver import PicowsListener
    from server.transport.tcp import TcpTransport

    app, clock, metrics = load_app(settings), SystemClock(), Metrics()
    key, rng = cluster_key(settings), random.SystemRandom()
    supervisor = Supervisor(settings.node, lambda name, error: _crashed(metrics))
    store = build_store(settings, app)
    transport = TcpTransport(settings.transport, settings.cluster, key, clock, metrics, supervisor, rng)
    membership = KinshipMembership(settings.gossip, settings.cluster, key, clock, metrics, supervisor)
    drivers = Drivers(
        clock=clock,
        rng=rng,
        store=store,
        logs=store,
        transport=transport,
        membership=membership,
        supervisor=supervisor,
        metrics=metrics,
        listener=lambda gateway: PicowsListener(gateway, settings.gateway),
        admin=_admin if settings.admin.enabled else None,
        journal=build_journal(settings, metrics, supervisor, clock, rng),
        asks_store=True,
    )
    return Node(settings, app, signing_key(settings), drivers)


def _crashed(metrics: "Metrics") -> None:
    metrics.task_crashes_total += 1


def _admin(node: "Node") -> "AdminServer":
    from server.admin.app import AdminServer
    from server.admin.ports import Draining

    return AdminServer(
        node.host,
        node.settings,
        node.metrics,
        node.clock,
        node.supervisor,
        node.not_ready,
        node.gateway.session_rows,
        node.write_behind.observe,
        Draining(node.drain, node.drain_progress),
        lambda: gossip_endpoint(node),
    )


def gossip_endpoint(node: "Node") -> str:
    """`host:port` of the node's gossip, for others to use as a seed; empty before it is there."""
    endpoint: str = getattr(node.drivers.membership, "endpoint", "")
    return endpoint


async def run_node(settings: Settings) -> int:
    """Run a node until SIGTERM or SIGINT; prints one JSON line to standard output once it
    serves. A node that loses its lease comes back as a new incarnation, which is drained if the one
    before it was. Returns the exit code."""
    from kinship import log_to_python

    from server.runtime.logs import configure

    configure(settings.log, settings.node)
    log_to_python(logging.WARNING)
    logging.getLogger("kinship").addFilter(_not_about_encryption)
    if settings.security.cluster_key is None:
        log.warning("security.cluster_key is not set: gossip is plain, loopback only")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.store.migrate:
        from migrations import upgrade

        await asyncio.to_thread(upgrade, settings.store.url)
    made_token = settings.admin.enabled and settings.admin.token is None
    if made_token:
        settings = _with_token(settings)
    served = drained = False
    while not stop.is_set():
        if served:
            log.warning("coming back as a new incarnation", node=settings.node)
            await asyncio.sleep(LEASE_LOST_PAUSE_S)
        node = build_node(settings)
        node.drained = drained
        try:
            await node.start()
        except GarrisonError as error:
            if not served:
                raise
            log.warning("cannot come back yet", why=error.message)  # a full disk, a Redis that only reads
            continue
        if made_token and not served:
            log.warning("no admin.token is set: made one for this run", token=settings.admin.token)
        served = True
        gc.collect()
        gc.freeze()
        _say_ready(node)
        await _first(stop, node.ended)
        drained = drained or node.drain_progress()["state"] == "leaving"
        await node.stop()
    return 0


def _not_about_encryption(record: logging.LogRecord) -> bool:
    """Whether a line of the gossip library is to be shown: of encryption it speaks in terms of a
    setting that does not exist here, and `run_node` says it in ours."""
    return "running without encryption" not in record.getMessage()


def _with_token(settings: Settings) -> Settings:
    """Settings with a random admin token, kept over new incarnations."""
    token = secrets.token_urlsafe(18)
    return msgspec.structs.replace(settings, admin=msgspec.structs.replace(settings.admin, token=token))


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _say_ready(node: "Node") -> None:
    assert node.me is not None
    line = {
        "ready": True,
        "node": node.me.node,
        "incarnation": node.me.incarnation,
        "client_url": node.client_url,
        "admin_url": node.admin_url,
        "gossip": gossip_endpoint(node),
        "pid": os.getpid(),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The script `garrison`."""
    from server.cli.app import run

    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    if "kinship" in sys.modules:  # its threads can crash an interpreter that is being taken down
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
