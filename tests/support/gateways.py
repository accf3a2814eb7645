"""Gateways over actor systems on memory drivers, a small application with a player and a stream, and
clients for both kinds of connection."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import websockets
from msgspec.structs import replace

from server.actors.actor import Actor, Attached, Caller, LoggedActor, Record, remote
from server.actors.app import App, QueryRoute, Route
from server.actors.devices import UNTOLD, Login
from server.actors.latest import LatestActor
from server.cluster.view import Member, MemberState, View
from server.errors import NotFound, Rejected
from server.ids import actor_id
from server.presence.engine import PresenceEngine
from server.runtime.proxies import TrustedProxies
from server.sessions.counted_connection import CountedConnection
from server.sessions.gateway import Gateway
from server.sessions.memory import ClientEnd, ConnectionClosed, MemoryListener
from server.sessions.picows_driver import PicowsConnection, PicowsListener
from server.sessions.ports import GatewayDrivers
from server.sessions.time_limits import Limits
from server.sessions.tokens import issue, own_rules
from server.settings import from_tree
from server.storage.queries import NoStoreQueries
from server.view_change import change_view
from server.wire.bounds import Int64
from server.wire.messages import Hello, Push, Reply, Request, Welcome
from tests.support.engine import Cluster, TestSystem
from tests.support.virtual_time import LoopClock

KEY = b"0123456789abcdef0123456789abcdef"
LAST = "that is all"
"""The post that finishes a feed."""


class Nothing(msgspec.Struct, frozen=True):
    pass


class Total(msgspec.Struct, frozen=True):
    total: int = 0
    over: bool = False


class Posted(msgspec.Struct, tag="posted", array_like=True, frozen=True):
    time_ms: int
    text: str


class Note(Push, tag="note", frozen=True):
    text: str


class Echo(Request, tag="echo", frozen=True):
    text: str


class Slow(Request, tag="slow", frozen=True):
    """Answered when the test lets it."""

    text: str = ""


class Broken(Request, tag="broken", frozen=True):
    text: str = ""


class Tell(Request, tag="tell", frozen=True):
    """Push notes to another player."""

    to: str
    text: str
    times: Int64 = 1


class Oust(Request, tag="oust", frozen=True):
    """End another player's sessions."""

    player: str
    reason: str


class Post(Request, tag="post", frozen=True):
    """Host only."""

    feed: str
    texts: list[str]


class Who(Request, tag="who", frozen=True):
    pass


class Light(Request, tag="light", frozen=True):
    """Set lamps of a board: `null` takes one away."""

    board: str
    lamps: dict[str, str | None]
    fail: bool = False


class Said(Reply, tag="said", frozen=True):
    text: str
    node: str = ""


class Present(Reply, tag="present", frozen=True):
    players: list[str]
    missing: list[str]


class Pilot(Actor[Nothing]):
    """The session actor."""

    kind = "pilot"
    State = Nothing
    gate: asyncio.Event | None = None  # what `slow` waits for
    history: list[tuple[str, str, str]] = []
    refuse: str = ""

    __slots__ = ("beats", "sessions", "states")

    def activated(self) -> None:
        self.beats = 0
        self.states: list[str] = []
        self.sessions: list[str] = []

    def carry(self) -> list[str]:
        return self.sessions

    def arrived(self, carried: list[str]) -> None:
        self.sessions = carried

    @remote
    def connected(self, caller: Caller, login: Login = UNTOLD) -> None:
        if Pilot.refuse:
            raise Rejected(Pilot.refuse, "planted")
        if caller.session not in self.sessions:
            self.sessions.append(caller.session)
            Pilot.history.append(("connected", self.key, caller.session))

    @remote
    def disconnected(self, caller: Caller, reason: str) -> None:
        if caller.session in self.sessions:
            self.sessions.remove(caller.session)
            Pilot.history.append((reason, self.key, caller.session))

    @remote
    def beat(self, caller: Caller, state: str | None) -> None:
        self.beats += 1
        if state is not None:
            self.states.append(state)

    @remote
    def echo(self, caller: Caller, message: Echo) -> Said:
        return Said(message.id, message.text, str(self.node))

    @remote
    async def slow(self, caller: Caller, message: Slow) -> Said:
        assert Pilot.gate is not None
        await Pilot.gate.wait()
        return Said(message.id, message.text)

    @remote
    def broken(self, caller: Caller, message: Broken) -> Said:
        raise ZeroDivisionError("planted")

    @remote
    def oust(self, caller: Caller, message: Oust) -> Said:
        self.end_sessions(message.player, message.reason, 4100)
        return Said(message.id, "ousted")

    @remote
    def tell_player(self, caller: Caller, message: Tell) -> Said:
        for number in range(message.times):
            self.push(message.to, Note(0, f"{message.text}{number}"))
        return Said(message.id, "told")


