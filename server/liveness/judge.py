"""The judge: which runs are over, this node's own among them, by comparing gossip, the store and the journals.

    gossip hears a member that is dead in the store, or whose process is gone    it leaves the view
    the store, or another node, says that this run is dead                       this run ends at once
    the journal's place has lost this run's journal                              an orderly end, and a new run
    the store has a live lease of a node that gossip does not reach              told, and counted

Gossip (SWIM, Das et al. 2002, with Lifeguard) finds out who does not answer; only the store makes a run over,
and `undertaker.py` tells it. So a node that only the store has lost would stay in every view, and would serve
nobody: its neighbours take it out, and tell it when it asks.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

import msgspec
import structlog

from server.cluster.view import Member
from server.errors import GarrisonError, Unavailable
from server.ids import Incarnation, NodeAddress, NodeId
from server.liveness.lease import NodeLease
from server.liveness.neighbourhood import Neighbourhood
from server.liveness.ports import NodeRow, NodeStore, RunJournal
from server.liveness.undertaker import Undertaker
from server.liveness.unreached import Unreached
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import Settings
from server.transport.ports import Service, Transport
from server.wire.codec import decoded

log = structlog.get_logger(__name__)
_OVER = b"over"
_decode_over: Final = msgspec.msgpack.Decoder(list[NodeAddress]).decode


class JudgeLimits(msgspec.Struct, frozen=True):
    """Seconds and numbers that a judge goes by."""

    look_s: float = 0.2
    """Pause between looks at the journals: whether this run's own works, and, where locks can prove it,
    whether the neighbours' processes are still there."""
    ask_store_s: float = 2.0
    """Pause between questions to the store about all runs."""
    prune_s: float = 30.0
    """Pause before each look for rows of runs that are over and of which nothing is left to do."""
    kept_s: float = 60.0
    """Time for which such a row is kept after its lease, for whoever looks into the store."""
    unreached_s: float = 5.0
    """Age of a live lease that gossip does not know before it is told, at least two periods of a lease."""
    asked: int = 3
    """Other nodes that are asked at a time whether this run is over, while the store does not answer."""


LIMITS: Final = JudgeLimits()


class Verdicts(msgspec.Struct, frozen=True):
    """Calls that a judge makes: `run_is_over` (no turn may be acknowledged any more), `journal_is_gone` (end in
    order, and come back as a new run) and `members_are_over` (`Judge.living` leaves some out now)."""

    run_is_over: Callable[[], None]
    journal_is_gone: Callable[[], None]
    members_are_over: Callable[[], None]


