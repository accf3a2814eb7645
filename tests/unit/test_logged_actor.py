"""Event-sourced actors: nothing leaves before it is durable, and the log gives the state back."""

import asyncio

import pytest

from server.actors.actor import Attached
from server.errors import Corrupt, Fenced, GarrisonError, Internal
from server.eventlog import segment
from server.eventlog.ports import Append
from server.ids import Epoch, NodeAddress, actor_id
from server.storage.ports import Claim
from tests.support.engine import TestHost, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

L = actor_id("ledger", "a")


async def test_answers_and_the_stream_wait_for_the_commit() -> None:
    async with cluster(store={"group_commit_s": 0.05}) as world:
        host = world.hosts["node-1"]
        watcher = NodeAddress(*("node-9", 1))  # type: ignore[arg-type]
        await host.ask(L, "attach", watcher)
        answer = asyncio.ensure_future(host.ask(L, "add", (5,)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not answer.done() and not host.published.events
        assert await host.ask(L, "read_events", (1,)) is not None
        assert await answer == 5
        watchers, topic, first_seq, events = host.published.events[0]
        assert (watchers, topic, first_seq, len(events)) == ([watcher], L, 1, 1)
        stored = await host.logs.read_log("ledger", L)
        assert stored is not None and stored.next_seq == 2


async def test_a_failed_turn_emits_nothing() -> None:
    async with cluster() as world:
        host = world.hosts["node-1"]
        await host.ask(L, "add", (1,))
        with pytest.raises(Internal):
            await host.ask(L, "add_twice_and_raise", ())
        assert await host.ask(L, "add", (2,)) == 3
        batch = await host.ask(L, "read_events", (1,))
        assert (batch.next_seq, len(batch.events)) == (3, 2)


async def test_a_log_comes_back_from_its_keyframe_and_tail() -> None:
    async with cluster(store={"segment_entries": 8, "group_commit_s": 0.001}) as world:
        host = world.hosts["node-1"]
        for n in range(1, 30):
            await host.ask(L, "add", (n,))
        stored = await host.logs.read_log("ledger", L)
        assert stored is not None and [chunk.sealed for chunk in stored.chunks].count(True) >= 2
        for _ in range(2):
            await host.catalog.deactivate(list(host.catalog.live.values()))
            assert await host.ask(L, "total", ()) == sum(range(1, 30))
        assert await host.ask(L, "add", (1,)) == sum(range(1, 30)) + 1
        seen: list[object] = []
        while len(seen) < 30:
            batch = await host.ask(L, "read_events", (len(seen) + 1,))
            assert batch.first_seq == len(seen) + 1
            seen += batch.events


async def test_a_finished_log_is_sealed_with_the_hash_of_the_live_state() -> None:
    async with cluster(store={"group_commit_s": 0.001}) as world:
        host = world.hosts["node-1"]
        await host.ask(L, "add", (3,))
        await host.ask(L, "add", (997,))
        await until(lambda: _all_sealed(host))
        stored = await host.logs.read_log("ledger", L)
        assert stored is not None
        assert segment.decode(stored.chunks[-1].data).end_hash is not None


async def test_attaching_tells_that_the_log_is_finished_once_that_is_durable() -> None:
    async with cluster(store={"group_commit_s": 0.05}) as world:
        host = world.hosts["node-1"]
        watcher = NodeAddress(*("node-9", 1))  # type: ignore[arg-type]
        answer = asyncio.ensure_future(host.ask(L, "add", (1_000,)))
        await asyncio.sleep(0)
        assert await host.ask(L, "attach", watcher) == Attached(1, False)
        await answer
        assert await host.ask(L, "attach", watcher) == Attached(2, True)
        await host.catalog.deactivate([found for found in host.catalog.live.values() if found.id == L])
        assert await host.ask(L, "attach", watcher) == Attached(2, True)
        activation = host.find(L)
        assert activation is not None and not activation.log().watched


async def _all_sealed(host: TestHost) -> bool:
    stored = await host.logs.read_log("ledger", L)
    return stored is not None and all(chunk.sealed for chunk in stored.chunks)


async def test_a_fenced_log_drops_the_activation_and_tells_who_waits() -> None:
    async with cluster() as world:
        host = world.hosts["node-1"]
        await host.ask(L, "add", (1,))
        other = await host.store.register_node("node-2", None)  # type: ignore[arg-type]
        await host.store.retire_node(host.me)
        await host.store.claim("ledger", [Claim(L, 1)], NodeAddress("node-2", other))  # type: ignore[arg-type]
        with pytest.raises(Fenced):
            await host.ask(L, "add", (1,))
        assert host.find(L) is None
        assert host.metrics.fenced_total == 1


async def test_a_damaged_log_is_refused_and_named() -> None:
    async with cluster(store={"group_commit_s": 0.001}) as world:
        host = world.hosts["node-1"]
        await host.ask(L, "add", (1,))
        activation = host.find(L)
        assert activation is not None
        await host.catalog.deactivate([activation])
        await _append_garbage(host)
        with pytest.raises(Corrupt):
            await host.ask(L, "total", ())


async def _append_garbage(host: TestHost) -> None:
    owned = await host.claimer.claim("ledger", L)
    epoch: Epoch = owned.epoch  # type: ignore[union-attr]
    head: bytes = owned.head  # type: ignore[union-attr]
    assert (await host.logs.append("ledger", [Append(L, epoch, 2, 2, head, b"x" * 16, b"garbage")]))[L] == "written"
    await host.store.release("ledger", [(L, epoch)])


async def test_many_logs_share_a_commit() -> None:
    async with cluster(store={"group_commit_s": 0.02}) as world:
        host = world.hosts["node-1"]
        ids = [actor_id("ledger", f"m{n}") for n in range(50)]
        await asyncio.gather(*(host.ask(identity, "total", ()) for identity in ids))
        before = host.metrics.log_commit_seconds.count
        answers = await asyncio.gather(*(host.ask(identity, "add", (1,)) for identity in ids), return_exceptions=True)
        assert answers == [1] * 50 and not any(isinstance(answer, GarrisonError) for answer in answers)
        assert host.metrics.log_commit_seconds.count - before <= 3
