"""The composition root: the only module that builds drivers, and where names become objects.

Settings name an application (`app`), a store, a journal; an application names what would make a circle
if it were imported (its tables, its commands). Both kinds of names are text `package.module:NAME`, and
`load` is the one function that follows them. Every other function here makes one part of a node from
`Settings`; commands that work without a cluster use some of them.

What a function builds it imports when it is called: `garrison token` needs no database driver.
"""

import base64
import contextlib
import importlib
import os
import random
import secrets
import sys
from collections.abc import Mapping as Map
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from server.errors import BadInput, BadSetting
from server.ids import NodeId
from server.settings import MIN_KEY_BYTES, Settings

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    import msgspec

    from migrations import History
    from persistence.engine.mapping import Mapping
    from persistence.engine.queries import StoreQuery
    from persistence.sql_queries import SqlStoreQueries
    from persistence.sql_store import SqlStore
    from server.actors.app import App
    from server.admin.app import AdminServer
    from server.cluster.terms import Terms
    from server.columns.store import ColumnStore
    from server.liveness.ports import OwnLeaseStore
    from server.node import Node
    from server.runtime.clock import Clock
    from server.runtime.metrics import Metrics
    from server.runtime.supervisor import Supervisor
    from server.sessions.token_keys import TokenKey
    from server.sessions.tokens import TokenRules
    from server.storage.journal.ports import Journal
    from server.storage.queries import StoreQueries

CLUSTER_KEY_BYTES: Final = 32


def load(name: str) -> Any:
    """The object that `name`, a `package.module:NAME`, means. Modules of the working directory are
    found too, after all others: a studio's game may stand there. Raises `BadSetting`."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise BadSetting("app", f"cannot load {name}: {error}") from None


def load_app(settings: Settings) -> "App":
    """The application that `settings.app` names, which has taken in its files. Raises `BadSetting`."""
    from server.actors.app import App

    found = load(settings.app)
    if not isinstance(found, App):
        raise BadSetting("app", f"{settings.app} is not an App")
    if found.take_files is not None:
        found.take_files(settings.application.files)
    elif settings.application.files:
        raise BadSetting("application.files", f"{settings.app} takes no files")
    return found


def build_store(settings: Settings, app: "App | None" = None) -> "SqlStore":
    """The relational store of `settings` (Store and LogStore), not open yet. Raises `BadSetting`."""
    from persistence.sql_store import SqlStore
    from server.actors.facts import open_facts_of

    app = app or load_app(settings)
    types = {cls.kind: cls.State for cls in app.actors if cls.durability != "volatile"}
    return SqlStore(
        settings.store,
        state_types=types,
        mappings=_mappings(app, types),
        versions=_own_version(app),
        open_facts=open_facts_of(app.actors),
        personal=[cls.kind for cls in app.actors if cls.personal],
    )


def _own_version(app: "App") -> dict[str, str]:
    """The version of the application's own tables, by the table that has it; empty for an application without."""
    if app.migrations is None:  # a node need not load Alembic then
        return {}
    from migrations import history_of, newest

    history = history_of(app.name, app.migrations)
    return {history.version_table: newest(history)}


def table_versions(app: "App") -> dict[str, str]:
    """Versions of the tables that this program was made for: of the engine as `schema`, of the application's own as
    `app_schema`."""
    from persistence.engine.tables import SCHEMA_VERSION

    return {"schema": SCHEMA_VERSION, "app_schema": "".join(_own_version(app).values())}


def build_lease_store(settings: Settings) -> "OwnLeaseStore":
    """A connection for renewals of the lease alone. Raises `BadSetting`."""
    from persistence.lease_store import SqlLeaseStore

    return SqlLeaseStore(settings.store)


def own_history(app: "App") -> "History | None":
    """The application's own migrations, if it has some. Raises `BadSetting`."""
    from migrations import history_of

    return None if app.migrations is None else history_of(app.name, app.migrations)


