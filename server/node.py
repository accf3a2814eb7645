"""One node: staged start, view changes in a fixed order, staged stop. It receives its drivers and
builds everything above them; nothing here opens a socket or a file itself.

Start    store -> incarnation and lease -> transport -> gossip (joining) -> gateway -> admin -> up
Change   peers -> slot table, directory, calls, catalog -> sessions -> admin
Stop     leaving (slots go) -> sessions -> activations stored and released -> gossip, lease, links

Draining is the first half of a stop: leaving, so that slots go, activations migrate and sessions are
handed over, while the node goes on serving what is still here.

A node whose lease is refused ends all turns at once; `ended` tells the caller, which may start
a new `Node`: the same name comes back as a new incarnation.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from server.actors.app import App
from server.catalog.services import Services
from server.catalog.system import ActorSystem
from server.cluster.ports import Membership
from server.cluster.view import Member, MemberState
from server.errors import GarrisonError, Moved, Unavailable
from server.eventlog.ports import LogStore
from server.ids import ActorId, NodeAddress, NodeId
from server.liveness.unreached import LOOK_S as ASK_STORE_S
from server.liveness.unreached import Unreached
from server.liveness.vanished import Vanished
from server.runtime.clock import Clock
from server.runtime.lag import LagProbe
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.gateway import Gateway
from server.settings import Settings
from server.storage.journal.ports import Journal
from server.storage.pipeline import StoragePipeline
from server.storage.ports import NodeRow, Store
from server.storage.queries import NoStoreQueries, StoreQueries
from server.transport.ports import Service, Transport
from server.wire.messages import CloseCode

log = structlog.get_logger(__name__)
LEAVING_ROUNDS = 5
"""Rounds of gossip that a stopping node stays for, so that the others hear that it leaves before it
is gone: they take its slots over, and know a stop from a death."""
STAGE_S = 8.0
"""What a stage of stopping may take that has no time of its own."""
LOOK_S = 0.2
"""How often a node with a journal looks whether that still works, and, where locks can prove it,
whether its neighbours' processes are still there."""
ASKED = 3
"""How many others a node asks at a time whether it is dead in the store that it does not reach."""
_OVER = b"over"
VANISHED_PERIODS = 5
"""Lease periods after which one that has vanished is dead in the store, or is seen again."""


class Listener(Protocol):
    """Where clients connect: the picows driver, or an in-memory twin."""

    async def start(self) -> str:
        """Listen; returns the url that clients are told. Raises `Unavailable` if the port is
        taken."""
        ...

    async def stop(self) -> None: ...


class Admin(Protocol):
    """The HTTP side for operators; absent in simulations."""

    def bind(self) -> str: ...

    async def start(self) -> None: ...

    def view_changed(self) -> None: ...

    async def stop(self) -> None: ...


class Drivers(msgspec.Struct, frozen=True):
    """Everything that touches the outside. `listener` and `admin` are made for a gateway and a
    node; `admin` is None where nobody operates the node, `journal` where none is kept.
    `asks_store`: ask the store now and then who is dead in it, and who holds a lease there, and compare
    that with gossip."""

    clock: Clock
    rng: random.Random
    store: Store
    logs: LogStore
    transport: Transport
    membership: Membership
    supervisor: Supervisor
    metrics: Metrics
    listener: Callable[[Gateway], Listener]
    admin: "Callable[[Node], Admin] | None" = None
    journal: Journal | None = None
    asks_store: bool = False
    store_queries: StoreQueries = NoStoreQueries()


