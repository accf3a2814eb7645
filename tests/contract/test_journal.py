"""What every `Journal` does: files, a real Redis, and the twin as either."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.errors import Unavailable
from tests.support.journals import KINDS, ROOM, Entity, JournalRig, Purse, purse, run
from tests.support.waiting import until

OWNER = run("node-1")


@pytest.fixture(params=KINDS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JournalRig]:
    rig = JournalRig(request.param, tmp_path)
    yield rig
    await rig.close()


async def test_a_successor_finds_the_newest_change_of_each_entity(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    entities = [Entity(f"p{n}", epoch=n + 1) for n in range(20)]
    for coins in range(5):
        for entity in entities:
            assert entity.change(owner.journal, coins) is not rig.remote
    await rig.durable(owner, 100)
    place = owner.journal.place
    assert place
    assert successor.journal.reads(place)
    recovered = await successor.journal.recover(OWNER, place)
    assert recovered.damage == []
    assert list(recovered.newest) == [entity.id for entity in entities]
    for number, entity in enumerate(entities):
        record = recovered.newest[entity.id]
        assert (record.epoch, record.version, purse(record)) == (number + 1, 5, Purse(4))
    again = await successor.journal.recover(OWNER, place)
    assert [(r.version, purse(r)) for r in again.newest.values()] == [(5, Purse(4))] * 20


async def test_changes_that_become_durable_later_are_told_in_order(rig: JournalRig) -> None:
    owner = await rig.process("node-1")
    entities = [Entity(f"p{n}") for n in range(3)]
    expected = []
    for coins in range(50):
        for entity in entities:
            later = not entity.change(owner.journal, coins)
            expected += [(entity, entity.version)] * later
    assert len(expected) == (150 if rig.remote else 0)
    await rig.durable(owner, 150)
    assert owner.heard == expected


async def test_the_highest_epoch_wins_then_the_version_then_the_later_record(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    entity = Entity("a", epoch=7)
    entity.version = 3
    owner.journal.append(entity, Purse(1))
    owner.journal.append(entity, Purse(2))  # the turn before was undone, as its lease had run out
    entity.epoch, entity.version = 6, 90  # type: ignore[assignment]
    owner.journal.append(entity, Purse(3))
    await rig.durable(owner, 3)
    record = (await successor.journal.recover(OWNER, owner.journal.place)).newest[entity.id]
    assert (record.epoch, record.version, purse(record).coins) == (7, 4, 2)


async def test_everything_from_a_truncated_position_on_is_kept(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    entities = [Entity(f"p{n}") for n in range(10)]
    note = "x" * 400
    for coins in range(100):  # more than there is room for, were nothing truncated
        position = owner.journal.position
        for entity in entities:
            entity.change(owner.journal, coins, note)
        await rig.durable(owner, (coins + 1) * 10)
        if coins < 99:
            owner.journal.truncate(position)
    recovered = await successor.journal.recover(OWNER, owner.journal.place)
    assert recovered.damage == []
    assert {identity: purse(record).coins for identity, record in recovered.newest.items()} == {
        entity.id: 99 for entity in entities
    }


async def test_a_full_journal_refuses_and_overwrites_nothing(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    written: list[Entity] = []
    with pytest.raises(Unavailable, match="full"):
        for number in range(1_000):
            entity = Entity(f"p{number}")
            entity.change(owner.journal, number, "y" * 1_000)
            written.append(entity)
    assert ROOM * 0.9 < owner.metrics.journal_backlog_bytes <= ROOM
    assert owner.metrics.journal_refused_total == 1
    with pytest.raises(Unavailable, match="full"):
        Entity("late").change(owner.journal, 1, "y" * 1_000)
    await rig.durable(owner, len(written))
    owner.journal.truncate(owner.journal.position)
    await _room(owner.journal)
    await rig.durable(owner, len(written) + 1)
    recovered = await successor.journal.recover(OWNER, owner.journal.place)
    assert recovered.damage == []
    assert "purse/after" in recovered.newest


async def _room(journal: object) -> None:
    def appended() -> bool:
        try:
            Entity("after").change(journal, 1)  # type: ignore[arg-type]
        except Unavailable:
            return False
        return True

    await until(appended)


async def test_a_full_journal_still_has_what_was_accepted(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    written = []
    with pytest.raises(Unavailable):
        for number in range(1_000):
            entity = Entity(f"p{number}")
            entity.change(owner.journal, number, "y" * 1_000)
            written.append(entity.id)
    await rig.durable(owner, len(written))
    recovered = await successor.journal.recover(OWNER, owner.journal.place)
    assert (list(recovered.newest), recovered.damage) == (written, [])


async def test_a_change_that_can_never_fit_is_refused(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    entity = Entity("a")
    entity.change(owner.journal, 1)
    with pytest.raises(Unavailable):
        entity.change(owner.journal, 2, "z" * 2 * ROOM)
    entity.change(owner.journal, 3)
    await rig.durable(owner, 2)
    recovered = await successor.journal.recover(OWNER, owner.journal.place)
    assert (purse(recovered.newest[entity.id]).coins, recovered.damage) == (3, [])


async def test_only_an_open_journal_takes_changes(rig: JournalRig) -> None:
    owner = await rig.process("node-1", None)
    with pytest.raises(Unavailable, match="closed"):
        Entity("a").change(owner.journal, 1)
    await owner.journal.close(keep=True)
    await owner.journal.open(OWNER)
    Entity("a").change(owner.journal, 1)
    await owner.journal.close(keep=False)
    with pytest.raises(Unavailable, match="closed"):
        Entity("a").change(owner.journal, 1)
    await owner.journal.close(keep=False)


async def test_closed_it_is_kept_for_a_successor_or_removed(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    place = owner.journal.place
    for incarnation in (1, 2, 3):
        await owner.journal.open(run("node-1", incarnation + 1))
        Entity("a", incarnation).change(owner.journal, incarnation)
        await owner.journal.close(keep=incarnation != 2)
    assert owner.metrics.journal_backlog_bytes == 0
    found = {n: (await successor.journal.recover(run("node-1", n), place)).newest for n in (1, 2, 3, 4)}
    assert [len(found[n]) for n in (1, 2, 3, 4)] == [0, 1, 0, 1]


async def test_never_opened_or_closed_for_good_it_is_empty(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1", None), await rig.process("node-2", None)
    for _ in range(2):
        recovered = await successor.journal.recover(OWNER, owner.journal.place)
        assert (recovered.newest, recovered.damage) == ({}, [])
        await owner.journal.open(OWNER)
        await owner.journal.close(keep=False)


async def test_a_journal_registered_with_an_earlier_place_was_never_opened(rig: JournalRig) -> None:
    """The store's answer to the first registration was lost: it may know a run that never was."""
    owner, successor = await rig.process("node-1", None), await rig.process("node-2", None)
    places = [owner.journal.place]
    for _ in range(2):
        await owner.journal.prepare()
        places.append(owner.journal.place)
    last = len(places)
    await owner.journal.open(run("node-1", last))
    Entity("a").change(owner.journal, 1)
    await rig.durable(owner, 1)
    for incarnation, place in enumerate(places, 1):
        assert successor.journal.reads(place)
        assert not successor.journal.is_dead(run("node-1", incarnation), place)
        recovered = await successor.journal.recover(run("node-1", incarnation), place)
        assert (len(recovered.newest), recovered.damage) == (1 if incarnation == last else 0, [])
        await successor.journal.remove(run("node-1", incarnation), place)


