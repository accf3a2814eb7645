"""The node of a player is killed and the player never comes back (F6): roster, presence and row say so in the end."""

import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.messages import MatchOptions as Options
from server.cli.local_cluster import LocalCluster
from server.sessions.tokens import issue
from tests.support.local_clusters import host_token, local_cluster
from tests.support.waiting import until

pytestmark = pytest.mark.slow
PLAYERS = 12


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "home", "vanished", monkeypatch) as nodes:
        yield nodes


def rows(cluster: LocalCluster, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(cluster.home.database)) as connection:
        return connection.execute(statement).fetchall()


def player_token(cluster: LocalCluster, name: str) -> str:
    key = cluster.home.key_file.read_text().strip().encode()
    return issue(key, name, "player", 3600, time.time_ns() // 1_000_000)


async def test_a_player_who_never_returns_is_gone_from_roster_presence_and_row(cluster: LocalCluster) -> None:
    one, two = cluster.nodes
    urls = [one.ready["client_url"], two.ready["client_url"]]
    names = [f"p{number}" for number in range(PLAYERS)]
    async with (
        garrison.connect(urls, host_token(cluster)) as client,
        AsyncExitStack() as open_watches,
        AsyncExitStack() as open_clients,
    ):
        host = garrison.Host(client, "m", options=Options(mode="recorded", map_name="Recharge", teams=0, max_players=0))
        await host.create()
        for name in names:
            player = await open_clients.enter_async_context(garrison.connect(urls, player_token(cluster, name)))
            await player.join("m")
        await host.start()
        here = "SELECT player_id, owner_node, last_seen_ms FROM players WHERE status = 'online' AND current_match = 'm'"
        await until(lambda: len(rows(cluster, here)) == PLAYERS)
        watch = await open_watches.enter_async_context(client.watch_players(names))
        await watch.ready()
        await until(lambda: all(watch.players[name].status == "online" for name in names))
        ((match_node,),) = rows(cluster, "SELECT owner_node FROM matches")
        victim = two if match_node == one.name else one
        lost = {name: seen for name, node, seen in rows(cluster, here) if node == victim.name}
        assert lost, "some players are at the other node than their match"
        os.kill(victim.pid, signal.SIGKILL)
        await open_clients.aclose()
        began = time.monotonic()

        def gone() -> list[tuple[Any, ...]]:
            return rows(cluster, "SELECT player_id, last_seen_ms FROM players WHERE status = 'offline'")

        await until(lambda: all(watch.players[name].status in ("unknown", "offline") for name in names), timeout_s=20)
        print(f"no watched player is shown any more {time.monotonic() - began:.1f} s after the node was killed")
        await until(lambda: lost.keys() <= {name for name, _ in gone()}, timeout_s=60)
        await until(lambda: all(watch.players[name].status == "offline" for name in names), timeout_s=20)
        print(f"{len(lost)} players offline {time.monotonic() - began:.1f} s after their node was killed")
        assert {name: seen for name, seen in gone() if name in lost} == lost
        assert rows(cluster, "SELECT count(*) FROM players WHERE current_match <> '' AND status <> 'offline'") == [(0,)]

        async def roster() -> set[str]:
            return {line.player for line in (await client.scoreboard("m")).players if line.present}

        async def nobody_is_left() -> bool:
            return not await roster()

        await until(nobody_is_left, timeout_s=30)
        for name, seen_ms in lost.items():
            presence = await client.get_presence(name)
            assert (presence.status, presence.match, presence.last_seen_ms) == ("offline", None, seen_ms)
        await host.aclose()
