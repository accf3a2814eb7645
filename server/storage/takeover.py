"""Taking over from runs that are over: what their journals hold and the store does not.

When a claim takes an entity from an owner that did not give it up in order, its newest change may
be in a journal only: in that owner's, or, if that owner died while it took over itself, in the one
before. So the claimant looks into the journals of *all* runs that are over and not settled, takes
the newest record by (epoch, version), and if that is newer than the store's row it is written
under the claimant's own epoch before the first turn (DESIGN rule 5). From then on the record is
older than the row, whoever looks at it.

A journal may be forgotten when the store has something newer than each of its records. `run` sees
to that: it brings what nobody asked for into memory, and so into the store, and then settles the
run. Several nodes may do so at once.

A journal that cannot be read here belongs to another host. `takeover = wait`: its entities stay with
their dead owner until its node is back, which reads it. `takeover = lose`: they are taken over
as stored, and each is counted. A journal that is known to be gone (shared memory after a restart of
the machine) reads as empty, and damaged.

A record of a kind that this program does not have may be one of a newer program, whose nodes read it:
its journal is not settled here. One that is no state of its kind, or that the store cannot take, makes
its entity `Corrupt`, and hinders no other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

import msgspec
import structlog

from server.errors import Corrupt, GarrisonError, Unavailable
from server.ids import ActorId, Epoch, NodeAddress, kind_of
from server.liveness.ports import Estate
from server.liveness.undertaker import Undertaker
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import JournalSettings
from server.storage.journal.ports import Journal, JournalRecord, Recovered
from server.storage.ports import Change, ClaimResult, Owned, Store
from server.wire.codec import UNDECODABLE

log = structlog.get_logger(__name__)
BURY_EVERY_S: Final = 0.1
SETTLE_EVERY_S: Final = 1.0
SETTLE_AT_ONCE: Final = 500
OWN_SLOTS_ROUNDS: Final = 3
"""So often each node takes only what belongs into its slots anyway; then whatever it can read."""
GIVEN_UP_ROUNDS: Final = 30
"""With `takeover = lose` another node may have gone on from an older state meanwhile, and never asks."""
UNFIT_ROUNDS: Final = 10
"""Every so often settling tries again what was of no use: the store may take it by now."""
MAX_SENTENCES: Final = 20
"""So many log lines about one journal; the rest is counted."""

Activate = Callable[[ActorId, bool], Awaitable[Any]]
"""Bring an actor into memory here and so claim it. The second argument: only if its slot is this
node's. Raises a `GarrisonError` where another node has it, or should."""


