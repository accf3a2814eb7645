"""Journals of an heir and of its predecessor, of one run: in files, in Redis and in memory."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.errors import Unavailable
from server.ids import NodeAddress
from server.storage.journal.local import LocalJournal
from server.storage.journal.memory import MemoryJournal
from tests.support.journals import KINDS, Entity, JournalRig, Process, purse, run
from tests.support.waiting import until

OWNER = run("node-1", 3)


@pytest.fixture(params=KINDS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JournalRig]:
    rig = JournalRig(request.param, tmp_path)
    yield rig
    await rig.close()


class Succession:
    """A predecessor and its heir, both with a journal of `OWNER`, and a neighbour."""

    def __init__(self, old: Process, heir: Process, neighbour: Process) -> None:
        self.old, self.heir, self.neighbour = old.journal, heir.journal, neighbour.journal
        self.before, self.after = self.old.place, self.heir.place
        self.processes = old, heir

    @staticmethod
    async def of(rig: JournalRig) -> "Succession":
        old = await rig.process("node-1", 3)
        heir = await rig.process("node-1", 3)
        return Succession(old, heir, await rig.process("node-2", 4))

    def hand_on_the_lock(self) -> None:
        if (lock := self.old.lock) is not None:
            self.heir.hold(os.dup(lock) if isinstance(self.old, LocalJournal) else lock)

    def end(self, journal: Any, owner: NodeAddress = OWNER) -> None:
        """The process of `journal` ends without a word."""
        if isinstance(journal, LocalJournal):
            assert journal._run is not None
            for lock in (journal._run._lock, journal._held):
                if lock is not None:
                    os.close(lock)
            journal._run._lock, journal._held = os.open(os.devnull, os.O_RDONLY), None
        elif isinstance(journal, MemoryJournal):
            journal._journals.crash_process(owner, place=journal.place)


async def test_heir_has_a_journal_of_its_own_beside_its_predecessors(rig: JournalRig) -> None:
    both = await Succession.of(rig)
    assert both.before != both.after
    first, second = Entity("first"), Entity("second")
    first.change(both.old, 1)
    second.change(both.heir, 2)
    await rig.durable(both.processes[0], 1)
    await rig.durable(both.processes[1], 1)
    for journal, place, coins in ((both.old, both.before, 1), (both.heir, both.after, 2)):
        await journal.close(keep=True)
        found = await both.neighbour.recover(OWNER, place)
        assert [purse(record).coins for record in found.newest.values()] == [coins] and not found.damage


async def test_called_off_the_heirs_journal_goes_and_the_predecessors_stays(rig: JournalRig) -> None:
    both = await Succession.of(rig)
    both.hand_on_the_lock()
    await both.heir.close(keep=False)
    entity = Entity("goes-on")
    entity.change(both.old, 5)
    await rig.durable(both.processes[0], 1)
    assert not both.old.broken and not both.neighbour.is_dead(OWNER, both.before)
    assert (await both.neighbour.recover(OWNER, both.after)).newest == {}
    await both.old.close(keep=True)
    assert len((await both.neighbour.recover(OWNER, both.before)).newest) == 1


async def test_surrendered_it_takes_nothing_and_is_left_as_it_is(rig: JournalRig) -> None:
    both = await Succession.of(rig)
    entity = Entity("stays")
    entity.change(both.old, 1)
    await rig.durable(both.processes[0], 1)
    await until(lambda: both.old.in_flight == 0)
    both.old.surrender()
    both.old.surrender()
    for _ in range(3):
        with pytest.raises(Unavailable, match="handed its run on"):
            entity.change(both.old, 2)
    with pytest.raises(Unavailable):
        entity.change(both.old, 2, "x" * 100_000)
    assert both.old.refusal is not None and not both.old.broken
    both.old.truncate(both.old.position)
    both.old.alive_for(60.0)
    await both.old.close(keep=False)
    with pytest.raises(Unavailable, match="handed its run on"):
        await both.old.open(OWNER)
    assert not both.neighbour.is_dead(OWNER, both.before), "it is not unlocked"
    both.end(both.old)
    found = await both.neighbour.recover(OWNER, both.before)
    assert [purse(record).coins for record in found.newest.values()] == [1] and not found.damage


async def test_neighbours_see_a_living_process_all_the_while(rig: JournalRig) -> None:
    """They go by the place in the store's row, which names the predecessor's until the heir's statement."""
    both = await Succession.of(rig)
    both.hand_on_the_lock()
    both.old.surrender()
    both.end(both.old)
    assert not both.neighbour.is_dead(OWNER, both.before) and not both.neighbour.is_dead(OWNER, both.after)
    await both.heir.clear(OWNER, both.before)
    assert not both.neighbour.is_dead(OWNER, both.after)
    assert (await both.neighbour.recover(OWNER, both.before)).damage == []
    Entity("new").change(both.heir, 1)


async def test_heir_that_dies_with_its_predecessor_is_proven_dead(rig: JournalRig) -> None:
    both = await Succession.of(rig)
    both.hand_on_the_lock()
    both.end(both.old)
    both.end(both.heir)
    proven = not rig.remote
    assert both.neighbour.is_dead(OWNER, both.before) is proven
    assert both.neighbour.is_dead(OWNER, both.after) is proven


async def test_a_journal_whose_process_lives_is_not_cleared(rig: JournalRig) -> None:
    if rig.remote:
        pytest.skip("Redis knows no processes")
    both = await Succession.of(rig)
    both.hand_on_the_lock()
    with pytest.raises(Unavailable, match="has not ended"):
        await both.heir.clear(OWNER, both.before)
    Entity("goes-on").change(both.old, 1)
    both.end(both.old)
    await both.heir.clear(OWNER, both.before)
    await both.heir.clear(OWNER, both.before)


async def test_records_without_an_answer_are_in_flight(rig: JournalRig) -> None:
    both = await Succession.of(rig)
    entity = Entity("one")
    for coins in range(3):
        entity.change(both.old, coins)
    assert both.old.in_flight == (3 if rig.remote else 0)
    await rig.durable(both.processes[0], 3)
    await until(lambda: both.old.in_flight == 0)
