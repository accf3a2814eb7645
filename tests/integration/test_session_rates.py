"""The rate of a session's messages: a client that waits as it is told is served, and one that does not is closed."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from server.sessions.memory import ConnectionClosed
from server.wire.messages import CloseCode
from tests.support.gateways import WHO_COST, Echo, MemoryClient, Who, World, gateways

pytestmark = pytest.mark.virtual_time

SLOW = {"rate_per_s": 20, "rate_burst": 20, "rate_violations": 5}


async def welcomed(world: World) -> MemoryClient:
    client = world.client("node-1", "p")
    assert (await client.hello())[0] == "welcome"
    return client


async def obey(
    client: MemoryClient, in_flight: int, seconds: float, request: Any = Echo, args: tuple[Any, ...] = ("x",)
) -> Counter[str]:
    """Answers by type, with `in_flight` requests at a time; a refused one comes again when it was told to."""
    loop = asyncio.get_running_loop()
    answers: Counter[str] = Counter()
    end = loop.time() + seconds
    for _ in range(in_flight):
        await client.send(request(next(client.numbers), *args))
    while loop.time() < end:
        answer = await client.receive()
        answers[answer[0]] += 1
        message = client.pack(request(next(client.numbers), *args))
        if answer[0] == "error":
            assert answer[2] == "rate_limited"
            loop.call_later(answer[4] / 1000, client.end.send, message)
        else:
            client.end.send(message)
    return answers


@pytest.mark.parametrize("in_flight", [1, 2, 64])
async def test_a_client_that_waits_as_it_is_told_is_never_closed(in_flight: int) -> None:
    """F16: nor one with as many requests at a time as it may have, and it is served at the rate."""
    async with gateways() as world:
        client = await welcomed(world)
        answers = await obey(client, in_flight, 20.0)
        assert client.end.closed is None
        assert answers["error"] > 50
        assert answers["said"] > 0.8 * 20 * 200


async def test_refused_messages_count_in_a_row() -> None:
    """F16: one that is taken begins the count anew."""
    async with gateways(gateway=SLOW) as world:
        client = await welcomed(world)
        for _ in range(19):
            assert (await client.ask(Echo, "x"))[0] == "said"
        for _ in range(20):
            while (await client.ask(Echo, "x"))[0] != "error":
                pass
            refused = 1
            while refused < 4:
                refused += (await client.ask(Echo, "x"))[0] == "error"
            await asyncio.sleep(0.25)
        assert client.end.closed is None
        for _ in range(100):
            if client.end.closed is None:
                await client.send(Echo(next(client.numbers), "x"))
        assert await client.closed() == CloseCode.FLOOD


async def test_a_client_that_goes_on_over_the_rate_is_closed() -> None:
    """F16: also where some of its messages in between are taken."""
    async with gateways() as world:
        client = await welcomed(world)
        longest = row = 0
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(10_000):
                row = row + 1 if (await client.ask(Echo, "x"))[0] == "error" else 0
                longest = max(longest, row)
                await asyncio.sleep(1 / 800)
        assert closed.value.code == CloseCode.FLOOD
        assert longest < 10
        assert world.nodes["node-1"].metrics.rate_limited_total < 1_000


@pytest.mark.parametrize("in_flight", [1, 64])
async def test_requests_that_weigh_more_are_served_at_their_share_of_the_rate(in_flight: int) -> None:
    """F49: a list counts for many messages; who waits as told is served and never closed."""
    async with gateways() as world:
        client = await welcomed(world)
        answers = await obey(client, in_flight, 20.0, Who, ())
        assert client.end.closed is None
        most = (400 + 20 * 200) / WHO_COST
        assert 0.7 * most < answers["present"] <= most + 2
        assert answers["error"] < 4 * answers["present"], "few are refused twice"
