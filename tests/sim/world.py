"""The simulated world: nodes of the real code, the network, gossip, store and clients between
them, all from one seed.

Each node runs in a domain of its own with its own clock, randomness and handles on the world. A
node can be started, stopped in order, crashed between two steps, paused and resumed; `launch` gives
it a process that brings it back as a new incarnation when it has lost its lease, as `server.main`
does. Log lines of the nodes are caught; those that report a fault are kept in `faults` and fail a
run that did not expect them.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import msgspec
import structlog

from game.app import App
from server.activations.activation import Activation
from server.actors.app import App as AnyApp
from server.actors.facts import open_facts_of
from server.cluster.simulated import SimulatedMembership
from server.cluster.terms import Terms
from server.errors import Unavailable
from server.eventlog import segment
from server.eventlog.entry import Entry
from server.ids import SLOT_COUNT, ActorId, NodeAddress, NodeId, kind_of
from server.liveness.judge import LIMITS, JudgeLimits
from server.liveness.lease import NodeLease
from server.liveness.renewing import PausedByLease
from server.node import Node
from server.node_drivers import Drivers
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.gateway import Gateway
from server.sessions.tokens import TokenRules, issue, own_rules
from server.settings import Settings, from_tree
from server.storage.journal.memory import MemoryJournals
from server.storage.memory import MemoryDatabase, MemoryStore
from server.storage.memory_logs import MemoryLogStore
from server.storage.queries import NoStoreQueries, StoreQueries
from server.transport.memory import MemoryTransport
from tests.sim import checkers
from tests.sim.client import Link, SimClient, until
from tests.sim.history import Crashed, Excuse, History, NodeReport, Released, Stored, StoredEvent, StoredState
from tests.sim.journal import SimJournal, held
from tests.sim.loop import DOMAIN, Domain, SimLoop
from tests.sim.network import ClientLink, SimGossip, SimListener, SimNetwork, Weather
from tests.sim.process import SimProcess
from tests.sim.store import NodeQueries, NodeStore, StoreProcess
from tests.support.phases import forget_refused
from tests.support.stores import HERE, still_live

SIGNING_KEY: Final = b"a signing key for simulated runs only"
MATCH: Final = "match"
EPOCH_MS: Final = 1_700_000_000_000
JournalMode = Literal["none", "local", "redis"]
_parts = msgspec.msgpack.Decoder(tuple[msgspec.Raw, str | None, int])


class SimClock:
    """A node's clock: virtual time at `rate`, from `offset_s`; both may be changed as it runs,
    by `drift` and `step`."""

    def __init__(self, loop: SimLoop, offset_s: float = 0.0, rate: float = 1.0) -> None:
        self._loop, self._rate = loop, rate
        self._from, self._base_s = loop.time(), offset_s
        self.wall_offset_ms = 0
        self.read: Callable[[], None] | None = None
        """Called before the boot-time clock is read, as a lease check does."""

    def now(self) -> float:
        return self._base_s + (self._loop.time() - self._from) * self._rate

    def boot(self) -> float:
        if self.read is not None:
            self.read()
        return self.now()

    def wall_ms(self) -> int:
        return EPOCH_MS + self.wall_offset_ms + int(1000 * self._loop.time())

    def drift(self, rate: float) -> None:
        """Run at `rate` times the true speed from now on."""
        self._base_s, self._from, self._rate = self.now(), self._loop.time(), rate

    def step_wall(self, by_ms: int) -> None:
        """The wall clock is set; the monotonic clocks never jump."""
        self.wall_offset_ms += by_ms


class SimNode:
    """A run of a node, in a process of its own unless it gets one with its clock."""

    def __init__(
        self,
        world: "World",
        name: str,
        run: int,
        domain: Domain | None = None,
        clock: SimClock | None = None,
        url: str = "",
    ) -> None:
        """`url`: where its clients connect, if that was its predecessor's."""
        self.world, self.name = world, name
        self.domain = domain if domain is not None else Domain(f"{name}.{run}")
        self.clock = clock if clock is not None else SimClock(world.loop)
        self.metrics = Metrics()
        self.settings = world.settings(name)
        self.url = url or f"{name}.{run}"
        self.listener = SimListener(world.network, self.domain, self.url, self.settings.gateway.max_frame_bytes)
        self.journal = self._journal()
        self.node: Node = self.domain.run(self._build, run)
        self.node.system.durability = Recorder(world, self)

    def _journal(self) -> SimJournal | None:
        world, settings = self.world, self.settings.journal
        if world.journals is None:
            return None
        wires = world.network.domain
        return SimJournal(world.journals, NodeId(self.name), self.metrics, settings, world.loop, self.domain, wires)

    def _build(self, run: int) -> Node:
        world = self.world
        store = NodeStore(world.store, self.name)
        drivers = Drivers(
            clock=self.clock,
            rng=world.rng(f"{self.name}.{run}"),
            store=store,
            logs=store,
            transport=MemoryTransport(world.network, self.settings.transport, self.metrics),
            membership=SimulatedMembership(world.gossip),
            supervisor=Supervisor(self.name, self._task_failed),
            metrics=self.metrics,
            listener=self._listener,
            journal=self.journal,
            asks_store=world.asks_store,
            renewing=SimRenewing(world, self.domain, store) if world.threads else None,
            terms=lambda _rules: world.terms.get(self.name, Terms()),
            store_queries=NodeQueries(world.store, self.name, world.queries),
        )
        node = Node(self.settings, world.app, world.rules(), drivers, world.limits)
        if world.app.actor(MATCH) is not None:
            node.system.observe_events(MATCH, self._events, noted=True)
        if not world.strays:
            node.system.strays._kinds.clear()
        return node

    def _events(self, identity: ActorId, _first_seq: int, entries: Sequence[Entry], _state: Any) -> None:
        """Record events as a node with columns does. A name that is given out again has another first event."""
        recorded, first = self.world.recorded, self.world.first_events
        for entry in entries:
            if entry.seq == 1 and first.setdefault(identity, entry) != entry:
                first[identity] = entry
                for known in [known for known in recorded if known[0] == identity]:
                    del recorded[known]
            recorded.setdefault((identity, entry.seq), []).append(self.name)

    def _listener(self, gateway: Gateway) -> SimListener:
        self.listener.accept = gateway.accept
        return self.listener

    def _task_failed(self, name: str, error: BaseException) -> None:
        self.world.faults.append(f"{self.world.loop.time():.3f} {self.domain.name} task {name}: {error!r}")

    @property
    def address(self) -> NodeAddress:
        return self.node.system.me

    def tasks(self) -> list[str]:
        return [task.get_name() for task in self.world.loop.tasks(self.domain)]

    def report(self, actors: Sequence[str]) -> NodeReport:
        """The beliefs and activations of this node; `actors` are the ids to tell the owners of."""
        system = self.node.system
        table = system.view.table
        here = [str(identity) for identity in system.activation_ids()]
        return NodeReport(
            system.me,
            system.view.digest,
            sorted(system.view.addresses),
            {slot: table.owner_of_slot(slot) for slot in range(0, SLOT_COUNT, 257)},
            {actor: table.owner(ActorId(actor)) for actor in (*actors, *here)},
            {str(identity): place for identity, place in system.directory.partition.entries().items()},
            here,
        )


