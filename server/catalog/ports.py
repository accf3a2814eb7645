"""Ports between the parts of a node's catalog: what each part uses of another, and no more."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

from server.activations.activation import Activation
from server.activations.parcels import Arrival
from server.activations.turns import QueuedCall
from server.errors import GarrisonError
from server.ids import ActorId, NodeAddress
from server.transport.ports import Answer


class CatalogWatcher(Protocol):
    """Told which activations come and go here, while a succession copies them."""

    def born(self, activation: Activation) -> None: ...

    def gone(self, activation: Activation) -> None: ...


class Locations(Protocol):
    """The directory: where actors live whose slots are elsewhere than they."""

    def find(self, identity: ActorId) -> NodeAddress | None: ...

    async def wait_until_known(self, identity: ActorId) -> None: ...

    def register(self, identity: ActorId, address: NodeAddress) -> NodeAddress: ...

    def forget(self, identity: ActorId, address: NodeAddress, owner: NodeAddress | None) -> None: ...

    def announce(self, identity: ActorId, owner: NodeAddress, *, moved: bool = False) -> None: ...


class Population(Protocol):
    """The activations that live on this node, and whether there may be more."""

    @property
    def live(self) -> Mapping[ActorId, Activation]: ...

    @property
    def closed(self) -> GarrisonError | None:
        """The reason why this node activates nothing any more; None while it does."""
        ...


class Births(Population, Protocol):
    """The catalog, as calls see it."""

    async def activate(self, identity: ActorId, make: bool = True, revive: int = 0) -> Activation: ...

    def blank(self, identity: ActorId) -> Activation: ...


class Arriving(Population, Protocol):
    """The catalog, as arrivals from other nodes see it."""

    @property
    def room(self) -> int: ...

    def has(self, identity: ActorId) -> bool: ...

    def arrived(self, arrival: Arrival) -> None: ...


class Endings(Protocol):
    """The catalog, as a migration sees it."""

    def discard(self, activation: Activation, error: GarrisonError) -> None: ...

    def lost(self, activation: Activation, changes: int) -> None: ...


class ActorCalls(Protocol):
    """Calls to actors, wherever they live."""

    def ask(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Coroutine[Any, Any, Any]: ...

    def tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None: ...


class Confirming(Protocol):
    """Calls that are answered once their effect is stored."""

    def confirm(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Coroutine[Any, Any, Any]: ...


class ServedCalls(ActorCalls, Protocol):
    """Calls, and the service for those of other nodes."""

    def serve(self, peer: NodeAddress, payload: bytes) -> Answer: ...


class ForwardedCalls(ActorCalls, Protocol):
    """Calls, and those that follow an actor to its new node."""

    def pass_on(
        self, call: QueuedCall, identity: ActorId, send: Callable[[bytes, float], "asyncio.Future[bytes]"]
    ) -> None: ...

    def note_place(self, identity: ActorId, address: NodeAddress) -> None: ...


class Claims(Protocol):
    """The claimer, as arrivals see it."""

    @property
    def newest_token(self) -> int: ...


class Moves(Protocol):
    """The migrator, as rebalancing sees it."""

    async def move(self, activations: Iterable[Activation], to: NodeAddress) -> int: ...
