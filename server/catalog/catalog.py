"""The activations of one node: birth by load-and-claim, collection when idle, orderly end.

Deactivation gives ownership up only after everything is stored: last turn, flush, release,
then the waiting calls are sent elsewhere (`Moved`). A fenced activation ends at once.

What lives here and belongs elsewhere is *misplaced* and moves (`migration.py`): hash-placed actors
whose slot is another node's, and on a node that is leaving everything.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog

from server.activations import event_log
from server.activations.activation import Activation
from server.actors.actor import Actor, LoggedActor
from server.catalog.reminders import Reminding
from server.cluster.placement import place
from server.directory.location import Location
from server.errors import Corrupt, Fenced, GarrisonError, Moved, NotFound, Overloaded, Unavailable
from server.ids import ActorId, NodeAddress, key_of, kind_of
from server.runtime.backoff import backoff_s
from server.storage.ports import Absent, Owned

if TYPE_CHECKING:
    from server.activations.parcels import Arrival
    from server.catalog.system import ActorSystem

log = structlog.get_logger(__name__)
_CLOSE_BATCH = 500
_MAX_COMMITS = 100
_STEP_S = 0.1


class NotMade(NotFound):
    """The store does not know this actor, and the call was none that makes it. Never leaves the node."""


class Catalog:
    """See the module's head."""

    def __init__(self, host: "ActorSystem") -> None:
        self._host = host
        self.live: dict[ActorId, Activation] = {}
        self.by_kind: dict[str, dict[ActorId, Activation]] = {}
        """What lives here once more, for who asks for one kind of it."""
        self._loading: dict[ActorId, asyncio.Future[Activation]] = {}
        self.closed: GarrisonError | None = None
        """Set once this node may not activate anything any more."""
        self.misplaced: dict[ActorId, None] = {}
        """What lives here although its slot is another node's, in the order in which it is to go."""
        self.unstored = 0
        """Acknowledged changes that did not get into the store before the node stopped."""
        self._idle_ticks = 0
        self._past_turns = 0

    # ---- birth ----

    async def activate(self, identity: ActorId, make: bool = True) -> Activation:
        """The local activation, made if need be. Raises `NotFound` (no such kind), `NotMade` (without
        `make`, for what the store does not know), `Moved` (the store names another live owner),
        `Unavailable`, `Overloaded`, `Corrupt`."""
        while True:
            try:
                return await self._activate(identity, make)
            except NotMade:
                if not make:
                    raise  # otherwise it is another's call that this one has waited for

    async def _activate(self, identity: ActorId, make: bool) -> Activation:
        if self._host.migrator.arrivals.expects(identity):
            await self._host.migrator.arrivals.wait(identity)
        activation = self.live.get(identity)
        if activation is not None:
            return activation
        future = self._loading.get(identity)
        if future is None:
            self._check_open()
            if self.room <= 0:
                raise Overloaded("this node has its bound of activations", retry_after_s=2.0)
            cls = self._class_of(identity)
            if cls.durability == "volatile":
                return self._born(Activation(self._host, cls, identity, cls.State(), 0))
            future = self._loading[identity] = asyncio.get_running_loop().create_future()
            self._host.supervisor.spawn(self._load(cls, identity, future, make), f"load {identity}")
        return await asyncio.shield(future)

    def has(self, identity: ActorId) -> bool:
        """Whether it lives here, or is about to."""
        return identity in self.live or identity in self._loading

    @property
    def room(self) -> int:
        """How many more activations this node takes."""
        return self._host.settings.actors.max_activations - len(self.live) - len(self._loading)

    def blank(self, identity: ActorId) -> Activation:
        """For one call that reads what was never stored: owned by nobody, and not of this catalog.
        Raises `NotFound` for a kind that there is not."""
        cls = self._class_of(identity)
        one = Activation(self._host, cls, identity, cls.State(), 0)
        if issubclass(cls, LoggedActor):
            one.boundary = one.actor.state = event_log.load(one, cls, None)
        one.hook(cls.activated)
        return one

    def _class_of(self, identity: ActorId) -> type[Actor[Any]]:
        cls = self._host.app.actor(kind_of(identity))
        if cls is None:
            raise NotFound(f"no actor kind {kind_of(identity)!r}")
        return cls

    async def _load(
        self, cls: type[Actor[Any]], identity: ActorId, future: "asyncio.Future[Activation]", make: bool
    ) -> None:
        try:
            owned = await self._claim(cls.kind, identity, make)
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

    async def _claim(self, kind: str, identity: ActorId, make: bool) -> Owned:
        """Claim, waiting while the owner is gone from the view but not yet dead in the store."""
        host = self._host
        deadline = host.clock.now() + host.settings.actors.call_timeout_s
        for attempt in range(1_000):
            result = await host.claimer.claim(kind, identity, make)
            if isinstance(result, Owned):
                return result
            if isinstance(result, Absent):
                raise NotMade(f"no {kind} {key_of(identity)}")
            if host.view.has(result.owner) and result.owner != host.me:
                raise Moved(str(Location(result.owner, here=True)))
            if host.clock.now() >= deadline:
                break
            await asyncio.sleep(0.05 + backoff_s(attempt, host.rng, cap_s=0.2))
            await host.takeover.bury(result.owner)
        raise Unavailable(f"the last owner of {identity} holds its lease yet, or its journal is on another host")

    def _born(self, activation: Activation) -> Activation:
        """Raises what the actor's `activated` raises: it does not live then."""
        self._begin(activation, lambda: activation.hook(type(activation.actor).activated), moved=False)
        return activation

    def arrived(self, arrival: "Arrival") -> None:
        """One from another node lives here now, frozen. Raises what its hooks raise: it does not
        live then, and the store has it."""
        one = arrival.activation
        one.halt()
        one.freeze()
        self._begin(one, lambda: self._furnish(arrival), moved=True)

    @staticmethod
    def _furnish(arrival: "Arrival") -> None:
        """`activated` first, then what it had on the other node."""
        one = arrival.activation
        cls = type(one.actor)
        one.hook(cls.activated)
        one.replace_timers(arrival.timers)
        if arrival.reminders:
            one.reminding = Reminding()
            one.reminding.pending.update(arrival.reminders)
        one.hook(lambda actor: cls.arrived(actor, arrival.carried))
        one.retiring = arrival.retiring
        for name, args in arrival.due:
            one.fire(name, args)

    def _begin(self, activation: Activation, hooks: Callable[[], None], moved: bool) -> None:
        host = self._host
        self.live[activation.id] = activation
        self.by_kind.setdefault(activation.kind, {})[activation.id] = activation
        host.metrics.activations_created_total += 1
        host.metrics.activations = len(self.live)
        try:
            hooks()
        except GarrisonError as error:
            self.discard(activation, error)
            raise
        if activation.has_log and activation.log().unsealed:
            host.group_commit.seal_later(activation.log())
        owner = host.owner(activation.id)
        if owner is not None:
            host.directory.announce(activation.id, owner, moved=moved)
            if owner != host.me and self.belongs(activation) != host.me:
                self.misplaced[activation.id] = None  # the slot has moved while this was loading

    # ---- the end ----

    def discard(self, activation: Activation, error: GarrisonError) -> None:
        """Drop without storing; whoever waits gets `error`. Idempotent."""
        if activation.dropped:
            return
        if self.live.get(activation.id) is activation:
            del self.live[activation.id]
            del self.by_kind[activation.kind][activation.id]
            self._past_turns += activation.used
        activation.drop(error)
        self._host.write_behind.forget(activation)
        if activation.has_log:
            self._host.group_commit.forget(activation.log())
        self._host.metrics.activations_dropped_total += 1
        self._host.metrics.activations = len(self.live)
        self._host.directory.forget(activation.id, self._host.me, self._host.owner(activation.id))

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
        """Deactivate what has been idle for long, and what asked to end."""
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
        """Move what is misplaced, at most `rebalance_per_s`."""
        host, took_s = self._host, 0.0
        per_step = max(1, round(host.settings.actors.rebalance_per_s * _STEP_S))
        while True:
            await asyncio.sleep(max(_STEP_S / 10, _STEP_S - took_s))
            host.metrics.misplaced = len(self.misplaced)
            if not self.misplaced:
                took_s = 0.0
                continue
            begin = host.clock.now()
            some = list(islice(self.misplaced, per_step))
            for identity in some:
                del self.misplaced[identity]
            away = [self.live[identity] for identity in some if identity in self.live]
            await self._guarded(self._move_home(away))
            for one in away:
                if not one.dropped and self.belongs(one) != host.me:
                    self.misplaced[one.id] = None
            took_s = host.clock.now() - begin

    async def _move_home(self, activations: Iterable[Activation]) -> int:
        """Move these to where they belong, to all homes at the same time; how many moved."""
        host = self._host
        homes: dict[NodeAddress, list[Activation]] = {}
        for one in activations:
            home = self.belongs(one)
            if home != host.me and not one.closing:
                homes.setdefault(home, []).append(one)
        moves = [host.supervisor.spawn(host.migrator.move(some, home), f"move {home}") for home, some in homes.items()]
        return sum(await asyncio.gather(*moves))

    @property
    def is_leaving(self) -> bool:
        """This node is not `up` (any more) in its own view."""
        member = self._host.view.addresses.get(self._host.me)
        return member is None or member.state != "up"

    def belongs(self, one: Activation) -> NodeAddress:
        """Where `one` should live; here if there is nowhere else."""
        host = self._host
        strategy, owner = type(one.actor).placement, host.owner(one.id)
        if owner is None or strategy == "hash":
            return owner or host.me
        return place(strategy, host.view, owner, host.me) if self.is_leaving else host.me

    def on_view(self) -> None:
        me = self._host.me
        self.misplaced = {identity: None for identity, one in self.live.items() if self.belongs(one) != me}
        self._host.metrics.misplaced = len(self.misplaced)

    async def stop(self, deadline: float) -> None:
        """Move everything to other nodes, for half of the time until `deadline`; store and release
        the rest, waiting for turns that are under way."""
        host = self._host
        left_s = max(0.0, deadline - host.clock.now())
        try:
            async with asyncio.timeout(left_s):
                await self._move_all(deadline - left_s / 2)
                while self.live:
                    await self._stop_some()
        except TimeoutError:
            self._count_unstored()
        for one in list(self.live.values()):
            self.discard(one, Moved())

    async def _move_all(self, until: float) -> None:
        """What lives by itself goes first. Ends when nothing more moves, at `until` at the latest,
        whoever has not answered by then: the rest of the time is for storing."""
        left_s = until - self._host.clock.now()
        if left_s <= 0:
            return
        try:
            async with asyncio.timeout(left_s):
                moved = 1
                while moved:
                    moved = 0
                    going = sorted(self.live.values(), key=lambda one: not (one.timers or type(one.actor).lives_on))
                    for start in range(0, len(going), _CLOSE_BATCH):
                        moved += await self._guarded(self._move_home(going[start : start + _CLOSE_BATCH]))
        except TimeoutError:
            log.warning("not everything could be moved", activations=len(self.live))

    def _count_unstored(self) -> None:
        """What was acknowledged and did not get into the store in time."""
        self.unstored = sum(one.version - one.stored_version for one in self.live.values() if one.durable)
        log.error("not everything could be stored", activations=len(self.live), changes=self.unstored)

    async def _stop_some(self) -> None:
        everything = list(self.live.values())
        for one in everything:
            one.pins = 0
        if await self._guarded(self.deactivate(everything)) == 0:
            await asyncio.sleep(0.02)
        for one in everything:
            if one.dropped and self._host.owner(one.id) not in (None, self._host.me):
                self._host.wake_elsewhere(one)

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> bool:
        """Another copy is registered: a volatile one gives way, a durable one has its fence, and one
        that is moving goes by itself. Returns whether the copy here stays, to be registered."""
        one = self.live.get(identity)
        if one is not None and not (one.durable or one.frozen) and winner != self._host.me:
            self.discard(one, Moved(str(Location(winner))))
        return False if one is None or one.dropped else one.durable and not one.frozen
