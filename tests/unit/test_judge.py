"""The judge alone: gossip, the store and the journals are what a test says."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from server.cluster.view import Member, MemberState, View
from server.errors import BadInput, Unavailable
from server.ids import Incarnation, NodeAddress, NodeId
from server.liveness.judge import Judge, JudgeLimits, Verdicts
from server.liveness.neighbourhood import Neighbourhood
from server.liveness.ports import NodeRow, NodeState
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import from_tree
from server.transport.ports import Service
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


def at(name: str, run: int = 1) -> NodeAddress:
    return NodeAddress(NodeId(name), Incarnation(run))


ME, OTHER, THIRD = at("node-1"), at("node-2"), at("node-3")


def member(address: NodeAddress, state: MemberState = "up") -> Member:
    return Member(address.node, address.incarnation, 4, state, "", "", "")


class Nodes:
    """The store's rows of nodes; `away`: it does not answer."""

    def __init__(self) -> None:
        self.rows: list[NodeRow] = []
        self.away = False
        self.statements = self.rows_read = 0

    def set(self, address: NodeAddress, state: NodeState = "up") -> None:
        self.rows = [row for row in self.rows if (row.node, row.incarnation) != address]
        self.rows.append(NodeRow(address.node, address.incarnation, state, 1.5))

    async def living(self) -> list[NodeRow]:
        return self._read(lambda row: row.state in ("up", "evicting"))

    async def runs(self, of: list[NodeAddress]) -> dict[NodeAddress, NodeRow]:
        wanted = set(of)
        rows = self._read(lambda row: NodeAddress(row.node, row.incarnation) in wanted)
        return {NodeAddress(row.node, row.incarnation): row for row in rows}

    def _read(self, wanted: Callable[[NodeRow], bool]) -> list[NodeRow]:
        if self.away:
            raise Unavailable("planted")
        found = [row for row in self.rows if wanted(row)]
        self.statements += 1
        self.rows_read += len(found)
        return found


class Lease:
    """This node's lease."""

    def __init__(self) -> None:
        self.held, self.renewed = True, False

    def holds(self) -> bool:
        return self.held

    def renewed_since(self, at: float) -> bool:
        return self.renewed


class Undertaker:
    """Buries those whose process is gone."""

    def __init__(self) -> None:
        self.gone: list[NodeAddress] = []

    async def prune(self, kept_s: float) -> None: ...

    async def bury_proven(self, owners: list[NodeAddress]) -> list[NodeAddress]:
        return [owner for owner in owners if owner in self.gone]


class Journal:
    broken = False


