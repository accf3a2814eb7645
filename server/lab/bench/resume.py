"""`resume`: 1,000 players whose connections broke are back at once, and get what they missed.

Each watches one match and is cut off; the match goes on without them. Then all connections are made anew, all hellos
are written in one burst, and for each player the time counts from its hello to the last event that it missed. The node
has one processor, the players the other. The floor is a bare server that answers each hello with one small frame.
"""

import asyncio
import selectors
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from server.errors import Unavailable
from server.lab.bench.gateway import FLOOR, node_and_key
from server.lab.bench.harness import Effort, Outcome, Served, cpu_s, cpus, outcome, pinned, progress
from server.lab.bench.matches import OPTIONS, accepted, reporter
from server.lab.bench.moving import percentiles
from server.lab.bench.raw_socket import address, connected, handshake, message, server_frame
from server.sessions.tokens import issue

PLAYERS: Final = 1_000
REPORTS: Final = 4
EVENTS: Final = 4
"""Events of a report."""
TOGETHER: Final = 50
LONGEST_S: Final = 30.0
READ_BYTES: Final = 1 << 16
GOAL_MS: Final = 250.0
MATCH: Final = "away"
_CLOSE: Final = 8


class _Left(msgspec.Struct):
    """A player whose connection broke, and what it needs to come back."""

    token: str
    resume: str
    ack: int


class _Back:
    """A player's new connection. `took_s`: from its hello to the last frame that it waits for."""

    def __init__(self, url: str) -> None:
        self.socket = socket.create_connection(address(url))
        self.socket.sendall(handshake())
        self._read = b""
        while b"\r\n\r\n" not in self._read:
            self._read += self._received()
        _, _, self._read = self._read.partition(b"\r\n\r\n")
        self.socket.setblocking(False)
        self.frames = 0
        self.sent_at = self.took_s = 0.0

    def hello(self, data: bytes) -> None:
        self.sent_at = time.perf_counter()
        if self.socket.send(data) != len(data):
            raise Unavailable("a hello does not fit into the kernel's buffer")

    def readable(self, is_last: Callable[[list[Any]], bool]) -> bool:
        """Take in the bytes that are there; True once the last frame is among them."""
        self._read += self._received()
        at = 0
        while (found := server_frame(self._read, at)) is not None:
            opcode, payload, at = found
            if opcode == _CLOSE:
                raise Unavailable(f"the node closed a connection: {payload[2:].decode(errors='replace')}")
            self.frames += 1
            if is_last(msgspec.msgpack.decode(payload)):
                self.took_s = time.perf_counter() - self.sent_at
        self._read = self._read[at:]
        return self.took_s > 0

    def _received(self) -> bytes:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise Unavailable("the node closed a connection")
        return data


