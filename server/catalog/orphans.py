"""Waking of actors that live on by themselves and have no node any more (orphans).

Most actors come back with the next call. A live match must go on also if nobody calls it: its clock
runs, its host may have vanished with the node. So slot owners ask the store which entities of such
kinds (`Actor.lives_on`) have no live owner, and give those of their slots a turn, `wake`, which
brings them into memory here. An actor whose row says that it has open facts (`server/actors/facts.py`)
is such an orphan too: the other side would wait for ever. They ask at `actors.orphan_poll_s`, and often for a
while after the start and after a member has gone: its entities are orphans once the store knows it
dead, some time after gossip has lost it.

Where the answer to a claim is lost, this node may be the owner of what it has not got: the store names it to nobody
any more, and nobody may call it. So whatever could not be woken is woken again, until it lives or says why it cannot.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from server.actors.facts import tells_facts
from server.catalog.ports import ActorCalls, Population
from server.catalog.retries import Retries
from server.catalog.services import CurrentView, Services
from server.cluster.view import View
from server.errors import BadInput, Corrupt, GarrisonError, UnknownRules
from server.ids import ActorId, parse_actor_id

log = structlog.get_logger(__name__)


class OrphanLimits(msgspec.Struct, frozen=True):
    """Numbers and seconds that the looking goes by."""

    page: int = 256
    """Orphans of one kind that the store is asked for at a time."""
    pages_a_look: int = 8
    under_way: int = 512
    """Actors that are being woken at a time, at most."""
    soon_s: float = 0.5
    """Time between looks for a while after somebody has gone."""
    unsure: int = 10_000
    """Actors at most that are woken again although the store does not name them."""
    soon_periods: int = 5
    """Lease periods during which a node looks every `soon_s` after somebody has gone."""


LIMITS: Final = OrphanLimits()


class Orphans:
    """See the module's head. Looks, wakes at a time and wakes a second are bounded (the last by
    `actors.rebalance_per_s`, as moves are)."""

    def __init__(
        self,
        services: Services,
        current: CurrentView,
        *,
        catalog: Population,
        calls: ActorCalls,
        limits: OrphanLimits = LIMITS,
    ) -> None:
        self.limits = limits
        self._services, self._current, self._catalog, self._calls = services, current, catalog, calls
        self._clock, self._actors = services.clock, services.settings.actors
        self._kinds = [cls.kind for cls in services.app.actors if cls.lives_on or tells_facts(cls)]
        self._after: dict[str, ActorId] = {}
        self._under_way: dict[ActorId, None] = {}
        self._unsure: dict[ActorId, None] = {}
        """Actors that could not be woken, and that may be this node's all the same."""
        self._retries: Retries[ActorId] = Retries(services.rng)
        self._gone = asyncio.Event()
        self._often_until = 0.0

    @property
    def wanted(self) -> bool:
        """True where the application has actors that live on by themselves, or have facts."""
        return bool(self._kinds)

    @property
    def under_way(self) -> int:
        """Actors that are being woken."""
        return len(self._under_way)

    @property
    def unsure(self) -> list[ActorId]:
        """Actors that are woken again although the store does not name them, or are being woken."""
        return [*dict.fromkeys((*self._unsure, *self._under_way))]

    def wake_again(self, identities: Iterable[ActorId]) -> None:
        """Wake these too: the process before this one could not."""
        self._unsure.update(dict.fromkeys(identities))

    def on_view(self, before: View, view: View) -> None:
        """Look often for a while if a member has gone: it may have died."""
        if any(address not in view.addresses for address in before.addresses):
            self._look_often()
            self._gone.set()

    def _look_often(self) -> None:
        self._often_until = self._clock.now() + self.limits.soon_periods * self._services.settings.store.lease_period_s

    async def run(self) -> None:
        """Look for ever."""
        self._look_often()
        failures = 0
        more = False
        while True:
            if not more:
                await self._pause()
            more = False
            try:
                more = await self.look()
                failures = 0
            except Exception as error:
                failures += 1
                if failures == 1:
                    known = isinstance(error, GarrisonError)
                    log.warning("cannot look for orphans", why=str(error), exc_info=None if known else error)

    async def _pause(self) -> None:
        """Wait until the next look is due; `limits.soon_s` after somebody has gone."""
        if self._clock.now() >= self._often_until:
            self._gone.clear()
            try:
                async with asyncio.timeout(self._actors.orphan_poll_s * self._services.rng.uniform(0.8, 1.2)):
                    await self._gone.wait()
            except TimeoutError:
                return
        await asyncio.sleep(self.limits.soon_s)

    async def look(self) -> bool:
        """Begin to wake what needs it. True if there is more than one look takes. Raises the store's
        `Unavailable`."""
        if self._catalog.closed is not None or self._current.resting:
            return False
        self._wake_unsure()
        more = False
        for kind in self._kinds:
            more |= await self._look_for(kind)
        return more

    def _wake_unsure(self) -> None:
        """Try again what may be this node's: also where its slot is another node's by now, which finds it here."""
        for identity in list(self._unsure):
            if identity in self._catalog.live:
                del self._unsure[identity]
            elif len(self._under_way) < self.limits.under_way and identity not in self._under_way:
                self._begin(identity)

    async def _look_for(self, kind: str) -> bool:
        """Look on where the last look ended, so that what cannot be woken holds nothing else up."""
        for _ in range(self.limits.pages_a_look):
            page = await self._find(kind, self._after.get(kind))
            woken = 0
            for identity in page:
                if len(self._under_way) >= self.limits.under_way:
                    await asyncio.sleep(self.limits.soon_s)
                    return True
                woken += self._consider(identity)
                self._after[kind] = identity
            if len(page) < self.limits.page:
                self._after.pop(kind, None)
                return False
            await asyncio.sleep(woken / self._actors.rebalance_per_s)
        return True

    async def _find(self, kind: str, after: ActorId | None) -> list[ActorId]:
        return await self._services.store.orphans(kind, self.limits.page, after)

    def _consider(self, identity: ActorId) -> bool:
        """Begin to wake `identity` if that is this node's to do now. True if it is being woken."""
        if not self._current.is_mine(identity) or identity in self._catalog.live or identity in self._under_way:
            return False
        return self._begin(identity)

    def _begin(self, identity: ActorId) -> bool:
        if self._current.resting or not self._retries.ready(identity, self._clock.now()):
            return False
        self._under_way[identity] = None
        self._services.supervisor.spawn(self._wake(identity), f"wake {identity}")
        return True

    async def _wake(self, identity: ActorId) -> None:
        try:
            parse_actor_id(identity)  # a row may have been made by hand: it fails alone
            await self._calls.ask(identity, "wake", ())
            self._services.metrics.orphans_woken_total += 1
            self._retries.done(identity)
            self._unsure.pop(identity, None)
        except GarrisonError as error:
            self._retries.failed(identity, self._clock.now())
            if isinstance(error, BadInput | Corrupt | UnknownRules):  # no waking will do
                self._unsure.pop(identity, None)
            elif len(self._unsure) < self.limits.unsure:
                self._unsure[identity] = None
            log.debug("orphan not woken", actor=identity, why=error.message)
        finally:
            del self._under_way[identity]
