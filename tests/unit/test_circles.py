"""What ends leaves no circle behind: a node of many objects looks for garbage among the newest of them only
(`garbage.py`), and would keep it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from server.errors import GarrisonError
from server.ids import ActorId, actor_id
from server.lab.bench.raw_socket import connected
from tests.support.circles import circles_of
from tests.support.engine import TestSystem, cluster
from tests.support.gateways import gateways, token
from tests.support.waiting import until

Life = Callable[[TestSystem, int], Awaitable[None]]


def counter(number: int) -> ActorId:
    return actor_id("counter", f"c{number}")


async def _away(system: TestSystem) -> None:
    await system.catalog.deactivate(list(system.catalog.live.values()))
    assert not system.catalog.live


async def _turn(system: TestSystem, number: int) -> None:
    await system.ask(counter(number), "add", (1,))
    await _away(system)


async def _turn_that_waits(system: TestSystem, number: int) -> None:
    await system.ask(counter(number), "slow_add", (1, 0.001))
    await _away(system)


async def _timer(system: TestSystem, number: int) -> None:
    await system.ask(counter(number), "add_later", (100.0,))
    await _away(system)


async def _log(system: TestSystem, number: int) -> None:
    await system.ask(actor_id("ledger", f"l{number}"), "add", (1,))
    await _away(system)


async def _fenced_in_its_turn(system: TestSystem, number: int) -> None:
    waiting = system.ask_now(counter(number), "slow_add", (1, 60.0))
    await until(lambda: counter(number) in system.catalog.live)
    system.catalog.live[counter(number)].fenced()
    try:
        with suppress(GarrisonError):
            await waiting
    finally:
        del waiting


async def _call_in_a_circle(system: TestSystem, number: int) -> None:
    with suppress(GarrisonError):
        await system.ask(counter(number), "add_by_way_of", ([f"other{number}", f"c{number}"], 1))


async def _call_that_takes_too_long(system: TestSystem, number: int) -> None:
    with suppress(GarrisonError):
        await system.ask(counter(number), "slow_add", (1, 0.05), timeout_s=0.01)
    await asyncio.sleep(0.1)
    await _away(system)


async def _load_that_fails(system: TestSystem, number: int) -> None:
    system.faults.always["claim"] = "refuse"
    with suppress(GarrisonError):
        await system.ask(counter(number), "add", (1,), timeout_s=0.01)
    system.faults.always.clear()


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "life",
    [
        _turn, _turn_that_waits, _timer, _log, _fenced_in_its_turn, _call_in_a_circle, _call_that_takes_too_long,
        _load_that_fails,
    ],
)  # fmt: skip
async def test_an_activation_that_ends_and_a_call_that_fails_leave_no_circle(life: Life) -> None:
    async with cluster() as world:
        system = world.systems["node-1"]
        assert await circles_of(lambda number: life(system, number)) == []


@pytest.mark.virtual_time
async def test_an_activation_that_moves_leaves_no_circle() -> None:
    async with cluster(("node-1", "node-2")) as world:
        one, two = world.systems["node-1"], world.systems["node-2"]

        async def move(number: int) -> None:
            for identity in (counter(number), actor_id("ledger", f"l{number}")):
                await one.ask(identity, "add", (1,))
            for source, target in ((one, two), (two, one)):
                await source.migrator.move(list(source.catalog.live.values()), target.me)
            for system in (one, two):
                await _away(system)

        assert await circles_of(move) == []


@pytest.mark.loops("uvloop")
@pytest.mark.parametrize("how", ["closes", "is cut", "watches", "is refused"])
async def test_a_session_and_its_connection_that_end_leave_no_circle(how: str) -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]

        async def session(number: int) -> None:
            async with connected(node.url) as client:
                subject = token("p") if how != "is refused" else "nonsense"
                await client.ask("hello", 1, subject, None, 0, "circles", False)
                if how == "watches":
                    await client.ask("watch", 2, "ledger/f", 0)
                    await client.ask("watch", 3, "ledger/unknown", 0)
                if how in ("closes", "watches"):
                    await client.ask("echo", 4, "x")
                    await client.ask("post", 5, "f", ["x"])
                    await client.ask("close", 6)
            await until(lambda: not len(node.listener.addresses))

        assert await circles_of(session) == []
