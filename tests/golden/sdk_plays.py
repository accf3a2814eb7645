"""A game played by the SDK of commit 7cd968a, as a program of its own:

    python sdk_plays.py SDK.zip         settings as JSON on standard input; the report, as JSON, on standard output

It says `{"drain": NODE}` when the cluster is to drain the node of a player, and goes on when a line comes back.
It knows nothing of the project but that SDK: whatever it imports, it imports from the zip.
"""

import asyncio
import json
import sys
from typing import Any

sys.path.insert(0, sys.argv[1])

import garrison
from garrison.messages import (
    Kill,
    MatchAssigned,
    MatchGet,
    MatchJoin,
    MatchLeave,
    MatchList,
    MatchOptions,
    Medal,
    PresenceGet,
    ProfileGet,
)

MATCH = "sdk-1"
OPTIONS = MatchOptions(mode="slayer", map_name="Recharge", teams=2, score_limit=0, countdown_ms=0)


def say(**told: Any) -> None:
    print(json.dumps(told), flush=True)


def listen_for_going(client: garrison.Client) -> list[bool]:
    """Whether the client was elsewhere yet, each time that it is told where to go."""
    told: list[bool] = []
    move = client._move

    def heard(going: Any) -> None:
        told.append(going.url != client.url)
        move(going)

    client._move = heard  # type: ignore[method-assign]
    return told


class Reader:
    """A watch that is read to its end, or to a number, by a task."""

    def __init__(self, client: garrison.Client) -> None:
        self.watch = client.watch(f"match/{MATCH}")
        self.events: list[tuple[int, Any]] = []
        self._came = asyncio.Event()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for number, event in self.watch:
            self.events.append((number, event))
            self._came.set()

    async def up_to(self, number: int) -> None:
        async with asyncio.timeout(20):
            while not self.events or self.events[-1][0] < number:
                self._came.clear()
                await self._came.wait()

    @property
    def whole(self) -> bool:
        """Each event once and in order, from the first on."""
        return [number for number, _ in self.events] == list(range(1, len(self.events) + 1))


async def again(client: garrison.Client, connects: int) -> None:
    """Until the client is connected for the next time."""
    async with asyncio.timeout(20):
        while client.stats.connects <= connects or not client.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def main(told: dict[str, Any]) -> dict[str, Any]:  # noqa: PLR0915 - one story
    assert garrison.__file__.startswith(sys.argv[1]), garrison.__file__
    near = told["url"]
    tokens: dict[str, str] = told["tokens"]
    report: dict[str, Any] = {"sdk": garrison.__version__}

    async with (
        garrison.connect(near, tokens["host"]) as host_client,
        garrison.connect(near, tokens["ann"]) as ann,
        garrison.connect([near], lambda: tokens["bob"]) as bob,
        garrison.Host(host_client, MATCH, options=OPTIONS, tick_interval_s=0.2) as host,
    ):
        report["redirects"] = {"ann": ann.stats.redirects, "bob": bob.stats.redirects}
        report["nodes"] = {"ann": ann.welcome.node, "bob": bob.welcome.node, "host": host_client.welcome.node}
        await ann.set_presence("busy", "In the lobby")
        await ann.set_profile("Ann", "an emblem")
        seen = await bob.request(PresenceGet("ann"))
        report["presence"] = [seen.status, seen.activity]
        await host.create()
        readers = [Reader(ann), Reader(bob), Reader(host_client)]
        for client in (ann, bob):
            await client.request(MatchJoin(MATCH))
        async with asyncio.timeout(20):
            async for push in ann.pushes():
                if isinstance(push, MatchAssigned):
                    report["assigned"] = push.match
                    break
        await host.start()
        await host.report(*(Kill(1_000 * number, "ann", "bob") for number in range(20)), Medal(20_000, "ann", "Ace"))
        await host.drain()
        for reader in readers:
            await reader.up_to(host.next_seq - 1)

        connects, link = ann.stats.connects, ann._link
        link.ws.transport.abort()
        await again(ann, connects)
        report["resumed"] = [ann.welcome.recovered, ann.stats.recovered]
        await host.report(*(Kill(21_000 + number, "bob", "ann") for number in range(10)))
        await host.drain()
        for reader in readers:
            await reader.up_to(host.next_seq - 1)

        going = {client: listen_for_going(client) for client in (ann, bob, host_client)}
        moving = {
            client: client.stats.connects
            for client in (ann, bob, host_client)
            if client.welcome.node == ann.welcome.node
        }
        playing = True

        async def play() -> None:
            time_ms = 30_000
            while playing:
                time_ms += 10
                await host.report(Kill(time_ms, "ann", "bob"))
                await host.drain()
                await asyncio.sleep(0.02)

        task = asyncio.create_task(play())
        say(drain=ann.welcome.node)
        await asyncio.to_thread(sys.stdin.readline)
        for client, connects in moving.items():
            await again(client, connects)
        playing = False
        await task
        report["after"] = sorted({client.welcome.node for client in (ann, bob, host_client)})
        report["going"] = [going[client][:1] for client in moving]
        report["recovered"] = [client.welcome.recovered for client in moving]
        await ann.request(MatchLeave(MATCH))
        board = await ann.request(MatchGet(MATCH))
        report["kills"] = {line.player: line.kills for line in board.players}
        listed = await bob.request(MatchList())
        report["listed"] = [[row.match, row.map_name] for row in listed.matches]
        await host.end()
        for reader in readers:
            await reader.up_to(host.next_seq - 1)
            await reader.watch.aclose()
            await reader.task
        report["events"] = [len(reader.events) for reader in readers]
        report["whole"] = [reader.whole for reader in readers]
        report["last"] = type(readers[0].events[-1][1]).__name__
        report["gaps"] = [client.stats.push_gaps for client in (ann, bob, host_client)]
        profile = await bob.request(ProfileGet("ann"))
        report["profile"] = [profile.display_name, profile.emblem]
        try:
            await ann.request(MatchGet("no-such-match"))
        except garrison.errors.NotFound as error:
            report["missing"] = error.code
    return report


if __name__ == "__main__":
    say(report=asyncio.run(main(json.loads(sys.stdin.readline()))))
