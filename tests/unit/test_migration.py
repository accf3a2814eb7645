"""Live migration: state, mailbox, timers and watchers go along, whatever happens on the way."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from server.activations import parcels
from server.activations.activation import Activation
from server.activations.parcels import Go, Offer, Open, Over, Ship
from server.actors.actor import Actor, Attached, remote
from server.actors.app import App
from server.cluster.view import View
from server.errors import BadInput, Corrupt, GarrisonError, Unavailable
from server.ids import ActorId, NodeAddress, NodeId, actor_id
from server.runtime.metrics import Metrics
from server.settings import JournalSettings
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from server.transport.ports import Service
from server.view_change import change_view
from tests.support.engine import Cluster, TestSystem, cluster, key_owned_by
from tests.support.tiny import Counter, Ledger, Near, Total
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

NODES = ("node-1", "node-2")


class Carried(msgspec.Struct, array_like=True, frozen=True):
    beats: int
    names: tuple[str, ...]


class Walker(Actor[Total]):
    """A write-behind actor with fields of its own and timers."""

    kind = "walker"
    durability = "write_behind"
    State = Total
    __slots__ = ("beats", "born", "names", "refuses")

    def activated(self) -> None:
        self.beats = 0
        self.names: tuple[str, ...] = ()
        self.refuses = False
        self.born = "activated"
        self.after(60.0, self.tick, 1000)

    def carry(self) -> Carried:
        if self.refuses:
            raise ValueError("planted")
        return Carried(self.beats, self.names)

    def arrived(self, carried: Carried) -> None:
        self.beats, self.names = carried.beats, carried.names
        self.born += " arrived"

    @remote
    def beat(self, name: str) -> int:
        self.beats += 1
        self.names = (*self.names, name)
        return self.beats

    @remote
    def seen(self) -> list[Any]:
        return [self.beats, list(self.names), self.born, self.state.total]

    @remote
    def add(self, n: int) -> int:
        self.state = replace(self.state, total=self.state.total + n)
        return self.state.total

    def tick(self, n: int) -> None:
        self.add(n)

    @remote
    def tick_in(self, delay_s: float, n: int) -> None:
        self.after(delay_s, self.tick, n)

    @remote
    async def slow(self, pause_s: float) -> int:
        await asyncio.sleep(pause_s)
        return self.add(1)

    @remote
    def refuse(self) -> None:
        self.refuses = True


class Ghost(Actor[Total]):
    """A volatile actor that lives where few live."""

    kind = "ghost"
    State = Total
    placement = "least_loaded"

    @remote
    def add(self, n: int) -> int:
        self.state = Total(self.state.total + n)
        return self.state.total

    @remote
    def add_later(self, delay_s: float) -> None:
        self.after(delay_s, self.add, 100)

    @remote
    def where(self) -> str:
        return str(self.node)


def _app() -> App:
    return App(name="walk", actors=(Walker, Counter, Ledger, Near, Ghost))


@asynccontextmanager
async def moving_world(*names: str, **tree: Any) -> AsyncIterator[Cluster]:
    settings: dict[str, Any] = {"store": {"group_commit_s": 0.001}, "actors": {"migrate_batch": 8}}
    for section, values in tree.items():
        settings[section] = {**settings.get(section, {}), **values}
    async with cluster(names or NODES, _app(), **settings) as w:
        yield w


@asynccontextmanager
async def world(*names: str, **tree: Any) -> AsyncIterator[Cluster]:
    """Hosts that move only what they are told to."""
    async with moving_world(*names, **tree) as w:
        for system in w.systems.values():
            system.misplaced.home = lambda one, system=system: system.me  # type: ignore[method-assign,misc]
        yield w


def home(world: Cluster, cls: Any, name: str) -> ActorId:
    return actor_id(cls.kind, key_owned_by(world.systems["node-1"], cls, name))


async def living(world: Cluster, cls: Any, owner: str = "node-2") -> ActorId:
    """An actor that lives on node-1; its slot is `owner`'s."""
    identity = home(world, cls, owner)
    await world.systems["node-1"].catalog.activate(identity)
    return identity


def live(system: TestSystem, identity: ActorId) -> Activation:
    activation = system.find(identity)
    assert activation is not None
    return activation


def places(world: Cluster, identity: ActorId) -> list[str]:
    return [name for name, system in world.systems.items() if system.find(identity) is not None]


def forgive(world: Cluster) -> None:
    """Nobody is left alone because it took nothing."""
    for system in world.systems.values():
        for other in world.systems.values():
            system.migrator._refusing.done(other.me)


async def move(world: Cluster, identity: ActorId, source: str = "node-1", to: str = "node-2") -> int:
    system = world.systems[source]
    return await system.migrator.move([live(system, identity)], world.systems[to].me)


