"""Taking over from dead runs: what their journals hold is in the store before the first turn."""

import asyncio
from typing import Any

import msgspec
import pytest
import structlog

from server.actors.actor import Actor, remote
from server.actors.app import App
from server.errors import Corrupt, GarrisonError, Internal, Unavailable
from server.ids import ActorId, Incarnation, NodeAddress, NodeId, actor_id
from server.liveness.ports import Estate
from server.runtime.metrics import Metrics
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from server.storage.memory import Tombstone
from server.storage.ports import Claim
from server.storage.takeover import ASKED_AGAIN, GIVEN_UP_ROUNDS, RETRY_ROUNDS, ROWS_PER_S
from tests.support.engine import Cluster, TestSystem, cluster, key_owned_by
from tests.support.tiny import Counter, Ledger
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


class Journals:
    """Makes the journals of a test's hosts."""

    def __init__(self, **options: Any) -> None:
        self.world = MemoryJournals(**options)

    def __call__(self, name: str, metrics: Metrics) -> MemoryJournal:
        return MemoryJournal(self.world, name, metrics)  # type: ignore[arg-type]


async def _changes_and_dies(world: Cluster, journals: Journals, more: int = 0, **how: bool) -> list[ActorId]:
    """`node-2` acknowledges changes that it never flushes, and is killed: they are in its journal. Each
    adds 3 to a counter, and `more` to the first one."""
    gone, left = world.systems["node-2"], world.systems["node-1"]
    ids = [actor_id("counter", f"k{n}") for n in range(60)]
    ids = [identity for identity in ids if left.owner(identity) == gone.me][:10]
    for _ in range(3):
        for identity in ids:
            await gone.ask(identity, "add", (1,))
    if more:
        await gone.ask(ids[0], "add", (more,))
    await _dies(world, journals, "node-2", **how)
    world.show("node-1")
    return ids


async def _dies(world: Cluster, journals: Journals, name: str, buried: bool = True) -> None:
    system = world.systems[name]
    system.pipeline.retention.end()  # nothing more is flushed, nothing truncated
    me = system.me
    await world.remove(name)
    journals.world.crash_process(me)
    if buried:
        assert await world.systems["node-1"].store.bury(me)


async def _stored(system: TestSystem, one: ActorId) -> int:
    row = (await system.store.read("counter", [one])).get(one)
    return row.state.total if row is not None else 0


async def _close_estates(system: TestSystem, rounds: int = 1) -> None:
    async def activate(identity: ActorId, own_slots: bool) -> None:
        await system.activate(identity)

    for _ in range(rounds):
        await system.takeover.close_all(activate)


async def test_the_first_turn_sees_what_the_journal_had_and_the_store_has_it_before() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        system = world.systems["node-1"]
        await system.activate(ids[0])
        assert await _stored(system, ids[0]) == 3
        assert [await system.ask(identity, "add", (1,)) for identity in ids] == [4] * len(ids)
        assert system.metrics.adopted_total == len(ids)


async def test_a_proven_death_needs_no_waiting_for_the_lease() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals, actors={"call_timeout_s": 2.0}) as world:
        ids = await _changes_and_dies(world, journals, buried=False)
        assert await world.systems["node-1"].ask(ids[0], "add", (1,)) == 4


async def test_a_successor_that_dies_while_it_adopts_leaves_the_journal_for_the_next() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2", "node-3"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        second, system = world.systems["node-3"], world.systems["node-1"]
        second.faults.always["write"] = "refuse"
        with pytest.raises(GarrisonError):
            await second.activate(ids[0])  # it owns the entity now, and has not stored the overlay
        await _dies(world, journals, "node-3")
        assert await system.ask(ids[0], "add", (1,)) == 4


@pytest.mark.parametrize("error", [Unavailable("planted"), Corrupt("planted: not a database")])
async def test_an_overlay_that_could_not_be_stored_is_tried_again_by_the_same_node(error: GarrisonError) -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        system = world.systems["node-1"]
        left = [error]

        def choose(statement: str) -> None:
            if statement == "write" and left:
                raise left.pop()

        system.faults.choose = choose
        with pytest.raises(type(error)):
            await system.activate(ids[0])
        assert await system.ask(ids[0], "add", (1,)) == 4
        assert system.metrics.journal_damaged_total == 0


