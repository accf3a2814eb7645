"""Write-behind: coalescing, versions that change under way, fences, bounds, a store that fails."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from server.errors import Corrupt, Unavailable
from server.ids import ActorId, Epoch, NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.settings import from_tree
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from server.storage.journal.retention import JournalRetention
from server.storage.memory import MemoryDatabase
from server.storage.ports import Claim, Owned
from server.storage.write_behind import WriteBehind
from tests.support.faulty import Faults, FaultyStore
from tests.support.tiny import Total
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


class Entity:
    """A durable thing whose total is its version."""

    kind = "counter"

    def __init__(self, bench: "Bench", identity: ActorId, epoch: Epoch) -> None:
        self._bench = bench
        self.id, self.epoch = identity, epoch
        self.version = self.stored_version = 0
        self.boundary: Any = Total()
        self.dirty = self.gone = False

    def change(self) -> None:
        if not self.dirty:
            self._bench.flusher.check(self)
            self._bench.flusher.mark(self)
        self.version += 1
        self.boundary = Total(self.version)

    def note_stored(self, version: int) -> None:
        self.stored_version = version

    def released(self, version: int) -> None:
        """Nobody waits for that."""

    def fenced(self) -> None:
        self.gone = True
        self._bench.flusher.forget(self)


class Bench:
    def __init__(self, **store: object) -> None:
        settings = from_tree({"store": store})
        self.clock, self.metrics, self.faults = LoopClock(), Metrics(), Faults()
        self.store = FaultyStore(MemoryDatabase(self.clock), {"counter": Total, "other": Total}, self.faults)
        journal = MemoryJournal(MemoryJournals(), NodeId("node-1"), self.metrics)
        self.retention = JournalRetention(journal, settings.store, self.clock)
        self.flusher = WriteBehind(
            self.store, settings.store, self.clock, self.metrics, random.Random(1), self.retention
        )
        self.me = NodeAddress(NodeId("node-1"), 0)  # type: ignore[arg-type]
        self.token = 0

    async def start(self) -> "Bench":
        self.me = NodeAddress(NodeId("node-1"), await self.store.register_node(NodeId("node-1"), None))
        return self

    async def entity(self, key: str) -> Entity:
        identity = ActorId(f"counter/{key}")
        self.token += 1
        owned = (await self.store.claim("counter", [Claim(identity, self.token)], self.me))[identity]
        assert isinstance(owned, Owned)
        return Entity(self, identity, owned.epoch)

    async def stored(self, entity: Entity) -> int:
        found = await self.store.read("counter", [entity.id])
        return found[entity.id].state.total if entity.id in found else 0

    def writes(self) -> int:
        return sum(statement == "write" for statement, _ in self.faults.seen)


async def test_many_changes_are_one_write_of_the_newest() -> None:
    bench = await Bench().start()
    one = await bench.entity("a")
    for _ in range(500):
        one.change()
    await bench.flusher.flush()
    assert (await bench.stored(one), bench.writes(), one.stored_version) == (500, 1, 500)
    assert not one.dirty and len(bench.flusher) == 0
    await bench.flusher.flush()
    assert bench.writes() == 1


async def test_a_change_during_a_flush_stays_dirty_and_is_stored_by_the_next() -> None:
    bench = await Bench().start()
    one = await bench.entity("a")
    one.change()
    bench.faults.hold = asyncio.Event()
    flush = asyncio.ensure_future(bench.flusher.flush())
    await until(lambda: bench.writes() == 1)
    one.change()
    bench.faults.hold.set()
    await flush
    assert (await bench.stored(one), one.stored_version, one.dirty, len(bench.flusher)) == (1, 1, True, 1)
    await bench.flusher.flush()
    assert (await bench.stored(one), one.stored_version, one.dirty) == (2, 2, False)


async def test_a_write_of_unknown_outcome_is_repeated_also_with_a_newer_version() -> None:
    bench = await Bench().start()
    one, two = await bench.entity("a"), await bench.entity("b")
    one.change()
    two.change()
    bench.faults.next["write"] = ["forget", "refuse"]
    for _ in range(2):
        with pytest.raises(Unavailable):
            await bench.flusher.flush()
        one.change()
    assert len(bench.flusher) == 2
    await bench.flusher.flush()
    assert (await bench.stored(one), await bench.stored(two)) == (3, 1)
    assert not (one.gone or two.gone) and len(bench.flusher) == 0


async def test_a_fenced_entity_is_dropped_and_the_others_are_stored() -> None:
    bench = await Bench().start()
    one, two = await bench.entity("a"), await bench.entity("b")
    again = await bench.entity("a")
    assert again.epoch > one.epoch
    one.change()
    two.change()
    await bench.flusher.flush()
    assert one.gone and not two.gone
    assert (await bench.stored(one), await bench.stored(two)) == (0, 1)


async def test_one_state_that_does_not_fit_hinders_nobody_and_is_promised_no_further() -> None:
    bench = await Bench().start()
    entities = [await bench.entity(f"e{n}") for n in range(9)]
    bad = entities[4]
    bench.faults.poison = lambda identity: identity == bad.id
    for entity in entities:
        entity.change()
    await bench.flusher.flush()
    assert [await bench.stored(entity) for entity in entities] == [1] * 4 + [0] + [1] * 4
    assert len(bench.flusher) == 1 and bench.flusher.refusal is None
    with pytest.raises(Unavailable, match="cannot be stored"):
        bad.change()
    with pytest.raises(Unavailable, match="e4"):
        await bench.flusher.flush_these([bad])
    entities[0].change()
    bench.faults.poison = lambda identity: False
    await bench.flusher.flush()
    assert await bench.stored(bad) == 1 and len(bench.flusher) == 0
    bad.change()


@pytest.mark.parametrize("how", ["given up", "given up after the store refused it", "fenced"])
@pytest.mark.parametrize("lease", [True, False])
async def test_after_a_change_was_given_up_the_journal_forgets_nothing(how: str, lease: bool) -> None:
    """Also one that the store could not take: a successor needs its records. Without leases none comes,
    and nothing would ever let the journal forget again."""
    bench = await Bench(lease=lease).start()
    one = await bench.entity("a")
    one.change()
    if how == "fenced":
        await bench.entity("a")
        await bench.flusher.flush()
        assert one.gone
    elif how != "given up":
        bench.faults.poison = lambda identity: True
        await bench.flusher.flush()
    bench.flusher.forget(one)
    assert bench.retention.in_doubt == lease


@pytest.mark.loops("asyncio")  # a real SQLite file
async def test_a_damaged_store_has_taken_nothing_and_no_state_is_to_blame() -> None:
    bench = await Bench(max_dirty_age_s=1e-9).start()
    entities = [await bench.entity(key) for key in "abcd"]
    for entity in entities:
        entity.change()
    bench.faults.choose = _raises_once(Corrupt("planted: not a database"))
    with pytest.raises(Corrupt):
        await bench.flusher.flush()
    bench.flusher.observe()
    assert bench.writes() == 1 and bench.flusher.failing and bench.flusher.refusal is not None
    assert not any(bench.flusher.is_stuck(entity) for entity in entities)
    await bench.flusher.flush()
    assert len(bench.flusher) == 0 and not bench.flusher.failing


async def test_at_the_bound_of_dirty_entities_new_ones_are_refused_and_dirty_ones_go_on() -> None:
    bench = await Bench(max_dirty=2).start()
    one, two, three = [await bench.entity(key) for key in "abc"]
    one.change()
    two.change()
    with pytest.raises(Unavailable):
        three.change()
    one.change()
    assert three.version == 0 and not three.dirty
    await bench.flusher.flush()
    three.change()


async def test_the_loop_survives_whatever_the_store_raises_and_refuses_past_the_age() -> None:
    bench = await Bench(flush_interval_s=0.005, max_dirty_age_s=0.02).start()
    one = await bench.entity("a")
    loop = asyncio.ensure_future(bench.flusher.run())
    try:
        bench.faults.always["write"] = "refuse"
        one.change()
        await until(lambda: bench.flusher.refusal is not None)
        assert bench.metrics.dirty == 1 and bench.metrics.dirty_age_seconds > 0.02
        bench.faults.always.clear()
        bench.faults.choose = _raises_once(RuntimeError("planted"))
        await until(lambda: len(bench.flusher) == 0 and bench.flusher.refusal is None)
        assert not loop.done()
    finally:
        loop.cancel()


def _raises_once(error: Exception) -> Callable[[str], None]:
    left = [error]

    def choose(statement: str) -> None:
        if left:
            raise left.pop()

    return choose


async def test_a_flush_goes_in_batches_and_by_kind() -> None:
    bench = await Bench(flush_batch=4).start()
    entities = [await bench.entity(f"e{n:02}") for n in range(10)]
    for entity in entities:
        entity.change()
    await bench.flusher.flush()
    sizes = [len(what) for statement, what in bench.faults.seen if statement == "write"]
    assert sizes == [4, 4, 2]
    for statement, what in bench.faults.seen:
        if statement == "write":
            assert [change.id for change in what] == sorted(change.id for change in what)


async def test_states_are_what_they_were_when_the_flush_began() -> None:
    bench = await Bench().start()
    one = await bench.entity("a")
    one.change()
    await bench.flusher.flush()
    (stored,) = (await bench.store.read("counter", [one.id])).values()
    assert msgspec.structs.asdict(stored.state) == {"total": 1} and stored.state_epoch == one.epoch
