"""`friends`: players log in and watch their 200 friends, whose lists are in the store.

CPU us of three nodes for a login that watches its friends, until it has their presence, beside one that watches
nobody; the difference divided by the number of friends is `us_per_friend`: the list of friends, who are read from the
store, the pairs of watcher and player, the snapshot and its frames, and all that a request costs by itself. These come
one after another, while 2,000 players are online who watch theirs.

Before, those 2,000 come at once: all connections are there, all hellos are written in one burst, and each client asks
for its friends as soon as it is welcome. `complete_s` is the time until everybody has been told that each of its
friends is online; `neighbour_ratio` compares the p99 of heartbeats of 64 others during that burst, each of which beats
four times a second by itself, with the same burst where nobody watches. Before each burst nobody is online and no actor
is in memory.

`US_GOAL` is missed, and most of it by what such a login costs whoever its friends are: with one friend it pays some
three quarters of what it pays with 200. That is the way of a request through code and data that are in no cache of the
processor, on three nodes that share one: a query of the store in its own thread, and a question to the owner of its own
player's slot (two of three clients here are not where their player is; one that follows redirects is). A friend costs
about 2 us then: a quarter of that reads the list as it is stored, and the rest is a dozen reads of memory that nobody
has lately read.

The three nodes share one processor, all clients have the other. The lists are written into the store in one go, after
the pattern of a friendship that two clients have made.
"""

import asyncio
import random
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from picows import WSFrame, WSTransport

from server.cli.local_cluster import Home, LocalCluster
from server.errors import Unavailable
from server.lab.bench import databases
from server.lab.bench.beats import Measured
from server.lab.bench.harness import Effort, Outcome, cpu_s, cpus, outcome, pin, pinned, progress
from server.lab.bench.lines import Lines
from server.lab.bench.neighbours import SteadyBeats
from server.lab.bench.people import CHANGES, WatchingClient, check, close_all, opened_as, welcomed
from server.lab.chaos.nodes import metrics
from server.sessions.tokens import issue

NODES: Final = 3
PLAYERS: Final = 2_000
FRIENDS: Final = 200
VISITORS: Final = 50
"""Logins one after another in a sample."""
FEWEST_VISITORS: Final = 20
"""With fewer, and a shorter rest, the nodes' own life outweighs the logins: a short run once gave a cost below zero."""
NEIGHBOURS: Final = 64
EVERY_S: Final = 0.25
"""From one heartbeat of a neighbour to its next."""
US_GOAL: Final = 2.0
COMPLETE_GOAL_S: Final = 3.0
NEIGHBOUR_GOAL: Final = 1.5
LATE_S: Final = 60.0
LOOK_S: Final = 0.02
REST_S: Final = 1.0
"""Time after logins in which what they left to be done is counted."""
SETTINGS: Final = (
    "actors.idle_timeout_s=1",
    "actors.collect_interval_s=0.5",
    "gateway.resume_window_s=1",
    "gateway.hello_timeout_s=60",
    "gateway.heartbeat_interval_s=60",
    "log.level=warning",
)
"""Settings with which players who have gone are soon forgotten, so that the next burst finds nobody in memory."""
_decode: Final = msgspec.msgpack.Decoder().decode
_encode: Final = msgspec.msgpack.Encoder().encode
OFFLINE: Final = "offline"