class Transport:
    """Answers of the other nodes to the question whether this run is over."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}
        self.answers: dict[NodeAddress, bytes] = {}
        self.asked: list[NodeAddress] = []

    def serve(self, service: int, handler: Any) -> None:
        self.handlers[service] = handler

    async def request(self, to: NodeAddress, service: int, payload: bytes, timeout_s: float) -> bytes:
        self.asked.append(to)
        if to not in self.answers:
            raise Unavailable("planted: no link")
        return self.answers[to]


class Bench:
    """A judge that sees three nodes up."""

    def __init__(self, **limits: Any) -> None:
        self.nodes, self.lease, self.undertaker, self.journal = Nodes(), Lease(), Undertaker(), Journal()
        self.transport, self.metrics, self.supervisor = Transport(), Metrics(), Supervisor("judge")
        self.up, self.verdicts = True, list[str]()
        settings, clock = from_tree({"store": {"lease_period_s": 1.0, "lease_renew_s": 0.2}}), LoopClock()
        self.neighbourhood = Neighbourhood(settings.store, clock)
        parts: Any = self
        self.judge = Judge(
            settings=settings,
            nodes=parts.nodes,
            journal=parts.journal,
            lease=parts.lease,
            undertaker=parts.undertaker,
            neighbourhood=self.neighbourhood,
            transport=parts.transport,
            clock=clock,
            rng=random.Random(1),
            metrics=self.metrics,
            limits=JudgeLimits(**limits),
            is_up=lambda: self.up,
            verdicts=Verdicts(
                lambda: self.verdicts.append("this run is over"),
                lambda: self.verdicts.append("the journal is gone"),
                lambda: self.verdicts.append("members are over"),
            ),
        )
        for address in (ME, OTHER, THIRD):
            self.nodes.set(address)
        self.neighbourhood.follow(View(tuple(map(member, (ME, OTHER, THIRD)))))
        self.judge.start(ME)

    async def __aenter__(self) -> "Bench":
        self.judge.watch(self.supervisor, asks_store=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.supervisor.stop()

    def living(self) -> list[NodeAddress]:
        """Members that stay in the view, of those that gossip hears."""
        return [found.address for found in self.judge.living(map(member, (ME, OTHER, THIRD)))]


async def test_a_member_whose_process_is_gone_leaves_the_view_though_gossip_hears_it() -> None:
    async with Bench() as bench:
        bench.undertaker.gone = [OTHER]
        await until(lambda: "members are over" in bench.verdicts)
        assert bench.living() == [ME, THIRD]


async def test_a_member_that_is_dead_in_the_store_leaves_the_view_and_hears_of_it() -> None:
    async with Bench() as bench:
        ask = bench.transport.handlers[Service.NODE]
        assert ask(OTHER, b"") == b""
        bench.nodes.set(OTHER, "dead")
        await until(lambda: "members are over" in bench.verdicts)
        assert bench.living() == [ME, THIRD]
        assert (ask(OTHER, b""), ask(THIRD, b"")) == (b"over", b"")


async def test_a_member_that_is_over_is_forgotten_once_gossip_hears_it_no_more() -> None:
    async with Bench() as bench:
        bench.nodes.set(OTHER, "dead")
        await until(lambda: "members are over" in bench.verdicts)
        bench.judge.living([member(ME), member(THIRD)])
        assert bench.transport.handlers[Service.NODE](OTHER, b"") == b""


async def test_a_run_that_is_dead_in_the_store_is_over() -> None:
    async with Bench() as bench:
        bench.nodes.set(ME, "dead")
        await until(lambda: "this run is over" in bench.verdicts)


@pytest.mark.parametrize(("held", "over"), [(False, True), (True, False)])
async def test_a_node_that_does_not_reach_the_store_asks_others_once_its_lease_has_run_out(
    held: bool, over: bool
) -> None:
    async with Bench(ask_store_s=0.5) as bench:
        bench.nodes.away, bench.lease.held = True, held
        bench.transport.answers = {OTHER: b"", THIRD: b"over"}
        begin = LoopClock.now()
        await until(lambda: LoopClock.now() > begin + 2.0)
        assert ("this run is over" in bench.verdicts) == over
        assert (ME in bench.transport.asked, bool(bench.transport.asked)) == (False, over)


async def test_a_broken_journal_ends_the_run_only_after_a_later_renewal() -> None:
    async with Bench() as bench:
        bench.journal.broken = True
        begin = LoopClock.now()
        await until(lambda: LoopClock.now() > begin + 1.0)
        assert bench.verdicts == []  # perhaps this run was taken for dead: the next renewal says so
        bench.lease.renewed = True
        await until(lambda: "the journal is gone" in bench.verdicts)


async def test_a_stranger_is_told_once_and_only_while_this_node_serves() -> None:
    strangers = [at(name) for name in ("x", "y", "z")]
    async with Bench(ask_store_s=0.5, unreached_s=2.0) as bench:
        for stranger in strangers:
            bench.nodes.set(stranger)
        with structlog.testing.capture_logs() as lines:
            await until(lambda: bench.metrics.unreached == 3)
            begin = LoopClock.now()
            await until(lambda: LoopClock.now() > begin + 3.0)
        assert sum("live leases" in line["event"] for line in lines) == 1
        assert bench.judge.outnumbered() == "x, y, z hold live leases in this store and gossip does not reach them"
        bench.up = False
        await until(lambda: bench.metrics.unreached == 0)
        assert bench.judge.outnumbered() == ""


async def test_the_larger_side_goes_on_serving() -> None:
    async with Bench(ask_store_s=0.5, unreached_s=2.0) as bench:
        bench.nodes.set(at("x"))
        await until(lambda: bench.metrics.unreached == 1)
        assert bench.judge.outnumbered() == ""


async def test_a_question_to_the_store_reads_the_cluster_and_not_its_history() -> None:
    """F27: fifty thousand runs that are over are neither read nor asked for."""
    async with Bench(ask_store_s=0.5) as bench:
        bench.nodes.rows += [NodeRow(NodeId(f"pod-{n}"), Incarnation(n), "dead", -9.0) for n in range(50_000)]
        bench.nodes.statements = bench.nodes.rows_read = 0
        begin = LoopClock.now()
        await until(lambda: LoopClock.now() > begin + 2.2)
        assert 4 <= bench.nodes.statements <= 5 and bench.nodes.rows_read == 3 * bench.nodes.statements


async def test_a_run_that_has_no_row_any_more_is_out_of_the_view_and_one_that_joins_meanwhile_is_not() -> None:
    """The store says `dead` of a run that was pruned. Who registers after the question is in no answer."""
    async with Bench(ask_store_s=0.5) as bench:
        late, living = at("node-4", 9), bench.nodes.living

        async def meanwhile() -> list[NodeRow]:
            rows = await living()
            bench.neighbourhood.follow(View(tuple(map(member, (ME, OTHER, THIRD, late)))))
            return rows

        bench.nodes.living = meanwhile  # type: ignore[method-assign]
        bench.nodes.set(OTHER, "dead")
        await until(lambda: "members are over" in bench.verdicts)
        assert bench.living() == [ME, THIRD]
        assert bench.judge.living([member(late)]) == (member(late),)


async def test_heir_does_not_take_a_member_in_again_that_is_over() -> None:
    async with Bench() as bench:
        bench.nodes.set(OTHER, "dead")
        await until(lambda: "members are over" in bench.verdicts)
        heir = Bench()
        heir.judge.inherit(bench.judge.bequeath())
        assert heir.living() == [ME, THIRD]
        with pytest.raises(BadInput):
            heir.judge.inherit(b"\xc1")