@pytest.mark.parametrize("owner", NODES)
@pytest.mark.parametrize("flushed", [True, False])
async def test_state_and_what_it_carries_go_along_and_callers_find_it(owner: str, flushed: bool) -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Walker, owner)
        live(source, a).call("add", (5,))
        live(source, a).call("beat", ("x",))
        if flushed:
            await source.write_behind.flush()
        version, epoch = live(source, a).version, live(source, a).epoch
        assert await move(w, a) == 1
        assert places(w, a) == ["node-2"]
        there = live(target, a)
        assert (there.version, there.epoch, there.stored_version) == (version, epoch + 1, version)
        stored = (await target.store.read("walker", [a]))[a]
        assert (stored.state.total, stored.state_version) == (5, version)
        for system in (source, target):
            assert await system.ask(a, "seen", ()) == [1, ["x"], "activated arrived", 5]
        assert await source.ask(a, "add", (1,)) == 6
        await target.write_behind.flush()
        assert (await target.store.read("walker", [a]))[a].state.total == 6
        assert source.metrics.migrations_total == 1 and source.metrics.migrations_failed_total == 0
        assert source.metrics.migration_pause_seconds.count == 1
        claims = [what for statement, what in target.faults.seen if statement == "claim"]
        assert claims == []


@pytest.mark.loops("asyncio")  # callers that never wait would stop virtual time
async def test_under_calls_from_everywhere_none_is_lost_none_runs_twice_and_each_callers_order_holds() -> None:
    async with world("node-1", "node-2", "node-3") as w:
        a = await living(w, Walker, "node-3")
        going = True
        asked: dict[str, int] = {f"{name}/{n}": 0 for name in w.systems for n in range(3)}

        async def calls(caller: str) -> None:
            while going:
                await asyncio.sleep(0)  # a local call does not wait
                asked[caller] += 1
                await w.systems[caller.partition("/")[0]].ask(a, "beat", (f"{caller}:{asked[caller]}",))

        callers = [asyncio.ensure_future(calls(caller)) for caller in asked]
        route = ["node-1", "node-2", "node-3", "node-1", "node-3"]
        for source, to in itertools.pairwise(route):
            await asyncio.sleep(0.02)
            assert await move(w, a, source, to) == 1
        going = False
        await asyncio.gather(*callers)
        beats, names, _, _ = await w.systems["node-1"].ask(a, "seen", ())
        assert beats == len(names) == len(set(names)) == sum(asked.values())
        for caller, count in asked.items():
            mine = [int(said.partition(":")[2]) for said in names if said.startswith(caller)]
            assert mine == list(range(1, count + 1))
        assert len(places(w, a)) == 1


async def test_calls_that_wait_are_passed_on_in_order_and_ahead_of_those_that_come_directly() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Walker)
        source.faults.hold = asyncio.Event()
        moving = asyncio.ensure_future(move(w, a))
        await until(lambda: any(statement == "migrate" for statement, _ in source.faults.seen))
        waiting = [asyncio.ensure_future(target.ask(a, "beat", (f"{n}",))) for n in range(5)]
        await until(lambda: len(live(source, a).queued()) == 5)
        assert live(source, a).frozen
        real = target.catalog.arrived

        def directly(arrival: Any) -> None:
            real(arrival)
            waiting.append(asyncio.ensure_future(target.ask(a, "beat", ("direct",))))

        target.catalog.arrived = directly  # type: ignore[method-assign]
        source.faults.hold.set()
        assert await moving == 1
        await until(lambda: len(waiting) == 6)
        assert await asyncio.gather(*waiting) == [1, 2, 3, 4, 5, 6]
        assert (await target.ask(a, "seen", ()))[1] == ["0", "1", "2", "3", "4", "direct"]


async def test_timers_go_on_with_the_time_that_is_left_and_those_that_are_due_ring_there() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Walker)
        here = live(source, a)
        here.call("tick_in", (30.0, 7))
        begin = source.clock.now()
        assert await move(w, a) == 1
        assert here.timers == 0
        [(name, left_s, args)] = live(target, a).timers_left()
        assert (name, args) == ("tick", (7,)) and 30.0 - (target.clock.now() - begin) - 1e-3 <= left_s <= 30.0
        await target.ask(a, "tick_in", (0.02, 8))
        real = target.store.migrate

        async def slowly(kind: str, moves: Any, generation: int = 0) -> Any:
            await asyncio.sleep(0.05)
            assert live(target, a).frozen and live(target, a).actor.state.total == 0
            return await real(kind, moves, generation)

        target.store.migrate = slowly  # type: ignore[method-assign]
        assert await move(w, a, "node-2", "node-1") == 1
        await until(lambda: live(source, a).actor.state.total == 8)


async def test_a_timer_that_waits_behind_a_turn_is_due_on_the_other_node() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Walker)
        slow = asyncio.ensure_future(source.ask(a, "slow", (0.01,)))
        await asyncio.sleep(0)
        live(source, a).fire("tick", (8,))
        assert len(live(source, a).queued()) == 1
        assert await move(w, a) == 1
        assert await slow == 1
        await until(lambda: live(target, a).actor.state.total == 9)


