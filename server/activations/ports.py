"""Ports of an activation: what it needs of its node, and what its own parts (log, reminders) need of it.

`server.catalog.system.ActorSystem` is the node of every activation outside unit tests.
"""

import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from server.activations.timer_gate import TimerGate
from server.actors.actor import Actor
from server.actors.methods import Method
from server.actors.outlet import Outlet
from server.errors import GarrisonError
from server.eventlog.ports import LogStore
from server.ids import ActorId, Epoch, NodeAddress
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import Settings
from server.storage.durability import Durability
from server.storage.group_commit import GroupCommit
from server.storage.ports import Store
from server.storage.queries import StoreQueries

Observer = Callable[[ActorId, str, int, Any, Any], None]
"""`observer(id, kind, version, before, after)`: told at the end of a turn that changed the state of an actor."""
EventObserver = Callable[[ActorId, int, Sequence[Any], Any], None]
"""`observer(id, first_seq, entries, state)`: told of events of a logged actor once they are durable, as entries of its
log, with a state that has them."""
Chain = tuple[ActorId, ...]


class Asking(Protocol):
    """An activation whose turn asks another actor: the call chain so far, and until when it waits."""

    @property
    def id(self) -> ActorId: ...

    @property
    def chain(self) -> Chain: ...

    @property
    def deadline(self) -> float: ...


class ActivationNode(Protocol):
    """The node of an activation, as far as the activation is concerned."""

    turn_number: int
    """Turns so far of all activations here, and looks for those that are unused: each takes the next number."""

    @property
    def me(self) -> NodeAddress: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def rng(self) -> random.Random: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def supervisor(self) -> Supervisor: ...

    @property
    def store(self) -> Store:
        """The store, for reminders."""
        ...

    @property
    def logs(self) -> LogStore:
        """The log store, for events that are not in memory any more."""
        ...

    @property
    def store_queries(self) -> StoreQueries: ...

    @property
    def durability(self) -> Durability: ...

    @property
    def group_commit(self) -> GroupCommit: ...

    @property
    def timer_gate(self) -> TimerGate: ...

    @property
    def outlet(self) -> Outlet: ...

    def methods(self, cls: type[Actor[Any]]) -> Mapping[str, Method]:
        """The methods of `cls` that others may call, by name."""
        ...

    def timer_methods(self, cls: type[Actor[Any]]) -> Mapping[str, Method]:
        """The methods of `cls` that its timers may run, by name."""
        ...

    def observers(self, kind: str) -> Sequence[Observer]:
        """The observers of an actor kind; see `observed.py`."""
        ...

    def notes_recorder(self, kind: str) -> bool:
        """Whether the store is to note that this node records the events of an actor of `kind`."""
        ...

    def event_observers(self, kind: str) -> Sequence[EventObserver]:
        """The observers of a logged kind's durable events."""
        ...

    def ask(
        self, identity: ActorId, name: str, args: tuple[Any, ...], *, caller: Asking | None = None
    ) -> Coroutine[Any, Any, Any]:
        """The answer of an actor, wherever it lives; as part of `caller`'s turn, if there is one."""
        ...

    def tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        """Call without an answer, at most once."""
        ...

    def lost(self, activation: Any, changes: int) -> None:
        """Drop `activation`, which another owner has: `changes` were acknowledged and are not stored."""
        ...

    def discard(self, activation: Any, error: GarrisonError) -> None:
        """Drop `activation` without storing; whoever waits for it gets `error`."""
        ...

    def note_retiring(self, activation: Any) -> None:
        """Note that `activation` asks to end once idle, or takes that back."""
        ...

    def look_for_facts(self, activation: Any) -> None:
        """Tell what is open of `activation`, an actor with facts: more of it is in the store."""
        ...

    def turn_crashed(self, identity: ActorId, error: Exception) -> None:
        """Note that a turn raised something untyped: a fault of the application."""
        ...

    def timer_failed(self, identity: ActorId, name: str, error: BaseException) -> None:
        """Note that the turn of timer `name` failed."""
        ...


class Entity(Protocol):
    """An activation, as its reminders see it."""

    @property
    def id(self) -> ActorId: ...

    @property
    def epoch(self) -> Epoch: ...

    @property
    def version(self) -> int: ...

    @property
    def stored_version(self) -> int: ...

    @property
    def boundary(self) -> Any:
        """The state at the end of the last good turn."""
        ...

    @property
    def actor(self) -> Actor[Any]: ...

    def fenced(self) -> None:
        """End the activation: another owner has it."""
        ...


class LogOwner(Entity, Protocol):
    """An activation, as its event log sees it. Neither writes the other's fields."""

    @property
    def kind(self) -> str: ...

    @property
    def dropped(self) -> bool: ...

    def committed(self, version: int) -> None:
        """Note that everything up to `version` is in the store: answers that wait for it leave."""
        ...

    def overdue(self) -> None:
        """Tell those whose answers have waited too long for the store that it is away."""
        ...
