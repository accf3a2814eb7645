"""Group commit and sealing of event logs, with a store that fails in every way it may."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.activations.event_log import TAIL_SEGMENTS
from server.errors import Corrupt, Fenced, GarrisonError, Internal, Overloaded
from server.eventlog import segment
from server.ids import ActorId, actor_id
from tests.support.engine import TestHost, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

L, M = actor_id("ledger", "a"), actor_id("ledger", "b")


@asynccontextmanager
async def one_host(**store: object) -> AsyncIterator[TestHost]:
    async with cluster(store={"group_commit_s": 0.001, **store}) as world:
        yield world.hosts["node-1"]


def durable(host: TestHost, identity: ActorId = L) -> int:
    activation = host.find(identity)
    return activation.log().durable_seq if activation is not None else 0


def raises(*errors: Exception, statement: str) -> Callable[[str], None]:
    left = list(errors)

    def choose(name: str) -> None:
        if name == statement and left:
            raise left.pop(0)

    return choose


def appends(host: TestHost, identity: ActorId = L) -> list[Any]:
    return [one for name, what in host.faults.seen if name == "append" for one in what if one.id == identity]


async def _events(host: TestHost, identity: ActorId = L) -> list[int]:
    stored = await host.logs.read_log("ledger", identity)
    chunks = stored.chunks if stored is not None else []
    return [entry.seq for chunk in chunks for entry in segment.decode(chunk.data).entries]


async def test_an_append_of_unknown_outcome_is_repeated_exactly_and_what_gathered_follows() -> None:
    async with one_host() as host:
        await host.ask(L, "add", (1,))
        host.faults.next["append"] = ["forget", "refuse", "forget"]
        first = host.ask_now(L, "add", (10,))
        await until(lambda: len(appends(host)) == 2)
        second = host.ask_now(L, "add", (100,))
        assert await asyncio.gather(first, second) == [11, 111]
        again = [one for one in appends(host) if one.first_seq == 2]
        assert len(again) >= 3 and all(one == again[0] for one in again)
        assert await _events(host) == [1, 2, 3]
        assert host.metrics.fenced_total == 0


async def test_a_seal_of_unknown_outcome_is_repeated_exactly() -> None:
    async with one_host(segment_entries=4) as host:
        host.faults.next["seal"] = ["forget", "refuse"]
        for n in range(1, 20):
            await host.ask(L, "add", (n,))
        await until(lambda: not host.faults.next["seal"])
        await host.ask(L, "add", (1,))
        assert await _events(host) == list(range(1, 21))
        assert host.find(L) is not None
        await host.catalog.deactivate([host.find(L)])  # type: ignore[list-item]
        assert await host.ask(L, "total", ()) == sum(range(1, 20)) + 1


async def test_a_failed_turn_while_an_earlier_one_is_being_stored_takes_back_its_own_only() -> None:
    async with one_host() as host:
        await host.ask(L, "add", (1,))
        host.faults.hold = asyncio.Event()
        answer = host.ask_now(L, "add", (10,))
        await until(lambda: len(appends(host)) == 2)
        with pytest.raises(Internal):
            host.ask_now(L, "add_twice_and_raise", ())
        third = host.ask_now(L, "add", (100,))
        host.faults.hold.set()
        assert await asyncio.gather(answer, third) == [11, 111]
        assert await _events(host) == [1, 2, 3]


async def test_outputs_leave_in_the_order_of_the_turns_and_reads_do_not_overtake() -> None:
    async with one_host() as host:
        await host.ask(L, "add", (1,))
        host.faults.hold = asyncio.Event()
        order: list[str] = []
        for name, args in (("add", (10,)), ("total", ()), ("add", (100,)), ("total", ())):
            future = host.ask_now(L, name, args)
            future.add_done_callback(lambda done, name=name: order.append(f"{name} {done.result()}"))
        await asyncio.sleep(0.01)
        assert not order
        host.faults.hold.set()
        await until(lambda: len(order) == 4)
        assert order == ["add 11", "total 11", "add 111", "total 111"]


async def test_nothing_that_is_held_leaves_after_the_activation_is_dropped() -> None:
    async with one_host() as host:
        await host.ask(L, "attach", host.me)
        host.faults.hold = asyncio.Event()
        answer = host.ask_now(L, "add", (10,))
        await until(lambda: bool(appends(host)))
        activation = host.find(L)
        assert activation is not None
        activation.fenced()
        with pytest.raises(Fenced):
            await answer
        host.faults.hold.set()
        host.faults.hold = None
        assert await host.ask(L, "total", ()) in {0, 10}  # unknown outcome: both are right
        assert activation.log().backlog() >= 0 and host.metrics.fenced_total == 1


async def test_a_successor_under_the_same_id_keeps_its_place_in_the_queues() -> None:
    """The old activation's statement is under way while the new one is born and waits."""
    async with one_host() as host:
        await host.ask(L, "add", (1,))
        old = host.find(L)
        assert old is not None
        host.faults.hold = gate = asyncio.Event()
        lost = host.ask_now(L, "add", (10,))
        await until(lambda: len(appends(host)) == 2)
        host.catalog.discard(old, Internal("planted"))
        host.faults.hold = None
        answer = asyncio.ensure_future(host.ask(L, "add", (100,)))
        await until(lambda: host.find(L) is not None and host.find(L).log().backlog() == 1)  # type: ignore[union-attr]
        gate.set()
        assert await answer == 101
        assert isinstance(lost.exception(), Fenced)


