"""Written-through actors: what a turn says leaves once its change is in the store, and not before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from server.actors.actor import Actor, read_only, remote
from server.actors.app import App
from server.errors import DeadlineExceeded, Fenced, Unavailable
from server.ids import actor_id
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from tests.support.engine import Cluster, TestSystem, cluster
from tests.support.tiny import Total
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


class Vault(Actor[Total]):
    """Says nothing of a deposit before the store has it."""

    kind = "vault"
    durability = "written_through"
    State = Total

    @remote
    def deposit(self, n: int) -> int:
        self.state = replace(self.state, total=self.state.total + n)
        self.tell(Witness, "w", Witness.hear, self.state.total)
        return self.state.total

    @read_only
    def total(self) -> int:
        return self.state.total


class Witness(Actor[Total]):
    """In memory: the last deposit that it was told of."""

    kind = "witness"
    State = Total

    @remote
    def hear(self, total: int) -> None:
        self.state = Total(total)

    @read_only
    def heard(self) -> int:
        return self.state.total


V, V2, W = actor_id("vault", "v"), actor_id("vault", "v2"), actor_id("witness", "w")
AppOfVaults = App("vaults", (Vault, Witness))


@asynccontextmanager
async def vaults(*names: str, **tree: Any) -> AsyncIterator[Cluster]:
    async with cluster(names or ("node-1",), app=AppOfVaults, **tree) as world:
        yield world


async def _deposits(system: TestSystem, n: int) -> "asyncio.Future[Any]":
    """A deposit whose commit the store holds up."""
    await system.ask(V, "total", ())
    if system.find(V) is None:
        await system.ask(V, "deposit", (0,))
    system.faults.hold = asyncio.Event()
    writes = _writes(system)
    answer = system.ask_now(V, "deposit", (n,))
    assert isinstance(answer, asyncio.Future)
    await until(lambda: _writes(system) > writes)
    return answer


def _writes(system: TestSystem) -> int:
    return sum(statement == "write" for statement, _ in system.faults.seen)


def _let_go(system: TestSystem) -> None:
    assert system.faults.hold is not None
    system.faults.hold.set()
    system.faults.hold = None


def _stored(world: Cluster, identity: Any = V) -> int:
    entity = world.database.entities[identity]
    return entity.state_version


async def test_answers_and_tells_leave_when_the_store_has_the_change() -> None:
    async with vaults() as world:
        system = world.systems["node-1"]
        answer = await _deposits(system, 5)
        assert not answer.done() and await system.ask(W, "heard", ()) == 0
        _let_go(system)
        assert await answer == 5
        await until(lambda: system.find(W).actor.state.total == 5)  # type: ignore[union-attr]
        assert _stored(world) == system.find(V).version == system.find(V).stored_version  # type: ignore[union-attr]


async def test_reads_wait_for_the_change_that_they_would_show() -> None:
    async with vaults() as world:
        system = world.systems["node-1"]
        answer = await _deposits(system, 5)
        read = system.ask_now(V, "total", ())
        await asyncio.sleep(0)
        assert not read.done()
        _let_go(system)
        assert await answer == await read == 5


async def test_changes_that_come_during_a_write_go_together_into_the_next() -> None:
    async with vaults() as world:
        system = world.systems["node-1"]
        first = await _deposits(system, 1)
        later = [system.ask_now(V, "deposit", (1,)) for _ in range(20)]
        writes = _writes(system)
        _let_go(system)
        assert [await answer for answer in (first, *later)] == list(range(1, 22))
        assert _writes(system) - writes == 1


async def test_no_flush_loop_is_needed_and_no_journal_speaks_for_the_store() -> None:
    async with vaults(make_journal=lambda name, metrics: MemoryJournal(MemoryJournals(), name, metrics)) as world:
        system = world.systems["node-1"]
        before = system.journal.position
        answer = await _deposits(system, 5)
        await asyncio.sleep(0.01)
        assert not answer.done() and system.journal.position == before
        _let_go(system)
        assert await answer == 5


async def test_while_the_store_is_away_who_waits_is_told_in_time_and_the_change_stands() -> None:
    async with vaults(actors={"call_timeout_s": 0.05}) as world:
        system = world.systems["node-1"]
        await system.ask(V, "deposit", (1,))
        system.faults.always["write"] = "refuse"
        with pytest.raises(DeadlineExceeded):
            await system.ask(V, "deposit", (5,))
        assert _stored(world) == 1 and (await system.ask(W, "heard", ())) == 1
        del system.faults.always["write"]
        await until(lambda: _stored(world) == 2)
        await until(lambda: system.find(W).actor.state.total == 6)  # type: ignore[union-attr]
        assert await system.ask(V, "total", ()) == 6


async def test_changes_are_refused_without_a_lease_and_past_the_bound() -> None:
    async with vaults() as world:
        system = world.systems["node-1"]
        await system.ask(V, "deposit", (1,))
        system.write_behind.refusal = "the store is away"
        with pytest.raises(Unavailable, match="away"):
            await system.ask(V, "deposit", (5,))
        system.write_behind.refusal, system.lease.safe_until = None, 0.0
        with pytest.raises(Unavailable, match="lease"):
            await system.ask(V, "deposit", (5,))
        assert await system.ask(V, "total", ()) == 1


async def test_a_lost_answer_of_the_store_is_found_out_and_told_once() -> None:
    async with vaults() as world:
        system = world.systems["node-1"]
        await system.ask(V, "deposit", (1,))
        system.faults.next["write"] = ["forget"]
        assert await system.ask(V, "deposit", (5,)) == 6
        assert _stored(world) == 2 and await system.ask(V, "total", ()) == 6


async def test_a_state_that_the_store_cannot_take_holds_up_no_other() -> None:
    async with vaults(actors={"call_timeout_s": 0.1}) as world:
        system = world.systems["node-1"]
        await system.ask(V, "deposit", (1,))
        await system.ask(V2, "deposit", (1,))
        system.faults.poison = lambda identity: identity == V
        poisoned, other = system.ask_now(V, "deposit", (5,)), system.ask_now(V2, "deposit", (5,))
        assert await other == 6
        with pytest.raises(DeadlineExceeded):
            await poisoned
        system.faults.poison = lambda identity: False
        await until(lambda: _stored(world) == 2)


async def test_nobody_was_told_of_what_a_node_had_not_committed_when_it_died() -> None:
    async with vaults("node-1", "node-2") as world:
        system, other = world.systems["node-1"], world.systems["node-2"]
        world.show("node-1")
        answer = await _deposits(system, 5)
        await world.remove("node-1")
        await other.node_store.bury(system.me)
        world.show("node-2")
        assert not answer.done() or answer.exception() is not None
        assert await other.ask(V, "total", ()) == 0 and await other.ask(W, "heard", ()) == 0
        assert await other.ask(V, "deposit", (7,)) == 7


async def test_a_commit_that_another_owner_forestalls_is_fenced() -> None:
    async with vaults("node-1", "node-2") as world:
        system, other = world.systems["node-1"], world.systems["node-2"]
        world.show("node-1")
        answer = await _deposits(system, 5)
        await other.node_store.bury(system.me)
        world.show("node-2")
        assert await other.ask(V, "deposit", (7,)) == 7
        _let_go(system)
        with pytest.raises(Fenced):
            await answer
        assert system.metrics.fenced_changes_lost_total == 0, "nobody was told of it"


async def test_a_vault_moves_while_deposits_are_made_and_loses_none() -> None:
    async with vaults("node-1", "node-2") as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        for system in (source, target):
            system.misplaced.home = lambda activation, system=system: system.me  # type: ignore[method-assign,misc]
        await source.ask(V, "deposit", (0,))
        source, target = (source, target) if source.find(V) else (target, source)
        made = [asyncio.ensure_future(source.ask(V, "deposit", (1,))) for _ in range(50)]
        await asyncio.sleep(0)
        activation = source.find(V)
        assert activation is not None and await source.migrator.move([activation], target.me) == 1
        made += [asyncio.ensure_future(source.ask(V, "deposit", (1,))) for _ in range(50)]
        assert sorted(await asyncio.gather(*made)) == list(range(1, 101))
        assert target.find(V) is not None and await target.ask(V, "total", ()) == 100