async def test_a_turn_that_does_not_end_soon_keeps_it_here_and_those_with_it_go() -> None:
    async with world() as w:
        node = w.systems["node-1"]
        a = home(w, Walker, "node-2")
        b = next(
            actor_id("walker", f"b{n}")
            for n in range(100)
            if node.owner(actor_id("walker", f"b{n}")) == w.systems["node-2"].me
        )
        for identity in (a, b):
            await node.catalog.activate(identity)
        slow = asyncio.ensure_future(node.ask(a, "slow", (0.5,)))
        await asyncio.sleep(0)
        assert await node.migrator.move([live(node, a), live(node, b)], w.systems["node-2"].me) == 1
        assert places(w, a) == ["node-1"] and places(w, b) == ["node-2"]
        assert node.metrics.migrations_failed_total == 1
        assert await slow == 1
        assert await node.ask(a, "add", (1,)) == 2


async def test_a_logged_actor_goes_with_its_tail_and_its_watchers() -> None:
    async with world("node-1", "node-2", "node-3", store={"segment_entries": 4}) as w:
        source, target, third = w.systems.values()
        a = await living(w, Ledger)
        for n in range(1, 7):
            await live(source, a).call("add", (n,))
        attached: Attached = live(source, a).call("attach", ("node-3", int(third.me.incarnation)))
        assert attached.next_seq == 7
        adding = [asyncio.ensure_future(source.ask(a, "add", (1,))) for _ in range(3)]
        await asyncio.sleep(0)
        assert await move(w, a) == 1
        assert await asyncio.gather(*adding) == [22, 23, 24]
        there = live(target, a)
        assert there.actor.state.total == 24 and there.log().next_seq == 10
        assert not any(statement == "claim" for statement, _ in target.faults.seen)
        assert await target.ask(a, "add", (1,)) == 25
        assert [entry[0] for entry in target.published.events] == [[third.me]]
        seen = [(first, len(events)) for system in (source, target) for _, _, first, events in system.published.events]
        assert sum(count for _, count in seen) == 4 and seen[-1] == (10, 1)
        for n in range(8):
            await source.ask(a, "add", (n,))
        await until(lambda: len(there.log()._tail) < 4)
        assert await target.catalog.deactivate([there]) == 1
        assert await source.ask(a, "total", ()) == 25 + 28


async def test_a_state_too_large_for_a_message_is_read_from_the_store_and_woken() -> None:
    async with world(transport={"max_frame_bytes": 1024}, gateway={"outbox_max_bytes": 512}) as w:
        source, target = w.systems.values()
        a = await living(w, Ledger)
        for _ in range(100):
            live(source, a).call("add", (1,))
        live(source, a).set_timer("total", 60.0, ())
        assert await move(w, a) == 1
        await until(lambda: target.find(a) is not None)
        assert live(target, a).actor.state.total == 100
        assert await source.ask(a, "add", (1,)) == 101


@pytest.mark.parametrize("cls", [Counter, Ledger])
@pytest.mark.parametrize("outcome", ["refuse", "forget"])
async def test_an_unknown_outcome_keeps_it_frozen_until_the_store_says_whose_it_is(outcome: Any, cls: Any) -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, cls)
        first = source.ask(a, "add", (5,))
        assert await first == 5
        epoch = live(source, a).epoch
        source.faults.next["migrate"] = [outcome]
        source.faults.next["claim"] = ["refuse", "forget", "refuse"]
        moving = asyncio.ensure_future(move(w, a))
        await until(lambda: source.find(a) is not None and live(source, a).frozen)
        waiting = [asyncio.ensure_future(system.ask(a, "add", (1,))) for system in (source, target)]
        await source.write_behind.flush()
        assert await moving == (1 if outcome == "forget" else 0)
        assert sorted(await asyncio.gather(*waiting)) == [6, 7]
        assert places(w, a) == (["node-2"] if outcome == "forget" else ["node-1"])
        owner = target if outcome == "forget" else source
        assert live(owner, a).epoch > epoch
        await owner.write_behind.flush()
        await owner.group_commit.commit()
        assert source.metrics.fenced_total == target.metrics.fenced_total == 0
        await owner.catalog.deactivate([live(owner, a)])
        assert await source.ask(a, "total", ()) == 7


async def test_changes_are_not_lost_when_the_outcome_is_unknown_and_it_did_not_move() -> None:
    async with world() as w:
        node = w.systems["node-1"]
        a = await living(w, Counter)
        real = node.write_behind.flush_these

        async def then_changes(entities: Any) -> None:
            await real(entities)
            live(node, a).call("add", (5,))

        node.write_behind.flush_these = then_changes  # type: ignore[method-assign]
        node.faults.next["migrate"] = ["refuse"]
        assert await move(w, a) == 0
        assert len(node.write_behind) == 1
        await node.write_behind.flush()
        assert (await node.store.read("counter", [a]))[a].state.total == 5


