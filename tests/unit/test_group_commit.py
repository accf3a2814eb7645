"""Group commit and sealing of event logs, with a store that fails in every way it may."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.activations.event_log import TAIL_SEGMENTS
from server.errors import Corrupt, Fenced, GarrisonError, Internal, Overloaded, Unavailable
from server.eventlog import segment
from server.ids import ActorId, actor_id
from server.storage.group_commit import LOGS_AT_ONCE
from tests.support.engine import TestSystem, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

L, M = actor_id("ledger", "a"), actor_id("ledger", "b")


@asynccontextmanager
async def one_host(**store: object) -> AsyncIterator[TestSystem]:
    async with cluster(store={"group_commit_s": 0.001, **store}) as world:
        yield world.systems["node-1"]


def durable(system: TestSystem, identity: ActorId = L) -> int:
    activation = system.find(identity)
    return activation.log().durable_seq if activation is not None else 0


def raises(*errors: Exception, statement: str) -> Callable[[str], None]:
    left = list(errors)

    def choose(name: str) -> None:
        if name == statement and left:
            raise left.pop(0)

    return choose


def appends(system: TestSystem, identity: ActorId = L) -> list[Any]:
    return [one for name, what in system.faults.seen if name == "append" for one in what if one.id == identity]


async def _events(system: TestSystem, identity: ActorId = L) -> list[int]:
    stored = await system.logs.read_log("ledger", identity)
    chunks = stored.chunks if stored is not None else []
    return [entry.seq for chunk in chunks for entry in segment.decode(chunk.data).entries]


async def test_an_append_of_unknown_outcome_is_repeated_exactly_and_what_gathered_follows() -> None:
    async with one_host() as system:
        await system.ask(L, "add", (1,))
        system.faults.next["append"] = ["forget", "refuse", "forget"]
        first = system.ask_now(L, "add", (10,))
        await until(lambda: len(appends(system)) == 2)
        second = system.ask_now(L, "add", (100,))
        assert await asyncio.gather(first, second) == [11, 111]
        again = [one for one in appends(system) if one.first_seq == 2]
        assert len(again) >= 3 and all(one == again[0] for one in again)
        assert await _events(system) == [1, 2, 3]
        assert system.metrics.fenced_total == 0


async def test_a_seal_of_unknown_outcome_is_repeated_exactly() -> None:
    async with one_host(segment_entries=4) as system:
        system.faults.next["seal"] = ["forget", "refuse"]
        for n in range(1, 20):
            await system.ask(L, "add", (n,))
        await until(lambda: not system.faults.next["seal"])
        await system.ask(L, "add", (1,))
        assert await _events(system) == list(range(1, 21))
        assert system.find(L) is not None
        await system.catalog.deactivate([system.find(L)])  # type: ignore[list-item]
        assert await system.ask(L, "total", ()) == sum(range(1, 20)) + 1


async def test_a_failed_turn_while_an_earlier_one_is_being_stored_takes_back_its_own_only() -> None:
    async with one_host() as system:
        await system.ask(L, "add", (1,))
        system.faults.hold = asyncio.Event()
        answer = system.ask_now(L, "add", (10,))
        await until(lambda: len(appends(system)) == 2)
        with pytest.raises(Internal):
            system.ask_now(L, "add_twice_and_raise", ())
        third = system.ask_now(L, "add", (100,))
        system.faults.hold.set()
        assert await asyncio.gather(answer, third) == [11, 111]
        assert await _events(system) == [1, 2, 3]


async def test_outputs_leave_in_the_order_of_the_turns_and_reads_do_not_overtake() -> None:
    async with one_host() as system:
        await system.ask(L, "add", (1,))
        system.faults.hold = asyncio.Event()
        order: list[str] = []
        for name, args in (("add", (10,)), ("total", ()), ("add", (100,)), ("total", ())):
            future = system.ask_now(L, name, args)
            future.add_done_callback(lambda done, name=name: order.append(f"{name} {done.result()}"))
        await asyncio.sleep(0.01)
        assert not order
        system.faults.hold.set()
        await until(lambda: len(order) == 4)
        assert order == ["add 11", "total 11", "add 111", "total 111"]


async def test_nothing_that_is_held_leaves_after_the_activation_is_dropped() -> None:
    async with one_host() as system:
        await system.ask(L, "attach", system.me)
        system.faults.hold = asyncio.Event()
        answer = system.ask_now(L, "add", (10,))
        await until(lambda: bool(appends(system)))
        activation = system.find(L)
        assert activation is not None
        activation.fenced()
        with pytest.raises(Fenced):
            await answer
        system.faults.hold.set()
        system.faults.hold = None
        assert await system.ask(L, "total", ()) in {0, 10}  # unknown outcome: both are right
        assert system.metrics.fenced_total == 1


@pytest.mark.parametrize("how", ["fenced", "the lease is lost"])
async def test_changes_that_nobody_was_told_of_are_not_counted_as_lost(how: str) -> None:
    """F46: an event that waits for its commit was not acknowledged."""
    async with one_host() as system:
        await system.ask(L, "add", (1,))
        system.faults.hold = gate = asyncio.Event()
        before = len(appends(system))
        answer = system.ask_now(L, "add", (10,))
        await until(lambda: len(appends(system)) > before)
        activation = system.find(L)
        assert activation is not None
        if how == "fenced":
            activation.fenced()
        else:
            system.catalog.end_all(Unavailable("lease lost"), count_lost=True)
        with pytest.raises((Fenced, Unavailable)):
            await answer
        gate.set()
        system.faults.hold = None
        assert system.metrics.fenced_changes_lost_total == 0


async def test_a_successor_under_the_same_id_keeps_its_place_in_the_queues() -> None:
    """The old activation's statement is under way while the new one is born and waits."""
    async with one_host() as system:
        await system.ask(L, "add", (1,))
        old = system.find(L)
        assert old is not None
        system.faults.hold = gate = asyncio.Event()
        lost = system.ask_now(L, "add", (10,))
        await until(lambda: len(appends(system)) == 2)
        system.catalog.discard(old, Internal("planted"))
        system.faults.hold = None
        answer = asyncio.ensure_future(system.ask(L, "add", (100,)))
        await until(lambda: system.find(L) is not None and system.find(L).log().backlog() == 1)  # type: ignore[union-attr]
        gate.set()
        assert await answer == 101
        assert isinstance(lost.exception(), Fenced)


