"""Taking over from runs that are over: changes that their journals hold and the store does not.

When a claim takes an entity from an owner that did not give it up in order, its newest change may
be in a journal only: in that owner's, or, if that owner died while it took over itself, in the one
before. So the claimant looks into the journals of *all* open estates, takes the newest record by
(epoch, version), and if that is newer than the store's row it is written under the claimant's own epoch before
the first turn (rule 5 in docs/guarantees.md; ARIES repeats history in the same way: redo only what is newer than the
version on the page). From then on the record is older than the row, whoever looks at it.

An estate may be closed, and its journal removed, when the store has something newer than each of its records.
`run` sees to that: it brings what nobody asked for into memory, and so into the store, and then closes the
estate. Several nodes may do so at once: each step is idempotent.

A journal that cannot be read here belongs to another host. `takeover = wait`: its entities stay with
their dead owner until its node is back, which reads it (`waiting.py`), or an operator forgets it. `takeover =
lose`: they are taken over as stored, and each is counted; a journal that nobody has read for long is given
up. A journal that is known to be gone (shared memory after a restart of the machine) reads as empty, and damaged.

A record of a kind that this program does not have may be one of a newer program, whose nodes read it:
its estate is not closed here. A record that is no state of its kind, or that the store cannot take, is
*unusable*: it makes its entity `Corrupt`, and hinders no other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from random import Random
from typing import Any, Final

import msgspec
import structlog

from server import states
from server.errors import Corrupt, GarrisonError, Unavailable
from server.ids import ActorId, Epoch, NodeAddress, kind_of
from server.liveness.ports import Estate, NodeStore
from server.liveness.undertaker import Undertaker
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import JournalSettings
from server.storage.journal.ports import Journal, JournalRecord, Recovered
from server.storage.ports import Change, ClaimResult, EntityStore, Owned
from server.storage.waiting import Waiting
from server.wire.codec import UNDECODABLE

log = structlog.get_logger(__name__)
BURY_EVERY_S: Final = 0.1
"""Least time between two burials for claims that wait, however many do."""
CLOSE_EVERY_S: Final = 1.0
"""Pause between two rounds over all open estates."""
ROWS_PER_S: Final = 2_000
"""Open estates that are read again a second where no claim depends on it: with more, a node looks seldomer."""
ASKED_AGAIN: Final = 200
"""Places that could not be read and are tried again at a look; also how many are tried without a pause."""
CLOSE_AT_ONCE: Final = 500
"""Entities of an estate that are looked up, and activated, at the same time."""
OWN_SLOTS_ROUNDS: Final = 3
"""Rounds in which each node takes only what belongs into its slots anyway; then whatever it can read."""
GIVEN_UP_ROUNDS: Final = 30
"""With `takeover = lose`, rounds after which an estate is closed with a loss: another node may have gone on from
an older state meanwhile, and never asks."""
UNREAD_ROUNDS: Final = 600
"""With `takeover = lose`, rounds after which an estate is closed that no node could read: what its run owned is
taken over as stored anyway, and its row would stay, and be read, for ever."""
RETRY_ROUNDS: Final = 10
"""Every so many rounds unusable records are tried again: the store may take them by now."""
MAX_SENTENCES: Final = 20
"""Log lines about one journal; the rest is counted."""

Activate = Callable[[ActorId, bool], Awaitable[Any]]
"""Bring an actor into memory here and so claim it. The second argument: only if its slot is this
node's. Raises a `GarrisonError` where another node has it, or should."""


class OpenEstate:
    """An estate that is not closed yet, as far as this node has come with it."""

    __slots__ = ("estate", "recovered", "rounds", "stuck", "unknown_kinds", "unusable")

    def __init__(self, estate: Estate) -> None:
        self.estate = estate
        self.recovered: Recovered | None = None
        """The journal's contents, once they were read."""
        self.rounds = 0
        self.unusable: set[ActorId] = set()
        """Entities whose newest record is here, and is no state of this program or not taken by the store."""
        self.unknown_kinds = 0
        """Records of kinds that this program does not have."""
        self.stuck = 0
        """Records that are left, once nothing but unusable ones and those of unknown kinds is; else 0."""

    @property
    def is_retried(self) -> bool:
        """True in the rounds that try unusable records again."""
        return self.rounds % RETRY_ROUNDS == 0


