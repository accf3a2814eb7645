"""The edges of turns: callers that go away, turns started from callbacks, reads beside turns,
timers that are refused, answers that wait for the store, outputs that fail."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from server.actors.actor import Actor, LoggedActor, Record, read_only, remote
from server.actors.app import App
from server.errors import CallCycle, DeadlineExceeded, Fenced, GarrisonError, Internal, Moved, Overloaded, Unavailable
from server.ids import actor_id
from tests.support.engine import TestSystem, cluster
from tests.support.tiny import Added, Counter, Ledger, Total
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

A, B = actor_id("counter", "a"), actor_id("counter", "b")


class Odd(Actor[Total]):
    """Does what an actor may do, and some things that it may not."""

    kind = "odd"
    durability = "write_behind"
    State = Total

    gate: "asyncio.Future[None]"
    said: ClassVar[list[int]] = []

    @remote
    def add(self, n: int) -> int:
        self.state = replace(self.state, total=self.state.total + n)
        return self.state.total

    @remote
    async def wait(self) -> int:
        self.gate = asyncio.get_running_loop().create_future()
        await self.gate
        return self.add(1)

    @read_only
    def later(self) -> Awaitable[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, future.set_result, self.state.total)
        return future

    @read_only
    async def read_slowly(self) -> int:
        total = self.state.total
        await asyncio.sleep(0)
        assert self.state.total == total, "another turn ran meanwhile"
        return total

    @read_only
    def lies(self) -> int:
        return self.add(100)

    @read_only
    def breaks(self) -> int:
        raise ValueError("planted")

    @remote
    def push_badly(self) -> int:
        self.context.outputs.append(_broken_output)
        self.tell(Odd, "other", Odd.add, 5)
        return self.add(1)

    @remote
    def add_and_say(self, n: int) -> int:
        self.context.outputs.append(lambda: Odd.said.append(n))
        return self.add(n)

    def tick(self) -> None:
        self.add(1)

    @remote
    def tick_later(self, delay_s: float) -> None:
        self.after(delay_s, self.tick)

    @remote
    def with_default(self, n: int = 7) -> int:
        return n


def _broken_output() -> None:
    raise RuntimeError("planted output")


class Unborn(Actor[Total]):
    """Fails in its first turn until told otherwise."""

    kind = "unborn"
    durability = "write_behind"
    State = Total
    fails = True

    def activated(self) -> None:
        if Unborn.fails:
            raise ValueError("planted")

    @remote
    def add(self, n: int) -> int:
        self.state = replace(self.state, total=self.state.total + n)
        return self.state.total


class Sloppy(LoggedActor[Total]):
    """Changes state without an event; and its `evolve` ignores some events."""

    kind = "sloppy"
    State = Total
    Event = Added

    @staticmethod
    def evolve(state: Total, record: Record) -> Total:
        return state if record.event.n == 0 else Total(state.total + record.event.n)

    @remote
    def cheat(self) -> None:
        self.state = Total(99)

    @remote
    def emit_and_cheat(self) -> None:
        self.emit(Added(self.next_seq, 1))
        self.state = Total(99)

    @remote
    def add(self, n: int) -> int:
        self.emit(Added(self.next_seq, n))
        return self.state.total

    @remote
    def add_and_raise(self) -> None:
        self.emit(Added(self.next_seq, 1))
        raise ValueError("planted")


OddApp = App(name="odd", actors=(Odd, Unborn, Sloppy, Counter, Ledger))
O = actor_id("odd", "a")  # noqa: E741 - the name of the actor under test
S = actor_id("sloppy", "a")


async def _outside_any_task(work: Callable[[], Any]) -> Any:
    """Call `work` from a callback of the loop, as a socket's driver does."""
    result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            result.set_result(work())
        except GarrisonError as error:
            result.set_exception(error)

    asyncio.get_running_loop().call_soon(run)
    answer = await result
    return await answer if isinstance(answer, asyncio.Future) else answer


async def _busy(system: TestSystem, identity: Any = O) -> "asyncio.Future[Any]":
    """`identity` waits in a turn; release it with `_release`."""
    await system.ask(identity, "add", (0,))
    return asyncio.ensure_future(system.ask(identity, "wait", ()))


