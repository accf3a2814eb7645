"""A client of the wire alone, for the maker of the samples and for their tests: arrays of MessagePack or
JSON over one WebSocket, with every frame kept. It imports nothing of the project."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import websockets

PUSHES = ("events", "going", "match.assigned")
ANSWER_S = 20.0


class Talk:
    """A connection. `frames`: what was sent (`>`) and came (`<`), as bytes."""

    def __init__(self, connection: Any, text: bool) -> None:
        self._connection, self._text = connection, text
        self._numbers = itertools.count(1)
        self._commands = itertools.count(1)
        self.lineage = "golden"
        self.welcome: list[Any] = []
        self.pushed: list[list[Any]] = []
        self.frames: list[tuple[str, bytes]] = []

    async def hello(self, token: str, resume: str | None = None, ack: int = 0, redirects: bool = True) -> list[Any]:
        """Say hello; the welcome, or the redirect."""
        self.welcome = await self.ask("hello", token, resume, ack, "golden", redirects)
        return self.welcome

    async def ask(self, kind: str, *fields: Any) -> list[Any]:
        """The one answer to a request; pushes that come before it go to `pushed`."""
        number = next(self._numbers)
        await self.send(kind, number, *fields)
        async with asyncio.timeout(ANSWER_S):
            while True:
                message = await self.receive()
                if message[1] == number and message[0] not in PUSHES:
                    return message
                self.pushed.append(message)

    async def command(self, kind: str, *fields: Any) -> list[Any]:
        """A command under the next number of this lineage."""
        return await self.ask(kind, self.lineage, next(self._commands), *fields)

    async def next_push(self, kind: str) -> list[Any]:
        """The next push of `kind` that was not looked at yet."""
        async with asyncio.timeout(ANSWER_S):
            while True:
                for place, message in enumerate(self.pushed):
                    if message[0] == kind:
                        return self.pushed.pop(place)
                self.pushed.append(await self.receive())

    async def send(self, kind: str, number: int, *fields: Any) -> None:
        message = [kind, number, *fields]
        data = json.dumps(message, separators=(",", ":")).encode() if self._text else msgpack.packb(message)
        self.frames.append((">", data))
        await self._connection.send(data.decode() if self._text else data)

    async def receive(self) -> list[Any]:
        data = await self._connection.recv()
        frame = data.encode() if isinstance(data, str) else data
        self.frames.append(("<", frame))
        message = json.loads(frame) if self._text else msgpack.unpackb(frame)
        assert isinstance(message, list)
        return message

    def abort(self) -> None:
        """Break the connection without a word."""
        self._connection.transport.abort()


@asynccontextmanager
async def talk(url: str, token: str = "", *, text: bool = False, **hello: Any) -> AsyncIterator[Talk]:
    """A connection, after its hello where there is a token."""
    subprotocols: Any = ["garrison.v1.json" if text else "garrison.v1.msgpack"]
    async with websockets.connect(url, subprotocols=subprotocols, compression=None, proxy=None) as connection:
        client = Talk(connection, text)
        if token:
            answer = await client.hello(token, **hello)
            assert answer[0] == "welcome", answer
        yield client
