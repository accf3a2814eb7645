"""Live migration: activations go to another node with state, mailbox, timers and watchers.

    offer      the target says which it takes; from now on it expects them
    freeze     at a turn boundary: calls queue, timers stop
    ship       the target gets all that it needs to go on, and holds it
    give       one compare-and-set in the store: final state if it is not stored yet, epoch + 1, new owner
    go         one word, and they live there; then the calls that wait are passed on, in order, ahead
               of those that reach the target directly

Before it is offered, what is dirty is flushed and what is emitted is committed while the actors
serve, so that the compare-and-set carries what changed in the last moment only. Shipping and giving
go on at the same time, so a pause is one statement of the store and half a round trip.

What can happen on the way (rule 6 in docs/guarantees.md)
    The store refuses, or its answer is lost: the activation stays frozen and this node claims it
    again, until there is an answer, for as long as the node lives. Owned: it is this node's, under
    an epoch that the late compare-and-set can never meet; it thaws. Elsewhere after a lost answer: the
    compare-and-set was done, so it is shipped. Elsewhere after a refusal: it was lost before.
    Nothing thaws because of a timeout.
    The parcel is lost or refused, or the target dies: ownership is the target's all the same, so the
    copy here is dropped. The next call (or `wake`, for what lives by itself) has it claimed from the
    store, by the target or its heir; only time, timers and what `carry` gave are lost.
    The target is called too early: the call waits there, for a while; if the target then claims from
    the store, the parcel does not count any more (`arrivals.py`).
    A volatile actor is in no store: it goes only if the target says that it holds the parcel.

Bounds: `migrate_batch` a message, `BATCHES` under way, `REST_S` for turns that wait. A target that
was silent or got nothing is left alone for a while, so that it holds up no moves to others.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog

from server.activations import parcels
from server.activations.activation import Activation
from server.activations.parcels import Go, Offer, Open, Over, Queued, Ship
from server.catalog.ports import Endings, ForwardedCalls, Locations
from server.catalog.retries import Retries
from server.catalog.services import CurrentView, Services, StorageParts
from server.directory.location import Location
from server.errors import Corrupt, GarrisonError, Moved, Unavailable
from server.ids import ActorId, Epoch, NodeAddress
from server.runtime.backoff import backoff_s
from server.storage.ports import ClaimResult, Elsewhere, EntityMove, MoveResult, Owned
from server.transport.ports import Service

log = structlog.get_logger(__name__)
BATCHES: Final = 2
"""Batches under way from a node."""
REST_S: Final = 0.05
"""Longest time a migration delays an actor's new calls while one of its turns is still awaiting."""
ANSWER_S: Final = 1.0
"""Time for the target to answer."""
REFUSED_S: Final = 0.5
MOST_REFUSED_S: Final = 4.0
"""Time for which a target that took nothing is left alone at first, and at most."""
LOOK_S: Final = 0.001
"""Pause between two looks whether actors are at rest."""
MAX_COMMITS: Final = 100
"""Commits, at most, until the log of a halted actor is stored."""
Commit = Callable[[], Awaitable[None]]
_Word = tuple[asyncio.Future[bytes] | None, list[ActorId]]
"""The answer to a `Go`, if it could be sent, and those of its actors that live by themselves."""


class _Load:
    """An activation of a batch, and since when it is frozen."""

    __slots__ = ("activation", "data", "since")

    def __init__(self, activation: Activation, since: float) -> None:
        self.activation, self.since = activation, since
        self.data: bytes | None = None
        """Its parcel; None if it is too large for a message."""


