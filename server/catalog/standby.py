"""Standby: activations live in this process, and nothing of them leaves it, nor begins.

The heir of a node (docs/succession.md) takes the activations of its predecessor, with their epochs and at the same
address, while that one still serves. Their hooks run as they do after a migration; what they send is kept, in order and
for each activation, until this process is the node. Their timers wait at the closed gate. No turn begins: there is no
transport and no gateway yet. What the predecessor has said of them is true: so nobody is told that they are here.

A copy that is too old is replaced by a newer one, or withdrawn where the activation has ended: what its hooks have sent
is forgotten, as if it had never been.

Nobody else pays for this: what differs in standby are attributes of the actor system, which are put back.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import structlog

from server.activations.activation import Activation
from server.activations.parcels import Arrival
from server.activations.ports import Asking
from server.actors.guard import Guard
from server.actors.outlet import Outlet
from server.actors.pictures import ShownActor
from server.catalog.catalog import Catalog
from server.catalog.dispatcher import Dispatcher
from server.catalog.ports import Locations
from server.errors import GarrisonError, Moved
from server.ids import ActorId, NodeAddress
from server.storage.durability import Durability
from server.storage.write_behind import Flushable, WrittenThrough
from server.wire.messages import Push

log = structlog.get_logger(__name__)
MAX_KEPT: Final = 100_000
"""Outputs of hooks that are kept, at most; above that they are dropped and counted."""
NOBODY: Final = ActorId("")


class Standby:
    """See the module's head. `end` makes the node whole; it is called once, when the lease holds."""

    def __init__(self, catalog: Catalog, dispatcher: Dispatcher, outlet: Outlet, durability: Durability) -> None:
        self._catalog, self._dispatcher, self._durability = catalog, dispatcher, durability
        self._directory = catalog.directory
        self._kept: dict[ActorId, list[Callable[[], None]]] = {}
        self._changed: dict[ActorId, tuple[Any, Callable[[Any], bool]]] = {}
        """Activations whose hooks have changed their state, and how that is accepted."""
        self._waiting: dict[ActorId, Activation] = {}
        """Activations with turns of timers in their mailboxes, which stay frozen."""
        self._arriving = NOBODY
        self._count = 0
        self.dropped = 0
        self._ended = asyncio.Event()
        self._kept_outlet = _KeptOutlet(outlet, self.keep)
        self.outlet: Outlet = self._kept_outlet
        self.durability: Durability = _KeptDurability(self._changed)
        catalog.directory = _Silent()

    # ---- copies ----

    def receive(self, arrival: Arrival) -> None:
        """Let an activation of the predecessor live here, instead of an older copy if there is one. Raises what its
        hooks raise: there is none then."""
        activation = arrival.activation
        self.withdraw(activation.id)
        self._arriving = activation.id
        try:
            self._catalog.arrived(arrival)
        except BaseException:
            self._forget(activation.id)
            raise
        finally:
            self._arriving = NOBODY
        if activation.queued():
            self._waiting[activation.id] = activation
        else:
            activation.thaw()

    def withdraw(self, identity: ActorId) -> None:
        """Forget the copy of an activation, if there is one: it has ended, or a newer one comes."""
        activation = self._catalog.live.get(identity)
        self._forget(identity)
        if activation is not None:
            activation.hand_over()
            self._catalog.discard(activation, Moved())

    def _forget(self, identity: ActorId) -> None:
        self._count -= len(self._kept.pop(identity, ()))
        self._kept_outlet.public_ends.pop(identity, None)
        self._changed.pop(identity, None)
        self._waiting.pop(identity, None)

    # ---- what hooks send ----

    def keep(self, output: Callable[[], None], of: ActorId = NOBODY) -> None:
        """Do `output` at the end of standby. `of`: the activation whose it is, if it is not the arriving one."""
        if self._ended.is_set():
            output()  # a turn in standby made it, and its change is durable only now
            return
        if self._count >= MAX_KEPT:
            self.dropped += 1
            return
        self._count += 1
        self._kept.setdefault(of or self._arriving, []).append(output)

    def tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        """See `ActorSystem.tell`."""
        self.keep(partial(self._dispatcher.tell, identity, name, args))

    async def ask(
        self,
        identity: ActorId,
        name: str,
        args: tuple[Any, ...],
        *,
        caller: Asking | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """See `ActorSystem.ask`: asks once standby is over."""
        await self._ended.wait()
        return await self._dispatcher.ask(identity, name, args, caller=caller, timeout_s=timeout_s)

    # ---- the end ----

    def end(self) -> None:
        """Let leave what was kept, and turns begin. The caller has put back what it had replaced."""
        if self.dropped:
            log.error("outputs of hooks were dropped in standby", count=self.dropped)
        self._catalog.directory = self._directory
        for identity, (activation, accept) in self._changed.items():
            try:
                self._accept(activation, accept)
            except GarrisonError as error:
                log.warning("a hook's change was not taken", actor=identity, why=error.message)
                self._kept.pop(identity, None)
                self._waiting.pop(identity, None)
                self._catalog.discard(activation, error)
        kept, self._kept = self._kept, {}
        self._ended.set()
        for outputs in (*kept.values(), [*self._kept_outlet.public_ends.values()]):
            for output in outputs:
                try:
                    output()
                except Exception as error:
                    log.error("an output kept in standby fails", exc_info=error)
        for activation in self._waiting.values():
            activation.thaw()

    def _accept(self, activation: Any, accept: Callable[[Any], bool]) -> None:
        """Accept the change that a hook made as if its turn ended now: its answers are held until then."""
        activation.version -= 1
        try:
            at_once = accept(self._durability)
        finally:
            activation.version += 1
        if at_once:
            activation.released(activation.version)


class _KeptDurability:
    """Takes each change of a hook, and has it accepted at the end of standby: its outputs are held until then."""

    at_once = False

    def __init__(self, changed: dict[ActorId, tuple[Any, Callable[[Any], bool]]]) -> None:
        self._changed = changed

    def accept(self, entity: Flushable, state: Any) -> bool:
        """See `Durability.accept`."""
        self._changed[entity.id] = (entity, lambda durability: durability.accept(entity, state))
        return False

    def accept_through(self, entity: WrittenThrough) -> None:
        """See `Durability.accept_through`."""

        def accept(durability: Durability) -> bool:
            durability.accept_through(entity)
            return False

        self._changed[entity.id] = (entity, accept)

    def accept_logged(self) -> None:
        """See `Durability.accept_logged`: the group commit, which does not run yet, stores it."""


class _KeptOutlet:
    """Keeps what activations send to clients. Who is shown goes on to the presence engine, which is in standby too."""

    def __init__(self, outlet: Outlet, keep: Callable[..., None]) -> None:
        self._outlet, self._keep = outlet, keep
        self.public_ends: dict[ActorId, Callable[[], None]] = {}
        """The newest word of each log about what is public, which rises with time: the last one says all."""

    def push(self, subject: str, message: Push) -> None:
        self._keep(partial(self._outlet.push, subject, message))

    def end_sessions(
        self, subject: str, code: int, reason: str, issued_before_ms: int = 0, every_role: bool = False
    ) -> None:
        self._keep(partial(self._outlet.end_sessions, subject, code, reason, issued_before_ms, every_role))

    def end_session(self, subject: str, session: str, at: NodeAddress, code: int, reason: str) -> None:
        self._keep(partial(self._outlet.end_session, subject, session, at, code, reason))

    def publish_latest(
        self, watchers: Sequence[NodeAddress], topic: ActorId, order: tuple[int, int], key: str, value: bytes | None
    ) -> None:
        self._keep(partial(self._outlet.publish_latest, watchers, topic, order, key, value), topic)

    def publish(
        self,
        watchers: Sequence[NodeAddress],
        topic: ActorId,
        first_seq: int,
        events: Sequence[bytes],
        guard: Guard,
        mark: str,
        public_seq: int = -1,
    ) -> None:
        told = partial(self._outlet.publish, watchers, topic, first_seq, events, guard, mark, public_seq)
        if events:
            self._keep(told, topic)
        else:
            self.public_ends[topic] = told

    def show(self, identity: ActorId, shown: ShownActor) -> None:
        self._outlet.show(identity, shown)

    def withdraw(self, identity: ActorId, epoch: int, n: int) -> None:
        self._outlet.withdraw(identity, epoch, n)

    def hide(self, identity: ActorId, epoch: int, moved: bool) -> None:
        self._outlet.hide(identity, epoch, moved)


class _Silent(Locations):
    """The directory in standby: it goes over by itself, and knows all this already."""

    def find(self, identity: ActorId) -> NodeAddress | None:
        return None

    async def wait_until_known(self, identity: ActorId) -> None:
        return None

    def register(self, identity: ActorId, address: NodeAddress) -> NodeAddress:
        return address

    def forget(self, identity: ActorId, address: NodeAddress, owner: NodeAddress | None) -> None:
        """Nothing: see the class."""

    def announce(self, identity: ActorId, owner: NodeAddress, *, moved: bool = False) -> None:
        """Nothing: see the class."""
