"""Clients of a node that goes over to another process, at any moment between two of their messages, see each push and
event once, the newest of all pictures, an answer to each request, and acknowledgements that only rise."""

import asyncio
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from server.actors.actor import Caller
from server.sessions.memory import ClientEnd
from server.wire.messages import Ack, Heartbeat, Hello, PresenceWatch, Seen, Watch, WatchLatest
from tests.support.gateways import Echo, Light, Note, Post, token
from tests.support.presences import MemoryPresence
from tests.support.successions import Succession
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.waiting import until
from tests.support.watchers import GONE, WatchWorld, looks, watched

NAMES = ("anna", "ben", "carl")
PUSHES = frozenset({"note", "events", "going", "watch.ended"})


class Follower:
    """A client that keeps what it is sent, and notes what is wrong with that."""

    def __init__(self, world: WatchWorld, subject: str) -> None:
        self.world, self.subject = world, subject
        self.end: ClientEnd | None = None
        self.resume: str | None = None
        self.last = self.next_event = self.beats = self.sent_beats = self.number = 0
        self.notes: list[str] = []
        self.asked: set[int] = set()
        self.lamps: dict[str, Any] = {}
        self.lamp_cursor = self.cursor = ""
        self.picture: dict[str, Any] = {}
        self.faults: list[str] = []
        self.welcomes = 0
        self.is_welcome = False

    def connect(self) -> None:
        self.is_welcome = False
        end = self.end = self.world.world.nodes["node-1"].listener.connect()  # type: ignore[union-attr]
        end.on_message = lambda data: self._message(end, data)
        end.on_closed = lambda code, reason: self._closed(end, code)
        latest = [Seen("board/lights", self.lamp_cursor)] if self.lamp_cursor else []
        hello = Hello(
            self._next(), token(self.subject), self.resume, self.last, redirects=False, latest=latest,
            presence=self.cursor or None,
        )  # fmt: skip
        end.send(msgspec.msgpack.encode(hello))

    def _next(self) -> int:
        self.number += 1
        return self.number

    def send(self, message: Any) -> None:
        if self.end is not None and self.end.closed is None:
            self.end.send(msgspec.msgpack.encode(message))

    def ask(self, cls: Any, *fields: Any) -> None:
        if self.end is not None and self.end.closed is None:
            number = self._next()
            self.asked.add(number)
            self.send(cls(number, *fields))

    def beat(self) -> None:
        if self.end is not None and self.end.closed is None:
            self.sent_beats += 1
            self.send(Heartbeat(0))

    def drop(self) -> None:
        end, self.end = self.end, None
        if end is not None:
            end.drop()
        self._forget()

    def _forget(self) -> None:
        self.asked.clear()
        self.sent_beats = self.beats  # of the others nobody knows

    def _closed(self, end: ClientEnd, code: int) -> None:
        if end is self.end:
            self.end = None
            self._forget()
            if code != 1001 and self.is_welcome:  # a hello that is not answered when the node goes over is said again
                self.faults.append(f"closed with {code}")

    def _message(self, end: ClientEnd, data: bytes) -> None:
        if end is not self.end:
            return
        message: list[Any] = msgspec.msgpack.decode(data)
        kind = message[0]
        if kind in PUSHES:
            if message[1] != self.last + 1:
                self.faults.append(f"{message} after {self.last}")
            self.last = message[1]
            self._push(message)
        elif kind == "welcome":
            if message[7] is not (self.welcomes > 0):
                self.faults.append(f"welcome {self.welcomes}: recovered is {message[7]}")
            if self.welcomes and not message[13]:
                self.picture, self.cursor = {}, ""
            self.welcomes += 1
            self.is_welcome = True
            self.resume = message[6]
        elif kind == "beats":
            if not self.beats <= message[1]:
                self.faults.append(f"{message[1]} heartbeats after {self.beats}")
            self.beats = message[1]
        elif kind == "presence.changes":
            self.cursor = message[1] or self.cursor
            for player, version, value in message[2]:
                if version:
                    self.picture[player] = value
                else:
                    self.picture.pop(player, None)
        elif kind == "latest":
            self._lamps(message[2], message[3], message[4])
        else:
            if message[1] not in self.asked:
                self.faults.append(f"not asked for: {message}")
            self.asked.discard(message[1])
            if kind == "snapshot":
                self._lamps(message[3], True, message[4])
            elif kind == "presence.watched":
                self.cursor = message[2]
            elif kind == "error":
                self.faults.append(str(message))

    def _push(self, message: list[Any]) -> None:
        if message[0] == "note":
            self.notes.append(message[2])
        elif message[0] == "events":
            first, count = message[3], len(message[4])
            if first != self.next_event:
                self.faults.append(f"event {first} for {self.next_event}")
            self.next_event = first + count

    def _lamps(self, cursor: str, whole: bool, items: list[Any]) -> None:
        self.lamp_cursor = cursor
        if whole:
            self.lamps = {}
        for key, value in items:
            if value is None:
                self.lamps.pop(key, None)
            else:
                self.lamps[key] = value


