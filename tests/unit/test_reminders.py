"""Reminders: set, due, delivered at least once, and taken for done only when their effect is stored."""

import asyncio
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec.structs import replace

from server.actors.actor import Actor, LoggedActor, Record, reminder, remote
from server.actors.app import App
from server.catalog.reminders import LIMITS, ReminderLimits
from server.errors import BadSetting, Fenced, Internal, NotFound, Unavailable
from server.ids import ActorId, actor_id
from server.storage.ports import Claim, Reminder
from tests.support.engine import Cluster, TestSystem, cluster, key_owned_by
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

OFTEN: dict[str, Any] = {"actors": {"reminder_poll_s": 0.005}, "store": {"group_commit_s": 0.001}}
BY_HAND: dict[str, Any] = {"actors": {"reminder_poll_s": 3_600}, "store": {"group_commit_s": 0.001}}


class Rung(msgspec.Struct, frozen=True):
    rang: tuple[int, ...] = ()
    notes: int = 0
    reminded: dict[str, int] = {}


class Alarm(Actor[Rung]):
    kind = "alarm"
    durability = "write_behind"
    State = Rung
    gate: ClassVar[asyncio.Event | None] = None
    fails: ClassVar[int] = 0

    @remote
    async def set(self, due_ms: int) -> None:
        await self.remind(self.ring, due_ms)

    @remote
    async def set_both(self, first: int, second: int) -> None:
        await asyncio.gather(self.remind(self.ring, first), self.remind(self.ring, second))

    @remote
    async def unset(self) -> None:
        await self.unremind(self.ring)

    @remote
    def note(self) -> None:
        self.state = replace(self.state, notes=self.state.notes + 1)

    @remote
    async def note_and_set(self) -> None:
        self.note()
        await self.remind(self.ring, 1)

    @remote
    async def set_wrongly(self) -> None:
        await self.remind(self.no_reminder, 1)

    @remote
    def no_reminder(self, due_ms: int) -> None: ...

    @reminder
    def ring(self, due_ms: int) -> None:
        if Alarm.fails:
            Alarm.fails -= 1
            raise NotFound("planted")
        self.state = replace(self.state, rang=(*self.state.rang, due_ms))

    @remote
    async def set_slow(self, due_ms: int) -> None:
        await self.remind(self.ring_slowly, due_ms)

    @reminder
    async def ring_slowly(self, due_ms: int) -> None:
        assert Alarm.gate is not None
        await Alarm.gate.wait()
        self.state = replace(self.state, rang=(*self.state.rang, due_ms))

    @remote
    async def begin(self, due_ms: int) -> None:
        await self.remind(self.each_second, due_ms)

    @reminder
    async def each_second(self, due_ms: int) -> None:
        await self.remind(self.each_second, due_ms + 1_000)
        self.state = replace(self.state, rang=(*self.state.rang, due_ms))


class Struck(msgspec.Struct, tag="struck", array_like=True, frozen=True):
    time_ms: int


class Bell(LoggedActor[Rung]):
    """It strikes once for each due: the log says whether it has."""

    kind = "bell"
    State = Rung
    Event = Struck

    @staticmethod
    def evolve(state: Rung, record: Record) -> Rung:
        return replace(state, rang=(*state.rang, record.event.time_ms))

    @remote
    async def set(self, due_ms: int) -> None:
        await self.remind(self.strike, due_ms)

    @reminder
    def strike(self, due_ms: int) -> None:
        if due_ms not in self.state.rang:
            self.emit(Struck(due_ms))


ALARMS = App(name="alarms", actors=(Alarm, Bell))
ANN = actor_id("alarm", "ann")


def rows(world: Cluster) -> dict[tuple[str, str], int]:
    return {(str(one.id), one.name): one.due_ms for one in world.database.reminders.values()}


def row(world: Cluster, name: str, identity: ActorId = ANN) -> Reminder:
    return world.database.reminders[identity, name]


