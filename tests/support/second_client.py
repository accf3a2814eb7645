"""A second client, written from docs/protocol.md alone: the JSON subprotocol, the standard library's
json, and a WebSocket. It knows no struct of the server and nothing of the SDK."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

Wire = list[Any]
PUSHES = (
    "events", "going", "match.assigned", "match.invited", "match.kicked", "friends.changed", "party.assigned",
    "party.invited", "party.over", "replay.scene", "replay.events", "replay.gap", "replay.state", "replay.ended",
)  # fmt: skip


class ServerError(Exception):
    def __init__(self, code: str, message: str, retry_after_ms: int | None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.retry_after_ms = retry_after_ms


class SecondClient:
    """`open`, then `ask(type, field, …)`, `command(type, field, …)`, `stream(topic)`, `close`. `again` connects
    anew after a break, resuming; whoever uses it repeats what was not answered."""

    def __init__(self, url: str, token: str, lineage: str) -> None:
        self.url, self.token, self.lineage = url, token, lineage
        self.welcome: Wire = []
        self.redirects = 0
        self.beats = 0
        self.close_code: int | None = None
        self.pushes: asyncio.Queue[Wire] = asyncio.Queue(1_024)
        self._ids = self._commands = self._last_push = 0
        self._waiting: dict[int, asyncio.Future[Wire]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ws: ClientConnection

    async def open(self) -> None:
        for _ in range(6):
            self._ws = await connect(self.url, subprotocols=[Subprotocol("garrison.v1.json")], compression=None)
            resume = self.welcome[6] if self.welcome else None
            self._ids += 1
            await self._send("hello", self._ids, self.token, resume, self._last_push, "second-client")
            answer = json.loads(await self._ws.recv())
            if answer[0] == "error":
                raise ServerError(*answer[2:5])
            if answer[0] == "welcome":
                break
            self.redirects += 1
            self.url = answer[2]
            await self._ws.close()
        else:
            raise ServerError("redirects", "too many", None)
        self.welcome = answer
        if not answer[7]:  # not recovered: pushes count from 1 again
            self._last_push = 0
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._beat(answer[8] / 1000))]

    async def again(self) -> bool:
        """Connect anew; True if the session was recovered."""
        await self._stop()
        await self.open()
        return bool(self.welcome[7])

    async def ask(self, kind: str, *fields: Any) -> Wire:
        """The reply to a request. Raises `ServerError`, `ConnectionError`."""
        self._ids += 1
        number = self._ids
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._send(kind, number, *fields)
        return await answer

    async def command(self, kind: str, *fields: Any, number: int | None = None) -> Wire:
        """A command with the next number, or once more with an earlier one."""
        if number is None:
            self._commands += 1
            number = self._commands
        return await self.ask(kind, self.lineage, number, *fields)

    async def stream(self, topic: str, from_seq: int = 1) -> AsyncIterator[tuple[int, Wire]]:
        """Events of a topic until the match has ended; other pushes are dropped meanwhile."""
        await self.ask("watch", topic, from_seq)
        while True:
            push = await self.pushes.get()
            if push[0] != "events" or push[2] != topic:
                continue
            for number, event in enumerate(push[4], push[3]):
                if number < from_seq:
                    continue
                assert number == from_seq, f"event {number} where {from_seq} was due"
                from_seq += 1
                yield number, event
                if event[0] == "ended":
                    await self.ask("unwatch", topic)
                    return

    async def close(self) -> None:
        await self._send("close", self._ids + 1)
        await self._ws.wait_closed()
        await self._stop()

    def cut(self) -> None:
        """Break the connection without a word."""
        self._ws.transport.abort()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, *wire: Any) -> None:
        await self._ws.send(json.dumps(wire))

    async def _beat(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await self._send("heartbeat", 0, self._last_push)

    async def _read(self) -> None:
        try:
            while True:
                wire = json.loads(await self._ws.recv())
                if wire[0] == "beats":
                    self.beats = wire[1]
                elif wire[0] in PUSHES:
                    if wire[1] == self._last_push + 1:
                        self._last_push = wire[1]
                        await self.pushes.put(wire)
                        if wire[1] % 64 == 0:
                            await self._send("ack", 0, wire[1])
                elif answer := self._waiting.pop(wire[1], None):
                    if wire[0] == "error":
                        answer.set_exception(ServerError(*wire[2:5]))
                    else:
                        answer.set_result(wire)
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd else 1006
        finally:
            waiting, self._waiting = self._waiting, {}
            for answer in waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionError(f"closed with {self.close_code}"))
