"""The journal's twin: the faults that a test can give it."""

import asyncio
from collections.abc import Iterator

import pytest

from server.errors import Unavailable
from server.ids import NodeId
from server.runtime.metrics import Metrics
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from tests.support.journals import Entity, Process, run
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

OWNER = run("node-1")


async def process(world: MemoryJournals, node: str, opened: bool = False) -> Process:
    metrics = Metrics()
    journal = MemoryJournal(world, NodeId(node), metrics)
    await journal.prepare()
    if opened:
        await journal.open(run(node))
    return Process(journal, metrics)


async def two(world: MemoryJournals) -> tuple[Process, Process]:
    return await process(world, "node-1", opened=True), await process(world, "node-2")


async def test_a_dead_process_frees_its_lock_and_leaves_its_journal() -> None:
    world = MemoryJournals("local")
    owner, successor = await two(world)
    entity = Entity("a")
    entity.change(owner.journal, 1)
    world.crash_process(OWNER, torn=17)
    assert successor.journal.is_dead(OWNER, owner.journal.place)
    recovered = await successor.journal.recover(OWNER, owner.journal.place)
    assert (recovered.newest[entity.id].version, recovered.damage) == (1, [])
    with pytest.raises(Unavailable):
        entity.change(owner.journal, 2)


async def test_a_dead_machine_takes_its_journal_along() -> None:
    world = MemoryJournals("local")
    owner, successor = await two(world)
    Entity("a").change(owner.journal, 1)
    world.crash_machine(NodeId("node-1"))
    place = owner.journal.place
    assert not successor.journal.is_dead(OWNER, place)
    recovered = await successor.journal.recover(OWNER, place)
    assert recovered.newest == {}
    assert "is gone" in recovered.damage[0]
    await successor.journal.remove(OWNER, place)
    assert (await successor.journal.recover(OWNER, place)).damage == []


async def test_a_stream_outlives_the_machine_and_late_appends_arrive_until_it_is_sealed() -> None:
    delays: Iterator[float] = iter([0.0, 0.0, 0.03, 5.0])
    world = MemoryJournals("redis", lambda: next(delays))
    owner, successor = await two(world)
    place, entity = owner.journal.place, Entity("a")
    entity.change(owner.journal, 1)
    await until(lambda: owner.heard != [])
    entity.change(owner.journal, 2)  # under way for 30 ms
    world.crash_machine(NodeId("node-1"))
    assert not successor.journal.is_dead(OWNER, place)
    await until(lambda: len(world.runs[OWNER].frames) == 2)
    world.runs[OWNER].under_way.append((entity, 3, 3, b"late"))
    assert (await successor.journal.recover(OWNER, place)).newest[entity.id].version == 2
    assert len(owner.heard) == 1


async def test_sealed_it_refuses_what_is_under_way() -> None:
    world = MemoryJournals("redis", lambda: 0.02)
    owner, successor = await two(world)
    entity = Entity("a")
    entity.change(owner.journal, 1)
    assert (await successor.journal.recover(OWNER, owner.journal.place)).newest == {}
    with pytest.raises(Unavailable, match="adopted"):
        entity.change(owner.journal, 2)
    await until(lambda: not world.runs[OWNER].under_way)
    assert (await successor.journal.recover(OWNER, owner.journal.place)).newest == {}
    assert owner.heard == []


async def test_appends_arrive_and_are_answered_in_order_whatever_the_delays() -> None:
    delays = iter([0.005, 0.001, 0.003, 0.0] * 50)
    world = MemoryJournals("redis", lambda: next(delays))
    owner = await process(world, "node-1", opened=True)
    entity = Entity("a")
    for _ in range(40):
        entity.change(owner.journal, 1)
    await until(lambda: len(owner.heard) == 40)
    assert [version for _, version in owner.heard] == list(range(1, 41))


async def test_hosts_that_do_not_see_each_other() -> None:
    world = MemoryJournals("local", shared=False)
    owner, successor = await two(world)
    place = owner.journal.place
    assert not successor.journal.reads(place)
    assert not successor.journal.is_dead(OWNER, place)
    with pytest.raises(Unavailable, match="cannot be read here"):
        await successor.journal.recover(OWNER, place)
    returned = await process(world, "node-1")
    assert returned.journal.reads(place)
    near = MemoryJournals("local")
    owner, successor = await two(near)
    near.hide(NodeId("node-2"), NodeId("node-1"))
    assert not successor.journal.reads(place)
    near.hide(NodeId("node-2"), NodeId("node-1"), hidden=False)
    assert successor.journal.reads(place)


async def test_an_outage_refuses_and_holds_back() -> None:
    world = MemoryJournals("redis", lambda: 0.0)
    owner, successor = await two(world)
    entity, place = Entity("a"), owner.journal.place
    entity.change(owner.journal, 1)
    world.outage(NodeId("node-1"))
    with pytest.raises(Unavailable, match="does not answer"):
        entity.change(owner.journal, 2)
    for _ in range(5):
        await asyncio.sleep(0)
    assert owner.heard == []
    world.outage(NodeId("node-2"))
    with pytest.raises(Unavailable):
        await successor.journal.recover(OWNER, place)
    world.outage(NodeId("node-1"), away=False)
    world.outage(NodeId("node-2"), away=False)
    await until(lambda: len(owner.heard) == 1)
    assert len((await successor.journal.recover(OWNER, place)).newest) == 1


async def test_flipped_bits_are_named() -> None:
    world = MemoryJournals("local")
    owner, successor = await two(world)
    for number in range(5):
        Entity(f"p{number}").change(owner.journal, number)
    size = sum(len(data) for _, data in world.runs[OWNER].frames)
    for offset in range(size):
        world.flip(OWNER, offset, offset % 8)
        recovered = await successor.journal.recover(OWNER, owner.journal.place)
        assert len(recovered.newest) == 4
        assert "missing" in recovered.damage[0]
        world.flip(OWNER, offset, offset % 8)
    assert len((await successor.journal.recover(OWNER, owner.journal.place)).newest) == 5
