"""Every setting of a node and every bound of its queues, with units in the names.

Frozen structs; `load` merges defaults, a TOML file, `GARRISON_…` variables and flags, in that
order, and validates the whole before anything starts. `GARRISON_GATEWAY__PORT=9000` sets
`gateway.port`. Raises `BadSetting` with the dotted name of the field. Leaf module: it reads
only the mapping and the path that it is given.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, field

from server.errors import BadSetting
from server.ids import NODE_PATTERN, whole

TokenName = Annotated[str, Meta(min_length=1, max_length=256)]
TokenNames = Annotated[list[TokenName], Meta(min_length=1, max_length=16)]
LoginPolicy = Annotated[str, Meta(pattern=whole(r"newest_wins|first_wins|one_per_kind|allow:([1-9]|1[0-6])"))]
SEASON_PATTERN = r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}=[0-9]{1,15}"
Port = Annotated[int, Meta(ge=0, le=65_535)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=365 * 86_400)]
Bytes = Annotated[int, Meta(ge=64)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class GossipSettings(_Section, frozen=True):
    """SWIM membership (kinship). Defaults see a killed node in about 1.5 s."""

    bind: str = "127.0.0.1:0"
    advertise: str | None = None
    seeds: list[str] = []
    probe_interval_s: Seconds = 0.3
    probe_timeout_s: Seconds = 0.15
    suspicion_mult: Count = 3
    gossip_interval_s: Seconds = 0.1
    load_interval_s: Seconds = 0.5


class TransportSettings(_Section, frozen=True):
    """Node-to-node requests over TCP."""

    host: str = "127.0.0.1"
    port: Port = 0
    advertise_host: str | None = None
    encryption: Literal["required", "allowed", "off"] = "required"
    """`allowed`: a link to or from a node that has no encryption is plain; for the time of an upgrade."""
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    """PEM files; the CA is of this cluster alone. None: each process makes a certificate, which the login, by the
    cluster key, vouches for."""
    max_frame_bytes: Bytes = 8 * 1024 * 1024
    max_in_flight: Count = 10_000
    max_buffered_bytes: Bytes = 32 * 1024 * 1024
    connect_timeout_s: Seconds = 1.0
    request_timeout_s: Seconds = 5.0


class GatewaySettings(_Section, frozen=True):
    """Client WebSockets."""

    host: str = "127.0.0.1"
    port: Port = 7350
    advertise_url: str | None = None
    """The address that clients are told, `ws://host:port` or `wss://…`; made from host and port if absent."""
    tls_certificate: str | None = None
    tls_key: str | None = None
    max_connections: Count = 100_000
    max_connections_per_address: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Connections that one client address may have, of IPv6 one /64. 0: no limit."""
    max_frame_bytes: Bytes = 64 * 1024
    read_buffer_bytes: Bytes = 1024
    country_header: Annotated[str, Meta(min_length=1, max_length=64, pattern=whole("[A-Za-z0-9-]+"))] | None = None
    """The header in which a trusted proxy says the client's country, for rows of sessions. Nobody else is believed."""
    hello_timeout_s: Seconds = 5.0
    heartbeat_interval_s: Seconds = 5.0
    heartbeats_missed: Count = 3
    cumulative_ack_interval_s: Seconds = 5.0
    max_in_flight: Count = 64
    """Requests of one session that wait for their reply."""
    outbox_max_messages: Count = 1_024
    outbox_max_bytes: Bytes = 1024 * 1024
    resume_window_s: Seconds = 30.0
    max_subscriptions: Count = 64
    """Topics that a session may watch, streams and latest ones together."""
    latest_tick_ms: Count = 200
    """How often the changes of latest topics are sent to their watchers."""
    rate_per_s: Count = 200
    rate_burst: Count = 400
    rate_violations: Count = 100
    """Refused messages in a row after which a flooding session is closed. Above `max_in_flight`: a client that
    waits as it is told can have as many refused at once as it may have requests in flight."""
    clock_skew_s: Annotated[float, Meta(ge=0, le=3_600)] = 5.0
    token_audience: TokenName | None = None
    """The claim `aud` that client tokens must have. None: it may be absent, and is `garrison` if it is there."""
    token_issuers: TokenNames = field(default_factory=lambda: ["garrison"])
    """Values that the claim `iss` of client tokens may have; `garrison token` makes tokens of issuer `garrison`."""
    token_subject_claim: TokenName = "sub"
    token_role_claim: TokenName = "role"
    token_default_role: Literal["player", "host", "service"] | None = None
    """The role of a token without a role claim. None: it is refused."""
    token_device_claim: TokenName | None = None
    """The claim of client tokens that says the kind of the device. None: they do not say it."""
    device_kind_from_hello: bool = False
    """Whether the client's own word for the kind of its device counts where its token does not say it."""
    login_policy: LoginPolicy = "newest_wins"
    """Sessions that a player may have at a time, and which: `newest_wins`, `first_wins`, `allow:N` (N of 1 to 16) or
    `one_per_kind`."""


