"""Word to the session's actors here that a run of a node is over, with the sessions that it served.

Nobody says `disconnected` for a session whose node died, and the actor may live on another node than its session had.
So after each change of the view each node looks through its session's actors, a slice at a time, and calls `run_over`
of those that have a session at a run that is over (`server.actors.session_actor.RunWatcher`): its node is back as a
later run, or has been out of the view for a while. One that was only cut off and comes back has its sessions told again
by themselves; so the store need not be asked. Actors that move meanwhile, with what they know, are found later.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from server.actors.session_actor import RunWatcher
from server.catalog.ports import ActorCalls, Population
from server.catalog.services import CurrentView, Services
from server.cluster.view import View
from server.ids import Incarnation, NodeAddress, NodeId, kind_of

LOOKS_S: Final = (0.1, 5.0, 30.0)
"""Times of the looks after a change of the view, and again from the moment at which who is missing counts as over."""
PERIODS: Final = 2
"""Lease periods after which a node that is out of the view counts as over."""
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
        self._missing: dict[NodeAddress, float] = {}
        """Runs out of the view that somebody has a session at, and since when that is known."""
        self._due: list[float] = []
        self._changed = asyncio.Event()

    @property
    def wanted(self) -> bool:
        """True where the application's session actor asks for it."""
        return self._kind is not None

    def on_view(self, before: View, view: View) -> None:
        """Plan looks; forget that somebody who is back was missing."""
        if self._kind is None:
            return
        now = self._clock.now()
        for address in before.addresses:
            if address not in view.addresses:
                self._missing.setdefault(address, now)
        self._missing = {run: at for run, at in self._missing.items() if run not in view.addresses}
        self._due = [now + delay for delay in (*LOOKS_S, *(self._after_s + more for more in LOOKS_S))]
        self._due.sort()
        self._changed.set()

    def plans(self) -> tuple[list[tuple[NodeAddress, float]], list[float]]:
        """Runs that are missing, with the seconds since that is known, and the seconds until each look."""
        now = self._clock.now()
        return [(run, now - since) for run, since in self._missing.items()], [at - now for at in self._due]

    def go_on_with(self, missing: Iterable[tuple[NodeAddress, float]], looks: Iterable[float]) -> None:
        """Go on with the plans of another process."""
        now = self._clock.now()
        self._missing = {run: now - ago_s for run, ago_s in missing}
        self._due = sorted(now + left_s for left_s in looks)
        self._changed.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._due[0] - self._clock.now() if self._due else None):
                    await self._changed.wait()
            except TimeoutError:
                del self._due[0]
                await self.look()

    async def look(self) -> int:
        """Tell those who have a session at a run that is over. Returns how many."""
        told = 0
        here = [identity for identity in self._catalog.live if kind_of(identity) == self._kind]
        for start in range(0, len(here), SLICE):
            before = told
            for identity in here[start : start + SLICE]:
                if self._current.resting:
                    return told
                activation = self._catalog.live.get(identity)
                actor: Any = activation.actor if activation is not None else None
                for node, incarnation in self._over(actor.runs()) if actor is not None else ():
                    self._calls.tell(identity, "run_over", (node, incarnation))
                    told += 1
            await asyncio.sleep((told - before) / self._per_s)
        self._missing = {run: at for run, at in self._missing.items() if at > self._clock.now() - self._forget_s}
        return told

    @property
    def _forget_s(self) -> float:
        return 2 * (self._after_s + LOOKS_S[-1])

    def _over(self, runs: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        view, now = self._current.view, self._clock.now()
        out = []
        for node, incarnation in runs:
            run = NodeAddress(NodeId(node), Incarnation(incarnation))
            if not node or run in view.addresses:
                continue
            member = view.members.get(run.node)
            if member is not None and member.incarnation < incarnation:
                continue  # a newer run than the view has
            if member is not None or now >= self._missing.setdefault(run, now) + self._after_s:
                out.append((node, incarnation))
        return out