class SimRenewing(PausedByLease):
    """Renewals from a thread of the process, as `RenewalThread` does them: it goes on while the loop stands still,
    and stops with the process."""

    def __init__(self, world: "World", process: Domain, store: NodeStore) -> None:
        self._world, self._process, self._store = world, process, store
        self._thread = Domain(f"{process.name} lease")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, lease: NodeLease, me: NodeAddress, supervisor: Supervisor) -> None:
        self._lease = lease
        loop, process, thread = self._world.loop, self._process, self._thread
        process.threads.append(thread)
        lease.to_loop = lambda call, *args: process.run(loop.call_soon, call, *args)
        self._tasks.append(supervisor.spawn(lease.watch_loop(), "lease-tick"))
        self._tasks.append(thread.run(lambda: loop.create_task(lease.run(me, self._store), name=f"{thread.name}")))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._thread in self._process.threads:
            self._process.threads.remove(self._thread)


class Recorder:
    """A node's durability, with a note of each release of a write-behind change in the world's audit."""

    def __init__(self, world: "World", node: SimNode) -> None:
        self._world, self._node, self._inner = world, node, node.node.system.durability
        self.accept_logged, self.accept_through = self._inner.accept_logged, self._inner.accept_through
        self.at_once = self._inner.at_once

    def accept(self, entity: Any, state: msgspec.Struct) -> bool:
        durable = self._inner.accept(entity, state)
        if durable and not entity._held:
            self._world.released(self._node.domain.name, entity, entity.version + 1)
        return durable


