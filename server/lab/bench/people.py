"""Clients that watch players, for `fanout`, `friends` and `idle`: many sockets in this process, each with as little
work a frame as Python allows."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from server.errors import Unavailable

SUBPROTOCOL: Final = "garrison.v1.msgpack"
AT_ONCE: Final = 64
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode
_BEAT: Final = _encode(["heartbeat", 0, 0, None])
CHANGES: Final = _encode("presence.changes")
"""The beginning of such a frame after its array's head."""


class WatchingClient(WSListener):
    """A client on a socket. `items`: presences that it was sent, unless it does not count them."""

    def __init__(self) -> None:
        self.transport: WSTransport
        self.items = 0
        self.counts = True
        self.last = b""
        """The newest frame of changes."""
        self.wait_for: str | None = None
        self.answer: asyncio.Future[list[Any]]
        self.answered_at = 0.0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        data = frame.get_payload_as_bytes()
        if data[1 : 1 + len(CHANGES)] == CHANGES:
            if self.counts:
                self.last = data
                self.items += len(_decode(data)[2])
        elif self.wait_for is not None:
            message = _decode(data)
            if message[0] in (self.wait_for, "error") and not self.answer.done():
                self.wait_for = None
                self.answered_at = time.perf_counter()
                self.answer.set_result(message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.wait_for is not None and not self.answer.done():
            self.answer.set_exception(Unavailable("the node closed a connection"))

    def send(self, *message: Any) -> None:
        self.transport.send(WSMsgType.BINARY, _encode(message))

    def ask(self, answer: str, *message: Any) -> "asyncio.Future[list[Any]]":
        """Send a request. The answer of that type, or an error."""
        self.wait_for = answer
        self.answer = asyncio.get_running_loop().create_future()
        self.send(*message)
        return self.answer

    def beat(self) -> None:
        self.transport.send(WSMsgType.BINARY, _BEAT)


C = TypeVar("C", bound=WatchingClient)


async def opened(urls: Sequence[str]) -> list[WatchingClient]:
    """A connection to each of these urls, without a hello."""
    return await opened_as(WatchingClient, urls)


async def opened_as(kind: Callable[[], C], urls: Sequence[str]) -> list[C]:
    """A connection of such a client to each of these urls, without a hello."""
    gate = asyncio.Semaphore(AT_ONCE)
    clients = [kind() for _ in urls]

    async def open_one(client: C, url: str) -> None:
        async with gate:
            headers = {"Sec-WebSocket-Protocol": SUBPROTOCOL}
            await ws_connect(lambda: client, url, extra_headers=headers, websocket_handshake_timeout=10)

    await asyncio.gather(*(open_one(*pair) for pair in zip(clients, urls, strict=True)))
    return clients


async def welcomed(url: str, tokens: Sequence[str]) -> list[WatchingClient]:
    """A client with a session for each token. They follow no redirects."""
    clients: list[WatchingClient] = []
    for start in range(0, len(tokens), AT_ONCE):
        some = tokens[start : start + AT_ONCE]
        new = await opened([url] * len(some))
        pairs = zip(new, some, strict=True)
        asked = [client.ask("welcome", "hello", 1, token, None, 0, "bench", False) for client, token in pairs]
        check(await asyncio.gather(*asked), "welcome")
        clients += new
    return clients


async def all_watch(clients: Sequence[WatchingClient], names: Sequence[Sequence[str]], at_once: int = AT_ONCE) -> None:
    """Let each client watch its names, some clients at a time."""
    for start in range(0, len(clients), at_once):
        some = zip(clients[start : start + at_once], names[start : start + at_once], strict=True)
        asked = [client.ask("presence.watched", "presence.watch", 2, each, False, []) for client, each in some]
        check(await asyncio.gather(*asked), "presence.watched")


def check(answers: Sequence[list[Any]], wanted: str) -> None:
    """Raises `Unavailable` where an answer is none of that type."""
    for answer in answers:
        if answer[0] != wanted:
            raise Unavailable(f"instead of {wanted}: {answer}")


def beat_all(clients: Sequence[WatchingClient]) -> None:
    """A sign of life of each."""
    for client in clients:
        client.beat()


def close_all(clients: Sequence[WatchingClient]) -> None:
    """Cut all connections."""
    for client in clients:
        client.transport.disconnect()
