"""A cluster for tests of the admin layer: several `AdminServer`s over small actor systems that share one
set of members, so that views, fan-out and dying nodes are real to HTTP and to the page."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec

from game.console import CONSOLE, PAGES, READ_MODELS
from game.history.admin import HISTORY
from game.match import rules
from game.match.rules import list_order
from game.match.state import MatchState
from game.messages import Created, Joined, Kill, MatchOptions, Medal, Objective, Started
from game.moderation.admin import CONSOLE as MODERATION
from persistence.game.queries import QUERIES
from server.actors.actor import Actor, EventBatch
from server.actors.app import App
from server.admin.app import AdminServer
from server.admin.ports import Draining, Upgrading
from server.catalog.listings import ActorsHere, Listings
from server.cluster.view import Member, View
from server.errors import CalledOff, NotFound, Unavailable
from server.eventlog.entry import Record
from server.ids import ActorId, Incarnation, NodeAddress, NodeId, actor_id, kind_of
from server.runtime.clock import SystemClock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.runtime.troubles import Trouble
from server.settings import Settings, from_tree
from server.storage.memory import MemoryDatabase
from server.storage.queries import MemoryQuery, MemoryStoreQueries
from tests.support.recorded_logs import LogShelf
from tests.support.virtual_time import LoopClock

TOKEN = "a-token-for-tests"


class Player(Actor[msgspec.Struct]):
    kind = "player"


class Match(Actor[MatchState]):
    kind = "match"
    State = MatchState
    list_order = staticmethod(list_order)


APP = App(
    name="halo",
    actors=(Player, Match),
    read_models=READ_MODELS,
    pages=PAGES,
    console={**CONSOLE, **HISTORY, **MODERATION},
)


class PlayedMatch:
    """A match as read models see an activation: key, state, and a log whose events are durable."""

    kind = "match"

    def __init__(self, key: str, node: NodeAddress, teams: int = 2, players: Iterable[str] = ()) -> None:
        self.key, self.state, self.clock_ms = key, MatchState(), 0
        self.events: list[bytes] = []
        self.node, self.context = node.node, SimpleNamespace(log=lambda: self)
        mode = "slayer" if teams else "recorded"
        self.happens(Created(0, "host-1", MatchOptions(mode=mode, map_name="Recharge", teams=teams), 1_700_000_000_000))
        self.ranked = lambda at_most, late=False: None  # as in a match of few players
        for place, player in enumerate(players):
            self.happens(Joined(0, player, place % teams if teams else None))
        self.happens(Started(0, 1_700_000_000_000))

    @property
    def durable_seq(self) -> int:
        return len(self.events) + 1

    def happens(self, event: Any) -> None:
        """Evolve the match by `event`."""
        self.state = rules.evolve(self.state, Record(self.durable_seq, event))
        self.events.append(msgspec.msgpack.encode(event))

    def recent(self, count: int) -> EventBatch:
        first = max(1, self.durable_seq - count)
        return EventBatch(self.durable_seq, first, [msgspec.Raw(event) for event in self.events[first - 1 :]])

    def read(self, from_seq: int) -> "asyncio.Future[EventBatch]":
        answer: asyncio.Future[EventBatch] = asyncio.get_running_loop().create_future()
        some = [msgspec.Raw(event) for event in self.events[from_seq - 1 :]]
        answer.set_result(EventBatch(self.durable_seq, from_seq, some))
        return answer

    def play(self, rng: random.Random, time_ms: int) -> None:
        """Something happens between two of the players."""
        killer, victim = rng.sample(sorted(self.state.players), 2)
        self.happens(Kill(time_ms, killer, victim))
        if rng.random() < 0.3:
            self.happens(Medal(time_ms, killer, rng.choice(["Double Kill", "Killing Spree", "Back Smack"])))
        if rng.random() < 0.1:
            self.happens(Objective(time_ms, killer, "flag taken", 5))


def memory_queries(rows: Mapping[str, list[dict[str, Any]]]) -> MemoryStoreQueries:
    """The game's store queries, each answered by its list in `rows`, which may change."""
    shapes = {name: query.params for name, query in QUERIES.items()}
    queries = {name: MemoryQuery(shapes[name], lambda states, given, name=name: rows[name]) for name in QUERIES}  # type: ignore[misc]
    return MemoryStoreQueries(MemoryDatabase(SystemClock()), {}, queries)


class Answers(msgspec.Struct):
    rows: list[Any]
    missing: list[str]


