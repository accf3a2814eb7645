"""A player is erased in the simulated cluster, amid troubles; the search against a row that names it."""

import msgspec
import pytest

from server.ids import actor_id
from server.runtime.clock import SystemClock
from server.storage.memory import EntityRow, MemoryDatabase
from tests.sim.erasures import ANN, Rows, erasures


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_nothing_names_the_erased_and_nothing_makes_it_again(seed: int) -> None:
    assert erasures(seed) == []


def test_search_finds_a_row_that_names_it() -> None:
    database = MemoryDatabase(SystemClock())
    named = {"links": {ANN: 1}}
    database.entities[actor_id("friends", "p1")] = EntityRow(state=msgspec.msgpack.encode(named))
    database.entities[actor_id("friends", ANN)] = EntityRow()
    database.entities[actor_id("friends", "p2")] = EntityRow(state=msgspec.msgpack.encode({"links": {"p11": 1}}))
    assert Rows(database).naming(ANN) == [actor_id("friends", "p1"), actor_id("friends", ANN)]
