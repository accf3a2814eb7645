"""Calls between nodes: handle or forward, directory exceptions, view changes, node death."""

import asyncio

import pytest

from server.cluster.view import View
from server.errors import BadInput, DeadlineExceeded, Internal, Unavailable
from server.ids import actor_id
from server.transport.ports import Service
from server.view_change import change_view
from tests.support.engine import cluster, key_owned_by
from tests.support.tiny import Counter, Ledger, Near
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


async def test_a_call_from_any_node_reaches_the_one_activation() -> None:
    async with cluster(("node-1", "node-2", "node-3")) as world:
        key = key_owned_by(world.systems["node-1"], Counter, "node-2")
        identity = actor_id("counter", key)
        for count, name in enumerate(world.systems, start=1):
            assert await world.systems[name].ask(identity, "add", (1,)) == count
        assert [system.find(identity) is not None for system in world.systems.values()] == [False, True, False]


async def test_typed_errors_travel_and_bad_arguments_are_the_callers_fault() -> None:
    async with cluster(("node-1", "node-2")) as world:
        system = world.systems["node-1"]
        identity = actor_id("counter", key_owned_by(system, Counter, "node-2"))
        with pytest.raises(Internal):
            await system.ask(identity, "change_and_raise", ())
        with pytest.raises(BadInput):
            await system.ask(identity, "add", ("many",))
        with pytest.raises(BadInput):
            await system.transport.request(world.systems["node-2"].me, Service.CALL, b"\x93garbage", 1.0)


async def test_a_cycle_through_another_node_is_found() -> None:
    async with cluster(("node-1", "node-2")) as world:
        system = world.systems["node-1"]
        here, there = key_owned_by(system, Counter, "node-1"), key_owned_by(system, Counter, "node-2")
        with pytest.raises(Exception, match=f"counter/{here} -> counter/{there} -> counter/{here}"):
            await system.ask(actor_id("counter", here), "add_by_way_of", ([there, here], 1))


async def test_placement_puts_an_exception_into_the_directory_and_callers_find_it() -> None:
    async with cluster(("node-1", "node-2", "node-3")) as world:
        identity = actor_id("near", key_owned_by(world.systems["node-1"], Near, "node-2"))
        assert await world.systems["node-3"].ask(identity, "where", ()) == "node-3"
        assert await world.systems["node-1"].ask(identity, "where", ()) == "node-3"
        assert await world.systems["node-2"].ask(identity, "where", ()) == "node-3"


async def test_a_stale_directory_entry_costs_a_redirect_and_heals() -> None:
    async with cluster(("node-1", "node-2", "node-3")) as world:
        owner = world.systems["node-2"]
        identity = actor_id("near", key_owned_by(owner, Near, "node-2"))
        owner.directory.register(identity, world.systems["node-3"].me)
        assert await world.systems["node-1"].ask(identity, "where", ()) in {"node-1", "node-2", "node-3"}
        assert world.systems["node-1"].metrics.calls_redirected_total > 0
        assert owner.directory.find(identity) != world.systems["node-3"].me


async def test_reading_what_was_never_stored_makes_nothing() -> None:
    async with cluster(("node-1", "node-2")) as world:
        first, second = world.systems.values()
        here, there = (actor_id("counter", key_owned_by(first, Counter, name)) for name in ("node-1", "node-2"))
        assert [await first.ask(identity, "total", ()) for identity in (here, there)] == [0, 0]
        assert not first.catalog.live and not second.catalog.live
        assert not first.store.database.entities
        reading, adding = first.ask(here, "total", ()), first.ask(here, "add", (3,))
        assert await asyncio.gather(reading, adding) in ([0, 3], [3, 3]), "the one that makes it does not wait in vain"
        assert await second.ask(here, "total", ()) == 3


async def test_a_watcher_of_what_is_not_there_yet_sees_it_begin() -> None:
    async with cluster(("node-1", "node-2")) as world:
        first, second = world.systems.values()
        ledger = actor_id("ledger", key_owned_by(first, Ledger, "node-2"))
        attached = await first.ask(ledger, "attach", ("node-1", int(first.me.incarnation)))
        assert attached.next_seq == 1
        live = second.find(ledger)
        assert live is not None and live.log().watched