def plant(world: Cluster, *rows: Reminder) -> None:
    """As a program of another version has left them."""
    world.database.reminders.update({(one.id, one.name): one for one in rows})


def state(system: TestSystem, identity: ActorId = ANN) -> Any:
    activation = system.find(identity)
    assert activation is not None
    return activation.boundary


async def poll(system: TestSystem) -> None:
    """One poll, and all that it began."""
    await system.reminders.poll()
    await until(lambda: not system.reminders.busy)


async def flush(system: TestSystem) -> None:
    await system.write_behind.flush_these(list(system.catalog.live.values()))


async def test_a_reminder_comes_when_it_is_due_and_goes_when_it_is_stored() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        now = system.clock.wall_ms()
        await system.ask(ANN, "set", (now + 3_600_000,))
        await poll(system)
        assert state(system).rang == ()
        await system.ask(ANN, "set", (now - 5,))  # moved
        assert rows(world) == {(ANN, "ring"): now - 5}
        await poll(system)
        assert state(system) == Rung((now - 5,), 0, {"ring": now - 5})
        await poll(system)
        assert rows(world) == {(ANN, "ring"): now - 5}, "it is not stored yet"
        await flush(system)
        await poll(system)
        assert rows(world) == {}
        assert state(system).rang == (now - 5,)
        assert system.metrics.reminders_fired_total == 1


async def test_the_service_does_all_that_by_itself() -> None:
    async with cluster(app=ALARMS, **OFTEN) as world:
        system = world.systems["node-1"]
        system.supervisor.spawn(system.write_behind.run(), "write-behind")
        for number in range(200):
            await system.ask(actor_id("alarm", f"a{number}"), "set", (number + 1,))
        await until(lambda: not rows(world))
        assert [state(system, actor_id("alarm", f"a{number}")).rang for number in range(200)] == [
            (number + 1,) for number in range(200)
        ]


async def test_a_crash_between_call_and_flush_brings_it_again() -> None:
    async with cluster(("node-1", "node-2"), app=ALARMS, **BY_HAND) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        ann = actor_id("alarm", key_owned_by(source, Alarm, "node-1"))
        await target.ask(ann, "set", (7,))
        await poll(target)  # not its slot
        await poll(source)
        assert state(source, ann).rang == (7,)
        await world.remove("node-1")
        await target.store.bury(source.me)
        world.show("node-2")
        await poll(target)
        assert state(target, ann).rang == (7,), "the first effect was never stored"
        await flush(target)
        await poll(target)
        assert rows(world) == {}


async def test_after_the_flush_a_crash_brings_it_no_more() -> None:
    async with cluster(("node-1", "node-2"), app=ALARMS, **BY_HAND) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        ann = actor_id("alarm", key_owned_by(source, Alarm, "node-1"))
        await source.ask(ann, "set", (7,))
        await poll(source)
        await flush(source)
        await world.remove("node-1")
        await target.store.bury(source.me)
        world.show("node-2")
        await poll(target)
        assert (state(target, ann).rang, rows(world)) == ((7,), {})
        assert target.metrics.reminders_fired_total == 0


async def test_two_nodes_that_both_believe_it_theirs() -> None:
    async with cluster(("node-1", "node-2"), app=ALARMS, **BY_HAND) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        ann = actor_id("alarm", key_owned_by(source, Alarm, "node-1"))
        await source.ask(ann, "set", (7,))
        target.owner = lambda identity: target.me if identity == ann else type(target).owner(target, identity)  # type: ignore[method-assign]
        calls = [system.ask(ann, "reminded", ("ring", 7)) for system in (source, target, source, target)]
        assert await asyncio.gather(*calls) == [False] * 4
        await asyncio.gather(poll(source), poll(target))
        assert state(source, ann).rang == (7,)
        await flush(source)
        await asyncio.gather(poll(source), poll(target))
        assert (state(source, ann).rang, rows(world)) == ((7,), {})
        assert source.metrics.reminders_fired_total + target.metrics.reminders_fired_total == 1


