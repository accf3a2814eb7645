"""A WebSocket server that plays a script, for tests of the SDK: one script a connection, the last
one for all later connections. Scripts speak in wire arrays."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgpack
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import garrison

FAST = garrison.Options(
    connect_timeout_s=5.0,
    open_timeout_s=2.0,
    request_timeout_s=5.0,
    command_timeout_s=5.0,
    backoff_base_s=0.005,
    backoff_cap_s=0.02,
)
PATIENT = replace(FAST, connect_timeout_s=60.0, open_timeout_s=30.0, request_timeout_s=30.0, command_timeout_s=30.0)
"""Of clients whose servers answer, however busy the machine is."""


class Talk:
    """The server's end of one connection."""

    def __init__(self, ws: ServerConnection, number: int) -> None:
        self.ws = ws
        self.number = number
        """The number of this connection to the server, from 0."""
        self.hello: list[Any] = []

    async def recv(self) -> list[Any]:
        wire = msgpack.unpackb(await self.ws.recv())
        assert isinstance(wire, list)
        return wire

    async def expect(self, kind: str) -> list[Any]:
        """The next message of `kind`; others are skipped."""
        while (wire := await self.recv())[0] != kind:
            pass
        return wire

    async def send(self, *wire: Any) -> None:
        await self.ws.send(msgpack.packb(list(wire)))

    async def welcome(self, *, recovered: bool = False, interval_ms: int = 5_000, resume: str = "r") -> None:
        self.hello = await self.recv()
        assert self.hello[0] == "hello"
        tail = [interval_ms, 30_000, 65_536, 0]
        await self.send("welcome", self.hello[1], "s", "n1", "p1", "player", resume, recovered, *tail)

    async def close(self, code: int, reason: str = "") -> None:
        await self.ws.close(code, reason)

    def drop(self) -> None:
        """Break the connection without a word."""
        self.ws.transport.abort()

    async def idle(self) -> None:
        """Stay until the client leaves."""
        while True:
            await self.recv()


Script = Callable[[Talk], Awaitable[None]]


class ScriptedServer:
    """`url` to connect to; `talks` in the order of connections; `errors` of failed scripts."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self.scripts = list(scripts)
        self.talks: list[Talk] = []
        self.errors: list[BaseException] = []
        self.url = ""

    async def _handle(self, ws: ServerConnection) -> None:
        talk = Talk(ws, len(self.talks))
        self.talks.append(talk)
        script = self.scripts[min(talk.number, len(self.scripts) - 1)]
        try:
            await script(talk)
        except ConnectionClosed:
            pass
        except Exception as error:
            self.errors.append(error)
            raise


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[ScriptedServer]:
    """A running scripted server; a script that failed fails the test at the end."""
    server = ScriptedServer(scripts)
    subprotocols: Any = ["garrison.v1.msgpack", "garrison.v1.json"]
    async with serve(server._handle, "127.0.0.1", 0, subprotocols=subprotocols, close_timeout=1) as running:
        server.url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"
        yield server
    if server.errors:
        raise server.errors[0]


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for a condition that no event tells of."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def welcome_and_idle(talk: Talk) -> None:
    """The plainest script."""
    await talk.welcome()
    await talk.idle()
