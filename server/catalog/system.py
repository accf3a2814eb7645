"""The actor runtime of one node: what `server/node.py` builds and everything else calls.

    host.ask(id, method, args)       an answer from an actor, wherever it lives
    host.ask_now(...)                 the same without a coroutine where it lives here and is idle
    host.tell(id, method, args)      no answer, at most once
    host.query(name, params)          a read model over all nodes

It ties the catalog (activations), the dispatcher (calls), the directory and the fan-out queries
together and is what an activation sees of its node. Rules of when and where are theirs, not here.
"""

import asyncio
import random
from collections.abc import Iterable
from typing import Any, Final

import structlog

from server.activations.activation import Activation
from server.actors.actor import Actor
from server.actors.app import App
from server.actors.methods import Method, methods_of
from server.actors.outlet import Outlet
from server.catalog.catalog import Catalog
from server.catalog.dispatcher import Dispatcher
from server.catalog.migration import Migrator
from server.catalog.orphans import Orphans
from server.catalog.queries import NodeReadModel, Queries, QueryResult
from server.catalog.reminders import Reminders
from server.cluster.view import View
from server.directory.directory import Directory
from server.errors import GarrisonError, Moved
from server.eventlog.ports import LogStore
from server.ids import ActorId, Incarnation, NodeAddress, NodeId
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import Settings
from server.storage.claimer import Claimer
from server.storage.durability import Durability
from server.storage.group_commit import GroupCommit
from server.storage.ports import Store
from server.storage.takeover import Takeover
from server.storage.write_behind import WriteBehind
from server.transport.ports import Transport

log = structlog.get_logger(__name__)
_MAX_TELLS: Final = 100_000


