"""A state that the store cannot take, in front of every journal: its record stays to be found, and the
journal goes round all the same."""

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from server.ids import ActorId, Epoch
from server.settings import StoreSettings
from server.storage.journal.ports import Journal
from server.storage.journal.retention import JournalRetention
from server.storage.ports import Change, EntityStore, WriteResult
from server.storage.write_behind import WriteBehind
from tests.support.journals import KINDS, ROOM, JournalRig, Process, Purse, purse, run

BAD, GOOD = ActorId("purse/bad"), ActorId("purse/good")


class Picky:
    """A store that takes everything but `BAD`."""

    async def write(self, kind: str, changes: Sequence[Change]) -> dict[ActorId, WriteResult]:
        if any(change.id == BAD for change in changes):
            raise OverflowError("planted")
        return {change.id: "written" for change in changes}


class Entity:
    kind = "purse"

    def __init__(self, identity: ActorId) -> None:
        self.id, self.epoch = identity, Epoch(1)
        self.version = self.stored_version = 0
        self.boundary: Any = Purse()
        self.dirty = False

    def change(self, behind: WriteBehind, journal: Journal, state: Purse) -> None:
        """As a turn does."""
        if not self.dirty:
            behind.check(self)
        journal.append(self, state)
        if not self.dirty:
            behind.mark(self)
        self.version, self.boundary = self.version + 1, state

    def note_stored(self, version: int) -> None:
        self.stored_version = version

    def released(self, version: int) -> None:
        """Nobody waits for that."""

    def fenced(self) -> None:
        raise AssertionError("nobody else is here")


@pytest.fixture(params=KINDS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JournalRig]:
    rig = JournalRig(request.param, tmp_path)
    yield rig
    await rig.close()


def _behind(rig: JournalRig, owner: Process) -> WriteBehind:
    store = cast(EntityStore, Picky())
    settings = StoreSettings()
    retention = JournalRetention(owner.journal, settings, rig.clock)
    behind = WriteBehind(store, settings, rig.clock, owner.metrics, random.Random(1), retention)

    def durable(entity: Any, version: int) -> None:
        owner.heard.append((entity, version))
        entity.released(version)

    owner.journal.on_durable = durable
    return behind


async def test_a_state_that_the_store_cannot_take_survives_rounds_of_the_journal(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    behind, bad, good = _behind(rig, owner), Entity(BAD), Entity(GOOD)
    bad.change(behind, owner.journal, Purse(7, "not for this store"))
    while owner.metrics.journal_bytes_total < 5 * ROOM:
        for _ in range(10):
            good.change(behind, owner.journal, Purse(good.version, "x" * 1_000))
        await behind.flush()
        await rig.durable(owner, owner.metrics.journal_records_total)
    assert behind.is_stuck(bad) and owner.metrics.journal_refused_total == 0
    await owner.journal.close(keep=True)
    recovered = await successor.journal.recover(run("node-1"), owner.journal.place)
    assert recovered.damage == []
    record = recovered.newest[BAD]
    assert (record.epoch, record.version, purse(record)) == (1, 1, Purse(7, "not for this store"))