async def test_a_log_that_cannot_be_stored_hinders_no_other_and_tells_who_waits() -> None:
    async with one_host() as host:
        await asyncio.gather(host.ask(L, "add", (1,)), host.ask(M, "add", (1,)))
        host.faults.poison = lambda identity: identity == L
        results = await asyncio.gather(host.ask(L, "add", (1,)), host.ask(M, "add", (1,)), return_exceptions=True)
        assert isinstance(results[0], Fenced) and results[1] == 2
        host.faults.poison = lambda identity: False
        assert await host.ask(L, "add", (5,)) == 6


async def test_the_loop_survives_whatever_the_store_raises() -> None:
    async with one_host(segment_entries=2) as host:
        host.faults.choose = raises(RuntimeError("planted"), statement="append")
        with pytest.raises(GarrisonError):
            await host.ask(L, "add", (1,))
        host.faults.choose = raises(RuntimeError("planted"), Corrupt("planted"), statement="seal")
        for n in range(1, 6):
            assert await host.ask(L, "add", (1,)) == n
            assert await host.ask(M, "add", (1,)) == n
        assert "node-1:group-commit" in host.supervisor.names()
        await until(lambda: not host.group_commit._backlog)


async def test_a_log_that_is_dropped_while_segments_are_written_does_not_end_the_loop() -> None:
    async with one_host(segment_entries=2) as host:
        host.faults.hold = None
        gate = asyncio.Event()
        plain = host.faults.run

        async def hold_seals(statement: str, what: Any, work: Callable[[], Any]) -> Any:
            if statement == "seal":
                await gate.wait()
            return await plain(statement, what, work)

        host.faults.run = hold_seals  # type: ignore[method-assign]
        answers = [host.ask(one, "add", (1,)) for one in (L, M) for _ in range(2)]
        await asyncio.gather(*answers)
        await until(host.group_commit._lock.locked)
        last = host.find(M)
        assert last is not None
        host.catalog.discard(last, Internal("planted"))
        gate.set()
        assert await host.ask(M, "add", (1,)) == 3
        assert "node-1:group-commit" in host.supervisor.names()


async def test_a_tail_that_cannot_be_sealed_is_bounded() -> None:
    async with one_host(segment_entries=2, group_commit_s=0.0001) as host:
        host.faults.choose = lambda statement: _corrupt() if statement == "seal" else None
        done = 0
        with pytest.raises(Overloaded, match="sealed"):
            for _ in range(1_000):
                await host.ask(L, "add", (1,))
                done += 1
        assert done == TAIL_SEGMENTS * 2


def _corrupt() -> None:
    raise Corrupt("planted")


async def test_a_tail_whose_sealing_failed_is_sealed_when_it_is_loaded_again() -> None:
    async with one_host(segment_entries=4) as host:
        host.faults.choose = lambda statement: _corrupt() if statement == "seal" else None
        for _ in range(10):
            await host.ask(L, "add", (1,))
        await host.ask(L, "add", (1_000,))
        activation = host.find(L)
        assert activation is not None and await host.catalog.deactivate([activation]) == 1
        host.faults.choose = lambda statement: None
        assert await host.ask(L, "total", ()) == 1_010
        await until(lambda: _sealed(host))
        assert await _events(host) == list(range(1, 12))


async def _sealed(host: TestHost) -> bool:
    stored = await host.logs.read_log("ledger", L)
    if stored is None or not all(chunk.sealed for chunk in stored.chunks):
        return False
    return segment.decode(stored.chunks[-1].data).end_hash is not None


async def test_a_long_backlog_goes_in_several_appends_of_whole_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.activations.event_log.APPEND_ENTRIES", 7)
    async with one_host() as host:
        await host.ask(L, "add", (1,))
        host.faults.hold = asyncio.Event()
        answers = [host.ask_now(L, "add", (1,)) for _ in range(50)]
        host.faults.hold.set()
        assert await asyncio.gather(*answers) == list(range(2, 52))
        sizes = [one.last_seq - one.first_seq + 1 for one in appends(host)]
        assert max(sizes) == 7 and sum(sizes) == 51
        assert all(one.projection is None for one in appends(host)[2:-1])


async def test_deactivation_waits_for_the_whole_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.activations.event_log.APPEND_ENTRIES", 1)
    async with one_host(group_commit_s=60.0) as host:
        asyncio.ensure_future(host.ask(L, "total", ()))  # noqa: RUF006
        await until(lambda: host.find(L) is not None)
        activation = host.find(L)
        assert activation is not None
        answers = [activation.call("add", (1,)) for _ in range(5)]
        activation._held, held = None, activation._held  # as if nobody waited: idle, with a backlog
        assert await host.catalog.deactivate([activation]) == 1
        assert await _events(host) == [1, 2, 3, 4, 5]
        assert held is not None and len(answers) == 5


async def test_reads_of_old_events_are_bounded() -> None:
    async with one_host(segment_entries=4) as host:
        for _ in range(40):
            await host.ask(L, "add", (1,))
        await until(lambda: durable(host) == 41)
        await host.catalog.deactivate([host.find(L)])  # type: ignore[list-item]
        assert await host.ask(L, "total", ()) == 40
        ranges: list[tuple[int, int | None]] = []
        read_log = host.logs.read_log

        async def noted(kind: str, id: ActorId, from_seq: int = 1, to_seq: int | None = None) -> Any:
            ranges.append((from_seq, to_seq))
            return await read_log(kind, id, from_seq, to_seq)

        host.logs.read_log = noted  # type: ignore[method-assign]
        batch = await host.ask(L, "read_events", (3,))
        assert (batch.first_seq, len(batch.events)) == (3, 38)
        assert ranges == [(3, 3 + 512)]