async def test_changes_that_an_unanswered_flush_stored_are_not_taken_for_a_fence_when_it_did_not_move() -> None:
    async with world() as w:
        node = w.systems["node-1"]
        a = await living(w, Counter)
        real = node.write_behind.flush_these

        async def stored_unanswered(entities: Any) -> None:
            live(node, a).call("add", (5,))
            node.faults.next["write"] = ["forget"]
            with pytest.raises(Unavailable):
                await real(entities)

        node.write_behind.flush_these = stored_unanswered  # type: ignore[method-assign]
        node.faults.next["migrate"] = ["refuse"]
        assert await move(w, a) == 0
        await node.write_behind.flush()
        assert live(node, a).call("add", (1,)) == 6 and node.metrics.fenced_total == 0
        await node.write_behind.flush()
        assert (await node.store.read("counter", [a]))[a].state.total == 6


async def test_a_store_that_is_away_freezes_nothing() -> None:
    async with world() as w:
        node = w.systems["node-1"]
        a = await living(w, Counter)
        live(node, a).call("add", (1,))
        node.faults.always["write"] = "refuse"
        assert await move(w, a) == 0
        assert not any(statement == "migrate" for statement, _ in node.faults.seen)
        assert await node.ask(a, "add", (1,)) == 2


async def test_a_state_that_the_store_cannot_take_hinders_only_itself() -> None:
    async with world() as w:
        source, target = w.systems.values()
        ids = [actor_id("counter", f"k{n}") for n in range(40)]
        ids = [identity for identity in ids if source.owner(identity) == target.me]
        for identity in ids:
            await source.catalog.activate(identity)
            live(source, identity).call("add", (1,))
        source.faults.poison = lambda identity: identity == ids[0]
        assert await source.migrator.move([live(source, identity) for identity in ids], target.me) == len(ids) - 1
        assert places(w, ids[0]) == ["node-1"] and await target.ask(ids[0], "total", ()) == 1


async def test_a_state_that_became_unfit_since_it_was_flushed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        node = w.systems["node-1"]
        a = await living(w, Counter)
        ahead = node.migrator._flush_ahead

        async def and_changed_since(batch: list[Activation]) -> list[Activation]:
            batch = await ahead(batch)
            live(node, a).call("add", (1,))
            node.faults.poison = lambda identity: identity == a
            await node.write_behind.flush()
            return batch

        monkeypatch.setattr(node.migrator, "_flush_ahead", and_changed_since)
        assert await move(w, a) == 0
        assert places(w, a) == ["node-1"] and await node.ask(a, "total", ()) == 1
        node.faults.poison = lambda identity: False
        await node.write_behind.flush()
        assert (await node.store.read("counter", [a]))[a].state.total == 1


async def test_a_node_that_was_fenced_before_loses_it_and_the_callers_go_to_the_owner() -> None:
    async with world("node-1", "node-2", "node-3") as w:
        source, third = w.systems["node-1"], w.systems["node-3"]
        a = await living(w, Counter)
        await source.store.release("counter", [(a, live(source, a).epoch)])
        await third.catalog.activate(a)
        assert await move(w, a) == 0
        assert places(w, a) == ["node-3"] and source.metrics.fenced_total == 1
        assert await source.ask(a, "add", (1,)) == 1


async def test_a_target_that_is_not_up_in_the_store_leaves_it_here() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Counter)
        live(source, a).call("add", (3,))
        w.database.nodes[target.me].state = "dead"
        assert await move(w, a) == 0
        assert places(w, a) == ["node-1"] and source.metrics.fenced_total == 0
        assert live(source, a).call("add", (1,)) == 4


def _lose(w: Cluster, lost: type, times: int = 1, answers: bool = False) -> None:
    """Swallow so many messages of that sort to any node, or their answers."""
    for system in w.systems.values():

        def serve(peer: NodeAddress, payload: bytes, real: Any = system.arrivals.serve) -> Any:
            nonlocal times
            if isinstance(parcels.decode(payload), lost) and times > 0:
                times -= 1
                if answers:
                    real(peer, payload)
                return asyncio.get_running_loop().create_future()
            return real(peer, payload)

        system.transport.serve(Service.MIGRATE, serve)


@pytest.mark.parametrize("lost", [Ship, Go])
@pytest.mark.parametrize("answers", [False, True])
async def test_lost_messages_lose_no_change_and_what_lives_by_itself_wakes(lost: type, answers: bool) -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Walker)
        live(source, a).call("add", (5,))
        live(source, a).call("beat", ("x",))
        _lose(w, lost, answers=answers)
        assert await move(w, a) == 1
        await until(lambda: target.find(a) is not None)
        parcel = [1, ["x"], "activated arrived", 5] if answers else [0, [], "activated", 5]
        assert await source.ask(a, "seen", ()) == parcel
        await until(lambda: not target.arrivals._incoming)
        assert live(target, a).timers == 1 and source.metrics.fenced_total == target.metrics.fenced_total == 0


