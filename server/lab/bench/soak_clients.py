"""The clients of `soak` in a process of their own: sessions that watch players, change what they show, and leave and
come back. Each keeps the picture that it was sent of everybody whom it watches.

A player's n-th choice shows as a status and the line `n`, so that a picture says how old it is. Takes one JSON line of
`SoakShare`, connects and watches; then obeys lines of JSON, `SoakOrder`, each answered with one of `SoakCount`.
"""

import asyncio
import os
import random
import sys
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Literal

import msgspec
import uvloop
from picows import WSError, WSFrame, WSMsgType, WSTransport, ws_connect

from server.errors import Unavailable
from server.lab.bench.people import AT_ONCE, CHANGES, SUBPROTOCOL, WatchingClient, opened_as
from server.sessions.tokens import issue

STATUSES: Final = ("online", "away", "busy")
"""The status of a player's n-th choice is the one at n modulo 3."""
GONE: Final = -1
NOT_KNOWN: Final = -2
BEAT_S: Final = 4.0
SLICES: Final = 100
TICK_S: Final = 0.02
AWAY_S: Final = (0.1, 2.0)
ANSWER_S: Final = 60.0
TRIES: Final = 20
PAUSE_S: Final = 0.5
TOKEN_S: Final = 24 * 3_600
LINE_BYTES: Final = 64 * 1024 * 1024
_decode: Final = msgspec.msgpack.Decoder().decode


class SoakShare(msgspec.Struct, frozen=True):
    """The players from number `first` on, `count` of `sessions`, as clients of one process. `changes_per_s` and
    `returns_per_s` are theirs."""

    url: str
    key: str
    sessions: int
    first: int
    count: int
    friends: int
    changes_per_s: float
    returns_per_s: float
    cpus: list[int]


class SoakOrder(msgspec.Struct, frozen=True):
    """`start`, `count`, `stop`, or `compare` with the numbers of everybody's newest choices."""

    do: Literal["start", "count", "stop", "compare"]
    newest: list[int] = []


class SoakCount(msgspec.Struct, frozen=True):
    """Totals so far. `went_back`: pictures that came after a newer one; `resumed`: clients that went on where they
    were, `watched_again` those of them that had to ask anew; `refused`: answers that were errors, by their code, each
    asked again. `newest` is the answer to `stop`, `compared` and `wrong` (pairs) that to `compare`."""

    differences: int
    changes: int
    resumed: int
    watched_again: int
    returned: int
    went_back: int
    lost: int
    refused: dict[str, int]
    newest: list[int] = []
    compared: int = 0
    wrong: int = 0


def name_of(number: int) -> str:
    return f"soaker-{number}"


class Soaker(WatchingClient):
    """The client of a player. `choices`: how many of its choices were acknowledged. `busy`: it waits for an answer, or
    is away. `on_lost` hears of a connection that broke without its doing."""

    def __init__(self, number: int, on_lost: "Callable[[Soaker], None]") -> None:
        super().__init__()
        self._on_lost = on_lost
        self.number, self.token = number, ""
        self.choices = 0
        self.busy = self.away = False
        self.resume: str | None = None
        self.cursor = ""
        self.code = 1006
        """The node's close code."""
        self.seen: dict[str, int] = {}
        self.differences = self.went_back = self.lost = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.BINARY:
            if frame.msg_type == WSMsgType.CLOSE:
                self.code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big") or 1005
            return
        data = frame.get_payload_as_bytes()
        if data[1 : 1 + len(CHANGES)] != CHANGES:
            super().on_ws_frame(transport, frame)
            return
        _, cursor, items = _decode(data)
        self.cursor = cursor or self.cursor
        self.differences += len(items)
        for player, _, value in items:
            new, old = look_of(value), self.seen[player]
            if 0 < new // 4 < old // 4:
                self.went_back += 1
            self.seen[player] = new

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        super().on_ws_disconnected(transport)
        if not self.away and transport is self.transport:
            self.away = True
            self.lost += 1
            self._on_lost(self)


