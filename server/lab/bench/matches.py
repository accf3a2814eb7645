"""Live matches for benchmarks: made by a few hosts over their connections, within the rate of each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import msgspec

from server.errors import Unavailable
from server.lab.bench.raw_socket import RawSocket, connected, message

OPTIONS: Final = ["recorded", "", 0, 0, 0, 0]
AT_ONCE: Final = 40
"""Requests of a host under way at a time."""
ALIVE_S: Final = 12.0
"""Pause between two signs of life of one match; past 30 s its host counts as vanished."""


@asynccontextmanager
async def live_matches(url: str, tokens: Sequence[str], count: int) -> AsyncIterator[None]:
    """`count` matches in their lobbies, made by one host a token, whose hosts give signs of life while this lasts."""
    async with AsyncExitStack() as stack:
        makers = [await reporter(stack, url, token) for token in tokens]
        names = [[f"m{number}" for number in range(n, count, len(makers))] for n in range(len(makers))]
        await asyncio.gather(*(_make(maker, some) for maker, some in zip(makers, names, strict=True)))
        alive = [asyncio.create_task(_keep(maker, some)) for maker, some in zip(makers, names, strict=True)]
        try:
            yield
        finally:
            for task in alive:
                task.cancel()
            await asyncio.gather(*alive, return_exceptions=True)


async def left_matches(url: str, tokens: Sequence[str], count: int) -> None:
    """Make `count` matches in their lobbies, whose hosts are gone then."""
    async with AsyncExitStack() as stack:
        makers = [await reporter(stack, url, token) for token in tokens]
        names = [[f"m{number}" for number in range(n, count, len(makers))] for n in range(len(makers))]
        await asyncio.gather(*(_make(maker, some) for maker, some in zip(makers, names, strict=True)))


async def reporter(stack: AsyncExitStack, url: str, token: str) -> RawSocket:
    """A match host's connection, with a session on it. Raises `Unavailable`."""
    socket = await stack.enter_async_context(connected(url))
    answer = await socket.ask("hello", 1, token, None, 0, "host", False)
    if answer[0] != "welcome":
        raise Unavailable(f"a host was answered {answer}")
    return socket


async def accepted(socket: RawSocket, kind: str, number: int, *fields: object) -> None:
    """Send a match command as request `number`, and wait for its acceptance; pushes that come before it are dropped.
    Raises `Unavailable` for any other answer."""
    answer = await socket.ask(kind, number, *fields)
    while answer[:2] != ["accepted", number]:
        if answer[0] == "error":
            raise Unavailable(f"{kind} was answered {answer}")
        answer = msgspec.msgpack.decode(await socket.receive())


async def _make(socket: RawSocket, names: Sequence[str]) -> None:
    waiting, under_way = list(enumerate(names, 2)), dict[int, str]()
    while waiting or under_way:
        while waiting and len(under_way) < AT_ONCE:
            number, name = waiting.pop()
            under_way[number] = name
            await socket.send(message("match.create", number, "bench", number, name, OPTIONS))
        answer: list[Any] = msgspec.msgpack.decode(await socket.receive())
        if answer[0] not in ("accepted", "error"):
            continue  # a push, or a beat
        name = under_way.pop(answer[1])
        if answer[0] == "error":
            if answer[4] is None and answer[2] != "deadline_exceeded":
                raise Unavailable(f"a match was not made: {answer}")
            waiting.append((answer[1], name))  # the same command: it is done once
            await asyncio.sleep((answer[4] or 100) / 1000)


async def _keep(socket: RawSocket, names: Sequence[str]) -> None:
    reading = asyncio.create_task(socket.to_the_end())
    number, time_ms = 1_000_000, 0
    try:
        while True:
            time_ms += int(1000 * ALIVE_S)
            for name in names:
                number += 1
                await socket.send(message("match.tick", number, name, time_ms))
                await asyncio.sleep(ALIVE_S / len(names))
    finally:
        reading.cancel()