async def test_calls_that_wait_find_a_target_that_lost_the_parcel() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Walker)
        _lose(w, Ship)
        source.faults.hold = asyncio.Event()
        moving = asyncio.ensure_future(move(w, a))
        await until(lambda: live(source, a).frozen)
        waiting = [
            asyncio.ensure_future(system.ask(a, "beat", (f"{n}",))) for n in range(3) for system in (source, target)
        ]
        await until(lambda: len(live(source, a).queued()) == 6)
        source.faults.hold.set()
        assert await moving == 1
        assert sorted(await asyncio.gather(*waiting)) == [1, 2, 3, 4, 5, 6]


async def test_an_activation_that_lives_there_thaws_without_the_last_words() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a, ghost = home(w, Walker, "node-2"), home(w, Ghost, "node-1")
        for identity in (a, ghost):
            await source.catalog.activate(identity)
        _lose(w, (Open, Over), 4)  # type: ignore[arg-type]
        assert await move(w, a) == await move(w, ghost) == 1
        await until(lambda: target.find(ghost) is not None)
        assert live(target, a).frozen and live(target, ghost).frozen
        assert await source.ask(a, "add", (1,)) == await source.ask(ghost, "add", (1,)) == 1


async def test_a_target_that_refuses_or_cannot_be_reached_leaves_everything_here() -> None:
    async with world("node-1", "node-2", actors={"max_activations": 3}) as w:
        source, target = w.systems.values()
        ids = [identity for n in range(40) if source.owner(identity := actor_id("counter", f"k{n}")) == target.me][:3]
        for identity in ids:
            await source.catalog.activate(identity)
        for n in range(2):
            await target.catalog.activate(actor_id("near", f"{n}"))
        assert await source.migrator.move([live(source, identity) for identity in ids], target.me) == 1
        target.catalog.closed = Unavailable("over")
        assert await move(w, ids[1]) == 0
        target.catalog.closed = None
        forgive(w)
        w.network.split({source.me}, {target.me})
        assert await move(w, ids[1]) == 0
        w.network.heal()
        assert [places(w, identity) for identity in ids] == [["node-2"], ["node-1"], ["node-1"]]
        assert [await source.ask(identity, "add", (1,)) for identity in ids] == [1, 1, 1]


async def test_a_target_that_dies_after_the_compare_and_set_is_succeeded_in_the_ordinary_way() -> None:
    async with world("node-1", "node-2") as w:
        source, target = w.systems.values()
        a = await living(w, Counter)
        live(source, a).call("add", (5,))
        source.faults.hold = asyncio.Event()
        moving = asyncio.ensure_future(move(w, a))
        await until(lambda: any(statement == "write" for statement, _ in source.faults.seen))
        source.faults.hold.set()
        await until(lambda: any(statement == "migrate" for statement, _ in source.faults.seen))
        w.network.crash(target.me)
        assert await moving == 1
        w.database.nodes[target.me].state = "dead"
        w.systems.pop("node-2")
        w.show("node-1")
        assert await source.ask(a, "add", (1,)) == 6
        await target.supervisor.stop()


async def test_a_call_that_is_at_the_target_first_waits_for_the_parcel() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Walker)
        live(source, a).call("beat", ("x",))
        target.directory.partition.unregister(a, source.me)
        source.faults.hold = asyncio.Event()
        moving = asyncio.ensure_future(move(w, a))
        await until(lambda: a in target.catalog.expected)
        early = asyncio.ensure_future(target.catalog.activate(a))
        await until(lambda: any(statement == "migrate" for statement, _ in source.faults.seen))
        source.faults.hold.set()
        assert await moving == 1
        assert await early is live(target, a)
        assert (await target.ask(a, "seen", ()))[0] == 1
        assert not any(statement == "claim" for statement, _ in target.faults.seen)


async def test_a_parcel_that_is_too_late_is_refused_and_the_claimed_one_lives_on() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Walker)
        live(source, a).call("add", (5,))
        real, gate = source.store.migrate, asyncio.Event()

        async def then_waits(kind: str, moves: Any, generation: int = 0) -> Any:
            result = await real(kind, moves, generation)
            await gate.wait()
            return result

        source.store.migrate = then_waits  # type: ignore[method-assign]
        moving = asyncio.ensure_future(move(w, a))
        await until(lambda: a not in target.catalog.expected and bool(target.arrivals._past))
        claimed = await target.catalog.activate(a)
        assert claimed.call("add", (1,)) == 6
        gate.set()
        assert await moving == 1
        assert live(target, a) is claimed and not claimed.frozen and places(w, a) == ["node-2"]
        assert await source.ask(a, "add", (1,)) == 7


