"""Nodes of one cluster name with different databases (F1): real nodes over drivers in memory."""

import asyncio
import random

import msgspec
import pytest

from server.cluster.belonging import FOREIGN_S, WARY_S
from server.cluster.simulated import SimulatedGossip, SimulatedMembership
from server.cluster.terms import Terms
from server.cluster.view import Member
from server.ids import NodeId
from server.node import Node
from server.node_drivers import Drivers
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.tokens import own_rules
from server.settings import from_tree
from server.storage.memory import MemoryDatabase, MemoryStore
from server.storage.memory_logs import MemoryLogStore
from server.transport.memory import MemoryNetwork, MemoryTransport
from tests.support.tiny import Counter, Ledger, TinyApp, Total
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

KEY = b"k" * 32
A, B = "a" * 32, "b" * 32
NOTHING = Terms()


class Port:
    async def start(self) -> str:
        return "memory://"

    def reload(self, changed_only: bool = False) -> bool:
        return False

    @property
    def complaint(self) -> str:
        return ""

    async def stop(self) -> None: ...


class Town:
    """One cluster name, network and gossip; a database for each name."""

    def __init__(self) -> None:
        self.clock, self.network, self.gossip = LoopClock(), MemoryNetwork(), SimulatedGossip()
        self.databases = {uuid: MemoryDatabase(self.clock, uuid) for uuid in (A, B)}
        self.nodes: list[Node] = []

    def node(self, name: str, uuid: str, terms: Terms = NOTHING) -> Node:
        settings = from_tree({"node": name, "drain_timeout_s": 1.0, "admin": {"enabled": False}})
        metrics, database = Metrics(), self.databases[uuid]
        drivers = Drivers(
            clock=self.clock,
            rng=random.Random(name),
            store=MemoryStore(database, {cls.kind: Total for cls in (Counter, Ledger)}),
            logs=MemoryLogStore(database),
            transport=MemoryTransport(self.network, settings.transport, metrics),
            membership=SimulatedMembership(self.gossip),
            supervisor=Supervisor(name),
            metrics=metrics,
            listener=lambda gateway: Port(),
            terms=lambda _rules: terms,
        )
        made = Node(settings, TinyApp, KEY, drivers)
        self.nodes.append(made)
        return made

    async def started(self, name: str, uuid: str) -> Node:
        made = self.node(name, uuid)
        await made.start()
        return made

    async def close(self) -> None:
        for node in self.nodes:
            await node.stop()


def serve(nodes: list[Node]) -> list[str]:
    return [node.settings.node for node in nodes if node.not_ready() == ""]


def seen(node: Node) -> list[str]:
    return sorted(node.system.view.members)


def said(node: Node) -> str:
    """The trouble about terms that differ."""
    return next((trouble.text for trouble in node.troubles.current() if trouble.name == "terms"), "")


async def test_a_newcomer_with_another_database_does_not_serve_until_the_others_are_gone() -> None:
    town = Town()
    n1, n2 = await town.started("n1", A), await town.started("n2", A)
    late = await town.started("late", B)
    assert not late.serves.is_set()
    await asyncio.sleep(10.0)
    assert serve(town.nodes) == ["n1", "n2"] and not n1.ended.is_set()
    assert seen(n1) == seen(n2) == ["n1", "n2"] and seen(late) == ["late"]
    assert all(node.system.view.table.owner_of_slot(slot).node != "late" for node in (n1, n2) for slot in (0, 9, 999))  # type: ignore[union-attr]
    why = late.not_ready()
    assert A in why and B in why and "n1, n2" in why and "does not serve" in why
    told = [[trouble.text for trouble in node.troubles.current()] for node in (n1, late)]
    assert "late on database" in told[0][0] and "is ignored" in told[0][0] and told[1][0] in why
    await n1.stop()
    await n2.stop()
    await until(lambda: late.not_ready() == "", timeout_s=10.0)
    assert late.serves.is_set() and seen(late) == ["late"]
    await late.stop()


@pytest.mark.parametrize("apart_s", [0.0, 0.01, 0.05, 0.2])
async def test_two_nodes_that_start_at_once_do_not_both_serve(apart_s: float) -> None:
    town = Town()
    one, other = town.node("n1", B), town.node("n2", A)
    starts = [asyncio.create_task(one.start())]
    await asyncio.sleep(apart_s)
    starts.append(asyncio.create_task(other.start()))
    await asyncio.gather(*starts)
    await asyncio.sleep(FOREIGN_S + 2.0)
    assert len(serve([node for node in town.nodes if not node.ended.is_set()])) == 1
    await town.close()