class _Login(WatchingClient):
    """A client that logs in, and watches `friends` of its own unless there are none to wait for. `done_at`: when it was
    welcome, or had what it waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.friends = 0
        self.all_online = False
        self.retries = 0
        self.done_at = self._answered = 0.0
        self._frames: list[tuple[float, bytes]] = []
        self._missing: set[str] | None = None
        self.failed: list[Any] | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        now, data = time.perf_counter(), frame.get_payload_as_bytes()
        if data[1 : 1 + len(CHANGES)] == CHANGES:
            self._frames.append((now, data))
            return
        message = _decode(data)
        if message[0] == "error":
            self.take_error(message)
        elif message[0] == "welcome":
            if self.friends:
                self.send("presence.watch", 2, [], True, [])
            else:
                self.done_at = now
        elif message[0] == "presence.watched":
            if message[3] != self.friends:
                self.failed = message
            self._answered = now
            if not self.all_online:
                self.done_at = now
        elif message[0] == "presence.friends":
            self._missing = set(message[1])

    def take_error(self, message: list[Any]) -> None:
        """Ask again where that may help."""
        if message[1] == 2 and message[2] in ("unavailable", "deadline_exceeded"):
            self.retries += 1
            self.send("presence.watch", 2, [], True, [])
        else:
            self.failed = message

    def hello(self, token: str) -> None:
        self.send("hello", 1, token, None, 0, "bench", False)

    def is_done(self) -> bool:
        """Look at what has come. Raises `Unavailable` where that is none of what it waits for."""
        if self.failed is not None:
            raise Unavailable(f"a login: {self.failed}")
        frames, self._frames = self._frames, []
        for at, data in frames:
            if self._missing is None:
                raise Unavailable("presence came before the names of friends")
            for player, _, value in _decode(data)[2]:
                if value and value[0] != OFFLINE:
                    self._missing.discard(player)
                else:
                    self._missing.add(player)
            if not self._missing:
                self.done_at = self.done_at or max(at, self._answered)
        if self.done_at and self._missing and self.all_online:
            self.done_at = 0.0  # somebody is offline again
        return self.done_at > 0 and (not self.friends or self._answered > 0)


class _Burst(msgspec.Struct, frozen=True):
    """CPU us of the nodes a login, and seconds from the first hello to the last client that has what it waits for.
    `p99_ms`: of the neighbours' heartbeats meanwhile. `retries`: requests for friends that were refused for a while."""

    cpu_us: float
    seconds: float
    p99_ms: float
    retries: int