async def test_a_place_that_does_not_answer_is_not_asked_again() -> None:
    async with cluster(("node-1", "node-2", "node-3")) as world:
        asker, silent = world.systems["node-1"], world.systems["node-3"]
        identity = actor_id("near", key_owned_by(asker, Near, "node-2"))
        assert await silent.ask(identity, "where", ()) == await asker.ask(identity, "where", ()) == "node-3"
        assert asker.dispatcher.cache.find(identity) == silent.me
        silent.transport.serve(Service.CALL, lambda peer, payload: asyncio.get_running_loop().create_future())
        with pytest.raises(DeadlineExceeded):
            await asker.ask(identity, "where", (), timeout_s=0.05)
        assert asker.dispatcher.cache.find(identity) is None


async def test_when_a_node_joins_its_slots_actors_move_with_their_state() -> None:
    async with cluster(("node-1", "node-2"), actors={"collect_interval_s": 0.05}) as world:
        ids = [actor_id("counter", f"k{n}") for n in range(60)]
        for one in ids:
            await world.systems["node-1"].ask(one, "add", (7,))
        await world.add("node-3")
        world.show("node-1", "node-2", "node-3")
        moved = [identity for identity in ids if world.systems["node-1"].owner(identity) == world.systems["node-3"].me]
        assert moved
        for one in ids:
            assert await world.systems["node-2"].ask(one, "add", (1,)) == 8
        await until(lambda: not any(len(system.misplaced) for system in world.systems.values()))
        assert all(_homes(world.systems, identity) <= 1 for identity in ids)
        for one in moved:
            assert await world.systems["node-1"].ask(one, "total", ()) == 8
            assert world.systems["node-3"].find(one) is not None


def _homes(systems: dict, one: object) -> int:  # type: ignore[type-arg]
    return sum(system.find(one) is not None for system in systems.values())


async def test_a_clean_leave_loses_nothing_and_a_crash_loses_what_was_not_flushed() -> None:
    async with cluster(("node-1", "node-2", "node-3")) as world:
        system = world.systems["node-1"]
        second = [actor_id("counter", f"k{n}") for n in range(80)]
        second = [one for one in second if system.owner(one) == world.systems["node-2"].me]
        for one in second:
            await system.ask(one, "add", (3,))
        await world.remove("node-2", clean=True)
        world.show("node-1", "node-3")
        assert [await system.ask(one, "total", ()) for one in second] == [3] * len(second)


async def test_after_a_crash_the_survivors_claim_once_the_store_says_dead() -> None:
    async with cluster(("node-1", "node-2")) as world:
        system = world.systems["node-1"]
        identity = actor_id("counter", key_owned_by(system, Counter, "node-2"))
        gone = world.systems["node-2"]
        await gone.store.renew_lease(gone.me, 0.05)
        await system.ask(identity, "add", (1,))
        await gone.write_behind.flush()
        await world.remove("node-2")
        world.show("node-1")
        assert await system.ask(identity, "add", (1,)) == 2


async def test_with_no_node_up_a_call_ends_in_unavailable_at_its_deadline() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        world.show()
        change_view(View(()), transport=system.transport, system=system)
        with pytest.raises(Unavailable):
            await system.ask(actor_id("counter", "a"), "add", (1,), timeout_s=0.05)


async def test_a_query_fans_out_and_names_who_is_missing() -> None:
    async with cluster(("node-1", "node-2", "node-3")) as world:
        system = world.systems["node-1"]
        keys = [key_owned_by(system, Counter, name) for name in world.systems]
        for key in keys:
            await system.ask(actor_id("counter", key), "add", (1,))
        result = await system.query("totals", {})
        assert sorted(row[0] for row in result.rows) == sorted(keys) and result.missing == []
        world.network.split({system.me, world.systems["node-2"].me}, {world.systems["node-3"].me})
        result = await system.query("totals", {}, timeout_s=0.05)
        assert result.missing == ["node-3"] and len(result.rows) == 2