moves = st.one_of(
    st.tuples(st.just("note"), st.sampled_from(NAMES)),
    st.tuples(st.just("note"), st.sampled_from(NAMES)),
    st.tuples(st.just("post"), st.just("")),
    st.tuples(st.just("light"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("show"), st.sampled_from(NAMES)),
    st.tuples(st.just("ack"), st.sampled_from(NAMES)),
    st.tuples(st.just("beat"), st.sampled_from(NAMES)),
    st.tuples(st.just("echo"), st.sampled_from(NAMES)),
    st.tuples(st.just("drop"), st.sampled_from(NAMES)),
    st.tuples(st.just("back"), st.sampled_from(NAMES)),
    st.tuples(st.just("wait"), st.sampled_from(["0", "0.001", "0.03", "0.2"])),
)
scripts = st.lists(
    st.tuples(st.lists(moves, max_size=8), st.lists(moves, max_size=6), st.lists(moves, max_size=5)),
    min_size=1,
    max_size=3,
)


class Play:
    def __init__(self, world: WatchWorld) -> None:
        self.world = world
        self.clients = {name: Follower(world, name) for name in NAMES}
        self.notes: dict[str, list[str]] = {name: [] for name in NAMES}
        self.events = self.shown = 0
        self.lamps: dict[str, str] = {}

    @property
    def node(self) -> Any:
        return self.world.world.nodes["node-1"]

    async def tell(self, actor: str, method: str, message: Any) -> None:
        await self.node.system.ask(actor, method, (Caller("host", "h", "s"), message))

    async def do(self, what: str, argument: str) -> None:
        client = self.clients.get(argument)
        if what == "note":
            self.notes[argument].append(str(len(self.notes[argument])))
            self.node.gateway.outlet.push(argument, Note(0, self.notes[argument][-1]))
        elif what == "post":
            self.events += 1
            await self.tell("ledger/main", "post", Post(0, "main", [str(self.events)]))
        elif what == "light":
            self.lamps[argument] = str(len(self.lamps) + self.shown + self.events)
            self.shown += 1
            await self.tell("board/lights", "light", Light(0, "lights", {argument: self.lamps[argument]}))
        elif what == "show":
            self.shown += 1
            self.world.show(argument, looks(self.shown))
        elif what == "wait":
            await asyncio.sleep(float(argument))
        else:
            assert client is not None
            {
                "ack": lambda: client.send(Ack(0, client.last)),
                "beat": client.beat,
                "echo": lambda: client.ask(Echo, "x"),
                "drop": client.drop,
                "back": lambda: client.connect() if client.end is None else None,
            }[what]()

    async def go_over(self, before: list[Any], between: list[Any], during: list[Any]) -> None:
        for move in before:
            await self.do(*move)
        engine = MemoryPresence(GONE)
        engine.shown = dict(self.world.engines["node-1"].shown)
        over = Succession(self.world.world, self.node, engine)
        over.copy_ahead()
        for move in between:
            await self.do(*move)
        over.rest()
        for move in during:
            if move[0] not in ("show", "back"):
                await self.do(*move)
        engine.shown = dict(self.world.engines["node-1"].shown)
        over.freeze()
        await over.go()
        self.world.engines["node-1"] = engine  # type: ignore[index]


async def play(script: list[Any]) -> None:
    async with watched(gateway={"latest_tick_ms": 20, "cumulative_ack_interval_s": 0.5}) as world:
        play = Play(world)
        for client in play.clients.values():
            client.connect()
            await until(lambda client=client: client.welcomes == 1)  # type: ignore[misc]
            client.next_event = 1
            client.ask(Watch, "ledger/main")
            client.ask(WatchLatest, "board/lights")
            client.ask(PresenceWatch, list(NAMES))
        await until(lambda: not any(client.asked for client in play.clients.values()))
        for part in script:
            await play.go_over(*part)
        for _ in range(2):
            for client in play.clients.values():
                if client.end is None:
                    client.connect()
            await asyncio.sleep(0.2)
        for client in play.clients.values():
            if not client.cursor:
                client.ask(PresenceWatch, list(NAMES))
        await asyncio.sleep(1.0)  # heartbeats are acknowledged by then
        truth = {
            name: msgspec.msgpack.decode(world.engines["node-1"].shown.get(name, (GONE, 0))[0].everybody)
            for name in NAMES
        }
        for name, client in play.clients.items():
            assert client.faults == [], (name, client.faults)
            assert client.notes == play.notes[name], name
            assert client.next_event == play.events + 1, name
            assert client.lamps == play.lamps, name
            own = {**truth}
            assert {player: value for player, value in client.picture.items() if player != name} == {
                player: value for player, value in own.items() if player != name
            }, name
            assert not client.asked, (name, client.asked)
            assert client.beats >= client.sent_beats, name


@settings(max_examples=30, deadline=None)
@given(script=scripts)
def test_clients_notice_nothing(script: list[Any]) -> None:
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(play(script))
    finally:
        loop.close()
