"""Bequests of gossip, counters and judging as they were written first: an heir of a later version reads them."""

from typing import Any, Final

import msgspec
import pytest

from server.cluster.membership import KinshipMembership
from server.cluster.terms import Terms
from server.cluster.view import Member
from server.errors import BadInput
from server.ids import Incarnation, NodeAddress, NodeId
from server.liveness.neighbourhood import Neighbourhood
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import GossipSettings, StoreSettings
from tests.support.leases import HandClock

MEMBERS: Final = (
    "92ad31302e302e302e313a3739343691929fa66e6f64652d320704a27570ad31302e302e302e323a37333830a877733a2f2f623a31aa68747470"
    "3a2f2f623a320c03c396a464312e31a468616c6fa0a0a0a0ce6553f1000502c3ad31302e302e302e323a37393436"
)
COUNTERS: Final = (
    "940381b0686561727462656174735f746f74616c0c81ac636c6f7365735f746f74616c82cd03e802a56f746865720181ad666c7573685f736563"
    "6f6e6473939ccb3f50624dd2f1a9fccb3f647ae147ae147bcb3f747ae147ae147bcb3f847ae147ae147bcb3f9999999999999acb3fa99999999"
    "9999acb3fb999999999999acb3fd0000000000000cb3fe0000000000000cb3ff0000000000000cb4004000000000000cb40140000000000009d"
    "00010000000000000000000002cb4023000000000000"
)
NEIGHBOURHOOD: Final = "92919292a66e6f64652d3207cb3ff8000000000000cb4056800000000000"
OTHER: Final = NodeAddress(NodeId("node-2"), Incarnation(7))


def grown(sample: str) -> list[bytes]:
    """The sample, and what a later version may have made of it: with a field more at its end."""
    data = bytes.fromhex(sample)
    return [data, msgspec.msgpack.encode([*msgspec.msgpack.decode(data, strict=False), "of a later version"])]


def membership(bind: str = "127.0.0.1:0") -> KinshipMembership:
    settings = GossipSettings(bind=bind, seeds=["10.0.0.9:7946"])
    return KinshipMembership(settings, "test", bytes(32), Metrics(), Supervisor("gossip"))


@pytest.mark.parametrize("data", grown(MEMBERS))
def test_members_come_with_their_endpoints_as_seeds_and_the_port(data: bytes) -> None:
    heir = membership()
    heir.inherit(data)
    terms = Terms("d1.1", "halo")
    fields: tuple[Any, ...] = ("up", "10.0.0.2:7380", "ws://b:1", "http://b:2", 12, 3, True, terms, 1_700_000_000, 5)
    assert heir._told == (Member(*OTHER, 4, *fields, 2, True),)
    assert heir._seeds == ["10.0.0.9:7946", "10.0.0.2:7946"] and heir._bind == "127.0.0.1:7946"


@pytest.mark.parametrize(("bind", "port"), [("127.0.0.1:0", "7946"), ("0.0.0.0:7000", "7000"), ("[::1]:0", "7946")])
def test_heir_binds_the_port_that_was_given_out_or_the_one_of_its_settings(bind: str, port: str) -> None:
    settings = GossipSettings(bind=bind, advertise="10.0.0.1:7000" if bind.startswith("0") else None)
    heir = KinshipMembership(settings, "test", bytes(32), Metrics(), Supervisor("gossip"))
    heir.inherit(bytes.fromhex(MEMBERS))
    assert heir._bind == f"{bind.rpartition(':')[0]}:{port}"


@pytest.mark.parametrize("data", grown(COUNTERS))
def test_counters_are_read(data: bytes) -> None:
    metrics = Metrics()
    metrics.inherit(data)
    assert (metrics.generation, metrics.heartbeats_total) == (4, 12)
    assert metrics.closes_total == {1000: 2, "other": 1}
    assert (metrics.flush_seconds.count, metrics.flush_seconds.total) == (3, 9.5)


@pytest.mark.parametrize("data", grown(NEIGHBOURHOOD))
def test_missing_members_are_read(data: bytes) -> None:
    clock = HandClock()
    neighbourhood = Neighbourhood(StoreSettings(evict_after_s=1.0), clock)
    neighbourhood.inherit(data)
    assert neighbourhood.vanished() == [OTHER] and neighbourhood.alone_at == 90.0


@pytest.mark.parametrize("sample", [MEMBERS, COUNTERS, NEIGHBOURHOOD])
def test_a_part_of_a_bequest_is_refused(sample: str) -> None:
    data = bytes.fromhex(sample)
    heirs: dict[str, Any] = {
        MEMBERS: membership(),
        COUNTERS: Metrics(),
        NEIGHBOURHOOD: Neighbourhood(StoreSettings(), HandClock()),
    }
    for length in range(len(data)):
        with pytest.raises(BadInput):
            heirs[sample].inherit(data[:length])
