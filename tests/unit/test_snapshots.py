"""Snapshots of what lives on nodes: each actor is counted once at most, however it moves; asked as tables are."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.actors.recorded import RecordedSnapshot
from server.columns.layout import Writer
from server.columns.snapshot import OpenSnapshot, read_snapshot
from server.columns.store import ColumnStore
from server.columns.table import TableLimits
from server.columns.tables import schema
from server.ids import ActorId
from server.snapshots import REST_S, SLICE, Snapshots
from tests.support.engine import Cluster, TestSystem, cluster
from tests.support.tiny import Counter

COUNTERS = schema("counters_now", counter="text", total="i64")
LIMITS = TableLimits(16 * 1024 * 1024, 1e9, 1.0)
PERIOD_S = 10.0


def counter_row(key: str, actor: Any, state: Any, _now_ms: int) -> tuple[Any, ...] | None:
    assert isinstance(actor, Counter)
    if key == "broken":
        raise ZeroDivisionError
    return (key, state.total)


RECORDED = RecordedSnapshot(Counter, COUNTERS, counter_row)


class SnapshotCluster(Cluster):
    """A cluster whose systems take snapshots into a directory each."""

    directory: Path

    def before_start(self, system: TestSystem) -> None:
        name = system.settings.node if not self.systems else f"node-{len(self.systems) + 1}"
        store = ColumnStore(self.directory / name, (), LIMITS, self.clock, (COUNTERS,))
        self.snapshots[name] = Snapshots([RECORDED], store, system, self.clock, PERIOD_S)
        self.stores[name] = store

    @property
    def rows(self) -> list[Any]:
        """The keys that all nodes' snapshots have, and their totals."""
        return sorted(row for name in self.stores for row in rows_in(self.directory / name))


def rows_in(directory: Path) -> list[tuple[str, int]]:
    rows: list[tuple[str, int]] = []
    for block in read_snapshot(directory, COUNTERS).blocks:
        texts = block.all_texts()
        keys = [texts[at] for at in block.values("counter").tolist()]
        rows += zip(keys, block.values("total").tolist(), strict=True)
    return rows


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[SnapshotCluster]:
    async def at_once(function: Any, *args: Any) -> Any:
        return function(*args)

    monkeypatch.setattr(asyncio, "to_thread", at_once)  # virtual time knows no threads

    class World(SnapshotCluster):
        directory = tmp_path
        snapshots: dict[str, Snapshots] = {}
        stores: dict[str, ColumnStore] = {}

    return World


async def take(w: Any, *names: str) -> None:
    for name in names:
        if not w.stores[name].snapshots:
            await w.stores[name].start(Writer(name, 1))
    await asyncio.gather(*(w.snapshots[name].take() for name in names))


def here(w: Any, name: str) -> set[str]:
    """The keys that a node would count at this moment."""
    snapshots = w.snapshots[name]
    ((recorded, census),) = snapshots._kinds
    identities = [identity for part in census.walk(SLICE) for identity in part]
    return {row[1] for row in snapshots._rows(recorded, census, identities)}


@pytest.mark.virtual_time
async def test_actors_that_move_are_counted_at_one_node_at_a_time(world: type[SnapshotCluster]) -> None:
    keys = sorted(f"k{number}" for number in range(300))
    async with cluster(("node-1",), world=world, actors={"rebalance_per_s": 300}) as w:
        for key in keys:
            await w.systems["node-1"].ask(ActorId(f"counter/{key}"), "add", (2,))
        await take(w, "node-1")
        assert w.rows == [(key, 2) for key in keys]
        await w.add("node-2")
        w.show("node-1", "node-2")
        moving = 0
        while len(here(w, "node-2")) < len(keys) // 3:
            counted = [here(w, "node-1"), here(w, "node-2")]
            assert not counted[0] & counted[1]
            moving += len(keys) - len(counted[0]) - len(counted[1])
            await asyncio.sleep(0.0005)
        assert moving, "no moment was seen at which an actor is on its way"
        await asyncio.sleep(5)
        await take(w, "node-1", "node-2")
        assert w.rows == [(key, 2) for key in keys]


