"""A node's start and stop over memory drivers: any stage may fail, and nothing is left behind."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from server.cluster.simulated import SimulatedGossip, SimulatedMembership
from server.cluster.view import Member
from server.errors import BadSetting, GarrisonError, Unavailable
from server.ids import Incarnation, NodeAddress, NodeId, actor_id
from server.liveness.judge import JudgeLimits
from server.liveness.ports import Estate
from server.node import SCHEMA_CHECK_S, Node
from server.node_drivers import Drivers
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.tokens import own_rules
from server.settings import from_tree
from server.storage.journal.local import LocalJournal
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from server.storage.journal.ports import Journal
from server.storage.memory import EntityRow, MemoryDatabase, NodeRun
from server.storage.ports import Claim
from server.transport.memory import MemoryNetwork, MemoryTransport
from tests.support.faulty import Faults, FaultyLogs, FaultyStore
from tests.support.tiny import Counter, Ledger, TinyApp, Total
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

KEY = b"k" * 32
A, L = actor_id("counter", "a"), actor_id("ledger", "a")


class Port:
    """A listener and an admin side that only note what is asked of them."""

    complaint = ""

    def __init__(self) -> None:
        self.open = False

    async def start(self) -> str:
        self.open = True
        return "memory://node-1"

    def bind(self) -> str:
        self.open = True
        return "http://node-1"

    def view_changed(self) -> None: ...

    async def stop(self) -> None:
        self.open = False


class Bench:
    """One database and network, on which nodes are started anew."""

    def __init__(self, **store: Any) -> None:
        tree = {"lease_period_s": 1.0, "lease_renew_s": 0.05, "group_commit_s": 0.001, **store}
        self.settings = from_tree({"store": tree, "drain_timeout_s": 1.0})
        self.clock, self.network, self.gossip = LoopClock(), MemoryNetwork(), SimulatedGossip()
        self.database, self.faults = MemoryDatabase(self.clock), Faults()
        self.listener, self.admin = Port(), Port()
        self.crashed: list[str] = []
        self.journal: Callable[[Metrics], Journal] | None = None
        self.limits = JudgeLimits()

    def node(self) -> Node:
        types = {cls.kind: Total for cls in (Counter, Ledger)}
        metrics = Metrics()
        drivers = Drivers(
            clock=self.clock,
            rng=random.Random(1),
            store=FaultyStore(self.database, types, self.faults),
            logs=FaultyLogs(self.database, self.faults),
            transport=MemoryTransport(self.network, self.settings.transport, metrics),
            membership=SimulatedMembership(self.gossip),
            supervisor=Supervisor("node-1", lambda name, error: self.crashed.append(name)),
            metrics=metrics,
            listener=lambda gateway: self.listener,
            admin=lambda node: self.admin,
            journal=self.journal(metrics) if self.journal is not None else None,
            asks_store=True,
        )
        return Node(self.settings, TinyApp, own_rules(KEY), drivers, self.limits)

    async def left_nothing(self, node: Node) -> None:
        assert node.supervisor.names() == [] and not self.crashed
        assert not self.listener.open and not self.admin.open
        assert [run.state for run in self.database.nodes.values() if run.state == "up"] == []
        await until(lambda: len(asyncio.all_tasks()) == 1)


STAGES = {
    "the store": "drivers.store.open",
    "the incarnation": "drivers.store.register_node",
    "the transport": "drivers.transport.start",
    "the listener": "listener.start",
    "the admin port": "admin.bind",
    "gossip": "drivers.membership.start",
    "the announcement": "drivers.membership.update",
    "the admin side": "admin.start",
}


def _breaks(node: Node, path: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    target: Any = node
    *parts, name = path.split(".")
    for part in parts:
        target = getattr(target, part)

    async def broken(*_args: Any) -> None:
        raise error

    def broken_now(*_args: Any) -> None:
        raise error

    monkeypatch.setattr(target, name, broken_now if name == "bind" else broken)


@pytest.mark.parametrize("error", [Unavailable("planted"), RuntimeError("planted")], ids=["typed", "untyped"])
@pytest.mark.parametrize("stage", STAGES)
async def test_a_start_that_fails_leaves_nothing_and_the_next_one_need_not_wait(
    stage: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(lease_period_s=0.2 if stage == "the incarnation" else 30.0)
    node = bench.node()
    with monkeypatch.context() as patch:
        _breaks(node, STAGES[stage], error, patch)
        async with asyncio.timeout(10):
            with pytest.raises(type(error), match="planted"):
                await node.start()
    await bench.left_nothing(node)
    again = bench.node()
    async with asyncio.timeout(10):
        await again.start()
        assert again.not_ready() == ""
        await again.stop()
    await bench.left_nothing(again)


async def test_a_start_that_fails_at_its_end_stores_what_it_has_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others know of the announcement before this node does."""
    bench = Bench(flush_interval_s=60.0)
    node = bench.node()
    announce = node.drivers.membership.update

    async def heard_and_broken(member: Member) -> None:
        await announce(member)
        node._members_changed()
        assert await node.system.ask(A, "add", (5,)) == 5
        raise Unavailable("planted")

    with monkeypatch.context() as patch:
        patch.setattr(node.drivers.membership, "update", heard_and_broken)
        with pytest.raises(Unavailable, match="planted"):
            await node.start()
    await bench.left_nothing(node)
    assert bench.database.entities[A].state_version == 1