async def test_moved_while_it_is_delivered() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        later = system.clock.wall_ms() + 3_600_000
        await system.ask(ANN, "set", (7,))
        read = row(world, "ring")
        moving = asyncio.gather(system.ask(ANN, "set", (later,)), system.ask(ANN, "reminded", ("ring", 7)))
        assert (await moving)[1] is True
        assert state(system).rang == (), "it had been moved before its turn came"
        await system.store.drop_reminder(read)
        assert rows(world) == {(ANN, "ring"): later}


async def test_moved_during_its_turn() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        later = system.clock.wall_ms() + 3_600_000
        Alarm.gate = asyncio.Event()
        await system.ask(ANN, "set_slow", (7,))
        await system.reminders.poll()
        await until(lambda: system.find(ANN) is not None and system.find(ANN).busy)  # type: ignore[union-attr]
        moving = asyncio.ensure_future(system.ask(ANN, "set_slow", (later,)))
        await asyncio.sleep(0)
        Alarm.gate.set()
        await moving
        await until(lambda: not system.reminders.busy)
        await flush(system)
        await poll(system)
        assert state(system).rang == (7,)
        assert rows(world) == {(ANN, "ring_slowly"): later}


class Late:
    """A store that answers nothing, and does what it was asked to when told to."""

    def __init__(self, system: TestSystem, statement: str) -> None:
        self.system, self.statement = system, statement
        self.real = getattr(system.store, statement)
        self.sent: list[Reminder] = []

    async def __call__(self, reminder: Reminder) -> bool:
        self.sent.append(reminder)
        raise Unavailable("planted")

    def __enter__(self) -> "Late":
        setattr(self.system.store, self.statement, self)
        return self

    def __exit__(self, *_: object) -> None:
        delattr(self.system.store, self.statement)

    async def arrive(self) -> list[bool]:
        return [await self.real(reminder) for reminder in self.sent]


async def late(system: TestSystem, ann: ActorId, method: str, *args: int) -> Late:
    """`ann.method` at `host`, whose statement has not reached the store yet."""
    with Late(system, f"{method}_reminder") as statements, pytest.raises(Unavailable):
        await system.ask(ann, method, args)
    assert len(statements.sent) == 1
    return statements


@pytest.mark.parametrize("method", ["set", "unset"])
async def test_a_late_statement_of_the_owner_changes_nothing_that_was_set_since(method: str) -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        later = system.clock.wall_ms() + 3_600_000
        await system.ask(ANN, "set", (later - 1,))
        given_up = await late(system, ANN, method, *([7] if method == "set" else []))
        await system.ask(ANN, "set", (later,))
        assert await given_up.arrive() == [True]
        await poll(system)
        assert (state(system).rang, rows(world)) == ((), {(ANN, "ring"): later})


@pytest.mark.parametrize("moves", [True, False])
@pytest.mark.parametrize("method", ["set", "unset"])
async def test_a_late_statement_of_the_former_owner_is_refused(method: str, moves: bool) -> None:
    async with cluster(("node-1", "node-2"), app=ALARMS, **BY_HAND) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        ann = actor_id("alarm", key_owned_by(source, Alarm, "node-1"))
        later = source.clock.wall_ms() + 3_600_000
        for _ in range(5):
            await source.ask(ann, "set", (later - 1,))
        given_up = await late(source, ann, method, *([7] if method == "set" else []))
        if moves:
            live = source.find(ann)
            assert live is not None
            assert await source.migrator.move([live], target.me) == 1
        else:
            await world.remove("node-1")
            await target.store.bury(source.me)
            world.show("node-2")
        await target.ask(ann, "set", (later,))  # its first statement
        assert await given_up.arrive() == [False]
        assert rows(world) == {(ann, "ring"): later}
        await target.ask(ann, "unset", ())
        assert await given_up.arrive() == [False]
        assert rows(world) == {}, "nor does it come back"