class World:
    """See the module's head. `journal` is the mode of the nodes' crash journals; without `shared` a
    local one is read by its own node only. `threads`: leases are renewed by a thread of each process, which a busy
    event loop does not hold up."""

    def __init__(
        self,
        loop: SimLoop,
        seed: int | str,
        settings: dict[str, Any] | None = None,
        journal: JournalMode = "none",
        app: AnyApp = App,
        shared: bool = True,
        asks_store: bool = False,
        threads: bool = True,
        limits: JudgeLimits = LIMITS,
        strays: bool = False,
        queries: Callable[[MemoryDatabase], StoreQueries] = lambda _: NoStoreQueries(),
    ) -> None:
        forget_refused()
        self.limits, self.strays = limits, strays
        self.loop, self.seed, self.app, self.asks_store, self.threads = loop, seed, app, asks_store, threads
        self._settings = {**(settings or {}), "journal": {"mode": journal, **(settings or {}).get("journal", {})}}
        self.state_types = {cls.kind: cls.State for cls in app.actors if cls.durability != "volatile"}
        self.clock = SimClock(loop)
        self.network = SimNetwork(loop, Weather(self.rng("network")))
        gossip_rng, journal_rng = self.rng("gossip"), self.rng("journal")
        self.gossip = SimGossip(lambda _frm, _to: gossip_rng.uniform(0.01, 0.15))
        self.journals = None
        if journal != "none":
            self.journals = MemoryJournals(journal, lambda: journal_rng.uniform(0.0005, 0.01), shared)
        self.database = MemoryDatabase(self.clock, "d" * 32)
        store = MemoryStore(self.database, self.state_types, still_live(app), open_facts_of(app.actors), HERE)
        self.store = StoreProcess(loop, self.rng("store"), store, MemoryLogStore(self.database))
        self.history: History = []
        self.audit = self.store.audit
        self.recorded: dict[tuple[str, int], list[str]] = {}
        """Nodes that have recorded each event of a match, in the order in which they did."""
        self.first_events: dict[str, Entry] = {}
        self.store.alive = self._runs_still
        self.queries = queries(self.database)
        self.excuses: list[Excuse] = []
        self.nodes: dict[str, SimNode] = {}
        self.terms: dict[str, Terms] = {}
        """Terms that nodes tell, but for their database; nothing of those that are not here."""
        self.processes: dict[str, SimProcess] = {}
        self.clients: dict[str, SimClient] = {}
        self._client_tasks: dict[str, asyncio.Task[None]] = {}
        self._runs = 0
        self._paused: dict[str, int] = {}
        self._client_rng = self.rng("client network")
        self.left_tasks: dict[str, list[str]] = {}
        self.faults: list[str] = []
        self.logs: deque[str] = deque(maxlen=5_000)
        self.views_changed: list[tuple[float, str]] = []
        """The moments at which a process saw its view change."""

    def rng(self, part: str) -> random.Random:
        """The randomness of one part: its draws do not disturb the others'."""
        return random.Random(f"{self.seed}/{part}")

    def settings(self, name: str) -> Settings:
        tree: dict[str, Any] = {"node": name, "store": {"url": "memory:"}, "admin": {"enabled": False}}
        for section, values in self._settings.items():
            tree[section] = {**tree.get(section, {}), **values} if isinstance(values, dict) else values
        return from_tree(tree)

    # ---- nodes ----

    def next_run(self) -> int:
        self._runs += 1
        return self._runs

    async def start_node(self, name: str) -> SimNode:
        """Start a run of `name`; raises what its start raises."""
        node = SimNode(self, name, self.next_run())
        self.note("start", node.domain.name)
        await node.domain.run(self.loop.create_task, node.node.start())
        self.nodes[name] = node
        return node

    async def stop_node(self, name: str) -> None:
        """An orderly stop; what tasks it leaves is kept for the checker."""
        node = self.nodes.pop(name)
        self.note("stop", node.domain.name)
        await node.domain.run(self.loop.create_task, node.node.stop())
        await asyncio.sleep(0)
        self.left_tasks[node.domain.name] = node.tasks()

    def crash_node(self, name: str) -> None:
        """The process dies between two steps: links and client connections break, gossip finds
        out after its delay."""
        node = self.nodes.pop(name)
        self.note("crash", node.domain.name)
        self.history.append(Crashed(at=self.loop.time(), client="", node=name))
        self._excuse_dirty(name, node, machine=False)
        self.loop.kill(node.domain)
        self.vanish(node)

    def vanish(self, node: SimNode) -> None:
        """Make the world see that a process has died. Another process of its run may be there."""
        drivers = node.node.drivers
        self.gossip.crash(NodeId(node.name), drivers.membership)  # type: ignore[arg-type]
        self.network.vanish(drivers.transport)  # type: ignore[arg-type]
        node.listener.crash()

    # ---- processes that come back by themselves ----

    def launch(self, name: str) -> SimProcess:
        """Start a process that runs node `name` until it is stopped or crashes."""
        process = self.processes[name] = SimProcess(self, name)
        self.note("launch", process.domain.name)
        return process

    async def started(self, nodes: int, within_s: float = 8.0) -> None:
        """Wait until `nodes` are up and agree."""
        await until(lambda: len(self.nodes) == nodes, within_s, "the start")
        await self.converged(within_s)

    async def stop_process(self, name: str) -> None:
        process = self.processes.pop(name)
        self.note("stop", process.domain.name)
        await process.stop()
        self.left_tasks[process.domain.name] = [task.get_name() for task in self.loop.tasks(process.domain)]

    def crash_process(self, name: str, *, machine: bool = False, torn: int = 0) -> None:
        """The process of `name` dies between two steps, or its whole machine does, and takes a local
        journal along. `torn` bytes of a record that it was writing are in its journal."""
        process = self.processes.pop(name)
        self.note("crash", process.domain.name, "machine" if machine else "process")
        self.history.append(Crashed(at=self.loop.time(), client="", node=name))
        node = process.node
        self._excuse_dirty(name, node, machine)
        self.loop.kill(process.domain)
        self.nodes.pop(name, None)
        self.gossip.forget_mutes(name)
        if node is not None:
            self.vanish(node)
        if self.journals is not None and machine:
            self.journals.crash_machine(NodeId(name))
        elif node is not None:
            self.unlock(node, torn)

    def unlock(self, node: SimNode, torn: int = 0) -> None:
        """The journal of a process that has died is locked no more."""
        if self.journals is not None and node.journal is not None:
            self.journals.crash_process(node.address, torn, node.journal.place)

    def _excuse_dirty(self, name: str, node: SimNode | None, machine: bool) -> None:
        """The changes that a crash may cost: without a journal all that is not stored, with a local one what
        the journals on the machine hold, if it is the machine that goes, also between two runs."""
        now = self.loop.time()
        if self.journals is None:
            if node is None:
                return
            for one in node.node.system.catalog.live.values():
                if one.durable and not one.has_log and one.version > one.stored_version:
                    self.excuses.append(Excuse(one.id, one.stored_version, one.version, now))
        elif machine and self.journals.kind == "local":
            for newest in held(self.journals, NodeId(name)).values():
                for id, version in newest.items():
                    entity = self.database.entities.get(ActorId(id))
                    self.excuses.append(Excuse(id, entity.state_version if entity is not None else 0, version, now))

    def _runs_still(self, address: NodeAddress) -> bool:
        nodes = [process.node for process in self.processes.values()]
        return any(node is not None and node.address == address and not node.node.lease_lost for node in nodes)

    def counted_lost(self, activation: Activation, changes: int) -> None:
        """A node without a journal has counted `changes` of `activation` as lost."""
        if changes and self.journals is None and not activation.has_log:
            version = activation.version
            self.excuses.append(Excuse(activation.id, version - changes, version, self.loop.time()))

    def released(self, node: str, entity: Any, version: int) -> None:
        self.audit.append(Released(at=self.loop.time(), node=node, id=entity.id, epoch=entity.epoch, version=version))

    def pause_node(self, name: str) -> None:
        """Stop the process as SIGSTOP does; gossip, on a thread of its own, stops as well."""
        self.note("pause", name)
        self._paused[name] = self.gossip.mute(name)
        self.loop.pause(self.nodes[name].domain)

    def resume_node(self, name: str) -> None:
        self.note("resume", name)
        self.loop.resume(self.nodes[name].domain)
        self.gossip.unmute(self._paused.pop(name))

    @staticmethod
    def rules() -> TokenRules:
        """Conditions of a good client token."""
        return own_rules(SIGNING_KEY)

    def note(self, *parts: object) -> None:
        self.loop.trace.note(self.loop.time(), *parts)
        self.logs.append(f"{self.loop.time():.3f} world {' '.join(map(str, parts))}")

    # ---- clients ----

    def client(
        self, name: str, role: str, *, text: bool = False, subject: str = "", stays: bool = False, device: str = ""
    ) -> SimClient:
        """A client in a process of its own, connecting from now on. `subject`: of its tokens, if not its name; `stays`:
        it follows no redirect; `device`: its word for the kind of its device."""
        rng, domain = self.rng(f"client {name}"), Domain(f"client {name}")

        async def dial(
            url: str, text: bool, on_frame: Callable[[bytes], None], on_close: Callable[[int, str], None]
        ) -> Link:
            await asyncio.sleep(rng.uniform(0.001, 0.02))
            listener = next((node.listener for node in self.nodes.values() if node.listener.url == url), None)
            if listener is None:
                raise ConnectionError(f"nobody at {url}")
            try:
                end = listener.connect("json" if text else "msgpack", name, self._client_delay)
            except Unavailable as error:
                raise ConnectionError(error.message) from None
            return ClientLink(self.loop, domain, end, on_frame, on_close)

        client = SimClient(
            name,
            dial,
            lambda: [node.listener.url for node in self.nodes.values()],
            lambda: issue(SIGNING_KEY, subject or name, role, 3600, self.clock.wall_ms()),
            rng,
            self.history,
            text=text,
            stays=stays,
            device=device,
        )
        self.clients[name] = client
        self._client_tasks[name] = domain.run(lambda: self.loop.create_task(client.run(), name=f"client {name}"))
        return client

    def _client_delay(self) -> float:
        return self._client_rng.uniform(0.002, 0.04)

    async def stop_clients(self) -> None:
        for client in self.clients.values():
            client.stop()
        await asyncio.gather(*self._client_tasks.values())

    # ---- the end ----

    def reports(self) -> list[NodeReport]:
        actors = sorted(
            {str(identity) for node in self.nodes.values() for identity in node.node.system.activation_ids()}
        )
        return [node.report(actors) for node in self.nodes.values()]

    async def converged(self, within_s: float) -> None:
        """Wait until every node believes the same and the directory is right. Raises
        `AssertionError` with what is still wrong."""
        wrong: list[str] = []

        def holds() -> bool:
            wrong[:] = checkers.check_cluster(self.reports())
            return not wrong

        try:
            await until(holds, within_s, "convergence", 0.1)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *wrong])) from None

    def stored(self) -> Stored:
        """The contents of the store."""
        logs: dict[str, list[StoredEvent]] = {}
        states: dict[str, StoredState] = {}
        for identity, entity in sorted(self.database.entities.items()):
            if entity.next_seq > 1:
                logs[identity] = [
                    _stored_event(entry.seq, entry.data)
                    for chunk in entity.chunks
                    for entry in segment.decode(chunk.data).entries
                ]
            elif entity.state is not None:
                state = msgspec.msgpack.decode(entity.state, type=self.state_types[kind_of(identity)])
                states[identity] = StoredState(entity.state_version, state)
        return Stored(logs, states)

    @contextmanager
    def catching_logs(self) -> Any:
        """Keep the nodes' log lines here instead of printing them, and note what they release late."""
        before, release = structlog.get_config(), Activation.released
        structlog.configure(processors=[self._log], cache_logger_on_first_use=False)
        world = self

        def released(activation: Activation, version: int) -> None:
            held = activation._held
            if held and held[0][0] <= version and not activation.has_log:
                domain = DOMAIN.get()
                world.released(domain.name if domain is not None else "", activation, min(version, held[-1][0]))
            release(activation, version)

        Activation.released = released  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            Activation.released = release  # type: ignore[method-assign]
            structlog.configure(**before)

    def _log(self, _logger: Any, level: str, event: Any) -> Any:
        domain = DOMAIN.get()
        if domain is None or domain.state != "dead":
            error = event.get("exc_info")
            line = " ".join(f"{name}={value}" for name, value in event.items() if name not in ("event", "exc_info"))
            where = domain.name if domain is not None else "world"
            text = f"{self.loop.time():.3f} {where} {level} {event.get('event')} {line}"
            self.logs.append(text)
            if event.get("event") == "view changed":
                self.views_changed.append((self.loop.time(), where))
            if level in ("error", "critical", "exception"):
                self.faults.append(f"{text} {error!r}" if error else text)
        raise structlog.DropEvent


@contextmanager
def silent() -> Any:
    """Drop what nodes log outside of their world, as the loop of a failed run closes their tasks."""
    before = structlog.get_config()
    structlog.configure(processors=[_drop], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


def _drop(_logger: Any, _level: str, _event: Any) -> Any:
    raise structlog.DropEvent


def _stored_event(seq: int, data: bytes) -> StoredEvent:
    event, lineage, command = _parts.decode(data)
    if lineage is None:
        return StoredEvent(seq, bytes(event), None)
    subject, _role_and_kind, own = lineage.split("/")
    return StoredEvent(seq, bytes(event), (f"{subject}/{own}", command))
