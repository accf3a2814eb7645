"""Activations come and go: store failures at each step, loops that survive, moves, the stop."""

import asyncio
from typing import Any

import pytest

from server.actors.actor import Actor, remote
from server.actors.app import App
from server.catalog.catalog import AT_ONCE
from server.errors import Corrupt, GarrisonError, Moved, Unavailable
from server.ids import ActorId, actor_id
from server.storage.ports import Elsewhere
from server.view_change import change_view
from tests.support.engine import TestSystem, cluster, key_owned_by
from tests.support.tiny import Counter, Ledger, Near, TinyApp, Total
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

A, L = actor_id("counter", "a"), actor_id("ledger", "a")


def live(system: TestSystem, *ids: ActorId) -> list:  # type: ignore[type-arg]
    return [system.catalog.live[identity] for identity in ids]


async def test_a_store_that_is_away_leaves_it_living_with_its_timers_and_its_callers_served() -> None:
    async with cluster(store={"group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        await system.ask(A, "add", (1,))
        await system.ask(A, "add_later", (60.0,))
        await system.ask(L, "add", (1,))
        near = actor_id("near", "a")
        await system.ask(near, "where", ())
        system.faults.always.update(write="refuse", append="refuse")
        system.faults.hold = gate = asyncio.Event()
        before = live(system, A, L)
        ending = asyncio.ensure_future(system.catalog.deactivate([*live(system, A, L, near), *live(system, A)]))
        await until(lambda: any(statement == "write" for statement, _ in system.faults.seen))
        waiting = asyncio.ensure_future(system.ask(A, "add", (1,)))
        gate.set()
        # The volatile one ends whatever the store does; the log has nothing to store.
        assert await ending == 2
        assert await waiting == 2
        assert system.find(A) is before[0] and before[0].timers == 1 and system.find(near) is None
        system.faults.always.clear()
        assert await system.catalog.deactivate(live(system, A)) == 1
        assert await system.ask(A, "total", ()) == 2


@pytest.mark.parametrize("outcome", ["refuse", "forget"])
async def test_after_a_release_of_unknown_outcome_nothing_more_is_acknowledged_here(outcome: str) -> None:
    async with cluster(("node-1", "node-2")) as world:
        system = world.systems["node-1"]
        identity = actor_id("counter", key_owned_by(system, Counter, "node-1"))
        await system.ask(identity, "add", (5,))
        system.faults.next["release"] = [outcome]  # type: ignore[list-item]
        assert await system.catalog.deactivate(live(system, identity)) == 1
        assert system.find(identity) is None
        assert await world.systems["node-2"].ask(identity, "add", (1,)) == 6


async def test_the_same_activation_twice_ends_once() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await system.ask(A, "add", (1,))
        assert await system.catalog.deactivate(live(system, A) * 3) == 1
        releases = [what for statement, what in system.faults.seen if statement == "release"]
        assert [len(what) for what in releases] == [1]


async def test_the_collector_spares_what_had_a_turn_or_was_born_since_its_last_sweep() -> None:
    async with cluster(actors={"collect_interval_s": 10.0, "idle_timeout_s": 10.0}) as world:
        system = world.systems["node-1"]
        idle, used, young = (actor_id("counter", name) for name in ("idle", "used", "young"))
        for identity in (idle, used):
            await system.ask(identity, "add", (1,))
        await asyncio.sleep(12)
        await system.ask(used, "add", (1,))
        await system.ask(young, "add", (1,))
        assert set(system.catalog.live) == {idle, used, young}
        await asyncio.sleep(9)
        assert set(system.catalog.live) == {used, young}
        await asyncio.sleep(10)
        assert not system.catalog.live
        assert system.catalog.turns == 4


async def test_an_activation_that_asks_to_end_goes_at_the_next_look_which_is_at_such_ones_alone() -> None:
    async with cluster(actors={"collect_interval_s": 1.0, "idle_timeout_s": 1_000.0}) as world:
        system = world.systems["node-1"]
        names = ("stays", "went", "stayed", "late", "pinned", "soon")
        ids = {name: actor_id("counter", name) for name in names}
        of = {name: await system.activate(identity) for name, identity in ids.items()}
        for name in ("pinned", "went", "stayed", "soon"):
            of[name].release()
        of["stayed"].stay()
        of["pinned"].pins += 1
        system.catalog.discard(of["went"], Moved())
        again = await system.activate(ids["went"])
        of["went"].stay()  # by a turn that goes on after its end: it is not the one that lives
        looked_at = [it async for some in system.catalog._slices(system.catalog._retiring) for it in some]
        assert looked_at == [of["pinned"], of["soon"]]
        await asyncio.sleep(1.5)
        assert set(system.catalog.live) == {ids[name] for name in names} - {ids["soon"]}
        of["pinned"].pins -= 1
        of["late"].release()
        await asyncio.sleep(1.0)
        assert set(system.catalog.live.values()) == {of["stays"], of["stayed"], again}
        assert not system.catalog._retiring


async def test_a_blank_activation_that_asks_to_end_is_not_kept_for_that() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        blank = system.catalog.blank(A)
        blank.release()
        assert blank.retiring and not system.catalog._retiring
        await system.ask(A, "add", (1,))
        blank.stay()
        assert not system.catalog._retiring


async def test_an_activation_that_asked_to_end_and_moves_ends_where_it_arrives() -> None:
    async with cluster(("node-1", "node-2"), actors={"collect_interval_s": 10.0}) as world:
        one, two = world.systems["node-1"], world.systems["node-2"]
        await asyncio.sleep(1)
        await one.ask(A, "add", (1,))
        source, target = (one, two) if A in one.catalog.live else (two, one)
        source.catalog.live[A].release()
        await source.migrator.move(list(source.catalog.live.values()), target.me)
        assert target.catalog.live[A].retiring and not source.catalog.live and not source.catalog._retiring
        await asyncio.sleep(10)
        assert not any(system.catalog.live or system.catalog._retiring for system in (one, two))


async def test_a_look_at_many_is_in_order_and_the_loop_has_its_turn_between() -> None:
    async with cluster() as world:
        catalog = world.systems["node-1"].catalog
        many: Any = {ActorId(f"counter/{number}"): number for number in range(2 * AT_ONCE + 1)}
        turns, seen = [], list[Any]()
        asyncio.get_running_loop().call_soon(turns.append, 1)
        async for some in catalog._slices(many):
            assert bool(turns) == bool(seen)
            seen.append(list(some))
            if len(seen) == 1:
                many.clear()  # what goes meanwhile is still looked at
        assert [len(some) for some in seen] == [AT_ONCE, AT_ONCE, 1]
        assert [it for some in seen for it in some] == list(range(2 * AT_ONCE + 1))


async def test_the_collector_survives_errors_and_collects_what_is_idle() -> None:
    async with cluster(actors={"collect_interval_s": 0.01, "idle_timeout_s": 0.02}) as world:
        system = world.systems["node-1"]
        system.faults.always["write"] = "refuse"
        await system.ask(A, "add", (1,))
        await until(lambda: sum(statement == "write" for statement, _ in system.faults.seen) >= 2)
        errors: list[Exception] = [RuntimeError("planted"), Corrupt("planted")]

        def choose(statement: str) -> None:
            if statement == "write" and errors:
                raise errors.pop()

        system.faults.always.clear()
        system.faults.choose = choose
        await until(lambda: not errors and system.find(A) is None)
        assert (await system.store.read("counter", [A]))[A].state.total == 1


async def test_claims_that_fail_are_typed_answers_and_the_next_call_claims_again() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        system.faults.next["claim"] = ["refuse", "forget"]
        for _ in range(2):
            with pytest.raises(Unavailable):
                await system.ask(A, "add", (1,), timeout_s=1.0)
        assert await system.ask(A, "add", (1,)) == 1
        assert system.find(A) is not None and not system.catalog._loading


async def test_waiting_for_a_dead_owner_costs_the_store_few_burials() -> None:
    async with cluster(("node-1", "node-2")) as world:
        system, gone = world.systems["node-1"], world.systems["node-2"]
        ids = [actor_id("counter", f"k{n}") for n in range(400)]
        ids = [identity for identity in ids if system.owner(identity) == gone.me][:100]
        await asyncio.gather(*(gone.ask(identity, "add", (1,)) for identity in ids))
        await gone.write_behind.flush()
        await gone.store.renew_lease(gone.me, 0.3)
        await world.remove("node-2")
        world.show("node-1")
        burials = 0
        bury = system.store.bury_expired

        async def counted(*args: object) -> object:
            nonlocal burials
            burials += 1
            return await bury(*args)  # type: ignore[arg-type]

        system.store.bury_expired = counted  # type: ignore[method-assign, assignment]
        assert await asyncio.gather(*(system.ask(identity, "add", (1,)) for identity in ids)) == [2] * len(ids)
        assert 1 <= burials <= 10


async def test_an_owner_that_never_dies_ends_the_wait_at_the_deadline() -> None:
    async with cluster(("node-1", "node-2"), actors={"call_timeout_s": 0.2}) as world:
        system, gone = world.systems["node-1"], world.systems["node-2"]
        identity = actor_id("counter", key_owned_by(system, Counter, "node-2"))
        await gone.ask(identity, "add", (1,))
        await world.remove("node-2")
        world.show("node-1")
        with pytest.raises(Unavailable):
            await system.ask(identity, "add", (1,))
        with pytest.raises(Unavailable, match="holds its lease"):
            await system.activate(identity)
        claimed = await system.claimer.claim("counter", identity)
        assert isinstance(claimed, Elsewhere)


async def test_an_activation_that_loads_while_its_slot_moves_is_moved_after_it() -> None:
    async with cluster(("node-1",)) as world:
        system = world.systems["node-1"]
        await world.add("node-2")
        ids = [actor_id("counter", f"k{n}") for n in range(64)]
        system.faults.hold = asyncio.Event()
        answers = [asyncio.ensure_future(system.ask(identity, "add", (1,))) for identity in ids]
        await until(lambda: bool(system.faults.seen))
        world.show("node-1", "node-2")
        system.faults.hold.set()
        assert await asyncio.gather(*answers) == [1] * len(ids)
        other = world.systems["node-2"]
        moved = [identity for identity in ids if system.owner(identity) == other.me]
        assert moved
        await until(lambda: not any(system.find(one) for one in moved))
        assert [await other.ask(one, "add", (1,)) for one in moved] == [2] * len(moved)


async def test_the_stop_keeps_its_deadline_with_a_turn_that_does_not_end_and_a_store_that_hangs() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        b = actor_id("counter", "b")
        await asyncio.gather(system.ask(A, "add", (1,)), system.ask(b, "add", (1,)))
        slow = asyncio.ensure_future(system.ask(A, "slow_add", (1, 60.0)))
        await asyncio.sleep(0)
        system.faults.hold = asyncio.Event()
        begin = system.clock.now()
        async with asyncio.timeout(5):
            await system.stop(begin + 0.2)
        assert not system.catalog.live
        slow.cancel()
        system.faults.hold.set()


async def test_a_clean_stop_waits_for_turns_and_wakes_what_lives_by_timers_elsewhere() -> None:
    async with cluster(("node-1", "node-2"), app=TickApp) as world:
        system = world.systems["node-1"]
        key = key_owned_by(system, Ticker, "node-2")
        identity = actor_id("ticker", key)
        await system.ask(identity, "start", ())
        leaving = world.systems["node-2"]
        slow = asyncio.ensure_future(leaving.ask(identity, "slow", ()))
        await asyncio.sleep(0)
        view = type(system.view)(tuple(member for member in system.view.members.values() if member.node == "node-1"))
        for each in (system, leaving):
            change_view(view, transport=each.transport, system=each)
        await leaving.stop(leaving.clock.now() + 5)
        assert await slow == "done"
        await until(lambda: system.find(identity) is not None)
        ticker = system.find(identity)
        assert ticker is not None
        await until(lambda: ticker.actor.state.total >= 3)  # it ticks on


class Ticker(Actor[Total]):
    """Lives by its timer."""

    kind = "ticker"
    durability = "write_behind"
    State = Total

    def activated(self) -> None:
        self.after(0.005, self.tick)

    def tick(self) -> None:
        self.state = Total(self.state.total + 1)
        self.after(0.005, self.tick)

    @remote
    def start(self) -> None:
        """Only to be called."""

    @remote
    async def slow(self) -> str:
        await asyncio.sleep(0.02)
        return "done"


TickApp = App(name="ticks", actors=(Ticker,))


async def test_a_query_of_one_kind_does_not_look_at_the_others() -> None:
    class Unseen(dict[ActorId, Any]):
        def values(self) -> Any:
            raise AssertionError("everything was looked at")

    async with cluster() as world:
        system = world.systems["node-1"]
        ids = [actor_id("counter", f"k{n}") for n in range(3)]
        for identity in (*ids, L):
            await system.catalog.activate(identity)
        live, system.catalog.live = system.catalog.live, Unseen(system.catalog.live)
        assert [activation.id for activation in system.activations("counter")] == ids
        assert list(system.activations("near")) == []
        assert system.counts() == {"counter": 3, "ledger": 1}
        system.catalog.live = live
        await system.catalog.deactivate([live[ids[1]], live[L]])
        assert [activation.id for activation in system.activations("counter")] == [ids[0], ids[2]]
        assert system.counts() == {"counter": 2}


async def test_a_closed_node_activates_nothing_and_says_so_each_time() -> None:
    async with cluster(app=App(name="few", actors=(Counter, Ledger, Near))) as world:
        system = world.systems["node-1"]
        system.catalog.closed = Unavailable("over", retry_after_s=1.0)
        seen = []
        for _ in range(3):
            try:
                await system.activate(A)
            except GarrisonError as error:
                seen.append(error)
        assert [str(one) for one in seen] == ["over"] * 3 and len(set(map(id, seen))) == 3


async def test_a_row_that_names_a_log_which_is_not_there_is_refused() -> None:
    async with cluster(store={"group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        await system.ask(L, "add", (1,))
        await system.catalog.deactivate(live(system, L))
        read_tail = system.logs.read_tail

        async def nothing(kind: str, id: ActorId) -> None:
            return None

        system.logs.read_tail = nothing  # type: ignore[method-assign]
        with pytest.raises(Corrupt):
            await system.ask(L, "total", ())
        system.logs.read_tail = read_tail  # type: ignore[method-assign]
        assert await system.ask(L, "total", ()) == 1


def test_the_tiny_application_has_one_actor_of_each_durability() -> None:
    assert sorted(cls.durability for cls in TinyApp.actors) == ["logged", "volatile", "write_behind"]