async def test_statements_go_on_counting_when_a_move_fails() -> None:
    async with cluster(("node-1", "node-2"), app=ALARMS, **BY_HAND) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        ann = actor_id("alarm", key_owned_by(source, Alarm, "node-1"))
        await source.ask(ann, "set", (8,))
        before = row(world, "ring", ann)
        given_up = await late(source, ann, "unset")
        live = source.find(ann)
        assert live is not None
        source.faults.next["migrate"] = ["refuse"]
        assert await source.migrator.move([live], target.me) == 0
        assert source.find(ann) is live
        await source.ask(ann, "set", (7,))
        after = row(world, "ring", ann)
        assert after.epoch > before.epoch
        assert after.number > given_up.sent[0].number > before.number
        assert await given_up.arrive() == [False]
        assert rows(world) == {(ann, "ring"): 7}


@pytest.mark.parametrize("method", ["set", "unset"])
async def test_a_node_that_has_lost_the_actor_learns_it(method: str) -> None:
    async with cluster(("node-1", "node-2"), app=ALARMS, **BY_HAND) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        ann = actor_id("alarm", key_owned_by(source, Alarm, "node-1"))
        await source.ask(ann, "note", ())
        await flush(source)
        await source.ask(ann, "note", ())  # acknowledged, and not stored
        await target.store.bury(source.me)
        await target.store.claim("alarm", [Claim(ann, 1)], target.me)
        with pytest.raises(Fenced):
            await source.ask(ann, method, (7,) if method == "set" else ())
        assert source.find(ann) is None
        assert (source.metrics.fenced_total, source.metrics.fenced_changes_lost_total) == (1, 1)
        assert rows(world) == {}


async def test_two_statements_of_one_turn_and_one_reminder() -> None:
    """The one that was made later counts, whichever comes first."""
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        later = system.clock.wall_ms() + 3_600_000
        real, first = system.store.set_reminder, asyncio.Event()

        async def swapped(one: Reminder) -> bool:
            if one.due_ms == 7:
                await first.wait()
            done = await real(one)
            first.set()
            return done

        system.store.set_reminder = swapped  # type: ignore[method-assign]
        await system.ask(ANN, "set_both", (7, later))
        assert await system.ask(ANN, "reminded", ("ring", 7)) is True, "read from nowhere"
        assert (state(system).rang, rows(world)) == ((), {(ANN, "ring"): later})