async def run(effort: Effort) -> Outcome:
    """ms, p99 from hello to the last missed frame."""
    players = effort.size(PLAYERS)
    floors: list[float] = []
    figures: list[dict[str, float]] = []
    costs: list[float] = []
    frames = 0
    beats = [message("heartbeat", n + 1, 0, "x" * 200) for n in range(players)]
    async with AsyncExitStack() as stack:
        stack.enter_context(pinned(cpus()[1]))
        bare = await stack.enter_async_context(Served(FLOOR))
        for number in range(max(1, effort.rounds // 3)):
            lines = await asyncio.to_thread(_connected, bare.ready["client_url"], players)
            await asyncio.to_thread(_burst, lines, beats, lambda _: True)
            floors.append(_ms(lines)["p99"])
            async with node_and_key() as (node, key):
                now_ms = time.time_ns() // 1_000_000
                tokens = [issue(key, f"player-{n}", "player", 3600, now_ms) for n in range(players)]
                back, cpu = await _away_and_back(node, issue(key, "reporter", "host", 3600, now_ms), tokens)
            frames = round(statistics.mean(each.frames for each in back))
            figures.append(_ms(back))
            costs.append(1e6 * cpu / players)
            progress(f"resume: round {number + 1}: floor {floors[-1]:.1f}, real {figures[-1]['p99']:.1f} ms")
    p50, p99 = ([each[share] for each in figures] for share in ("p50", "p99"))
    return outcome(
        "resume", "ms", p99, floors, None, goal_ms=GOAL_MS, players=players, frames_each=frames,
        p50_ms=round(statistics.median(p50), 2), p99_ms=round(statistics.median(p99), 2),
        cpu_us_each=round(statistics.median(costs), 1),
    )  # fmt: skip


def _ms(back: Sequence[_Back]) -> dict[str, float]:
    """Milliseconds from hello to the last frame, `p50` and `p99`."""
    return percentiles([1000 * each.took_s for each in back])


async def _away_and_back(node: Served, reporters: str, tokens: Sequence[str]) -> tuple[list[_Back], float]:
    """All players come, are cut off, miss events, and are back; and the CPU seconds of the node from the first hello to
    the last frame."""
    url = node.ready["client_url"]
    async with AsyncExitStack() as stack:
        socket, number = await reporter(stack, url, reporters), 2

        async def say(kind: str, *fields: object) -> None:
            nonlocal number
            number += 1
            await accepted(socket, kind, number, "resume", number, MATCH, *fields)

        await say("match.create", OPTIONS)
        await say("match.start", 0)
        left: list[_Left] = []
        for first in range(0, len(tokens), TOGETHER):
            left += await asyncio.gather(*(_visit(url, token) for token in tokens[first : first + TOGETHER]))
        for report in range(REPORTS):
            await say("match.report", [["kill", report, f"player-{n}"] for n in range(EVENTS)])
        last = 2 + REPORTS * EVENTS  # after `created` and `started`

        def is_last(frame: list[Any]) -> bool:
            return bool(frame[0] == "events" and frame[3] + len(frame[4]) - 1 >= last)

        hellos = [message("hello", 1, each.token, each.resume, each.ack, "resume", False) for each in left]
        back = await asyncio.to_thread(_connected, url, len(hellos))
        before = cpu_s(node.pid)
        await asyncio.to_thread(_burst, back, hellos, is_last)
        return back, cpu_s(node.pid) - before


async def _visit(url: str, token: str) -> _Left:
    """Come, watch the match to its newest event, and be cut off."""
    async with connected(url) as socket:
        welcome = await socket.ask("hello", 1, token, None, 0, "resume", False)
        if welcome[0] != "welcome":
            raise Unavailable(f"hello: {welcome}")
        await socket.send(message("watch", 2, f"match/{MATCH}", 1))
        ack, seen = 0, 0
        while seen < 2:
            frame = msgspec.msgpack.decode(await socket.receive())
            if frame[0] == "error":
                raise Unavailable(f"watch: {frame}")
            if frame[0] == "events":
                ack, seen = frame[1], frame[3] + len(frame[4]) - 1
        return _Left(token, welcome[6], ack)


def _connected(url: str, count: int) -> list[_Back]:
    return [_Back(url) for _ in range(count)]


def _burst(back: Sequence[_Back], hellos: Sequence[bytes], is_last: Callable[[list[Any]], bool]) -> None:
    """Write all hellos at once, read until each has its last frame, and hang up."""
    with selectors.DefaultSelector() as selector:
        for each in back:
            selector.register(each.socket, selectors.EVENT_READ, each)
        for each, hello in zip(back, hellos, strict=True):
            each.hello(hello)
        waiting, deadline = len(back), time.monotonic() + LONGEST_S
        while waiting:
            for key, _ in selector.select(1.0):
                if key.data.readable(is_last):
                    selector.unregister(key.fileobj)
                    waiting -= 1
            if time.monotonic() > deadline:
                raise Unavailable(f"{waiting} of {len(back)} players are not back after {LONGEST_S:.0f} s")
    for each in back:
        each.socket.close()
