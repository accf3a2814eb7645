"""The neighbourhood: who is lively and who has vanished, as the views of gossip say."""

import msgspec
import pytest

from server.cluster.view import Member, View
from server.errors import BadInput
from server.ids import Incarnation, NodeAddress, NodeId
from server.liveness.neighbourhood import Neighbourhood
from server.settings import StoreSettings
from tests.support.leases import HandClock


def member(name: str, suspect: bool = False) -> Member:
    return Member(NodeId(name), Incarnation(1), 4, "up", "", "", "", suspect=suspect)


def at(name: str) -> NodeAddress:
    return NodeAddress(NodeId(name), Incarnation(1))


def _of(*members: Member) -> tuple[Neighbourhood, HandClock]:
    clock = HandClock()
    neighbourhood = Neighbourhood(StoreSettings(evict_after_s=1.0), clock)
    neighbourhood.follow(View(members))
    return neighbourhood, clock


def test_without_gossip_nobody_is_lively_or_has_vanished() -> None:
    neighbourhood = Neighbourhood(StoreSettings(), HandClock())
    assert (neighbourhood.lively(), neighbourhood.vanished(), neighbourhood.alone_at) == ([], [], 0.0)


def test_a_suspect_is_not_lively_although_the_view_is_the_same() -> None:
    neighbourhood, _ = _of(member("a"), member("b"))
    before = neighbourhood.view.digest
    neighbourhood.follow(View((member("a"), member("b", suspect=True))))
    assert neighbourhood.view.digest == before
    assert neighbourhood.lively() == [at("a")] and neighbourhood.vanished() == []


def test_a_member_has_vanished_only_after_a_while() -> None:
    neighbourhood, clock = _of(member("a"), member("b"), member("c"))
    neighbourhood.follow(View((member("a"), member("b"))))
    assert neighbourhood.vanished() == []
    clock.at += 1.0
    assert neighbourhood.vanished() == [at("c")]


def test_a_node_that_loses_all_others_notes_when() -> None:
    neighbourhood, clock = _of(member("a"), member("b"))
    clock.at = 107.0
    neighbourhood.follow(View((member("a"),)))
    clock.at = 109.0
    neighbourhood.follow(View((member("a"),)))
    assert neighbourhood.alone_at == 107.0


def test_a_node_that_starts_alone_has_lost_nobody() -> None:
    neighbourhood, _ = _of(member("a"))
    assert neighbourhood.alone_at == 0.0


def test_a_member_that_goes_on_in_an_heir_has_not_vanished() -> None:
    neighbourhood, clock = _of(member("a"), member("b"))
    for generation, suspect in ((0, True), (1, False), (0, False), (2, False)):
        now = msgspec.structs.replace(member("b", suspect), generation=generation)
        neighbourhood.follow(View((member("a"), now)))
        clock.at += 60.0
        assert neighbourhood.vanished() == [] and neighbourhood.alone_at == 0.0
    assert neighbourhood.lively() == [at("a"), at("b")]


def test_heir_goes_on_counting_for_how_long_a_member_has_been_missing() -> None:
    neighbourhood, clock = _of(member("a"), member("b"))
    neighbourhood.follow(View((member("a"),)))
    clock.at += 0.6
    heir = Neighbourhood(StoreSettings(evict_after_s=1.0), clock)
    heir.inherit(neighbourhood.bequeath())
    heir.follow(View((member("a"),)))
    assert heir.alone_at == neighbourhood.alone_at > 0 and heir.vanished() == []
    clock.at += 0.6
    assert heir.vanished() == [at("b")]
    heir.follow(View((member("a"), member("b"))))
    assert heir.vanished() == []
    with pytest.raises(BadInput):
        heir.inherit(b"")