@pytest.mark.virtual_time
async def test_walk_rests_between_slices_and_sees_what_came_and_went(world: type[SnapshotCluster]) -> None:
    async with cluster(("node-1",), world=world) as w:
        system = w.systems["node-1"]
        for number in range(5 * SLICE):
            await system.ask(ActorId(f"counter/k{number}"), "add", (number,))
        await system.ask(ActorId("counter/broken"), "add", (1,))
        others = [system.find(ActorId(f"counter/k{number}")) for number in range(100)]
        await w.stores["node-1"].start(Writer("node-1", 1))
        begun, crashed = w.clock.now(), system.metrics.turn_errors_total
        await w.snapshots["node-1"].take()
        assert 4 * REST_S <= w.clock.now() - begun <= 6 * REST_S
        assert system.metrics.turn_errors_total == crashed + 1  # a row that cannot be made is that row's only
        assert w.rows == sorted((f"k{number}", number) for number in range(5 * SLICE))
        assert await system.catalog.deactivate([each for each in others if each is not None]) == 100
        await w.snapshots["node-1"].take()
        assert len(w.rows) == 5 * SLICE - 100
        ((_, census),) = w.snapshots["node-1"]._kinds
        assert len(census) == 5 * SLICE - 100 + 1  # what had gone stood in it until this walk


@pytest.mark.virtual_time
async def test_snapshots_begin_at_the_same_time_on_all_nodes(world: type[SnapshotCluster]) -> None:
    async with cluster(("node-1",), world=world) as w:
        await w.stores["node-1"].start(Writer("node-1", 1))
        table = w.stores["node-1"].snapshots["counters_now"]
        times = []
        begin = table.begin

        def noted(expected: int) -> OpenSnapshot:
            times.append(w.clock.wall_ms() / 1000 % PERIOD_S)
            return begin(expected)

        table.begin = noted  # type: ignore[method-assign]
        await asyncio.sleep(3.3)
        task = asyncio.create_task(w.snapshots["node-1"].run())
        await asyncio.sleep(3 * PERIOD_S)
        task.cancel()
        assert len(times) == 3 and all(at < 0.02 for at in times), times


def test_snapshot_is_asked_like_a_table_and_says_its_age(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    from server.questions.partial import Merger, Partial
    from server.questions.plan import Plan
    from server.questions.process import Answerer
    from server.questions.wire import encode
    from server.runtime.clock import SystemClock

    partials = []
    for name, rows in (("a", 700), ("b", 300)):
        store = ColumnStore(tmp_path / name, (), LIMITS, SystemClock(), (COUNTERS,))
        asyncio.run(store.start(Writer(name, 1)))
        answerer = Answerer(tmp_path / name)
        answerer.do("tables", [encode([]), encode([COUNTERS])])
        sql = "SELECT total % 2 AS odd, count(*), sum(total) FROM counters_now GROUP BY odd ORDER BY odd"
        plan = answerer.do("plan", [sql, 0])
        empty = msgspec.msgpack.decode(answerer.do("scan", [plan, 0, 0, 5.0]), type=Partial)
        assert empty.rows == [] and empty.coverage.rows_held == 0 and not empty.coverage.troubles
        snapshot = store.snapshots["counters_now"].begin(rows)
        snapshot.add([(time.time_ns() // 10**6, f"k{number}", number) for number in range(rows)])
        store.snapshots["counters_now"].publish(snapshot)
        time.sleep(0.002)
        # A range of time says nothing of what has no past.
        partials.append(answerer.do("scan", [plan, 1, 2, 5.0]))
    merger = Merger(msgspec.msgpack.decode(plan, type=Plan))
    for partial in partials:
        merger.add(msgspec.msgpack.decode(partial, type=Partial))
    coverage = merger.result().coverage
    assert (coverage.rows_held, coverage.rows_scanned) == (1_000, 1_000) and 2 <= coverage.age_ms < 5_000
    answer = msgspec.json.decode(answerer.do("finish", [plan, [["a", partial] for partial in partials], 3, ["c"]]))
    sums = [sum(number for count in (700, 300) for number in range(count) if number % 2 == odd) for odd in (0, 1)]
    assert answer["rows"] == [[0, 500, sums[0]], [1, 500, sums[1]]]
    assert answer["coverage"]["missing"] == ["c"] and answer["coverage"]["age_ms"] == coverage.age_ms
    (tmp_path / "b" / "counters_now.manifest").unlink()
    none = msgspec.msgpack.decode(answerer.do("scan", [plan, 0, 0, 5.0]), type=Partial).coverage
    assert none.answered == 1 and none.troubles == ["counters_now: no snapshot was taken yet"]
