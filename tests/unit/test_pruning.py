"""A node's sweeps of old logs: which node does it, when it leaves it for later, and what it tells of it."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from game.match.admin import MATCH_ACTIONS, PinOrder
from game.messages import MatchCreate, MatchOptions
from server.actors.actor import LoggedActor
from server.actors.app import App, Principal
from server.admin.context import NodeContext
from server.catalog.pruning import Pace, Pruning
from server.catalog.services import CurrentView
from server.cluster.view import Member, MemberState, View
from server.errors import NotFound, Unavailable
from server.eventlog.ports import OverLog
from server.ids import Epoch, Incarnation, NodeAddress, NodeId, actor_id
from server.runtime.metrics import Metrics
from server.settings import from_tree
from server.storage.queries import NoStoreQueries
from tests.support.game import HOST, Client, running
from tests.support.old_logs import ListedLogs
from tests.support.tiny import Counter, Ledger

ME, OTHER = NodeAddress(NodeId("me"), Incarnation(1)), NodeAddress(NodeId("other"), Incarnation(2))
AT_ONCE = Pace(batch_s=0.0, page_s=0.0)


class Bench:
    """A sweep over a store of a few logs."""

    def __init__(self, logs: list[OverLog], limits: dict[str, Any] | None = None) -> None:
        self.logs, self.metrics, self.woken = ListedLogs(logs), Metrics(), list[str]()
        self.current = CurrentView(ME, View((member(ME),)))
        self.lease = SimpleNamespace(holds=lambda: True)
        services: Any = SimpleNamespace(
            app=App("tiny", (Counter, Ledger)),
            settings=from_tree({"retention": {"max_matches": 2} if limits is None else limits}),
            metrics=self.metrics,
            logs=self.logs,
            rng=random.Random(1),
        )
        calls: Any = SimpleNamespace(tell=lambda id, method, args: self.woken.append(f"{method} {id}"))
        storage: Any = SimpleNamespace(lease=self.lease)
        self.pruning = Pruning(services, self.current, storage=storage, calls=calls, pace=AT_ONCE)
        self.pruning._wakes = {Ledger.kind}

    def left(self) -> list[str]:
        return [log.id.partition("/")[2] for log in self.logs.logs]


def member(address: NodeAddress, state: MemberState = "up") -> Member:
    return Member(address.node, address.incarnation, 1, state, "", "", "")


def logs(count: int, **fields: Any) -> list[OverLog]:
    return [OverLog(actor_id(Ledger.kind, f"m{n}"), n + 1, Epoch(1), 10, **fields) for n in range(count)]


def test_without_limits_nothing_is_swept() -> None:
    assert not Bench([], {}).pruning.wanted
    assert Bench([]).pruning.wanted
    assert issubclass(Ledger, LoggedActor)


async def test_the_oldest_are_deleted_and_counted() -> None:
    bench = Bench(logs(5))
    assert await bench.pruning.sweep()
    assert bench.left() == ["m3", "m4"]
    assert (bench.metrics.logs_deleted_total, bench.metrics.log_bytes_deleted_total) == (3, 30)


async def test_another_nodes_slot_is_left_to_it() -> None:
    bench = Bench(logs(5))
    bench.current.view = View((member(OTHER),))
    assert await bench.pruning.sweep()
    bench.current.view = View((member(ME, "leaving"),))
    assert await bench.pruning.sweep()
    assert len(bench.left()) == 5 and not bench.logs.asked


@pytest.mark.parametrize("busy", ["lag", "dirty", "lease"])
async def test_a_node_with_other_things_to_do_sweeps_later(busy: str) -> None:
    bench = Bench(logs(40))
    deleting = bench.logs.delete_logs

    async def delete_logs(kind: str, some: Any) -> Any:
        if busy == "lag":
            bench.metrics.loop_lag_last_seconds = 1.0
        elif busy == "dirty":
            bench.metrics.dirty_age_seconds = 9.0
        else:
            bench.lease.holds = lambda: False
        return await deleting(kind, some)

    bench.logs.delete_logs = delete_logs  # type: ignore[method-assign]
    assert not await bench.pruning.sweep()
    assert len(bench.logs.batches) == 1, "it ends after a batch"
    assert not await bench.pruning.sweep()
    assert len(bench.logs.batches) == 1


async def test_logs_that_were_claimed_meanwhile_are_counted_as_spared() -> None:
    bench = Bench(logs(3))
    bench.logs.claimed = {actor_id(Ledger.kind, "m0")}
    assert await bench.pruning.sweep()
    assert (bench.metrics.logs_deleted_total, bench.metrics.logs_spared_total) == (0, 1)


async def test_old_logs_that_somebody_has_are_woken() -> None:
    """A row says that a node has it, where the answer of the release was lost: its next turn gives it up."""
    bench = Bench([*logs(2, is_open=True), *logs(6)[2:]])
    assert await bench.pruning.sweep()
    assert bench.left() == ["m0", "m1", "m4", "m5"]
    assert bench.woken == [f"wake {Ledger.kind}/m0", f"wake {Ledger.kind}/m1"]


@pytest.mark.virtual_time
async def test_a_store_that_is_away_ends_a_sweep_and_not_the_sweeping() -> None:
    bench = Bench(logs(4))
    bench.logs.away = Unavailable("away")
    running = asyncio.ensure_future(bench.pruning.run())
    await asyncio.sleep(10_000)
    assert bench.metrics.retention_failures_total >= 2 and len(bench.left()) == 4
    bench.logs.away = None
    await asyncio.sleep(5_000)
    running.cancel()
    assert bench.left() == ["m2", "m3"]


async def test_an_operator_pins_a_match_by_the_admin_api(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as system:
        database = system.node_store.database
        database.over["match"] = lambda _state: 0
        context = NodeContext(Principal("ann", "operator"), system, NoStoreQueries(), None, {}, system.clock)
        pin, unpin = MATCH_ACTIONS["pin"], MATCH_ACTIONS["unpin"]
        with pytest.raises(NotFound):
            await pin.run(context, PinOrder("m"))
        await Client(system, HOST).command(MatchCreate, "m", MatchOptions())
        assert await pin.run(context, PinOrder("m")) == {"match": "m", "pinned": True}
        assert database.entities[actor_id("match", "m")].is_pinned
        assert await unpin.run(context, PinOrder("m")) == {"match": "m", "pinned": False}
        assert not database.entities[actor_id("match", "m")].is_pinned


async def test_a_reader_of_a_log_that_goes_is_told() -> None:
    """An activation that does not know yet that it is over, and somebody else's claim let the log go."""
    async with running() as system:
        await Client(system, HOST).command(MatchCreate, "m", MatchOptions())
        match = actor_id("match", "m")
        log = system.find(match).log()  # type: ignore[union-attr]
        log._older.clear()
        log._tail.clear()
        log.durable_seq = 5
        del system.node_store.database.entities[match]
        with pytest.raises(NotFound, match="deleted"):
            await log.read(1)
