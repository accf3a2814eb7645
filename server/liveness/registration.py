"""Registration: the store issues the incarnation of a new run of this node.

An earlier run of the same name may hold its lease still: it is waited for, unless its journal proves that its
process is gone. An heir needs no new run: it takes over the one of its predecessor, by `succeed`.
"""

import asyncio

import structlog

from server.errors import Unavailable
from server.ids import NodeAddress, NodeId
from server.liveness.lease import NodeLease
from server.liveness.ports import NodeStore, RunJournal
from server.liveness.undertaker import Undertaker
from server.runtime.clock import Clock
from server.settings import Settings

log = structlog.get_logger(__name__)
PERIODS = 3
"""Lease periods that an earlier run of this name is waited for."""
PAUSE_S = 0.5
SUCCEED_PAUSE_S = 0.02
"""Pause before an heir asks again: nobody is served meanwhile."""


class Registration:
    """See the module's head. `register` is called once; `journal`, if there is one, has been prepared."""

    def __init__(
        self,
        *,
        settings: Settings,
        nodes: NodeStore,
        journal: RunJournal | None,
        lease: NodeLease,
        undertaker: Undertaker,
        clock: Clock,
    ) -> None:
        self._settings, self._nodes, self._journal = settings, nodes, journal
        self._lease, self._undertaker, self._clock = lease, undertaker, clock
        self._asked = False

    async def register(self) -> NodeAddress:
        """The address of the new run, with its lease granted. Raises `Unavailable` where the store does not
        answer, or another live process has this name."""
        settings = self._settings
        deadline = self._clock.now() + PERIODS * settings.store.lease_period_s
        told = False
        while True:
            try:
                return await self._register_once()
            except Unavailable as error:
                if self._clock.now() >= deadline:
                    if await self._earlier_runs():
                        why = f"setting node: another live process is called {settings.node}; names must differ"
                        raise Unavailable(why) from None
                    raise
                if await self._bury_earlier_runs():
                    continue
                if not told:
                    log.info("waiting to register", node=settings.node, why=error.message)
                told = True
                await asyncio.sleep(min(PAUSE_S, error.retry_after_s or PAUSE_S))

    async def succeed(self, me: NodeAddress, generation: int) -> bool:
        """Take the run `me` over from the process of the generation before, with its lease granted, and its journal the
        one that is open here. False where the run is over, or another process has it: this one must end. An answer may
        be lost, so the store is asked again for a lease period, and its silence is then `Unavailable`."""
        settings, journal = self._settings.store, self._journal
        lease_s = settings.lease_period_s if settings.lease else None
        place = journal.place if journal is not None else ""
        deadline = self._clock.boot() + settings.lease_period_s
        while True:
            sent_at = self._clock.boot()
            try:
                taken = await self._nodes.succeed_node(me, generation, place, lease_s)
            except Unavailable:
                if self._clock.boot() >= deadline:
                    raise
                await asyncio.sleep(SUCCEED_PAUSE_S)
                continue
            if taken:
                self._lease.granted(sent_at)
            return taken

    async def _register_once(self) -> NodeAddress:
        """Ask the store. The answer may be lost and the run be there: from the second time on the journal is
        prepared anew, so that no two runs have one place."""
        settings, journal = self._settings, self._journal
        if journal is not None and self._asked:
            await journal.prepare()
        self._asked, sent_at = True, self._clock.boot()
        lease_s = settings.store.lease_period_s if settings.store.lease else None
        place = journal.place if journal is not None else ""
        incarnation = await self._nodes.register_node(NodeId(settings.node), lease_s, place)
        self._lease.granted(sent_at)
        return NodeAddress(NodeId(settings.node), incarnation)

    async def _bury_earlier_runs(self) -> bool:
        """Bury the earlier runs whose processes are proven dead; returns whether that were all, so that none
        need be waited for. Raises `Unavailable`."""
        if self._journal is None:
            return False
        live = await self._earlier_runs()
        return bool(live) and len(await self._undertaker.bury_proven(live)) == len(live)

    async def _earlier_runs(self) -> list[NodeAddress]:
        """Runs of this name that are not over in the store. Raises `Unavailable`."""
        living = await self._nodes.living()
        return [NodeAddress(row.node, row.incarnation) for row in living if row.node == self._settings.node]