class Migrator:
    """See the module's head."""

    def __init__(
        self,
        services: Services,
        current: CurrentView,
        *,
        storage: StorageParts,
        catalog: Endings,
        directory: Locations,
        calls: ForwardedCalls,
    ) -> None:
        self._services, self._current, self._clock = services, current, services.clock
        self._transport = services.transport
        self._claimer, self._write_behind, self._group_commit = (
            storage.claimer, storage.write_behind, storage.group_commit,
        )  # fmt: skip
        self._catalog, self._directory, self._calls = catalog, directory, calls
        self.number = 0
        """The number of the newest migration."""
        self.under_way = 0
        """Batches that are being moved."""
        self._room = asyncio.Semaphore(BATCHES)
        self._refusing: Retries[NodeAddress] = Retries(services.rng, REFUSED_S, MOST_REFUSED_S)
        """Targets that took nothing lately. Each try costs an answer that does not come, or a pause
        and a claim where the store refuses."""

    async def move(self, activations: Iterable[Activation], to: NodeAddress) -> int:
        """Move these to `to`; returns how many are there now. What does not come to rest soon, what the
        target does not take and what the store cannot take stays, and lives on; where `to` took
        nothing just now, all of it. Raises nothing of the store's or the network's. A caller that
        is cancelled leaves what has begun under way."""
        by_kind: dict[str, list[Activation]] = {}
        for activation in dict.fromkeys(activations):
            by_kind.setdefault(activation.kind, []).append(activation)
        size = self._services.settings.actors.migrate_batch
        batches = [
            self._services.supervisor.spawn(self._guarded(some[start : start + size], to), f"migrate {kind}")
            for kind, some in sorted(by_kind.items())
            for start in range(0, len(some), size)
        ]
        return sum([await asyncio.shield(batch) for batch in batches])

    async def _guarded(self, batch: list[Activation], to: NodeAddress) -> int:
        """Move a batch when there is room for it. A failure of any kind is counted."""
        async with self._room:
            if self._current.resting or not self._refusing.ready(to, self._clock.now()):
                return 0
            moved = 0
            self.under_way += 1
            try:
                moved = await self._move(batch, to)
            except Exception as error:
                self._refusing.failed(to, self._clock.now())
                known = isinstance(error, GarrisonError)
                log.warning(
                    "not migrated", to=str(to), count=len(batch), why=str(error), exc_info=None if known else error
                )
            finally:
                self.under_way -= 1
            self._services.metrics.migrations_total += moved
            self._services.metrics.migrations_failed_total += len(batch) - moved
            return moved

    async def _move(self, batch: list[Activation], to: NodeAddress) -> int:
        self.number += 1
        number, kind = self.number, batch[0].kind
        batch = await self._flush_ahead([activation for activation in batch if not activation.paused])
        if not batch:
            return 0
        try:
            batch, token = await self._offer(number, batch, to)
            if not batch:
                self._refusing.failed(to, self._clock.now())
            given, doubtful = await self._give(number, kind, batch, to, token)
            heard = self._let_go(number, given, to)
            if doubtful:
                resolved = await self._resolve(kind, doubtful)
                given += resolved
                heard += self._let_go(number, resolved, to)
            if given:
                self._refusing.done(to)
            elif doubtful:
                self._refusing.failed(to, self._clock.now())
        finally:
            self._transport.send(to, Service.MIGRATE, parcels.encode(Over(number, to.incarnation)))
        for word in heard:
            await self._heard(word, to)
        return len(given)

    # ---- while they serve ----

    async def _flush_ahead(self, batch: list[Activation]) -> list[Activation]:
        """Store what is dirty. Returns the activations that could be stored. Raises `Unavailable` where the store is
        away: nothing is to be frozen then."""
        behind = self._write_behind
        plain = [activation for activation in batch if activation.durable and not activation.has_log]
        if any(activation.has_log for activation in batch):
            await self._group_commit.commit()
        if plain:
            try:
                await behind.flush_these(plain)
            except Unavailable:
                if behind.failing:
                    raise
        return [activation for activation in batch if not (activation.dropped or behind.is_stuck(activation))]

    async def _offer(self, number: int, batch: list[Activation], to: NodeAddress) -> tuple[list[Activation], int]:
        """The activations of `batch` that the target takes, and its newest claim token. Raises what it answers, and the
        errors of a request."""
        offer = Offer(number, to.incarnation, [activation.id for activation in batch])
        answer = await self._transport.request(to, Service.MIGRATE, parcels.encode(offer), ANSWER_S)
        taken = parcels.decode_taken(answer)
        welcome = dict.fromkeys(taken.ids)
        return [activation for activation in batch if activation.id in welcome], taken.token

    # ---- frozen ----

    @asynccontextmanager
    async def _quiet(self, activation: Activation) -> "AsyncIterator[Commit | None]":
        """Let nothing of actors like `activation` be on its way to the store, but what `Commit` does."""
        if activation.has_log:
            async with self._group_commit.quiet() as commit:
                yield commit
        elif activation.durable:
            async with self._write_behind.quiet() as write_through:
                yield write_through if activation.through else None
        else:
            yield None

    async def _give(
        self, number: int, kind: str, batch: list[Activation], to: NodeAddress, token: int
    ) -> tuple[list[_Load], dict[_Load, bool]]:
        """Freeze and ship the batch, and make it the target's. Returns the loads that are, and those of
        which that is not known, with True where the store refused."""
        if not batch:
            return [], {}
        async with self._quiet(batch[0]) as commit:
            loads = self._pack(await self._freeze(batch, commit))
            shipped = self._ship(number, loads, to)
            if not batch[0].durable:
                return await self._held(loads, shipped), {}
            if not loads:
                return [], {}
            moves = [self._move_of(load.activation, to, token) for load in loads]
            results: dict[ActorId, MoveResult] = {}
            answered = False
            try:
                moves.sort(key=lambda move: move.id)
                results = await self._services.store.migrate(kind, moves, self._claimer.generation)
                answered = True
            except Exception as error:
                known = isinstance(error, GarrisonError)
                log.warning(
                    "migration unanswered",
                    kind=kind,
                    count=len(loads),
                    why=str(error),
                    exc_info=None if known else error,
                )
            finally:
                doubtful = {load: answered for load in loads if results.get(load.activation.id) != "moved"}
                for load in loads:
                    if load.activation.has_log or load.activation.dropped:
                        continue
                    if load in doubtful:
                        self._write_behind.set_aside(load.activation)
                    else:
                        load.activation.note_stored(load.activation.version)
                        self._write_behind.forget(load.activation)
        return [load for load in loads if load not in doubtful], doubtful

    def _move_of(self, activation: Activation, to: NodeAddress, token: int) -> EntityMove:
        state = activation.boundary if activation.dirty else None
        next_seq = activation.log().next_seq if activation.has_log else 0
        stored = activation.stored_version
        return EntityMove(activation.id, activation.epoch, activation.version, to, state, next_seq, token, stored)

    async def _freeze(self, batch: list[Activation], commit: Commit | None) -> list[_Load]:
        """Freeze the activations that come to rest soon; the others live on."""
        now = self._clock.now
        halted: dict[Activation, float] = {}
        frozen: list[_Load] = []
        try:
            halted.update((activation, now()) for activation in batch if activation.busy and activation.halt())
            await self._until(lambda: not any(activation.busy for activation in halted))
            if commit is not None:
                await commit()
            halted.update(
                (activation, now())
                for activation in batch
                if activation not in halted and not activation.busy and activation.halt()
            )
            if commit is not None:
                await self._commit(halted, commit)
            await self._until(lambda: not any(activation.held for activation in halted if not activation.busy))
            for activation, since in halted.items():
                if activation.at_rest and not (activation.has_log and activation.log().backlog()):
                    activation.freeze()
                    frozen.append(_Load(activation, since))
        finally:
            for activation in halted:
                if not activation.frozen:
                    activation.thaw()
        return frozen

    @staticmethod
    async def _commit(halted: Iterable[Activation], commit: Commit) -> None:
        for _ in range(MAX_COMMITS):
            if not any(it.log().backlog() if it.has_log else it.held for it in halted if not (it.busy or it.dropped)):
                return
            await commit()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for `condition`, `REST_S` at most."""
        deadline = self._clock.now() + REST_S
        while True:
            if condition() or self._clock.now() >= deadline:
                return
            await asyncio.sleep(LOOK_S)

    def _pack(self, loads: list[_Load]) -> list[_Load]:
        """Pack the loads. Returns those that can travel; the others live on."""
        most = self._services.settings.transport.max_frame_bytes // 2
        packed: list[_Load] = []
        for load in loads:
            activation = load.activation
            assert activation.frozen, f"{activation.id} is packed while turns may begin"
            if self._write_behind.is_stuck(activation):  # since it was flushed ahead
                activation.thaw()
                continue
            try:
                load.data = parcels.pack(activation, Epoch(activation.epoch + 1 if activation.durable else 0), most)
            except GarrisonError as error:
                log.error("cannot migrate", actor=activation.id, why=error.message)
                activation.thaw()
                continue
            if load.data is None and not activation.durable:
                log.error("cannot migrate: too large for a message", actor=activation.id)
                activation.thaw()
                continue
            packed.append(load)
        return packed

    # ---- whose is it? ----

    async def _resolve(self, kind: str, doubtful: dict[_Load, bool]) -> list[_Load]:
        """Claim what has no known owner until the store answers. Returns those that moved."""
        moved: list[_Load] = []
        attempt = 0
        while doubtful := {load: refused for load, refused in doubtful.items() if not load.activation.dropped}:
            for load, result in zip(list(doubtful), await self._claims(kind, list(doubtful)), strict=True):
                if isinstance(result, Owned):
                    self._is_mine(load.activation, result)
                    del doubtful[load]
                elif isinstance(result, Corrupt):  # claimed, under an epoch that nobody can tell any more
                    del doubtful[load]
                    load.activation.fenced()
                elif isinstance(result, Elsewhere) and result.owner != self._current.me:
                    if doubtful.pop(load):
                        load.activation.fenced()
                    else:
                        load.activation.note_stored(load.activation.version)  # gone with the ownership
                        moved.append(load)
            if doubtful:
                await asyncio.sleep(0.02 + backoff_s(attempt, self._services.rng, cap_s=0.5))
                attempt += 1
        return moved

    async def _claims(self, kind: str, loads: Sequence[_Load]) -> list[ClaimResult | Corrupt | None]:
        """The store's answer for each, None where there is none."""
        results: list[ClaimResult | Corrupt | None] = []
        try:
            claims = [self._claimer.claim(kind, load.activation.id) for load in loads]
        except GarrisonError:
            return [None for _ in loads]
        for claim in claims:
            try:
                results.append(await claim)
            except Corrupt as error:
                results.append(error)
            except GarrisonError as error:
                results.append(None)
                log.debug("owner not known yet", kind=kind, why=error.message)
        return results

    def _is_mine(self, activation: Activation, owned: Owned) -> None:
        """Go on with an activation that did not move. Its memory is the truth: nobody else has run a turn."""
        if activation.dropped:
            return
        if activation.has_log and activation.log().next_seq != owned.next_seq:
            self._catalog.lost(activation, 0)
            return
        activation.epoch = owned.epoch
        if activation.has_log:
            activation.log().renew(owned.epoch)
        else:
            # A flush whose answer was lost may have stored it under the epoch before.
            activation.note_stored(owned.state_version)
            if activation.stored_version >= activation.version:
                self._write_behind.forget(activation)
            else:
                self._write_behind.put_back(activation)
        activation.thaw()

    # ---- parcels ----

    def _ship(self, number: int, loads: list[_Load], to: NodeAddress) -> "list[asyncio.Future[bytes]]":
        """Send the parcels, in as few messages as hold them; the answers."""
        answers: list[asyncio.Future[bytes]] = []
        for part, some in enumerate(self._messages(loads)):
            data = [load.data for load in some if load.data is not None]
            try:
                answer = self._transport.request(
                    to, Service.MIGRATE, parcels.encode(Ship(number, to.incarnation, part, data)), ANSWER_S
                )
            except GarrisonError as error:
                log.warning("not shipped", to=str(to), count=len(some), why=error.message)
                continue
            answer.add_done_callback(partial(_note, "shipment", str(to)))
            answers.append(answer)
        return answers

    async def _held(self, loads: list[_Load], shipped: "list[asyncio.Future[bytes]]") -> list[_Load]:
        """The loads that the target says it holds; the others live on here."""
        held: dict[ActorId, None] = {}
        for answer in shipped:
            try:
                held.update(dict.fromkeys(parcels.decode_ids(await answer)))
            except GarrisonError as error:
                log.debug("not held", why=error.message)
        for load in loads:
            if load.activation.id not in held:
                load.activation.thaw()
        return [load for load in loads if load.activation.id in held]

    def _messages(self, loads: list[_Load]) -> list[list[_Load]]:
        """The loads, in as few messages as hold them all."""
        most = self._services.settings.transport.max_frame_bytes // 2
        out: list[list[_Load]] = []
        size = most
        for load in loads:
            if load.data is None:
                continue
            size += len(load.data)
            if size > most:
                out.append([])
                size = len(load.data)
            out[-1].append(load)
        return out

    # ---- gone ----

    def _let_go(self, number: int, loads: list[_Load], to: NodeAddress) -> "list[_Word]":
        """Give up what is the target's: say so, pass on the calls that wait, and drop the activations here."""
        loads = [load for load in loads if not load.activation.dropped]
        if not loads:
            return []
        ids = [load.activation.id for load in loads]
        lively = [it for it in (load.activation for load in loads) if it.timers or type(it.actor).lives_on]
        go = Go(number, to.incarnation, ids, [activation.id for activation in lively])
        answer: asyncio.Future[bytes] | None = None
        try:
            answer = self._transport.request(to, Service.MIGRATE, parcels.encode(go), ANSWER_S)
            answer.add_done_callback(_seen)
        except GarrisonError as error:
            log.warning("the target of a migration is out of reach", to=str(to), why=error.message)
        for load in loads:
            if answer is not None:
                for call in load.activation.hand_over():
                    self._calls.pass_on(call, load.activation.id, partial(self._pass_on, number, to))
            self._drop(load, to)
        self._transport.send(to, Service.MIGRATE, parcels.encode(Open(number, to.incarnation, ids)))
        return [(answer, [activation.id for activation in lively if activation.durable])]

    async def _heard(self, word: "_Word", to: NodeAddress) -> None:
        """Wait until the target has heard. Otherwise wake what lives by itself."""
        answer, lively = word
        if answer is not None:
            try:
                await answer
                return
            except GarrisonError as error:
                log.warning("no answer from the target of a migration", to=str(to), why=error.message)
        for identity in lively:
            self._calls.tell(identity, "wake", ())

    def _drop(self, load: _Load, to: NodeAddress) -> None:
        activation = load.activation
        self._catalog.discard(activation, Moved(str(Location(to, here=True))))
        owner = self._current.owner(activation.id)
        if owner == self._current.me:
            self._directory.register(activation.id, to)
        elif owner != to:
            self._calls.note_place(activation.id, to)
        self._services.metrics.migration_pause_seconds.observe(self._clock.now() - load.since)

    def _pass_on(self, number: int, to: NodeAddress, call: bytes, left_s: float) -> "asyncio.Future[bytes]":
        queued = parcels.encode(Queued(number, to.incarnation, call))
        return self._transport.request(to, Service.MIGRATE, queued, left_s)


def _seen(answer: "asyncio.Future[bytes]") -> None:
    """Mark the answer's error as seen: it is for who awaits it, if this node lives so long."""
    if not answer.cancelled():
        answer.exception()


def _note(what: str, to: str, answer: "asyncio.Future[bytes]") -> None:
    """Log the error of an answer that nobody waits for."""
    error = None if answer.cancelled() else answer.exception()
    if error is not None:
        log.warning(f"{what} not taken", to=to, why=str(error))