class Judge:
    """See the module's head. `is_up`: whether this node serves; only then it looks for strangers."""

    def __init__(
        self,
        *,
        settings: Settings,
        nodes: NodeStore,
        journal: RunJournal | None,
        lease: NodeLease,
        undertaker: Undertaker,
        neighbourhood: Neighbourhood,
        transport: Transport,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        limits: JudgeLimits,
        is_up: Callable[[], bool],
        verdicts: Verdicts,
    ) -> None:
        self._settings, self._nodes, self._journal, self._lease = settings, nodes, journal, lease
        self._undertaker, self._neighbourhood, self._transport = undertaker, neighbourhood, transport
        self._clock, self._rng, self._metrics = clock, rng, metrics
        self._limits, self._is_up, self._verdicts = limits, is_up, verdicts
        self._unreached = Unreached(
            max(limits.unreached_s, 2 * settings.store.lease_period_s), longest_step_s=2 * limits.ask_store_s
        )
        self._over: dict[NodeAddress, None] = {}
        """Members that are over although gossip goes on hearing them."""
        self._broken_at: float | None = None
        self._me: NodeAddress | None = None

    def start(self, me: NodeAddress) -> None:
        """Begin to answer other nodes that ask whether they are over; before the transport starts."""
        self._me = me
        self._transport.serve(Service.NODE, self._answer)

    def watch(self, supervisor: Supervisor, asks_store: bool) -> None:
        """Look at the journals and, with `asks_store`, at the store, again and again."""
        if self._journal is not None:
            supervisor.every(self._limits.look_s, self._look_at_journals, "journals")
        supervisor.spawn(self._prune(), "prune")
        if self._settings.store.lease and asks_store:
            supervisor.every(self._limits.ask_store_s, self._ask_store, "store's nodes")

    def bequeath(self) -> bytes:
        """Members that are over although gossip goes on hearing them: an heir must not take them into its view again,
        not even until it has asked the store."""
        return msgspec.msgpack.encode(list(self._over))

    def inherit(self, data: bytes) -> None:
        """Go on from the predecessor's; before any view is taken. Raises `BadInput`."""
        self._over = dict.fromkeys(decoded(_decode_over, data, "bequest of the judge"))

    def living(self, members: Iterable[Member]) -> tuple[Member, ...]:
        """Members of gossip whose run is not known to be over."""
        members = tuple(members)
        if self._over:
            self._over = {member.address: None for member in members if member.address in self._over}
        return tuple(member for member in members if member.address not in self._over)

    def outnumbered(self) -> str:
        """Say why this node should not serve beside others on the same store; empty if it may. The larger side
        goes on: one stray node must not stop all."""
        up = sum(member.state == "up" for member in self._neighbourhood.view.members.values())
        strangers = self._unreached.nodes
        return _sentence(strangers) if strangers and len(strangers) >= up else ""

    def _others(self) -> list[NodeAddress]:
        return [address for address in self._neighbourhood.view.addresses if address != self._me]

    def _take_out(self, over: Sequence[NodeAddress]) -> None:
        """Take these out of the view, whatever gossip goes on saying."""
        if over:
            self._over.update(dict.fromkeys(over))
            self._verdicts.members_are_over()

    # ---- journals ----

    async def _look_at_journals(self) -> None:
        """A neighbour whose process is proven to be gone needs no failure detector, and its lease no waiting:
        its slots are free at once."""
        self._look_at_own_journal()
        self._take_out(await self._undertaker.bury_proven(self._others()))

    def _look_at_own_journal(self) -> None:
        """Tell whether a broken journal ends this run. It breaks because this run was taken for dead, which the next
        renewal says, or because its place has lost it, which is sure once a renewal was granted after that."""
        if self._journal is None or not self._journal.broken:
            return
        if self._broken_at is None:
            self._broken_at = self._clock.boot()
        elif self._lease.renewed_since(self._broken_at):
            self._verdicts.journal_is_gone()

    # ---- the store ----

    async def _ask_store(self) -> None:
        """Compare the store's runs with gossip: who is dead there leaves the view, since what it owned is free.
        Asked for are the living; of the view's members only those that are not among these. However many runs there
        were, what is read is of the size of the cluster."""
        members = list(self._neighbourhood.view.addresses)  # before asking: who joins meanwhile is in no answer
        assert self._me is not None, "start first"
        try:
            living = await self._nodes.living()
            alive = {NodeAddress(row.node, row.incarnation) for row in living}
            doubtful = sorted({self._me, *members} - alive)
            runs = await self._nodes.runs(doubtful) if doubtful else {}
        except Unavailable:
            if not self._lease.holds():
                await self._ask_others()
            return
        dead = {address for address, row in runs.items() if row.state == "dead"}
        if self._me in dead:
            self._verdicts.run_is_over()  # renewals fail, and other statements do not
            return
        over = [address for address in members if address in dead]
        if over:
            log.warning("dead in the store: out of the view", nodes=[str(address) for address in over])
        self._take_out(over)
        self._look_for_strangers(living)

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(self._limits.prune_s)
            try:
                await self._undertaker.prune(self._limits.kept_s)
            except GarrisonError as error:
                log.debug("runs that are over not forgotten yet", why=error.message)

    async def _ask_others(self) -> None:
        """Ask a few others whether this run is over: a node that only the store has lost hears of its burial
        from them."""
        others = self._others()
        for other in self._rng.sample(others, min(self._limits.asked, len(others))):
            try:
                answer = await self._transport.request(other, Service.NODE, b"", self._limits.ask_store_s / 2)
            except GarrisonError:
                continue
            if answer == _OVER:
                log.error("dead in the store, as another node says: this incarnation is over", says=str(other))
                self._verdicts.run_is_over()
                return

    def _answer(self, caller: NodeAddress, _payload: bytes) -> bytes:
        return _OVER if caller in self._over else b""

    def _look_for_strangers(self, rows: Sequence[NodeRow]) -> None:
        """A node that renews a lease in this store and is not in gossip works beside this cluster, on the same
        rows."""
        if not self._is_up():
            self._unreached.reset()
            self._metrics.unreached = 0
            return
        assert self._me is not None, "start first"
        known: dict[NodeId, Incarnation] = {self._me.node: self._me.incarnation}
        known.update((member.node, member.incarnation) for member in self._neighbourhood.view.members.values())
        if not self._unreached.follow(rows, known, self._clock.now()):
            return
        strangers = self._unreached.nodes
        self._metrics.unreached = len(strangers)
        if strangers:
            seeds = ", ".join(self._settings.gossip.seeds) or "none"
            log.error(f"{_sentence(strangers)}: check gossip.seeds ({seeds}), security.cluster_key and cluster")
        else:
            log.info("gossip reaches every node that holds a live lease in this store")


def _sentence(strangers: Sequence[NodeAddress]) -> str:
    holds, it = ("holds a live lease", "it") if len(strangers) == 1 else ("hold live leases", "them")
    return f"{', '.join(at.node for at in strangers)} {holds} in this store and gossip does not reach {it}"