async def test_a_node_that_served_before_it_heard_of_the_larger_cluster_ends_as_foreign() -> None:
    town = Town()
    town.gossip.split({NodeId("n1"), NodeId("n2")}, {NodeId("stray")})
    n1, n2 = await town.started("n1", B), await town.started("n2", B)
    stray = await town.started("stray", A)
    assert serve(town.nodes) == ["n1", "n2", "stray"], "nobody hears of the others yet"
    town.gossip.heal()
    await until(lambda: stray.not_ready() != "", timeout_s=5.0)
    await asyncio.wait_for(stray.ended.wait(), FOREIGN_S + 3.0)
    assert stray.is_foreign and not n1.ended.is_set() and not n2.ended.is_set()
    assert serve([n1, n2]) == ["n1", "n2"]
    await town.close()


@pytest.mark.parametrize(("older", "younger"), [(A, B), (B, A)])
async def test_the_older_of_two_nodes_that_came_up_in_one_second_goes_on(older: str, younger: str) -> None:
    """By their databases the wrong one would go on in half of all cases."""
    town = Town()
    town.gossip.split({NodeId("old")}, {NodeId("young")})
    await asyncio.sleep(-town.clock.now() % 1.0)
    old = await town.started("old", older)
    await asyncio.sleep(0.4)
    young = await town.started("young", younger)
    assert old.me is not None and young.me is not None and old.me.since == young.me.since
    town.gossip.heal()
    await asyncio.wait_for(young.ended.wait(), FOREIGN_S + 5.0)
    assert young.is_foreign and not old.ended.is_set() and serve([old]) == ["old"]
    await town.close()


async def test_the_run_after_a_foreign_one_listens_for_a_while_before_it_serves() -> None:
    town = Town()
    wary = town.node("stray", A)
    wary.wary()
    await wary.start()
    await asyncio.sleep(WARY_S - 2.0)
    assert not wary.serves.is_set() and wary.not_ready() == "starting"
    await asyncio.wait_for(wary.serves.wait(), 5.0)
    await town.close()


async def test_a_node_of_an_earlier_version_which_tells_no_database_is_a_member() -> None:
    town = Town()
    n1 = await town.started("n1", A)

    def told(me: Member) -> Member:
        return msgspec.structs.replace(me, terms=type(me.terms)(), since=0, since_part_ms=0)

    old = town.node("old", A)
    update, start = old.drivers.membership.update, old.drivers.membership.start
    old.drivers.membership.update = lambda me: update(told(me))  # type: ignore[method-assign]
    old.drivers.membership.start = lambda me, changed: start(told(me), changed)  # type: ignore[method-assign]
    await old.start()
    await until(lambda: seen(n1) == ["n1", "old"], timeout_s=5.0)
    assert serve(town.nodes) == ["n1", "old"]
    await town.close()


async def test_nodes_of_two_versions_of_an_app_serve_together_and_say_that_they_differ() -> None:
    """F62: a rolling upgrade, seen by each node as a trouble that ends with it."""
    town = Town()
    n1, new = town.node("n1", A, Terms(kinds="old")), town.node("new", A, Terms(kinds="new"))
    await n1.start()
    await new.start()
    await until(lambda: seen(n1) == seen(new) == ["n1", "new"], timeout_s=5.0)
    assert serve([n1, new]) == ["n1", "new"]
    await until(lambda: bool(said(n1) and said(new)), timeout_s=5.0)
    assert "new on kinds and states new (here n1 on old)" in said(n1)
    assert "n1 on kinds and states old (here new on new)" in said(new)
    await n1.stop()
    await until(lambda: not said(new), timeout_s=10.0)
    await new.stop()


async def test_a_newcomer_with_other_token_keys_owns_no_slot_until_they_fit() -> None:
    """F62: read again by SIGHUP, they may fit later; the node comes up then."""
    town = Town()
    n1, late = town.node("n1", A, Terms(tokens="one")), town.node("late", A, Terms(tokens="two"))
    await n1.start()
    await late.start()
    await asyncio.sleep(3.0)
    assert serve(town.nodes) == ["n1"] and not late.serves.is_set()
    assert "n1 on token keys one (here late on two)" in late.not_ready()
    assert n1.system.view.members[NodeId("late")].state == "joining"
    late.drivers = msgspec.structs.replace(late.drivers, terms=lambda _rules: Terms(tokens="one.two"))
    late.gateway.use_token_rules(own_rules(b"n" * 32))
    await until(lambda: late.not_ready() == "", timeout_s=10.0)
    await until(lambda: "late on token keys one.two" in said(n1), timeout_s=5.0)
    await town.close()
