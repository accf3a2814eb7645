"""A cluster of one scripted node for the bots: keeps matches in memory, streams their events."""

import asyncio
from typing import Any

from tests.support.sdk import Talk


class ToyNode:
    """Answers what bots send. `drop_after`: break each n-th connection after so many messages."""

    def __init__(self, *, drop_every: int = 0, drop_after: int = 40) -> None:
        self.logs: dict[str, list[list[Any]]] = {}
        self.ended: dict[str, None] = {}
        self.commands: dict[tuple[str, int], tuple[int, int]] = {}
        self.versions: dict[str, int] = {}
        self.grown = asyncio.Event()
        self.drop_every = drop_every
        self.drop_after = drop_after

    async def script(self, talk: Talk) -> None:
        await talk.welcome(interval_ms=1_000)
        subject = str(talk.hello[2])
        session = _Session(self, talk)
        doomed = self.drop_every and talk.number % self.drop_every == 0
        handled = 0
        try:
            while True:
                await self._handle(talk, session, subject, await talk.recv())
                handled += 1
                if doomed and handled >= self.drop_after:
                    talk.drop()
                    return
        finally:
            session.stop()

    async def _handle(self, talk: Talk, session: "_Session", subject: str, wire: list[Any]) -> None:
        match wire[0]:
            case "heartbeat":
                await session.beat(wire[1])
            case "profile.set" | "presence.set":
                self.versions[subject] = self.versions.get(subject, 0) + 1
                await talk.send("saved", wire[1], f"player/{subject}", self.versions[subject])
            case "watch":
                log = self.logs.get(wire[2].removeprefix("match/"), [])
                await talk.send("watching", wire[1], wire[2], len(log) + 1)
                session.watch(wire[2], wire[3])
            case "unwatch":
                session.unwatch(wire[2])
                await talk.send("done", wire[1])
            case "match.tick":
                await talk.send("accepted", wire[1], wire[2], 0, 0)
            case kind if kind.startswith("match."):
                await self._command(talk, subject, wire)

    async def _command(self, talk: Talk, subject: str, wire: list[Any]) -> None:
        name, key = wire[4], (wire[2], wire[3])
        log = self.logs.setdefault(name, [])
        if key not in self.commands:
            if name in self.ended:
                await talk.send("error", wire[1], "match_ended", "over", None)
                return
            first = len(log) + 1
            time_ms = log[-1][1] if log else 0
            match wire[0]:
                case "match.create":
                    log.append(["created", 0, subject, wire[5], 0])
                case "match.join":
                    log.append(["joined", 0, subject, wire[5]])
                case "match.start":
                    log.append(["started", 0, 0])
                case "match.report":
                    log += wire[5]
                case "match.end":
                    log.append(["ended", time_ms, "host_ended", None, 0])
                    self.ended[name] = None
            self.commands[key] = (first, len(log) + 1)
            self.grown.set()
            self.grown = asyncio.Event()
        await talk.send("accepted", wire[1], name, *self.commands[key])


class _Session:
    def __init__(self, node: ToyNode, talk: Talk) -> None:
        self.node = node
        self.talk = talk
        self.pushed = 0
        self.beats = 0
        self.watches: dict[str, asyncio.Task[None]] = {}

    async def beat(self, number: int) -> None:
        self.beats += number == 0
        await self.talk.send(*(["beat", number] if number else ["beats", self.beats]))

    def watch(self, topic: str, from_seq: int) -> None:
        self.unwatch(topic)
        self.watches[topic] = asyncio.create_task(self._stream(topic, from_seq))

    def unwatch(self, topic: str) -> None:
        if task := self.watches.pop(topic, None):
            task.cancel()

    def stop(self) -> None:
        for topic in list(self.watches):
            self.unwatch(topic)

    async def _stream(self, topic: str, next_seq: int) -> None:
        name = topic.removeprefix("match/")
        while True:
            grown = self.node.grown
            fresh = self.node.logs.get(name, [])[next_seq - 1 :]
            if fresh:
                self.pushed += 1
                first, next_seq = next_seq, next_seq + len(fresh)
                await self.talk.send("events", self.pushed, topic, first, fresh)
            else:
                await grown.wait()


def plain_token(subject: str, role: str) -> str:
    """The toy node takes the subject itself as the token."""
    return subject
