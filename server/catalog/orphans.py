"""Waking what lives on by itself and has no node any more.

Most actors come back with the next call. A live match must go on also if nobody calls it: its clock
runs, its host may have vanished with the node. So slot owners ask the store which entities of such
kinds (`Actor.lives_on`) have no live owner, and give those of their slots a turn, `wake`, which
brings them into memory here. They ask at `actors.orphan_poll_s`, and often for a while after the
start and after a member has gone: its entities are orphans once the store knows it dead, some time
after gossip has lost it.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from server.actors.actor import Actor, LoggedActor
from server.actors.app import App
from server.catalog.retries import Retries
from server.cluster.view import View
from server.errors import GarrisonError
from server.ids import ActorId, parse_actor_id

if TYPE_CHECKING:
    from server.catalog.system import ActorSystem

log = structlog.get_logger(__name__)
PAGE: Final = 256
PAGES_A_LOOK: Final = 8
UNDER_WAY: Final = 512
SOON_S: Final = 0.5
SOON_PERIODS: Final = 5
"""Lease periods during which a node looks every `SOON_S` after somebody has gone."""


def still_live(app: App) -> dict[str, Callable[[Any], bool]]:
    """Of each kind that lives on by itself, whether an entity with a given state still does: for a
    store that keeps states and not columns."""
    return {cls.kind: partial(_lives, cls) for cls in app.actors if cls.lives_on}


def _lives(cls: type[Actor[Any]], state: Any) -> bool:
    return not (issubclass(cls, LoggedActor) and cls.finished(state))


class Orphans:
    """See the module's head. Looks, wakes at a time and wakes a second are bounded (the last by
    `actors.rebalance_per_s`, as moves are)."""

    def __init__(self, host: "ActorSystem") -> None:
        self._host = host
        self._kinds = [cls.kind for cls in host.app.actors if cls.lives_on]
        self._after: dict[str, ActorId] = {}
        self._under_way: dict[ActorId, None] = {}
        self._retries: Retries[ActorId] = Retries(host.rng)
        self._gone = asyncio.Event()
        self._often_until = 0.0

    @property
    def wanted(self) -> bool:
        """Whether the application has anything that lives on by itself."""
        return bool(self._kinds)

    def on_view(self, before: View, view: View) -> None:
        """Somebody may have died."""
        if any(address not in view.addresses for address in before.addresses):
            self._look_often()
            self._gone.set()

    def _look_often(self) -> None:
        host = self._host
        self._often_until = host.clock.now() + SOON_PERIODS * host.settings.store.lease_period_s

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
        """Until the next look is due; `SOON_S` after somebody has gone."""
        host = self._host
        if host.clock.now() >= self._often_until:
            self._gone.clear()
            try:
                async with asyncio.timeout(host.settings.actors.orphan_poll_s * host.rng.uniform(0.8, 1.2)):
                    await self._gone.wait()
            except TimeoutError:
                return
        await asyncio.sleep(SOON_S)

    async def look(self) -> bool:
        """Begin to wake what needs it; whether there is more than one look takes. Raises the store's
        `Unavailable`."""
        if self._host.catalog.closed is not None:
            return False
        more = False
        for kind in self._kinds:
            more |= await self._look_for(kind)
        return more

    async def _look_for(self, kind: str) -> bool:
        """Continues where the last look ended, so that what cannot be woken holds nothing else up."""
        host = self._host
        for _ in range(PAGES_A_LOOK):
            page = await host.store.orphans(kind, PAGE, self._after.get(kind))
            woken = 0
            for identity in page:
                if len(self._under_way) >= UNDER_WAY:
                    await asyncio.sleep(SOON_S)
                    return True
                woken += self._consider(identity)
                self._after[kind] = identity
            if len(page) < PAGE:
                self._after.pop(kind, None)
                return False
            await asyncio.sleep(woken / host.settings.actors.rebalance_per_s)
        return True

    def _consider(self, identity: ActorId) -> bool:
        """Whether `identity` is being woken now."""
        host = self._host
        if host.owner(identity) != host.me or identity in host.catalog.live or identity in self._under_way:
            return False
        if not self._retries.ready(identity, host.clock.now()):
            return False
        self._under_way[identity] = None
        host.supervisor.spawn(self._wake(identity), f"wake {identity}")
        return True

    async def _wake(self, identity: ActorId) -> None:
        host = self._host
        try:
            parse_actor_id(identity)  # a row may have been made by hand: it fails alone
            await host.ask(identity, "wake", ())
            host.metrics.orphans_woken_total += 1
            self._retries.done(identity)
        except GarrisonError as error:
            self._retries.failed(identity, host.clock.now())
            log.debug("orphan not woken", actor=identity, why=error.message)
        finally:
            del self._under_way[identity]
