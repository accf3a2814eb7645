"""An actor system goes on in another process of the same run: numbers do not go back, nobody registers again."""

import asyncio

import msgspec
import pytest
from msgspec.structs import replace

from server.activations import parcels
from server.activations.event_log import narrowings
from server.activations.parcels import pack_here, unpack
from server.actors.actor import Actor, LoggedActor, Record, reminder, remote
from server.actors.app import App
from server.actors.latest import LatestActor, LatestState, sources
from server.catalog import bequest
from server.errors import BadInput
from server.ids import ActorId, Incarnation, NodeAddress, NodeId, actor_id
from server.runtime.numbers import Rising
from tests.support.engine import cluster, key_owned_by
from tests.support.heirs import MOST, bequeath, copy, end, go, stand_by, succeed
from tests.support.tiny import Added, Total
from tests.support.waiting import until
from tests.unit.test_telling import BANK, BANKS, flushing

pytestmark = pytest.mark.virtual_time
THERE = NodeAddress(NodeId("node-2"), Incarnation(1))


class Bells(msgspec.Struct, frozen=True):
    rung: int = 0
    reminded: dict[str, int] = {}


class Bell(Actor[Bells]):
    kind = "bell"
    durability = "write_behind"
    State = Bells

    @remote
    async def wind(self, due_ms: int) -> None:
        await self.remind(self.ring, due_ms)

    @reminder
    def ring(self, due_ms: int) -> None:
        self.state = replace(self.state, rung=self.state.rung + 1)

    @remote
    def rung(self) -> int:
        return self.state.rung


class Lobby(LatestActor[Total]):
    """A volatile latest topic, whose epochs are not those of the store."""

    kind = "lobby"
    State = Total

    def latest(self) -> dict[str, int]:
        return {"total": self.state.total}

    @remote
    def add(self, n: int) -> int:
        self.state = Total(self.state.total + n)
        self.publish_latest("total", self.state.total)
        return self.state.total


class Guarded(LoggedActor[Total]):
    kind = "guarded"
    State = Total
    Event = Added

    @staticmethod
    def evolve(state: Total, record: Record) -> Total:
        return Total(state.total + record.event.n)

    def guards_watch(self) -> bool:
        return True

    @remote
    def add(self, n: int, narrows: bool) -> int:
        self.emit(Added(self.next_seq, n))
        if narrows:
            self.narrow_watching()
        return self.state.total


APP = App("going over", (Bell, Lobby, Guarded))


async def test_reminders_are_set_on_after_a_succession_under_higher_numbers() -> None:
    async with cluster(app=APP, actors={"reminder_poll_s": 3_600}) as world:
        system = world.systems["node-1"]
        bell = actor_id("bell", "ann")
        later = world.clock.wall_ms() + 3_600_000
        for n in range(3):
            await system.ask(bell, "wind", (later + n,))
        await system.write_behind.flush()
        heir = await succeed(world, "node-1")
        await heir.ask(bell, "wind", (later + 10,))
        assert heir.find(bell) is not None, "it was not fenced off"
        assert [row.due_ms for row in world.database.reminders.values()] == [later + 10]
        assert heir.metrics.fenced_total == 0


async def test_watchers_of_a_latest_topic_get_each_difference_once_and_attach_no_more() -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        lobby = actor_id("lobby", "l")
        state: LatestState = await system.ask(lobby, "attach_latest", ("node-2", 1, "", -1, 0))
        await system.ask(lobby, "add", (1,))
        heir = await succeed(world, "node-1")
        await heir.ask(lobby, "add", (1,))
        orders = [order for _, _, order, _, _ in system.published.latest + heir.published.latest]
        assert orders == [(state.epoch, state.n + 1), (state.epoch, state.n + 2)]
        assert [nodes for nodes, *_ in heir.published.latest] == [[THERE]]
        known: LatestState = await heir.ask(lobby, "attach_latest", ("node-2", 1, state.source, *orders[-1]))
        assert known.items is None and known.source == state.source