class PresenceSettings(_Section, frozen=True):
    """Players who watch players."""

    visibility: Literal["status", "friends", "everybody"] = "status"
    """Players' right to watch others. status: everybody sees what is for everybody, friends the rest; friends: only
    friends see anything; everybody: all see what friends do. Who is blocked sees nobody."""
    max_watched: Count = 5_000
    """Players that a session watches at most."""
    max_watched_here: Count = 20_000_000
    """The same of all sessions of a node together; each takes some 30 bytes."""


class ReplaySettings(_Section, frozen=True):
    """Replays of stored logs to clients."""

    max_per_session: Count = 4
    """Replays that a session has open."""
    max_here: Count = 10_000
    """The same of all sessions of a node together."""
    cache_bytes: Bytes = 64 * 1024 * 1024
    """Decoded parts of logs that a node keeps for all who replay them."""


class ActorSettings(_Section, frozen=True):
    """Activations, mailboxes and calls."""

    max_activations: Count = 1_000_000
    max_watched: Count = 500_000
    """Players that sessions of a node watch, each counted once."""
    mailbox_max_calls: Count = 1_000
    call_timeout_s: Seconds = 5.0
    idle_timeout_s: Seconds = 300.0
    collect_interval_s: Seconds = 5.0
    location_cache_entries: Count = 100_000
    max_redirects: Count = 2
    claim_batch: Annotated[int, Meta(ge=1, le=500)] = 500
    claim_batches_in_flight: Count = 2
    directory_wait_s: Seconds = 1.0
    rebalance_per_s: Count = 2_000
    migrate_batch: Annotated[int, Meta(ge=1, le=1_000)] = 16
    """Activations that move to one node in one statement and one message."""
    reminder_poll_s: Seconds = 1.0
    orphan_poll_s: Seconds = 10.0
    """How often slot owners look for matches that live on and have no node."""
    query_timeout_s: Seconds = 1.0


class StoreSettings(_Section, frozen=True):
    """The relational store, write-behind and match logs."""

    url: str = "sqlite:///.garrison/garrison.db"
    migrate: bool = False
    flush_interval_s: Seconds = 1.0
    flush_batch: Count = 1_000
    max_dirty: Count = 200_000
    """Dirty activations above which durable turns are refused with `Unavailable`."""
    max_dirty_age_s: Seconds = 10.0
    """Age of the oldest unflushed change above which durable turns are refused."""
    group_commit_s: Seconds = 0.03
    max_log_backlog: Count = 100_000
    """Log entries of a node that wait for their commit."""
    segment_entries: Count = 512
    projection_interval_s: Seconds = 30.0
    """How far the row of a live match may be behind its log. Its first and its last event are in it at once."""
    pool_size: Count = 4
    statement_timeout_s: Seconds = 5.0
    busy_timeout_s: Seconds = 2.0
    lease: bool = True
    """False only for a deployment of one node."""
    lease_period_s: Seconds = 2.0
    lease_renew_s: Seconds = 0.5
    lease_stall_s: Seconds = 5.0
    """How long the event loop may stand still and its lease be renewed all the same. Past that others take over."""
    lease_grace_s: Seconds = 10.0
    """How long an expired lease is left to a node that still answers gossip (its interpreter or
    its store is busy) before others may take what it owns. It acknowledges nothing meanwhile."""
    evict_after_s: Seconds = 1.0
    """How long a node that gossip has lost may keep renewing its lease before a majority evicts it."""
    flush_at_stop: bool = True
    """False is for tests that show what a flush at stop is good for."""


class CareerSettings(_Section, frozen=True):
    """Careers of players."""

    seasons: list[Annotated[str, Meta(pattern=whole(SEASON_PATTERN))]] = []
    """Seasons, each `NAME=UNIX_MS`: from when on it is. A match belongs to the one in which it was made."""

    @property
    def beginnings(self) -> list[tuple[int, str]]:
        """First Unix ms and name of each season."""
        return [(int(begin), name) for name, _, begin in (season.partition("=") for season in self.seasons)]