ENDS = [
    "gateway.stop", "listener.stop", "drivers.membership.leave", "drivers.membership.update",
    "drivers.store.retire_node", "admin.stop", "drivers.transport.stop", "drivers.membership.close",
    "drivers.store.close",
]  # fmt: skip


@pytest.mark.parametrize("stage", ENDS)
async def test_a_stage_of_the_stop_that_fails_does_not_hinder_the_others(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    node = bench.node()
    await node.start()
    await node.system.ask(A, "add", (5,))
    with monkeypatch.context() as patch:
        _breaks(node, stage, RuntimeError("planted"), patch)
        async with asyncio.timeout(10):
            await node.stop()
    assert node.supervisor.names() == []
    assert bench.database.entities[A].state_version == 1
    states = [run.state for run in bench.database.nodes.values()]
    assert states == (["up"] if stage == "drivers.store.retire_node" else ["left"])


async def test_a_clean_stop_stores_everything_in_order_and_the_next_start_finds_it() -> None:
    bench = Bench(flush_interval_s=60.0)
    node = bench.node()
    await node.start()
    await asyncio.gather(node.system.ask(A, "add", (5,)), node.system.ask(L, "add", (7,)))
    await node.stop()
    await bench.left_nothing(node)
    said = [statement for statement, _ in bench.faults.seen]
    assert max(said.index("write"), said.index("append")) < said.index("release")
    again = bench.node()
    await again.start()
    assert await asyncio.gather(again.system.ask(A, "add", (1,)), again.system.ask(L, "add", (1,))) == [6, 8]
    await again.stop()


async def test_the_stop_ends_in_time_when_the_store_is_away() -> None:
    bench = Bench()
    node = bench.node()
    await node.start()
    await node.system.ask(A, "add", (5,))
    bench.faults.always["write"] = "refuse"
    async with asyncio.timeout(5):
        await node.stop()
    assert node.supervisor.names() == [] and node.system.catalog.live == {}


async def test_a_node_whose_schema_was_changed_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """F10: until it is right again, and not for a store that does not answer."""
    node = Bench().node()
    await node.start()
    fault: list[GarrisonError] = [BadSetting("store.url", "has schema 0004 and this program needs 0005")]

    async def check() -> None:
        if fault:
            raise fault[0]

    monkeypatch.setattr(node.drivers.store, "check", check)
    await until(lambda: "has schema 0004" in node.not_ready())
    fault[0] = Unavailable("no answer")
    await asyncio.sleep(2 * SCHEMA_CHECK_S)
    assert "has schema 0004" in node.not_ready()
    fault.clear()
    await until(lambda: node.not_ready() == "")
    await node.stop()


async def test_a_lost_lease_ends_all_turns_and_the_name_comes_back_as_a_new_incarnation() -> None:
    bench = Bench()
    node = bench.node()
    await node.start()
    first = node.system.me
    await asyncio.gather(node.system.ask(A, "add", (5,)), node.system.ask(L, "add", (7,)))
    await node.write_behind.flush()
    await node.system.ask(A, "add", (1,))
    waiting = asyncio.ensure_future(node.system.ask(A, "slow_add", (1, 30.0), timeout_s=1.0))
    await asyncio.sleep(0)
    bench.database.nodes[first].state = "dead"
    async with asyncio.timeout(5):
        await node.ended.wait()
    assert node.lease_lost and node.not_ready() == "lease lost" and node.system.catalog.live == {}
    assert node.metrics.fenced_changes_lost_total == 1
    with pytest.raises(Unavailable):
        await node.system.ask(A, "add", (1,), timeout_s=0.2)
    with pytest.raises(GarrisonError):
        await waiting
    await node.stop()
    again = bench.node()
    await again.start()
    assert again.system.me.incarnation > first.incarnation
    assert await again.system.ask(A, "total", ()) == 5
    await again.stop()


async def test_renewals_that_fail_alone_do_not_hide_that_the_run_is_over() -> None:
    bench = Bench()
    bench.limits = JudgeLimits(ask_store_s=0.01)
    node = bench.node()
    await node.start()
    bench.faults.always["renew_lease"] = "refuse"
    bench.database.nodes[node.system.me].state = "dead"
    async with asyncio.timeout(5):
        await node.ended.wait()
    assert node.lease_lost
    await node.stop()


async def test_an_orderly_stop_leaves_the_journal_where_another_owner_may_need_it() -> None:
    """This run is dead in the store and does not know it; its successor has not read its journal yet."""
    bench = Bench(flush_interval_s=60.0)
    journals = MemoryJournals()
    bench.journal = lambda metrics: MemoryJournal(journals, NodeId("node-1"), metrics)
    node = bench.node()
    await node.start()
    await node.system.ask(A, "add", (5,))
    bench.faults.always["renew_lease"] = "refuse"
    other = FaultyStore(bench.database, {cls.kind: Total for cls in (Counter, Ledger)}, Faults())
    heir = NodeAddress(NodeId("node-2"), await other.register_node(NodeId("node-2"), 60.0))
    assert await other.bury(node.system.me)
    await other.claim("counter", [Claim(A, 1)], heir)
    await node.stop()
    [estate] = await other.estates()
    assert estate == Estate(node.system.me, estate.journal)
    reader = MemoryJournal(journals, NodeId("node-2"), Metrics())
    reader.database = bench.database.identity.uuid
    left = await reader.recover(estate.owner, estate.journal)
    assert [record.version for record in left.newest.values()] == [1]


async def test_a_second_run_of_a_name_waits_for_the_lease_of_the_first() -> None:
    bench = Bench(lease_period_s=0.4, lease_renew_s=0.1)
    crashed = NodeId("node-1")
    await FaultyStore(bench.database, {}, bench.faults).register_node(crashed, 0.4)
    node = bench.node()
    begin = bench.clock.now()
    await node.start()
    assert bench.clock.now() - begin > 0.2
    await node.stop()


@pytest.mark.loops("asyncio")  # a real journal file
async def test_a_registration_whose_answer_is_lost_leaves_a_run_that_never_opened_its_journal(tmp_path: Path) -> None:
    bench = Bench(lease_period_s=0.3, lease_renew_s=0.05)
    tree = {"journal": {"mode": "local", "directory": str(tmp_path), "segment_bytes": 65536, "segments": 2}}
    settings = from_tree(tree).journal
    bench.journal = lambda metrics: LocalJournal(settings, "c", NodeId("node-1"), metrics)
    node = bench.node()
    register = node.drivers.store.register_node
    node.drivers.store.register_node = _once_unanswered(register)  # type: ignore[method-assign]
    await node.start()
    places = {address: run.journal for address, run in bench.database.nodes.items()}
    [phantom] = [address for address in places if address != node.system.me]
    assert places[phantom] != places[node.system.me]
    other = LocalJournal(settings, "c", NodeId("node-2"), Metrics())
    other.database = bench.database.identity.uuid
    await other.prepare()
    found = await other.recover(phantom, places[phantom])
    assert not found.newest and not found.damage
    await node.stop()


@pytest.mark.loops("asyncio")  # a real journal file
async def test_a_journal_that_a_clean_stop_cannot_remove_is_removed_by_another_node(tmp_path: Path) -> None:
    """F27's kind: its run is over and all is stored, and the journal would have stayed for ever, in nobody's care."""
    bench = Bench(lease_period_s=0.3, lease_renew_s=0.05)
    tree = {"journal": {"mode": "local", "directory": str(tmp_path), "segment_bytes": 65536, "segments": 2}}
    settings = from_tree(tree).journal
    journals = [LocalJournal(settings, "c", NodeId("node-1"), Metrics()) for _ in range(2)]
    made = iter(journals)
    bench.journal = lambda metrics: next(made)
    node = bench.node()
    await node.start()
    me, close = node.system.me, journals[0].close

    async def fails(keep: bool) -> None:
        await close(keep=True)
        if not keep:
            raise Unavailable("planted: it cannot be removed")

    journals[0].close = fails  # type: ignore[method-assign]
    await node.stop()
    run = bench.database.nodes[me]
    assert (run.state, bool(run.journal)) == ("left", True)
    after = bench.node()
    await after.start()
    await until(lambda: not bench.database.nodes[me].journal)
    await after.stop()
    assert [path.name for path in directories(tmp_path / "c")] == []


async def test_a_journal_that_is_away_is_a_trouble_of_a_node_that_serves() -> None:
    """F2: named with what waits for it and what to do, in what readyz, status and the dashboard show; the node goes on,
    since all others are served. Over once an operator has forgotten it."""
    bench = Bench()
    gone = NodeAddress(NodeId("node-9"), Incarnation(7))
    node = bench.node()
    await node.start()
    assert await node.system.ask(A, "add", (5,)) == 5
    await node.write_behind.flush()
    bench.database.last_incarnation = 7
    bench.database.nodes[gone] = NodeRun("dead", 0.0, "local:node-9:host-9")
    left = actor_id("counter", "left")
    bench.database.entities[left] = EntityRow(epoch=1, owner=gone)
    try:
        with pytest.raises(Unavailable, match="waits for the journal of node-9#7"):
            await node.system.ask(left, "total", ())
        (trouble,) = node.troubles.look()
        assert (trouble.name, node.not_ready()) == ("journals", "")
        assert "node-9#7 (its journal: local:node-9:host-9; actors called here that wait: 1)" in trouble.text
        assert "garrison forget" in trouble.text and node.metrics.waiting == {"node-9#7": 1}
        assert await node.system.ask(A, "total", ()) == 5, "all others are served"
        assert await node.drivers.store.forget_estate(Estate(gone, "local:node-9:host-9"))
        await until(lambda: not node.troubles.look())
        assert await node.system.ask(left, "total", ()) == 0 and node.metrics.waiting == {}
    finally:
        await node.stop()


def directories(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def _once_unanswered(statement: Callable[..., Awaitable[Incarnation]]) -> Callable[..., Awaitable[Incarnation]]:
    calls: list[Incarnation] = []

    async def run(*args: Any) -> Incarnation:
        calls.append(await statement(*args))
        if len(calls) == 1:
            raise Unavailable("planted: no answer")
        return calls[-1]

    return run


async def test_a_journal_that_misses_an_answer_while_the_name_is_waited_for_fails_no_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(lease_period_s=0.5, lease_renew_s=0.1)
    prepared: list[Unavailable | None] = [None, Unavailable("planted", retry_after_s=0.01), None, None]
    prepare = MemoryJournal.prepare

    async def now_and_then(journal: MemoryJournal) -> None:
        if prepared and (error := prepared.pop(0)) is not None:
            raise error
        await prepare(journal)

    monkeypatch.setattr(MemoryJournal, "prepare", now_and_then)
    journals = MemoryJournals()
    bench.journal = lambda metrics: MemoryJournal(journals, NodeId("node-1"), metrics)
    await FaultyStore(bench.database, {}, bench.faults).register_node(NodeId("node-1"), 0.4)
    node = bench.node()
    await node.start()
    assert len(prepared) < 2
    await node.stop()


async def test_a_node_beside_the_cluster_is_told_and_the_smaller_side_is_not_ready() -> None:
    """One stray against one node here: neither side is the larger."""
    bench = Bench(lease_period_s=0.1, lease_renew_s=0.03)
    bench.limits = JudgeLimits(ask_store_s=0.01, unreached_s=0.0)
    node = bench.node()
    await node.start()
    stray = FaultyStore(bench.database, {}, bench.faults)
    run = await stray.register_node(NodeId("stray"), 60.0)
    with structlog.testing.capture_logs() as lines:
        async with asyncio.timeout(10):
            await until(lambda: node.not_ready() != "")
        assert node.not_ready() == "stray holds a live lease in this store and gossip does not reach it"
        assert node.metrics.unreached == 1
        await stray.retire_node(NodeAddress(NodeId("stray"), run), True)
        async with asyncio.timeout(10):
            await until(lambda: node.not_ready() == "")
    told = [line["event"] for line in lines if "live lease" in line["event"]]
    assert len(told) == 2 and "check gossip.seeds (none), security.cluster_key and cluster" in told[0]
    assert node.metrics.unreached == 0
    await node.stop()


async def test_a_drained_node_that_comes_back_is_still_drained() -> None:
    bench = Bench()
    node = bench.node()
    node.drained = True
    await node.start()
    assert node.not_ready() == "leaving"
    assert node.drain_progress()["state"] == "leaving"
    assert node.system.view.table.counts() == {}
    await node.stop()
    await bench.left_nothing(node)


async def test_a_drain_counts_what_has_moved_since_it_began() -> None:
    bench = Bench()
    node = bench.node()
    await node.start()
    node.metrics.migrations_total = 4
    before = node.drain_progress()["moved"]
    await node._say_leaving()
    node.metrics.migrations_total = 11
    await node._say_leaving()
    assert (before, node.drain_progress()["moved"]) == (4, 7)
    await node.stop()


async def test_a_name_that_another_live_process_has_is_told_as_that() -> None:
    bench = Bench(lease_period_s=0.1, lease_renew_s=0.03)
    await FaultyStore(bench.database, {}, bench.faults).register_node(NodeId("node-1"), 60.0)
    node = bench.node()
    with structlog.testing.capture_logs() as lines:
        async with asyncio.timeout(10):
            with pytest.raises(Unavailable) as caught:
                await node.start()
    assert caught.value.message == "setting node: another live process is called node-1; names must differ"
    assert [line["event"] for line in lines].count("waiting to register") == 1
