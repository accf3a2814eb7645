"""A node: staged start, view changes in a fixed order, staged stop. It receives its drivers and
builds everything above them; nothing here opens a socket or a file itself.

Start    store -> incarnation and lease -> transport -> gateway -> gossip (joining) -> up -> admin
Change   peers -> slot table, directory, calls, catalog -> presence -> sessions -> admin
Stop     leaving (slots go) -> sessions -> activations stored and released -> gossip, lease, links

Draining is the first half of a stop: leaving, so that slots go, activations migrate and sessions are
handed over, while the node goes on serving what is still here.

A node that does not belong to the cluster it hears (`server/cluster/belonging.py`) stays `joining` after its start and
says why, until it may serve; one that served already ends, and its successor waits in the same way.

A node whose lease is refused ends all turns at once; `ended` tells the caller, which may start
a new `Node`: the same name comes back as a new incarnation.
"""

import asyncio
import time
from collections.abc import Mapping
from socket import socket
from typing import Any

import msgspec
import structlog

from server.actors.app import App
from server.admin.ports import Upgrading
from server.catalog.services import Services
from server.catalog.system import ActorSystem
from server.cluster import agreement
from server.cluster.belonging import Belonging
from server.cluster.terms import Terms
from server.cluster.view import Member, MemberState, View
from server.complaints import Complaints
from server.errors import Moved, Unavailable
from server.ids import ActorId, NodeAddress
from server.liveness.judge import LIMITS, Judge, JudgeLimits, Verdicts
from server.liveness.registration import Registration
from server.liveness.renewing import RenewalTask
from server.node_drivers import Drivers
from server.presence.engine import engine_of
from server.recording import Recording
from server.runtime.lag import LagProbe
from server.runtime.stages import STAGE_S, run_stage
from server.runtime.troubles import Trouble, Troubles, TroubleSource
from server.sessions.gateway import Gateway
from server.sessions.ports import GatewayDrivers
from server.sessions.tokens import TokenRules
from server.settings import Settings
from server.storage.pipeline import StoragePipeline
from server.view_change import change_view
from server.wire.messages import CloseCode

log = structlog.get_logger(__name__)
LEAVING_ROUNDS = 5
"""Rounds of gossip that a stopping node stays for, so that the others hear that it leaves before it
is gone: they take its slots over, and know a stop from a death."""
SCHEMA_CHECK_S = 5.0
TROUBLES_S = 1.0
"""Pause between looks at what this node needs; `/readyz` looks too."""