def look_of(value: Any) -> int:
    """A picture as a number: four times the choice, and the status; negative for who is gone or not known."""
    if value is None or value[0] == "offline":
        return GONE
    if value[0] not in STATUSES:
        return NOT_KNOWN
    return 4 * int(value[2] if len(value) > 2 and value[2] else 0) + STATUSES.index(value[0])


Doing = Callable[[Soaker], Awaitable[None]]


class Soakers:
    """All clients of this process."""

    def __init__(self, share: SoakShare) -> None:
        self._share = share
        self._rng = random.Random(share.first)
        self._names = [name_of(number) for number in range(share.sessions)]
        self.clients: list[Soaker] = []
        self._refused: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self._done = Counter[str]()

    async def connect(self) -> None:
        """Let everybody log in, some at a time."""
        share, now_ms = self._share, time.time_ns() // 1_000_000
        numbers = iter(range(share.first, share.first + share.count))
        for start in range(0, share.count, AT_ONCE):
            size = min(AT_ONCE, share.count - start)
            new = await opened_as(lambda: Soaker(next(numbers), self.take_lost), [share.url] * size)
            for client in new:
                client.token = issue(share.key.encode(), self._names[client.number], "player", TOKEN_S, now_ms)
            await asyncio.gather(*(self._hello(client) for client in new))
            self.clients += new
            self._beat(self.clients)

    async def watch(self) -> None:
        """Let everybody watch others, drawn evenly among all sessions, and choose for the first time."""
        share = self._share
        for start in range(0, share.count, AT_ONCE):
            some = self.clients[start : start + AT_ONCE]
            for client in some:
                drawn = random.Random(client.number).sample(range(share.sessions - 1), share.friends)
                client.seen = {self._names[other + (other >= client.number)]: NOT_KNOWN for other in drawn}
            await asyncio.gather(*(self._watch(client) for client in some))
            await asyncio.gather(*(self._choose(client) for client in some))  # a player with a line takes more

    async def beats(self) -> None:
        """Signs of life of everybody, evenly in time."""
        number = 0
        while True:
            await asyncio.sleep(BEAT_S / SLICES)
            number = (number + 1) % SLICES
            self._beat(self.clients[number::SLICES])

    def _beat(self, clients: Sequence[Soaker]) -> None:
        for client in clients:
            if not client.away:
                client.beat()

    # ---- what clients do ----

    async def _ask(self, client: Soaker, wanted: str, *message: Any) -> list[Any]:
        """The answer; what is refused is asked again. Raises `Unavailable`."""
        for _ in range(TRIES):
            async with asyncio.timeout(ANSWER_S):
                answer = await client.ask(wanted, *message)
            if answer[0] == wanted:
                return answer
            self._refused[str(answer[2])] += 1
            await asyncio.sleep(PAUSE_S)
        raise Unavailable(f"instead of {wanted}: {answer}")

    async def _hello(self, client: Soaker) -> list[Any]:
        cursor = client.cursor if client.resume else None
        rest: tuple[Any, ...] = (client.resume, 0, "soak", False, [], cursor)
        answer = await self._ask(client, "welcome", "hello", 1, client.token, *rest)
        client.resume = answer[6]
        return answer

    async def _watch(self, client: Soaker) -> None:
        answer = await self._ask(client, "presence.watched", "presence.watch", 2, list(client.seen), False, [])
        client.cursor = answer[2]

    async def _choose(self, client: Soaker) -> None:
        choice = client.choices + 1
        await self._ask(client, "saved", "presence.set", 3, STATUSES[choice % 3], str(choice))
        client.choices = choice
        self._done["changes"] += 1

    async def _connect_again(self, client: Soaker) -> list[Any]:
        await asyncio.sleep(self._rng.uniform(*AWAY_S))
        headers = {"Sec-WebSocket-Protocol": SUBPROTOCOL}
        await ws_connect(lambda: client, self._share.url, extra_headers=headers, websocket_handshake_timeout=ANSWER_S)
        client.away = False
        return await self._hello(client)

    async def _break_and_resume(self, client: Soaker) -> None:
        client.away = True
        client.transport.disconnect()
        await self._resume(client)
        self._done["resumed"] += 1

    async def _resume(self, client: Soaker) -> None:
        welcome = await self._connect_again(client)
        if not welcome[13]:
            self._done["watched_again"] += 1
            await self._watch(client)
        if not welcome[7]:
            await self._choose(client)

    async def _leave_and_return(self, client: Soaker) -> None:
        client.away, client.resume = True, None
        client.send("close", 9)
        client.transport.disconnect()
        await self._connect_again(client)
        await self._watch(client)
        await self._choose(client)  # the line of a session goes with it
        self._done["returned"] += 1

    # ---- as told ----

    def start(self) -> None:
        self._running = True
        self._spawn(self._run())

    async def _run(self) -> None:
        """Changes and returns at their rates, each of a client that does nothing else."""
        share, began = self._share, time.monotonic()
        changes = returns = 0
        while self._running:
            passed = time.monotonic() - began
            while changes < passed * share.changes_per_s:
                changes += 1
                self._do(self._choose)
            while returns < passed * share.returns_per_s:
                returns += 1
                self._do(self._break_and_resume if returns % 2 else self._leave_and_return)
            await asyncio.sleep(TICK_S)

    def _do(self, what: Doing) -> None:
        client = self._rng.choice(self.clients)
        if not client.busy:
            client.busy = True
            self._spawn(self._alone(client, what))

    def take_lost(self, client: Soaker) -> None:
        """Let a client come back whose connection broke without its doing."""
        self._refused[f"closed with {client.code}"] += 1
        client.code = 1006
        if not client.busy:
            client.busy = True
            self._spawn(self._alone(client, self._resume))

    async def _alone(self, client: Soaker, what: Doing) -> None:
        """Do that, and whatever breaks meanwhile: come back, and choose again, as nobody knows which choice was the
        last."""
        try:
            while True:
                try:
                    await what(client)
                except (OSError, TimeoutError, WSError, Unavailable) as error:
                    self._refused[type(error).__name__] += 1
                    client.away = True
                    client.transport.disconnect()
                    what = self._resume_and_choose
                else:
                    return
        finally:
            client.busy = False

    async def _resume_and_choose(self, client: Soaker) -> None:
        await self._resume(client)
        await self._choose(client)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._refused[f"{type(error).__name__}: {error}"[:200]] += 1

    async def stop(self) -> list[int]:
        """Begin nothing new, and wait until everybody is done; the numbers of choices."""
        self._running = False
        while self._tasks:
            await asyncio.wait(self._tasks)
        return [client.choices for client in self.clients]

    def compare(self, newest: Sequence[int]) -> tuple[int, int]:
        """Pairs, and how many of them are not as the watched player has chosen."""
        truth = array("q", (4 * choice + choice % 3 for choice in newest))
        wanted = dict(zip(self._names, truth, strict=True))
        wrong = sum(wanted[player] != look for client in self.clients for player, look in client.seen.items())
        return sum(len(client.seen) for client in self.clients), wrong

    def count(self) -> SoakCount:
        clients, done = self.clients, self._done
        return SoakCount(
            sum(client.differences for client in clients),
            done["changes"],
            done["resumed"],
            done["watched_again"],
            done["returned"],
            sum(client.went_back for client in clients),
            sum(client.lost for client in clients),
            dict(self._refused),
        )


async def _serve() -> None:
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    share = msgspec.json.decode(await reader.readline(), type=SoakShare)
    os.sched_setaffinity(0, share.cpus)
    soakers = Soakers(share)
    await soakers.connect()
    beats = asyncio.get_running_loop().create_task(soakers.beats())
    print("{}", flush=True)
    await reader.readline()  # everybody is there
    await soakers.watch()
    print("{}", flush=True)
    while line := await reader.readline():
        order = msgspec.json.decode(line, type=SoakOrder)
        newest: list[int] = []
        compared = wrong = 0
        if order.do == "start":
            soakers.start()
        elif order.do == "stop":
            newest = await soakers.stop()
        elif order.do == "compare":
            compared, wrong = soakers.compare(order.newest)
        answer = msgspec.structs.replace(soakers.count(), newest=newest, compared=compared, wrong=wrong)
        print(msgspec.json.encode(answer).decode(), flush=True)
    beats.cancel()


if __name__ == "__main__":
    uvloop.run(_serve())
