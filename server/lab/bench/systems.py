"""Actor systems for benchmarks: real parts, in this process, over a store that is given."""

import gc
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from server.actors.app import App
from server.catalog.services import Services
from server.catalog.system import ActorSystem
from server.cluster.view import Member, View
from server.drivers import build_store, load_app
from server.ids import NodeAddress, NodeId
from server.runtime.clock import SystemClock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import Settings, TransportSettings, from_tree
from server.storage.memory import MemoryDatabase, MemoryStore
from server.storage.memory_logs import MemoryLogStore
from server.storage.pipeline import StoragePipeline
from server.storage.queries import NoStoreQueries
from server.transport.tcp import TcpTransport
from server.view_change import change_view

BENCH_KEY = bytes(32)
"""The cluster key of benchmarks, which start nothing that outlives them."""


class NoOutlet:
    """Nobody watches a benchmark."""

    def push(self, *_: Any) -> None: ...

    def publish(self, *_: Any) -> None: ...

    def publish_latest(self, *_: Any) -> None: ...

    def end_sessions(self, *_: Any) -> None: ...

    def end_session(self, *_: Any) -> None: ...

    def show(self, *_: Any) -> None: ...

    def withdraw(self, *_: Any) -> None: ...

    def hide(self, *_: Any) -> None: ...


@asynccontextmanager
async def memory_system(app: App, name: str = "node-1", *, encrypted: bool = False) -> AsyncIterator[ActorSystem]:
    """An actor system over the memory store, whose links are encrypted or not."""
    database = MemoryDatabase(SystemClock())
    types = {cls.kind: cls.State for cls in app.actors}
    async with system_over(
        app, MemoryStore(database, types), MemoryLogStore(database), name, encrypted=encrypted
    ) as system:
        yield system


@asynccontextmanager
async def game_system(url: str, store: dict[str, Any] | None = None) -> AsyncIterator[ActorSystem]:
    """An actor system of the default application over the migrated database at `url`; `store`: more of its
    settings."""
    settings = from_tree({"store": {"url": url, **(store or {})}})
    app = load_app(settings)
    database = build_store(settings, app)
    async with system_over(app, database, database, settings=settings) as system:
        yield system


@asynccontextmanager
async def system_over(
    app: App,
    store: Any,
    logs: Any,
    name: str = "node-1",
    *,
    encrypted: bool = False,
    settings: Settings | None = None,
) -> AsyncIterator[ActorSystem]:
    """An actor system over `store`, alone in its view, with a real TCP transport."""
    settings, clock, metrics = settings or Settings(), SystemClock(), Metrics()
    supervisor, rng = Supervisor(name), random.Random(name)
    pipeline = StoragePipeline(
        kinds=app.actors, settings=settings, store=store, logs=logs, journal=None, clock=clock, rng=rng,
        metrics=metrics, supervisor=supervisor, on_lease_lost=lambda: None,
    )  # fmt: skip
    links = TransportSettings(encryption="required" if encrypted else "off")
    transport = TcpTransport(links, "bench", BENCH_KEY, clock, metrics, supervisor, rng)
    system = ActorSystem(
            Services(
                app=app, settings=settings, clock=clock, rng=rng, metrics=metrics, supervisor=supervisor,
                transport=transport, store=store, logs=logs, store_queries=NoStoreQueries(),
            ),
            pipeline,
        )  # fmt: skip
    system.outlet = NoOutlet()
    await store.open()
    pipeline.lease.granted(clock.boot() + 1e6)
    me = NodeAddress(NodeId(name), await store.register_node(NodeId(name), None))
    pipeline.start(me)
    await transport.start(me)
    system.start(me)
    supervisor.spawn(pipeline.group_commit.run(), "group-commit")
    change_view(View((member(system),)), transport=transport, system=system)
    gc.collect()
    gc.freeze()  # as a node does once it serves
    try:
        yield system
    finally:
        await transport.stop()
        await supervisor.stop()
        await store.close()


def member(system: ActorSystem) -> Member:
    """The system as its peers see it."""
    return Member(system.me.node, system.me.incarnation, 4, "up", system.transport.endpoint, "", "")
