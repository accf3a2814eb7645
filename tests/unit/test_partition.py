"""The directory's partition and the caches beside it: pure rules."""

import numpy as np
import pytest

from server.directory.cache import LocationCache
from server.directory.location import Location, parse_location
from server.directory.partition import Census, Partition
from server.errors import BadInput
from server.ids import ActorId, Incarnation, NodeAddress, NodeId, actor_id, slot

N1, N2 = NodeAddress(NodeId("node-1"), Incarnation(1)), NodeAddress(NodeId("node-2"), Incarnation(4))
A, B = actor_id("near", "a"), actor_id("near", "b")


def test_the_first_registration_stays() -> None:
    part = Partition()
    assert part.register(A, N1) == N1
    assert part.register(A, N2) == N1
    part.unregister(A, N2)
    assert part.find(A) == N1
    part.unregister(A, N1)
    assert part.find(A) is None


def test_a_claim_replaces_what_was_there_and_tells_what() -> None:
    part = Partition()
    assert part.replace(A, N1) is None
    assert part.replace(A, N2) == N1
    assert part.find(A) == N2
    assert not part.unregister(A, N1)


def test_entries_of_nodes_that_are_gone_are_forgotten() -> None:
    part = Partition()
    part.register(A, N1)
    part.register(B, N2)
    part.keep([N2])
    assert part.entries() == {B: N2}
    part.forget(N2)
    assert len(part) == 0


def test_slots_that_leave_take_their_entries_along() -> None:
    part = Partition()
    part.register(A, N1)
    part.register(B, N2)
    assert part.within(np.array([slot(B)])) == {B: N2}
    assert part.take(np.array([slot(A)])) == {A: N1}
    assert part.entries() == {B: N2}
    assert part.take(np.array([], dtype=np.intp)) == part.take(np.array([slot(A)])) == {}


def test_a_census_knows_who_is_in_which_slot_and_who_was_born_since() -> None:
    ids = [actor_id("near", str(n)) for n in range(500)]
    census = Census(ids[:400])
    for identity in ids[400:]:
        census.add(identity)
    slots = np.array(sorted({slot(identity) for identity in ids[::3]}))
    assert sorted(census.within(slots)) == sorted(identity for identity in ids if slot(identity) in set(slots.tolist()))
    assert census.added == 100 and Census([]).within(slots) == []


@pytest.mark.parametrize("here", [False, True])
def test_locations_travel_as_text(here: bool) -> None:
    assert parse_location(str(Location(N2, here))) == Location(N2, here)
    assert parse_location("") is None


@pytest.mark.parametrize("text", ["node-1", "#5", "node-1#", "node-1#x", "!"])
def test_bad_locations_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_location(text)


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    cache = LocationCache(2)
    ids = [ActorId(f"near/{n}") for n in range(3)]
    for identity in ids:
        cache.put(identity, N1)
    assert [cache.find(identity) for identity in ids] == [None, N1, N1]
    cache.keep({N2})
    assert len(cache) == 0
