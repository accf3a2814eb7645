"""The actor system of one node: `server/node.py` builds it, and everything above calls it.

    system.ask(id, method, args)      an answer from an actor, wherever it lives
    system.ask_now(...)               the same without a coroutine where it lives here and is idle
    system.tell(id, method, args)     no answer, at most once
    system.query(name, params)        a read model over all nodes

It wires the parts of the catalog and is a facade before them; rules of when and where are theirs. It is also the
`ActivationNode` of every activation here, and the source of the directory's registrations.
"""

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any

import structlog

from server.activations.activation import Activation
from server.activations.event_log import narrowings
from server.activations.parcels import Arrival
from server.activations.ports import Asking, EventObserver, Observer
from server.activations.timer_gate import TimerGate
from server.actors.actor import Actor
from server.actors.latest import sources
from server.actors.methods import Method, MethodTable, methods_of
from server.actors.outlet import Outlet
from server.catalog import bequest
from server.catalog.arrivals import Arrivals
from server.catalog.bequest import SystemBequest
from server.catalog.catalog import Catalog
from server.catalog.census import KindCensus
from server.catalog.departure import Departure
from server.catalog.dispatcher import Dispatcher
from server.catalog.listings import ActorsHere
from server.catalog.migration import Migrator
from server.catalog.misplaced import Misplaced
from server.catalog.orphans import Orphans
from server.catalog.pruning import Pruning
from server.catalog.queries import NodeReadModel, Queries, QueryResult
from server.catalog.rebalance import Rebalance
from server.catalog.reminders import Reminders
from server.catalog.runs_over import RunsOver
from server.catalog.services import CurrentView, Services, StorageParts
from server.catalog.standby import Standby
from server.catalog.strays import Strays
from server.catalog.telling import Telling
from server.cluster.view import View
from server.directory.directory import Directory
from server.errors import BadInput, GarrisonError, Moved, Unavailable
from server.ids import ActorId, Incarnation, NodeAddress, NodeId, kind_of
from server.runtime.logs import LoggedOften
from server.storage.durability import Durability

log = structlog.get_logger(__name__)


