"""Taking over from dead runs: what their journals hold is in the store before the first turn."""

from typing import Any

import msgspec
import pytest

from server.errors import Corrupt, GarrisonError, Unavailable
from server.ids import ActorId, actor_id
from server.runtime.metrics import Metrics
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from server.storage.ports import Claim
from tests.support.engine import Cluster, TestHost, cluster, key_owned_by
from tests.support.tiny import Counter, Ledger
from tests.support.waiting import until


class Journals:
    """Makes the journals of a test's hosts."""

    def __init__(self, **options: Any) -> None:
        self.world = MemoryJournals(**options)

    def __call__(self, name: str, metrics: Metrics) -> MemoryJournal:
        return MemoryJournal(self.world, name, metrics)  # type: ignore[arg-type]


async def _changes_and_dies(world: Cluster, journals: Journals, times: int = 3, **how: bool) -> list[ActorId]:
    """`node-2` acknowledges changes that it never flushes, and is killed: they are in its journal."""
    gone, left = world.hosts["node-2"], world.hosts["node-1"]
    ids = [actor_id("counter", f"k{n}") for n in range(60)]
    ids = [one for one in ids if left.owner(one) == gone.me][:10]
    for _ in range(times):
        for one in ids:
            await gone.ask(one, "add", (1,))
    await _dies(world, journals, "node-2", **how)
    world.show("node-1")
    return ids


async def _dies(world: Cluster, journals: Journals, name: str, buried: bool = True) -> None:
    host = world.hosts[name]
    host.write_behind.journal = None  # nothing more is flushed, nothing truncated
    me = host.me
    await world.remove(name)
    journals.world.crash_process(me)
    if buried:
        assert await world.hosts["node-1"].store.bury(me)


async def _stored(host: TestHost, one: ActorId) -> int:
    row = (await host.store.read("counter", [one])).get(one)
    return row.state.total if row is not None else 0


async def test_the_first_turn_sees_what_the_journal_had_and_the_store_has_it_before() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        host = world.hosts["node-1"]
        await host.activate(ids[0])
        assert await _stored(host, ids[0]) == 3
        assert [await host.ask(one, "add", (1,)) for one in ids] == [4] * len(ids)
        assert host.metrics.adopted_total == len(ids)


async def test_a_proven_death_needs_no_waiting_for_the_lease() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals, actors={"call_timeout_s": 2.0}) as world:
        ids = await _changes_and_dies(world, journals, buried=False)
        assert await world.hosts["node-1"].ask(ids[0], "add", (1,)) == 4


async def test_a_successor_that_dies_while_it_adopts_leaves_the_journal_for_the_next() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2", "node-3"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        second, host = world.hosts["node-3"], world.hosts["node-1"]
        second.faults.always["write"] = "refuse"
        with pytest.raises(GarrisonError):
            await second.activate(ids[0])  # it owns the entity now, and has not stored the overlay
        await _dies(world, journals, "node-3")
        assert await host.ask(ids[0], "add", (1,)) == 4


async def test_an_overlay_that_could_not_be_stored_is_tried_again_by_the_same_node() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        host = world.hosts["node-1"]
        host.faults.next["write"] = ["refuse"]
        with pytest.raises(Unavailable):
            await host.activate(ids[0])
        assert await host.ask(ids[0], "add", (1,)) == 4


async def test_what_nobody_asks_for_is_settled_and_then_the_journal_goes() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        host = world.hosts["node-1"]

        async def activate(identity: ActorId, own_slots: bool) -> None:
            await host.activate(identity)

        assert len(await host.store.estates()) == 1
        await host.takeover._settle_all(activate)
        assert [await _stored(host, one) for one in ids] == [3] * len(ids)
        assert await host.store.estates() == []
        assert list(journals.world.runs) == [host.me]


async def test_a_row_that_cannot_be_read_holds_up_nobody_else() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2", "node-3"), make_journal=journals) as world:
        host, two, three = world.hosts.values()
        bad, good = [one for n in range(60) if host.owner(one := actor_id("counter", f"k{n}")) == two.me][:2]
        other = next(one for n in range(60) if host.owner(one := actor_id("counter", f"k{n}")) == three.me)
        where = {bad: two, good: two, other: three}
        for one, gone in where.items():
            await gone.ask(one, "add", (1,))
        for gone in (two, three):
            await gone.write_behind.flush()
        for one, gone in where.items():
            await gone.ask(one, "add", (1,))
        for name in ("node-2", "node-3"):
            await _dies(world, journals, name)
        world.show("node-1")
        host.store.database.entities[bad].state = b"\xc1"

        async def activate(identity: ActorId, own_slots: bool) -> None:
            await host.activate(identity)

        await host.takeover._settle_all(activate)
        assert (await _stored(host, good), await _stored(host, other)) == (2, 2)
        assert [estate.owner for estate in await host.store.estates()] == [two.me]
        with pytest.raises(Corrupt, match="counter/"):
            await host.ask(bad, "total", ())


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
            host = world.hosts["node-1"]
            if answer is None:
                with pytest.raises(Unavailable, match="journal"):
                    await host.activate(ids[0])
                assert host.metrics.takeovers_unread_total == 0
            else:
                assert await host.ask(ids[0], "add", (1,)) == answer
                assert host.metrics.takeovers_unread_total == 1


async def test_the_node_itself_comes_back_and_brings_what_others_wait_for() -> None:
    journals = Journals(shared=False)
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        back = await world.add("node-2")

        async def activate(identity: ActorId, own_slots: bool) -> None:
            await back.activate(identity)

        world.show("node-1", "node-2")
        await back.takeover._settle_all(activate)
        assert [await _stored(back, one) for one in ids] == [3] * len(ids)
        assert await world.hosts["node-1"].ask(ids[0], "add", (1,)) == 4


