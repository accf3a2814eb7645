"""The activations of one node: birth by load-and-claim, collection when idle, orderly end.

Deactivation gives ownership up only after everything is stored: last turn, flush, release,
then the waiting calls are sent elsewhere (`Moved`). A fenced activation ends at once.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from server.actors import event_log
from server.actors.activation import Activation
from server.actors.actor import Actor, LoggedActor
from server.directory.location import Location
from server.errors import Fenced, GarrisonError, Moved, NotFound, Overloaded, Unavailable
from server.ids import ActorId, NodeAddress, kind_of
from server.runtime.backoff import backoff_s
from server.storage.ports import Owned

if TYPE_CHECKING:
    from server.actors.host import Host

log = structlog.get_logger(__name__)
_CLOSE_BATCH = 500


class Catalog:
    """See the module's head."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self.live: dict[ActorId, Activation] = {}
        self._loading: dict[ActorId, asyncio.Future[Activation]] = {}
        self.closed: GarrisonError | None = None
        """Set once this node may not activate anything any more."""
        self.misplaced: list[ActorId] = []
        self._idle_ticks = 0
        self._past_turns = 0

    # ---- birth ----

    async def activate(self, identity: ActorId) -> Activation:
        """The local activation, made if need be. Raises `NotFound` (no such kind), `Moved` (the
        store names another live owner), `Unavailable`, `Overloaded`, `Corrupt`."""
        activation = self.live.get(identity)
        if activation is not None:
            return activation
        future = self._loading.get(identity)
        if future is None:
            if self.closed is not None:
                raise self.closed
            if len(self.live) + len(self._loading) >= self._host.settings.actors.max_activations:
                raise Overloaded("this node has its bound of activations", retry_after_s=2.0)
            cls = self._host.app.actor(kind_of(identity))
            if cls is None:
                raise NotFound(f"no actor kind {kind_of(identity)!r}")
            if cls.durability == "volatile":
                return self._born(Activation(self._host, cls, identity, cls.State(), 0))
            future = self._loading[identity] = asyncio.get_running_loop().create_future()
            self._host.supervisor.spawn(self._load(cls, identity, future), f"load {identity}")
        return await asyncio.shield(future)

    async def _load(self, cls: type[Actor[Any]], identity: ActorId, future: "asyncio.Future[Activation]") -> None:
        try:
            owned = await self._claim(cls.kind, identity)
            activation = Activation(self._host, cls, identity, owned.state or cls.State(), owned.state_version)
            activation.epoch = owned.epoch
            if issubclass(cls, LoggedActor):
                stored = await self._host.logs.read_tail(cls.kind, identity) if owned.next_seq > 1 else None
                state = event_log.load(activation, cls, stored)
                activation.boundary = activation.actor.state = state
            if self.closed is not None:
                raise self.closed
            del self._loading[identity]
            future.set_result(self._born(activation))
        except BaseException as error:
            self._loading.pop(identity, None)
            if not future.done():
                future.set_exception(error if isinstance(error, GarrisonError) else Unavailable("loading failed"))
                future.exception()
            if not isinstance(error, GarrisonError):
                raise

    async def _claim(self, kind: str, identity: ActorId) -> Owned:
        """Claim, waiting while the owner is gone from the view but not yet dead in the store."""
        host = self._host
        deadline = host.clock.now() + host.settings.actors.call_timeout_s
        for attempt in range(1_000):
            result = await host.claimer.claim(kind, identity)
            if isinstance(result, Owned):
                return result
            if host.view.has(result.owner) and result.owner != host.me:
                raise Moved(str(Location(result.owner, here=True)))
            if host.clock.now() >= deadline:
                break
            await asyncio.sleep(0.05 + backoff_s(attempt, host.rng, cap_s=0.2))
            await host.store.bury_expired(host.lively(), host.settings.store.lease_grace_s)
        raise Unavailable(f"the last owner of {identity} still holds its lease")

    def _born(self, activation: Activation) -> Activation:
        self.live[activation.id] = activation
        metrics = self._host.metrics
        metrics.activations_created_total += 1
        metrics.activations = len(self.live)
        activation.hook(type(activation.actor).activated)
        owner = self._host.owner(activation.id)
        if owner is not None and owner != self._host.me:
            self._host.directory.announce(activation.id, owner)
        return activation

    # ---- the end ----

    def discard(self, activation: Activation, error: GarrisonError) -> None:
        """Drop without storing; whoever waits gets `error`."""
        if self.live.get(activation.id) is activation:
            del self.live[activation.id]
            self._past_turns += activation.used
        activation.drop(error)
        self._host.write_behind.forget(activation)
        if activation.has_log:
            self._host.group_commit.forget(activation.log())
        self._host.metrics.activations_dropped_total += 1
        self._host.metrics.activations = len(self.live)
        owner = self._host.owner(activation.id)
        if owner is not None and owner != self._host.me:
            self._host.directory.forget(activation.id, self._host.me, owner)

    def lost(self, activation: Activation, changes: int) -> None:
        """The store has another owner: what was acknowledged and not stored is counted."""
        if activation.dropped:
            return  # counted already: a statement that was under way says so again
        self._host.metrics.fenced_total += 1
        self._host.metrics.fenced_changes_lost_total += changes
        log.error("activation fenced off", actor=activation.id, epoch=activation.epoch, changes_lost=changes)
        self.discard(activation, Fenced(f"{activation.id} has another owner"))

    async def deactivate(self, activations: Sequence[Activation]) -> int:
        """Store and release these where they are idle; returns how many ended. A store that is
        away leaves them live. Raises nothing of the store's."""
        ended = 0
        for start in range(0, len(activations), _CLOSE_BATCH):
            ended += await self._deactivate(activations[start : start + _CLOSE_BATCH])
        return ended

    async def _deactivate(self, activations: Sequence[Activation]) -> int:
        host = self._host
        batch = [one for one in activations if one.idle and not one.dropped]
        for one in batch:
            self._last_turn(one)
        try:
            if any(one.has_log for one in batch):
                await host.group_commit.commit()
            await host.write_behind.flush_these([one for one in batch if not one.has_log and one.durable])
            await self._release([one for one in batch if one.durable and not one.dropped])
        except GarrisonError as error:
            log.warning("cannot deactivate", why=error.message, count=len(batch))
            for one in batch:
                one.cancel_close()
            return 0
        for one in batch:
            self.discard(one, Moved())
        return len(batch)

    def _last_turn(self, one: Activation) -> None:
        try:
            one.hook(type(one.actor).deactivating)
        except GarrisonError as error:
            log.warning("last turn failed", actor=one.id, why=error.message)
        one.begin_close()

    async def _release(self, activations: Iterable[Activation]) -> None:
        by_kind: dict[str, list[Activation]] = {}
        for one in activations:
            by_kind.setdefault(one.kind, []).append(one)
        for kind, held in sorted(by_kind.items()):
            await self._host.store.release(kind, sorted((one.id, one.epoch) for one in held))

    # ---- loops ----

    async def collect(self) -> None:
        """Deactivate what has been idle for long, what asked to end, and, at a bounded rate,
        what belongs elsewhere since the slot table changed."""
        host = self._host
        settings = host.settings.actors
        ticks_idle = max(1, round(settings.idle_timeout_s / settings.collect_interval_s))
        while True:
            await asyncio.sleep(settings.collect_interval_s)
            self._idle_ticks += 1
            unused = [one for one in self.live.values() if one.retiring and one.idle and not self._watched(one)]
            if self._idle_ticks >= ticks_idle:
                self._idle_ticks = 0
                unused += [one for one in self.live.values() if one.used == one.seen and self._may_end(one)]
                for one in self.live.values():
                    one.seen = one.used
            await self.deactivate(unused)

    def turns(self) -> int:
        """Turns of all activations so far, those that ended included."""
        return self._past_turns + sum(one.used for one in self.live.values())

    def _may_end(self, one: Activation) -> bool:
        return one.idle and not one.retiring and not one.timers and not self._watched(one)

    @staticmethod
    def _watched(one: Activation) -> bool:
        return one.has_log and one.log().watched

    async def rebalance(self) -> None:
        """Move hash-placed activations to their slots' owners, at most `rebalance_per_s`: end
        them here, the next call activates them there. Those with a session go with it."""
        host = self._host
        per_step = max(1, host.settings.actors.rebalance_per_s // 10)
        while True:
            await asyncio.sleep(0.1)
            if not self.misplaced:
                continue
            some = [self.live[identity] for identity in self.misplaced[:per_step] if identity in self.live]
            self.misplaced = self.misplaced[per_step:]
            away = [one for one in some if host.owner(one.id) not in (None, host.me)]
            await self.deactivate(away)
            for one in away:
                if not one.dropped:
                    self.misplaced.append(one.id)
                else:
                    host.wake_elsewhere(one)

    def on_view(self) -> None:
        host = self._host
        self.misplaced = [
            identity
            for identity, one in self.live.items()
            if type(one.actor).placement == "hash" and host.owner(identity) not in (None, host.me)
        ]

    async def stop(self, deadline: float) -> None:
        """Deactivate everything, waiting for turns that are under way, until `deadline`."""
        host = self._host
        while self.live and host.clock.now() < deadline:
            for one in self.live.values():
                one.pins = 0
            if await self.deactivate(list(self.live.values())) == 0:
                await asyncio.sleep(0.02)
        for one in list(self.live.values()):
            self.discard(one, Moved())

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> None:
        """Another copy is registered: a volatile one gives way, a durable one has its fence."""
        one = self.live.get(identity)
        if one is not None and not one.durable and winner != self._host.me:
            self.discard(one, Moved(str(Location(winner))))