class ActorSystem:
    """See the module's head. `outlet` is set by the node before it starts."""

    outlet: Outlet

    def __init__(self, services: Services, storage: StorageParts) -> None:
        self.services = services
        self.turn_number = 0
        self.app, self.settings, self.clock, self.rng = services.app, services.settings, services.clock, services.rng
        self.metrics, self.supervisor, self.transport = services.metrics, services.supervisor, services.transport
        self.store, self.logs, self.claimer = services.store, services.logs, storage.claimer
        self.store_queries = services.store_queries
        self.takeover, self.durability = storage.takeover, storage.durability
        self.write_behind, self.group_commit = storage.write_behind, storage.group_commit
        self.timer_gate = TimerGate(storage.lease, services.clock, services.rng, services.metrics)
        self._standby: Standby | None = None
        self._set_aside: tuple[Outlet, Durability]
        """The real outlet and durability, in standby."""
        self._crashed_turns = LoggedOften(lambda **fields: log.error("turn crashed", **fields))
        self._refused_timers = LoggedOften(lambda **fields: log.warning("timer turn failed", **fields))
        self.current = current = CurrentView(NodeAddress(NodeId(services.settings.node), Incarnation(0)), View(()))
        self._methods: MethodTable = {cls: methods_of(cls) for cls in services.app.actors}
        self._observers: dict[str, list[Observer]] = {}
        self._event_observers: dict[str, list[EventObserver]] = {}
        self._noted: set[str] = set()
        self.directory = Directory(
            services.transport, services.settings.actors, services.clock, services.rng, services.supervisor, self
        )
        self.misplaced = Misplaced(current, services.metrics)
        self.catalog = catalog = Catalog(
            services, current, node=self, storage=storage, directory=self.directory, misplaced=self.misplaced
        )
        self.dispatcher = Dispatcher(
            services, current, catalog=catalog, directory=self.directory, methods=self._methods
        )
        self.ask_now = self.dispatcher.ask_now  # no frame of its own: the hot path of every session
        self.migrator = Migrator(
            services, current, storage=storage, catalog=catalog, directory=self.directory, calls=self.dispatcher
        )
        self.arrivals = Arrivals(
            services,
            current,
            node=self,
            catalog=catalog,
            expected=catalog.expected,
            calls=self.dispatcher,
            claims=storage.claimer,
        )
        self.rebalance = Rebalance(services, current, catalog=catalog, misplaced=self.misplaced, migrator=self.migrator)
        self.departure = Departure(services, current, catalog=catalog, rebalance=self.rebalance, calls=self.dispatcher)
        for kind in catalog.listings.kinds:
            self._observers.setdefault(kind, []).append(catalog.listings.changed)
        here = ActorsHere(self._actor, self.activations, catalog.listings)
        self.queries = Queries(services, current, actors=here)
        self.reminders = Reminders(services, current, catalog=catalog, calls=self.dispatcher)
        self.orphans = Orphans(services, current, catalog=catalog, calls=self.dispatcher)
        self.telling = Telling(services, calls=self.dispatcher, methods=self._methods)
        self.look_for_facts = self.telling.look
        self.note_retiring = catalog.note_retiring
        self.strays = Strays(services, current, catalog=catalog, calls=self.dispatcher)
        self.runs_over = RunsOver(services, current, catalog=catalog, calls=self.dispatcher)
        self.pruning = Pruning(services, current, storage=storage, calls=self.dispatcher)

    def observe(self, kind: str, observer: Observer) -> None:
        """Tell `observer` each change of an actor of `kind` on this node, at the end of the turn that made it; see
        `server/activations/observed.py`. Before `start` only: activations take their observers at birth."""
        assert not self.current.me.incarnation, "observers are registered before the start"
        assert self.app.actor(kind) is not None, f"no actor kind {kind!r}"
        self._observers.setdefault(kind, []).append(observer)

    def observe_events(self, kind: str, observer: EventObserver, *, noted: bool = False) -> None:
        """Tell `observer` the events of logged actors of `kind` on this node, once they are durable. Before `start`.
        `noted`: the store notes of each log from which event on this node was told (`persistence/engine/recorders.py`).
        """
        assert not self.current.me.incarnation, "observers are registered before the start"
        if noted:
            self._noted.add(kind)
        self._event_observers.setdefault(kind, []).append(observer)

    def census(self, kind: str) -> KindCensus:
        """The names of all actors of `kind` that will live here, to be walked through. Before `start`."""
        assert not self.current.me.incarnation, "a census is taken from the start"
        return self.catalog.censuses.setdefault(kind, KindCensus())

    def begin(self, me: NodeAddress, view: View | None = None) -> None:
        """Be `me` from here on, without any task. `view`: that of the predecessor, where this process is its heir."""
        self.current.me = me
        if view is not None:
            self.current.view = view
        self.directory.begin(me, view)

    def start(self, me: NodeAddress) -> None:
        """Begin this run, whose address is known now: collect, rebalance, look for reminders and orphans."""
        if self.current.me != me:
            self.begin(me)
        self.supervisor.spawn(self.catalog.collect(), "collect")
        self.supervisor.spawn(self.rebalance.run(), "rebalance")
        if any(cls.durability == "written_through" for cls in self.app.actors):
            self.supervisor.spawn(self.write_behind.run_through(), "written-through")
        if self.reminders.wanted:
            self.supervisor.spawn(self.reminders.run(), "reminders")
        if self.orphans.wanted:
            self.supervisor.spawn(self.orphans.run(), "orphans")
        if self.strays.wanted:
            self.supervisor.spawn(self.strays.run(), "strays")
        if self.runs_over.wanted:
            self.supervisor.spawn(self.runs_over.run(), "runs that are over")
        if self.pruning.wanted:
            self.supervisor.spawn(self.pruning.run(), "retention")

    async def stop(self, deadline: float) -> None:
        """End all activations: moved, or stored and released. Returns by `deadline`; `unstored` counts what
        was acknowledged and did not get into the store."""
        await self.departure.run(deadline)

    # ---- going on in another process (docs/succession.md) ----

    def stand_by(self) -> None:
        """Become able to take activations of the predecessor: nothing of them leaves, and no turn begins, until
        `serve_now`. After `outlet` is set, and before anything arrives."""
        assert self._standby is None, "standby begins once"
        self._standby = standby = Standby(self.catalog, self.dispatcher, self.outlet, self.durability)
        self._set_aside = self.outlet, self.durability
        self.outlet, self.durability = standby.outlet, standby.durability
        self.tell, self.ask = standby.tell, standby.ask  # type: ignore[method-assign]
        self.hold()

    def receive_copy(self, arrival: Arrival) -> None:
        """In standby: let an activation of the predecessor live here, instead of an older copy if there is one. Raises
        what its hooks raise: there is none then."""
        assert self._standby is not None, "copies come in standby only"
        self._standby.receive(arrival)

    def withdraw_copy(self, identity: ActorId) -> None:
        """In standby: forget the copy of an activation that has ended at the predecessor. Idempotent."""
        assert self._standby is not None, "copies go in standby only"
        self._standby.withdraw(identity)

    def leave_to_store(self, activation: Activation) -> None:
        """As a predecessor at rest: end a durable activation that cannot be copied, all of which is in the store. Who
        lists or watches it hears that, by the bequests; the next call makes it again, here or in the heir. Raises
        `Unavailable` for another one."""
        if not (activation.durable and activation.copyable):
            raise Unavailable(f"{activation.id} is not in the store alone")
        self.catalog.discard(activation, Moved())

    def serve_now(self) -> None:
        """This process is the node, and its lease holds: what hooks have sent leaves, timers ring, turns begin, and
        what goes on by itself may."""
        standby, self._standby = self._standby, None
        assert standby is not None, "standby ends once"
        self.outlet, self.durability = self._set_aside
        del self.tell, self.ask
        standby.end()
        self.go_on()

    def bequeath(self) -> bytes:
        """All of this system, beside its activations and `directory`, for its heir; see `bequest.py`."""
        missing, looks = self.runs_over.plans()
        return bequest.encode(
            SystemBequest(
                self.me,
                self.claimer.newest_token,
                self.migrator.number,
                self.arrivals.over(),
                narrowings.newest,
                sources.newest,
                self.orphans.unsure,
                missing,
                looks,
            )
        )

    def inherit(self, data: bytes) -> None:
        """Go on from what the predecessor's system was, after `begin`. Raises `BadInput`."""
        it = bequest.decode(data)
        if it.me != self.me:
            raise BadInput("the actor system of another run")
        self.claimer.go_on_after(it.token)
        self.migrator.number = max(self.migrator.number, it.migration)
        self.arrivals.know(it.migrations_here)
        narrowings.raise_to(it.guard)
        sources.raise_to(it.source)
        self.orphans.wake_again(it.unsure)
        self.runs_over.go_on_with(it.missing, it.looks)

    def hold(self) -> None:
        """Begin nothing new of what goes on by itself, until `go_on`: no timer rings, nothing is collected, moved,
        taken from other nodes, woken, reminded, told, deleted. Calls are served. Idempotent."""
        self.current.resting = True
        self.timer_gate.close()
        self.telling.hold()
        self.directory.hold()

    def go_on(self) -> None:
        """Do what has waited since `hold`. Idempotent."""
        self.current.resting = False
        self.timer_gate.open()
        self.telling.go_on()
        self.directory.go_on()

    @property
    def under_way(self) -> str:
        """The work on activations here that must end before they go on in another process; empty where there is
        none. Their own turns are not looked at."""
        counts = {
            "claims": self.claimer.under_way,
            "activations that are loaded": self.catalog.loading,
            "migrations": self.migrator.under_way,
            "migrations to this node": self.arrivals.under_way,
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    @property
    def moving(self) -> int:
        """Migrations to and from other nodes that are not over: while there are any, those have to be heard."""
        return self.migrator.under_way + self.arrivals.under_way

    @property
    def unanswered(self) -> str:
        """Words to others without an answer yet, which are said again if none comes: nothing needs to wait for them,
        but where they are answered in time nothing is said twice. Empty where there are none."""
        counts = {
            "facts": self.telling.under_way,
            "reminders": self.reminders.under_way,
            "wakes": self.orphans.under_way + self.strays.under_way,
            "directory words": self.directory.under_way,
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    @property
    def unstored(self) -> int:
        """Acknowledged changes that a stop could not store in time."""
        return self.departure.unstored

    # ---- calls ----

    def ask(
        self,
        identity: ActorId,
        name: str,
        args: tuple[Any, ...],
        *,
        caller: Asking | None = None,
        timeout_s: float | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """The answer of `identity.name(*args)`. Errors: see `Dispatcher.call`."""
        return self.dispatcher.ask(identity, name, args, caller=caller, timeout_s=timeout_s)

    def tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        """Call without an answer, at most once; dropped and counted above a bound."""
        self.dispatcher.tell(identity, name, args)

    async def query(self, name: str, params: dict[str, Any], timeout_s: float | None = None) -> QueryResult:
        """The rows of read model `name` on every node. Raises `NotFound`, `BadInput`."""
        return await self.queries.run(name, params, timeout_s or self.settings.actors.query_timeout_s)

    async def pin_log(self, identity: ActorId, pinned: bool) -> bool:
        """Have the stored log of `identity` kept for good, or no more. False where there is none."""
        return await self.logs.pin_log(kind_of(identity), identity, pinned)

    def add_query(self, name: str, model: NodeReadModel) -> None:
        """Answer queries of `name` with `model` on this node."""
        self.queries.add(name, model)

    # ---- activations that live here ----

    def find(self, identity: ActorId) -> Activation | None:
        """The local activation, if there is one."""
        return self.catalog.live.get(identity)

    async def activate(self, identity: ActorId) -> Activation:
        """The local activation. Raises as `Catalog.activate`."""
        return await self.catalog.activate(identity)

    def activations(self, kind: str) -> Iterable[Actor[Any]]:
        """The local actors of `kind`."""
        return [activation.actor for activation in self.catalog.live_by_kind.get(kind, {}).values()]

    def _actor(self, identity: ActorId) -> Actor[Any] | None:
        activation = self.catalog.live.get(identity)
        return activation.actor if activation is not None else None

    def counts(self) -> dict[str, int]:
        """How many activations of each kind live here."""
        return {kind: len(some) for kind, some in self.catalog.live_by_kind.items() if some}

    def activation_ids(self) -> Iterable[ActorId]:
        """See `server.directory.ports.ActivationSource`."""
        return list(self.catalog.live)

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> bool:
        """See `server.directory.ports.ActivationSource`."""
        return self.catalog.drop_duplicate(identity, winner)

    # ---- the view ----

    @property
    def me(self) -> NodeAddress:
        """The address of this run."""
        return self.current.me

    @property
    def view(self) -> View:
        """The view that this node has now."""
        return self.current.view

    def owner(self, identity: ActorId) -> NodeAddress | None:
        """The owner of the actor's slot in the current view."""
        return self.current.view.table.owner(identity)

    def take_view(self, view: View) -> None:
        """Let slots, placement and look-ups go by `view`. The other steps of a change: `server/view_change.py`."""
        self.current.view = view

    # ---- what an activation needs of its node (`server.activations.ports.ActivationNode`) ----

    def methods(self, cls: type[Actor[Any]]) -> Mapping[str, Method]:
        """The methods of `cls` that others may call, by name."""
        return self._methods[cls].remote

    def timer_methods(self, cls: type[Actor[Any]]) -> Mapping[str, Method]:
        """The methods of `cls` that its timers may run, by name."""
        return self._methods[cls].own

    def observers(self, kind: str) -> Sequence[Observer]:
        """The observers of an actor kind."""
        return self._observers.get(kind, ())

    def notes_recorder(self, kind: str) -> bool:
        """Whether the store is to note that this node records the events of an actor of `kind`."""
        return kind in self._noted

    def event_observers(self, kind: str) -> Sequence[EventObserver]:
        """The observers of a logged kind's durable events."""
        return self._event_observers.get(kind, ())

    def lost(self, activation: Activation, changes: int) -> None:
        """Drop `activation`, which another owner has: `changes` were acknowledged and are not stored."""
        self.catalog.lost(activation, changes)

    def discard(self, activation: Activation, error: GarrisonError) -> None:
        """Drop `activation` without storing; whoever waits for it gets `error`."""
        self.catalog.discard(activation, error)

    def turn_crashed(self, identity: ActorId, error: Exception) -> None:
        """Note that a turn raised something untyped: a fault of the application."""
        self.metrics.turn_errors_total += 1
        self._crashed_turns.note(actor=identity, exc_info=error)

    def timer_failed(self, identity: ActorId, name: str, error: BaseException) -> None:
        """Note that the turn of timer `name` failed."""
        self.metrics.timers_refused_total += 1
        self._refused_timers.note(actor=identity, method=name, why=str(error))
