"""Read models of nodes: each node's answer when an admin view fans out, and how the answers are put together.

`NodeReadModels` is the local half: it installs node-level queries on its actor system. `ClusterViews`
is the other: it asks every member, converts the answers and names the nodes that are missing. A row
that cannot be read (a peer of another version) counts as missing too, never as an error.
"""

import asyncio
import base64
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from server.admin.answers import (
    Activations,
    Cluster,
    GoneNode,
    History,
    KindCount,
    MoveFigures,
    NodeInfo,
    NodeReport,
    Ring,
    Rows,
    Series,
    Stores,
    StoreState,
)
from server.admin.history import SAMPLE_INTERVAL_S, Sampler
from server.admin.ports import AdminSystem, NodeReadModel
from server.cluster.view import Member
from server.errors import BadInput, NotFound
from server.ids import NodeAddress
from server.runtime.clock import Clock
from server.runtime.metrics import Histogram, Metrics
from server.runtime.process import resident_bytes
from server.runtime.troubles import Trouble
from server.settings import JournalSettings, Settings

T = TypeVar("T")
Sessions = Callable[[int, int, str], list[dict[str, Any]]]
"""`sessions(offset, limit, subject) -> rows`: part of this node's sessions in a stable order,
only those of `subject` unless it is empty."""

NODE, HISTORY, STORE, SESSIONS = "node", "node_history", "node_store", "sessions"
RECENT_SAMPLES = 4
LIVE_TIMEOUT_S = 0.4
LIVE_REUSE_S = 0.2
"""Answers to `live` younger than this are given again: any number of dashboards costs the
cluster five fan-outs a second from each node at the most."""
GONE_KEPT = 32
GONE_FOR_S = 600.0
COUNT_SHARE = 0.005
"""Counting activations by kind may take this share of the node's time."""


class NodeReadModels:
    """The local half: this node's own rows."""

    def __init__(
        self,
        system: AdminSystem,
        settings: Settings,
        metrics: Metrics,
        clock: Clock,
        not_ready: Callable[[], str],
        sessions: Sessions | None,
        observe: Callable[[], None],
        gossip: Callable[[], str],
        troubles: Callable[[], list[Trouble]],
    ) -> None:
        self._system, self._settings, self._metrics, self._clock = system, settings, metrics, clock
        self._gossip, self._troubles = gossip, troubles
        self._not_ready, self._sessions, self._observe = not_ready, sessions, observe
        self._started = clock.now()
        self._kinds: dict[str, int] = {}
        self._count_again = 0.0
        self.sampler = Sampler(metrics, clock)

    def sample(self) -> None:
        """Once a second: note the node's state in its history."""
        self._observe()
        self.sampler.sample()

    def install(self) -> dict[str, NodeReadModel]:
        """Put the node-level queries on the actor system; returns them by name."""
        models: dict[str, NodeReadModel] = {NODE: self.report, HISTORY: self.history, STORE: self.store}
        if self._sessions is not None:
            models[SESSIONS] = self.sessions
        for name, model in models.items():
            self._system.add_query(name, model)
        return models

    def report(self, params: Mapping[str, Any]) -> list[Any]:
        """A single row: `NodeReport`."""
        self._observe()
        metrics, me = self._metrics, self._system.me
        report = NodeReport(
            node=me.node,
            incarnation=me.incarnation,
            wall_ms=self._clock.wall_ms(),
            uptime_s=round(self._clock.now() - self._started, 1),
            not_ready=self._not_ready(),
            sessions=metrics.sessions,
            activations=metrics.activations,
            kinds=self._count(),
            dirty=metrics.dirty,
            dirty_age_s=round(metrics.dirty_age_seconds, 3),
            heartbeats_total=metrics.heartbeats_total,
            turns_total=metrics.turns_total,
            fenced_total=metrics.fenced_total,
            flush_failures_total=metrics.flush_failures_total,
            lag_ms=round(metrics.loop_lag_last_seconds * 1000, 2),
            rss_bytes=resident_bytes(),
            samples=self.sampler.newest(RECENT_SAMPLES),
            moves=self._moves(),
            gossip=self._gossip(),
            troubles=self._troubles(),
        )
        return [msgspec.to_builtins(report)]

    def _moves(self) -> MoveFigures:
        metrics = self._metrics
        return MoveFigures(
            misplaced=metrics.misplaced,
            migrations_total=metrics.migrations_total,
            failed_total=metrics.migrations_failed_total,
            pause_mean_ms=_mean_ms(metrics.migration_pause_seconds),
            pause_p99_ms=_under_ms(metrics.migration_pause_seconds, 0.99),
            sessions_handed_over_total=metrics.sessions_handed_over_total,
            takeovers_total=metrics.takeovers_total,
            adopted_total=metrics.adopted_total,
            unread_total=metrics.takeovers_unread_total,
            orphans_woken_total=metrics.orphans_woken_total,
            evictions_total=metrics.evictions_total,
        )

    def history(self, params: Mapping[str, Any]) -> list[Any]:
        """A single row: `Series`."""
        return [msgspec.to_builtins(Series(self._system.me.node, SAMPLE_INTERVAL_S, self.sampler.all()))]

    def store(self, params: Mapping[str, Any]) -> list[Any]:
        """A single row: `StoreState`. Of the store's url only the kind is told, never credentials."""
        self._observe()
        metrics, limits = self._metrics, self._settings.store
        state = StoreState(
            node=self._system.me.node,
            url=limits.url.partition(":")[0],
            dirty=metrics.dirty,
            dirty_age_s=round(metrics.dirty_age_seconds, 3),
            flushes_total=metrics.flush_seconds.count,
            flush_mean_ms=_mean_ms(metrics.flush_seconds),
            flushed_rows_total=metrics.flushed_rows_total,
            flush_failures_total=metrics.flush_failures_total,
            fenced_total=metrics.fenced_total,
            fenced_changes_lost_total=metrics.fenced_changes_lost_total,
            claims_total=metrics.claims_total,
            log_entries_total=metrics.log_entries_total,
            log_commits_total=metrics.log_commit_seconds.count,
            log_commit_mean_ms=_mean_ms(metrics.log_commit_seconds),
            lease_renewals_total=metrics.lease_renewals_total,
            lease_failures_total=metrics.lease_failures_total,
            limits={
                "flush_interval_s": limits.flush_interval_s,
                "max_dirty": limits.max_dirty,
                "max_dirty_age_s": limits.max_dirty_age_s,
                "max_log_backlog": limits.max_log_backlog,
                "journal_bytes": _journal_bound(self._settings.journal),
            },
            journal=self._settings.journal.mode,
            journal_backlog_bytes=metrics.journal_backlog_bytes,
            journal_refused_total=metrics.journal_refused_total,
        )
        return [msgspec.to_builtins(state)]

    def sessions(self, params: Mapping[str, Any]) -> list[Any]:
        """A part of this node's sessions, each row with the node's name. Raises `BadInput`."""
        assert self._sessions is not None
        try:
            offset, limit = (min(max(0, int(params[name])), 2**31) for name in ("offset", "limit"))
        except (KeyError, ValueError, TypeError):
            raise BadInput("offset and limit are whole numbers") from None
        rows = self._sessions(offset, limit, str(params.get("subject", "")))
        return [{"node": self._system.me.node, **row} for row in rows]

    def _count(self) -> dict[str, int]:
        """Activations by kind; counted again only as often as `COUNT_SHARE` allows."""
        began = self._clock.now()
        if began >= self._count_again:
            counts = self._system.counts()
            self._kinds = {actor.kind: counts.get(actor.kind, 0) for actor in self._system.app.actors}
            took = self._clock.now() - began
            self._count_again = began + max(SAMPLE_INTERVAL_S, took / COUNT_SHARE)
        return self._kinds