class RetentionSettings(_Section, frozen=True):
    """How much is kept of logs of matches that are over. 0: however much there is."""

    max_age_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    max_matches: Annotated[int, Meta(ge=0)] = 0
    max_bytes: Annotated[int, Meta(ge=0)] = 0
    interval_s: Seconds = 3_600.0
    """How often the cluster looks for logs that go."""


class JournalSettings(_Section, frozen=True):
    """The crash journal of write-behind changes: what a dead process had acknowledged and not
    stored yet is found there."""

    mode: Literal["none", "local", "redis"] = "none"
    directory: str = "/dev/shm/garrison"
    """`local`: shared memory outlives a process, a disk also the machine's restart."""
    segment_bytes: Annotated[int, Meta(ge=65_536)] = 4 * 1024 * 1024
    segments: Annotated[int, Meta(ge=2, le=1_024)] = 8
    """`local`: preallocated files of `segment_bytes`; all full, durable changes wait for a flush."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_timeout_s: Seconds = 1.0
    max_backlog_bytes: Bytes = 64 * 1024 * 1024
    """`redis`: records that are not known to be stored, in its stream or on their way to it."""
    takeover: Literal["wait", "lose"] = "wait"
    """A dead node's entities whose journal cannot be read here: wait for its return, or go on from
    what is stored and count what may be lost."""


class ColumnSettings(_Section, frozen=True):
    """The node's recent past as columns in shared memory, for queries."""

    enabled: bool = False
    directory: str = "/dev/shm/garrison-columns"
    """Memory that outlives the process, or a disk. Each cluster and node gets a directory of its own in it."""
    max_bytes: Annotated[int, Meta(ge=1024 * 1024)] = 64 * 1024 * 1024
    """Bytes of each table; its oldest rows go first."""
    max_age_s: Seconds = 86_400.0
    tick_s: Seconds = 0.1
    """Rows are written this often, and seen by readers one tick later."""
    reader_s: Seconds = 30.0
    """How long a reader may keep what has been let go of: until then it counts in `max_bytes`."""
    reload: bool = True
    """Load rows of events from the store again where they were lost with the memory."""
    calls_per_s: Count = 1_000
    """Requests of clients a second of which each has a row; above, a share of them, with its weight."""
    snapshot_s: Annotated[float, Meta(ge=0, le=86_400)] = 10.0
    """How often the tables of what lives here now are taken anew. 0: there are none."""


class ProxySettings(_Section, frozen=True):
    """Proxies before the ports of clients and of operators."""

    trusted: list[str] = []
    """Networks (`10.1.0.0/16`, `fd00::/8`) or addresses of proxies that are believed who the client is."""


class AdminSettings(_Section, frozen=True):
    """HTTP for operators: dashboard, API, metrics, health."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 7360
    advertise_url: str | None = None
    base_path: Annotated[str, Meta(max_length=128, pattern=whole(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*"))] | None = None
    """The path below which a proxy that does not take it away passes requests on, such as `/garrison`."""
    keep_alive_s: Seconds = 75.0
    """Time for which a connection without a request is kept: longer than a proxy in front keeps it, or the proxy
    sends a request into a connection that ends."""
    token: str | None = None
    """None: a random one is made at start and logged once."""


class SecuritySettings(_Section, frozen=True):
    cluster_key: str | None = None
    """32 bytes in base64, the same on every node: gossip encryption and transport login.
    None: this node stays alone."""
    signing_key: str | None = None
    """The HMAC key (HS256) of client tokens, 32 bytes or more."""
    signing_key_file: str | None = None
    signing_key_id: TokenName | None = None
    """The name (`kid`) of the signing key, in tokens that are signed with it."""
    token_key_files: Annotated[list[str], Meta(max_length=16)] = []
    """Files of further keys of client tokens, each `FILE` or `KID=FILE`: PEM, JWKS, or the text of an HMAC key."""


class ApplicationSettings(_Section, frozen=True):
    """Settings of the application that `app` names."""

    files: Annotated[list[str], Meta(max_length=64)] = []
    """Files that the application takes in when it is loaded."""


class LogSettings(_Section, frozen=True):
    level: str = "info"
    json: bool = False


class Settings(_Section, frozen=True):
    """Everything one node needs. `node` is stable over restarts."""

    node: Annotated[str, Meta(pattern=whole(NODE_PATTERN))] = "node-1"
    cluster: Annotated[str, Meta(pattern=whole(NODE_PATTERN))] = "garrison"
    app: str = "game.app:App"
    weight: Annotated[int, Meta(ge=1, le=16)] = 4
    """Share of the slots relative to the other nodes."""
    drain_timeout_s: Seconds = 10.0
    gossip: GossipSettings = GossipSettings()
    transport: TransportSettings = TransportSettings()
    gateway: GatewaySettings = GatewaySettings()
    presence: PresenceSettings = PresenceSettings()
    replays: ReplaySettings = ReplaySettings()
    actors: ActorSettings = ActorSettings()
    store: StoreSettings = StoreSettings()
    careers: CareerSettings = CareerSettings()
    retention: RetentionSettings = RetentionSettings()
    journal: JournalSettings = JournalSettings()
    columns: ColumnSettings = ColumnSettings()
    admin: AdminSettings = AdminSettings()
    proxies: ProxySettings = ProxySettings()
    security: SecuritySettings = SecuritySettings()
    log: LogSettings = LogSettings()
    application: ApplicationSettings = ApplicationSettings()


ENV_PREFIX = "GARRISON_"
MIN_KEY_BYTES: Final = 32
_SIGNING_KEYS = ("signing_key", "signing_key_file")
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "array": "a list"}
_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://")
"""Beginning of a Service's address as Kubernetes puts it into the environment (`GARRISON_GATEWAY_PORT=tcp://…`)."""


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """The validated settings. `flags` maps dotted names to values; None values are skipped."""
    tree: dict[str, Any] = {}
    if file is not None:
        tree = _read_toml(file)
    _put_all(tree, _from_variables(environ or {}))
    _put_all(tree, {name: flag for name, flag in (flags or {}).items() if flag is not None})
    return from_tree(tree)


