"""The activations of one node: birth by load-and-claim, collection when idle, orderly end.

Deactivation gives ownership up only after everything is stored: last turn, flush, release,
then the waiting calls are sent elsewhere (`Moved`). A fenced activation ends at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog

from server.actors import event_log
from server.actors.activation import Activation
from server.actors.actor import Actor, LoggedActor
from server.directory.location import Location
from server.errors import Corrupt, Fenced, GarrisonError, Moved, NotFound, Overloaded, Unavailable
from server.ids import ActorId, NodeAddress, kind_of
from server.runtime.backoff import backoff_s
from server.storage.ports import Owned

if TYPE_CHECKING:
    from server.actors.host import Host

log = structlog.get_logger(__name__)
_CLOSE_BATCH = 500
_MAX_COMMITS = 100
_BURY_S = 0.2


class Catalog:
    """See the module's head."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self.live: dict[ActorId, Activation] = {}
        self._loading: dict[ActorId, asyncio.Future[Activation]] = {}
        self.closed: GarrisonError | None = None
        """Set once this node may not activate anything any more."""
        self.misplaced: dict[ActorId, None] = {}
        """What lives here although its slot is another node's, in the order in which it is to go."""
        self._bury_at = 0.0
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
            self._check_open()
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
            state = owned.state if owned.state is not None else cls.State()
            activation = Activation(self._host, cls, identity, state, owned.state_version)
            activation.epoch = owned.epoch
            if issubclass(cls, LoggedActor):
                stored = await self._host.logs.read_tail(cls.kind, identity) if owned.next_seq > 1 else None
                if (stored.next_seq if stored is not None else 1) != owned.next_seq:
                    raise Corrupt(f"the log of {identity} does not end where its row says ({owned.next_seq})")
                activation.boundary = activation.actor.state = event_log.load(activation, cls, stored)
            self._check_open()
            del self._loading[identity]
            born = self._born(activation)
            if not future.done():
                future.set_result(born)
        except BaseException as error:
            self._loading.pop(identity, None)
            if not future.done():
                future.set_exception(error if isinstance(error, GarrisonError) else Unavailable("loading failed"))
                future.exception()
            if not isinstance(error, GarrisonError):
                raise

    def _check_open(self) -> None:
        """Raises `Unavailable` once this node may activate nothing any more."""
        if self.closed is not None:
            raise Unavailable(self.closed.message, retry_after_s=self.closed.retry_after_s)

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
            await self._bury()
        raise Unavailable(f"the last owner of {identity} still holds its lease")

    async def _bury(self) -> None:
        """Bury expired nodes, for however many loads wait for that, a few times a second."""
        host = self._host
        if host.clock.now() >= self._bury_at:
            self._bury_at = host.clock.now() + _BURY_S
            await host.store.bury_expired(host.lively(), host.settings.store.lease_grace_s)

    def _born(self, activation: Activation) -> Activation:
        """Raises what the actor's `activated` raises: it does not live then."""
        host = self._host
        self.live[activation.id] = activation
        host.metrics.activations_created_total += 1
        host.metrics.activations = len(self.live)
        try:
            activation.hook(type(activation.actor).activated)
        except GarrisonError as error:
            self.discard(activation, error)
            raise
        if activation.has_log and activation.log().unsealed:
            host.group_commit.seal_later(activation.log())
        owner = host.owner(activation.id)
        if owner is not None and owner != host.me:
            host.directory.announce(activation.id, owner)
            if type(activation.actor).placement == "hash":
                self.misplaced[activation.id] = None  # the slot has moved while this was loading
        return activation

    # ---- the end ----

    def discard(self, activation: Activation, error: GarrisonError) -> None:
        """Drop without storing; whoever waits gets `error`. Idempotent."""
        if activation.dropped:
            return
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
        away leaves them live, with what they had set. Raises nothing of the store's."""
        ended = 0
        wanted = list(dict.fromkeys(activations))
        for start in range(0, len(wanted), _CLOSE_BATCH):
            ended += await self._deactivate(wanted[start : start + _CLOSE_BATCH])
        return ended

    async def _deactivate(self, activations: Sequence[Activation]) -> int:
        batch = [one for one in activations if one.idle and not one.dropped]
        for one in batch:
            self._last_turn(one)
        ended = self._end([one for one in batch if not one.durable])
        plain = [one for one in batch if one.durable and not one.has_log]
        logged = [one for one in batch if one.has_log]
        try:
            if plain and await self._stored(plain, self._flush):
                ended += await self._give_up(plain)
            if logged and await self._stored(logged, self._commit):
                ended += await self._give_up(logged)
        finally:
            for one in batch:
                one.cancel_close()  # those that did not end
        return ended

    async def _stored(
        self, batch: Sequence[Activation], store: Callable[[Sequence[Activation]], Awaitable[None]]
    ) -> bool:
        try:
            await store(batch)
        except Exception as error:
            known = isinstance(error, GarrisonError)
            log.warning("cannot deactivate", why=str(error), count=len(batch), exc_info=None if known else error)
            return False
        return True

    async def _flush(self, batch: Sequence[Activation]) -> None:
        await self._host.write_behind.flush_these(batch)
        if any(one.dirty for one in batch):
            raise Unavailable("not everything could be stored")

    async def _commit(self, batch: Sequence[Activation]) -> None:
        """A long backlog takes several commits."""
        for _ in range(_MAX_COMMITS):
            await self._host.group_commit.commit()
            if not any(one.log().backlog() for one in batch if not one.dropped):
                return
        raise Unavailable("the log is too far behind")

    async def _give_up(self, batch: Sequence[Activation]) -> int:
        """Release what is stored, and end it. Where the release has an unknown outcome it ends
        too: another node may own it already, so that nothing more may be acknowledged here. If
        this node still owns it, the next call comes back here and claims it again."""
        held = [one for one in batch if not one.dropped]
        try:
            await self._release(held)
        except Exception as error:
            known = isinstance(error, GarrisonError)
            log.warning("not released", why=str(error), count=len(held), exc_info=None if known else error)
        return self._end(held)

    def _end(self, batch: Sequence[Activation]) -> int:
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
            await self._guarded(self.deactivate(unused))

    async def _guarded(self, step: Awaitable[int]) -> int:
        """A step of a loop: nothing that goes wrong in it ends the loop."""
        try:
            return await step
        except Exception as error:
            log.error("catalog step failed", exc_info=error)
            return 0

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
            some = list(islice(self.misplaced, per_step))
            for identity in some:
                del self.misplaced[identity]
            away = [self.live[identity] for identity in some if identity in self.live and self._is_misplaced(identity)]
            await self._guarded(self.deactivate(away))
            for one in away:
                if not one.dropped:
                    self.misplaced[one.id] = None
                else:
                    host.wake_elsewhere(one)

    def _is_misplaced(self, identity: ActorId) -> bool:
        return self._host.owner(identity) not in (None, self._host.me)

    def on_view(self) -> None:
        self.misplaced = {
            identity: None
            for identity, one in self.live.items()
            if type(one.actor).placement == "hash" and self._is_misplaced(identity)
        }

    async def stop(self, deadline: float) -> None:
        """Deactivate everything, waiting for turns that are under way, until `deadline`."""
        host = self._host
        try:
            async with asyncio.timeout(max(0.0, deadline - host.clock.now())):
                while self.live:
                    await self._stop_some()
        except TimeoutError:
            self._count_unstored()
        for one in list(self.live.values()):
            self.discard(one, Moved())

    def _count_unstored(self) -> None:
        """What was acknowledged and did not get into the store in time."""
        changes = sum(one.version - one.stored_version for one in self.live.values() if one.durable)
        log.error("not everything could be stored", activations=len(self.live), changes_lost=changes)

    async def _stop_some(self) -> None:
        everything = list(self.live.values())
        for one in everything:
            one.pins = 0
        if await self._guarded(self.deactivate(everything)) == 0:
            await asyncio.sleep(0.02)
        for one in everything:
            if one.dropped and self._is_misplaced(one.id):
                self._host.wake_elsewhere(one)

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> None:
        """Another copy is registered: a volatile one gives way, a durable one has its fence."""
        one = self.live.get(identity)
        if one is not None and not one.durable and winner != self._host.me:
            self.discard(one, Moved(str(Location(winner))))