async def test_entities_that_nobody_asks_for_are_settled_and_then_the_journal_goes() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        system = world.systems["node-1"]
        assert len(await system.store.estates()) == 1
        await _close_estates(system)
        assert [await _stored(system, identity) for identity in ids] == [3] * len(ids)
        assert await system.store.estates() == []
        assert list(journals.world.runs) == [system.me]


async def test_a_row_that_cannot_be_read_holds_up_nobody_else() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2", "node-3"), make_journal=journals) as world:
        system, target, third = world.systems.values()
        bad, good = [one for n in range(60) if system.owner(one := actor_id("counter", f"k{n}")) == target.me][:2]
        other = next(one for n in range(60) if system.owner(one := actor_id("counter", f"k{n}")) == third.me)
        where = {bad: target, good: target, other: third}
        for one, gone in where.items():
            await gone.ask(one, "add", (1,))
        for gone in (target, third):
            await gone.write_behind.flush()
        for one, gone in where.items():
            await gone.ask(one, "add", (1,))
        for name in ("node-2", "node-3"):
            await _dies(world, journals, name)
        world.show("node-1")
        system.store.database.entities[bad].state = b"\xc1"
        await _close_estates(system)
        assert (await _stored(system, good), await _stored(system, other)) == (2, 2)
        assert [estate.owner for estate in await system.store.estates()] == [target.me]
        with pytest.raises(Corrupt, match="counter/"):
            await system.ask(bad, "total", ())


async def test_a_journal_that_cannot_be_read_here_is_waited_for_or_counted() -> None:
    for takeover, answer in (("wait", None), ("lose", 1)):
        journals = Journals(shared=False)
        async with cluster(
            ("node-1", "node-2"),
            make_journal=journals,
            actors={"call_timeout_s": 0.3},
            journal={"takeover": takeover},
        ) as world:
            ids = await _changes_and_dies(world, journals)
            system = world.systems["node-1"]
            if answer is None:
                with pytest.raises(Unavailable, match="journal"):
                    await system.activate(ids[0])
                assert system.metrics.takeovers_unread_total == 0
            else:
                assert await system.ask(ids[0], "add", (1,)) == answer
                assert system.metrics.takeovers_unread_total == 1


async def test_the_node_itself_comes_back_and_brings_what_others_wait_for() -> None:
    journals = Journals(shared=False)
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        back = await world.add("node-2")
        world.show("node-1", "node-2")
        await _close_estates(back)
        assert [await _stored(back, identity) for identity in ids] == [3] * len(ids)
        assert await world.systems["node-1"].ask(ids[0], "add", (1,)) == 4


def _make_unfit(system: TestSystem, bad: ActorId, why: str) -> None:
    """From now on the record of `bad` is of no use on `host`."""
    if why == "cannot be stored":
        system.faults.poison = lambda identity: identity == bad
        return
    decode = system.takeover._decoders["counter"]

    def strict(data: msgspec.Raw) -> Any:
        state = decode(data)
        if state.total == 5:  # type: ignore[attr-defined]
            raise msgspec.ValidationError("planted")
        return state

    system.takeover._decoders["counter"] = strict  # type: ignore[assignment]


UNFIT = pytest.mark.parametrize("why", ["is no state of this program", "cannot be stored"])


@UNFIT
async def test_a_record_of_no_use_hinders_nobody_else(why: str) -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals, more=2)
        system = world.systems["node-1"]
        _make_unfit(system, ids[0], why)
        for _ in range(2):
            results = await asyncio.gather(*(_outcome(system, identity) for identity in ids))
            assert results[0] == "corrupt"
        assert results[1:] == [5] * (len(ids) - 1)
        assert (system.metrics.journal_damaged_total, system.metrics.adopted_total) == (1, len(ids) - 1)


@UNFIT
async def test_settling_leaves_a_record_of_no_use_alone_until_much_later(why: str) -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals, more=2)
        system = world.systems["node-1"]
        decode = system.takeover._decoders["counter"]
        _make_unfit(system, ids[0], why)
        await _close_estates(system)
        assert [await _stored(system, identity) for identity in ids] == [0] + [3] * (len(ids) - 1)
        claims, reads = system.metrics.claims_total, len(system.faults.seen)
        await _close_estates(system, RETRY_ROUNDS - 2)
        assert (system.metrics.claims_total, len(system.faults.seen)) == (claims, reads)
        assert system.metrics.journal_damaged_total == 1
        assert len(await system.store.estates()) == 1
        system.faults.poison = lambda identity: False
        system.takeover._decoders["counter"] = decode
        await _close_estates(system)
        assert await _stored(system, ids[0]) == 5
        assert await system.store.estates() == []