def from_tree(tree: Mapping[str, Any]) -> Settings:
    """Settings from nested mappings. Raises `BadSetting` naming the first bad field."""
    try:
        settings = msgspec.convert(_no_empty_token(_split_lists(tree)), Settings, strict=False)
    except msgspec.ValidationError as error:
        why, _, where = str(error).partition(" - at `")
        raise _explained(where.rstrip("`").removeprefix("$").removeprefix("."), why) from None
    _check(settings)
    _check_journal_is_meant(tree)
    return settings


def _check_journal_is_meant(tree: Mapping[str, Any]) -> None:
    """Raises `BadSetting` where a journal is described and no mode chosen: it would not be kept, and nobody told."""
    given = tree.get("journal")
    if isinstance(given, Mapping) and "mode" not in given:
        for name, mode in (("redis_url", "redis"), ("directory", "local")):
            if name in given:
                why = f"is not set, and journal.{name} is: set it to {mode}, or to none for no journal"
                raise BadSetting("journal.mode", why)


def _check(settings: Settings) -> None:
    """Rules between fields."""
    gateway, store, admin, key = settings.gateway, settings.store, settings.admin, settings.security.signing_key
    if bool(gateway.tls_certificate) != bool(gateway.tls_key):
        raise BadSetting("gateway.tls_key", "certificate and key go together")
    if gateway.advertise_url is not None and not is_url(gateway.advertise_url, "ws", "wss"):
        raise BadSetting("gateway.advertise_url", "must be ws://host:port or wss://host:port")
    if gateway.country_header is not None and not settings.proxies.trusted:
        raise BadSetting(
            "gateway.country_header", "is believed from trusted proxies only: name them in proxies.trusted"
        )
    if admin.advertise_url is not None and not is_url(admin.advertise_url, "http", "https"):
        raise BadSetting("admin.advertise_url", "must be http://host:port or https://host:port")
    if key and len(key.encode()) < MIN_KEY_BYTES:
        why = f"is too short: {len(key.encode())} bytes; {MIN_KEY_BYTES} or more are needed"
        raise BadSetting("security.signing_key", why)
    if gateway.outbox_max_bytes > settings.transport.max_frame_bytes // 2:
        why = "must be at most half of transport.max_frame_bytes, or full sessions cannot move to another node"
        raise BadSetting("gateway.outbox_max_bytes", why)
    if store.lease_renew_s * 2 > store.lease_period_s:
        raise BadSetting("store.lease_renew_s", "must be at most half of store.lease_period_s")
    if store.url.partition(":")[0].partition("+")[0] not in {"sqlite", "postgresql", "postgres", "memory"}:
        raise BadSetting("store.url", "must begin with sqlite: or postgresql:")
    for text in settings.proxies.trusted:
        try:
            ip_network(text)
        except ValueError as error:
            raise BadSetting("proxies.trusted", f"names no network: {error}") from None
    if settings.gossip.probe_timeout_s >= settings.gossip.probe_interval_s:
        raise BadSetting("gossip.probe_timeout_s", "must be below gossip.probe_interval_s")
    if ":" not in settings.app:
        raise BadSetting("app", "must be package.module:Name")