class Node:
    """See the module's head."""

    def __init__(
        self, settings: Settings, app: App, token_rules: TokenRules, drivers: Drivers, limits: JudgeLimits = LIMITS
    ) -> None:
        self.settings, self.app, self.drivers = settings, app, drivers
        self.metrics, self.supervisor, self.clock = drivers.metrics, drivers.supervisor, drivers.clock
        store, clock, metrics, rng = drivers.store, drivers.clock, drivers.metrics, drivers.rng
        self.lag = LagProbe(clock, metrics)
        self.pipeline = pipeline = StoragePipeline(
            kinds=app.actors, settings=settings, store=store, logs=drivers.logs, journal=drivers.journal, clock=clock,
            rng=rng, metrics=metrics, supervisor=self.supervisor, on_lease_lost=self._lease_lost,
        )  # fmt: skip
        self.lease, self.write_behind, self.takeover = pipeline.lease, pipeline.write_behind, pipeline.takeover
        self.registration = Registration(
            settings=settings, nodes=store, journal=drivers.journal, lease=pipeline.lease,
            undertaker=pipeline.undertaker, clock=clock,
        )  # fmt: skip
        self.judge = Judge(
            settings=settings, nodes=store, journal=drivers.journal, lease=pipeline.lease,
            undertaker=pipeline.undertaker, neighbourhood=pipeline.neighbourhood, transport=drivers.transport,
            clock=clock, rng=rng, metrics=metrics, limits=limits, is_up=lambda: self._state == "up",
            verdicts=Verdicts(self._lease_lost, self._journal_gone, self._members_changed),
        )  # fmt: skip
        self.system = ActorSystem(
            Services(
                app=app, settings=settings, clock=clock, rng=rng, metrics=metrics, supervisor=self.supervisor,
                transport=drivers.transport, store=store, logs=drivers.logs, store_queries=drivers.store_queries,
            ),
            pipeline,
        )  # fmt: skip
        self.recording = recording = (
            Recording(drivers.columns, settings.columns, clock, rng, metrics, self.supervisor, drivers.query_process)
            if drivers.columns is not None
            else None
        )
        gateway_drivers = GatewayDrivers(
            clock, rng, metrics, self.supervisor, drivers.transport, drivers.logs, drivers.store_queries
        )
        if recording is not None:
            gateway_drivers = msgspec.structs.replace(gateway_drivers, timed=recording.timed)
        self.presence = engine_of(self.system.services)
        self.gateway = Gateway(self.system, gateway_drivers, settings, token_rules, presence=self.presence)
        self.system.outlet = self.gateway.outlet
        if recording is not None:
            recording.attach(app, self.system, drivers.transport, self.gateway.table, self.lag)
        self.listener = self.gateway.succession.sockets = drivers.listener(self.gateway)
        self.me: Member | None = None
        self.client_url = self.admin_url = ""
        self.ended = asyncio.Event()
        self.serves = asyncio.Event()
        """Set once this node has been announced: `up`, or `leaving` where it was drained before."""
        self.lease_lost = False
        self.belonging = belonging = Belonging(lambda: self.me, self.serves.is_set)
        complaints = self._complaints = Complaints(
            drivers, pipeline, self.listener, lambda: self._state == "up" and not self.lease_lost
        )
        self.troubles = Troubles(
            clock, metrics,
            (
                TroubleSource("database", complaints.database_away, "the database answers again"),
                TroubleSource("foreign", belonging.foreign_nodes, "all nodes that gossip hears belong to one cluster"),
                TroubleSource("terms", belonging.disagreement, "all nodes agree again"),
                TroubleSource("schema", complaints.wrong_schema, "the store is again the one that this node opened"),
                TroubleSource("changes", complaints.changes_refused, "changes are taken again"),
                TroubleSource("descriptors", drivers.shortage, "file descriptors are free again"),
                TroubleSource("certificate", complaints.certificate, "certificates are good again"),
                TroubleSource("journals", self.takeover.away, "every dead run's journal can be read, or is closed"),
                TroubleSource("columns", complaints.columns_off, "columns are kept again"),
                TroubleSource("address", self._shared_address, "no other node has this node's address any more"),
            ),
        )  # fmt: skip
        self.admin = drivers.admin(self) if drivers.admin is not None else None
        self._told_rules = token_rules
        self.is_foreign = False
        """True where this run ends because it does not belong to the cluster that it hears."""
        self.generation = 0
        """The number of this process within the run."""
        self.upgrading: Upgrading | None = None
        """The way to another process of this run, where whoever runs this one has given it some."""
        self.drained = False
        """Start as `leaving`: the run before this one was drained."""
        self._state: MemberState = "joining"
        self._moved_before = 0
        self._renewing = drivers.renewing or RenewalTask()
        self._judging: asyncio.Task[None] | None = None
        self._registered: NodeAddress | None = None

    # ---- start ----

    async def start(self) -> None:
        """Start stage by stage. Raises what a stage raises, with everything before it undone."""
        try:
            await self._start()
        except BaseException:
            await self._undo_start()
            raise

    async def _start(self) -> None:
        settings, drivers = self.settings, self.drivers
        if self.recording is not None:
            self.recording.warm()
        await self.open()
        self._registered = address = await self.registration.register()
        if settings.store.lease:
            self._renewing.start(self.lease, address, self.supervisor)
        if drivers.journal is not None:
            await drivers.journal.open(address)
        self.judge.start(address)
        await drivers.transport.start(address)
        self.pipeline.start(address)
        if self.recording is not None:
            self.recording.start(address)
        await self._run(address)
        self.me = Member(
            address.node, address.incarnation, settings.weight, "joining", drivers.transport.endpoint,
            self.client_url, self.admin_url, terms=self._terms(), knows_heirs=True,
        )  # fmt: skip
        await drivers.membership.start(self.me, self._members_changed)
        self._members_changed()
        if self.belonging.may_serve(self.clock.boot()):
            await self._come_up()
        await self._look_after()
        if not self.serves.is_set():
            log.error("the node does not serve yet", node=str(address), why=self.not_ready(), admin_url=self.admin_url)

    async def open(self) -> None:
        """Open the store, and find a place for the journal: before anybody else can see this node."""
        drivers = self.drivers
        await drivers.store.open()
        if drivers.journal is not None:
            drivers.journal.database = drivers.store.identity.uuid
            await drivers.journal.prepare()

    async def _run(self, address: NodeAddress) -> None:
        """Begin everything that a run does for itself, on storage and transport that have begun."""
        self.system.start(address)
        if self.presence is not None:
            self.presence.start(address)
        self.client_url = await self.listener.start()
        self.admin_url = self.admin.bind() if self.admin is not None else ""
        self._judging = self.supervisor.spawn(self.pipeline.undertaker.run(), "undertaker")
        for work, name in (
            (self.write_behind.run(), "write-behind"),
            (self.pipeline.group_commit.run(), "group-commit"),
            (self.lag.run(), "lag"),
            (self.takeover.run(self._take_over), "takeover"),
        ):
            self.supervisor.spawn(work, name)
        self.gateway.start()

    async def _look_after(self) -> None:
        """Begin what a node does now and then, and its side for operators."""
        every_s = self.settings.gossip.load_interval_s
        self.supervisor.every(every_s, self._tell_gossip, "load")
        self.supervisor.every(every_s, self._count_turns, "turns")
        self.judge.watch(self.supervisor, self.drivers.asks_store)
        self.supervisor.every(TROUBLES_S, self._look_for_troubles, "troubles")
        if self.drivers.asks_store:
            self.supervisor.every(SCHEMA_CHECK_S, self._complaints.check_schema, "schema")
        if self.admin is not None:
            await self.admin.start()

    async def _come_up(self) -> None:
        """Serve: the others give this node its slots."""
        assert self.me is not None
        since, part_ms = divmod(self.clock.wall_ms(), 1000)
        self.me = msgspec.structs.replace(self.me, since=since, since_part_ms=part_ms)
        await self._announce("leaving" if self.drained else "up")
        self._members_changed()
        self.serves.set()
        log.info("node is up", node=str(self.me.address), client_url=self.client_url, admin_url=self.admin_url)

    def _terms(self) -> Terms:
        """Facts that this node tells the others of itself, and that all must have in common."""
        self._told_rules = self.gateway.token_rules
        return msgspec.structs.replace(self.drivers.terms(self._told_rules), database=self.drivers.store.identity.name)

    def wary(self) -> None:
        """Call before the start where the run before this one did not belong to the cluster that it heard."""
        self.belonging.be_wary(self.clock.boot())

    # ---- a run that goes on in another process (`server/succession/`) ----

    async def inherit_run(
        self, me: Member, members: tuple[Member, ...], sockets: Mapping[str, list[socket]], lock: int | None
    ) -> None:
        """As an heir: be `me`, as the others see it, in memory only. `sockets`: those that the predecessor listens on,
        for `clients`, `nodes` and `admin`. `lock`: that of its journal."""
        drivers, address = self.drivers, me.address
        self.generation = me.generation
        if drivers.journal is not None:
            await drivers.journal.open(address)
            if lock is not None:
                drivers.journal.hold(lock)
        self.listener.adopt(sockets.get("clients", []))
        drivers.transport.adopt(sockets.get("nodes", []))
        if self.admin is not None:
            self.admin.adopt(sockets.get("admin", []))
        self._registered, self.me = address, me
        self.pipeline.start(address, self.generation)
        self.system.begin(address, View(members))
        if self.presence is not None:
            self.presence.begin(address, self.system.view)
        self.system.stand_by()

    async def serve_as_heir(self) -> None:
        """Serve clients and nodes, once the store has this generation."""
        drivers, address = self.drivers, self.system.me
        assert self.me is not None
        if self.recording is not None:
            self.recording.begin(address, self.generation)
        if self.settings.store.lease:
            self._renewing.start(self.lease, address, self.supervisor)
        self.judge.start(address)
        await drivers.transport.start(address)
        await self._run(address)
        self.system.serve_now()
        self._state = self.me.state
        self.me = msgspec.structs.replace(
            self.me, transport=drivers.transport.endpoint, client_url=self.client_url, admin_url=self.admin_url,
            terms=self._terms(),
        )  # fmt: skip
        peers = {address: member.transport for address, member in self.system.view.addresses.items()}
        drivers.transport.set_peers(peers)
        self.serves.set()

    async def join_again(self) -> None:
        """Gossip as this generation, and go on with what a node does besides serving."""
        assert self.me is not None
        await self.drivers.membership.start(self.me, self._members_changed)
        self._members_changed()
        if self.recording is not None:
            self.recording.start(self.system.me, self.generation)
        await self._look_after()

    async def abandon(self) -> None:
        """As an heir to whom nothing came: leave nothing behind, and touch nothing that is the predecessor's."""
        drivers = self.drivers
        self.pipeline.retention.end()
        self.system.catalog.end_all(Unavailable("this process does not serve"), count_lost=False)
        if drivers.journal is not None:
            await run_stage("journal", drivers.journal.close(keep=False))
        await run_stage("tasks", self.supervisor.stop())
        await run_stage("store queries", drivers.store_queries.close())
        await run_stage("store", drivers.store.close())

    def surrender(self) -> None:
        """As a predecessor: be powerless from here on, whatever wakes this process."""
        self.lease.surrender()
        if self.drivers.journal is not None:
            self.drivers.journal.surrender()

    async def pause_renewing(self) -> None:
        """As a predecessor: have no renewal of the lease under way."""
        await self._renewing.pause()

    def resume_renewing(self) -> None:
        """Renew the lease again."""
        self._renewing.resume()

    async def _undo_start(self) -> None:
        """Leave nothing: no port, no task, and no lease that the next start would wait out."""
        await self._end_renewing()
        drivers = self.drivers
        await run_stage("sessions", self.gateway.stop(0.1))
        await run_stage("listener", self.listener.stop())
        if self.admin is not None:
            await run_stage("admin", self.admin.stop())
        await run_stage("gossip", drivers.membership.close())
        await run_stage("transport", drivers.transport.stop())
        if len(self.write_behind):  # the start had come so far that it served already
            await run_stage("changes", self.write_behind.flush())
        all_stored = self._all_stored()
        self.pipeline.retention.end()
        await self._retire(all_stored)
        await run_stage("tasks", self.supervisor.stop())
        if self.recording is not None:
            self.recording.close()
        await run_stage("store queries", drivers.store_queries.close())
        await run_stage("store", drivers.store.close())

    async def _end_renewing(self) -> None:
        """Renew and judge no more: a renewal after `retire_node` would be refused."""
        if self._judging is not None:
            self._judging.cancel()
        await run_stage("renewing", self._renewing.stop())

    def _all_stored(self) -> bool:
        """Nothing that this run has acknowledged is in its memory or its journal only."""
        if self.lease_lost or self.system.unstored or len(self.write_behind):
            return False
        return not self.pipeline.retention.in_doubt

    async def _retire(self, all_stored: bool) -> None:
        """Give up the lease, and the journal: a successor needs it unless everything is stored. One that could not be
        removed stays this run's estate, so that somebody else removes it."""
        removed = True
        if self.drivers.journal is not None:
            removed = await run_stage("journal", self.drivers.journal.close(keep=not all_stored))
        if self._registered is not None and not self.lease_lost:
            retired = (self._registered, all_stored and removed, self.lease.generation)
            await run_stage("lease", self.drivers.store.retire_node(*retired))

    # ---- the view ----

    async def _announce(self, state: MemberState) -> None:
        self._state = state
        await self._tell_gossip()

    async def _tell_gossip(self) -> None:
        assert self.me is not None
        lag_ms = int(1000 * max(self.lag.lag_s, self.metrics.loop_lag_last_seconds))
        load = len(self.system.catalog.live)
        terms = self.me.terms if self.gateway.token_rules is self._told_rules else self._terms()
        self.me = msgspec.structs.replace(self.me, state=self._state, load=load, lag_ms=lag_ms, terms=terms)
        await self.drivers.membership.update(self.me)

    def _count_turns(self) -> None:
        self.metrics.count_turns(self.system.catalog.turns)

    def _members_changed(self) -> None:
        """Gossip says something new: hand it on in the fixed order."""
        self.metrics.gossip_events_total += 1
        members = self.judge.living(self.belonging.hear(self.drivers.membership.members()))
        before, view = self.system.view, self.system.view.follow(members)
        self.pipeline.neighbourhood.follow(view)
        if view.digest == before.digest:
            self.system.take_view(view)  # load and lag only
            return
        self.metrics.view_changes_total += 1
        self.metrics.members = len(view.members)
        admin = self.admin.view_changed if self.admin is not None else None
        change_view(
            view, transport=self.drivers.transport, system=self.system, presence=self.presence, gateway=self.gateway,
            admin=admin,
        )  # fmt: skip
        log.info("view changed", members=[str(a) for a in view.addresses], digest=f"{view.digest:016x}")

    def _journal_gone(self) -> None:
        """The journal's place has lost it: go on as a new run, after an orderly stop."""
        if not self.ended.is_set():
            log.error("the journal is gone: this incarnation ends", node=str(self.system.me))
            self.ended.set()

    async def _take_over(self, identity: ActorId, own_slots: bool) -> None:
        """Bring an actor into memory here, for what a dead node's journal holds of it."""
        if own_slots and self.system.owner(identity) != self.system.me:
            raise Moved()
        if self._state != "up":
            raise Unavailable("this node is leaving")
        await self.system.activate(identity)

    # ---- health ----

    def not_ready(self) -> str:
        """Why this node does not serve; empty while it does."""
        if self.lease_lost:
            return "lease lost"
        troubles = {trouble.name: trouble for trouble in self.troubles.look()}
        if "schema" in troubles:
            return _since(troubles["schema"])
        if not self.lease.holds():
            away = _since(troubles["database"]) if "database" in troubles else ""
            return away or self.lease.standstill or "lease lost"
        if self.belonging.refused and "foreign" in troubles:
            return _since(troubles["foreign"])
        if self._state == "joining" and "terms" in troubles and self.belonging.refused_newcomer():
            return _since(troubles["terms"])
        if self._state != "up":
            return "starting" if self._state == "joining" else "leaving"
        if "changes" in troubles:
            return _since(troubles["changes"])
        return self.judge.outnumbered()

    async def _look_for_troubles(self) -> None:
        self.troubles.look()
        now = self.clock.boot()
        if not self.serves.is_set():
            if self.belonging.may_serve(now):
                await self._come_up()
        elif self.belonging.is_over(self._state == "up", now) and not self.ended.is_set():
            log.error("this node does not belong to the cluster: it ends", why=self.belonging.refused)
            self.is_foreign = True
            self.ended.set()

    def _shared_address(self) -> str:
        if self.me is None or self._state != "up":
            return ""
        me = msgspec.structs.replace(self.me, client_url=self.client_url, admin_url=self.admin_url)
        return agreement.shared_address(me, self.system.view.members.values())

    def _lease_lost(self) -> None:
        """End all turns at once: nothing here may be acknowledged any more."""
        if self.lease_lost:
            return
        self.lease_lost = True
        journaled = self.pipeline.retention.active
        self.pipeline.retention.end()
        try:
            error = Unavailable("this node lost its lease", retry_after_s=1.0)
            self.system.catalog.end_all(error, count_lost=not journaled)
            self.gateway.close_all(CloseCode.OWNERSHIP_LOST)
        finally:
            self.ended.set()

    # ---- drain and stop ----

    async def drain(self) -> None:
        """Begin to hand everything on to the other nodes; `drain_progress` says how far it is.
        Idempotent. Raises `Unavailable` where no other node is up."""
        if self._state == "leaving":
            return
        if not any(m.state == "up" and m.address != self.system.me for m in self.system.view.members.values()):
            raise Unavailable("no other node is up: there is nowhere to go")
        await self._say_leaving()
        log.info("leaving", node=str(self.system.me))

    def drain_progress(self) -> dict[str, Any]:
        """`state` of this member, `activations_left`, `sessions_left`, and how many activations have
        `moved` since it began to leave (since its start, while it does not)."""
        return {
            "state": self._state,
            "activations_left": len(self.system.catalog.live),
            "sessions_left": self.gateway.sessions_left(),
            "moved": self.metrics.migrations_total - self._moved_before,
        }

    async def stop(self) -> None:
        """Orderly: nothing that was acknowledged is lost, as long as the store answers within
        `drain_timeout_s`."""
        deadline = self.clock.now() + self.settings.drain_timeout_s
        heard_at = self.clock.now()
        if not self.lease_lost:
            await run_stage("leaving", self._say_leaving())
            if len(self.system.view.members) > 1:
                heard_at += LEAVING_ROUNDS * self.settings.gossip.gossip_interval_s
        await run_stage("sessions", self.gateway.stop(min(5.0, self.settings.drain_timeout_s / 2)))
        await run_stage("listener", self.listener.stop())
        if self.settings.store.flush_at_stop and not self.lease_lost:
            await run_stage("activations", self.system.stop(deadline), self.settings.drain_timeout_s + STAGE_S)
        all_stored = self._all_stored()
        self.pipeline.retention.end()
        self.system.catalog.end_all(Unavailable("this node has stopped"), count_lost=False)
        await asyncio.sleep(max(0.0, heard_at - self.clock.now()))
        await self._leave(all_stored and not self.lease_lost)

    async def _say_leaving(self) -> None:
        if self._state != "leaving":
            self._moved_before = self.metrics.migrations_total
        try:
            await self._announce("leaving")
        finally:
            self._members_changed()

    async def _leave(self, all_stored: bool) -> None:
        drivers = self.drivers
        await run_stage("gossip", drivers.membership.leave())
        await self._end_renewing()
        await self._retire(all_stored)
        if self.admin is not None:
            await run_stage("admin", self.admin.stop())
        await run_stage("transport", drivers.transport.stop())
        await run_stage("tasks", self.supervisor.stop())
        if self.recording is not None:
            self.recording.close()
        await run_stage("gossip", drivers.membership.close())
        await run_stage("store queries", drivers.store_queries.close())
        await run_stage("store", drivers.store.close())
        log.info("node stopped", node=str(self.system.me))


def _since(trouble: Trouble) -> str:
    """The text of a trouble with the time since which it lasts."""
    return f"{trouble.text} (since {time.strftime('%H:%M:%S', time.gmtime(trouble.since_ms / 1000))} UTC)"