async def upgrade_store(settings: Settings, app: "App | None" = None) -> None:
    """Bring the tables of the engine, then those of the application, to what this program needs. Raises
    `BadSetting`, `Unavailable`, `Corrupt`."""
    from migrations import upgrade_async

    own = own_history(app or load_app(settings))
    await upgrade_async(settings.store.url)
    if own is not None:
        await upgrade_async(settings.store.url, history=own)


def build_store_queries(settings: Settings, app: "App | None" = None) -> "StoreQueries":
    """The named store queries of the application. Raises `BadSetting` where a route names one that there is not."""
    from server.actors.app import StoreRoute
    from server.storage.queries import NoStoreQueries

    app = app or load_app(settings)
    found: Map[str, StoreQuery] = load(app.store_queries) if app.store_queries else {}
    for message, route in app.routes.items():
        if isinstance(route, StoreRoute) and route.query not in found:
            raise BadSetting("app", f"the route of {message.__name__} names {route.query!r}, which is no store query")
    if not found:
        return NoStoreQueries()
    from persistence.sql_queries import SqlStoreQueries

    return SqlStoreQueries(settings.store, found)


def build_recorders(settings: Settings) -> "SqlStoreQueries":
    """The store query `recorded`: which events of logs a node has recorded. Raises `BadSetting`."""
    from persistence.engine.recorders import RECORDED
    from persistence.sql_queries import SqlStoreQueries

    return SqlStoreQueries(settings.store, {"recorded": RECORDED})


def _mappings(app: "App", stored: "Map[str, type[msgspec.Struct]]") -> "Map[str, Mapping]":
    """The tables that `app` names for its kinds. Raises `BadSetting` where they are not of its actors, or
    where an actor that lives on by itself, or has facts, has no table to look for it in."""
    from server.actors.facts import tells_facts

    found: Map[str, Mapping] = load(app.mappings) if app.mappings else {}
    for kind, mapping in found.items():
        if stored.get(kind) is not mapping.state_type:
            raise BadSetting("app", f"{app.mappings}: no stored actor {kind!r} has the state of this mapping")
    for cls in app.actors:
        if cls.lives_on and (cls.kind not in found or found[cls.kind].live is None):
            why = "lives on, so it needs a mapping whose `live` says which rows still do"
            raise BadSetting("app", f"actor {cls.__name__} {why}")
        if tells_facts(cls) and cls.kind in found and "open_facts" not in found[cls.kind].table.c:
            raise BadSetting("app", f"actor {cls.__name__} has facts, so its table needs the column `open_facts`")
        if cls.strays_after_s is not None and (cls.kind not in found or found[cls.kind].here is None):
            why = "strays, so it needs a mapping whose `here` says of which rows somebody is here"
            raise BadSetting("app", f"actor {cls.__name__} {why}")
    return found


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


def token_rules(settings: Settings) -> "TokenRules":
    """Conditions of a good client token, with the keys as they are in their files now. Raises `BadSetting`."""
    from server.sessions.token_keys import TokenKeys, secret_key
    from server.sessions.tokens import TokenRules

    security, gateway = settings.security, settings.gateway
    keys = [secret_key(signing_key(settings), security.signing_key_id)]
    for entry in security.token_key_files:
        keys += _token_keys(entry)
    try:
        ring = TokenKeys(keys)
    except BadInput as error:
        raise BadSetting("security.token_key_files", error.message) from None
    return TokenRules(
        ring,
        tuple(gateway.token_issuers),
        gateway.token_audience,
        gateway.clock_skew_s,
        gateway.token_subject_claim,
        gateway.token_role_claim,
        gateway.token_default_role,
        gateway.token_device_claim,
    )