async def test_a_record_of_no_use_is_tried_again_before_it_is_given_up() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals, journal={"takeover": "lose"}) as world:
        ids = await _changes_and_dies(world, journals)
        system = world.systems["node-1"]
        _make_unfit(system, ids[0], "cannot be stored")
        await _close_estates(system)
        system.faults.poison = lambda identity: False
        await _close_estates(system, GIVEN_UP_ROUNDS)
        assert await _stored(system, ids[0]) == 3 and await system.store.estates() == []
        assert system.metrics.takeovers_unread_total == 0


async def test_an_entity_that_was_adopted_after_all_is_of_use_in_the_next_journal() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2", "node-3"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        system, next_owner = world.systems["node-1"], world.systems["node-3"]
        for bad in ids[:2]:
            _make_unfit(system, bad, "cannot be stored")
            await _close_estates(system)
        system.faults.poison = lambda identity: identity == ids[1]  # keeps the first journal
        assert await system.ask(ids[0], "total", ()) == 3
        activation = system.find(ids[0])
        assert activation is not None and await system.catalog.deactivate([activation]) == 1
        world.show("node-1", "node-3")
        assert await next_owner.ask(ids[0], "add", (2,)) == 5
        await _dies(world, journals, "node-3")
        world.show("node-1")
        await _close_estates(system)
        assert await _stored(system, ids[0]) == 5


async def test_settling_asks_again_only_for_what_may_be_of_use() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        system = world.systems["node-1"]
        asked: list[ActorId] = []
        _make_unfit(system, ids[0], "cannot be stored")

        async def activate(identity: ActorId, own_slots: bool) -> None:
            asked.append(identity)
            if identity == ids[1]:
                raise Unavailable("planted: it lives elsewhere")
            await system.activate(identity)

        await system.takeover.close_all(activate)
        assert asked == sorted(ids)
        asked.clear()
        await system.takeover.close_all(activate)
        assert asked == [ids[1]]


async def test_record_of_somebody_who_was_erased_since_holds_no_estate_up_and_makes_nothing() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        system, database = world.systems["node-1"], world.database
        row = database.entities.pop(ids[0])
        database.tombstones[ids[0].partition("/")[2]] = Tombstone(epoch=row.epoch, barred=1)
        await _close_estates(system)
        assert await system.store.estates() == []
        assert ids[0] not in database.entities
        assert await _stored(system, ids[1]) == 3


async def test_an_older_record_is_not_used_in_place_of_a_newer_one_of_no_use() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2", "node-3"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        system, second = world.systems["node-1"], world.systems["node-3"]
        world.show("node-1", "node-3")
        await second.activate(ids[0])
        assert await second.ask(ids[0], "add", (2,)) == 5  # newer, and in a second journal
        row = world.database.entities[ids[0]]
        row.state_epoch = row.state_version = 0  # as if the store had none of it
        await _dies(world, journals, "node-3")
        world.show("node-1")
        _make_unfit(system, ids[0], "is no state of this program")
        for _ in range(3):
            await _close_estates(system)
        claims = system.metrics.claims_total
        await _close_estates(system)
        assert system.metrics.claims_total == claims and len(await system.store.estates()) == 2
        assert await _outcome(system, ids[0]) == "corrupt"
        assert system.metrics.journal_damaged_total == 1


@pytest.mark.parametrize("takeover", ["wait", "lose"])
async def test_kinds_that_are_unknown_here_are_left_to_a_node_that_knows_them(takeover: str) -> None:
    journals = Journals()
    names = ("node-1", "node-2", "node-3")
    async with cluster(names, make_journal=journals, journal={"takeover": takeover}) as world:
        ids = await _changes_and_dies(world, journals)
        old, new = world.systems["node-1"], world.systems["node-3"]
        del old.takeover._decoders["counter"]
        await _close_estates(old, GIVEN_UP_ROUNDS - 1)
        assert len(await old.store.estates()) == 1 and len(journals.world.runs) == 3
        assert old.metrics.takeovers_unread_total == 0
        if takeover == "wait":
            await _close_estates(old, 2)
            await _close_estates(new)
            assert [await _stored(new, identity) for identity in ids] == [3] * len(ids)
        else:
            await _close_estates(old)
            assert old.metrics.takeovers_unread_total == len(ids)
        assert await old.store.estates() == [] and len(journals.world.runs) == 2