class Node:
    """See the module's head."""

    def __init__(self, settings: Settings, app: App, signing_key: bytes, drivers: Drivers) -> None:
        self.settings, self.app, self.drivers = settings, app, drivers
        self.metrics, self.supervisor, self.clock = drivers.metrics, drivers.supervisor, drivers.clock
        store, clock, metrics, rng = drivers.store, drivers.clock, drivers.metrics, drivers.rng
        self.lag = LagProbe(clock, metrics)
        self._vanished = Vanished(VANISHED_PERIODS * settings.store.lease_period_s)
        self._unreached = Unreached(settings.store.lease_period_s)
        self._broken_at: float | None = None
        self._gone: dict[NodeAddress, None] = {}  # members whose processes are proven dead
        self.pipeline = pipeline = StoragePipeline(
            kinds=app.actors, settings=settings, store=store, logs=drivers.logs, journal=drivers.journal, clock=clock,
            rng=rng, metrics=metrics, supervisor=self.supervisor, neighbours=self, on_lease_lost=self._lease_lost,
        )  # fmt: skip
        self.lease, self.write_behind, self.takeover = pipeline.lease, pipeline.write_behind, pipeline.takeover
        self.host = ActorSystem(
            Services(
                app=app, settings=settings, clock=clock, rng=rng, metrics=metrics, supervisor=self.supervisor,
                transport=drivers.transport, store=store, logs=drivers.logs,
            ),
            pipeline,
        )  # fmt: skip
        self.gateway = Gateway(self.host, settings, signing_key, rng, drivers.store_queries)
        self.host.outlet = self.gateway.streams
        self.listener = drivers.listener(self.gateway)
        self.admin = drivers.admin(self) if drivers.admin is not None else None
        self.me: Member | None = None
        self.client_url = self.admin_url = ""
        self.ended = asyncio.Event()
        self.lease_lost = False
        self.drained = False
        """Start as `leaving`: the run before this one was drained."""
        self._state: MemberState = "joining"
        self._moved_before = 0
        self._lease_tasks: list[asyncio.Task[Any]] = []
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
        if drivers.journal is not None:
            await drivers.journal.prepare()
        self._registered = address = await self._register()
        self._lease_tasks = [self.supervisor.spawn(self.lease.run(address), "lease")]
        if drivers.journal is not None:
            await drivers.journal.open(address)
        drivers.transport.serve(Service.NODE, self._say_whether_over)
        await drivers.transport.start(address)
        self.pipeline.start(address)
        self.host.start(address)
        self.client_url = await self.listener.start()
        self.admin_url = self.admin.bind() if self.admin is not None else ""
        self.me = Member(
            address.node, address.incarnation, settings.weight, "joining", drivers.transport.endpoint,
            self.client_url, self.admin_url,
        )  # fmt: skip
        self._lease_tasks.append(self.supervisor.spawn(self.lease.judge(), "judge"))
        for work, name in (
            (self.write_behind.run(), "write-behind"),
            (self.pipeline.group_commit.run(), "group-commit"),
            (self.lag.run(), "lag"),
            (self.takeover.run(self._take_over), "takeover"),
        ):
            self.supervisor.spawn(work, name)
        self.gateway.start()
        await drivers.membership.start(self.me, self._members_changed)
        await self._announce("leaving" if self.drained else "up")
        self.supervisor.every(settings.gossip.load_interval_s, self._tell_gossip, "load")
        if drivers.journal is not None:
            self.supervisor.every(LOOK_S, self._look_at_journals, "journals")
        if settings.store.lease and drivers.asks_store:
            self.supervisor.every(ASK_STORE_S, self._ask_store, "store's nodes")
        if self.admin is not None:
            await self.admin.start()
        self._members_changed()
        log.info("node is up", node=str(address), client_url=self.client_url, admin_url=self.admin_url)

    async def _register(self) -> NodeAddress:
        """An incarnation from the store; waits out the lease of an earlier run of this name."""
        settings, store, journal = self.settings, self.drivers.store, self.drivers.journal
        await store.open()
        lease_s = settings.store.lease_period_s if settings.store.lease else None
        deadline = self.clock.now() + 3 * settings.store.lease_period_s
        told = stale = False
        while True:
            try:
                if journal is not None and stale:
                    await journal.prepare()  # another place: if it is only the answer that is lost, a run has that one
                stale, sent_at = True, self.clock.boot()
                place = journal.place if journal is not None else ""
                incarnation = await store.register_node(NodeId(settings.node), lease_s, place)
            except Unavailable as error:
                if self.clock.now() >= deadline:
                    if await self._earlier_runs():
                        why = f"setting node: another live process is called {settings.node}; names must differ"
                        raise Unavailable(why) from None
                    raise
                if await self._bury_earlier_runs():
                    continue
                if not told:
                    log.info("waiting to register", node=settings.node, why=error.message)
                told = True
                await asyncio.sleep(min(0.5, error.retry_after_s or 0.5))
                continue
            self.lease.granted(sent_at)
            return NodeAddress(NodeId(settings.node), incarnation)

    async def _bury_earlier_runs(self) -> bool:
        """Earlier runs of this node need not be waited for where their processes are proven dead."""
        if self.drivers.journal is None:
            return False
        live = await self._earlier_runs()
        return bool(live) and len(await self.takeover.bury_proven(live)) == len(live)

    async def _earlier_runs(self) -> list[NodeAddress]:
        """Those of this name that are not over in the store. Raises `Unavailable`."""
        runs = [row for row in await self.drivers.store.nodes() if row.node == self.settings.node]
        return [NodeAddress(row.node, row.incarnation) for row in runs if row.state in ("up", "evicting")]

    async def _undo_start(self) -> None:
        """Leave nothing: no port, no task, and no lease that the next start would wait out."""
        for task in self._lease_tasks:
            task.cancel()
        drivers = self.drivers
        await _step("sessions", self.gateway.stop(0.1))
        await _step("listener", self.listener.stop())
        if self.admin is not None:
            await _step("admin", self.admin.stop())
        await _step("gossip", drivers.membership.close())
        await _step("transport", drivers.transport.stop())
        if len(self.write_behind):  # it was announced, and has served already
            await _step("changes", self.write_behind.flush())
        settled = self._settled()
        self.pipeline.retention.end()
        await self._retire(settled)
        await _step("tasks", self.supervisor.stop())
        await _step("store queries", drivers.store_queries.close())
        await _step("store", drivers.store.close())

    def _settled(self) -> bool:
        """Nothing that this run has acknowledged is in its memory or its journal only."""
        if self.lease_lost or self.host.unstored or len(self.write_behind):
            return False
        return not self.pipeline.retention.in_doubt

    async def _retire(self, settled: bool) -> None:
        """Give up the lease, and the journal: a successor needs it unless everything is stored."""
        if self.drivers.journal is not None:
            await _step("journal", self.drivers.journal.close(keep=not settled))
        if self._registered is not None and not self.lease_lost:
            await _step("lease", self.drivers.store.retire_node(self._registered, settled))

    # ---- the view ----

    async def _announce(self, state: MemberState) -> None:
        self._state = state
        await self._tell_gossip()

    async def _tell_gossip(self) -> None:
        assert self.me is not None
        lag_ms = int(1000 * max(self.lag.lag_s, self.metrics.loop_lag_last_seconds))
        load = len(self.host.catalog.live)
        self.metrics.turns_total = self.host.catalog.turns()
        self.me = msgspec.structs.replace(self.me, state=self._state, load=load, lag_ms=lag_ms)
        await self.drivers.membership.update(self.me)

    def _members_changed(self) -> None:
        """Gossip says something new: hand it on in the fixed order."""
        self.metrics.gossip_events_total += 1
        members = self.drivers.membership.members()
        if self._gone:
            self._gone = {member.address: None for member in members if member.address in self._gone}
            members = tuple(member for member in members if member.address not in self._gone)
        before, view = self.host.view, self.host.view.follow(members)
        same = view.digest == before.digest
        if same:
            self.host.refresh(view)  # load and lag only
            return
        self._vanished.follow(before, view, self.clock.now())
        if len(view.members) == 1 < len(before.members):
            self.lease.alone()
        self.metrics.view_changes_total += 1
        self.metrics.members = len(view.members)
        peers = {member.address: member.transport for member in view.members.values()}
        peers.pop(self.host.me, None)
        self.drivers.transport.set_peers(peers)
        self.host.on_view(view)
        self.gateway.on_view(view)
        if self.admin is not None:
            self.admin.view_changed()
        log.info("view changed", members=[str(a) for a in view.addresses], digest=f"{view.digest:016x}")

    def lively(self) -> list[NodeAddress]:
        """See `server.storage.lease.Neighbours`."""
        return [member.address for member in self.host.view.members.values() if not member.suspect]

    def vanished(self) -> list[NodeAddress]:
        """See `server.storage.lease.Neighbours`."""
        return self._vanished.for_longer_than(self.settings.store.evict_after_s, self.clock.now())

    async def _look_at_journals(self) -> None:
        """A neighbour whose process is proven to be gone needs no failure detector, and its lease
        no waiting: its slots are free at once."""
        self._look_at_own_journal()
        others = [address for address in self.host.view.addresses if address != self.host.me]
        self._take_out(await self.takeover.bury_proven(others))

    def _take_out(self, gone: Sequence[NodeAddress]) -> None:
        """These are over, whatever gossip goes on saying: they leave the view."""
        if gone:
            self._gone.update(dict.fromkeys(gone))
            self._members_changed()

    async def _ask_store(self) -> None:
        """Who is dead in the store leaves the view, though gossip goes on hearing it: only the store
        has lost it, and what it owned is free."""
        try:
            rows = await self.drivers.store.nodes()
        except Unavailable:
            if not self.lease.holds():
                await self._ask_whether_over()
            return
        over = {NodeAddress(row.node, row.incarnation) for row in rows if row.state == "dead"}
        if self.host.me in over:
            self._lease_lost()  # renewals fail, and other statements do not
            return
        gone = [address for address in self.host.view.addresses if address in over]
        if gone:
            log.warning("dead in the store: out of the view", nodes=[str(address) for address in gone])
        self._take_out(gone)
        self._look_for_strangers(rows)

    async def _ask_whether_over(self) -> None:
        """A node that only the store has lost learns of its burial from the others."""
        others = [address for address in self.host.view.addresses if address != self.host.me]
        for other in self.drivers.rng.sample(others, min(ASKED, len(others))):
            try:
                answer = await self.drivers.transport.request(other, Service.NODE, b"", ASK_STORE_S / 2)
            except GarrisonError:
                continue
            if answer == _OVER:
                log.error("dead in the store, as another node says: this incarnation is over", says=str(other))
                self._lease_lost()
                return

    def _say_whether_over(self, caller: NodeAddress, _payload: bytes) -> bytes:
        return _OVER if caller in self._gone else b""

    def _look_for_strangers(self, rows: Sequence[NodeRow]) -> None:
        """Whoever renews a lease in this store and is not in gossip works beside this cluster, on
        the same rows."""
        if self._state != "up":
            self._unreached.forget()
            self.metrics.unreached = 0
            return
        known = {self.host.me.node: self.host.me.incarnation}
        known.update((member.node, member.incarnation) for member in self.host.view.members.values())
        if not self._unreached.follow(rows, known, self.clock.now()):
            return
        self.metrics.unreached = len(self._unreached.nodes)
        if self._unreached.nodes:
            seeds = ", ".join(self.settings.gossip.seeds) or "none"
            log.error(f"{self._strangers()}: check gossip.seeds ({seeds}), security.cluster_key and cluster")
        else:
            log.info("gossip reaches every node that holds a live lease in this store")

    def _strangers(self) -> str:
        nodes = self._unreached.nodes
        holds, it = ("holds a live lease", "it") if len(nodes) == 1 else ("hold live leases", "them")
        return f"{', '.join(at.node for at in nodes)} {holds} in this store and gossip does not reach {it}"

    def _look_at_own_journal(self) -> None:
        """It is broken because this run was taken for dead, which the next renewal says, or because
        its place has lost it: then the node goes on as a new run, after an orderly stop."""
        if self.drivers.journal is None or not self.drivers.journal.broken or self.ended.is_set():
            return
        if self._broken_at is None:
            self._broken_at = self.clock.boot()
        elif self.lease.renewed_since(self._broken_at):
            log.error("the journal is gone: this incarnation ends", node=str(self.host.me))
            self.ended.set()

    async def _take_over(self, identity: ActorId, own_slots: bool) -> None:
        """Bring an actor into memory here, for what a dead node's journal holds of it."""
        if own_slots and self.host.owner(identity) != self.host.me:
            raise Moved()
        if self._state != "up":
            raise Unavailable("this node is leaving")
        await self.host.activate(identity)

    # ---- health ----

    def not_ready(self) -> str:
        """Why this node does not serve; empty while it does."""
        if self.lease_lost or not self.lease.holds():
            return "lease lost"
        if self._state != "up":
            return "starting" if self._state == "joining" else "leaving"
        up = sum(member.state == "up" for member in self.host.view.members.values())
        if self._unreached.nodes and len(self._unreached.nodes) >= up:
            return self._strangers()  # the larger side goes on serving: one stray node must not stop all
        return ""

    def _lease_lost(self) -> None:
        """End all turns at once: nothing here may be acknowledged any more."""
        if self.lease_lost:
            return
        self.lease_lost = True
        error = Unavailable("this node lost its lease", retry_after_s=1.0)
        self.host.catalog.closed = error
        journaled = self.pipeline.retention.active
        self.pipeline.retention.end()
        try:
            for one in list(self.host.catalog.live.values()):
                changes = one.version - one.stored_version if one.durable and not journaled else 0
                if changes:
                    self.host.catalog.lost(one, changes)
                else:
                    self.host.catalog.discard(one, error)
            self.gateway.close_all(CloseCode.OWNERSHIP_LOST)
        finally:
            self.ended.set()

    # ---- drain and stop ----

    async def drain(self) -> None:
        """Begin to hand everything on to the other nodes; `drain_progress` says how far it is.
        Idempotent. Raises `Unavailable` where no other node is up."""
        if self._state == "leaving":
            return
        if not any(m.state == "up" and m.address != self.host.me for m in self.host.view.members.values()):
            raise Unavailable("no other node is up: there is nowhere to go")
        await self._say_leaving()
        log.info("leaving", node=str(self.host.me))

    def drain_progress(self) -> dict[str, Any]:
        """`state` of this member, `activations_left`, `sessions_left`, and how many activations have
        `moved` since it began to leave (since its start, while it does not)."""
        return {
            "state": self._state,
            "activations_left": len(self.host.catalog.live),
            "sessions_left": self.gateway.sessions_left(),
            "moved": self.metrics.migrations_total - self._moved_before,
        }

    async def stop(self) -> None:
        """Orderly: nothing that was acknowledged is lost, as long as the store answers within
        `drain_timeout_s`."""
        deadline = self.clock.now() + self.settings.drain_timeout_s
        heard_at = self.clock.now()
        if not self.lease_lost:
            await _step("leaving", self._say_leaving())
            if len(self.host.view.members) > 1:
                heard_at += LEAVING_ROUNDS * self.settings.gossip.gossip_interval_s
        await _step("sessions", self.gateway.stop(min(5.0, self.settings.drain_timeout_s / 2)))
        await _step("listener", self.listener.stop())
        if self.settings.store.flush_at_stop and not self.lease_lost:
            await _step("activations", self.host.stop(deadline), self.settings.drain_timeout_s + STAGE_S)
        settled = self._settled()
        self.pipeline.retention.end()
        self.host.catalog.closed = Unavailable("this node has stopped")
        for one in list(self.host.catalog.live.values()):
            self.host.catalog.discard(one, Unavailable("this node has stopped"))
        await asyncio.sleep(max(0.0, heard_at - self.clock.now()))
        await self._leave(settled and not self.lease_lost)

    async def _say_leaving(self) -> None:
        if self._state != "leaving":
            self._moved_before = self.metrics.migrations_total
        try:
            await self._announce("leaving")
        finally:
            self._members_changed()

    async def _leave(self, settled: bool) -> None:
        drivers = self.drivers
        await _step("gossip", drivers.membership.leave())
        for task in self._lease_tasks:
            task.cancel()  # a renewal after `retire_node` would be refused
        await self._retire(settled)
        if self.admin is not None:
            await _step("admin", self.admin.stop())
        await _step("transport", drivers.transport.stop())
        await _step("tasks", self.supervisor.stop())
        await _step("gossip", drivers.membership.close())
        await _step("store queries", drivers.store_queries.close())
        await _step("store", drivers.store.close())
        log.info("node stopped", node=str(self.host.me))


async def _step(stage: str, work: Awaitable[None], within_s: float = STAGE_S) -> None:
    """One stage of going down: whatever fails in it, or does not end, the stages after it are still
    due."""
    try:
        async with asyncio.timeout(within_s):
            await work
    except TimeoutError:
        log.error("stage of stopping did not end", stage=stage, within_s=within_s)
    except Exception as error:
        known = isinstance(error, GarrisonError)
        log.warning("stage of stopping failed", stage=stage, why=str(error), exc_info=None if known else error)