async def test_taken_back() -> None:
    async with cluster(("node-1", "node-2"), app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        ann = actor_id("alarm", key_owned_by(system, Alarm, "node-1"))
        await system.ask(ann, "set", (7,))
        await system.ask(ann, "unset", ())
        assert rows(world) == {}
        assert await system.ask(ann, "reminded", ("ring", 7)) is True, "read before it was taken back"
        assert state(system, ann).rang == ()
        await system.ask(ann, "set", (9,))
        await world.remove("node-1", clean=True)
        world.show("node-2")
        await world.systems["node-2"].ask(ann, "unset", ())  # by an activation that did not set it
        assert rows(world) == {}


async def test_set_again_after_it_was_handled_it_comes_again() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        for _ in range(3):
            await system.ask(ANN, "set", (7,))
            await poll(system)
        assert state(system).rang == (7, 8, 9)


async def test_a_reminder_that_sets_itself_again() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        await system.ask(ANN, "begin", (7,))
        for _ in range(3):
            await poll(system)
            await poll(system)
        assert state(system).rang[:3] == (7, 1_007, 2_007)
        assert len(set(state(system).rang)) == len(state(system).rang)
        assert rows(world) == {(ANN, "each_second"): state(system).rang[-1] + 1_000}


async def test_a_logged_actor_is_done_when_its_events_are_stored() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        big = actor_id("bell", "big")
        await system.ask(big, "set", (7,))
        system.faults.hold = asyncio.Event()
        await system.reminders.poll()
        await until(lambda: any(what == "append" for what, _ in system.faults.seen))
        assert rows(world) == {(big, "strike"): 7}
        system.faults.hold.set()
        await until(lambda: not rows(world))
        assert await system.ask(big, "reminded", ("strike", 7)) is True
        assert state(system, big).rang == (7,)


async def test_a_failing_one_is_tried_again_and_holds_no_other_up() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        bob = actor_id("alarm", "bob")
        await system.ask(ANN, "set", (7,))
        await system.ask(bob, "set", (8,))
        Alarm.fails = 1
        await poll(system)
        assert (state(system).rang, state(system, bob).rang) == ((), (8,))
        await poll(system)
        assert state(system).rang == (), "not again at once"
        system.reminders._retries.done(row(world, "ring"))  # its time has come
        await poll(system)
        assert state(system).rang == (7,)


async def test_many_that_fail_are_passed_over() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        system.reminders.limits = ReminderLimits(page=2, pages_a_poll=2)
        plant(world, *(Reminder(actor_id("alarm", "x"), f"none{number}", number + 1) for number in range(10)))
        await system.ask(ANN, "set", (20,))
        for _ in range(3):
            await poll(system)
        assert state(system).rang == (20,)


async def test_a_row_of_nobody_fails_alone() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        system.reminders.limits = ReminderLimits(page=1)
        nobody = Reminder(ActorId("alarm/two words"), "ring", 1)
        plant(world, nobody)
        await system.ask(ANN, "set", (7,))
        await poll(system)
        assert state(system).rang == (7,)
        assert system.find(nobody.id) is None
        assert not system.reminders._retries.ready(nobody, system.clock.now()), "not again at once"
        assert rows(world)[nobody.id, "ring"] == 1


async def test_a_reminder_that_no_version_knows_is_dropped_in_the_end() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        now = system.clock.wall_ms()
        gone = [Reminder(ANN, "none", now - 5), Reminder(actor_id("toad", "x"), "hop", now - 5)]
        old = Reminder(ANN, "no_reminder", now - LIMITS.unknown_kept_ms)
        plant(world, *gone, old)
        await poll(system)
        assert rows(world) == {(ANN, "none"): now - 5, ("toad/x", "hop"): now - 5}
        system.reminders.limits = ReminderLimits(unknown_kept_ms=0)
        for one in gone:
            system.reminders._retries.done(one)
        await poll(system)
        assert rows(world) == {}


async def test_a_store_that_is_away() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]

        async def away(*_: Any) -> Any:
            raise Unavailable("planted")

        real = system.store.set_reminder
        system.store.set_reminder = away  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await system.ask(ANN, "set", (7,))
        system.store.set_reminder = real  # type: ignore[method-assign]
        await system.ask(ANN, "set", (7,))
        system.store.drop_reminder = away  # type: ignore[method-assign]
        await poll(system)
        await flush(system)
        await poll(system)
        del system.store.drop_reminder
        system.reminders._retries.done(row(world, "ring"))
        await poll(system)
        assert (state(system).rang, rows(world)) == ((7,), {})


async def test_wrong_use_says_so() -> None:
    async with cluster(app=ALARMS, **BY_HAND) as world:
        system = world.systems["node-1"]
        with pytest.raises(Internal, match="after it changed state"):
            await system.ask(ANN, "note_and_set", ())
        with pytest.raises(Internal, match="not marked @reminder"):
            await system.ask(ANN, "set_wrongly", ())
        with pytest.raises(NotFound):
            await system.ask(ANN, "reminded", ("reminded", 7))
        assert rows(world) == {}
        assert state(system).notes == 0


def test_a_state_that_cannot_remember_is_refused_with_the_application() -> None:
    class Bare(msgspec.Struct, frozen=True):
        reminded: dict[str, str] = {}

    class Forgetful(Alarm):
        State = Bare

    class Fleeting(Alarm):
        durability = "volatile"

    with pytest.raises(BadSetting, match="Bare needs a field `reminded"):
        App(name="bad", actors=(Forgetful,))
    with pytest.raises(BadSetting, match="volatile"):
        App(name="bad", actors=(Fleeting,))