async def test_records_of_a_journal_that_another_node_settles_are_dropped() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2", "node-3"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        system, other = world.systems["node-1"], world.systems["node-3"]
        world.show("node-1", "node-3")
        for identity in ids:
            await system.activate(identity)
        assert len(system.takeover._open) == 1
        await _close_estates(other)
        assert await system.store.estates() == []
        await _close_estates(system)
        assert not system.takeover._open


async def _outcome(system: TestSystem, one: ActorId) -> Any:
    try:
        return await system.ask(one, "add", (1,))
    except GarrisonError as error:
        return error.code


async def test_an_estate_that_another_node_closes_during_a_round_is_nobodys_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A claim looks which estates are open while a round over those of before goes on."""
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        system = world.systems["node-1"]
        await _changes_and_dies(world, journals)
        nodes, takeover = system.node_store, system.takeover
        (other,) = await nodes.estates()
        former = Estate(NodeAddress(NodeId("node-1"), Incarnation(77)), "memory:node-1")
        estates = [other, former]

        async def listed() -> list[Estate]:
            return list(estates)

        async def closed(owner: NodeAddress) -> None:
            estates.clear()
            await takeover._look()  # as a claim does

        monkeypatch.setattr(takeover._nodes, "estates", listed)
        monkeypatch.setattr(takeover._nodes, "close_estate", closed)
        with structlog.testing.capture_logs() as lines:
            await _close_estates(system)
        assert estates == [] and [line for line in lines if line["log_level"] == "error"] == []


async def test_a_clean_handover_reads_no_journal() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        system, other = world.systems["node-1"], world.systems["node-2"]
        identity = actor_id("counter", key_owned_by(system, Counter, "node-2"))
        await other.ask(identity, "add", (1,))
        await world.remove("node-2", clean=True)
        world.show("node-1")
        assert await system.ask(identity, "add", (1,)) == 2
        assert system.metrics.takeovers_total == 0


async def test_a_flush_lets_the_journal_forget_and_a_failed_one_does_not() -> None:
    journals = Journals()
    async with cluster(("node-1",), make_journal=journals) as world:
        system = world.systems["node-1"]
        run = journals.world.runs[system.me]
        await system.ask(actor_id("counter", "a"), "add", (1,))
        system.faults.next["write"] = ["refuse"]
        with pytest.raises(Unavailable):
            await system.write_behind.flush()
        assert len(run.frames) == 1
        await system.write_behind.flush()
        assert len(run.frames) == 0


BAD, GOOD = actor_id("counter", "bad"), actor_id("counter", "good")


async def _stuck(world: Cluster, journals: Journals) -> TestSystem:
    """A host with a state that its store cannot take, and one that it has stored."""
    system = world.systems["node-1"]
    system.faults.poison = lambda identity: identity == BAD
    for one in (BAD, GOOD):
        await system.ask(one, "add", (7,))
    await _flush(system, journals)
    assert system.write_behind.is_stuck(system.catalog.live[BAD])
    return system


async def _flush(system: TestSystem, journals: Journals) -> None:
    await system.write_behind.flush()
    run = journals.world.runs[system.me]
    await until(lambda: not (run.under_way or run.unanswered))


async def _recorded(system: TestSystem) -> dict[ActorId, tuple[int, Any]]:
    """Version and state of each entity that the host's journal holds."""
    held = (await system.journal.recover(system.me, system.journal.place)).newest
    return {id: (record.version, msgspec.msgpack.decode(record.state)) for id, record in held.items()}