class Takeover:
    """See the module's head. `state_types` names the state of each write-behind kind."""

    def __init__(
        self,
        store: Store,
        undertaker: Undertaker,
        journal: Journal | None,
        settings: JournalSettings,
        state_types: dict[str, type[msgspec.Struct]],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._store, self._undertaker, self._journal = store, undertaker, journal
        self._settings, self._clock, self._metrics = settings, clock, metrics
        self._decoders = {kind: msgspec.msgpack.Decoder(cls).decode for kind, cls in state_types.items()}
        self._estates: list[Estate] = []
        """Runs that are over and not settled, as last seen."""
        self._read: dict[Estate, Recovered] = {}
        self._rounds: dict[Estate, int] = {}
        self._unfit: dict[Estate, dict[ActorId, None]] = {}
        """Of which the record is of no use here."""
        self._stalled: dict[Estate, int] = {}
        """Of which nothing is left but so many unfit records and records of unknown kinds."""
        self._reading = asyncio.Lock()
        self._buried_at = float("-inf")
        self._me: NodeAddress | None = None

    def start(self, me: NodeAddress) -> None:
        self._me = me

    async def bury(self, owner: NodeAddress) -> None:
        """A claim waits for `owner`: bury it if that may be done, and look whose journals may be read now.
        Raises `Unavailable`."""
        now = self._clock.now()
        if now < self._buried_at + BURY_EVERY_S:
            return  # however many wait
        self._buried_at = now
        await self._undertaker.bury(owner)
        await self._look()

    async def _look(self) -> list[Estate]:
        """Runs that are over and not settled."""
        self._estates = await self._store.estates()
        return self._estates

    # ---- claims ----

    def journals(self, kind: str) -> Collection[str] | None:
        """From whom a claim of `kind` may take over: see `Store.claim`. What has died since the last
        look makes the claim wait, and so look again. Logged kinds have nothing in journals."""
        if kind not in self._decoders or self._settings.takeover == "lose":
            return None
        journal = self._journal
        if journal is None:
            return ()
        return sorted({estate.journal for estate in self._estates if journal.reads(estate.journal)})

    async def adopt(
        self, kind: str, results: dict[ActorId, ClaimResult | Corrupt]
    ) -> Mapping[ActorId, ClaimResult | Corrupt]:
        """Claims as they came from the store, with what journals hold overlaid and stored, and
        `Corrupt` for one whose record is no state of this program. Raises `Unavailable`: then
        nothing of this batch may become active."""
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
        fit = {id: owned for id, owned in overlaid.items() if isinstance(owned, Owned)}
        changes = [Change(id, owned.epoch, owned.state_version, owned.state) for id, owned in fit.items()]
        refused = await self._write(kind, changes)
        for id, why in refused.items():
            overlaid[id] = self._of_no_use(*newest[id], why)
        for unfit in self._unfit.values():
            for id in fit:
                if id not in refused:
                    unfit.pop(id, None)
        if len(refused) < len(fit):
            self._metrics.adopted_total += len(fit) - len(refused)
            log.info("changes adopted from journals", kind=kind, count=len(fit) - len(refused))
        return {**results, **overlaid}

    def _overlaid(self, kind: str, owned: Owned, estate: Estate, record: JournalRecord) -> Owned | Corrupt:
        try:
            state = self._decoders[kind](record.state)
        except UNDECODABLE as error:
            return self._of_no_use(estate, record, str(error))
        return msgspec.structs.replace(owned, state=state, state_epoch=owned.epoch, state_version=record.version)

    async def _write(self, kind: str, changes: list[Change]) -> dict[ActorId, str]:
        """Store these; why those could not be that the store cannot take. Raises `Unavailable`, `Corrupt`
        where the store itself is damaged."""
        if not changes:
            return {}
        try:
            written = await self._store.write(kind, changes)
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

    def _of_no_use(self, estate: Estate, record: JournalRecord, why: str) -> Corrupt:
        """The answer for the entity of `record`, which is counted and told of once."""
        unfit = self._unfit.setdefault(estate, {})
        if record.id not in unfit:
            unfit[record.id] = None
            self._metrics.journal_damaged_total += 1
            if len(unfit) <= MAX_SENTENCES:
                log.error("journal record is of no use", actor=record.id, version=record.version, why=why)
        return Corrupt(f"journal record of {record.id}, version {record.version}: {why}")

    async def _newest(self, unclean: dict[ActorId, Owned]) -> dict[ActorId, tuple[Estate, JournalRecord]]:
        """What journals hold of these that the store does not, and which."""
        found: dict[ActorId, tuple[Estate, JournalRecord]] = {}
        unread = 0
        for estate in await self._look():
            if self._journal is None or not self._journal.reads(estate.journal):
                unread += 1
                continue
            held = (await self._recovered(estate)).newest
            for id, owned in unclean.items():
                record = held.get(id)
                best = found[id][1] if id in found else None
                at_least = (best.epoch, best.version) if best is not None else (owned.state_epoch, owned.state_version)
                if record is not None and (record.epoch, record.version) > at_least:
                    found[id] = estate, record
        if unread and self._settings.takeover == "lose":
            self._metrics.takeovers_unread_total += len(unclean)
            log.warning("taken over without a journal that cannot be read here", count=len(unclean), journals=unread)
        return found

    async def _recovered(self, estate: Estate) -> Recovered:
        """What the journal of a run that is over holds; read once."""
        async with self._reading:
            held = self._read.get(estate)
            if held is None:
                assert self._journal is not None
                held = self._read[estate] = await self._journal.recover(estate.owner, estate.journal)
                self._metrics.journal_damaged_total += len(held.damage)
                for sentence in held.damage[:MAX_SENTENCES]:
                    log.error("journal damaged", node=str(estate.owner), what=sentence)
            return held

    # ---- settling ----

    async def run(self, activate: Activate) -> None:
        """Settle what other runs left, for as long as this node lives."""
        while True:
            await asyncio.sleep(SETTLE_EVERY_S)
            try:
                await self._settle_all(activate)
            except Exception as error:
                known = isinstance(error, GarrisonError)
                log.warning("journals not settled", why=str(error), exc_info=None if known else error)

    async def _settle_all(self, activate: Activate) -> None:
        estates = await self._look()
        known = dict.fromkeys([*self._rounds, *self._read, *self._unfit])
        for estate in [one for one in known if one not in estates]:
            self._forget(estate)  # another node has settled it
        for estate in estates:
            try:
                await self._settle(estate, activate)
            except GarrisonError as error:  # of this one: it does not hold up the others
                log.warning("journal not settled", node=str(estate.owner), why=error.message)

    async def _settle(self, estate: Estate, activate: Activate) -> None:
        """One round for one run."""
        if self._journal is not None and self._journal.reads(estate.journal):
            if not await self._settled(estate, activate):
                return
            await self._journal.remove(estate.owner, estate.journal)
        elif not self._is_given_up(estate):
            return
        await self._store.close_estate(estate.owner)
        self._forget(estate)

    def _is_given_up(self, estate: Estate) -> bool:
        """A journal of this very node that it cannot read any more: with `takeover = lose` nobody
        waits for it."""
        rounds = self._rounds[estate] = self._rounds.get(estate, 0) + 1
        own = self._me is not None and estate.owner.node == self._me.node
        if own and rounds == 1:
            log.error("an earlier journal of this node cannot be read", node=str(estate.owner), journal=estate.journal)
        return own and rounds >= GIVEN_UP_ROUNDS and self._settings.takeover == "lose"

    def _forget(self, estate: Estate) -> None:
        self._read.pop(estate, None)
        self._rounds.pop(estate, None)
        self._unfit.pop(estate, None)
        self._stalled.pop(estate, None)

    async def _settled(self, estate: Estate, activate: Activate) -> bool:
        """Whether the store has something newer than each record. What it lacks is activated."""
        rounds = self._rounds[estate] = self._rounds.get(estate, 0) + 1
        left = self._stalled.get(estate, 0)
        if not left or rounds % UNFIT_ROUNDS == 0:
            left = await self._bring(estate, rounds, activate)
        if left and rounds >= GIVEN_UP_ROUNDS and self._settings.takeover == "lose":
            self._metrics.takeovers_unread_total += left
            log.error("changes in a journal are lost", node=str(estate.owner), entities=left)
            return True
        return not left

    async def _bring(self, estate: Estate, rounds: int, activate: Activate) -> int:
        """Activate what the store lacks; of how many it lacks the record then."""
        held = (await self._recovered(estate)).newest
        known = [id for id in sorted(held) if kind_of(id) in self._decoders]
        own_slots, again = rounds <= OWN_SLOTS_ROUNDS, rounds % UNFIT_ROUNDS == 0
        left: list[ActorId] = []
        for start in range(0, len(known), SETTLE_AT_ONCE):
            lacking = await self._lacking(known[start : start + SETTLE_AT_ONCE], held)
            wanted = [id for id in lacking if again or not self._is_unfit(id)]
            if wanted:
                await asyncio.gather(*(_quietly(activate(id, own_slots)) for id in wanted))
                lacking = await self._lacking(lacking, held)
            left += lacking
        count = len(left) + len(held) - len(known)
        if not count:
            self._stalled.pop(estate, None)
        elif all(self._is_unfit(id) for id in left):
            self._stall(estate, count, sorted({kind_of(id) for id in held}.difference(self._decoders)))
        return count

    def _is_unfit(self, id: ActorId) -> bool:
        """In whichever journal its newest record is: an older one in another is not used instead."""
        return any(id in unfit for unfit in self._unfit.values())

    def _stall(self, estate: Estate, count: int, unknown: list[str]) -> None:
        if estate not in self._stalled:
            kinds = unknown[:MAX_SENTENCES]
            log.error(
                "a journal stays: the rest of it is of no use here",
                node=str(estate.owner),
                entities=count,
                unknown_kinds=kinds,
            )
        self._stalled[estate] = count

    async def _lacking(self, ids: list[ActorId], held: dict[ActorId, JournalRecord]) -> list[ActorId]:
        """Those of which the store has nothing as new as the record."""
        out: list[ActorId] = []
        for kind in sorted({kind_of(id) for id in ids}):
            mine = [id for id in ids if kind_of(id) == kind]
            stored = await self._store.read(kind, mine)
            for id in mine:
                row = stored.get(id)
                at = (row.state_epoch, row.state_version) if row is not None else (Epoch(0), 0)
                if at < (held[id].epoch, held[id].version):
                    out.append(id)
        return out


async def _quietly(work: Awaitable[Any]) -> None:
    """One that cannot be activated now is tried again in the next round."""
    try:
        await work
    except GarrisonError as error:
        log.debug("not taken over yet", why=error.message)
