"""The parts of a gateway alone: a node, actors and links that answer as a test says, and a kit for sessions."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec

from server.actors.actor import Caller
from server.cluster.view import Member, View
from server.ids import ActorId, Incarnation, NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.binding import SessionActors
from server.sessions.end_reasons import Ending
from server.sessions.ports import GatewayDrivers
from server.sessions.session import Session, SessionKit
from server.sessions.session_kit import Kit
from server.sessions.session_phases import Phase
from server.sessions.table import SessionTable
from server.sessions.ticks import TickClock
from server.sessions.turnstile import Turnstile
from server.settings import GatewaySettings
from server.storage.memory import MemoryDatabase
from server.storage.memory_logs import MemoryLogStore
from server.storage.queries import NoStoreQueries
from server.transport.ports import Answer, Handler
from server.wire.codec import Codec, Format
from server.wire.messages import ENGINE_REQUESTS, Request
from tests.support.gateways import SessionApp

ME, PEER = (NodeAddress(NodeId(name), Incarnation(1)) for name in ("me", "peer"))


class ManualClock:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def boot(self) -> float:
        return self.at

    def wall_ms(self) -> int:
        return int(self.at * 1000)


class FakeActors:
    """The actor system as sessions see it. `answers` by method; every call is in `calls`. The slots are the peer's
    if `elsewhere`."""

    def __init__(self) -> None:
        self.me = ME
        members = [
            Member(node.node, node.incarnation, 1, "up", "endpoint", f"ws://{node.node}", "") for node in (ME, PEER)
        ]
        self.view = View(tuple(members))
        self.app = SessionApp
        self.elsewhere = False
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, str, tuple[Any, ...]]] = []
        self.local: dict[str, FakeActivation] = {}

    def owner(self, identity: ActorId) -> NodeAddress:
        return PEER if self.elsewhere else ME

    def ask_now(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        self.calls.append((identity, name, args))
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        return self.ask_now(identity, name, args)

    def tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        self.calls.append((identity, name, args))

    def find(self, identity: ActorId) -> "FakeActivation | None":
        return self.local.get(identity)

    async def query(self, name: str, params: dict[str, Any]) -> Any:
        return self.ask_now(ActorId(name), "query", (params,))


class FakeActivation:
    """A live activation that answers each call with nothing."""

    def __init__(self) -> None:
        self.pins, self.dropped = 0, False
        self.calls: list[str] = []

    def call(self, name: str, args: tuple[Any, ...]) -> None:
        self.calls.append(name)


class FakeTransport:
    """Links that keep what is sent, and answer requests as `answer` says."""

    def __init__(self) -> None:
        self.endpoint = "endpoint"
        self.sent: list[tuple[NodeAddress, int, bytes]] = []
        self.handlers: dict[int, Handler] = {}
        self.answer: Callable[[NodeAddress, bytes], bytes] = lambda to, payload: b""

    async def start(self, me: NodeAddress) -> None: ...

    async def stop(self) -> None: ...

    def serve(self, service: int, handler: Handler) -> None:
        self.handlers[service] = handler

    def set_peers(self, peers: dict[NodeAddress, str]) -> None: ...

    def reaches(self, to: NodeAddress) -> bool:
        return True

    def request(self, to: NodeAddress, service: int, payload: bytes, timeout_s: float) -> "asyncio.Future[bytes]":
        self.sent.append((to, service, payload))
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        future.set_result(self.answer(to, payload))
        return future

    def send(self, to: NodeAddress, service: int, payload: bytes) -> None:
        self.sent.append((to, service, payload))

    def deliver(self, sender: NodeAddress, service: int, payload: bytes) -> Answer:
        """Hand a message of `sender` to whatever serves it here."""
        return self.handlers[service](sender, payload)


class FakeConnection:
    """A connection that keeps its frames."""

    format: Format = "msgpack"
    remote = "1.2.3.4:5"
    country = ""
    buffered_bytes = 0

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.closed: tuple[int, str] | None = None
        self.reading = True
        self.receiver: Any = None

    def set_receiver(self, receiver: Any) -> None:
        self.receiver = receiver

    def welcomed(self) -> None: ...

    def traffic(self) -> tuple[int, int]:
        return 0, 0

    def send(self, data: bytes) -> None:
        self.frames.append(msgspec.msgpack.decode(data))

    def close(self, code: int, reason: str = "") -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        self.closed = (1006, "")

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class FakeRequests:
    """Answers requests as `answer` says."""

    def __init__(self) -> None:
        self.answer: Callable[[Request], Any] = lambda message: None

    def handle(self, session: Session, message: Request) -> Any:
        return self.answer(message)

    def fault(self, error: BaseException) -> Any:
        raise error


class Beats:
    """Takes heartbeats of actors elsewhere."""

    def __init__(self) -> None:
        self.states: list[str | None] = []
        self.told_again: list[Session] = []

    def beat_elsewhere(self, session: Session, state: str | None) -> None:
        self.states.append(state)

    def tell_again(self, session: Session) -> None:
        self.told_again.append(session)


class Room:
    """Hears of room in outboxes."""

    def __init__(self) -> None:
        self.refilled: list[Session] = []

    def refill(self, session: Session) -> None:
        self.refilled.append(session)


class Late:
    """Hears of sessions that can be written to again."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    def catch_up(self, session: Session) -> None:
        self.sessions.append(session)


