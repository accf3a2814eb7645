"""Event-sourced actors: nothing leaves before it is durable, and the log gives the state back."""

import asyncio
from collections.abc import Sequence

import pytest

from server.actors.actor import Attached, Caller
from server.actors.guard import OPEN, Guard, TurnedAway
from server.errors import Corrupt, Fenced, GarrisonError, Internal
from server.eventlog import segment
from server.eventlog.entry import NO_HEAD, mark_of, next_head
from server.eventlog.ports import Append, AppendResult
from server.ids import ActorId, Epoch, NodeAddress, actor_id
from server.storage.ports import Claim
from tests.support.engine import TestSystem, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

L = actor_id("ledger", "a")


async def test_answers_and_the_stream_wait_for_the_commit() -> None:
    async with cluster(store={"group_commit_s": 0.05}) as world:
        system = world.systems["node-1"]
        watcher = NodeAddress(*("node-9", 1))  # type: ignore[arg-type]
        await system.ask(L, "attach", watcher)
        answer = asyncio.ensure_future(system.ask(L, "add", (5,)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not answer.done() and not system.published.events
        assert await system.ask(L, "read_events", (1,)) is not None
        assert await answer == 5
        watchers, topic, first_seq, events = system.published.events[0]
        assert (watchers, topic, first_seq, len(events)) == ([watcher], L, 1, 1)
        stored = await system.logs.read_log("ledger", L)
        assert stored is not None and stored.next_seq == 2


async def test_a_failed_turn_emits_nothing() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await system.ask(L, "add", (1,))
        with pytest.raises(Internal):
            await system.ask(L, "add_twice_and_raise", ())
        assert await system.ask(L, "add", (2,)) == 3
        batch = await system.ask(L, "read_events", (1,))
        assert (batch.next_seq, len(batch.events)) == (3, 2)


async def test_a_log_comes_back_from_its_keyframe_and_tail() -> None:
    async with cluster(store={"segment_entries": 8, "group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        for n in range(1, 30):
            await system.ask(L, "add", (n,))
        stored = await system.logs.read_log("ledger", L)
        assert stored is not None and [chunk.sealed for chunk in stored.chunks].count(True) >= 2
        for _ in range(2):
            await system.catalog.deactivate(list(system.catalog.live.values()))
            assert await system.ask(L, "total", ()) == sum(range(1, 30))
        assert await system.ask(L, "add", (1,)) == sum(range(1, 30)) + 1
        seen: list[object] = []
        while len(seen) < 30:
            batch = await system.ask(L, "read_events", (len(seen) + 1,))
            assert batch.first_seq == len(seen) + 1
            seen += batch.events


async def test_a_finished_log_is_sealed_with_the_hash_of_the_live_state() -> None:
    async with cluster(store={"group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        await system.ask(L, "add", (3,))
        await system.ask(L, "add", (997,))
        await until(lambda: _all_sealed(system))
        stored = await system.logs.read_log("ledger", L)
        assert stored is not None
        assert segment.decode(stored.chunks[-1].data).end_hash is not None


async def attached(system: TestSystem, watcher: NodeAddress) -> tuple[int, bool]:
    found: Attached = await system.ask(L, "attach", watcher)
    assert found.guard > OPEN, "it has a `may_watch`"
    return found.next_seq, found.finished


async def test_a_guard_rises_where_watching_narrows_and_with_each_activation() -> None:
    async with cluster(store={"group_commit_s": 0.001}) as world:
        system, guards = world.systems["node-1"], list[Guard]()
        watcher = NodeAddress(*("node-9", 1))  # type: ignore[arg-type]
        for _ in range(2):
            await system.ask(L, "add", (1,))
            guards.append((await system.ask(L, "attach", (str(watcher.node), 1))).guard)
            activation = system.find(L)
            assert activation is not None
            activation.log().narrow()
            guards.append((await system.ask(L, "read_events", (1,))).guard)
            told: TurnedAway = await system.ask(L, "turns_away", ([Caller("player", "mallory")],))
            assert (told.epoch, told.n, told.refused) == (*guards[-1], [0])
            assert await system.catalog.deactivate([activation]) == 1
        assert OPEN < guards[0] < guards[1] < guards[2] < guards[3]


async def test_attaching_tells_that_the_log_is_finished_once_that_is_durable() -> None:
    async with cluster(store={"group_commit_s": 0.05}) as world:
        system = world.systems["node-1"]
        watcher = NodeAddress(*("node-9", 1))  # type: ignore[arg-type]
        answer = asyncio.ensure_future(system.ask(L, "add", (1_000,)))
        await asyncio.sleep(0)
        assert await attached(system, watcher) == (1, False)
        await answer
        assert await attached(system, watcher) == (2, True)
        await system.catalog.deactivate([found for found in system.catalog.live.values() if found.id == L])
        assert await attached(system, watcher) == (2, True)
        activation = system.find(L)
        assert activation is not None and not activation.log().watched


async def _all_sealed(system: TestSystem) -> bool:
    stored = await system.logs.read_log("ledger", L)
    return stored is not None and all(chunk.sealed for chunk in stored.chunks)


async def test_a_fenced_log_drops_the_activation_and_tells_who_waits() -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        await system.ask(L, "add", (1,))
        other = await system.store.register_node("node-2", None)  # type: ignore[arg-type]
        await system.store.retire_node(system.me)
        await system.store.claim("ledger", [Claim(L, 1)], NodeAddress("node-2", other))  # type: ignore[arg-type]
        with pytest.raises(Fenced):
            await system.ask(L, "add", (1,))
        assert system.find(L) is None
        assert (system.metrics.fenced_total, system.metrics.fenced_changes_lost_total) == (1, 0)


async def test_a_damaged_log_is_refused_and_named() -> None:
    async with cluster(store={"group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        await system.ask(L, "add", (1,))
        activation = system.find(L)
        assert activation is not None
        await system.catalog.deactivate([activation])
        await _append_garbage(system)
        with pytest.raises(Corrupt):
            await system.ask(L, "total", ())


async def _append_garbage(system: TestSystem) -> None:
    owned = await system.claimer.claim("ledger", L)
    epoch: Epoch = owned.epoch  # type: ignore[union-attr]
    head: bytes = owned.head  # type: ignore[union-attr]
    assert (await system.logs.append("ledger", [Append(L, epoch, 2, 2, head, b"x" * 16, b"garbage")]))[L] == "written"
    await system.store.release("ledger", [(L, epoch)])


async def test_the_first_append_of_each_activation_says_who_records_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(store={"group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        system._noted.add("ledger")
        append, sent = system.logs.append, list[Append]()

        async def seen(kind: str, batch: Sequence[Append]) -> dict[ActorId, AppendResult]:
            sent.extend(batch)
            return await append(kind, batch)

        monkeypatch.setattr(system.logs, "append", seen)
        for _ in range(2):
            for n in (1, 2, 3):
                await system.ask(L, "add", (n,))
            await system.catalog.deactivate(list(system.catalog.live.values()))
        assert [each.first_seq for each in sent if each.recorder is not None] == [1, 4]
        assert {each.recorder.address for each in sent if each.recorder is not None} == {system.me}
        assert [each.first_seq for each in sent] == [1, 2, 3, 4, 5, 6]


async def test_many_logs_share_a_commit() -> None:
    async with cluster(store={"group_commit_s": 0.02}) as world:
        system = world.systems["node-1"]
        ids = [actor_id("ledger", f"m{n}") for n in range(50)]
        await asyncio.gather(*(system.ask(identity, "total", ()) for identity in ids))
        before = system.metrics.log_commit_seconds.count
        answers = await asyncio.gather(*(system.ask(identity, "add", (1,)) for identity in ids), return_exceptions=True)
        assert answers == [1] * 50 and not any(isinstance(answer, GarrisonError) for answer in answers)
        assert system.metrics.log_commit_seconds.count - before <= 3


async def test_a_log_knows_the_hash_after_each_of_its_events() -> None:
    """Of sealed segments, of the tail in memory, and after it came back from the store."""
    async with cluster(store={"segment_entries": 8, "group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        for n in range(1, 30):
            await system.ask(L, "add", (n,))
        stored = await system.logs.read_log("ledger", L)
        assert stored is not None and [chunk.sealed for chunk in stored.chunks[:2] + stored.chunks[-1:]] == [
            True,
            True,
            False,
        ]
        head, marks = NO_HEAD, {}
        for chunk in stored.chunks:
            for entry in segment.decode(chunk.data).entries:
                head = next_head(head, entry)
                marks[entry.seq] = mark_of(head)
        for _ in range(2):
            for seq, mark in marks.items():
                assert await system.ask(L, "has_mark", (seq, mark))
                assert not await system.ask(L, "has_mark", (seq, marks[seq % 29 + 1]))
            assert not await system.ask(L, "has_mark", (30, marks[29]))
            assert not await system.ask(L, "has_mark", (0, ""))
            assert (await system.ask(L, "read_events", (20,))).mark == marks[29]
            await system.catalog.deactivate(list(system.catalog.live.values()))
        assert not await system.ask(actor_id("ledger", "nobody"), "has_mark", (1, marks[1]))