async def test_a_latest_topic_is_watched_as_long_as_it_would_have_been() -> None:
    async with cluster(app=APP) as world:
        lobby = actor_id("lobby", "l")
        await world.systems["node-1"].ask(lobby, "attach_latest", ("node-2", 1, "", -1, 0))
        await asyncio.sleep(8.0)
        heir = await succeed(world, "node-1")
        await asyncio.sleep(3.0)
        await heir.ask(lobby, "add", (1,))
        assert [nodes for nodes, *_ in heir.published.latest if nodes] == []


async def test_events_after_a_succession_follow_those_before_for_each_node_that_watches() -> None:
    async with cluster(app=APP, store={"group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        match = actor_id("guarded", "m")
        await system.ask(match, "add", (1, False))
        attached = system.find(match).log().attach(THERE)
        await system.ask(match, "add", (1, True))
        await asyncio.sleep(0.1)
        heir = await succeed(world, "node-1")
        guard = system.find(match).log().guard
        assert heir.find(match).log().guard == guard > attached.guard
        await heir.ask(match, "add", (1, False))
        await asyncio.sleep(0.1)
        seen = system.published.events + heir.published.events
        assert [(nodes, first, len(events)) for nodes, _, first, events in seen] == [([THERE], 2, 1), ([THERE], 3, 1)]
        data, parcel = system.bequeath(), pack_here(system.find(match), MOST)
        narrowings.newest = 0
        arrived = unpack(APP, heir, parcel or b"").activation.log()
        arrived.narrow()
        assert arrived.guard > guard, "a hook of an heir that narrows does so above its predecessor"
        narrowings.newest = 0
        heir.inherit(data)
        await heir.ask(match, "add", (1, True))
        assert heir.find(match).log().guard > guard


async def test_an_activation_in_the_middle_of_something_is_not_copied() -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        match = actor_id("guarded", "m")
        answer = asyncio.ensure_future(system.ask(match, "add", (1, False)))
        await until(lambda: system.find(match) is not None and system.find(match).held)
        assert pack_here(system.find(match), MOST) is None
        await answer
        assert pack_here(system.find(match), MOST) is not None
        assert pack_here(system.find(match), 10) is None


async def test_a_move_to_another_node_takes_neither_source_nor_guard_along() -> None:
    async with cluster(app=APP) as world:
        system = world.systems["node-1"]
        lobby = actor_id("lobby", "l")
        await system.ask(lobby, "attach_latest", ("node-2", 1, "", -1, 0))
        activation = system.find(lobby)
        assert activation is not None and activation.halt()
        activation.freeze()
        arrival = unpack(APP, system, parcels.pack(activation, activation.epoch, MOST) or b"")
        assert isinstance(arrival.activation.actor, LatestActor) and arrival.activation.actor.source_parts() is None


async def test_claims_migrations_and_numbers_of_the_heir_are_above_those_before() -> None:
    async with cluster(("node-1", "node-2"), app=APP) as world:
        system = world.systems["node-1"]
        key = key_owned_by(system, Bell, "node-1")
        await system.ask(actor_id("bell", key), "rung", ())
        token = system.claimer.newest_token
        assert token > 0
        system.migrator.number = 17
        world.systems["node-2"].arrivals.know([(system.me, 17)])
        system.arrivals.know([(world.systems["node-2"].me, 5)])
        system.orphans.wake_again([ActorId("bell/lost")])
        system.runs_over.go_on_with([(THERE, 3.0)], [1.0, 2.0])
        heir = await succeed(world, "node-1")
        assert heir.claimer.newest_token >= token
        assert heir.migrator.number == 17
        assert heir.arrivals.over() == [(world.systems["node-2"].me, 5)]
        assert heir.orphans.unsure == [ActorId("bell/lost")]
        missing, looks = heir.runs_over.plans()
        assert [run for run, _ in missing] == [THERE] and len(looks) >= 2


async def test_peers_reach_the_heir_and_what_lives_there_without_registering() -> None:
    async with cluster(("node-1", "node-2"), app=APP) as world:
        system, peer = world.systems.values()
        here, there = (actor_id("bell", key_owned_by(system, Bell, name)) for name in ("node-1", "node-2"))
        for bell in (here, there):
            await peer.ask(bell, "rung", ())
        before = dict(peer.directory.partition.entries())
        heir = await succeed(world, "node-1")
        assert await peer.ask(here, "rung", ()) == 0
        assert await heir.ask(there, "rung", ()) == 0
        assert peer.directory.partition.entries() == before
        assert heir.metrics.activations_created_total == system.metrics.activations
        assert heir.claimer.newest_token == system.claimer.newest_token, "nothing was claimed again"


async def test_a_death_under_way_in_the_last_moment_is_told_by_the_heir() -> None:
    async with cluster(("node-1", "node-2"), app=APP) as world:
        system, peer = world.systems.values()
        lobby = actor_id("lobby", key_owned_by(system, Lobby, "node-2"))
        activation = await system.catalog.activate(lobby)
        await asyncio.sleep(0.1)
        assert peer.directory.find(lobby) == system.me
        heir = stand_by(world, system)
        world.network.delay = lambda frm, to: None
        system.catalog.discard(activation, BadInput("planted"))
        await asyncio.sleep(0.01)
        copy(system, heir)
        bequeath(system, heir)
        await end(world, system)
        world.network.delay = lambda frm, to: 0.001
        await go(world, heir, system.me)
        await asyncio.sleep(2.0)
        assert peer.directory.find(lobby) is None


async def test_facts_that_are_open_are_told_once_the_heir_serves_and_not_before() -> None:
    async with cluster(app=BANKS) as world:
        system = world.systems["node-1"]
        await system.ask(BANK, "owe", (5,))
        system.hold()
        await system.write_behind.flush()
        assert system.find(BANK).telling and system.telling.under_way == 0 and system.under_way == ""
        heir = stand_by(world, system)
        copy(system, heir)
        bequeath(system, heir)
        await end(world, system)
        await asyncio.sleep(1.0)
        assert heir.find(BANK).telling and heir.telling.under_way == 0
        await go(world, heir, system.me)
        assert heir.telling.under_way == 5
        flushing(heir)
        await until(lambda: len(heir.find(BANK).boundary.over) == 5)


async def test_a_rest_that_is_called_off_tells_facts_that_waited() -> None:
    async with cluster(app=BANKS) as world:
        system = world.systems["node-1"]
        await system.ask(BANK, "owe", (5,))
        system.hold()
        await system.write_behind.flush()
        system.go_on()
        assert system.telling.under_way == 5 and system.unanswered == "5 facts"
        flushing(system)
        await until(lambda: len(system.find(BANK).boundary.over) == 5)


async def test_nothing_is_collected_moved_or_taken_while_a_node_rests() -> None:
    settings = {"idle_timeout_s": 1.0, "collect_interval_s": 0.5}
    async with cluster(("node-1", "node-2"), app=APP, actors=settings) as world:
        system, other = world.systems.values()
        here = actor_id("lobby", key_owned_by(system, Lobby, "node-1"))
        there = actor_id("bell", key_owned_by(system, Bell, "node-2"))
        await system.ask(here, "add", (1,))
        await system.catalog.activate(there)
        system.hold()
        moves = asyncio.ensure_future(
            other.migrator.move([await other.catalog.activate(ActorId("lobby/x"))], system.me)
        )
        await asyncio.sleep(5.0)
        assert system.find(here) is not None and system.find(there) is not None
        assert await moves == 0
        system.go_on()
        await asyncio.sleep(5.0)
        assert system.find(here) is None and system.find(there) is None


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90"])
def test_bytes_that_are_no_bequest_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        bequest.decode(data)


async def test_a_bequest_of_another_run_is_refused() -> None:
    async with cluster(("node-1", "node-2"), app=APP) as world:
        first, second = world.systems.values()
        with pytest.raises(BadInput):
            first.inherit(second.bequeath())


def test_numbers_go_on_above_those_of_another_process() -> None:
    rising = Rising()
    assert [next(rising), next(rising)] == [1, 2]
    rising.raise_to(10)
    rising.raise_to(3)
    assert next(rising) == 11 and sources.newest >= 0
