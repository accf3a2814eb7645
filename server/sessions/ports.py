"""The port of sessions to their node: its actors, its view, its drivers.

`server.catalog.system.ActorSystem` has all of `SessionSystem`; tests pass small objects of their own.
"""

import random
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from server.actors.app import App
from server.cluster.view import View
from server.eventlog.ports import LogStore
from server.ids import ActorId, NodeAddress
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.storage.queries import StoreQueries
from server.transport.ports import Transport


class NodeView(Protocol):
    """This node's address, the members that it believes in, and who owns an actor's slot."""

    @property
    def me(self) -> NodeAddress: ...

    @property
    def view(self) -> View: ...

    def owner(self, identity: ActorId) -> NodeAddress | None:
        """The owner of the actor's slot in the current view; None where no member is up."""
        ...


class LocalActor(Protocol):
    """An activation on this node, as far as a session bound to it is concerned."""

    pins: int
    """Sessions that are bound to it: a pinned activation is not collected."""

    @property
    def dropped(self) -> bool:
        """True once it has ended here: it must not be called any more."""
        ...

    def call(self, name: str, args: tuple[Any, ...]) -> Any:
        """The result of the method, or a future of it. Raises what the turn raises."""
        ...


class RowsOfNodes(Protocol):
    """The result of a fan-out query: rows of the nodes that answered in time, names of the others."""

    @property
    def rows(self) -> list[Any]: ...

    @property
    def missing(self) -> list[str]: ...


class ClientCalls(Protocol):
    """Calls of actors, wherever they live. Errors are those of `server.catalog.dispatcher.Dispatcher.ask`."""

    def ask_now(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        """The result where the actor lives here and the turn ends at once, otherwise a future of it."""
        ...

    async def ask(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        """The answer of `identity.name(*args)`."""
        ...

    def tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        """Call without an answer, at most once."""
        ...


class StreamActors(NodeView, ClientCalls, Protocol):
    """Actors whose events are watched."""


class BoundActors(NodeView, ClientCalls, Protocol):
    """Actors that sessions are bound to."""

    def find(self, identity: ActorId) -> LocalActor | None:
        """The activation of `identity` on this node, if there is one."""
        ...


class QueriedActors(ClientCalls, Protocol):
    """Actors and fan-out queries, for clients' requests."""

    async def query(self, name: str, params: dict[str, Any]) -> RowsOfNodes:
        """Run read model `name` on every node."""
        ...


class SessionSystem(BoundActors, QueriedActors, Protocol):
    """The actor system as the gateway gets it, which gives each of its parts what that part needs."""

    @property
    def app(self) -> App: ...


def _as_it_is(handler: Any) -> Any:
    return handler


class GatewayDrivers(msgspec.Struct, frozen=True):
    """The outside of a gateway: time, chance, counters, tasks, links to other nodes, event logs as they are stored, and
    named queries of the store."""

    clock: Clock
    rng: random.Random
    metrics: Metrics
    supervisor: Supervisor
    transport: Transport
    logs: LogStore
    store_queries: StoreQueries
    timed: Callable[[Any], Any] = _as_it_is
    """The handler that sessions get for that of their requests: one that notes the time, or the very same."""