class Feed(LoggedActor[Total]):
    kind = "ledger"  # the engine's test systems know this kind as logged
    State = Total
    Event = Posted

    @staticmethod
    def evolve(state: Total, record: Record) -> Total:
        return replace(state, total=state.total + 1, over=record.event.text == LAST)

    @staticmethod
    def finished(state: Total) -> bool:
        return state.over

    @remote
    def post(self, caller: Caller, message: Post) -> Said:
        for text in message.texts:
            self.emit(Posted(self.next_seq, text))
        return Said(message.id, "posted")

    def attach(self, node: str, incarnation: int) -> Attached:
        if self.key == "unknown":
            raise NotFound("no such feed")
        return super().attach(node, incarnation)


class Lamps(msgspec.Struct, frozen=True):
    lit: dict[str, str] = {}


class Board(LatestActor[Lamps]):
    """A latest topic: lamps by name."""

    kind = "board"
    State = Lamps

    __slots__ = ()

    def latest(self) -> dict[str, str]:
        return self.state.lit

    @remote
    def light(self, caller: Caller, message: Light) -> Said:
        lit = dict(self.state.lit)
        for lamp, color in message.lamps.items():
            if color is None:
                lit.pop(lamp, None)
            else:
                lit[lamp] = color
            self.publish_latest(lamp, color)
        self.state = Lamps(lit)
        if message.fail:
            raise Rejected("planted", "after it had published")
        return Said(message.id, "lit", str(self.node))


WHO_COST = 11
"""Messages that a `Who` counts for."""
SessionApp = App(
    name="sessions",
    actors=(Pilot, Feed, Board),
    requests=(Echo, Slow, Broken, Tell, Oust, Post, Who, Light),
    answers=(Said, Present, Note),
    events=(Posted,),
    routes={
        Echo: Route(Pilot, Pilot.echo, lambda caller, message: caller.subject),
        Slow: Route(Pilot, Pilot.slow, lambda caller, message: caller.subject + ".slow"),
        Broken: Route(Pilot, Pilot.broken, lambda caller, message: caller.subject),
        Tell: Route(Pilot, Pilot.tell_player, lambda caller, message: caller.subject),
        Oust: Route(Pilot, Pilot.oust, lambda caller, message: caller.subject),
        Light: Route(Board, Board.light, lambda caller, message: message.board),
        Post: Route(Feed, Feed.post, lambda caller, message: message.feed, frozenset({"host"})),
        Who: QueryRoute(
            "who",
            lambda caller, message: {},
            lambda message, rows, missing: Present(message.id, sorted(rows), missing),
            cost=lambda message: WHO_COST,
        ),
    },
    session_actor=Pilot,
    read_models={"who": lambda activations, params: [one.key for one in activations("pilot")]},
)


class GatewayNode:
    """A node: its actor system, gateway and listener."""

    def __init__(
        self, system: TestSystem, gateway: Gateway, listener: MemoryListener | PicowsListener, url: str
    ) -> None:
        self.system, self.gateway, self.listener, self.url = system, gateway, listener, url
        self.metrics = system.metrics


