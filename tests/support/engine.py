"""Hosts on memory drivers: the actor runtime without gateway, gossip or sockets."""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType

from server.actors.actor import Actor
from server.actors.app import App
from server.actors.facts import open_facts_of
from server.actors.guard import Guard
from server.actors.pictures import Showing, ShownActor
from server.catalog.services import Services
from server.catalog.system import ActorSystem
from server.cluster.view import Member, View
from server.ids import ActorId, NodeAddress, NodeId
from server.liveness.lease import NodeLease
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import Settings, from_tree
from server.storage.journal.ports import Journal
from server.storage.memory import MemoryDatabase, MemoryStore
from server.storage.pipeline import StoragePipeline
from server.storage.queries import MemoryQuery, MemoryStoreQueries
from server.transport.memory import MemoryNetwork, MemoryTransport
from server.view_change import change_view
from server.wire.messages import Push
from tests.support.faulty import Faults, FaultyLogs, FaultyStore
from tests.support.stores import HERE, still_live
from tests.support.tiny import TinyApp
from tests.support.virtual_time import LoopClock


class Published:
    """An outlet that keeps what would go to clients."""

    def __init__(self) -> None:
        self.pushes: list[tuple[str, Push]] = []
        self.latest: list[tuple[list[NodeAddress], ActorId, tuple[int, int], str, bytes | None]] = []
        self.ends: list[tuple[str, int, str]] = []
        self.scopes: list[tuple[int, bool]] = []
        self.shown: list[tuple[ActorId, int, Showing | bool]] = []
        self.events: list[tuple[list[NodeAddress], ActorId, int, list[bytes]]] = []

    def push(self, subject: str, message: Push) -> None:
        self.pushes.append((subject, message))

    def publish_latest(
        self, watchers: Sequence[NodeAddress], topic: ActorId, order: tuple[int, int], key: str, value: bytes | None
    ) -> None:
        self.latest.append((list(watchers), topic, order, key, value))

    def show(self, identity: ActorId, shown: ShownActor) -> None:
        """Look at once, and keep what looks different."""
        word = (identity, shown.epoch, shown.showing())
        if word not in self.shown[-1:]:
            self.shown.append(word)

    def withdraw(self, identity: ActorId, epoch: int, n: int) -> None:
        self.shown.append((identity, epoch, Showing(n, None, 0)))

    def hide(self, identity: ActorId, epoch: int, moved: bool) -> None:
        self.shown.append((identity, epoch, moved))

    def end_sessions(
        self, subject: str, code: int, reason: str, issued_before_ms: int = 0, every_role: bool = False
    ) -> None:
        self.ends.append((subject, code, reason))
        self.scopes.append((issued_before_ms, every_role))

    def end_session(self, subject: str, session: str, at: NodeAddress, code: int, reason: str) -> None:
        self.ends.append((session, code, reason))

    def publish(
        self,
        watchers: Sequence[NodeAddress],
        topic: ActorId,
        first_seq: int,
        events: Sequence[bytes],
        _guard: Guard,
        _mark: str,
        _public_seq: int = -1,
    ) -> None:
        self.events.append((list(watchers), topic, first_seq, list(events)))


class TestSystem(ActorSystem):
    """A system with its parts at hand."""

    __test__ = False
    published: Published
    pipeline: StoragePipeline
    lease: NodeLease
    node_store: MemoryStore
    faults: Faults
    journal: Journal | None


def _place(system: TestSystem) -> str:
    return system.journal.place if system.journal is not None else ""