async def test_a_record_that_is_no_state_of_this_program_hinders_nobody_else() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        ids = await _changes_and_dies(world, journals)
        host = world.hosts["node-1"]
        decode = host.takeover._decoders["counter"]

        def strict(data: msgspec.Raw) -> Any:
            if strict.first:  # type: ignore[attr-defined]
                strict.first = False  # type: ignore[attr-defined]
                raise msgspec.ValidationError("planted")
            return decode(data)

        strict.first = True  # type: ignore[attr-defined]
        host.takeover._decoders["counter"] = strict
        results = [await _outcome(host, one) for one in ids]
        assert sorted(results, key=str) == [4] * (len(ids) - 1) + ["corrupt"]
        assert host.metrics.journal_damaged_total == 1


async def _outcome(host: TestHost, one: ActorId) -> Any:
    try:
        return await host.ask(one, "add", (1,))
    except GarrisonError as error:
        return error.code


async def test_a_clean_handover_reads_no_journal() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        host, other = world.hosts["node-1"], world.hosts["node-2"]
        one = actor_id("counter", key_owned_by(host, Counter, "node-2"))
        await other.ask(one, "add", (1,))
        await world.remove("node-2", clean=True)
        world.show("node-1")
        assert await host.ask(one, "add", (1,)) == 2
        assert host.metrics.takeovers_total == 0


async def test_a_flush_lets_the_journal_forget_and_a_failed_one_does_not() -> None:
    journals = Journals()
    async with cluster(("node-1",), make_journal=journals) as world:
        host = world.hosts["node-1"]
        run = journals.world.runs[host.me]
        await host.ask(actor_id("counter", "a"), "add", (1,))
        host.faults.next["write"] = ["refuse"]
        with pytest.raises(Unavailable):
            await host.write_behind.flush()
        assert len(run.frames) == 1
        await host.write_behind.flush()
        assert len(run.frames) == 0


async def test_a_state_that_the_store_cannot_take_keeps_its_records() -> None:
    journals = Journals()
    async with cluster(("node-1",), make_journal=journals) as world:
        host = world.hosts["node-1"]
        host.faults.poison = lambda identity: identity == "counter/bad"
        for key in ("bad", "good"):
            await host.ask(actor_id("counter", key), "add", (1,))
        await host.write_behind.flush()
        assert len(journals.world.runs[host.me].frames) == 2


async def test_a_full_journal_refuses_and_asks_for_a_flush() -> None:
    journals = Journals(capacity_bytes=600)
    async with cluster(("node-1",), make_journal=journals) as world:
        host = world.hosts["node-1"]
        one = actor_id("counter", "a")
        with pytest.raises(Unavailable):
            for _ in range(100):
                await host.ask(one, "add", (1,))
        before: int = await host.ask(one, "total", ())
        host.supervisor.spawn(host.write_behind.run(), "write-behind")
        await until(lambda: not journals.world.runs[host.me].frames)
        assert await host.ask(one, "add", (1,)) == before + 1 > 1


async def test_answers_wait_for_a_far_journal_and_for_the_lease_after_it() -> None:
    delays = [0.0]
    journals = Journals(kind="redis", delay=lambda: delays[0])
    async with cluster(("node-1",), make_journal=journals) as world:
        host = world.hosts["node-1"]
        one = actor_id("counter", "a")
        assert await host.ask(one, "add", (1,)) == 1
        assert len(journals.world.runs[host.me].frames) == 1
        host.lease.safe_until = host.clock.boot() + 60.0
        waiting = host.ask_now(one, "add", (1,))
        host.lease.safe_until = 0.0  # it runs out while the record is under way
        await until(lambda: len(journals.world.runs[host.me].frames) == 2)
        await until(lambda: not journals.world.runs[host.me].unanswered)
        assert not waiting.done()
        host.lease.granted(host.clock.boot())
        assert await waiting == 2


async def test_a_log_needs_no_journal_and_waits_for_none() -> None:
    journals = Journals(shared=False)
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        host, gone = world.hosts["node-1"], world.hosts["node-2"]
        one = actor_id("ledger", key_owned_by(host, Ledger, "node-2"))
        await gone.ask(one, "add", (3,))
        await _dies(world, journals, "node-2")
        world.show("node-1")
        assert await host.ask(one, "total", ()) == 3


async def test_after_something_was_fenced_the_journal_forgets_nothing_until_the_lease_is_granted_again() -> None:
    journals = Journals()
    async with cluster(("node-1", "node-2"), make_journal=journals) as world:
        host, other = world.hosts["node-1"], world.hosts["node-2"]
        ids = [actor_id("counter", key) for key in "ab"]
        for one in ids:
            await host.activate(one)
            await host.ask(one, "add", (1,))
        await host.store.bury(host.me)  # stopped for long: it is dead and does not know
        world.database.nodes[host.me].journal = ""
        await other.store.claim("counter", [Claim(ids[0], 1)], other.me)
        await host.write_behind.flush()
        assert host.metrics.fenced_total == 1
        assert len(journals.world.runs[host.me].frames) == 2
        await host.write_behind.flush()
        assert len(journals.world.runs[host.me].frames) == 2
        host.lease.granted(host.clock.boot())  # it was not that: it is alive
        await host.write_behind.flush()
        assert len(journals.world.runs[host.me].frames) == 0