async def test_a_repeated_message_gets_the_same_answer_and_an_unknown_one_does_nothing() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Counter)
        sent: list[bytes] = []
        serve = target.arrivals.serve

        def noted(peer: NodeAddress, payload: bytes) -> Any:
            sent.append(payload)
            return serve(peer, payload)

        target.transport.serve(Service.MIGRATE, noted)
        assert await move(w, a) == 1
        ship = next(payload for payload in sent if isinstance(parcels.decode(payload), Ship))
        there = live(target, a)
        assert await target.ask(a, "add", (1,)) == 1
        answer = await source.transport.request(target.me, Service.MIGRATE, ship, 1.0)
        assert parcels.decode_ids(answer) == [a] and live(target, a) is there
        await target.catalog.deactivate([there])
        assert parcels.decode_ids(await source.transport.request(target.me, Service.MIGRATE, ship, 1.0)) == [a]
        other = parcels.encode(msgspec.structs.replace(parcels.decode(ship), number=77))  # type: ignore[type-var]
        assert parcels.decode_ids(await source.transport.request(target.me, Service.MIGRATE, other, 1.0)) == []
        assert target.find(a) is None


async def test_bytes_that_are_no_migration_are_bad_input_and_change_nothing() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = home(w, Walker, "node-2")
        to = target.me.incarnation

        async def ask(payload: bytes) -> bytes:
            return await source.transport.request(target.me, Service.MIGRATE, payload, 1.0)

        good = parcels.Parcel(a, 2, 3, parcels.encode(Total(4)), False, [], [], parcels.encode([0, []]), {})
        wrong = [
            b"",
            b"\x94garbage",
            parcels.encode(Offer(1, to + 1, [a])),
            parcels.encode(Offer(0, to, [a])),
            parcels.encode(Offer(1, to, [ActorId("no id")])),
            parcels.encode([1, 9, to, 0, ["text"]]),
        ]
        for payload in wrong:
            with pytest.raises(BadInput):
                await ask(payload)
        assert parcels.decode_taken(await ask(parcels.encode(Offer(9, to, [a])))).ids == [a]
        with pytest.raises(BadInput):
            await ask(parcels.encode(Offer(9, to, [a])))
        bad = [
            replace(good, id=ActorId("planet/mars")),
            replace(good, state=b"\xc1"),
            replace(good, state=parcels.encode({"total": "x"})),
            replace(good, carried=parcels.encode({"no": 1})),
            replace(good, timers=[("nothing", 1.0, parcels.encode([]))]),
            replace(good, timers=[("tick", 1.0, parcels.encode(["x"]))]),
            replace(good, due=[("tick", b"\xc1")]),
            replace(good, carried=parcels.encode([0, []])[:-1] + b"\x91\xa2\xff\xfe"),
        ]
        for part, parcel in enumerate(bad):
            assert parcels.decode_ids(await ask(parcels.encode(Ship(9, to, part, [parcels.encode(parcel)])))) == []
        with pytest.raises(BadInput):
            await ask(parcels.encode(parcels.Queued(9, to, b"\x93garbage")))
        assert target.find(a) is None
        assert parcels.decode_ids(await ask(parcels.encode(Ship(9, to, 50, [parcels.encode(good)])))) == [a]
        assert target.find(a) is None
        await ask(parcels.encode(Go(9, to, [a], [])))
        assert live(target, a).actor.state.total == 4 and live(target, a).frozen
        await ask(parcels.encode(Open(9, to, [a])))
        await ask(parcels.encode(Open(9, to, [a])))
        await ask(parcels.encode(Over(9, to)))
        await ask(parcels.encode(Go(9, to, [a], [a])))
        assert not live(target, a).frozen


@pytest.mark.parametrize("part", ["base", "tail", "ends", "next_seq"])
async def test_a_log_that_does_not_fit_together_is_refused(part: str) -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Ledger)
        for _ in range(3):
            await live(source, a).call("add", (1,))
        assert live(source, a).halt()
        live(source, a).freeze()
        data = parcels.pack(live(source, a), live(source, a).epoch, 1 << 20)
        assert data is not None
        parcel = msgspec.msgpack.decode(data, type=parcels.Parcel)
        assert parcel.log is not None
        wrong: dict[str, Any] = {"base": b"\xc1", "tail": parcel.log.tail[1:-1], "ends": [99], "next_seq": 9}
        parcel = replace(parcel, log=replace(parcel.log, **{part: wrong[part]}))
        with pytest.raises(BadInput):
            parcels.unpack(target.app, target, parcels.encode(parcel))


async def test_an_activation_that_cannot_travel_lives_on_here() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Walker)
        live(source, a).call("refuse", ())
        assert await move(w, a) == 0
        assert await target.ask(a, "add", (1,)) == 1
        live(source, a).set_timer("tick", 60.0, (object(),))
        live(source, a).actor.refuses = False  # type: ignore[attr-defined]
        assert await move(w, a) == 0
        assert places(w, a) == ["node-1"] and live(source, a).timers == 1