async def test_removed_it_is_empty(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    place = owner.journal.place
    Entity("a").change(owner.journal, 1)
    await owner.journal.close(keep=True)
    for _ in range(2):
        await successor.journal.remove(OWNER, place)
        recovered = await successor.journal.recover(OWNER, place)
        assert (recovered.newest, recovered.damage) == ({}, [])


async def test_a_process_that_goes_on_after_its_adoption_changes_nothing(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    place = owner.journal.place
    entity, other = Entity("a"), Entity("b")
    entity.change(owner.journal, 1)
    await rig.durable(owner, 1)
    before = await successor.journal.recover(OWNER, place)
    heard = len(owner.heard)
    try:
        other.change(owner.journal, 2)
    except Unavailable:
        assert rig.remote
    after = await successor.journal.recover(OWNER, place)
    assert after.damage == []
    assert after.newest[entity.id].version == before.newest[entity.id].version
    assert (other.id in after.newest) is not rig.remote  # in files its epoch is over, which the store knows
    await successor.journal.remove(OWNER, place)
    await owner.journal.close(keep=False)
    assert len(owner.heard) == heard


async def test_only_what_is_proven_is_dead(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    place = owner.journal.place
    assert not successor.journal.is_dead(OWNER, place)
    assert not successor.journal.is_dead(run("node-1", 2), place)
    assert not successor.journal.is_dead(OWNER, "elsewhere:x")
    await owner.journal.close(keep=True)
    assert successor.journal.is_dead(OWNER, place) is not rig.remote
    assert not successor.journal.is_dead(run("node-1", 2), place)
    await successor.journal.remove(OWNER, place)
    assert not successor.journal.is_dead(OWNER, place)


async def test_a_journal_of_another_driver_cannot_be_read(rig: JournalRig) -> None:
    here = await rig.process("node-1", None)
    for place in ("", "local", "redis", "elsewhere:there", "local:a:b:c:d:e:f", "redis:a:b:c", "memory"):
        assert not here.journal.reads(place)
        assert not here.journal.is_dead(OWNER, place)
        with pytest.raises(Unavailable, match="cannot be read here"):
            await here.journal.recover(OWNER, place)


async def test_a_journal_counts_its_work(rig: JournalRig) -> None:
    owner = await rig.process("node-1")
    entity = Entity("a")
    for coins in range(10):
        entity.change(owner.journal, coins)
    metrics = owner.metrics
    assert metrics.journal_records_total == 10
    assert 10 * 24 < metrics.journal_bytes_total == metrics.journal_backlog_bytes < 10 * 100
    assert owner.journal.position == 11
    await rig.durable(owner, 10)
    owner.journal.truncate(owner.journal.position)
    await until(lambda: metrics.journal_backlog_bytes == 0)
    assert metrics.journal_bytes_total > 0