async def test_a_log_that_cannot_be_stored_hinders_no_other_and_tells_who_waits() -> None:
    async with one_host() as system:
        await asyncio.gather(system.ask(L, "add", (1,)), system.ask(M, "add", (1,)))
        system.faults.poison = lambda identity: identity == L
        results = await asyncio.gather(system.ask(L, "add", (1,)), system.ask(M, "add", (1,)), return_exceptions=True)
        assert isinstance(results[0], Fenced) and results[1] == 2
        system.faults.poison = lambda identity: False
        assert await system.ask(L, "add", (5,)) == 6


async def test_the_loop_survives_whatever_the_store_raises() -> None:
    async with one_host(segment_entries=2) as system:
        system.faults.choose = raises(RuntimeError("planted"), statement="append")
        with pytest.raises(GarrisonError):
            await system.ask(L, "add", (1,))
        system.faults.choose = raises(RuntimeError("planted"), Corrupt("planted"), statement="seal")
        for n in range(1, 6):
            assert await system.ask(L, "add", (1,)) == n
            assert await system.ask(M, "add", (1,)) == n
        assert "node-1:group-commit" in system.supervisor.names()
        await until(lambda: not system.group_commit._backlog)


async def test_a_log_that_is_dropped_while_segments_are_written_does_not_end_the_loop() -> None:
    async with one_host(segment_entries=2) as system:
        system.faults.hold = None
        gate = asyncio.Event()
        plain = system.faults.run

        async def hold_seals(statement: str, what: Any, work: Callable[[], Any]) -> Any:
            if statement == "seal":
                await gate.wait()
            return await plain(statement, what, work)

        system.faults.run = hold_seals  # type: ignore[method-assign]
        answers = [system.ask(one, "add", (1,)) for one in (L, M) for _ in range(2)]
        await asyncio.gather(*answers)
        await until(system.group_commit._lock.locked)
        last = system.find(M)
        assert last is not None
        system.catalog.discard(last, Internal("planted"))
        gate.set()
        assert await system.ask(M, "add", (1,)) == 3
        assert "node-1:group-commit" in system.supervisor.names()


async def test_a_tail_that_cannot_be_sealed_is_bounded() -> None:
    async with one_host(segment_entries=2, group_commit_s=0.0001) as system:
        system.faults.choose = lambda statement: _corrupt() if statement == "seal" else None
        done = 0
        with pytest.raises(Overloaded, match="sealed"):
            for _ in range(1_000):
                await system.ask(L, "add", (1,))
                done += 1
        assert done == TAIL_SEGMENTS * 2


