"""An orderly stop of one of two real nodes, under heartbeats, commands and streams, with the real
SDK: every session is recovered on the other node, and nobody misses anything."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import garrison
from garrison.messages import Ended, Kill, MatchOptions
from migrations import upgrade
from server.drivers import build_node
from server.ids import actor_id
from server.node import Node
from server.sessions.tokens import issue
from server.settings import from_tree
from tests.support.waiting import until

KEY = "a signing key of thirty-two bytes and more"
KILLS = 120


async def node(folder: Path, name: str, seeds: list[str]) -> Node:
    tree: dict[str, Any] = {
        "node": name,
        "store": {"url": f"sqlite:///{folder}/game.db", "flush_interval_s": 0.05},
        "gossip": {"seeds": seeds},
        "gateway": {"port": 0, "heartbeat_interval_s": 1.0, "cumulative_ack_interval_s": 0.1},
        "admin": {"enabled": False},
        "security": {"signing_key": KEY, "cluster_key": base64.b64encode(bytes(32)).decode()},
        "log": {"level": "error"},
    }
    made = build_node(from_tree(tree))
    await made.start()
    return made


def client(nodes: list[Node], subject: str, role: str = "player") -> garrison.Client:
    token = issue(KEY.encode(), subject, role, 600.0, nodes[0].clock.wall_ms())
    return garrison.connect([one.client_url for one in nodes], token)


def players_of(one: Node, count: int) -> list[str]:
    """Players whose slots are at this node."""
    owned = (f"p{n}" for n in range(1_000) if one.system.owner(actor_id("player", f"p{n}")) == one.system.me)
    return [next(owned) for _ in range(count)]


class Watching:
    """Each client's view of the match: the numbers of its events, to the last."""

    def __init__(self, clients: list[garrison.Client]) -> None:
        self.seen: list[list[int]] = [[] for _ in clients]
        self.tasks = [asyncio.create_task(self._watch(one, seen)) for one, seen in zip(clients, self.seen, strict=True)]

    async def _watch(self, one: garrison.Client, seen: list[int]) -> None:
        async with one.watch("match/m") as stream:
            async for seq, event in stream:
                seen.append(seq)
                if isinstance(event, Ended):
                    return

    async def everything(self) -> int:
        """How many events there were; everybody has seen each once and in order."""
        async with asyncio.timeout(60):
            await asyncio.gather(*self.tasks)
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in self.seen)
        assert len({len(numbers) for numbers in self.seen}) == 1
        return len(self.seen[0])


async def play(clients: list[garrison.Client], players: list[str], stop: Callable[[], Awaitable[None]]) -> Watching:
    """A match from end to end; `stop` is called after a quarter of it, and awaited at its end."""
    async with garrison.Host(clients[-1], "m", options=MatchOptions(score_limit=0, countdown_ms=0)) as host:
        await host.create()
        for one in clients[:-1]:
            await one.join("m")
        await host.start()
        watching = Watching(clients)
        stopping: asyncio.Future[None] | None = None
        for number in range(KILLS):
            killer, victim = players[number % len(players)], players[(number + 1) % len(players)]
            await host.report(Kill(number * 100, killer, victim))
            if number == KILLS // 4:
                stopping = asyncio.ensure_future(stop())
            if number % 4 == 0:
                await asyncio.gather(*(one.set_profile(f"{number}") for one in clients[:-1]))
        assert stopping is not None
        await stopping
        await host.end()
    return watching


async def test_no_session_is_lost_by_a_planned_stop(tmp_path: Path) -> None:
    await asyncio.to_thread(upgrade, f"sqlite:///{tmp_path}/game.db")
    first = await node(tmp_path, "node-1", [])
    second = await node(tmp_path, "node-2", [first.drivers.membership.endpoint])  # type: ignore[attr-defined]
    nodes, running = [first, second], [first, second]
    await until(lambda: all(sum(m.state == "up" for m in one.system.view.members.values()) == 2 for one in nodes))
    players = [*players_of(first, 3), *players_of(second, 3)]
    clients = [client(nodes, player) for player in players]
    clients.append(client([first], "h", "host"))  # it knows only the node that stops

    async def stop() -> None:
        running.remove(first)
        await first.stop()

    try:
        for one in clients:
            await one.open()
        moved = [one for one in clients if one.url == first.client_url]
        assert moved == [*clients[:3], clients[-1]]
        watching = await play(clients, players, stop)
        assert await watching.everything() >= KILLS
        for one in clients:
            assert (one.url, one.stats.push_gaps) == (second.client_url, 0)
            assert (one.stats.connects, one.stats.recovered) == ((2, 1) if one in moved else (1, 0))
        assert first.metrics.sessions_handed_over_total == len(moved)
        assert second.metrics.sessions_resumed_total == len(moved)
        for player in players:
            assert (await clients[0].get_presence(player)).status == "online"
    finally:
        await asyncio.gather(*(one.aclose() for one in clients))
        await asyncio.gather(*(one.stop() for one in running))
