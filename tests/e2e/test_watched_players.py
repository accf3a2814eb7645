"""Players who watch players on a real cluster, with the SDK: what a friend sees and what a stranger, what those who are
nowhere cost, what a client gets that was away, and what everybody sees whose friends' node dies. One cluster has all of
it, and loses its second node in the last test."""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from itertools import dropwhile
from typing import Any

import pytest
import pytest_asyncio

import garrison
from garrison.messages import PlayerPicture, PresenceChanges
from server.cli.local_cluster import LocalCluster
from server.lab.chaos.nodes import metrics
from server.sessions.tokens import issue
from tests.support.local_clusters import local_cluster
from tests.support.sdk import PATIENT
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    with pytest.MonkeyPatch.context() as patch:
        async with local_cluster(tmp_path_factory.mktemp("watched") / "home", "watched", patch, nodes=3) as nodes:
            yield nodes


def token(cluster: LocalCluster, subject: str, role: str = "player") -> str:
    key = cluster.home.key_file.read_text().strip().encode()
    return issue(key, subject, role, 3600, time.time_ns() // 1_000_000)


def urls(cluster: LocalCluster, *nodes: int) -> list[str]:
    return [cluster.nodes[node].ready["client_url"] for node in nodes]


def client(cluster: LocalCluster, subject: str, *nodes: int) -> garrison.Client:
    """A player whose client knows these nodes."""
    return garrison.connect(urls(cluster, *nodes), token(cluster, subject), options=PATIENT)


def rows(cluster: LocalCluster, statement: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(cluster.home.database)) as connection:
        return connection.execute(statement, values).fetchall()


def node_of(cluster: LocalCluster, player: str) -> str | None:
    """The node at which a player lives, by the store."""
    found = rows(cluster, "SELECT owner_node FROM players WHERE player_id = ?", player)
    return found[0][0] if found else None


def statuses(watch: garrison.PlayersWatch[PlayerPicture]) -> dict[str, str]:
    return {player: picture.status for player, picture in watch.players.items()}


GHOSTS = [f"ghost-{number}" for number in range(1_000)]
FEW = 10
"""More than nodes and the service itself cost meanwhile."""
COSTS = ("activations_created_total", "claims_total", "flushed_rows_total", "dirty")


async def total(cluster: LocalCluster) -> dict[str, float]:
    """What actors and rows have cost all nodes so far, and the players whom nodes watch now."""
    found = [await metrics(node) for node in cluster.nodes]
    return {name: sum(each[name] for each in found) for name in (*COSTS, "presence_entries")}


async def has_entries(cluster: LocalCluster, wanted: int) -> bool:
    """Whether the nodes watch so many players now, each for all of its sessions."""
    return (await total(cluster))["presence_entries"] == wanted


async def test_a_thousand_players_who_are_nowhere_cost_no_activation_no_claim_and_no_row(cluster: LocalCluster) -> None:
    async with garrison.connect(urls(cluster, 0), token(cluster, "lobby", "service"), options=PATIENT) as service:
        before = await total(cluster)
        async with service.watch_players(GHOSTS) as watch:
            await watch.ready()
            assert statuses(watch) == dict.fromkeys(GHOSTS, "offline")
            assert len(await service.presence_list(GHOSTS)) == len(GHOSTS)
            await until(lambda: has_entries(cluster, len(GHOSTS)))
        await until(lambda: has_entries(cluster, 0))
        after = await total(cluster)
        cost = {name: after[name] - before[name] for name in COSTS}
        assert all(more < FEW for more in cost.values()), cost
    for table, column in (("players", "player_id"), ("friends", "player_id")):
        assert rows(cluster, f"SELECT * FROM {table} WHERE {column} LIKE 'ghost-%'") == []


async def test_friends_and_strangers_see_a_player_come_act_go_and_be_blocked(cluster: LocalCluster) -> None:
    async with (
        client(cluster, "ann", 0) as ann,
        client(cluster, "cyd", 2) as cyd,
        ann.watch_players(["bob", "nobody"]) as friend,
        cyd.watch_players(["bob"]) as stranger,
    ):
        await friend.ready()
        await stranger.ready()
        assert statuses(friend) == {"bob": "offline", "nobody": "offline"}
        assert node_of(cluster, "bob") is None and node_of(cluster, "nobody") is None
        async with client(cluster, "bob", 1) as bob, bob.friends.changes() as changes:
            await until(lambda: friend.players["bob"].status == stranger.players["bob"].status == "online")
            await ann.friends.invite("bob")
            assert (await anext(changes)).state == "inviting"  # another node has to hear of it first
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


class Away:
    """A client that can be kept away: it is asked for a token before each connection. `told`: players of the frames of
    changes that came, as often as they came."""

    def __init__(self, cluster: LocalCluster, subject: str, role: str, *nodes: int) -> None:
        self._token, self._may_come = token(cluster, subject, role), asyncio.Event()
        self._may_come.set()
        self.client = garrison.connect(urls(cluster, *nodes), self._come, options=PATIENT)
        self.told: list[str] = []
        people = self.client._core.people
        take_in = people.on_changes

        def on_changes(message: PresenceChanges, now: float) -> None:
            self.told += [item.player for item in message.items]
            take_in(message, now)

        people.on_changes = on_changes  # type: ignore[method-assign]

    async def _come(self) -> str:
        await self._may_come.wait()
        return self._token

    def leave(self) -> None:
        """Break the connection without a word, and stay away."""
        self._may_come.clear()
        assert self.client._ws is not None
        self.client._ws.transport.abort()
        self.told.clear()

    def come_back(self) -> None:
        self._may_come.set()

    @property
    def node(self) -> str:
        assert self.client.welcome is not None
        return self.client.welcome.node


async def test_a_session_that_resumes_at_its_node_or_another_is_told_of_real_differences_only(
    cluster: LocalCluster,
) -> None:
    names = [f"friend-{number}" for number in range(8)]
    changes, comes, goes, *same = names
    late = same[-1]
    there, elsewhere = Away(cluster, "gil", "player", 0, 1, 2), Away(cluster, "shop", "service", 0, 1)
    async with AsyncExitStack() as stack:
        players = {
            name: await stack.enter_async_context(client(cluster, name, 0, 1, 2)) for name in names if name != comes
        }
        watches = [
            await stack.enter_async_context(each.watch_players(names))
            for each in (
                await stack.enter_async_context(there.client),
                await stack.enter_async_context(elsewhere.client),
                await stack.enter_async_context(client(cluster, "observer", 0, 1, 2)),
            )
        ]
        by_player, by_service, by_observer = watches
        at_first = {**dict.fromkeys(names, "online"), comes: "offline"}
        await until(lambda: all(statuses(watch) == at_first for watch in watches))
        nodes = [there.node, elsewhere.node]
        there.leave()
        elsewhere.leave()
        await players[changes].set_presence("busy")
        await players[goes].aclose()
        await stack.enter_async_context(client(cluster, comes, 0, 1, 2))
        now = {**at_first, changes: "busy", comes: "online", goes: "offline"}
        await until(lambda: statuses(by_observer) == now and by_observer.players[goes].last_seen_ms > 0)
        there.come_back()
        elsewhere.come_back()
        await until(lambda: statuses(by_player) == statuses(by_service) == now)
        assert there.client.stats.recovered == elsewhere.client.stats.recovered == 1
        assert (nodes[0] == there.node, nodes[1] == elsewhere.node) == (True, False)
        assert set(there.told) == set(elsewhere.told) == {changes, comes, goes}
        await players[late].set_presence("busy")  # whatever was on its way came before this
        await until(lambda: by_player.players[late].status == by_service.players[late].status == "busy")
        assert set(there.told) == set(elsewhere.told) == {changes, comes, goes, late}


async def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Eyes:
    """A player who watches all, and keeps what it saw."""

    def __init__(self, player: garrison.Client, watch: garrison.PlayersWatch[PlayerPicture]) -> None:
        self.player, self.watch = player, watch
        self.saw: dict[str, list[str]] = {}
        """The statuses of each player, in order."""

    async def look(self) -> None:
        async for player, picture in self.watch:
            assert picture is not None
            self.saw.setdefault(player, []).append(picture.status)


HOLD_S = 4.0
"""Time after a fault within which a picture is right or said to be unknown (docs/guarantees.md)."""
SLOW_S = 6.0
"""Time that a busy machine may take beyond that."""


async def test_when_a_node_dies_every_picture_is_right_or_unknown_and_then_right(cluster: LocalCluster) -> None:
    """Whether somebody who does not come back is offline or unknown depends on what their row says, for twenty seconds:
    that they are offline in the end is shown in `test_vanished_player.py`."""
    names = [f"player-{number}" for number in range(12)]
    victim = cluster.nodes[1]
    async with AsyncExitStack() as stack:
        players = {name: await stack.enter_async_context(client(cluster, name, 0, 1, 2)) for name in names}
        eyes: dict[str, Eyes] = {}
        for name, player in players.items():
            eyes[name] = Eyes(player, await stack.enter_async_context(player.watch_players([*names, "absent"])))
            stack.push_async_callback(cancel, asyncio.create_task(eyes[name].look()))
        before = {**dict.fromkeys(names, "online"), "absent": "offline"}
        await until(lambda: all(statuses(each.watch) == before for each in eyes.values()))
        hit = [name for name, player in players.items() if player.welcome and player.welcome.node == victim.name]
        assert 2 <= len(hit) < len(names), "some players are at the node, and some are not"
        gone, back = hit[::2], hit[1::2]
        for each in eyes.values():
            each.saw.clear()

        os.kill(victim.pid, signal.SIGKILL)
        killed = time.monotonic()
        async with asyncio.timeout(SLOW_S):
            await asyncio.gather(*(players[name].aclose() for name in gone))
        left = {name: each for name, each in eyes.items() if name not in gone}

        def is_told(name: str, others: Sequence[str], allowed: Collection[str]) -> bool:
            told = statuses(left[name].watch)
            return all(told[other] in allowed for other in others)

        # Whoever is served is told of nobody who is gone that they are here.
        await until(
            lambda: all(is_told(name, gone, ("offline", "unknown")) for name in left if name not in back),
            timeout_s=HOLD_S + SLOW_S,
        )
        honest_s = time.monotonic() - killed
        await until(lambda: all(players[name].connected for name in back), timeout_s=30)
        failover_s = time.monotonic() - killed
        for name in back:
            await players[name].set_presence("busy")
        after = {name: (status,) for name, status in before.items()}
        after |= dict.fromkeys(gone, ("offline", "unknown")) | dict.fromkeys(back, ("busy",))
        await until(
            lambda: all(each.watch.current and is_right(statuses(each.watch), after) for each in left.values()),
            timeout_s=HOLD_S + SLOW_S,
        )
        right_s = time.monotonic() - killed
        print(
            f"{len(hit)} of {len(names)} players were there: no picture wrong after {honest_s:.2f} s, served again "
            f"after {failover_s:.2f} s, every picture right after {right_s:.2f} s"
        )
        await until(lambda: all(each.saw.get(name, [""])[-1] in after[name] for each in left.values() for name in hit))
        for each in left.values():
            for name in (*names, "absent"):
                assert is_in_order(each.saw.get(name, []), name in gone, name in back, before[name]), (name, each.saw)


def is_right(told: Mapping[str, str], right: Mapping[str, Collection[str]]) -> bool:
    return told.keys() == right.keys() and all(status in right[player] for player, status in told.items())


def is_in_order(saw: list[str], gone: bool, back: bool, before: str) -> bool:
    """Tell whether a watcher may have seen this of a player: of one who stays nothing else, of one who goes never again
    that it is here, of one who comes back with another status that alone at the end; and unknown at any time."""
    known = [status for status in saw if status != "unknown"]
    rest = list(dropwhile(lambda status: status == before, known))
    if gone:
        return rest == ["offline"] * len(rest)
    if not back:
        return rest == []
    return rest[-1:] == ["busy"] and before not in rest[rest.index("busy") :]