def _corrupt() -> None:
    raise Corrupt("planted")


async def test_a_tail_whose_sealing_failed_is_sealed_when_it_is_loaded_again() -> None:
    async with one_host(segment_entries=4) as system:
        system.faults.choose = lambda statement: _corrupt() if statement == "seal" else None
        for _ in range(10):
            await system.ask(L, "add", (1,))
        await system.ask(L, "add", (1_000,))
        activation = system.find(L)
        assert activation is not None and await system.catalog.deactivate([activation]) == 1
        system.faults.choose = lambda statement: None
        assert await system.ask(L, "total", ()) == 1_010
        await until(lambda: _sealed(system))
        assert await _events(system) == list(range(1, 12))


async def _sealed(system: TestSystem) -> bool:
    stored = await system.logs.read_log("ledger", L)
    if stored is None or not all(chunk.sealed for chunk in stored.chunks):
        return False
    return segment.decode(stored.chunks[-1].data).end_hash is not None


async def test_a_long_backlog_goes_in_several_appends_of_whole_turns() -> None:
    async with one_host() as system:
        system.pipeline.group_commit.append_entries = 7
        await system.ask(L, "add", (1,))
        system.faults.hold = asyncio.Event()
        answers = [system.ask_now(L, "add", (1,)) for _ in range(50)]
        system.faults.hold.set()
        assert await asyncio.gather(*answers) == list(range(2, 52))
        sizes = [one.last_seq - one.first_seq + 1 for one in appends(system)]
        assert max(sizes) == 7 and sum(sizes) == 51
        assert all(one.projection is None for one in appends(system)[2:-1])


async def test_deactivation_waits_for_the_whole_backlog() -> None:
    async with one_host(group_commit_s=60.0) as system:
        system.pipeline.group_commit.append_entries = 1
        asyncio.ensure_future(system.ask(L, "total", ()))  # noqa: RUF006
        await until(lambda: system.find(L) is not None)
        activation = system.find(L)
        assert activation is not None
        answers = [activation.call("add", (1,)) for _ in range(5)]
        activation._held, held = None, activation._held  # as if nobody waited: idle, with a backlog
        assert await system.catalog.deactivate([activation]) == 1
        assert await _events(system) == [1, 2, 3, 4, 5]
        assert held is not None and len(answers) == 5


async def test_reads_of_old_events_are_bounded() -> None:
    async with one_host(segment_entries=4) as system:
        for _ in range(40):
            await system.ask(L, "add", (1,))
        await until(lambda: durable(system) == 41)
        await system.catalog.deactivate([system.find(L)])  # type: ignore[list-item]
        assert await system.ask(L, "total", ()) == 40
        ranges: list[tuple[int, int | None]] = []
        read_log = system.logs.read_log

        async def noted(kind: str, id: ActorId, from_seq: int = 1, to_seq: int | None = None) -> Any:
            ranges.append((from_seq, to_seq))
            return await read_log(kind, id, from_seq, to_seq)

        system.logs.read_log = noted  # type: ignore[method-assign]
        batch = await system.ask(L, "read_events", (3,))
        assert (batch.first_seq, len(batch.events)) == (3, 38)
        assert ranges == [(3, 3 + 512)]


async def test_thousands_of_logs_go_to_the_store_some_hundred_at_a_time() -> None:
    """F48: after an outage, so that neither the loop nor the write lock is theirs alone; one that the store refuses
    meanwhile keeps no other."""
    async with one_host() as system:
        logs = [actor_id("ledger", f"l{number}") for number in range(2 * LOGS_AT_ONCE + 7)]
        await asyncio.gather(*(system.ask(log, "add", (1,)) for log in logs))
        system.faults.seen.clear()
        system.faults.next["append"] = ["refuse"]
        answers = [system.ask_now(log, "add", (1,)) for log in logs]
        assert await asyncio.gather(*answers) == [2] * len(logs)
        sizes = [len(what) for name, what in system.faults.seen if name == "append"]
        assert max(sizes) == LOGS_AT_ONCE and sum(sizes) == len(logs) + sizes[0]
        assert [(await _events(system, log)) for log in logs[::100]] == [[1, 2]] * len(logs[::100])
