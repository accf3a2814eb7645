"""A gateway goes over to another process, with descriptors over a socket pair, while 200 SDK clients send heartbeats,
watch players and are pushed to: none notices."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import garrison
from garrison.messages import MatchAssigned
from tests.support.gateways import token
from tests.support.sdk import until
from tests.support.succession_processes import WATCHED

CLIENTS = int(os.environ.get("SUCCESSION_CLIENTS", "200"))


class Process:
    """One of the two; it speaks in lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def hears(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        await self.process.stdin.drain()

    async def says(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while True:
            line = await self.process.stdout.readline()
            assert line, "it has ended"
            if line.startswith(b"{"):
                said: dict[str, Any] = json.loads(line)
                return said


@asynccontextmanager
async def running(role: str, end: socket.socket) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.succession_processes", role, str(end.fileno()),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, pass_fds=[end.fileno()], limit=2**22,
    )  # fmt: skip
    end.close()
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Member:
    """A client, and what it was pushed."""

    def __init__(self, client: garrison.Client, watch: Any) -> None:
        self.client, self.watch = client, watch
        self.words: list[int] = []

    async def listen(self) -> None:
        async for push in self.client.pushes():
            if isinstance(push, MatchAssigned):
                self.words.append(int(push.match))


async def test_200_clients_notice_nothing_when_their_gateway_goes_over_to_another_process() -> None:
    one, other = socket.socketpair()
    async with AsyncExitStack() as stack, asyncio.timeout(110):
        old = await stack.enter_async_context(running("predecessor", one))
        new = await stack.enter_async_context(running("heir", other))
        url = (await old.says())["url"]
        members: list[Member] = []
        players = [f"shown{number}" for number in range(WATCHED)]
        for number in range(CLIENTS):
            client = garrison.connect(url, token(f"c{number}"))
            await stack.enter_async_context(client)
            watch = await stack.enter_async_context(client.watch_players(players, lambda value: value))
            member = Member(client, watch)
            members.append(member)
            listening = asyncio.get_running_loop().create_task(member.listen())
            stack.callback(listening.cancel)
        for member in members:
            await member.watch.ready()
        await asyncio.sleep(0.3)
        before = [member.client.stats.heartbeats_acknowledged for member in members]
        await old.hears()
        figures = await new.says()
        assert await old.process.wait() == 0
        late = garrison.connect(url, token("late"))
        await stack.enter_async_context(late)
        assert late.connected
        await until(
            lambda: all(
                member.client.stats.heartbeats_acknowledged > count
                for member, count in zip(members, before, strict=True)
            ),
            60.0,
        )
        await new.hears()
        told = await new.says()
        words = [told["words"][f"c{number}"] for number in range(CLIENTS)]
        await until(lambda: [member.words[-1:] for member in members] == [[count] for count in words], 60.0)
        truth = {f"shown{number}": _newest(number, told["moves"]) for number in range(WATCHED)}
        await until(lambda: all(member.watch.players == truth for member in members), 60.0)
        for number, member in enumerate(members):
            stats = member.client.stats
            assert member.words == list(range(1, words[number] + 1)), number
            assert (stats.connects, stats.push_gaps, stats.pushes_dropped) == (1, 0, 0), (number, stats)
        assert figures["sessions"] == CLIENTS and figures["parted"] == {} and told["not_carried"] == {}
        print(figures)
        await new.hears()


def _newest(number: int, moves: int) -> object:
    """The newest look of a watched player after so many moves; before the first: gone."""
    newest = max(move for move in range(moves - WATCHED + 1, moves + 1) if move % WATCHED == number)
    return newest if newest > 0 else "gone"
