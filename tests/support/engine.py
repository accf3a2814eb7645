"""Hosts on memory drivers: the actor runtime without gateway, gossip or sockets."""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType

from server.actors.actor import Actor
from server.actors.app import App
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
from tests.support.stores import still_live
from tests.support.tiny import TinyApp
from tests.support.virtual_time import LoopClock


class Published:
    """An outlet that keeps what would go to clients."""

    def __init__(self) -> None:
        self.pushes: list[tuple[str, Push]] = []
        self.latest: list[tuple[list[NodeAddress], ActorId, tuple[int, int], str, bytes | None]] = []
        self.ends: list[tuple[str, int, str]] = []
        self.events: list[tuple[list[NodeAddress], ActorId, int, list[bytes]]] = []

    def push(self, subject: str, message: Push) -> None:
        self.pushes.append((subject, message))

    def publish_latest(
        self, watchers: Sequence[NodeAddress], topic: ActorId, order: tuple[int, int], key: str, value: bytes | None
    ) -> None:
        self.latest.append((list(watchers), topic, order, key, value))

    def end_sessions(self, subject: str, code: int, reason: str) -> None:
        self.ends.append((subject, code, reason))

    def publish(self, watchers: Sequence[NodeAddress], topic: ActorId, first_seq: int, events: Sequence[bytes]) -> None:
        self.events.append((list(watchers), topic, first_seq, list(events)))


class TestHost(ActorSystem):
    """A host with its parts at hand."""

    __test__ = False
    published: Published
    pipeline: StoragePipeline
    lease: NodeLease
    node_store: MemoryStore
    faults: Faults
    journal: Journal


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
        self.hosts: dict[str, TestHost] = {}

    async def add(self, name: str) -> TestHost:
        """A new host; it sees nobody until `show`."""
        metrics, supervisor, rng = Metrics(), Supervisor(name), random.Random(name)
        types = {cls.kind: cls.State for cls in self.app.actors if cls.durability != "volatile"}
        faults = Faults()
        store = FaultyStore(self.database, types, faults, still_live(self.app))
        logs = FaultyLogs(self.database, faults)
        queries = MemoryStoreQueries(self.database, types, self.queries)
        transport = MemoryTransport(self.network, self.settings.transport, metrics)
        journal = self.make_journal(name, metrics) if self.make_journal is not None else None
        pipeline = StoragePipeline(
            kinds=self.app.actors, settings=self.settings, store=store, logs=logs, journal=journal, clock=self.clock,
            rng=rng, metrics=metrics, supervisor=supervisor, on_lease_lost=lambda: None,
        )  # fmt: skip
        host = TestHost(
            Services(
                app=self.app, settings=self.settings, clock=self.clock, rng=rng, metrics=metrics, supervisor=supervisor,
                transport=transport, store=store, logs=logs, store_queries=queries,
            ),
            pipeline,
        )  # fmt: skip
        host.pipeline, host.lease, host.node_store, host.faults = pipeline, pipeline.lease, store, faults
        host.outlet = host.published = Published()
        host.lease.granted(self.clock.boot() - 1_000)
        host.lease.safe_until = float("inf")
        place = journal.place if journal is not None else ""
        me = NodeAddress(NodeId(name), await store.register_node(NodeId(name), None, place))
        if journal is not None:
            await journal.open(me)
            host.journal = journal
        pipeline.start(me)
        await transport.start(me)
        self.before_start(host)
        host.start(me)
        supervisor.spawn(pipeline.group_commit.run(), "group-commit")
        self.hosts[name] = host
        return host

    def before_start(self, host: TestHost) -> None:
        """A subclass's part in the making of a host."""

    def show(self, *names: str) -> None:
        """Every host of `names` sees exactly these as up."""
        members = tuple(
            Member(NodeId(name), self.hosts[name].me.incarnation, 4, "up", self.hosts[name].transport.endpoint, "", "")
            for name in names
        )
        for name in names:
            host = self.hosts[name]
            change_view(View(members), transport=host.transport, system=host)

    async def remove(self, name: str, clean: bool = False) -> None:
        """Stop a host: a clean one stores and releases first, else it just ends."""
        host = self.hosts.pop(name)
        if clean:
            await host.stop(self.clock.now() + 5)
            await host.store.retire_node(host.me)
        await host.transport.stop()
        await host.supervisor.stop()

    async def stop(self) -> None:
        for name in list(self.hosts):
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
    """A running cluster of hosts that see each other; `tree` are settings."""
    made = world(app, from_tree(tree), make_journal, queries)
    for name in names:
        await made.add(name)
    made.show(*names)
    try:
        yield made
    finally:
        await made.stop()


def key_owned_by(host: ActorSystem, cls: type[Actor[object]] | type, name: str) -> str:
    """A key whose slot belongs to node `name` in `host`'s view."""
    for number in range(100_000):
        owner = host.owner(ActorId(f"{cls.kind}/k{number}"))
        if owner is not None and owner.node == name:
            return f"k{number}"
    raise AssertionError(f"{name} owns nothing")