class TestSystem:
    """A node, as far as its admin layer is concerned."""

    __test__ = False

    def __init__(self, cluster: "TestCluster", node: str, app: App) -> None:
        self.cluster, self.app = cluster, app
        self.me = NodeAddress(NodeId(node), Incarnation(1))
        self.metrics = Metrics()
        self.actors: dict[str, list[Any]] = {"player": [], "match": []}
        self.models: dict[str, Callable[[Mapping[str, Any]], list[Any]]] = {}
        for name, model in app.read_models.items():
            self.models[name] = lambda params, model=model: model(self._here(), params)  # type: ignore[misc]

    @property
    def view(self) -> View:
        return self.cluster.view

    def activations(self, kind: str) -> Iterable[Any]:
        return self.actors[kind]

    def _here(self) -> ActorsHere:
        """The actors, listed anew each time: tests put what they like into `actors`."""
        known = {actor_id(kind, actor.key): actor for kind, actors in self.actors.items() for actor in actors}
        listings = Listings(self.app.actors)
        for identity, actor in known.items():
            listings.put(kind_of(identity), identity, actor.state)
        return ActorsHere(known.get, self.activations, listings)

    def counts(self) -> dict[str, int]:
        return {kind: len(list(actors)) for kind, actors in self.actors.items()}

    def add_query(self, name: str, fn: Callable[[Mapping[str, Any]], list[Any]]) -> None:
        self.models[name] = fn

    async def ask(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        raise NotFound(f"{identity} lives nowhere here: {name}{args}")

    async def query(self, name: str, params: dict[str, Any], timeout_s: float | None = None) -> Answers:
        if name not in self.models:
            raise NotFound(f"no read model {name!r}")
        out = Answers([], [])
        for node in self.view.members:
            peer = self.cluster.nodes.get(node)
            if peer is None or node in self.cluster.silent:
                out.missing.append(node)
            else:
                out.rows += msgspec.msgpack.decode(msgspec.msgpack.encode(peer.system.models[name](params)))
        return out


class TestNode:
    """An actor system with its running admin server."""

    __test__ = False

    def __init__(self, system: TestSystem, settings: Settings, bounds: Mapping[str, Any]) -> None:
        self.system, self.settings = system, settings
        self.supervisor = Supervisor(system.me.node)
        self.sessions: list[dict[str, Any]] = []
        self.reason = ""
        self.troubles: list[Trouble] = []
        self.left = {"state": "up", "activations_left": 3, "sessions_left": 1, "moved": 0}
        self.upgrade: dict[str, Any] = {"generation": 0, "process": 100, "running": False}
        self.refusal = ""
        upgrading = Upgrading(self._upgrade, lambda: self.upgrade)
        self.admin = AdminServer(
            system,
            settings,
            system.metrics,
            LoopClock(),
            self.supervisor,
            lambda: self.reason,
            self._sessions,
            draining=Draining(self._drain, lambda: self.left),
            gossip=lambda: f"{system.me.node}:7370",
            store_queries=memory_queries(system.cluster.stored),
            troubles=lambda: self.troubles,
            logs=system.cluster.logs,
            upgrading=lambda: upgrading,
            **bounds,
        )
        self.admin.bind()

    async def _drain(self) -> None:
        if len(self.system.view.members) == 1:
            raise Unavailable("no other node is up: there is nowhere to go")
        self.left["state"] = "leaving"

    def _upgrade(self) -> None:
        if self.refusal:
            raise CalledOff(self.refusal)
        self.upgrade |= {"running": True, "phase": "starting"}

    def _sessions(self, offset: int, limit: int, subject: str) -> list[dict[str, Any]]:
        rows = [row for row in self.sessions if not subject or row["subject"] == subject]
        return rows[offset : offset + limit]

    def member(self, state: str = "up") -> Member:
        me = self.system.me
        url = self.admin.url
        return Member(me.node, me.incarnation, 4, state, "127.0.0.1:1", "ws://127.0.0.1:2", url, 20, 1)  # type: ignore[arg-type]

    async def stop(self) -> None:
        await self.admin.stop()
        await self.supervisor.stop()


class TestCluster:
    """Use as an async context manager. `silent` nodes are members that do not answer queries; `stored` are the
    rows of each store query of the game, `logs` stored logs; `bounds` are those of each `AdminServer`."""

    __test__ = False

    def __init__(
        self,
        count: int,
        app: App = APP,
        token: str | None = TOKEN,
        bounds: Mapping[str, Any] | None = None,
        proxies: Mapping[str, Any] | None = None,
        **admin: Any,
    ) -> None:
        self.nodes: dict[str, TestNode] = {}
        self.silent: set[str] = set()
        self.log: list[Any] = []
        self.logs = LogShelf()
        self.stored: dict[str, list[dict[str, Any]]] = {name: [] for name in QUERIES}
        self.view = View(())
        for number in range(1, count + 1):
            tree = {"node": f"node-{number}", "admin": {"port": 0, "token": token, **admin}, "proxies": proxies or {}}
            system = TestSystem(self, f"node-{number}", app)
            self.nodes[f"node-{number}"] = TestNode(system, from_tree(tree), bounds or {})

    async def __aenter__(self) -> "TestCluster":
        self.members(*[node.member() for node in self.nodes.values()])
        for node in self.nodes.values():
            await node.admin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))

    def members(self, *members: Member) -> None:
        """Change the view of every node."""
        self.view = self.view.follow(members)
        for node in self.nodes.values():
            node.admin.view_changed()

    async def kill(self, name: str) -> None:
        """A node dies: its HTTP is gone at once, its peers do not notice yet."""
        await self.nodes.pop(name).stop()

    def lose(self, *names: str) -> None:
        """Gossip has noticed: the members `names` are gone from every view."""
        self.members(*[member for node, member in self.view.members.items() if node not in names])