def _token_keys(entry: str) -> "list[TokenKey]":
    """Keys of one entry of `security.token_key_files`, `FILE` or `KID=FILE`. A name has no slash: `./a=b.pem` is a
    file."""
    from server.sessions.token_keys import MAX_FILE_BYTES, keys_of_file

    kid, named, file = entry.partition("=")
    named = "" if "/" in kid else named
    path = Path(file if named else entry)
    try:
        with path.open("rb") as opened:
            return keys_of_file(opened.read(MAX_FILE_BYTES + 1), kid.strip() or None if named else None)
    except OSError as error:
        raise BadSetting("security.token_key_files", f"cannot read {path}: {error.strerror}") from None
    except BadInput as error:
        raise BadSetting("security.token_key_files", f"{path}: {error.message}") from None


def cluster_key(settings: Settings) -> bytes | None:
    """32 bytes, or None where none are given. Raises `BadSetting`."""
    text = settings.security.cluster_key
    if text is None:
        return None
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:  # also of text that is not ASCII
        key = b""
    if len(key) != CLUSTER_KEY_BYTES:
        raise BadSetting("security.cluster_key", f"must be {CLUSTER_KEY_BYTES} bytes in base64")
    return key


def node_key(settings: Settings) -> bytes:
    """The cluster key of a node. Without one in `settings` it is a random one: the node stays alone, since nobody else
    has that key. Raises `BadSetting` where others are meant to join."""
    key = cluster_key(settings)
    if key is not None:
        return key
    if meant := _meant_for_others(settings):
        why = (
            f"is needed where nodes join each other ({meant} is set): {CLUSTER_KEY_BYTES} bytes in base64, the same on"
            f" every node; head -c {CLUSTER_KEY_BYTES} /dev/urandom | base64 makes them"
        )
        raise BadSetting("security.cluster_key", why)
    return secrets.token_bytes(CLUSTER_KEY_BYTES)


def _meant_for_others(settings: Settings) -> str:
    """The setting that is set for the sake of other nodes; empty where all are as they come."""
    for section, names in (
        ("gossip", ("seeds", "bind", "advertise")),
        ("transport", ("host", "port", "advertise_host")),
    ):
        now = getattr(settings, section)
        for name in names:
            if getattr(now, name) != getattr(type(now)(), name):
                return f"{section}.{name}"
    return ""


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


def build_columns(settings: Settings, app: "App", clock: "Clock") -> "ColumnStore | None":
    """The columns of a node with the tables of `app`; None where they are switched off."""
    from server.actors.recorded import RecordedSnapshot
    from server.columns.store import ColumnStore
    from server.columns.table import TableLimits
    from server.columns.tables import TABLES

    columns = settings.columns
    if not columns.enabled:
        return None
    limits = TableLimits(columns.max_bytes, columns.max_age_s, columns.reader_s)
    snapshots = [each.schema for each in app.recorded if isinstance(each, RecordedSnapshot)]
    others = [each.schema for each in app.recorded if not isinstance(each, RecordedSnapshot)]
    return ColumnStore(
        columns_directory(settings), (*TABLES, *others), limits, clock, snapshots if columns.snapshot_s else ()
    )


def columns_directory(settings: Settings) -> Path:
    """The directory of the node's columns."""
    return Path(settings.columns.directory) / settings.cluster / settings.node


async def start_query_process(settings: Settings) -> "Process | None":
    """The query process of a node that is built afterwards: each of them takes its time to load what it needs. None
    where there is none, or none now."""
    if not settings.columns.enabled:
        return None
    from server.questions.child import lacking, start

    with contextlib.suppress(OSError):
        return await start(columns_directory(settings)) if not lacking() else None
    return None