async def test_a_parcel_that_cannot_be_read_costs_the_others_of_its_message_nothing() -> None:
    async with world() as w:
        source, target = w.systems.values()
        ids = [identity for n in range(40) if source.owner(identity := actor_id("walker", f"k{n}")) == target.me][:4]
        for identity in ids:
            await source.catalog.activate(identity)
            live(source, identity).call("beat", ("x",))
        live(source, ids[1]).actor.names = (b"\xff",)  # type: ignore[attr-defined]
        assert await source.migrator.move([live(source, identity) for identity in ids], target.me) == 4
        for identity in ids:
            beats, names, *_ = await target.ask(identity, "seen", ())
            assert (beats, names) == ((0, []) if identity == ids[1] else (1, ["x"]))


async def test_a_silent_target_holds_up_nothing_that_goes_elsewhere() -> None:
    async with moving_world("node-1", "node-2", "node-3") as w:
        source, target, third = w.systems.values()
        ids = [identity for n in range(400) if source.owner(identity := actor_id("counter", f"k{n}")) == source.me]
        for identity in ids:
            await source.catalog.activate(identity)
        offers = silence(target)
        _show_leaving(w, "node-1")
        going = [identity for identity in ids if source.owner(identity) == third.me]
        assert len(going) > 40 and len(ids) - len(going) > 40
        await until(lambda: all(third.find(identity) is not None for identity in going), 4.0)
        assert 1 <= len(offers) <= 4


async def test_a_parcel_that_is_claimed_and_cannot_be_read_is_lost_and_holds_up_no_other_move() -> None:
    async with world() as w:
        source, target = w.systems.values()
        ids = [identity for n in range(40) if source.owner(identity := actor_id("counter", f"k{n}")) == target.me][:2]
        for identity in ids:
            await source.catalog.activate(identity)
            live(source, identity).call("add", (1,))
        here = [live(source, identity) for identity in ids]
        claim = source.store.claim

        async def unreadable(kind: str, claims: Any, *more: Any) -> Any:
            return {claimed.id: Corrupt("planted") for claimed in claims}

        source.faults.next["migrate"] = ["refuse"]
        source.store.claim = unreadable  # type: ignore[method-assign]
        async with asyncio.timeout(5):
            assert await source.migrator.move(here[:1], target.me) == 0
        source.store.claim = claim  # type: ignore[method-assign]
        assert here[0].dropped and source.metrics.fenced_total == 1
        forgive(w)
        assert await source.migrator.move(here[1:], target.me) == 1


async def test_a_volatile_actor_moves_with_its_state_or_stays() -> None:
    async with world() as w:
        source, target = w.systems.values()
        ghost = home(w, Ghost, "node-1")
        await source.catalog.activate(ghost)
        live(source, ghost).call("add", (5,))
        live(source, ghost).call("add_later", (0.02,))
        assert await move(w, ghost) == 1
        assert places(w, ghost) == ["node-2"]
        assert await source.ask(ghost, "where", ()) == "node-2"
        await until(lambda: live(target, ghost).actor.state.total == 105)
        _lose(w, Ship, 2, answers=True)
        assert await move(w, ghost, "node-2", "node-1") == 0
        await until(lambda: source.find(ghost) is None)
        assert await source.ask(ghost, "add", (1,)) == 106


def _show_leaving(w: Cluster, leaving: str) -> None:
    members = tuple(
        msgspec.structs.replace(member, state="leaving" if member.node == leaving else "up")
        for member in w.systems["node-1"].view.members.values()
    )
    for system in w.systems.values():
        change_view(View(members), transport=system.transport, system=system)


async def test_a_leaving_node_hands_everything_on_whatever_its_placement() -> None:
    async with moving_world("node-1", "node-2", "node-3") as w:
        node = w.systems["node-1"]
        ids = [home(w, cls, "node-1") for cls in (Walker, Counter, Ledger)]
        ids += [actor_id("near", f"{n}") for n in range(5)] + [actor_id("ghost", f"{n}") for n in range(5)]
        for identity in ids:
            await node.catalog.activate(identity)
        _show_leaving(w, "node-1")
        assert node.current.is_leaving and len(node.misplaced) == node.metrics.misplaced == len(ids)
        await until(lambda: not node.catalog.live and not node.metrics.misplaced)
        assert all(len(places(w, identity)) == 1 for identity in ids)
        assert node.metrics.migrations_total == len(ids)


async def test_nothing_moves_to_a_node_that_is_leaving() -> None:
    async with moving_world() as w:
        source, target = w.systems.values()
        a = home(w, Counter, "node-1")
        await source.catalog.activate(a)
        _show_leaving(w, "node-2")
        assert await move(w, a) == 0
        assert source.misplaced.home(live(source, a)) == source.me and not target.catalog.live


def silence(system: TestSystem) -> list[bytes]:
    """From here on `host` answers nothing about moves; what it is asked."""
    asked: list[bytes] = []

    def never(peer: NodeAddress, payload: bytes) -> "asyncio.Future[bytes]":
        if isinstance(parcels.decode(payload), Offer):
            asked.append(payload)
        return asyncio.get_running_loop().create_future()

    system.transport.serve(Service.MIGRATE, never)
    return asked