class Departures:
    """Members that left this node's view in the last minutes, and how. Bounded."""

    def __init__(self, system: AdminSystem, clock: Clock) -> None:
        self._system, self._clock = system, clock
        self._last: dict[NodeAddress, Member] = {}
        self._gone: dict[str, tuple[Member, float]] = {}

    def follow(self) -> None:
        """Compare the view with the last one seen; cheap while nothing changed."""
        view, now = self._system.view, self._clock.now()
        for address, member in self._last.items():
            if address not in view.addresses:
                self._gone.pop(member.node, None)
                self._gone[member.node] = (member, now)
        self._last = dict(view.addresses)
        for node, (_, since) in list(self._gone.items()):
            if node in view.members or now - since > GONE_FOR_S or len(self._gone) > GONE_KEPT:
                del self._gone[node]

    def rows(self) -> list[GoneNode]:
        """The nodes that are gone now, in the order in which they went."""
        now = self._clock.now()
        return [
            GoneNode(
                node=member.node,
                incarnation=member.incarnation,
                how="stopped" if member.state == "leaving" else "lost",
                ago_s=round(now - since, 1),
                admin_url=member.admin_url,
            )
            for member, since in self._gone.values()
        ]


class ClusterViews:
    """The other half: answers gathered from every member."""

    def __init__(self, system: AdminSystem, settings: Settings, clock: Clock, own: NodeReadModels) -> None:
        self._system, self._settings, self._clock = system, settings, clock
        self._queries = own.install()
        self._ring: Ring | None = None
        self._slots: dict[NodeAddress, int] = {}
        self._slots_of = ""
        self._live: tuple[float, Cluster] | None = None
        self._live_lock = asyncio.Lock()
        self.departures = Departures(system, clock)

    async def live(self) -> Cluster:
        """The cluster now, waiting little for nodes that may be gone; see `LIVE_REUSE_S`."""
        async with self._live_lock:
            if self._live is None or self._clock.now() - self._live[0] > LIVE_REUSE_S:
                self._live = (self._clock.now(), await self.cluster(LIVE_TIMEOUT_S))
            return self._live[1]

    async def cluster(self, timeout_s: float | None = None) -> Cluster:
        """Every member with what it reports of itself."""
        reports, missing = await self._gather(NODE, NodeReport, timeout_s)
        by_node = {report.node: report for report in reports}
        self.departures.follow()
        view = self._system.view
        slots = self._slot_counts()
        nodes = [
            NodeInfo(
                node=member.node,
                incarnation=member.incarnation,
                state=member.state,
                weight=member.weight,
                suspect=member.suspect,
                slots=slots.get(member.address, 0),
                load=member.load,
                lag_ms=float(member.lag_ms),
                client_url=member.client_url,
                admin_url=member.admin_url,
                report=by_node.get(member.node),
                generation=member.generation,
            )
            for member in view.members.values()
        ]
        return Cluster(
            cluster=self._settings.cluster,
            app=self._system.app.name,
            node=self._system.me.node,
            digest=f"{view.digest:016x}",
            wall_ms=self._clock.wall_ms(),
            nodes=nodes,
            gone=self.departures.rows(),
            missing=missing,
        )

    def ring(self) -> Ring:
        """The slot table of this node's view; made once a view."""
        view = self._system.view
        digest = f"{view.digest:016x}"
        if self._ring is None or self._ring.digest != digest:
            owners = [address for address, _ in view.table.owners]
            place = {address: min(index, 255) for index, address in enumerate(owners)}
            slots = b"".join(bytes([place[owner]]) * length for length, owner in view.table.runs())
            counts = self._slot_counts()
            self._ring = Ring(
                digest=digest,
                owners=[address.node for address in owners],
                counts=[counts.get(address, 0) for address in owners],
                slots_z=base64.b64encode(zlib.compress(slots)).decode() if slots else "",
            )
        return self._ring

    async def history(self) -> History:
        """The last minutes of every node."""
        rows, missing = await self._gather(HISTORY, Series)
        return History(rows, missing)

    async def store(self) -> Stores:
        """Write-behind and log commits of every node."""
        rows, missing = await self._gather(STORE, StoreState)
        return Stores(rows, missing)

    async def activations(self) -> Activations:
        """Activations by node and kind."""
        reports, missing = await self._gather(NODE, NodeReport)
        rows = [KindCount(report.node, kind, count) for report in reports for kind, count in report.kinds.items()]
        totals: dict[str, int] = {}
        for row in rows:
            totals[row.kind] = totals.get(row.kind, 0) + row.count
        return Activations(rows, totals, missing)

    async def sessions(self, page: int, limit: int, subject: str) -> Rows:
        """Page `page` of every node's sessions: at most `limit` rows of each node."""
        params = {"offset": page * limit, "limit": limit, "subject": subject}
        rows = await self.rows(SESSIONS, params)
        per_node: dict[str, int] = {}
        for row in rows.rows:
            per_node[row["node"]] = per_node.get(row["node"], 0) + 1
        more = any(count >= limit for count in per_node.values())
        return Rows(rows.rows, rows.missing, next=str(page + 1) if more else None)

    async def rows(self, name: str, params: dict[str, Any]) -> Rows:
        """The rows of any read model. Raises `NotFound` for a name that this node lacks."""
        if name not in self._system.app.read_models and name not in self._queries:
            raise NotFound(f"no read model {name!r}")
        answer = await self._system.query(name, params)
        return Rows(list(answer.rows), sorted(answer.missing))

    async def _gather(self, name: str, row_type: type[T], timeout_s: float | None = None) -> tuple[list[T], list[str]]:
        """Rows of `name` as `row_type`, sorted by node, and the nodes without one."""
        answer = await self._system.query(name, {}, timeout_s=timeout_s)
        rows: dict[str, T] = {}
        for row in answer.rows:
            try:
                rows[row["node"]] = msgspec.convert(row, row_type)
            except (msgspec.ValidationError, TypeError, KeyError):
                continue  # a peer of another version: it is listed as missing below
        missing = {str(node) for node in answer.missing} | {
            node for node in self._system.view.members if node not in rows
        }
        return [rows[node] for node in sorted(rows)], sorted(missing)

    def _slot_counts(self) -> dict[NodeAddress, int]:
        digest = f"{self._system.view.digest:016x}"
        if self._slots_of != digest:
            self._slots, self._slots_of = self._system.view.table.counts(), digest
        return self._slots


def _mean_ms(histogram: Histogram) -> float:
    count = histogram.count
    return round(histogram.total / count * 1000, 2) if count else 0.0


def _journal_bound(settings: JournalSettings) -> int:
    """The bytes that a journal of this mode may hold; 0 where there is none."""
    if settings.mode == "none":
        return 0
    return settings.segment_bytes * settings.segments if settings.mode == "local" else settings.max_backlog_bytes


def _under_ms(histogram: Histogram, share: float) -> float | None:
    """The lowest bound that `share` of the observations stayed under; None where there is none."""
    wanted, seen = share * histogram.count, 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        seen += count
        if seen and seen >= wanted:
            return round(bound * 1000, 2)
    return None