def build_node(settings: Settings, querying: "Process | None" = None) -> "Node":
    """A node with its real drivers. `querying`: what `start_query_process` has started. Raises `BadSetting`."""
    from server.cluster.membership import KinshipMembership
    from server.liveness.renewing import RenewalThread
    from server.node import Node
    from server.node_drivers import Drivers
    from server.runtime.clock import SystemClock
    from server.runtime.descriptors import shortage
    from server.runtime.metrics import Metrics
    from server.runtime.proxies import TrustedProxies
    from server.runtime.supervisor import Supervisor
    from server.sessions.counted_connection import CountedConnection
    from server.sessions.picows_connection import PicowsConnection
    from server.sessions.picows_driver import PicowsListener
    from server.transport.tcp import TcpTransport

    app, clock, metrics = load_app(settings), SystemClock(), Metrics()
    key, rng = node_key(settings), random.SystemRandom()
    supervisor = Supervisor(settings.node, lambda name, error: _crashed(metrics))
    store = build_store(settings, app)
    transport = TcpTransport(settings.transport, settings.cluster, key, clock, metrics, supervisor, rng)
    membership = KinshipMembership(settings.gossip, settings.cluster, key, metrics, supervisor)
    proxies = TrustedProxies(settings.proxies.trusted)
    connection = CountedConnection if settings.columns.enabled else PicowsConnection
    drivers = Drivers(
        clock=clock,
        rng=rng,
        store=store,
        logs=store,
        store_queries=build_store_queries(settings, app),
        transport=transport,
        membership=membership,
        supervisor=supervisor,
        metrics=metrics,
        listener=lambda gateway: PicowsListener(gateway, settings.gateway, proxies, connection),
        admin=_admin if settings.admin.enabled else None,
        journal=build_journal(settings, metrics, supervisor, clock, rng),
        asks_store=True,
        terms=lambda rules: terms_of(app, rules, key, settings.gateway.login_policy, settings.application.files),
        renewing=RenewalThread(lambda: build_lease_store(settings)),
        shortage=shortage,
        columns=build_columns(settings, app, clock),
        query_process=querying,
    )
    return Node(settings, app, token_rules(settings), drivers)


def terms_of(app: "App", rules: "TokenRules", key: bytes, policy: str = "", files: Sequence[str] = ()) -> "Terms":
    """Facts that a node with the cluster key `key`, the login policy `policy` and the application's `files` has in
    common with the others of its cluster, but for the database."""
    from server.actors.forms import fingerprint
    from server.cluster.agreement import digest, keys_text
    from server.cluster.terms import Terms, text_of

    rest = (rules.issuers, rules.audience, rules.subject_claim, rules.role_claim, rules.default_role)
    return Terms(
        app=text_of(app.name),
        tokens=keys_text(key, [token_key.told() for token_key in rules.keys.keys]),
        rules=digest(*rest),
        kinds=_with_files(fingerprint(app.actors), files),
        logins=policy,
    )


def _with_files(kinds: str, files: Sequence[str]) -> str:
    """The fingerprint of kinds, and of what the application's files hold: in whatever order, wherever they are."""
    from server.cluster.agreement import digest

    return digest(kinds, *sorted(Path(file).read_bytes() for file in files)) if files else kinds


def _crashed(metrics: "Metrics") -> None:
    metrics.task_crashes_total += 1


def _admin(node: "Node") -> "AdminServer":
    from server.admin.app import AdminServer
    from server.admin.ports import Draining

    return AdminServer(
        node.system,
        node.settings,
        node.metrics,
        node.clock,
        node.supervisor,
        node.not_ready,
        node.gateway.session_rows,
        node.write_behind.observe,
        Draining(node.drain, node.drain_progress),
        lambda: gossip_endpoint(node),
        node.drivers.store_queries,
        node.troubles.current,
        node.drivers.logs,
        questions=node.recording.desk() if node.recording is not None else None,
        upgrading=lambda: node.upgrading,
    )


def heard_endpoints(node: "Node") -> list[str]:
    """`host:port` of the gossip of the nodes that `node` hears."""
    found: list[str] = getattr(node.drivers.membership, "others", [])
    return found


def gossip_endpoint(node: "Node") -> str:
    """`host:port` of the node's gossip, for others to use as a seed; empty before it is there."""
    endpoint: str = getattr(node.drivers.membership, "endpoint", "")
    return endpoint
