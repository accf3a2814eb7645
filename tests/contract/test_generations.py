"""Generations of a run in the store: of the processes of one run only the newest may speak for it."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from persistence.sql_store import SqlStore
from server.errors import GarrisonError, Unavailable
from server.ids import Incarnation, NodeAddress, NodeId
from server.storage.ports import Claim, Elsewhere, EntityMove, Owned
from tests.support.databases import DATABASES, fresh, sql_store, sqlite_url
from tests.support.stores import LEASE_S, A, B, Pair
from tests.support.waiting import until

OLD, NEW, OTHER = "host-1:/old", "host-1:/new", "host-1:/other"
NOBODY: Final = NodeAddress(NodeId("nobody"), Incarnation(99))


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return fresh(request.param, tmp_path)


class Line(Pair):
    """Two runs, and the stores of three processes of the first: `a`, and its `heir`, and `rival`, another heir."""

    heir: Any
    rival: Any

    async def row(self) -> Any:
        return (await self.b.runs([self.on_a]))[self.on_a]


@pytest.fixture
async def line(database: Any) -> AsyncIterator[Line]:
    async with AsyncExitStack() as stack:
        a, b, heir, rival = [(await stack.enter_async_context(database.connect()))[0] for _ in range(4)]
        made = Line("wallet", a, b)
        made.heir, made.rival = heir, rival
        await made.register()
        yield made


async def test_heir_takes_a_run_over_once(line: Line) -> None:
    assert (await line.row()).generation == 0
    assert await line.heir.succeed_node(line.on_a, 1, NEW, 30.0)
    row = await line.row()
    assert (row.generation, row.journal, row.state) == (1, NEW, "up") and 0 < row.lease_left_s <= 30.0
    assert not await line.rival.succeed_node(line.on_a, 3, OTHER, 30.0), "no generation is left out"
    assert await line.rival.succeed_node(line.on_a, 2, OTHER, 30.0), "the next one has its heir too"
    assert not await line.heir.renew_lease(line.on_a, LEASE_S, 1)
    assert await line.rival.renew_lease(line.on_a, LEASE_S, 2)


async def test_a_repeated_statement_is_known_by_the_process_that_sends_it(line: Line) -> None:
    """The answer to the first one was lost."""
    assert await line.heir.succeed_node(line.on_a, 1, NEW, LEASE_S)
    assert await line.heir.succeed_node(line.on_a, 1, NEW, LEASE_S)
    assert not await line.heir.succeed_node(line.on_a, 1, OTHER, LEASE_S), "that is another statement"
    assert (await line.row()).journal == NEW


@pytest.mark.parametrize("journal", [NEW, ""])
async def test_two_heirs_of_a_generation_never_both_take_the_run(line: Line, journal: str) -> None:
    """Also where both name one place, or none."""
    taken = await asyncio.gather(
        line.heir.succeed_node(line.on_a, 1, journal, LEASE_S), line.rival.succeed_node(line.on_a, 1, journal, LEASE_S)
    )
    assert sorted(taken) == [False, True]


async def test_only_a_run_that_is_up_has_an_heir(line: Line) -> None:
    assert not await line.heir.succeed_node(NOBODY, 1, NEW, LEASE_S)
    await line.b.bury(line.on_a)
    assert not await line.heir.succeed_node(line.on_a, 1, NEW, LEASE_S)
    await line.b.retire_node(line.on_b)
    assert not await line.heir.succeed_node(line.on_b, 1, NEW, LEASE_S)


async def test_predecessor_that_wakes_up_can_do_nothing_in_the_name_of_the_run(line: Line) -> None:
    held = await line.own_a()
    await line.heir.succeed_node(line.on_a, 1, NEW, LEASE_S)
    assert not await line.a.renew_lease(line.on_a, LEASE_S)
    with pytest.raises(Unavailable):
        await line.a.claim(line.kind, line.claims("two"), line.on_a)
    await line.a.retire_node(line.on_a)
    assert (await line.row()).state == "up"
    move = EntityMove(line.id("one"), held.epoch, held.state_version, line.on_b)
    assert await line.a.migrate(line.kind, [move]) == {move.id: "fenced"}
    await line.a.release(line.kind, [(move.id, held.epoch)])
    assert (await line.b.claim(line.kind, [Claim(move.id, 1)], line.on_b))[move.id] == Elsewhere(line.on_a)


async def test_heir_owns_what_its_predecessor_owned(line: Line) -> None:
    held = await line.own_a()
    await line.heir.succeed_node(line.on_a, 1, NEW, LEASE_S)
    assert await line.write(line.heir, held.epoch, held.state_version + 1, 7) == "written"
    two = (await line.heir.claim(line.kind, [Claim(line.id("two"), 100)], line.on_a, None, 1))[line.id("two")]
    assert isinstance(two, Owned)
    move = EntityMove(line.id("one"), held.epoch, held.state_version + 1, line.on_b)
    assert await line.heir.migrate(line.kind, [move], 1) == {move.id: "moved"}
    await line.heir.release(line.kind, [(line.id("two"), two.epoch)], (), 1)
    assert isinstance((await line.b.claim(line.kind, line.claims("two"), line.on_b))[line.id("two")], Owned)
    await line.heir.retire_node(line.on_a, True, 1)
    assert (await line.row()).state == "left"


async def test_a_proof_of_the_predecessors_death_buries_nobody_once_the_heir_is_there(database: Any) -> None:
    """A neighbour goes by the place that the row named when it looked: the lock there is free, since that process is
    gone. Before the heir's statement the run is over by it, and then the heir is refused: a crash."""
    async with AsyncExitStack() as stack:
        a, b, heir = [(await stack.enter_async_context(database.connect()))[0] for _ in range(3)]
        first = NodeAddress(A, await a.register_node(A, LEASE_S, OLD))
        second = NodeAddress(B, await a.register_node(B, LEASE_S, OLD))
        assert await heir.succeed_node(first, 1, NEW, LEASE_S)
        assert not await b.bury(first, OLD)
        assert (await b.runs([first]))[first].state == "up"
        assert await b.bury(second, OLD)
        assert await b.bury(second, OTHER), "it is dead, whoever said so"
        assert not await heir.succeed_node(second, 1, NEW, LEASE_S)
        assert not await b.bury(NOBODY, OLD)
        assert await b.bury(first, NEW)
        assert not await heir.renew_lease(first, LEASE_S, 1)