class Keeper:
    """Keeps what sessions tell the table."""

    def __init__(self) -> None:
        self.detached: list[Session] = []
        self.ended: list[tuple[Session, Phase, Ending]] = []

    def session_detached(self, session: Session) -> None:
        self.detached.append(session)

    def session_ended(self, session: Session, before: Phase, ending: Ending) -> None:
        self.ended.append((session, before, ending))


class Parts:
    """Everything that a part may need, each by itself and real or false as a test likes."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.settings = GatewaySettings(**settings)
        self.metrics = Metrics()
        self.supervisor = Supervisor("test")
        self.actors, self.transport = FakeActors(), FakeTransport()
        self.rng = random.Random(1)
        self.ticks = TickClock(self.clock, 0.1)
        self.requests, self.beats, self.room, self.late = FakeRequests(), Beats(), Room(), Late()
        self.keeper = Keeper()
        self.drivers = GatewayDrivers(
            self.clock, self.rng, self.metrics, self.supervisor, self.transport,
            MemoryLogStore(MemoryDatabase(self.clock)), NoStoreQueries(),
        )  # fmt: skip

    def kit(self, keeper: Any = None) -> SessionKit:
        codec = Codec("msgpack", ENGINE_REQUESTS)
        return Kit(
            self.settings, self.ticks, self.metrics, {"msgpack": codec}, {"msgpack": codec.decode}, 1.0, Turnstile(),
            self.requests, self.beats, self.room, self.late, self.keeper if keeper is None else keeper,
        )  # fmt: skip

    def table(self) -> SessionTable:
        return SessionTable(self.settings, self.ticks, self.metrics, self.bindings())

    def bindings(self) -> SessionActors:
        return SessionActors(self.actors, self.supervisor, "pilot", self.settings.login_policy)

    def session(self, keeper: Any = None, subject: str = "p", role: Any = "player") -> Session:
        """A session before its connection, with its actor."""
        resume = f"{self.rng.getrandbits(128):032x}"
        session = Session(self.kit(keeper), Caller(role, subject, resume[:4]), resume, "msgpack", False)
        session.actor = ActorId(f"pilot/{subject}") if role == "player" else None
        return session

    def pass_time(self, seconds: float) -> None:
        """Move the clock, a tick at a time."""
        end = self.clock.at + seconds
        while self.clock.at < end:
            self.clock.at = min(end, self.clock.at + self.ticks.tick_s)
            self.ticks.advance()
