"""The clients of `hot-restart`, in a process of their own: thousands of connections that send heartbeats and note how
long each answer takes. It is told lines (`lines.py`) and answers each with JSON: the first is a `RestartOrder`; `look`
begins a new stretch; `told` says what was seen in it."""

import asyncio
import sys
import time
from typing import Any, Final

import msgspec
import uvloop

from server.lab.bench.raw_socket import address, handshake, message, server_frame

TOGETHER: Final = 100
_CLOSE: Final = 8


class RestartOrder(msgspec.Struct, frozen=True):
    """`beats_per_s`: of each client."""

    url: str
    tokens: list[str]
    beats_per_s: float


class RestartSeen(msgspec.Struct, frozen=True):
    """`longest_ms`: for each client the longest wait for an answer; one that came never has waited until now."""

    longest_ms: list[float]
    lost: int
    going: int
    beats: int


class RestartPlayer(asyncio.Protocol):
    """A client that never connects again: a lost connection is a figure."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost, self.going, self.beats, self.longest_s = False, 0, 0, 0.0
        self._number, self._sent_at = 1, 0.0
        self._read = b""
        self._shaken = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(handshake())

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self._shaken:
            if b"\r\n\r\n" not in self._read:
                return
            self._shaken, self._read = True, self._read.partition(b"\r\n\r\n")[2]
            self._transport.write(message("hello", 1, self._token, None, 0, "restart", False))
        at = 0
        while (found := server_frame(self._read, at)) is not None:
            opcode, payload, at = found
            if opcode != _CLOSE:
                self._heard(msgspec.msgpack.decode(payload))
        self._read = self._read[at:]

    def _heard(self, said: list[Any]) -> None:
        if said[0] == "beat" and said[1] == self._number:
            self.longest_s = max(self.longest_s, time.perf_counter() - self._sent_at)
            self._sent_at = 0.0
        elif said[0] == "welcome":
            self.ready.set_result(None)
        elif said[0] == "going":
            self.going += 1

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("the node closed a connection"))

    def beat(self) -> None:
        """Send a heartbeat, unless the one before has no answer yet."""
        if not self._sent_at and not self.lost:
            self._number += 1
            self.beats += 1
            self._sent_at = time.perf_counter()
            self._transport.write(message("heartbeat", self._number, 0, None))

    def look(self) -> None:
        self.longest_s, self.going, self.beats = 0.0, 0, 0

    def waited_s(self) -> float:
        return max(self.longest_s, time.perf_counter() - self._sent_at if self._sent_at else 0.0)


async def _beats(players: list[RestartPlayer], per_s: float) -> None:
    """Let each player beat `per_s` times a second, the players spread evenly."""
    begun, sent = time.perf_counter(), 0
    while True:
        due = int((time.perf_counter() - begun) * per_s * len(players))
        for number in range(sent, min(due, sent + len(players))):
            players[number % len(players)].beat()
        sent = due
        await asyncio.sleep(0.002)


async def _run() -> None:
    loop = asyncio.get_running_loop()
    order = msgspec.json.decode(await asyncio.to_thread(sys.stdin.buffer.readline), type=RestartOrder)
    players: list[RestartPlayer] = []
    for first in range(0, len(order.tokens), TOGETHER):
        some = [RestartPlayer(token) for token in order.tokens[first : first + TOGETHER]]
        await asyncio.gather(*(loop.create_connection(lambda it=it: it, *address(order.url)) for it in some))  # type: ignore[misc]
        await asyncio.gather(*(it.ready for it in some))
        players += some
    beating = asyncio.create_task(_beats(players, order.beats_per_s))
    answer = b"{}"
    while True:
        print(answer.decode(), flush=True)
        line = await asyncio.to_thread(sys.stdin.buffer.readline)
        if not line:
            break
        if line.strip() == b"look":
            for player in players:
                player.look()
            answer = b"{}"
        else:
            seen = RestartSeen(
                [round(1000 * it.waited_s(), 2) for it in players],
                sum(it.lost for it in players),
                sum(it.going for it in players),
                sum(it.beats for it in players),
            )
            answer = msgspec.json.encode(seen)
    beating.cancel()


if __name__ == "__main__":
    uvloop.run(_run())