class _Bench:
    """Three nodes with their players."""

    def __init__(self, cluster: LocalCluster, neighbours: Lines, key: bytes, players: int, friends: int) -> None:
        self._cluster, self._neighbours, self._key = cluster, neighbours, key
        self._friends = friends
        self._players = [f"player-{number}" for number in range(players)]
        self._lasted = {True: 1.0, False: 1.0}

    def token(self, name: str) -> str:
        return issue(self._key, name, "player", 3_600, time.time_ns() // 1_000_000)

    async def burst(self, watching: bool) -> tuple[_Burst, list[_Login]]:
        """All players come at once. They stay."""
        urls = self._cluster.gateways
        clients = await opened_as(_Login, [urls[n % len(urls)] for n in range(len(self._players))])
        tokens = [self.token(name) for name in self._players]
        for client in clients:
            client.friends, client.all_online = (self._friends if watching else 0), watching
        beats = asyncio.create_task(self._neighbours.tell(str(self._lasted[watching]).encode()))
        began, before = time.perf_counter(), self._cpu_s()
        for client, token in zip(clients, tokens, strict=True):
            client.hello(token)
        await _all_done(clients)
        await asyncio.sleep(REST_S)
        spent, took = self._cpu_s() - before, time.perf_counter() - began
        spent -= took * await self._idle_share()
        seconds = max(client.done_at for client in clients) - began
        measured = msgspec.json.decode(await beats, type=Measured)
        self._lasted[watching] = seconds
        retries = sum(client.retries for client in clients)
        return _Burst(1e6 * spent / len(clients), seconds, measured.all_p99_ms, retries), clients

    async def visits(self, names: Sequence[str], watching: bool) -> float:
        """CPU us of the nodes for a login, one after another."""
        urls = self._cluster.gateways
        clients = await opened_as(_Login, [urls[n % len(urls)] for n in range(len(names))])
        began, before = time.perf_counter(), self._cpu_s()
        for client, name in zip(clients, names, strict=True):
            client.friends = self._friends if watching else 0
            client.hello(self.token(name))
            await _all_done([client], look_s=0.001)
        await asyncio.sleep(REST_S)
        spent, took = self._cpu_s() - before, time.perf_counter() - began
        spent -= took * await self._idle_share()
        close_all(clients)
        return 1e6 * spent / len(names)

    def _cpu_s(self) -> float:
        return sum(cpu_s(node.pid) for node in self._cluster.nodes)

    async def _idle_share(self) -> float:
        """Share of a processor that the nodes need for their own life with these connections."""
        before, began = self._cpu_s(), time.perf_counter()
        await asyncio.sleep(REST_S)
        return (self._cpu_s() - before) / (time.perf_counter() - began)

    async def leave(self, clients: Sequence[WatchingClient]) -> None:
        """All leave, and wait until no actor of theirs is in memory."""
        close_all(clients)
        until = time.monotonic() + LATE_S
        while True:
            found = [await metrics(node) for node in self._cluster.nodes]
            if all(found) and sum(each["activations"] for each in found) <= NEIGHBOURS:
                return
            if time.monotonic() > until:
                raise Unavailable("actors of players who are gone stay in memory")
            await asyncio.sleep(0.2)


async def run(effort: Effort) -> Outcome:
    """CPU us a login that watches its friends."""
    players, friends = effort.size(PLAYERS), effort.size(FRIENDS)
    visitors, rounds = max(FEWEST_VISITORS, effort.size(VISITORS)), max(1, effort.rounds // 3)
    bare: list[float] = []
    watching: list[float] = []
    pairs: list[tuple[_Burst, _Burst]] = []
    groups = [[f"visitor-{number}-{n}" for n in range(visitors)] for number in range(2 * rounds + 2)]
    async with _bench(effort, players, friends, [name for group in groups for name in group]) as bench:
        for number in range(effort.short, rounds + 1):  # the first one does not count
            alone, clients = await bench.burst(False)
            await bench.leave(clients)
            among, clients = await bench.burst(True)
            floor = await bench.visits(groups[2 * number], False)
            real = await bench.visits(groups[2 * number + 1], True)
            await bench.leave(clients)
            progress(
                f"friends: round {number}/{rounds}: a login {floor:.0f} us, with {friends} friends {real:.0f}, "
                f"{(real - floor) / friends:.2f} each; of {players} at once {alone.cpu_us:.0f}, {among.cpu_us:.0f}, "
                f"{(among.cpu_us - alone.cpu_us) / friends:.2f} each; complete in {alone.seconds:.2f}, "
                f"{among.seconds:.2f} s; neighbours' p99 {alone.p99_ms:.1f}, {among.p99_ms:.1f} ms"
            )
            if number:
                bare.append(floor)
                watching.append(real)
                pairs.append((alone, among))
    return outcome(
        "friends", "us", watching, bare, None,
        us_per_friend=_median([(real - floor) / friends for floor, real in zip(bare, watching, strict=True)]),
        us_per_friend_goal=US_GOAL,
        us_per_friend_at_once=_median([(among.cpu_us - alone.cpu_us) / friends for alone, among in pairs]),
        complete_s=_median([among.seconds for _, among in pairs]),
        complete_goal_s=COMPLETE_GOAL_S,
        retries=sum(among.retries for _, among in pairs),
        logins_s=_median([alone.seconds for alone, _ in pairs]),
        neighbour_ratio=_median([among.p99_ms / alone.p99_ms for alone, among in pairs]),
        neighbour_goal=NEIGHBOUR_GOAL,
        neighbour_p99_ms=[_median([each[which].p99_ms for each in pairs]) for which in (0, 1)],
        players=players, friends=friends, nodes=NODES,
    )  # fmt: skip


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 3)


@asynccontextmanager
async def _bench(effort: Effort, players: int, friends: int, visitors: Sequence[str]) -> AsyncIterator[_Bench]:
    """Three nodes over a store in which players and visitors have so many friends each, drawn evenly among players."""
    with TemporaryDirectory(prefix="garrison-friends-", ignore_cleanup_errors=True) as folder:
        cluster = LocalCluster(Home(Path(folder) / "home"), NODES, 0, list(SETTINGS))
        try:
            await cluster.prepare("friends")
            await cluster.start(lambda text: progress(f"friends: {text}"))
            key = cluster.home.key_file.read_text().strip().encode()
            for node in cluster.nodes:
                pin(node.pid, cpus()[0])
            now_ms, url, processors = time.time_ns() // 1_000_000, cluster.gateways[0], cpus()[1]
            near = [issue(key, f"neighbour-{n}", "player", 3_600, now_ms) for n in range(NEIGHBOURS)]
            with pinned(processors):
                await _befriend(cluster, key, players, friends, visitors)
                async with Lines("neighbours", SteadyBeats(url, near, processors, EVERY_S)) as neighbours:
                    yield _Bench(cluster, neighbours, key, players, friends)
        finally:
            cluster.kill()
            for node in cluster.nodes:
                await node.process.wait()


async def _befriend(cluster: LocalCluster, key: bytes, players: int, friends: int, visitors: Sequence[str]) -> None:
    """Write the lists into the store. Their pattern is the row of a player with one friend."""
    now_ms, url, pair = time.time_ns() // 1_000_000, cluster.gateways[0], ("pattern-1", "pattern-2")
    inviter, other = await welcomed(url, [issue(key, name, "player", 3_600, now_ms) for name in pair])
    check([await inviter.ask("saved", "friends.invite", 3, "bench", 1, pair[1])], "saved")
    until = time.monotonic() + LATE_S
    while (answer := await other.ask("saved", "friends.accept", 3, "bench", 1, pair[0]))[0] != "saved":
        if time.monotonic() > until:
            raise Unavailable(f"no friends: {answer}")
        await asyncio.sleep(LOOK_S)
    with closing(sqlite3.connect(databases.path(cluster.home.url), timeout=LATE_S)) as connection:
        connection.row_factory = sqlite3.Row
        while not (rows := connection.execute(_PATTERN, pair[:1]).fetchall()) or _is_open(rows[0]):
            if time.monotonic() > until:
                raise Unavailable("two clients did not become friends")
            await asyncio.sleep(LOOK_S)
        pattern = dict(rows[0])
        link = _decode(pattern["links"])[pair[1]]
        pattern |= {"owner_node": None, "owner_incarnation": None, "claim_token": 0, "answered": _encode({})}
        rng = random.Random(players)
        with connection:
            for name in (*(f"player-{number}" for number in range(players)), *visitors):
                others = rng.sample(range(players), friends + 1)
                names = [friend for n in others if (friend := f"player-{n}") != name][:friends]
                row = {**pattern, "player_id": name, "links": _encode(dict.fromkeys(names, link))}
                connection.execute(_insert(row), list(row.values()))
    close_all([inviter, other])


_PATTERN: Final = "SELECT * FROM friends WHERE player_id = ?"


def _is_open(row: sqlite3.Row) -> bool:
    return bool(row["open_facts"]) or not row["relations"] or row["told"] != row["relations"]


def _insert(row: dict[str, Any]) -> str:
    return f"INSERT INTO friends ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"


async def _all_done(clients: Sequence[_Login], look_s: float = LOOK_S) -> None:
    """Wait until each has what it waits for. Raises `Unavailable`."""
    until, left = time.monotonic() + LATE_S, list(clients)
    while left := [client for client in left if not client.is_done()]:
        if time.monotonic() > until:
            raise Unavailable(f"{len(left)} of {len(clients)} logins are not complete after {LATE_S:.0f} s")
        await asyncio.sleep(look_s)
