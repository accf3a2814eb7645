"""Standby: activations live in the heir of a node, nothing of them leaves and nothing begins; and the predecessor's
rest, from which it can go on."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from server.activations.parcels import pack, unpack
from server.actors.actor import Actor, remote
from server.actors.app import App
from server.errors import Internal, Unavailable
from server.ids import NodeId, actor_id
from server.runtime.metrics import Metrics
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from server.succession.copying import CopiedActivations
from tests.support.engine import Cluster, cluster
from tests.support.heirs import MOST, copy, end, go, parcel_of, stand_by
from tests.support.tiny import Counter, Total

pytestmark = pytest.mark.virtual_time


class Greeter(Actor[Total]):
    """Tells a counter each time it begins to live, and has a clock."""

    kind = "greeter"
    durability = "write_behind"
    State = Total

    __slots__ = ("carried",)

    def activated(self) -> None:
        self.carried = 0
        self.tell(Counter, "heard", Counter.add, 1)
        self.tell(Counter, "heard", Counter.add, 10)

    def carry(self) -> int:
        return 1

    def arrived(self, carried: int) -> None:
        self.carried += carried

    @remote
    def clock(self, delay_s: float) -> None:
        self.after(delay_s, self.ticks)

    def ticks(self) -> None:
        self.state = replace(self.state, total=self.state.total + 1)

    @remote
    async def wait(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)

    @remote
    def total(self) -> int:
        return self.state.total


class Stubborn(Actor[Total]):
    """Cannot be copied."""

    kind = "stubborn"
    durability = "write_behind"
    State = Total

    def carry(self) -> None:
        raise ValueError("planted")

    @remote
    def total(self) -> int:
        return self.state.total


class Ageing(Actor[Total]):
    """Changes its state each time it begins to live."""

    kind = "ageing"
    durability = "write_behind"
    State = Total

    def activated(self) -> None:
        self.state = replace(self.state, total=self.state.total + 1)
        self.tell(Counter, "older", Counter.add, self.state.total)

    @remote
    def total(self) -> int:
        return self.state.total


class Shy(Actor[Total]):
    """Does not arrive anywhere."""

    kind = "shy"
    State = Total

    def arrived(self, carried: Any) -> None:
        raise ValueError("planted")

    @remote
    def total(self) -> int:
        return self.state.total


HOOKS = App("hooks", (Greeter, Ageing, Shy, Stubborn, Counter))


async def _succeeds(world: Cluster, copies: int = 1) -> tuple[Any, Any]:
    predecessor = world.systems["node-1"]
    heir = stand_by(world, predecessor)
    for _ in range(copies):
        copy(predecessor, heir)
    return predecessor, heir


async def test_tells_of_hooks_in_standby_leave_once_and_in_order_when_the_heir_serves() -> None:
    async with cluster(app=HOOKS) as world:
        predecessor = world.systems["node-1"]
        await predecessor.ask(actor_id("greeter", "ann"), "total", ())
        await asyncio.sleep(0.1)
        await predecessor.write_behind.flush()
        assert await predecessor.ask(actor_id("counter", "heard"), "total", ()) == 11
        predecessor, heir = await _succeeds(world, copies=3)
        await asyncio.sleep(1.0)
        copied = heir.find(actor_id("counter", "heard")).actor.state.total
        assert copied == 11, "nothing leaves and no turn begins"
        await end(world, predecessor)
        await go(world, heir, predecessor.me)
        await asyncio.sleep(0.1)
        assert await heir.ask(actor_id("counter", "heard"), "total", ()) == 22
        assert heir.find(actor_id("greeter", "ann")).actor.carried == 1


async def test_a_copy_that_is_withdrawn_leaves_nothing_behind() -> None:
    async with cluster(app=HOOKS) as world:
        predecessor = world.systems["node-1"]
        ann = actor_id("greeter", "ann")
        await predecessor.ask(ann, "clock", (0.5,))
        predecessor, heir = await _succeeds(world)
        await asyncio.sleep(1.0)
        assert heir.timer_gate.waiting == 1
        heir.withdraw_copy(ann)
        heir.withdraw_copy(ann)
        assert heir.find(ann) is None
        assert heir.timer_gate.waiting == 0
        heir.withdraw_copy(actor_id("counter", "heard"))
        await end(world, predecessor)
        await go(world, heir, predecessor.me)
        await asyncio.sleep(0.1)
        assert heir.counts() == {}
        assert heir.metrics.timers_refused_total == 0


async def test_timers_due_in_standby_ring_once_the_heir_serves() -> None:
    async with cluster(app=HOOKS) as world:
        predecessor = world.systems["node-1"]
        ann = actor_id("greeter", "ann")
        await predecessor.ask(ann, "clock", (0.5,))
        predecessor, heir = await _succeeds(world)
        await end(world, predecessor)
        await asyncio.sleep(1.0)
        assert heir.find(ann).actor.state.total == 0
        await go(world, heir, predecessor.me)
        await asyncio.sleep(0.01)
        assert await heir.ask(ann, "total", ()) == 1


async def test_a_turn_of_a_timer_that_waited_in_the_mailbox_runs_once_the_heir_serves() -> None:
    async with cluster(app=HOOKS) as world:
        predecessor = world.systems["node-1"]
        ann = actor_id("greeter", "ann")
        await predecessor.ask(ann, "total", ())
        activation = predecessor.find(ann)
        assert activation is not None and activation.halt()
        activation.fire("ticks", ())
        activation.freeze()
        data = pack(activation, activation.epoch, MOST)
        heir = stand_by(world, predecessor)
        heir.receive_copy(unpack(HOOKS, heir, data))
        await end(world, predecessor)
        await asyncio.sleep(1.0)
        copied = heir.find(ann)
        assert copied is not None and copied.actor.state.total == 0
        await go(world, heir, predecessor.me)
        assert await heir.ask(ann, "total", ()) == 1


@pytest.mark.parametrize("journalled", [False, True])
async def test_a_hook_that_changes_its_state_in_standby_is_accepted_once_the_heir_serves(journalled: bool) -> None:
    def journal(name: str, metrics: Metrics) -> MemoryJournal:
        return MemoryJournal(MemoryJournals("redis"), NodeId(name), metrics)

    async with cluster(app=HOOKS, make_journal=journal if journalled else None) as world:
        predecessor = world.systems["node-1"]
        ann, older = actor_id("ageing", "ann"), actor_id("counter", "older")
        assert await predecessor.ask(ann, "total", ()) == 1
        await asyncio.sleep(0.1)
        await predecessor.write_behind.flush()
        predecessor, heir = await _succeeds(world)
        assert heir.find(ann).actor.state.total == 2
        assert not heir.find(ann).dirty
        await end(world, predecessor)
        await go(world, heir, predecessor.me)
        assert heir.find(ann).dirty
        await asyncio.sleep(0.1)
        assert await heir.ask(older, "total", ()) == 1 + 2
        await heir.write_behind.flush()
        assert world.database.entities[ann].state_version == heir.find(ann).version


async def test_a_copy_whose_hook_fails_is_none_and_takes_no_other_along() -> None:
    async with cluster(app=HOOKS) as world:
        predecessor = world.systems["node-1"]
        await predecessor.ask(actor_id("shy", "ann"), "total", ())
        await predecessor.ask(actor_id("greeter", "ann"), "total", ())
        heir = stand_by(world, predecessor)
        with pytest.raises(Internal):
            heir.receive_copy(unpack(HOOKS, heir, parcel_of(predecessor.find(actor_id("shy", "ann")))))
        heir.receive_copy(unpack(HOOKS, heir, parcel_of(predecessor.find(actor_id("greeter", "ann")))))
        assert heir.counts() == {"greeter": 1}


async def test_a_durable_activation_that_cannot_be_copied_is_left_to_the_store() -> None:
    async with cluster(app=HOOKS) as world:
        system = world.systems["node-1"]
        await system.ask(actor_id("stubborn", "ann"), "total", ())
        await system.ask(actor_id("greeter", "ann"), "total", ())
        system.hold()
        copied = CopiedActivations(system)
        copied.begin()
        while copied.waiting and copied.slice(10)[0]:
            pass
        activation = system.find(actor_id("stubborn", "ann"))
        assert activation is not None and copied.missing == 1
        copied.leave_the_rest_to_store()
        assert copied.missing == copied.waiting == 0
        assert system.find(activation.id) is None and activation.dropped
        copied.end()
        system.go_on()
        assert await system.ask(activation.id, "total", ()) == 0, "a succession that is called off costs a claim"


async def test_an_activation_that_cannot_be_copied_is_tried_once_a_round_and_told_of_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster(app=HOOKS) as world:
        system = world.systems["node-1"]
        await system.ask(actor_id("stubborn", "ann"), "total", ())
        for number in range(30):
            await system.ask(actor_id("greeter", f"g{number}"), "total", ())
        tried: list[str] = []
        monkeypatch.setattr(Stubborn, "carry", lambda self: [tried.append(self.key), 1 / 0])
        copied = CopiedActivations(system)
        with capture_logs() as logs:
            for rounds in (1, 2, 3):
                copied.touched_again()
                while copied.slice(5)[0]:
                    pass
                assert tried == ["ann"] * rounds and copied.missing == copied.waiting == 1
        warned = [(line["event"], line["why"]) for line in logs if line["log_level"] == "warning"]
        assert warned == [("cannot be copied", "ZeroDivisionError in stubborn")]
        copied.end()


async def test_a_volatile_activation_is_not_left_to_the_store() -> None:
    async with cluster(app=HOOKS) as world:
        system = world.systems["node-1"]
        activation = await system.catalog.activate(actor_id("shy", "ann"))
        with pytest.raises(Unavailable):
            system.leave_to_store(activation)
        copied = CopiedActivations(system)
        copied.begin()
        copied.born(activation)
        with pytest.raises(Unavailable, match="shy/ann cannot go over: it is not at rest"):
            copied.leave_the_rest_to_store()
        copied.end()
        assert system.find(activation.id) is activation


async def test_rest_ends_where_the_node_goes_on_and_nothing_is_lost_meanwhile() -> None:
    async with cluster(app=HOOKS) as world:
        system = world.systems["node-1"]
        ann = actor_id("greeter", "ann")
        await system.ask(ann, "clock", (0.5,))
        waits = asyncio.ensure_future(system.ask(ann, "wait", (0.3,)))
        system.hold()
        assert "1 activations that are loaded" in system.under_way
        await waits
        assert system.under_way == ""
        await asyncio.sleep(1.0)
        assert system.find(ann).actor.state.total == 0
        system.go_on()
        system.go_on()
        await asyncio.sleep(0.01)
        assert system.find(ann).actor.state.total == 1


async def test_claims_under_way_are_named() -> None:
    async with cluster(app=HOOKS) as world:
        system = world.systems["node-1"]
        asked = asyncio.ensure_future(system.ask(actor_id("greeter", "ben"), "total", ()))
        await asyncio.sleep(0)
        assert system.under_way == "1 activations that are loaded"
        await asked
        await asyncio.sleep(0.1)
        assert system.under_way == ""


async def test_asking_in_standby_waits_for_its_end() -> None:
    async with cluster(app=HOOKS) as world:
        predecessor, heir = await _succeeds(world)
        asked = asyncio.ensure_future(heir.ask(actor_id("counter", "c"), "add", (3,)))
        await end(world, predecessor)
        await asyncio.sleep(1.0)
        assert not asked.done()
        await go(world, heir, predecessor.me)
        assert await asked == 3


async def test_outputs_above_the_bound_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.catalog.standby.MAX_KEPT", 1)
    async with cluster(app=HOOKS) as world:
        await world.systems["node-1"].ask(actor_id("greeter", "ann"), "total", ())
        _, heir = await _succeeds(world)
        assert heir._standby is not None and heir._standby.dropped == 1


async def test_words_of_logs_about_what_is_public_leave_once_and_are_the_last() -> None:
    async with cluster(app=HOOKS) as world:
        predecessor, heir = await _succeeds(world)
        topic, there = actor_id("counter", "log"), [predecessor.me]
        for public_seq in (5, 6, 7):
            heir.outlet.publish(there, topic, 9, [], (1, 1), "", public_seq)
        heir.outlet.publish(there, topic, 9, [b"event"], (1, 1), "", 7)
        assert heir.published.events == []
        await end(world, predecessor)
        await go(world, heir, predecessor.me)
        assert [(first, events) for _, _, first, events in heir.published.events] == [(9, [b"event"]), (9, [])]