class ActorSystem:
    """See the module's head. `outlet` is set by the node before it starts."""

    outlet: Outlet

    def __init__(
        self,
        app: App,
        settings: Settings,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        supervisor: Supervisor,
        transport: Transport,
        store: Store,
        logs: LogStore,
        claimer: Claimer,
        takeover: Takeover,
        durability: Durability,
        write_behind: WriteBehind,
        group_commit: GroupCommit,
    ) -> None:
        self.app, self.settings, self.clock, self.rng = app, settings, clock, rng
        self.metrics, self.supervisor, self.transport = metrics, supervisor, transport
        self.store, self.logs, self.claimer, self.durability = store, logs, claimer, durability
        self.takeover = takeover
        self.write_behind, self.group_commit = write_behind, group_commit
        self.me = NodeAddress(NodeId(settings.node), Incarnation(0))
        self.view = View(())
        self._methods: dict[type[Actor[Any]], dict[str, Method]] = {cls: methods_of(cls) for cls in app.actors}
        self.catalog = Catalog(self)
        self._live = self.catalog.live  # at hand for the hot path
        self.dispatcher = Dispatcher(self)
        self.directory = Directory(transport, settings.actors, clock, rng, supervisor, self)
        self.migrator = Migrator(self)
        self.queries = Queries(self)
        self.reminders = Reminders(self)
        self.orphans = Orphans(self)
        self._tells = 0
        self.tells_dropped = 0

    def start(self, me: NodeAddress) -> None:
        """This run's address is known: begin to collect and to rebalance."""
        self.me = me
        self.directory.start(me)
        self.supervisor.spawn(self.catalog.collect(), "collect")
        self.supervisor.spawn(self.catalog.rebalance(), "rebalance")
        if self.reminders.wanted:
            self.supervisor.spawn(self.reminders.run(), "reminders")
        if self.orphans.wanted:
            self.supervisor.spawn(self.orphans.run(), "orphans")

    # ---- calls ----

    async def ask(
        self,
        identity: ActorId,
        name: str,
        args: tuple[Any, ...],
        *,
        caller: Activation | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """The answer of `identity.name(*args)`. Errors: see `Dispatcher.ask`."""
        deadline = self.clock.now() + (timeout_s or self.settings.actors.call_timeout_s)
        if caller is None:
            return await self.dispatcher.ask(identity, name, args, (), deadline)
        if caller.deadline:
            deadline = min(deadline, caller.deadline)
        return await self.dispatcher.ask(identity, name, args, (*caller.chain, caller.id), deadline)

    def ask_now(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        """The result itself where the actor lives here and the turn ends at once, otherwise a
        future of it. Raises what the turn raises."""
        if identity in self._live:
            activation = self._live[identity]  # half the price of `get`
            if not (activation.busy or activation.closing):
                return activation.call(name, args)
            waiting = activation.call(name, args)  # takes its place in the order of arrival now
            if not isinstance(waiting, asyncio.Future):
                return waiting
            return self.supervisor.spawn(self._follow(waiting, identity, name, args), f"ask {identity}")
        return self.supervisor.spawn(self.ask(identity, name, args), f"ask {identity}")

    async def _follow(self, waiting: "asyncio.Future[Any]", identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        """The answer of a call in a mailbox; if the actor moves before its turn, it goes after it."""
        deadline = self.clock.now() + self.settings.actors.call_timeout_s
        try:
            return await self.dispatcher.within(waiting, deadline, identity)
        except Moved:
            return await self.dispatcher.ask(identity, name, args, (), deadline)

    def tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        """Call without an answer, at most once; dropped and counted above a bound."""
        if self._tells >= _MAX_TELLS:
            self.tells_dropped += 1
            return
        self._tells += 1
        self.supervisor.spawn(self._tell(identity, name, args), f"tell {identity}")

    async def _tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        try:
            await self.ask(identity, name, args)
        except GarrisonError as error:
            log.debug("tell failed", actor=identity, method=name, why=error.message)
        finally:
            self._tells -= 1

    async def query(self, name: str, params: dict[str, Any], timeout_s: float | None = None) -> QueryResult:
        return await self.queries.run(name, params, timeout_s or self.settings.actors.query_timeout_s)

    def add_query(self, name: str, model: NodeReadModel) -> None:
        self.queries.add(name, model)

    # ---- what lives here ----

    def find(self, identity: ActorId) -> Activation | None:
        return self.catalog.live.get(identity)

    async def activate(self, identity: ActorId) -> Activation:
        """The local activation. Raises as `Catalog.activate`."""
        return await self.catalog.activate(identity)

    def activations(self, kind: str) -> Iterable[Actor[Any]]:
        """The local actors of `kind`."""
        return [one.actor for one in self.catalog.by_kind.get(kind, {}).values()]

    def counts(self) -> dict[str, int]:
        """How many activations of each kind live here."""
        return {kind: len(some) for kind, some in self.catalog.by_kind.items() if some}

    def activation_ids(self) -> Iterable[ActorId]:
        return list(self.catalog.live)

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> bool:
        return self.catalog.drop_duplicate(identity, winner)

    def owner(self, identity: ActorId) -> NodeAddress | None:
        """The owner of the actor's slot in the current view."""
        return self.view.table.owner(identity)

    # ---- view changes: the node calls these in its fixed order ----

    def on_view(self, view: View) -> None:
        """New table first, then the directory, then the catalog."""
        before, self.view = self.view, view
        self.directory.on_view(view)
        self.dispatcher.on_view()
        self.catalog.on_view()
        self.orphans.on_view(before, view)

    # ---- what an activation needs of its node ----

    def methods(self, cls: type[Actor[Any]]) -> dict[str, Method]:
        return self._methods[cls]

    def lost(self, activation: Activation, changes: int) -> None:
        self.catalog.lost(activation, changes)

    def turn_crashed(self, identity: ActorId, error: Exception) -> None:
        """A turn raised something untyped: a fault of the application."""
        self.metrics.turn_errors_total += 1
        log.error("turn crashed", actor=identity, exc_info=error)

    def discard(self, activation: Activation, error: GarrisonError) -> None:
        self.catalog.discard(activation, error)

    def timer_failed(self, identity: ActorId, name: str, error: BaseException) -> None:
        log.warning("timer turn failed", actor=identity, method=name, why=str(error))

    def wake_elsewhere(self, one: Activation) -> None:
        """`one` ended here because its slot moved; if it lives by itself, wake it there."""
        if one.had_timers or type(one.actor).lives_on:
            self.tell(one.id, "wake", ())
