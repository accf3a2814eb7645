"""Players who watch players on a real cluster, with the SDK: what a friend sees, and what a stranger."""

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

import garrison
from server.cli.local_cluster import LocalCluster
from server.sessions.tokens import issue
from tests.support.local_clusters import local_cluster
from tests.support.sdk import FAST
from tests.support.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "home", "watched", monkeypatch, nodes=3) as nodes:
        yield nodes


def client(cluster: LocalCluster, subject: str, node: int) -> garrison.Client:
    """A player whose client begins at that node."""
    key = cluster.home.key_file.read_text().strip().encode()
    token = issue(key, subject, "player", 3600, time.time_ns() // 1_000_000)
    return garrison.connect([cluster.nodes[node].ready["client_url"]], token, options=FAST)


def node_of(cluster: LocalCluster, player: str) -> str | None:
    """The node at which a player lives, by the store."""
    with closing(sqlite3.connect(cluster.home.database)) as connection:
        found = connection.execute("SELECT owner_node FROM players WHERE player_id = ?", (player,)).fetchone()
    return found[0] if found else None


async def test_friends_and_strangers_see_a_player_come_act_go_and_be_blocked(cluster: LocalCluster) -> None:
    async with (
        client(cluster, "ann", 0) as ann,
        client(cluster, "cyd", 2) as cyd,
        ann.watch_players(["bob", "nobody"]) as friend,
        cyd.watch_players(["bob"]) as stranger,
    ):
        await friend.ready()
        await stranger.ready()
        assert {player: picture.status for player, picture in friend.players.items()} == {
            "bob": "offline", "nobody": "offline",
        }  # fmt: skip
        assert node_of(cluster, "bob") is None and node_of(cluster, "nobody") is None
        async with client(cluster, "bob", 1) as bob:
            await until(lambda: friend.players["bob"].status == stranger.players["bob"].status == "online")
            await ann.friends.invite("bob")
            await bob.friends.accept("ann")
            await bob.set_presence("online", "in the lobby")
            await until(lambda: friend.players["bob"].activity == "in the lobby")
            assert stranger.players["bob"].activity == ""
            await bob.friends.block("cyd")
            await until(lambda: stranger.players["bob"].status == "offline")
            assert stranger.players["bob"].last_seen_ms == 0
            assert friend.players["bob"].status == "online"
        await until(lambda: friend.players["bob"].status == "offline", timeout_s=60)
        await until(lambda: friend.players["bob"].last_seen_ms > 0)
        assert stranger.players["bob"].last_seen_ms == 0
        assert node_of(cluster, "nobody") is None