def _release(system: TestSystem, identity: Any = O) -> None:
    activation = system.find(identity)
    assert activation is not None
    activation.actor.gate.set_result(None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("warm", [True, False])
async def test_a_turn_that_a_callback_starts_may_wait_for_another_actor(warm: bool) -> None:
    """Its first step runs outside any task: nothing on the way may need one."""
    async with cluster() as world:
        system = world.systems["node-1"]
        await system.ask(A, "add", (0,))
        if warm:
            await system.ask(B, "add", (0,))
            asyncio.ensure_future(system.ask(B, "slow_add", (10, 0.02)))  # noqa: RUF006
            await asyncio.sleep(0)
        expected = 11 if warm else 1
        assert await _outside_any_task(lambda: system.ask_now(A, "add_by_way_of", (["b"], 1))) == expected


async def test_a_deadline_within_a_turn_does_not_cancel_the_task_that_started_it() -> None:
    async with cluster(actors={"call_timeout_s": 0.05}) as world:
        system = world.systems["node-1"]
        await system.ask(A, "add", (0,))
        await system.ask(B, "add", (0,))
        slow = asyncio.ensure_future(system.ask(B, "slow_add", (1, 5.0), timeout_s=0.3))
        await asyncio.sleep(0)
        answer = system.ask_now(A, "add_by_way_of", (["b"], 1))
        await asyncio.sleep(0.1)  # this task lives on past the deadline of the turn that it started
        with pytest.raises(DeadlineExceeded):
            await answer
        with pytest.raises(DeadlineExceeded):
            await slow


async def test_a_caller_that_goes_away_does_not_cancel_the_turn() -> None:
    async with cluster(app=OddApp) as world:
        system = world.systems["node-1"]
        turn = await _busy(system)
        behind = asyncio.ensure_future(system.ask(O, "add", (10,)))
        await asyncio.sleep(0)
        turn.cancel()
        behind.cancel()
        await asyncio.gather(turn, behind, return_exceptions=True)
        _release(system)
        await until(lambda: _reads(system, 11))


async def _reads(system: TestSystem, total: int, identity: Any = O) -> bool:
    activation = system.find(identity)
    return activation is not None and activation.actor.state.total == total


async def test_calls_from_callbacks_keep_their_order_of_arrival_over_a_busy_turn() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await system.ask(A, "add", (0,))
        calls = [system.ask_now(A, "slow_add", (1, 0.01)), *(system.ask_now(A, "add", (1,)) for _ in range(200))]
        assert await asyncio.gather(*calls) == list(range(1, 202))


async def test_a_call_that_waits_at_an_actor_which_is_moved_away_follows_it() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await system.ask(A, "add", (1,))
        activation = system.find(A)
        assert activation is not None
        ending = asyncio.ensure_future(system.catalog.deactivate([activation]))
        await asyncio.sleep(0)
        answer = system.ask_now(A, "add", (1,))
        assert await ending == 1
        assert await answer == 2 and system.find(A) is not activation


async def test_an_awaited_read_holds_no_turn_up_and_a_coroutine_read_is_a_turn() -> None:
    async with cluster(app=OddApp) as world:
        system = world.systems["node-1"]
        await system.ask(O, "add", (3,))
        reading = system.ask_now(O, "later", ())
        assert system.ask_now(O, "add", (1,)) == 4
        assert await reading == 3
        turn = await _busy(system)
        await asyncio.sleep(0)
        assert await system.ask(O, "later", ()) == 4
        slow = asyncio.ensure_future(system.ask(O, "read_slowly", ()))
        _release(system)
        assert await asyncio.gather(turn, slow) == [5, 5]


async def test_a_read_that_changes_something_or_breaks_does_not_touch_the_turn_beside_it() -> None:
    async with cluster(app=OddApp) as world:
        system = world.systems["node-1"]
        turn = await _busy(system)
        await asyncio.sleep(0)
        for name in ("lies", "breaks"):
            with pytest.raises(Internal):
                await system.ask(O, name, ())
        _release(system)
        assert await turn == 1


async def test_an_output_that_fails_hinders_neither_the_answer_nor_the_others() -> None:
    async with cluster(app=OddApp) as world:
        system = world.systems["node-1"]
        assert await system.ask(O, "push_badly", ()) == 1
        await until(lambda: _reads(system, 5, actor_id("odd", "other")))


async def test_a_timer_whose_turn_is_refused_comes_again() -> None:
    async with cluster(app=OddApp) as world:
        system = world.systems["node-1"]
        await system.ask(O, "tick_later", (0.01,))
        system.write_behind.refusal = "planted"
        activation = system.find(O)
        assert activation is not None
        await until(
            lambda: system.metrics.turn_errors_total >= 0 and activation.timers == 1 and system.turn_number >= 2
        )
        assert activation.actor.state.total == 0
        system.write_behind.refusal = None
        await until(lambda: _reads(system, 1))
        assert activation.timers == 0


async def test_an_activation_that_is_gone_takes_no_timer_and_does_not_come_back() -> None:
    async with cluster(app=OddApp) as world:
        system = world.systems["node-1"]
        await system.ask(O, "add", (1,))
        activation = system.find(O)
        assert activation is not None
        system.catalog.discard(activation, Moved())
        system.catalog.discard(activation, Moved())
        activation.set_timer("tick", 0.001, ())
        activation.cancel_close()
        assert activation.timers == 0 and system.metrics.activations_dropped_total == 1
        with pytest.raises(Moved):
            activation.call("add", (1,))


async def test_an_actor_whose_first_turn_fails_does_not_live() -> None:
    async with cluster(app=OddApp) as world:
        system = world.systems["node-1"]
        identity = actor_id("unborn", "a")
        for _ in range(2):
            with pytest.raises(Internal):
                await system.ask(identity, "add", (1,))
            assert system.find(identity) is None
        Unborn.fails = False
        try:
            assert await system.ask(identity, "add", (1,)) == 1
        finally:
            Unborn.fails = True


async def test_a_logged_actors_state_changes_by_emit_only() -> None:
    async with cluster(app=OddApp, store={"group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        for name in ("cheat", "emit_and_cheat"):
            with pytest.raises(Internal, match="emit"):
                await system.ask(S, name, ())
        assert await system.ask(S, "add", (2,)) == 2


async def test_an_event_that_changes_no_state_is_stored_before_it_is_answered() -> None:
    async with cluster(app=OddApp, store={"group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        assert await system.ask(S, "add", (0,)) == 0
        with pytest.raises(Internal):
            await system.ask(S, "add_and_raise", ())
        stored = await system.logs.read_log("sloppy", S)
        assert stored is not None and stored.next_seq == 2
        assert (await system.ask(S, "read_events", (1,))).next_seq == 2


async def test_held_answers_are_bounded_and_overdue_ones_are_told() -> None:
    settings = {"actors": {"mailbox_max_calls": 5, "call_timeout_s": 0.05}, "store": {"group_commit_s": 0.001}}
    async with cluster(app=OddApp, **settings) as world:
        system = world.systems["node-1"]
        await system.ask(S, "add", (1,))
        system.faults.always["append"] = "refuse"
        answers = [system.ask_now(S, "add", (1,)) for _ in range(5)]
        for name, args in (("add", (1,)), ("read_events", (1,))):
            if name == "add":
                with pytest.raises(Overloaded):
                    system.ask_now(S, name, args)
            else:
                assert (await system.ask(S, name, args)).next_seq == 2  # durable events wait for nothing
        got = await asyncio.gather(*answers, return_exceptions=True)
        assert [type(one) for one in got] == [DeadlineExceeded] * 5
        system.faults.always.clear()
        await until(lambda: _durable(system, 7))
        assert await system.ask(S, "add", (1,)) == 7


def _durable(system: TestSystem, next_seq: int) -> bool:
    activation = system.find(S)
    return activation is not None and activation.log().durable_seq == next_seq


async def test_a_cycle_is_found_through_a_cold_actor() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await system.ask(A, "add", (0,))
        with pytest.raises(CallCycle):
            await _outside_any_task(lambda: system.ask_now(A, "add_by_way_of", (["cold", "a"], 1)))


async def test_a_turn_that_waits_ends_with_its_activation() -> None:
    async with cluster(app=OddApp) as world:
        system = world.systems["node-1"]
        turn, behind = await _busy(system), asyncio.ensure_future(system.ask(O, "add", (1,)))
        await asyncio.sleep(0)
        activation = system.find(O)
        assert activation is not None
        activation.fenced()
        with pytest.raises(Fenced):
            await turn
        with pytest.raises(Fenced):
            await behind
        await until(lambda: not [name for name in system.supervisor.names() if "turn" in name])
        assert await system.ask(O, "add", (1,)) == 1


async def test_lease_loss_during_a_turn_undoes_it() -> None:
    async with cluster(app=OddApp) as world:
        system = world.systems["node-1"]
        turn = await _busy(system)
        await asyncio.sleep(0)
        system.lease.safe_until = 0.0
        _release(system)
        with pytest.raises(Unavailable, match="lease"):
            await turn
        assert await _reads(system, 0)


async def test_outputs_of_a_turn_leave_once_and_not_with_the_held_answer_of_a_turn_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster(app=OddApp) as world:
        system = world.systems["node-1"]
        odd = actor_id("odd", "a")
        Odd.said.clear()
        await system.ask(odd, "add", (1,))
        activation = system.find(odd)
        assert activation is not None
        with monkeypatch.context() as patch:
            patch.setattr(system.durability, "accept", lambda *_: False)
            activation.call("add", (1,))
            activation.call("add_and_say", (1,))
        first = activation.version - 1
        activation.released(first)
        assert Odd.said == [], "said before it was durable"
        activation.released(first + 1)
        assert Odd.said == [1]
