"""Word to the session's actors here that a run of a node is over, with the sessions that it served.

Nobody says `disconnected` for a session whose node died, and the actor may live on another node than its session had.
So a while after a member has gone out of the view each node looks through its session's actors, a slice at a time, and
calls `run_over` of those that have a session there (`server.actors.session_actor.RunWatcher`). A member that said
goodbye, or whose node is back as another run, is over at once. One that was only cut off and comes back has its
sessions told again by themselves; so the store need not be asked. Actors that move here meanwhile are found later.
"""

import asyncio
from typing import Any, Final

from server.actors.session_actor import RunWatcher
from server.catalog.ports import ActorCalls, Population
from server.catalog.services import CurrentView, Services
from server.cluster.view import View
from server.ids import NodeAddress, kind_of

LOOKS_S: Final = (0.0, 5.0, 30.0)
"""Times of the looks, from the moment at which the run counts as over."""
PERIODS: Final = 2
"""Lease periods after which a member that has gone without a goodbye counts as over."""
SLICE: Final = 500
"""Actors that are looked at in one turn of the loop."""


class RunsOver:
    """See the module's head. Calls are at most `actors.rebalance_per_s`, as moves are."""

    def __init__(self, services: Services, current: CurrentView, *, catalog: Population, calls: ActorCalls) -> None:
        self._current, self._catalog, self._calls = current, catalog, calls
        self._clock, self._per_s = services.clock, services.settings.actors.rebalance_per_s
        self._after_s = PERIODS * services.settings.store.lease_period_s
        cls = services.app.session_actor
        self._kind = cls.kind if cls is not None and issubclass(cls, RunWatcher) else None
        self._due: dict[NodeAddress, list[float]] = {}
        self._changed = asyncio.Event()

    @property
    def wanted(self) -> bool:
        """True where the application's session actor asks for it."""
        return self._kind is not None

    def on_view(self, before: View, view: View) -> None:
        """Plan looks for who has gone, and none for who is back."""
        if self._kind is None:
            return
        now = self._clock.now()
        for address, member in before.addresses.items():
            if address not in view.addresses:
                over = member.state == "leaving" or address.node in view.members
                at = now if over else now + self._after_s
                self._due[address] = [at + more for more in LOOKS_S]
        for address in [address for address in self._due if address in view.addresses]:
            del self._due[address]
        self._changed.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._changed.clear()
            address = min(self._due, key=lambda run: self._due[run][0], default=None)
            try:
                async with asyncio.timeout(None if address is None else self._due[address][0] - self._clock.now()):
                    await self._changed.wait()
            except TimeoutError:
                assert address is not None
                times = self._due[address]
                del times[0]
                if not times:
                    del self._due[address]
                await self.look(address)

    async def look(self, run: NodeAddress) -> int:
        """Tell those who have a session at `run`, which is over. Returns how many."""
        told = 0
        here = [identity for identity in self._catalog.live if kind_of(identity) == self._kind]
        for start in range(0, len(here), SLICE):
            before = told
            for identity in here[start : start + SLICE]:
                activation = self._catalog.live.get(identity)
                actor: Any = activation.actor if activation is not None else None
                if actor is not None and actor.is_served_by(run.node, run.incarnation):
                    self._calls.tell(identity, "run_over", (run.node, run.incarnation))
                    told += 1
            await asyncio.sleep((told - before) / self._per_s)
        return told