def is_url(url: str, *schemes: str) -> bool:
    """Whether this is `scheme://host`, perhaps with a port and a path, by one of `schemes`."""
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # raised by reading the port
        return False


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise BadSetting("config", f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting("config", f"{file} is not TOML: {error}") from None


def _put(tree: dict[str, Any], dotted: str, value: object) -> None:
    *sections, leaf = dotted.split(".")
    for section in sections:
        child = tree.setdefault(section, {})
        if not isinstance(child, dict):
            raise BadSetting(dotted, f"{section} is a value, not a section")
        tree = child
    tree[leaf] = value


def _split_lists(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Variables and flags give lists as comma-separated text."""
    out: dict[str, Any] = dict(tree)
    for section, kind in _sections().items():
        fields = out.get(section)
        if isinstance(fields, dict):
            lists = {name for name, hint in get_type_hints(kind).items() if get_origin(hint) is list}
            out[section] = {
                name: [part.strip() for part in value.split(",") if part.strip()]
                if isinstance(value, str) and name in lists
                else value
                for name, value in fields.items()
            }
    return out


def _no_empty_token(tree: dict[str, Any]) -> dict[str, Any]:
    """A variable that is set to nothing is how some tools leave it out."""
    admin = tree.get("admin")
    if isinstance(admin, dict) and admin.get("token") == "":
        tree["admin"] = {name: value for name, value in admin.items() if name != "token"}
    return tree


def _from_variables(environ: Mapping[str, str]) -> dict[str, object]:
    """Settings by their dotted names. Other variables that begin like ours may be there: Kubernetes describes a
    Service named `garrison` in such ones. Raises `BadSetting` for a variable that is nearly a setting."""
    names, found = _names(), dict[str, object]()
    for variable, value in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if name in names:
            found[name] = value
        elif not _OF_A_SERVICE.match(value):
            _check_near_miss(variable, name, names)
    return found


def _check_near_miss(variable: str, name: str, names: Iterable[str]) -> None:
    """Raises `BadSetting` where a setting is meant: its section is there, or all but the section and the dots."""
    plain = "_" + name.replace(".", "_")
    meant = [setting for setting in names if ("_" + setting.replace(".", "_")).endswith(plain)]
    if not meant:
        meant = get_close_matches(name, names, 1, 0.85)
    if meant or name.partition(".")[0] in _sections():
        hint = f"; did you mean {_variable(meant[0])}?" if len(meant) == 1 else ""
        raise BadSetting(variable, f"no such setting{hint}")


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper().replace(".", "__")


def _put_all(tree: dict[str, Any], layer: Mapping[str, object]) -> None:
    """Lay a source over those before it. The signing key has two names: the later source's counts."""
    for name, value in layer.items():
        if name in _sections():
            raise _is_section(name)
        _put(tree, name, value)
    given = [name for name in _SIGNING_KEYS if layer.get(f"security.{name}")]
    if len(given) == 1:
        for name in _SIGNING_KEYS:
            if name != given[0]:
                tree["security"].pop(name, None)


def _names() -> dict[str, Any]:
    """The type of every setting by its dotted name; sections have none."""
    sections = _sections()
    names = {name: kind for name, kind in get_type_hints(Settings).items() if name not in sections}
    for name, section in sections.items():
        names.update({f"{name}.{field}": kind for field, kind in get_type_hints(section).items()})
    return names


def _sections() -> dict[str, type[_Section]]:
    kinds = get_type_hints(Settings)
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, _Section)}


def _is_section(name: str) -> BadSetting:
    return BadSetting(name, f"is a section; use {name}.field")


def _explained(field: str, why: str) -> BadSetting:
    """The fault that msgspec found in `field` (a section, where the fault is a name in it), in our words."""
    if "unknown field" in why:
        unknown = why.rpartition("`")[0].rpartition("`")[2]
        return BadSetting(f"{field}.{unknown}" if field else unknown, "no such setting")
    values = get_args(_names().get(field))
    if "enum value" in why and values:
        return BadSetting(field, f"{why}; use {', '.join(values[:-1])} or {values[-1]}")
    if field in _sections():
        return _is_section(field)
    if kind := re.match(r"Expected `(\w+)(?: \| null)?`(?: ([<>]=? [\d.]+)$|, got|$)", why):
        bound = f" {kind[2]}" if kind[2] else ""
        return BadSetting(field, f"must be {_KINDS.get(kind[1], kind[1])}{bound}")
    return BadSetting(field or "?", why)
