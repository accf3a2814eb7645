"""The context of an actor: everything that an actor may ask of the activation that runs it.

An author calls the methods of `Actor`; those call these. The engine's `Activation` is one implementation, a
few lines in a test are another.
"""

from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, Protocol

import msgspec

from server.actors.guard import OPEN, Guard
from server.ids import ActorId, NodeAddress, NodeId
from server.settings import Settings
from server.wire.messages import Push


class EventBatch(msgspec.Struct, frozen=True, array_like=True):
    """Durable events `first_seq` … of a logged actor, as msgpack; `next_seq` is the log's
    durable end (the number that the next event will get)."""

    next_seq: int
    first_seq: int
    events: list[msgspec.Raw]
    guard: Guard = OPEN
    mark: str = ""
    """The hash of the log after the last of them; empty where it is not at hand."""
    public_seq: int = -1
    """The number of the first event that those who watch with a delay may not see yet; -1: they may see all."""


class Attached(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `attach`. `next_seq` is the log's durable end; `finished`: it stays so, no event will
    ever follow."""

    next_seq: int
    finished: bool
    guard: Guard = OPEN
    public_seq: int = -1
    """As in `EventBatch`."""


class ActorLog(Protocol):
    """The log of a logged actor, as the actor and read models see it."""

    @property
    def next_seq(self) -> int:
        """The number that the next event will get."""
        ...

    @property
    def durable_seq(self) -> int:
        """The number that the next *durable* event will get: events before it are in the store."""
        ...

    def append(self, cls: Any, state: Any, event: Any, command: tuple[str, int] | None) -> Any:
        """Append `event` as part of the turn under way. Returns the state after it."""
        ...

    def read(self, from_seq: int) -> Awaitable[EventBatch]:
        """Durable events from `from_seq`, at most 512. Raises the store's `Unavailable`."""
        ...

    def recent(self, count: int) -> EventBatch:
        """The newest durable events that are in memory, at most `count` and 512. Never waits."""
        ...

    def has_mark(self, seq: int, mark: str) -> Awaitable[bool]:
        """Whether the log had that hash after durable event `seq`. Raises the store's `Unavailable`."""
        ...

    def attach(self, node: NodeAddress) -> Attached:
        """Stream new durable events to `node` for the next ten seconds."""
        ...

    @property
    def guard(self) -> Guard: ...

    def narrow(self) -> None:
        """Raise the guard: somebody may watch no more from this turn on."""
        ...

    @property
    def public_seq(self) -> int:
        """The number of the first event that those who watch with a delay may not see yet; -1: they may see all."""
        ...

    @property
    def public_state(self) -> Any:
        """The state before that event; None where it is not known, or they may see all."""
        ...

    def public_in_s(self) -> float:
        """Seconds until everything up to the last boundary may be seen by those who watch with a delay."""
        ...

    def delay(self, delay_s: float) -> None:
        """See `LoggedActor.delay_watching`."""
        ...


class Context(Protocol):
    """See the module's head."""

    @property
    def id(self) -> ActorId: ...

    @property
    def key(self) -> str: ...

    @property
    def version(self) -> int:
        """How often the durable state has changed, for ever."""
        ...

    @property
    def epoch(self) -> int:
        """The number of the claim by which this node owns the actor; 0 for one that is not stored."""
        ...

    @property
    def node(self) -> NodeId:
        """The name of the node that the actor lives on now."""
        ...

    def is_stored(self, version: int) -> bool:
        """Tell whether the state with `version`, or a newer one, is in the store."""
        ...

    @property
    def settings(self) -> Settings:
        """The settings of the node."""
        ...

    # ---- time and chance ----

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def wall_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    def chance(self, bits: int) -> int:
        """See `Actor.chance`."""
        ...

    def set_timer(self, name: str, delay_s: float, args: tuple[Any, ...]) -> None:
        """Run own method `name(*args)` as a turn in `delay_s`; a timer of that name is moved."""
        ...

    def cancel_timer(self, name: str) -> None: ...

    async def remind(self, name: str, due_ms: int) -> None:
        """See `Actor.remind`."""
        ...

    async def unremind(self, name: str) -> None:
        """See `Actor.unremind`."""
        ...

    def deliver(self, name: str, due_ms: int) -> bool | Awaitable[bool]:
        """Run reminder `name` that is due: see `Actor.reminded`."""
        ...

    # ---- outputs and calls ----

    def tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        """Call another actor after this turn, without an answer; at most once."""
        ...

    def push(self, subject: str, message: Push) -> None:
        """Send `message` to the sessions of player `subject` after this turn."""
        ...

    def end_sessions(
        self, subject: str, code: int, reason: str, issued_before_ms: int = 0, every_role: bool = False
    ) -> None:
        """End the sessions of player `subject` after this turn; see `Outlet.end_sessions`."""
        ...

    def end_session(self, subject: str, session: str, at: NodeAddress, code: int, reason: str) -> None:
        """End one session of player `subject`, which is or was at node `at`, after this turn."""
        ...

    def publish_latest(self, source: Any, key: str, value: bytes | None) -> None:
        """Send a difference of `source`, a `server.actors.latest.LatestSource`, to all who watch, after this turn."""
        ...

    def show(self) -> None:
        """See `Actor.show`."""
        ...

    def withdraw(self) -> None:
        """See `Actor.withdraw`."""
        ...

    def ask(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
        """The answer of another actor, within the deadline of the turn under way. Raises what the method
        raises, and the errors of a call."""
        ...

    async def query_store(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """See `Actor.query_store`."""
        ...

    # ---- life ----

    def release(self) -> None:
        """Ask to be deactivated once idle."""
        ...

    def stay(self) -> None:
        """Take `release` back."""
        ...

    def log(self) -> ActorLog:
        """The actor's log. Raises `NotFound` for an actor that is not logged."""
        ...
