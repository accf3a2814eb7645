"""What a node says of things that are away: the database, the crash journal, its address (F36, F37, F18)."""

import asyncio
import re

import msgspec
import pytest
import structlog

from server.cluster.simulated import SimulatedMembership
from server.cluster.view import Member
from server.errors import Unavailable
from server.ids import Incarnation, NodeId
from server.runtime.metrics import Metrics
from server.runtime.troubles import Troubles, TroubleSource
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until
from tests.unit.test_node import A, Bench

pytestmark = pytest.mark.virtual_time


async def test_trouble_is_logged_once_when_it_begins_and_once_when_it_is_over() -> None:
    text, metrics = "", Metrics()
    troubles = Troubles(LoopClock(), metrics, [TroubleSource("cable", lambda: text, "the cable is in again")])
    with structlog.testing.capture_logs() as lines:
        assert troubles.look() == [] and metrics.troubles == 0
        text = "the cable is out"
        (first,) = troubles.look()
        await asyncio.sleep(5)
        text = "the cable is out; 7 wait"
        (later,) = troubles.look()
        assert later == msgspec.structs.replace(first, text=text) and troubles.current() == [later]
        assert metrics.troubles == 1
        text = ""
        assert troubles.look() == [] and metrics.troubles == 0
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("warning", "the cable is out"),
        ("info", "the cable is in again"),
    ]
    assert lines[1]["after_s"] == 5.0


async def test_database_that_is_away_is_named_with_the_time_since_which_it_is_f36() -> None:
    bench = Bench(lease_period_s=10.0)
    node = bench.node()
    await node.start()
    with structlog.testing.capture_logs() as lines:
        await node.system.ask(A, "add", (5,))
        assert node.not_ready() == "" and node.troubles.look() == []
        bench.faults.choose = lambda statement: "refuse"
        await until(node.troubles.current)
        (trouble,) = node.troubles.current()
        assert trouble.name == "database" and trouble.text.startswith("database unreachable: planted")
        assert "1 changed states wait for it" in trouble.text
        assert node.not_ready() == ""  # the lease still holds: it serves, and says what is wrong
        await until(lambda: not node.lease.holds())
        assert re.fullmatch(r"database unreachable: planted: .* \(since \d\d:\d\d:\d\d UTC\)", node.not_ready())
        await asyncio.sleep(20)
        assert node.troubles.current()[0].since_ms == trouble.since_ms
        bench.faults.choose = lambda statement: None
        await until(lambda: not node.troubles.current())
        assert node.not_ready() == ""
    told = [line["event"] for line in lines if "database" in line["event"]]
    assert len(told) == 2 and told[0].startswith("database unreachable") and told[1] == "the database answers again"
    await node.stop()


async def test_database_that_does_not_answer_at_all_is_named_f36() -> None:
    bench = Bench()
    node = bench.node()
    await node.start()
    bench.faults.hold = asyncio.Event()
    await until(lambda: not node.lease.holds())
    assert node.not_ready().startswith("database unreachable: a renewal of the lease has waited 1 s")
    bench.faults.hold.set()
    await until(lambda: node.lease.holds() and not node.troubles.current())
    await node.stop()


async def test_journal_that_refuses_changes_makes_a_node_unready_f37() -> None:
    bench, journals = Bench(), MemoryJournals()
    bench.journal = lambda metrics: MemoryJournal(journals, NodeId("node-1"), metrics)
    node = bench.node()
    await node.start()
    journals.outage(NodeId("node-1"))
    with pytest.raises(Unavailable):
        await node.system.ask(A, "add", (5,))
    assert node.not_ready().startswith("changes are refused: the journal does not answer (since ")
    journals.outage(NodeId("node-1"), away=False)
    await asyncio.sleep(10)
    assert node.not_ready() == ""
    await node.system.ask(A, "add", (5,))
    await node.stop()


async def test_full_journal_counts_as_refusing_for_a_while_after_its_last_refusal_f37() -> None:
    bench = Bench(flush_interval_s=3600.0, max_dirty_age_s=7200.0)
    journals = MemoryJournals(capacity_bytes=1)
    bench.journal = lambda metrics: MemoryJournal(journals, NodeId("node-1"), metrics)
    node = bench.node()
    await node.start()
    assert node.not_ready() == ""
    with pytest.raises(Unavailable):
        await node.system.ask(A, "add", (5,))
    assert node.not_ready().startswith("changes are refused: the crash journal has no room, or is away")
    await asyncio.sleep(10)
    assert node.not_ready() == ""
    await node.stop()


@pytest.mark.parametrize(
    ("setting", "client_url", "admin_url", "transport"),
    [
        ("gateway.advertise_url", "memory://node-1", "http://x", "memory:2"),
        ("admin.advertise_url", "ws://x", "http://node-1", "memory:2"),
        ("transport.advertise_host", "ws://x", "http://x", "node-1.memory:1"),
    ],
)
async def test_two_nodes_with_one_address_say_so_f18(
    setting: str, client_url: str, admin_url: str, transport: str
) -> None:
    bench = Bench()
    node = bench.node()
    await node.start()
    twin = Member(NodeId("node-2"), Incarnation(1), 1, "up", transport, client_url, admin_url, 0, 0)
    gossip = SimulatedMembership(bench.gossip)
    with structlog.testing.capture_logs() as lines:
        await gossip.start(twin, lambda: None)
        await until(node.troubles.current)
        (trouble,) = node.troubles.current()
        assert trouble.name == "address" and trouble.text.startswith("node-2 has this node's address, ")
        assert trouble.text.endswith(f"set {setting} for each node")
        assert node.not_ready() == ""
        assert trouble.text in [line["event"] for line in lines]
        await gossip.leave()
        await until(lambda: not node.troubles.current())
    await node.stop()


async def test_certificate_that_others_refuse_is_named() -> None:
    bench = Bench()
    node = bench.node()
    await node.start()
    bench.listener.complaint = "clients refuse gateway.tls_certificate a.pem: certificate has expired"
    (trouble,) = node.troubles.look()
    assert (trouble.name, trouble.text) == ("certificate", bench.listener.complaint)
    assert node.not_ready() == ""
    bench.listener.complaint = ""
    assert node.troubles.look() == []
    await node.stop()