class Cluster:
    """Hosts that share a database and a network. `show` gives all of them a view."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        make_journal: Callable[[str, Metrics], Journal] | None = None,
        queries: Mapping[str, MemoryQuery] = MappingProxyType({}),
    ) -> None:
        self.queries = queries
        self.app, self.settings, self.make_journal = app, settings, make_journal
        self.clock = LoopClock()
        self.network = MemoryNetwork()
        self.database = MemoryDatabase(self.clock)
        self.systems: dict[str, TestSystem] = {}

    async def add(self, name: str) -> TestSystem:
        """A new system; it sees nobody until `show`."""
        system = self.make(name)
        me = NodeAddress(NodeId(name), await system.node_store.register_node(NodeId(name), None, _place(system)))
        await self.run(system, me)
        return system

    def make(self, name: str) -> TestSystem:
        """A system that does not run yet: `run` starts it."""
        metrics, supervisor, rng = Metrics(), Supervisor(name), random.Random(name)
        types = {cls.kind: cls.State for cls in self.app.actors if cls.durability != "volatile"}
        faults = Faults()
        store = FaultyStore(self.database, types, faults, still_live(self.app), open_facts_of(self.app.actors), HERE)
        logs = FaultyLogs(self.database, faults)
        queries = MemoryStoreQueries(self.database, types, self.queries)
        transport = MemoryTransport(self.network, self.settings.transport, metrics)
        journal = self.make_journal(name, metrics) if self.make_journal is not None else None
        pipeline = StoragePipeline(
            kinds=self.app.actors, settings=self.settings, store=store, logs=logs, journal=journal, clock=self.clock,
            rng=rng, metrics=metrics, supervisor=supervisor, on_lease_lost=lambda: None,
        )  # fmt: skip
        system = TestSystem(
            Services(
                app=self.app, settings=self.settings, clock=self.clock, rng=rng, metrics=metrics, supervisor=supervisor,
                transport=transport, store=store, logs=logs, store_queries=queries,
            ),
            pipeline,
        )  # fmt: skip
        system.pipeline, system.lease, system.node_store, system.faults = pipeline, pipeline.lease, store, faults
        system.outlet = system.published = Published()
        system.lease.granted(self.clock.boot() - 1_000)
        system.lease.safe_until = float("inf")
        system.journal = journal
        return system

    async def run(self, system: TestSystem, me: NodeAddress) -> None:
        """Start a system that was made."""
        if system.journal is not None:
            await system.journal.open(me)
        system.pipeline.start(me)
        await system.transport.start(me)
        self.before_start(system)
        system.start(me)
        system.supervisor.spawn(system.pipeline.group_commit.run(), "group-commit")
        self.systems[me.node] = system

    def before_start(self, system: TestSystem) -> None:
        """A subclass's part in the making of a system."""

    def show(self, *names: str) -> None:
        """Every system of `names` sees exactly these as up."""
        members = tuple(
            Member(
                NodeId(name), self.systems[name].me.incarnation, 4, "up", self.systems[name].transport.endpoint, "", ""
            )
            for name in names
        )
        for name in names:
            system = self.systems[name]
            change_view(View(members), transport=system.transport, system=system)

    async def remove(self, name: str, clean: bool = False) -> None:
        """Stop a system: a clean one stores and releases first, else it just ends."""
        system = self.systems.pop(name)
        if clean:
            await system.stop(self.clock.now() + 5)
            await system.store.retire_node(system.me)
        await system.transport.stop()
        await system.supervisor.stop()

    async def stop(self) -> None:
        for name in list(self.systems):
            await self.remove(name)


@asynccontextmanager
async def cluster(
    names: Sequence[str] = ("node-1",),
    app: App = TinyApp,
    make_journal: Callable[[str, Metrics], Journal] | None = None,
    queries: Mapping[str, MemoryQuery] = MappingProxyType({}),
    world: type[Cluster] = Cluster,
    **tree: object,
) -> AsyncIterator[Cluster]:
    """A running cluster of systems that see each other; `tree` are settings."""
    made = world(app, from_tree(tree), make_journal, queries)
    for name in names:
        await made.add(name)
    made.show(*names)
    try:
        yield made
    finally:
        await made.stop()


def key_owned_by(system: ActorSystem, cls: type[Actor[object]] | type, name: str) -> str:
    """A key whose slot belongs to node `name` in `system`'s view."""
    for number in range(100_000):
        owner = system.owner(ActorId(f"{cls.kind}/k{number}"))
        if owner is not None and owner.node == name:
            return f"k{number}"
    raise AssertionError(f"{name} owns nothing")