class Takeover:
    """See the module's head. `state_types` names the state of each write-behind kind."""

    def __init__(
        self,
        *,
        nodes: NodeStore,
        entities: EntityStore,
        undertaker: Undertaker,
        journal: Journal | None,
        settings: JournalSettings,
        state_types: dict[str, type[msgspec.Struct]],
        clock: Clock,
        metrics: Metrics,
        rng: Random,
    ) -> None:
        self._nodes, self._entities, self._undertaker, self._journal = nodes, entities, undertaker, journal
        self._waiting = Waiting(rng)
        self._settings, self._clock, self._metrics = settings, clock, metrics
        self._decoders = {kind: states.decoder(cls) for kind, cls in state_types.items()}
        self._seen: list[Estate] = []
        """The estates that were open when the store was last asked."""
        self._readable: dict[str, bool] = {}
        """Places of their journals: whether each can be read here."""
        self._looked_at = float("-inf")
        self._open: dict[Estate, OpenEstate] = {}
        self._reading = asyncio.Lock()
        self._buried_at = float("-inf")
        self._me: NodeAddress | None = None

    def start(self, me: NodeAddress) -> None:
        """Begin this run, whose address is known now."""
        self._me = me

    async def bury(self, owner: NodeAddress) -> None:
        """Bury `owner`, for which a claim waits, if that may be done, and look which journals may be read now.
        Raises `Unavailable`."""
        now = self._clock.now()
        if now < self._buried_at + BURY_EVERY_S:
            return
        self._buried_at = now
        await self._undertaker.bury(owner)
        await self._look(fresh=False)

    async def _look(self, fresh: bool = True) -> list[Estate]:
        """The open estates. Not `fresh`: as they were lately, the longer ago the more they are."""
        if not fresh and self._clock.now() < self._looked_at + len(self._seen) / ROWS_PER_S:
            return self._seen
        self._looked_at = self._clock.now()
        seen = await self._nodes.estates()
        self._readable = await self._find_readable(seen)
        self._seen = seen
        if self._settings.takeover == "wait":
            self._waiting.follow((it for it in seen if not self._reads(it)), self._clock.now())
        return seen

    async def _find_readable(self, estates: list[Estate]) -> dict[str, bool]:
        """Ask the journal which places it can read, which may mean to look at a disk: all that are new or could be
        read, and a few of those that could not, in turn, since the journals of hosts that are gone may be many."""
        before = self._readable
        places = dict.fromkeys(estate.journal for estate in estates)
        again = [place for place in before if place in places and not before[place]][:ASKED_AGAIN]
        kept = {place: False for place in before if place in places and not before[place]}
        readable = {place: kept[place] for place in kept if place not in again}
        asked = [*(place for place in places if place not in kept), *again]
        for number, place in enumerate(asked, 1):
            readable[place] = self._journal is not None and self._journal.reads(place)
            if number % ASKED_AGAIN == 0:
                await asyncio.sleep(0)
        return readable

    def _reads(self, estate: Estate) -> bool:
        return self._readable.get(estate.journal, False)

    def away(self) -> str:
        """Say which journals cannot be read here while entities wait for them, and count these; empty where none is."""
        self._metrics.waiting = self._waiting.counts(self._clock.now())
        return self._waiting.sentence(self._clock.now())

    def _estate(self, estate: Estate) -> OpenEstate:
        found = self._open.get(estate)
        if found is None:
            found = self._open[estate] = OpenEstate(estate)
        return found

    # ---- claims ----

    def check(self, identity: ActorId) -> None:
        """Raise `Unavailable`, with the time to wait, for an entity that waits for a journal and was asked for lately.
        Costs a look into an empty dict as long as none does."""
        if len(self._waiting):
            self._waiting.check(identity, self._clock.now())

    def refuse(self, identity: ActorId, owner: NodeAddress) -> None:
        """Raise `Unavailable` if the store says that `owner` has the entity and its journal is away."""
        self._waiting.refuse(identity, owner, self._clock.now())

    def claimed(self, identity: ActorId) -> None:
        """Note that the store has given the entity to somebody who is not away."""
        if len(self._waiting):
            self._waiting.forget(identity)

    def journals(self, kind: str) -> Collection[str] | None:
        """The places whose owners a claim of `kind` may take over from: see `EntityStore.claim`. A run that has
        died since the last look makes the claim wait, and so look again. Logged kinds have nothing in journals."""
        if kind not in self._decoders or self._settings.takeover == "lose":
            return None
        return sorted({estate.journal for estate in self._seen if self._reads(estate)})

    async def adopt(
        self, kind: str, results: dict[ActorId, ClaimResult | Corrupt]
    ) -> Mapping[ActorId, ClaimResult | Corrupt]:
        """The store's answers to claims with what journals hold overlaid, and stored; `Corrupt` for an entity
        whose record is unusable. Raises `Unavailable`: then nothing of this batch may become active."""
        unclean = {id: owned for id, owned in results.items() if isinstance(owned, Owned) and not owned.clean}
        if not unclean:
            return results
        self._metrics.takeovers_total += len(unclean)
        if kind not in self._decoders:
            return results  # logged: whatever was acknowledged is in its log
        newest = await self._newest(unclean)
        if not newest:
            return results
        overlaid = {id: self._overlaid(kind, unclean[id], *found) for id, found in sorted(newest.items())}
        usable = {id: owned for id, owned in overlaid.items() if isinstance(owned, Owned)}
        changes = [Change(id, owned.epoch, owned.state_version, owned.state) for id, owned in usable.items()]
        refused = await self._write(kind, changes)
        for id, why in refused.items():
            overlaid[id] = self._unusable(*newest[id], why)
        stored = usable.keys() - refused.keys()
        for estate in self._open.values():
            estate.unusable -= stored
        if stored:
            self._metrics.adopted_total += len(stored)
            log.info("changes adopted from journals", kind=kind, count=len(stored))
        return {**results, **overlaid}

    def _overlaid(self, kind: str, owned: Owned, estate: OpenEstate, record: JournalRecord) -> Owned | Corrupt:
        try:
            state = self._decoders[kind](record.state)
        except UNDECODABLE as error:
            return self._unusable(estate, record, str(error))
        return msgspec.structs.replace(owned, state=state, state_epoch=owned.epoch, state_version=record.version)

    async def _write(self, kind: str, changes: list[Change]) -> dict[ActorId, str]:
        """Store these; returns, for each that the store cannot take, why. Raises `Unavailable`, `Corrupt`
        where the store itself is damaged."""
        if not changes:
            return {}
        try:
            written = await self._entities.write(kind, changes)
        except (Unavailable, Corrupt):
            raise
        except Exception as error:
            if len(changes) == 1:
                return {changes[0].id: f"it cannot be stored: {error}"}
            middle = len(changes) // 2
            return {**await self._write(kind, changes[:middle]), **await self._write(kind, changes[middle:])}
        if any(result != "written" for result in written.values()):
            raise Unavailable("another claim overtook this one", retry_after_s=0.1)
        return {}

    def _unusable(self, estate: OpenEstate, record: JournalRecord, why: str) -> Corrupt:
        """The answer for the entity of `record`, which is counted and told once."""
        if record.id not in estate.unusable:
            estate.unusable.add(record.id)
            self._metrics.journal_damaged_total += 1
            if len(estate.unusable) <= MAX_SENTENCES:
                log.error("journal record is of no use", actor=record.id, version=record.version, why=why)
        return Corrupt(f"journal record of {record.id}, version {record.version}: {why}")

    async def _newest(self, unclean: dict[ActorId, Owned]) -> dict[ActorId, tuple[OpenEstate, JournalRecord]]:
        """The newest record of each entity that is newer than the store's state, and where it was found."""
        found: dict[ActorId, tuple[OpenEstate, JournalRecord]] = {}
        unread = 0
        for estate in await self._look():
            if not self._reads(estate):
                unread += 1
                continue
            opened = self._estate(estate)
            records = (await self._recovered(opened)).newest
            for id, owned in unclean.items():
                record = records.get(id)
                best = found[id][1] if id in found else None
                at_least = (best.epoch, best.version) if best is not None else (owned.state_epoch, owned.state_version)
                if record is not None and (record.epoch, record.version) > at_least:
                    found[id] = opened, record
        if unread and self._settings.takeover == "lose":
            self._metrics.takeovers_unread_total += len(unclean)
            log.warning("taken over without a journal that cannot be read here", count=len(unclean), journals=unread)
        return found

    async def _recovered(self, opened: OpenEstate) -> Recovered:
        """The contents of an estate's journal; read once, by one reader at a time."""
        async with self._reading:
            if opened.recovered is None:
                assert self._journal is not None
                estate = opened.estate
                recovered = opened.recovered = await self._journal.recover(estate.owner, estate.journal)
                self._metrics.journal_damaged_total += len(recovered.damage)
                for sentence in recovered.damage[:MAX_SENTENCES]:
                    log.error("journal damaged", node=str(estate.owner), what=sentence)
            return opened.recovered

    # ---- closing estates ----

    async def run(self, activate: Activate) -> None:
        """Close the estates that other runs left, for as long as this node lives."""
        while True:
            await asyncio.sleep(CLOSE_EVERY_S)
            try:
                await self.close_all(activate)
            except Exception as error:
                known = isinstance(error, GarrisonError)
                log.warning("estates not closed", why=str(error), exc_info=None if known else error)

    async def close_all(self, activate: Activate) -> None:
        """Make a round over all open estates. Raises `Unavailable` where the store does not list them."""
        estates = await self._look(fresh=False)
        for estate in self._open.keys() - dict.fromkeys(estates).keys():
            del self._open[estate]  # another node has closed it
        for number, estate in enumerate(estates, 1):
            if number % ASKED_AGAIN == 0:
                await asyncio.sleep(0)
            try:
                await self._close(self._estate(estate), activate)
            except GarrisonError as error:  # a fault of this estate does not hold up the others
                log.warning("estate not closed", node=str(estate.owner), why=error.message)

    async def _close(self, opened: OpenEstate, activate: Activate) -> None:
        """Make a round for an estate. Its journal goes before the store's note of it does, so that a crash in
        between leaves an estate without a journal, which the next round closes."""
        estate = opened.estate
        if estate.journal not in self._readable:
            return  # a claim has looked since the round began: another node has closed it
        opened.rounds += 1
        if self._journal is not None and self._reads(estate):
            if not await self._may_close(opened, activate):
                return
            await self._journal.remove(estate.owner, estate.journal)
        elif not self._is_given_up(opened):
            return
        await self._nodes.close_estate(estate.owner)
        self._open.pop(estate, None)

    def _is_given_up(self, opened: OpenEstate) -> bool:
        """True for a journal that cannot be read, where nobody waits for it (`takeover = lose`): one of this very node
        that it cannot read any more, and after longer any that nobody has read."""
        estate, own = opened.estate, self._me is not None and opened.estate.owner.node == self._me.node
        if own and opened.rounds == 1:
            log.error("an earlier journal of this node cannot be read", node=str(estate.owner), journal=estate.journal)
        return self._settings.takeover == "lose" and opened.rounds >= (GIVEN_UP_ROUNDS if own else UNREAD_ROUNDS)

    async def _may_close(self, opened: OpenEstate, activate: Activate) -> bool:
        """Tell whether the store has something newer than each record. What it lacks is activated."""
        left = opened.stuck
        if not left or opened.is_retried:
            left = await self._bring(opened, activate)
        if left and opened.rounds >= GIVEN_UP_ROUNDS and self._settings.takeover == "lose":
            self._metrics.takeovers_unread_total += left
            log.error("changes in a journal are lost", node=str(opened.estate.owner), entities=left)
            return True
        return not left

    async def _bring(self, opened: OpenEstate, activate: Activate) -> int:
        """Activate what the store lacks; returns how many records it still lacks then."""
        records = (await self._recovered(opened)).newest
        known = [id for id in sorted(records) if kind_of(id) in self._decoders]
        own_slots = opened.rounds <= OWN_SLOTS_ROUNDS
        left: list[ActorId] = []
        for start in range(0, len(known), CLOSE_AT_ONCE):
            lacking = await self._lacking(known[start : start + CLOSE_AT_ONCE], records)
            wanted = [id for id in lacking if opened.is_retried or not self._is_unusable(id)]
            if wanted:
                await asyncio.gather(*(_quietly(activate(id, own_slots)) for id in wanted))
                lacking = await self._lacking(lacking, records)
            left += lacking
        opened.unknown_kinds = len(records) - len(known)
        count = len(left) + opened.unknown_kinds
        if not count:
            opened.stuck = 0
        elif all(self._is_unusable(id) for id in left):
            self._stick(opened, count, sorted({kind_of(id) for id in records}.difference(self._decoders)))
        return count

    def _is_unusable(self, id: ActorId) -> bool:
        """True if the newest record of this actor, in any journal, cannot be used. We never fall back to an
        older record: that would undo acknowledged changes."""
        return any(id in opened.unusable for opened in self._open.values())

    def _stick(self, opened: OpenEstate, count: int, unknown: list[str]) -> None:
        if not opened.stuck:
            log.error(
                "a journal stays: the rest of it is of no use here",
                node=str(opened.estate.owner),
                entities=count,
                unknown_kinds=unknown[:MAX_SENTENCES],
            )
        opened.stuck = count

    async def _lacking(self, ids: list[ActorId], records: dict[ActorId, JournalRecord]) -> list[ActorId]:
        """Entities of which the store has nothing as new as the record."""
        lacking: list[ActorId] = []
        for kind in sorted({kind_of(id) for id in ids}):
            of_kind = [id for id in ids if kind_of(id) == kind]
            stored = await self._entities.read(kind, of_kind)
            absent = [id for id in of_kind if id not in stored]
            floors = await self._entities.floors(kind, absent) if absent else {}
            for id in of_kind:
                if id in floors and records[id].epoch <= floors[id]:
                    continue  # a record of before an erasure: nobody is to have it any more
                row = stored.get(id)
                at = (row.state_epoch, row.state_version) if row is not None else (Epoch(0), 0)
                if at < (records[id].epoch, records[id].version):
                    lacking.append(id)
        return lacking


async def _quietly(work: Awaitable[Any]) -> None:
    """Await `work`; an entity that cannot be activated now is tried again in the next round."""
    try:
        await work
    except GarrisonError as error:
        log.debug("not taken over yet", why=error.message)