@pytest.mark.parametrize("kind", ["local", "redis"])
async def test_a_state_that_the_store_cannot_take_is_kept_and_holds_up_nobody_elses(kind: str) -> None:
    journals = Journals(kind=kind, delay=lambda: 0.0, capacity_bytes=2_000)
    async with cluster(("node-1",), make_journal=journals) as world:
        system = await _stuck(world, journals)
        for _ in range(20):
            for _ in range(10):
                await system.ask(GOOD, "add", (1,))
            await _flush(system, journals)
        assert system.metrics.journal_refused_total == 0 and system.metrics.journal_records_total > 200
        await _flush(system, journals)
        assert (await _recorded(system))[BAD] == (1, {"total": 7})


async def test_a_state_that_became_storable_again_leaves_the_journal() -> None:
    journals = Journals()
    async with cluster(("node-1",), make_journal=journals) as world:
        system = await _stuck(world, journals)
        assert len(journals.world.runs[system.me].frames) == 1
        system.faults.poison = lambda identity: False
        await _flush(system, journals)
        assert await _stored(system, BAD) == 7
        assert len(journals.world.runs[system.me].frames) == 0


@pytest.mark.parametrize("kind", ["local", "redis"])
async def test_a_state_that_the_store_cannot_take_is_copied_only_as_the_journal_goes_on(kind: str) -> None:
    journals = Journals(kind=kind, delay=lambda: 0.0)
    async with cluster(("node-1",), make_journal=journals) as world:
        system = await _stuck(world, journals)
        for _ in range(3):
            await _flush(system, journals)
        assert system.metrics.journal_records_total == 3
        assert list(await _recorded(system)) == [BAD]


@pytest.mark.parametrize("first", [True, False])
async def test_a_journal_that_filled_at_once_makes_room_for_what_the_store_cannot_take(first: bool) -> None:
    """Also where its only record is the oldest of all."""
    journals = Journals(capacity_bytes=600)
    async with cluster(("node-1",), make_journal=journals) as world:
        system = world.systems["node-1"]
        system.faults.poison = lambda identity: identity == BAD
        await system.ask(BAD, "add", (7,))
        if not first:
            await _flush(system, journals)
        with pytest.raises(Unavailable):
            for _ in range(100):
                await system.ask(GOOD, "add", (1,))
        before: int = await system.ask(GOOD, "total", ())
        await _flush(system, journals)
        assert await _stored(system, GOOD) == before == await system.ask(GOOD, "add", (1,)) - 1
        assert await _recorded(system) == {BAD: (1, {"total": 7}), GOOD: (before + 1, {"total": before + 1})}


async def test_a_far_journal_keeps_the_old_record_until_the_copy_has_arrived() -> None:
    delays = [0.0]
    journals = Journals(kind="redis", delay=lambda: delays[0])
    async with cluster(("node-1",), make_journal=journals) as world:
        system = await _stuck(world, journals)
        run = journals.world.runs[system.me]
        delays[0] = 3_600.0
        for _ in range(3):
            system.ask_now(GOOD, "add", (1,))
            await system.write_behind.flush()
        assert sum(copy.id == BAD for copy, *_ in run.under_way) == 1
        assert (await _recorded(system))[BAD] == (1, {"total": 7})


async def test_a_full_journal_refuses_and_asks_for_a_flush() -> None:
    journals = Journals(capacity_bytes=600)
    async with cluster(("node-1",), make_journal=journals) as world:
        system = world.systems["node-1"]
        identity = actor_id("counter", "a")
        with pytest.raises(Unavailable):
            for _ in range(100):
                await system.ask(identity, "add", (1,))
        before: int = await system.ask(identity, "total", ())
        system.supervisor.spawn(system.write_behind.run(), "write-behind")
        await until(lambda: not journals.world.runs[system.me].frames)
        assert await system.ask(identity, "add", (1,)) == before + 1 > 1


class Deep(msgspec.Struct, frozen=True):
    inner: Any = None


class Bag(Actor[Deep]):
    kind = "bag"
    durability = "write_behind"
    State = Deep

    @remote
    def put(self, depth: int) -> int:
        inner: Any = depth
        for _ in range(depth):
            inner = [inner]
        self.state = Deep(inner)
        return depth

    @remote
    def is_empty(self) -> bool:
        return self.state.inner is None


async def test_a_state_too_deep_for_the_journal_undoes_its_turn() -> None:
    """F39: how deep is too deep differs between versions of Python."""
    async with cluster(("node-1",), App(name="bags", actors=(Bag,)), Journals()) as world:
        system, identity = world.systems["node-1"], actor_id("bag", "a")
        with pytest.raises(Internal, match="cannot be encoded"):
            await system.ask(identity, "put", (200_000,))
        assert await system.ask(identity, "is_empty", ())
        assert await system.ask(identity, "put", (1,)) == 1
        assert system.catalog.live[identity].version == 1


