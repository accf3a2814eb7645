"""Load-and-claim in batches: gathered, sorted, bounded in flight, first come first served."""

import asyncio
import random
from itertools import pairwise

import pytest

from server.errors import GarrisonError, Unavailable
from server.ids import ActorId, NodeAddress, NodeId
from server.liveness.lease import NodeLease
from server.liveness.neighbourhood import Neighbourhood
from server.liveness.undertaker import Undertaker
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import from_tree
from server.storage.claimer import AT_ONCE, Claimer
from server.storage.memory import MemoryDatabase
from server.storage.ports import Owned
from server.storage.takeover import Takeover
from tests.support.faulty import Faults, FaultyStore
from tests.support.tiny import Total
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


class Bench:
    def __init__(self, **actors: object) -> None:
        self.faults, self.metrics, self.supervisor = Faults(), Metrics(), Supervisor("test")
        self.store = FaultyStore(MemoryDatabase(LoopClock()), {"counter": Total, "ledger": Total}, self.faults)
        settings, clock = from_tree({"actors": actors}), LoopClock()
        lease = NodeLease(self.store, settings.store, clock, self.metrics, lambda: None)
        undertaker = Undertaker(
            nodes=self.store, lease=lease, neighbours=Neighbourhood(settings.store, clock), journal=None,
            settings=settings.store, clock=clock, metrics=self.metrics,
        )  # fmt: skip
        takeover = Takeover(
            nodes=self.store, entities=self.store, undertaker=undertaker, journal=None, settings=settings.journal,
            state_types={}, clock=clock, metrics=self.metrics, rng=random.Random(1),
        )  # fmt: skip
        self.claimer = Claimer(
            self.store, settings.actors, self.metrics, self.supervisor, lambda kind: kind == "ledger", takeover
        )

    async def start(self) -> "Bench":
        self.claimer.start(NodeAddress(NodeId("n"), await self.store.register_node(NodeId("n"), None)))
        return self

    def batches(self) -> list[list[str]]:
        return [[claim.id for claim in what] for statement, what in self.faults.seen if statement == "claim"]


def _id(kind: str, n: int) -> ActorId:
    return ActorId(f"{kind}/{n:04}")


async def test_claims_of_one_moment_share_statements_and_logged_kinds_go_first() -> None:
    bench = await Bench(claim_batch=10, claim_batches_in_flight=1).start()
    futures = [bench.claimer.claim(kind, _id(kind, n)) for n in range(15) for kind in ("counter", "ledger")]
    results = await asyncio.gather(*futures)
    assert all(isinstance(result, Owned) for result in results)
    assert [batch[0].partition("/")[0] for batch in bench.batches()] == ["ledger", "ledger", "counter", "counter"]
    assert all(batch == sorted(batch) and len(batch) <= 10 for batch in bench.batches())
    assert bench.metrics.claims_total == 30


async def test_activations_of_a_batch_go_on_a_few_in_a_turn_of_the_loop() -> None:
    bench = await Bench().start()
    futures = [bench.claimer.claim("counter", _id("counter", n)) for n in range(3 * AT_ONCE)]
    await futures[0]
    counts = [sum(future.done() for future in futures)]
    for _ in range(4):
        await asyncio.sleep(0)
        counts.append(sum(future.done() for future in futures))
    assert counts[-1] == 3 * AT_ONCE
    assert max(after - before for before, after in pairwise([0, *counts])) <= AT_ONCE


async def test_the_same_entity_is_claimed_once_and_each_time_with_a_newer_token() -> None:
    bench = await Bench().start()
    first, second = bench.claimer.claim("counter", _id("counter", 1)), bench.claimer.claim("counter", _id("counter", 1))
    assert first is second
    one = await first
    two = await bench.claimer.claim("counter", _id("counter", 1))
    assert isinstance(one, Owned) and isinstance(two, Owned) and two.epoch > one.epoch
    tokens = [claim.token for statement, what in bench.faults.seen if statement == "claim" for claim in what]
    assert tokens == sorted(set(tokens))


async def test_at_most_so_many_batches_are_in_flight_and_the_oldest_go_first() -> None:
    bench = await Bench(claim_batch=2, claim_batches_in_flight=2).start()
    bench.faults.hold = asyncio.Event()
    old = [bench.claimer.claim("counter", _id("counter", n)) for n in (8, 9, 6, 7)]
    await until(lambda: len(bench.batches()) == 2)
    late = [bench.claimer.claim("counter", _id("counter", n)) for n in (5, 4, 1)]
    await asyncio.sleep(0)
    assert bench.batches() == [["counter/0008", "counter/0009"], ["counter/0006", "counter/0007"]]
    bench.faults.hold.set()
    await asyncio.gather(*old, *late)
    assert bench.batches()[2:] == [["counter/0004", "counter/0005"], ["counter/0001"]]


@pytest.mark.parametrize("error", [Unavailable("planted"), RuntimeError("planted")])
async def test_a_batch_that_fails_answers_everybody_with_a_typed_error_and_the_next_goes_on(error: Exception) -> None:
    bench = await Bench(claim_batch=2, claim_batches_in_flight=1).start()
    errors = [error]

    def choose(statement: str) -> None:
        if errors:
            raise errors.pop()

    bench.faults.choose = choose
    results = await asyncio.gather(
        *(bench.claimer.claim("counter", _id("counter", n)) for n in range(4)), return_exceptions=True
    )
    assert [isinstance(result, GarrisonError) for result in results] == [True, True, False, False]
    assert isinstance(await bench.claimer.claim("counter", _id("counter", 0)), Owned)