async def test_a_race_of_predecessor_heir_and_neighbour_has_one_outcome(database: Any) -> None:
    """In whatever order their statements come: heir and predecessor never both hold the lease, and a run that was
    buried has no heir."""
    rng = random.Random(5)
    async with AsyncExitStack() as stack:
        a, b, heir, rival = [(await stack.enter_async_context(database.connect()))[0] for _ in range(4)]
        for _ in range(10):
            me = NodeAddress(A, await a.register_node(A, LEASE_S, OLD))
            asked = [
                ("old", a.renew_lease(me, LEASE_S)),
                ("heir", heir.succeed_node(me, 1, NEW, LEASE_S)),
                ("rival", rival.succeed_node(me, 1, OTHER, LEASE_S)),
                ("dead", b.bury(me, OLD)),
            ]
            rng.shuffle(asked)
            answers = await asyncio.gather(*(statement for _, statement in asked))
            said = {name: answer for (name, _), answer in zip(asked, answers, strict=True)}
            assert [said["heir"], said["rival"], said["dead"]].count(True) == 1, said
            assert not await a.renew_lease(me, LEASE_S)
            holds = [await heir.renew_lease(me, LEASE_S, 1), (await b.runs([me]))[me].state == "up"]
            assert holds == [not said["dead"]] * 2
            await b.bury(me)


# ---- surrender ----


async def test_a_store_that_is_surrendered_sends_nothing_whoever_asks(line: Line) -> None:
    held = await line.own_a()
    line.a.surrender()
    line.a.surrender()
    one = line.id("one")
    asked = [
        lambda: line.a.renew_lease(line.on_a, LEASE_S),
        lambda: line.a.claim(line.kind, line.claims("two"), line.on_a),
        lambda: line.write(line.a, held.epoch, held.state_version + 1, 9),
        lambda: line.a.release(line.kind, [(one, held.epoch)]),
        lambda: line.a.migrate(line.kind, [EntityMove(one, held.epoch, held.state_version, line.on_b)]),
        lambda: line.a.retire_node(line.on_a),
        lambda: line.a.bury(line.on_b),
        line.a.bury_expired,
        lambda: line.a.prune_nodes(0.0, 10),
        lambda: line.a.read(line.kind, [one]),
        line.a.living,
        lambda: line.a.due_reminders(0, 1),
    ]
    for ask in asked:
        with pytest.raises(Unavailable, match="handed its run on"):
            await ask()
    assert line.a.under_way == 0
    found = (await line.heir.claim(line.kind, [Claim(one, 100)], line.on_a))[one]
    assert isinstance(found, Owned) and found.state_version == held.state_version
    await line.a.close()


async def test_statements_are_counted_until_they_are_over(tmp_path: Path) -> None:
    """One that waits for the file's lock is under way, also when nobody waits for it any more; surrendered meanwhile,
    it is rolled back."""
    async with AsyncExitStack() as stack:
        url = sqlite_url(tmp_path)
        store, other = sql_store(url), sql_store(url)
        for each in (store, other):
            await each.open()
            stack.push_async_callback(each.close)
        me = NodeAddress(A, await store.register_node(A, LEASE_S))
        inside, free = threading.Event(), threading.Event()

        def hold(_connection: Any) -> None:
            inside.set()
            free.wait(30.0)

        holding = asyncio.ensure_future(_file(other).write(hold))
        await asyncio.to_thread(inside.wait, 30.0)
        retiring = asyncio.ensure_future(store.retire_node(me))
        await until(lambda: store.under_way == 1)
        retiring.cancel()
        await asyncio.gather(retiring, return_exceptions=True)
        assert store.under_way == 1
        store.surrender()
        free.set()
        await holding
        await until(lambda: store.under_way == 0)
        assert (await other.runs([me]))[me].state == "up"


async def test_surrender_waits_for_a_transaction_at_its_end_or_says_so(tmp_path: Path) -> None:
    store = sql_store(sqlite_url(tmp_path))
    await store.open()
    with _file(store)._ending, pytest.raises(Unavailable, match="does not come to its end"):
        _file(store).surrender(within_s=0.01)
    assert await store.register_node(A, LEASE_S) == 1
    store.surrender()
    with pytest.raises(GarrisonError):
        await store.register_node(B, LEASE_S)
    await store.close()


def _file(store: SqlStore) -> Any:
    return store._database._file  # type: ignore[attr-defined]