class World:
    """Gateways that see each other."""

    def __init__(
        self, cluster: Cluster, sockets: bool, limits: Limits, engine_of: Callable[[str], Any] = lambda name: None
    ) -> None:
        self.cluster, self.sockets, self.limits, self.engine_of = cluster, sockets, limits, engine_of
        self.nodes: dict[str, GatewayNode] = {}

    async def add(self, name: str) -> GatewayNode:
        system = await self.cluster.add(name)
        drivers = GatewayDrivers(
            system.clock, system.rng, system.metrics, system.supervisor, system.transport, system.services.logs,
            NoStoreQueries(),
        )  # fmt: skip
        gateway = Gateway(system, drivers, system.settings, own_rules(KEY), self.limits, self.engine_of(name))
        system.outlet = gateway.outlet
        listener: MemoryListener | PicowsListener
        if self.sockets:
            trusted = TrustedProxies(system.settings.proxies.trusted)
            kind = CountedConnection if system.settings.columns.enabled else PicowsConnection
            listener = PicowsListener(gateway, system.settings.gateway, trusted, kind)
            url = await listener.start()
        else:
            listener = MemoryListener(name, system.settings.gateway.max_frame_bytes)
            url = await listener.start(gateway.accept)
        gateway.start()
        if isinstance(gateway.presence, PresenceEngine):
            gateway.presence.start(system.me)
        node = self.nodes[name] = GatewayNode(system, gateway, listener, url)
        return node

    def view(self, *names: str, leaving: Sequence[str] = ()) -> View:
        """A view of `names`, all up except those that are leaving."""
        members = []
        for name in names:
            system, url = self.nodes[name].system, self.nodes[name].url
            state: MemberState = "leaving" if name in leaving else "up"
            members.append(Member(system.me.node, system.me.incarnation, 4, state, system.transport.endpoint, url, ""))
        return View(tuple(members))

    def tell(self, name: str, view: View) -> None:
        """Only node `name` sees `view`."""
        node = self.nodes[name]
        engine = node.gateway.presence if isinstance(node.gateway.presence, PresenceEngine) else None
        change_view(
            view, transport=node.system.transport, system=node.system, presence=engine, gateway=node.gateway
        )  # fmt: skip

    def show(self, *names: str, leaving: Sequence[str] = ()) -> None:
        """Every node sees exactly these, as up or as leaving."""
        view = self.view(*names, leaving=leaving)
        for name in names:
            self.tell(name, view)

    def player_of(self, name: str, start: str = "p") -> str:
        """A subject whose slot belongs to node `name`."""
        system = next(iter(self.nodes.values())).system
        for number in itertools.count():
            owner = system.owner(actor_id("pilot", f"{start}{number}"))
            if owner is not None and owner.node == name:
                return f"{start}{number}"
        raise AssertionError

    def client(self, name: str, subject: str = "p", role: str = "player", format: str = "msgpack") -> "MemoryClient":
        return MemoryClient(self.nodes[name].listener.connect(format), subject, role, format)  # type: ignore[union-attr,arg-type]


@asynccontextmanager
async def gateways(
    names: Sequence[str] = ("node-1",),
    *,
    sockets: bool = False,
    app: App = SessionApp,
    limits: Limits | None = None,
    engine_of: Callable[[str], Any] = lambda name: None,
    made: type[Cluster] = Cluster,
    **tree: object,
) -> AsyncIterator[World]:
    """A world of gateways; `tree` are settings, sockets are bound to free ports; `engine_of` gives a node its engine
    of presence, `made` is the kind of its cluster."""
    tree["gateway"] = {"port": 0, **tree.get("gateway", {})}  # type: ignore[dict-item]
    Pilot.history = []
    Pilot.refuse = ""
    Pilot.gate = asyncio.Event()
    world = World(made(app, from_tree(tree)), sockets, limits or Limits(), engine_of)
    try:
        for name in names:
            await world.add(name)
        world.show(*names)
        yield world
    finally:
        Pilot.gate.set()
        for node in world.nodes.values():
            await node.gateway.stop(0.1)
            await node.listener.stop()
        await world.cluster.stop()


