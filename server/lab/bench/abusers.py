"""Badly behaved clients for `neighbour`, in a process of its own: each does one bad thing over and
over, as fast as the server lets it, and connects again when it is thrown out.

Takes one JSON line of `Crowd` on standard input and says `ready`; then `start KIND …` and `stop`,
one JSON line each in answer: how often which kind was thrown out with which close code.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import msgspec
import uvloop

from server.lab.bench.raw_socket import RawSocket, SocketClosed, connected, frame, message

PAUSE_S: Final = 0.05
"""Between being thrown out and coming back."""
HELD_S: Final = 1.0
CHUNK_BYTES: Final = 64 * 1024
WATCHES: Final = 12
ASKED: Final = 64
LISTED: Final = 100
"""Rows that are asked for, as usual."""
PUSHES: Final = 30
"""Pushes of the topic that come at least before the server waits for an acknowledgement."""


class Crowd(msgspec.Struct, frozen=True):
    """`tokens`: one for each kind; `topic`: a long stream; `askers`: tokens of those who list matches."""

    url: str
    tokens: list[str]
    topic: str
    cpus: list[int]
    askers: list[str] = []


class Abusers:
    """`kinds`: what each kind does with its token until it is thrown out."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.kinds = kinds() if not crowd.askers else {f"lists {n}": _lists for n in range(len(crowd.askers))}
        self.thrown: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, names: list[str]) -> None:
        for name, token in zip(self.kinds, self.crowd.askers or self.crowd.tokens, strict=True):
            if name.partition(" ")[0] in names:
                self._tasks.append(asyncio.create_task(self._again(name, token)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _again(self, name: str, token: str) -> None:
        while True:
            try:
                await self.kinds[name](self.crowd, token)
                self.thrown[f"{name} left"] += 1
            except SocketClosed as closed:
                self.thrown[f"{name} {closed.code}"] += 1
            except OSError:
                self.thrown[f"{name} refused"] += 1
            await asyncio.sleep(PAUSE_S)


Kind = Callable[[Crowd, str], Awaitable[None]]


def kinds() -> dict[str, Kind]:
    """Every kind of abuse."""
    beat, bad = message("heartbeat", 1, 0, None), message("no.such", 7)
    fragment = frame(b"", 0, fin=False)
    return {
        "beats": _pours(_many(beat)),
        "refused": _pours(_many(bad)),
        "pings": _pours(_many(frame(b"", 9))),
        "fragments": _pours(_many(fragment), first=frame(b"", 2, fin=False)),
        "large": _pours(message("presence.set", 9, "online", "x" * 60_000)),
        "oversized": _pours(frame(bytes(65_537))),
        "huge": _pours(frame(bytes(4_000_000))),
        "bad_utf8": _pours(_many(frame(b'["presence.set",9,"\xff"]', 1)), format="json"),
        "unknown_type": _unknown_type,
        "wrong_token": _wrong_token,
        "half_frame": _half_frame,
        "slow_reader": _slow_reader,
    }


def _many(message_bytes: bytes) -> bytes:
    return message_bytes * (CHUNK_BYTES // len(message_bytes))


@asynccontextmanager
async def _session(
    crowd: Crowd, token: str, format: str = "msgpack", unread_bytes: int = 2**16
) -> AsyncIterator[RawSocket]:
    async with connected(crowd.url, format, unread_bytes) as socket:
        hello: list[Any] = ["hello", 1, token, None, 0, "abuser", False]
        await socket.send(message(*hello) if format == "msgpack" else frame(msgspec.json.encode(hello), 1))
        await socket.receive()
        yield socket


def _pours(chunk: bytes, first: bytes = b"", format: str = "msgpack") -> Kind:
    """Write `chunk` without end, and read what comes back."""

    async def pours(crowd: Crowd, token: str) -> None:
        async with _session(crowd, token, format) as socket:
            await socket.send(first)
            pouring = asyncio.create_task(_pour(socket, chunk))
            try:
                await socket.to_the_end()
            finally:
                pouring.cancel()

    return pours


async def _pour(socket: RawSocket, chunk: bytes) -> None:
    try:
        while True:
            await socket.send(chunk)
    except SocketClosed:
        return


async def _unknown_type(crowd: Crowd, token: str) -> None:
    """Send unknown messages, each when the one before is answered."""
    async with _session(crowd, token) as socket:
        while True:
            await socket.ask("no.such", 7)


async def _wrong_token(crowd: Crowd, token: str) -> None:
    async with connected(crowd.url) as socket:
        await socket.send(message("hello", 1, token[:-4] + "AAAA", None, 0, "abuser", False))
        await socket.to_the_end()


async def _half_frame(crowd: Crowd, token: str) -> None:
    async with _session(crowd, token) as socket:
        await socket.send(frame(bytes(60_000))[:30_000])
        await asyncio.sleep(HELD_S)


async def _slow_reader(crowd: Crowd, token: str) -> None:
    """Asks for a long stream again and again, acknowledges it and reads nothing."""
    async with _session(crowd, token, unread_bytes=1) as socket:
        for number in range(WATCHES):
            await socket.send(message("watch", 2 + number, crowd.topic, 1))
            await asyncio.sleep(HELD_S / 8)
            await socket.send(message("ack", 0, PUSHES * (1 + number)))
        await asyncio.sleep(HELD_S)


async def _lists(crowd: Crowd, token: str) -> None:
    """Ask for the list of live matches, `ASKED` at a time; who is refused asks again when told to."""
    async with _session(crowd, token) as socket:
        loop, numbers = asyncio.get_running_loop(), count(2)

        def ask() -> None:
            socket.write(message("match.list", next(numbers), LISTED))

        for _ in range(ASKED):
            ask()
        while True:
            payload = await socket.receive()
            answer = msgspec.msgpack.decode(payload) if b"error" in payload[:8] else None
            loop.call_later(answer[4] / 1000, ask) if answer is not None else ask()


async def main() -> None:
    reader = asyncio.StreamReader(limit=16 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    crowd = msgspec.json.decode(await reader.readline(), type=Crowd)
    os.sched_setaffinity(0, crowd.cpus)
    os.nice(19)  # the neighbour, on the same processor, comes first
    abusers = Abusers(crowd)
    print("{}", flush=True)
    while line := (await reader.readline()).decode().split():
        if line[0] == "start":
            abusers.start(line[1:])
        else:
            await abusers.stop()
        print(msgspec.json.encode(abusers.thrown).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