async def test_a_stop_stores_what_is_acknowledged_although_a_peer_is_silent() -> None:
    async with moving_world("node-1", "node-2", "node-3", actors={"rebalance_per_s": 1}) as w:
        source, target, third = w.systems.values()
        ids = [identity for n in range(600) if source.owner(identity := actor_id("counter", f"k{n}")) == source.me]
        for identity in ids:
            await source.catalog.activate(identity)
        silence(target)
        _show_leaving(w, "node-1")
        stopping = asyncio.ensure_future(source.stop(source.clock.now() + 3))
        acknowledged = dict.fromkeys(ids, 0)
        while not stopping.done():
            for identity in ids:
                here = source.find(identity)
                if here is not None and here.idle:
                    acknowledged[identity] = here.call("add", (1,))
            await asyncio.sleep(0.02)
        await stopping
        assert source.unstored == 0
        stored = await third.store.read("counter", sorted(ids))
        for identity in ids:
            there = third.find(identity)
            total = there.actor.state.total if there is not None else stored[identity].state.total
            assert total >= acknowledged[identity] > 0


async def test_a_stop_moves_what_it_can_and_stores_the_rest() -> None:
    async with moving_world() as w:
        source, target = w.systems.values()
        a, b, near = home(w, Walker, "node-1"), home(w, Ledger, "node-1"), actor_id("near", "n")
        for identity in (a, b, near):
            await source.catalog.activate(identity)
        live(source, a).call("beat", ("x",))
        live(source, a).call("add", (3,))
        _show_leaving(w, "node-1")
        await source.stop(source.clock.now() + 5)
        assert not source.catalog.live and not source.unstored
        assert await target.ask(a, "seen", ()) == [1, ["x"], "activated arrived", 3]
        assert target.find(b) is not None and target.find(near) is not None
        _show_leaving(w, "node-2")
        await target.stop(target.clock.now() + 5)
        assert (await target.store.read("walker", [a]))[a].state.total == 3


async def test_while_views_differ_every_actor_has_one_place_in_the_end() -> None:
    async with moving_world("node-1", "node-2") as w:
        ids = [actor_id("counter", f"k{n}") for n in range(60)]
        for identity in ids:
            await w.systems["node-1"].ask(identity, "add", (1,))
        await w.add("node-3")
        asking = [asyncio.ensure_future(w.systems["node-2"].ask(identity, "add", (1,))) for identity in ids]
        w.show("node-1", "node-2", "node-3")
        await asyncio.gather(*asking)
        node = w.systems["node-3"]
        moved = [identity for identity in ids if node.owner(identity) == node.me]
        await until(lambda: all(node.find(identity) is not None for identity in moved))
        assert all(len(places(w, identity)) == 1 for identity in ids)
        assert [await node.ask(identity, "total", ()) for identity in ids] == [2] * len(ids)
        assert sum(system.metrics.migrations_total for system in w.systems.values()) == len(moved)


async def test_with_a_crash_journal_answers_are_out_before_it_moves_and_records_stay_until_it_is_clear() -> None:
    journals = MemoryJournals("redis", lambda: 0.003)

    def journal(name: str, metrics: Metrics) -> MemoryJournal:
        return MemoryJournal(journals, NodeId(name), metrics, JournalSettings())

    async with cluster(NODES, _app(), journal, actors={"rebalance_per_s": 1}) as w:
        source, target = w.systems.values()
        a = await living(w, Counter)
        answer = live(source, a).call("add", (5,))
        assert not answer.done()
        source.faults.next["migrate"] = ["refuse"]
        source.faults.next["claim"] = ["refuse"] * 3
        moving = asyncio.ensure_future(move(w, a))
        await until(lambda: bool(source.faults.seen) and source.faults.seen[-1][0] == "claim")
        assert await answer == 5
        assert await moving == 0
        forgive(w)
        assert await move(w, a) == 1
        assert await target.ask(a, "add", (1,)) == 6


async def test_two_moves_of_the_same_at_once_are_one() -> None:
    async with world() as w:
        source, target = w.systems.values()
        a = await living(w, Counter)
        here = live(source, a)
        moved = await asyncio.gather(
            source.migrator.move([here, here], target.me), source.migrator.move([here], target.me)
        )
        assert sum(moved) == 1 and places(w, a) == ["node-2"]
        with pytest.raises(GarrisonError):
            here.call("add", (1,))


async def test_nothing_is_packed_within_a_turn() -> None:
    async with world() as w:
        source, _ = w.systems.values()
        walker = live(source, await living(w, Walker))
        walker.busy = True
        with pytest.raises(AssertionError, match="packed within a turn"):
            walker.carry()
        walker.busy = False
        assert walker.carry() == Carried(0, ())