async def test_answers_wait_for_a_far_journal_and_for_the_lease_after_it() -> None:
    delays = [0.0]
    journals = Journals(kind="redis", delay=lambda: delays[0])
    async with cluster(("node-1",), make_journal=journals) as world:
        system = world.systems["node-1"]
        identity = actor_id("counter", "a")
        assert await system.ask(identity, "add", (1,)) == 1
        assert len(journals.world.runs[system.me].frames) == 1
        system.lease.safe_until = system.clock.boot() + 60.0
        waiting = system.ask_now(identity, "add", (1,))
        system.lease.safe_until = 0.0  # it runs out while the record is under way
        await until(lambda: len(journals.world.runs[system.me].frames) == 2)
        await until(lambda: not journals.world.runs[system.me].unanswered)
        assert not waiting.done()
        system.lease.granted(system.clock.boot())
        assert await waiting == 2


async def test_a_log_needs_no_journal_and_waits_for_none() -> None:
    journals = Journals(shared=False)
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        system, gone = world.systems["node-1"], world.systems["node-2"]
        identity = actor_id("ledger", key_owned_by(system, Ledger, "node-2"))
        await gone.ask(identity, "add", (3,))
        await _dies(world, journals, "node-2")
        world.show("node-1")
        assert await system.ask(identity, "total", ()) == 3


async def test_after_something_was_fenced_the_journal_forgets_nothing_until_the_lease_is_granted_again() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        system, other = world.systems["node-1"], world.systems["node-2"]
        ids = [actor_id("counter", key) for key in "ab"]
        for identity in ids:
            await system.activate(identity)
            await system.ask(identity, "add", (1,))
        await system.store.bury(system.me)  # stopped for long: it is dead and does not know
        world.database.nodes[system.me].journal = ""
        await other.store.claim("counter", [Claim(ids[0], 1)], other.me)
        await system.write_behind.flush()
        assert system.metrics.fenced_total == 1
        assert len(journals.world.runs[system.me].frames) == 2
        await system.write_behind.flush()
        assert len(journals.world.runs[system.me].frames) == 2
        await asyncio.sleep(0.001)
        system.lease.granted(system.clock.boot())  # it was not that: it is alive
        await system.write_behind.flush()
        assert len(journals.world.runs[system.me].frames) == 0


async def test_journals_of_many_hosts_that_are_gone_cost_neither_each_claim_nor_each_second() -> None:
    """F27: runs of pods with other names, whose journals nobody reads any more, stay open until they are forgotten."""
    journals = Journals(shared=False)
    async with cluster(("node-1",), make_journal=journals) as world:
        system = world.systems["node-1"]
        await _close_estates(system)
        run = world.database.nodes[system.me]
        for number in range(20_000):
            pod = NodeAddress(NodeId(f"pod-{number}"), Incarnation(number + 100))
            world.database.nodes[pod] = type(run)("dead", 0.0, f"memory:pod-{number}")
        world.database.last_incarnation = 20_100
        await asyncio.sleep(1.0)
        await system.takeover.close_all(_nobody)
        journal, asked = system.takeover._journal, list[str]()
        assert journal is not None
        reads = journal.reads
        journal.reads = lambda place: asked.append(place) or reads(place)  # type: ignore[method-assign, func-returns-value]
        estates, looks = system.store.estates, list[int]()

        async def counted() -> Any:
            looks.append(1)
            return await estates()

        system.store.estates = counted  # type: ignore[method-assign]
        for _ in range(5):
            await asyncio.sleep(1.0)
            await system.takeover.close_all(_nobody)
            assert system.takeover.journals("counter") == []
        assert (asked, looks) == ([], []), "they were read lately"
        await asyncio.sleep(20_000 / ROWS_PER_S)
        await system.takeover.close_all(_nobody)
        assert len(asked) == ASKED_AGAIN and looks == [1]
        assert "and 19992 more" in system.takeover.away()


async def _nobody(identity: ActorId, own_slots: bool) -> None:
    raise AssertionError("no record can be read")