def token(subject: str, role: str = "player", ttl_s: float = 60.0, ago_s: float = 0.0) -> str:
    return issue(KEY, subject, role, ttl_s, LoopClock.wall_ms() - round(ago_s * 1000))


class _Client:
    """Messages as plain lists: `[type, id, ...]`."""

    def __init__(self, subject: str, role: str, format: str) -> None:
        self.subject, self.role, self.format = subject, role, format
        self.numbers = itertools.count(1)
        self.welcome: Welcome | None = None
        self.seen: list[list[Any]] = []  # what came and was not what somebody waited for

    def pack(self, message: Any) -> bytes:
        return msgspec.json.encode(message) if self.format == "json" else msgspec.msgpack.encode(message)

    def unpack(self, data: bytes | str) -> list[Any]:
        return msgspec.json.decode(data) if self.format == "json" else msgspec.msgpack.decode(data)  # type: ignore[arg-type]

    async def send_raw(self, data: bytes) -> None:
        raise NotImplementedError

    async def receive_raw(self) -> bytes | str:
        raise NotImplementedError

    async def send(self, message: Any) -> None:
        await self.send_raw(self.pack(message))

    async def receive(self) -> list[Any]:
        async with asyncio.timeout(30):
            return self.unpack(await self.receive_raw())

    async def until(self, wanted: Callable[[list[Any]], bool]) -> list[Any]:
        """The first message that `wanted` says yes to; others go to `seen`."""
        while True:
            message = await self.receive()
            if wanted(message):
                return message
            self.seen.append(message)

    async def ask(self, cls: type[Request], *fields: Any) -> list[Any]:
        number = next(self.numbers)
        await self.send(cls(number, *fields))
        return await self.until(lambda message: message[1] == number and not _is_push(message))

    async def hello(self, **fields: Any) -> list[Any]:
        number = next(self.numbers)
        fields.setdefault("token", token(self.subject, self.role))
        await self.send(Hello(number, **fields))
        answer = await self.until(lambda message: message[1] == number and not _is_push(message))
        if answer[0] == "welcome":
            self.welcome = msgspec.convert(answer, Welcome)
        return answer


def _is_push(message: list[Any]) -> bool:
    return message[0] in ("note", "events", "going")


class MemoryClient(_Client):
    def __init__(self, end: ClientEnd, subject: str, role: str, format: str) -> None:
        super().__init__(subject, role, format)
        self.end = end

    async def send_raw(self, data: bytes) -> None:
        self.end.send(data)

    async def receive_raw(self) -> bytes:
        return await self.end.receive()

    async def closed(self) -> int:
        """The close code; what still comes before it goes to `seen`."""
        try:
            while True:
                self.seen.append(await self.receive())
        except ConnectionClosed as closed:
            return closed.code


class SocketClient(_Client):
    """Over `websockets`, the standard implementation."""

    def __init__(self, connection: websockets.ClientConnection, subject: str, role: str, format: str) -> None:
        super().__init__(subject, role, format)
        self.ws = connection

    async def send_raw(self, data: bytes) -> None:
        await self.ws.send(data.decode() if self.format == "json" else data)

    async def receive_raw(self) -> bytes | str:
        return await self.ws.recv()

    async def closed(self) -> int:
        try:
            while True:
                self.seen.append(await self.receive())
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006


async def connect(
    node: GatewayNode, subject: str = "p", role: str = "player", format: str = "msgpack", **options: Any
) -> SocketClient:
    """A client over a real socket, before its hello."""
    options.setdefault("subprotocols", [f"garrison.v1.{format}"])
    options.setdefault("compression", None)
    return SocketClient(await websockets.connect(node.url, **options), subject, role, format)
