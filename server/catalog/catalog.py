"""The activations of one node: birth by load-and-claim, collection when idle, orderly end.

Deactivation gives ownership up only after everything is stored: last turn, flush, release,
then the waiting calls are sent elsewhere (`Moved`). A fenced activation ends at once.

Beside it: `expected.py` (what other nodes are about to bring), `misplaced.py` and `rebalance.py` (what belongs
elsewhere, and its moving there), `departure.py` (the end of all at a planned stop).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import structlog

from server.activations import event_log
from server.activations.activation import Activation
from server.activations.observed import new_activation
from server.activations.parcels import Arrival
from server.activations.ports import ActivationNode
from server.actors.actor import Actor, LoggedActor
from server.catalog.census import KindCensus
from server.catalog.expected import Expected
from server.catalog.listings import Listings
from server.catalog.misplaced import Misplaced
from server.catalog.ports import CatalogWatcher, Locations
from server.catalog.services import CurrentView, Services, StorageParts
from server.catalog.steps import guarded
from server.directory.location import Location
from server.errors import Corrupt, Fenced, GarrisonError, Moved, NotFound, Overloaded, Rejected, Unavailable
from server.eventlog.ports import StoredLog
from server.ids import ActorId, NodeAddress, key_of, kind_of
from server.runtime.backoff import backoff_s
from server.storage.ports import Absent, Elsewhere, Erased, Owned

log = structlog.get_logger(__name__)
CLOSE_BATCH: Final = 500
"""Activations that are stored and released at a time."""
AT_ONCE: Final = 2_000
"""Activations that are looked at before the loop gets its turn."""
ERASED: Final = "this person was erased, or is being: come back later"
MAX_COMMITS: Final = 100
"""Commits that a deactivation waits for, at most, until a log is stored."""


class NotMade(NotFound):
    """An actor that the store does not know, and a call that does not make it. Never leaves the node."""


class NotRevived(Rejected):
    """An actor that was erased, and a call that does not make it anew. `revive`: of the claim that was refused."""

    def __init__(self, revive: int) -> None:
        super().__init__("erased", ERASED)
        self.revive = revive


class Catalog:
    """See the module's head."""

    def __init__(
        self,
        services: Services,
        current: CurrentView,
        *,
        node: ActivationNode,
        storage: StorageParts,
        directory: Locations,
        misplaced: Misplaced,
    ) -> None:
        self._services, self._current, self._node = services, current, node
        self._claimer, self._takeover = storage.claimer, storage.takeover
        self._write_behind, self._group_commit = storage.write_behind, storage.group_commit
        self.directory, self._misplaced = directory, misplaced
        self.live: dict[ActorId, Activation] = {}
        self.live_by_kind: dict[str, dict[ActorId, Activation]] = {}
        """`live`, indexed by kind."""
        self._retiring: dict[ActorId, Activation] = {}
        """`live`, as far as it asks to end, in the order in which it has asked."""
        self.listings = Listings(services.app.actors)
        self.censuses: dict[str, KindCensus] = {}
        """By kind, of those that somebody walks through."""
        self.expected = Expected()
        self._loading: dict[ActorId, asyncio.Future[Activation]] = {}
        self.watcher: CatalogWatcher | None = None
        """Told of births and ends while a succession copies the activations."""
        self.closed: GarrisonError | None = None
        """Set once this node may not activate anything any more."""
        self._idle_ticks = 0
        self._sweeps = 0
        self._last_sweep = -1
        """The turn number that the sweep before this one took."""

    # ---- birth ----

    async def activate(self, identity: ActorId, make: bool = True, revive: int = 0) -> Activation:
        """The local activation, made if need be. Raises `NotFound` (no such kind), `NotMade` (without
        `make`, for what the store does not know), `Moved` (the store names another live owner), `Rejected` (`erased`:
        for what was erased, where `revive`, as a claim's, does not make it), `Unavailable`, `Overloaded`,
        `Corrupt`."""
        while True:
            try:
                return await self._activate(identity, make, revive)
            except NotMade:
                if not make:
                    raise  # otherwise it is another's call that this one has waited for
            except NotRevived as error:
                if revive <= error.revive:
                    raise  # otherwise it is another's call, too

    async def _activate(self, identity: ActorId, make: bool, revive: int) -> Activation:
        if identity in self.expected:
            await self.expected.wait(identity)
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
                return self._born(new_activation(self._node, cls, identity, cls.State(), 0))
            future = self._loading[identity] = asyncio.get_running_loop().create_future()
            self._services.supervisor.spawn(self._load(cls, identity, future, make, revive), f"load {identity}")
        try:
            return await asyncio.shield(future)
        finally:
            del future  # an error that it holds was raised through this frame

    def has(self, identity: ActorId) -> bool:
        """Tell whether it lives here, or is about to."""
        return identity in self.live or identity in self._loading

    @property
    def loading(self) -> int:
        """How many activations are being claimed or loaded."""
        return len(self._loading)

    @property
    def room(self) -> int:
        """How many more activations this node takes."""
        return self._services.settings.actors.max_activations - len(self.live) - len(self._loading)

    def blank(self, identity: ActorId) -> Activation:
        """An activation for one call that reads what was never stored: owned by nobody, and not of this
        catalog. Raises `NotFound` for a kind that there is not."""
        cls = self._class_of(identity)
        activation = new_activation(self._node, cls, identity, cls.State(), 0)
        if issubclass(cls, LoggedActor):
            self._give_log(activation, cls, None)
        activation.begin()
        activation.hook(cls.activated)
        return activation

    def _give_log(self, activation: Activation, cls: type[LoggedActor[Any]], stored: StoredLog | None) -> None:
        """Give a logged actor that is being loaded its log, and the state at the log's end. Raises `Corrupt`."""
        entries, state = event_log.load(activation, self._node, cls, stored)
        activation.adopt_log(entries)
        activation.boundary = activation.actor.state = state

    def _class_of(self, identity: ActorId) -> type[Actor[Any]]:
        cls = self._services.app.actor(kind_of(identity))
        if cls is None:
            raise NotFound(f"no actor kind {kind_of(identity)!r}")
        return cls

    async def _load(
        self,
        cls: type[Actor[Any]],
        identity: ActorId,
        future: "asyncio.Future[Activation]",
        make: bool,
        revive: int,
    ) -> None:
        try:
            owned = await self._claim(cls.kind, identity, make, revive)
            state = owned.state if owned.state is not None else cls.State()
            activation = new_activation(self._node, cls, identity, state, owned.state_version)
            activation.epoch = owned.epoch
            activation.all_told = _all_told(cls, owned)
            if issubclass(cls, LoggedActor):
                stored = await self._services.logs.read_tail(cls.kind, identity) if owned.next_seq > 1 else None
                if (stored.next_seq if stored is not None else 1) != owned.next_seq:
                    raise Corrupt(f"the log of {identity} does not end where its row says ({owned.next_seq})")
                self._give_log(activation, cls, stored)
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
        finally:
            del future

    def _check_open(self) -> None:
        """Raises `Unavailable` once this node may activate nothing any more."""
        if self.closed is not None:
            raise Unavailable(self.closed.message, retry_after_s=self.closed.retry_after_s)

    async def _claim(self, kind: str, identity: ActorId, make: bool, revive: int) -> Owned:
        """Claim, waiting while the owner is gone from the view but not yet dead in the store."""
        clock, current = self._services.clock, self._current
        deadline = clock.now() + self._services.settings.actors.call_timeout_s
        self._takeover.check(identity)
        for attempt in range(1_000):
            result = await self._claimer.claim(kind, identity, make, revive)
            if not isinstance(result, Elsewhere):
                self._takeover.claimed(identity)
            if isinstance(result, Owned):
                return result
            if isinstance(result, Absent):
                raise NotMade(f"no {kind} {key_of(identity)}")
            if isinstance(result, Erased):
                raise NotRevived(revive)
            if current.view.has(result.owner) and result.owner != current.me:
                self._takeover.claimed(identity)
                raise Moved(str(Location(result.owner, here=True)))
            self._takeover.refuse(identity, result.owner)
            if clock.now() >= deadline:
                break
            await asyncio.sleep(0.05 + backoff_s(attempt, self._services.rng, cap_s=0.2))
            await self._takeover.bury(result.owner)
        raise Unavailable(f"the last owner of {identity} holds its lease yet")

    def _born(self, activation: Activation) -> Activation:
        """Let a loaded activation live. Raises what the actor's `activated` raises: it does not live then."""
        activation.begin()
        self._begin(activation, lambda: activation.hook(type(activation.actor).activated), moved=False)
        return activation

    def arrived(self, arrival: Arrival) -> None:
        """Let an activation from another node live here, frozen. Raises what its hooks raise: it does not
        live then, and the store has it."""
        arrival.activation.begin_frozen()
        self._begin(arrival.activation, lambda: self._furnish(arrival), moved=True)

    @staticmethod
    def _furnish(arrival: Arrival) -> None:
        """Run `activated`, then give the activation what it had on the other node."""
        activation = arrival.activation
        cls = type(activation.actor)
        activation.show_again(arrival.shown)
        activation.hook(cls.activated)
        activation.replace_timers(arrival.timers)
        activation.adopt_reminders(arrival.reminders, arrival.reminder_number)
        activation.hook(lambda actor: cls.arrived(actor, arrival.carried))
        activation.retire(arrival.retiring)
        for name, args in arrival.due:
            activation.fire(name, args)

    def _begin(self, activation: Activation, hooks: Callable[[], None], moved: bool) -> None:
        metrics, current = self._services.metrics, self._current
        assert activation.id not in self.live, f"{activation.id} lives here already"
        self.live[activation.id] = activation
        if activation.retiring:
            self.note_retiring(activation)
        if self.watcher is not None:
            self.watcher.born(activation)
        self.live_by_kind.setdefault(activation.kind, {})[activation.id] = activation
        census = self.censuses.get(activation.kind)
        if census is not None:
            census.add(activation.id)
        metrics.activations_created_total += 1
        metrics.activations = len(self.live)
        try:
            hooks()
        except GarrisonError as error:
            self.discard(activation, error)
            raise
        self.listings.put(activation.kind, activation.id, activation.boundary)
        if activation.has_log and activation.log().unsealed:
            self._group_commit.seal_later(activation.log())
        if activation.tells_facts and not activation.all_told:
            self._node.look_for_facts(activation)
        owner = current.owner(activation.id)
        if owner is not None:
            self.directory.announce(activation.id, owner, moved=moved)
            if owner != current.me:
                self._misplaced.consider(activation)  # the slot has moved while this was loading

    # ---- the end ----

    def discard(self, activation: Activation, error: GarrisonError) -> None:
        """Drop without storing; whoever waits gets `error`. Idempotent."""
        if activation.dropped:
            return
        if self.live.get(activation.id) is activation:
            self._remove(activation)
        log_ = activation.log() if activation.has_log else None
        activation.drop(error)
        self._write_behind.forget(activation)
        if log_ is not None:
            self._group_commit.forget(log_)
        self._services.metrics.activations_dropped_total += 1
        self._services.metrics.activations = len(self.live)
        self.directory.forget(activation.id, self._current.me, self._current.owner(activation.id))

    def _remove(self, activation: Activation) -> None:
        del self.live[activation.id]
        del self.live_by_kind[activation.kind][activation.id]
        self._retiring.pop(activation.id, None)
        self.listings.remove(activation.kind, activation.id)
        if self.watcher is not None:
            self.watcher.gone(activation)

    def lost(self, activation: Activation, changes: int) -> None:
        """Drop what another owner has in the store, and count what was acknowledged and not stored."""
        if activation.dropped:
            return  # counted already: a statement that was under way says so again
        self._services.metrics.fenced_total += 1
        self._services.metrics.fenced_changes_lost_total += changes
        log.error("activation fenced off", actor=activation.id, epoch=activation.epoch, changes_lost=changes)
        self.discard(activation, Fenced(f"{activation.id} has another owner"))

    def end_all(self, error: Unavailable, *, count_lost: bool) -> None:
        """Drop all activations at once, and activate nothing any more; whoever waits gets `error`. `count_lost`:
        acknowledged changes that are not stored are lost, for no successor finds them in a journal."""
        self.closed = error
        for activation in list(self.live.values()):
            changes = activation.unstored_changes if count_lost else 0
            if changes:
                self.lost(activation, changes)
            else:
                self.discard(activation, error)

    async def deactivate(self, activations: Sequence[Activation]) -> int:
        """Store and release these where they are idle; returns how many ended. A store that is
        away leaves them live, with what they had set. Raises nothing of the store's."""
        ended = 0
        wanted = list(dict.fromkeys(activations))
        for start in range(0, len(wanted), CLOSE_BATCH):
            ended += await self._deactivate(wanted[start : start + CLOSE_BATCH])
        return ended

    async def _deactivate(self, activations: Sequence[Activation]) -> int:
        batch = [activation for activation in activations if activation.idle and not activation.dropped]
        for activation in batch:
            self._last_turn(activation)
        ended = self._end([activation for activation in batch if not activation.durable])
        plain = [activation for activation in batch if activation.durable and not activation.has_log]
        logged = [activation for activation in batch if activation.has_log]
        try:
            if plain and await self._stored(plain, self._flush):
                ended += await self._give_up(plain)
            if logged and await self._stored(logged, self._commit):
                ended += await self._give_up(logged)
        finally:
            for activation in batch:
                activation.cancel_close()  # left: those that did not end
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
        await self._write_behind.flush_these(batch)
        if any(activation.dirty for activation in batch):
            raise Unavailable("not everything could be stored")

    async def _commit(self, batch: Sequence[Activation]) -> None:
        """Commit until the logs of `batch` are stored: a long backlog takes several."""
        for _ in range(MAX_COMMITS):
            await self._group_commit.commit()
            if not any(activation.log().backlog() for activation in batch if not activation.dropped):
                return
        raise Unavailable("the log is too far behind")

    async def _give_up(self, batch: Sequence[Activation]) -> int:
        """Release what is stored, and end it. Where the release has an unknown outcome it ends
        too: another node may own it already, so that nothing more may be acknowledged here. If
        this node still owns it, the next call comes back here and claims it again."""
        stored = [activation for activation in batch if not activation.dropped]
        try:
            await self._release(stored)
        except Exception as error:
            known = isinstance(error, GarrisonError)
            log.warning("not released", why=str(error), count=len(stored), exc_info=None if known else error)
        return self._end(stored)

    def _end(self, batch: Sequence[Activation]) -> int:
        for activation in batch:
            self.discard(activation, Moved())
        return len(batch)

    def _last_turn(self, activation: Activation) -> None:
        try:
            activation.hook(type(activation.actor).deactivating)
        except GarrisonError as error:
            log.warning("last turn failed", actor=activation.id, why=error.message)
        activation.begin_close()

    async def _release(self, activations: Iterable[Activation]) -> None:
        by_kind: dict[str, list[Activation]] = {}
        for activation in activations:
            by_kind.setdefault(activation.kind, []).append(activation)
        for kind, some in sorted(by_kind.items()):
            told = {activation.id for activation in some if activation.has_told_all}
            held = sorted((activation.id, activation.epoch) for activation in some)
            await self._services.store.release(kind, held, told, self._claimer.generation)

    # ---- loops ----

    async def collect(self) -> None:
        """Deactivate what has been idle for long, and what asked to end."""
        settings = self._services.settings.actors
        ticks_idle = max(1, round(settings.idle_timeout_s / settings.collect_interval_s))
        while True:
            await asyncio.sleep(settings.collect_interval_s)
            self._idle_ticks += 1
            sweep = self._idle_ticks >= ticks_idle
            if sweep:
                self._idle_ticks = 0
            if self._current.resting:
                continue
            await guarded(self.deactivate(await self._unused(sweep)))

    async def _unused(self, sweep: bool) -> list[Activation]:
        """Activations that asked to end and are idle; with `sweep` also those that ran no turn since the last one."""
        unused = []
        before = self._last_sweep
        if sweep:
            self._last_sweep = self._node.turn_number = self._node.turn_number + 1
            self._sweeps += 1
        async for some in self._slices(self.live if sweep else self._retiring):
            for it in some:
                if it.retiring:
                    if it.idle and not (it.telling or self._watched(it)):
                        unused.append(it)
                elif sweep and it.last_turn < before and self._may_end(it):
                    unused.append(it)
        return unused

    @staticmethod
    async def _slices(activations: dict[ActorId, Activation]) -> AsyncIterator[list[Activation]]:
        """Slices of what is in `activations` now, between which the loop does other things: some of a later
        slice may have ended meanwhile, or taken back that it asks to end. The copy is let go in slices, too: of a
        million activations that takes half as long as to make it."""
        ahead = list(activations.values())
        ahead.reverse()
        while ahead:
            some = ahead[-AT_ONCE:]
            del ahead[-AT_ONCE:]
            some.reverse()
            yield some
            if ahead:
                await asyncio.sleep(0)

    def note_retiring(self, activation: Activation) -> None:
        """Look at `activation` each time, not only as often as at what is idle, as long as it asks to end. One that
        does not live here, such as one for a call that only reads, ends without that."""
        if self.live.get(activation.id) is not activation:
            return
        if activation.retiring:
            self._retiring[activation.id] = activation
        else:
            del self._retiring[activation.id]

    @property
    def turns(self) -> int:
        """Turns of all activations so far, those that ended included."""
        return self._node.turn_number - self._sweeps

    def _may_end(self, activation: Activation) -> bool:
        busy = activation.retiring or activation.timers or activation.telling or self._watched(activation)
        return activation.idle and not busy

    @staticmethod
    def _watched(activation: Activation) -> bool:
        return activation.has_log and activation.log().watched

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> bool:
        """Drop the copy here if it is to give way to the one that is registered at `winner`: a volatile one
        is, a durable one has its fence, and one that moves goes by itself. True if the copy here stays, to be
        registered."""
        activation = self.live.get(identity)
        if activation is not None and not (activation.durable or activation.frozen) and winner != self._current.me:
            self.discard(activation, Moved(str(Location(winner))))
        return False if activation is None or activation.dropped else activation.durable and not activation.frozen


def _all_told(cls: type[Actor[Any]], owned: Owned) -> bool:
    """Tell whether the row of a logged actor says that no fact of it is open. A row that is behind its log says
    nothing."""
    return issubclass(cls, LoggedActor) and not owned.open_facts and owned.state_version == owned.next_seq - 1
