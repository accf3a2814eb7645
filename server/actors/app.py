"""An `App`: everything that the engine needs to know of an application. Nothing in `server/`
names one; `package.module:Name` in the settings is imported by the composition root."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from server.actors.actor import Actor, Caller, Role
from server.actors.facts import check_facts
from server.actors.methods import check_remote
from server.actors.presence import PresenceKind, check_presence
from server.actors.recorded import Recorded
from server.actors.reminders import check_reminders
from server.actors.replaying import ReplayKind
from server.actors.session_actor import check_session_actor
from server.columns.tables import SavedQuestion
from server.errors import BadSetting
from server.eventlog.ports import StoredLog
from server.wire.bounds import unbounded
from server.wire.messages import Reply, Request

EVERYONE: frozenset[Role] = frozenset({"player", "host", "service"})


class Route(msgspec.Struct, frozen=True):
    """A client message that becomes one actor call: `method(self, caller, message) -> Reply`
    on actor `key(caller, message)`. The reply carries the message's id."""

    actor: type[Actor[Any]]
    method: Callable[..., Any]
    key: Callable[[Caller, Any], str]
    roles: frozenset[Role] = EVERYONE
    guesses: frozenset[str] = frozenset()
    """Codes of `Rejected` that say that the client has guessed, and wrong (a code, a password): addresses from which
    that comes too often are refused with `rate_limited` for a while. The actor does the same for its caller."""


class QueryRoute(msgspec.Struct, frozen=True):
    """A client message that becomes a fan-out query: read model `query` runs on every node
    with `params(caller, message)`; `answer(message, rows, missing)` makes the reply of what
    came back in time."""

    query: str
    params: Callable[[Caller, Any], dict[str, Any]]
    answer: Callable[[Any, list[Any], list[str]], Reply]
    roles: frozenset[Role] = EVERYONE
    merge: Callable[[list[Any]], list[Any]] | None = None
    """`answer` gets `merge(rows)` instead, which is made once for all who share the rows."""
    cost: Callable[[Any], int] | None = None
    """Messages that one of this kind counts for in its sender's rate; 1 if None."""


class StoreRoute(msgspec.Struct, frozen=True):
    """A client message that becomes a named store query (`App.store_queries`): `query` runs with
    `params(caller, message)`; `answer(message, rows)` makes the reply of its rows."""

    query: str
    params: Callable[[Caller, Any], dict[str, Any]]
    answer: Callable[[Any, list[dict[str, Any]]], Reply]
    roles: frozenset[Role] = EVERYONE
    cost: Callable[[Any], int] | None = None
    """As of a `QueryRoute`."""


AnyRoute = Route | QueryRoute | StoreRoute


class LocalActors(Protocol):
    """The actors in memory on one node, for read models. One that asks for all of a kind takes the loop for as long as
    it looks at them: that is for kinds of which there are few."""

    def __call__(self, kind: str) -> Iterable[Actor[Any]]:
        """All of a kind."""
        ...

    def find(self, kind: str, key: str) -> Actor[Any] | None:
        """The one of that name, if it is in memory here."""
        ...

    def listed(self, kind: str, after: tuple[Any, str] | None, limit: int) -> list[Actor[Any]]:
        """At most `limit` of a kind in the order of its `Actor.list_order`, those that stand after `after`, an order
        and a key, if that is given."""
        ...


ReadModel = Callable[[LocalActors, Mapping[str, Any]], list[Any]]
"""`read_model(actors, params) -> rows`: runs on one node over its own activations,
synchronously and without changing them; rows are plain lists, dicts and scalars."""


class Principal(msgspec.Struct, frozen=True):
    """The person or program behind an admin request; logged with every action."""

    name: str
    role: str


class AdminContext(Protocol):
    """The node as an admin action or a console route may use it: the one that serves the request."""

    @property
    def principal(self) -> Principal: ...

    async def ask(self, cls: type[Actor[Any]], key: str, method: Callable[..., Any], *args: Any) -> Any:
        """The answer of actor `key` of class `cls`, wherever it lives. Raises what its turn raises."""
        ...

    async def pin_log(self, cls: type[Actor[Any]], key: str, pinned: bool) -> bool:
        """Have the stored log of actor `key` of class `cls` kept for good, or no more. False where there is none.
        Raises the store's errors."""
        ...

    async def read(self, read_model: str, params: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
        """The rows of a read model from every node, and the nodes that did not answer in time. Raises `NotFound`,
        and what the read model raises."""
        ...

    async def query(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of a named store query; see `StoreQueries.run`."""
        ...

    async def read_log(self, kind: str, key: str, from_seq: int = 1, to_seq: int | None = None) -> StoredLog | None:
        """The log of an actor as it is stored, or the chunks of it that hold these events; see `LogStore.read_log`."""
        ...

    @property
    def kept(self) -> dict[str, Any]:
        """Things that routes and actions of this node keep from one request to the next; each bounds its own."""
        ...

    def wall_ms(self) -> int: ...


class Action(msgspec.Struct, frozen=True):
    """`POST /api/v1/actions/NAME`: an operator changes something. The request's body is decoded as `body`, and
    `run(context, body)` is the answer: whatever msgspec encodes as JSON."""

    run: Callable[[AdminContext, Any], Awaitable[Any]]
    body: type[msgspec.Struct]


ConsoleRoute = Callable[[AdminContext, Mapping[str, str]], Awaitable[Any]]
"""`GET /api/v1/PATH`: an operator reads something. `route(context, params)` gets the parts of the path that stand
in braces (`clans/{clan}`) and the query's parameters, as text; it changes nothing. Its answer is whatever msgspec
encodes as JSON; the first sentence of its docstring describes it in the API's own description."""


class ExportCommand(msgspec.Struct, frozen=True):
    """A command `garrison WORDS --to FILE -- KEY` that writes a JSON document of what the store has about a key, and
    changes nothing. Where there is nothing it fails, and says so with `nothing` in its last line."""

    words: tuple[str, ...]
    nothing: str


class StandingCheck(msgspec.Struct, frozen=True):
    """The judgement of a login: `method(self, caller, issued_ms)` of the actor of class `actor` whose key is the
    caller's subject. It is `read_only`, and raises `Rejected` for a login by a token that was issued at `issued_ms`
    (Unix time) where that may not be. The engine asks it at the hello of a host or service, which have no session's
    actor to say so, and for every token that a session is to go on under."""

    actor: type[Actor[Any]]
    method: Callable[..., Any]


class App(msgspec.Struct, frozen=True):
    """`session_actor` is the actor (key: the player's subject) that a player's session is bound to; it must have the
    methods of `server.actors.session_actor.SessionActor`. `requests`, `answers` and `events` feed the codec and
    docs/protocol.json. `pages` is a folder of dashboard pages, served under `/app/`; `console` are the
    reads and `actions` the changes that they and operators ask the admin API for, by path and by name.
    `migrations` is a folder of Alembic revisions of the application's own tables, a history of its own.

    Parts that must not be imported with the actors, because they import them or are needed by commands
    only, are named by text, `package.module:NAME`; `server.drivers` follows the names. `mappings` names a
    `Mapping[str, persistence.engine.mapping.Mapping]` by kind: kinds with columns of their own.
    `store_queries` names a `Mapping[str, persistence.engine.queries.StoreQuery]`. `commands` gives for each
    command of the command line a function `register(cyclopts_app)`.

    `shared_s` gives for read models the seconds for which an answer is given again to whoever asks the same.

    `presence` says how players are shown to those who watch them (`server/actors/presence.py`); None: nobody is.

    `codes` gives for each code of a `Rejected` that its rules raise the meaning, for docs/protocol.json; `shapes` are
    structs that travel as a value of any shape in messages of the engine, for the same.

    `recorded` are its tables of columns (`server/actors/recorded.py`), `questions` some about them to begin with.

    `replays` says of each kind of logged actors whose logs clients may replay how they are shown.

    `exports` are documents that operators get from the admin API, by name.

    `take_files` gets the files of `application.files` whenever the application is loaded, and raises `BadSetting` for
    one that is no good."""

    name: str
    actors: tuple[type[Actor[Any]], ...]
    requests: tuple[type[Request], ...] = ()
    answers: tuple[type[msgspec.Struct], ...] = ()
    events: tuple[type[msgspec.Struct], ...] = ()
    routes: Mapping[type[Request], AnyRoute] = {}
    session_actor: type[Actor[Any]] | None = None
    read_models: Mapping[str, ReadModel] = {}
    pages: str | None = None
    console: Mapping[str, ConsoleRoute] = {}
    actions: Mapping[str, Action] = {}
    migrations: str | None = None
    mappings: str | None = None
    store_queries: str | None = None
    commands: Mapping[str, str] = {}
    codes: Mapping[str, str] = {}
    shared_s: Mapping[str, float] = {}
    presence: PresenceKind | None = None
    shapes: tuple[type[msgspec.Struct], ...] = ()
    standing: StandingCheck | None = None
    take_files: Callable[[Sequence[str]], None] | None = None
    recorded: tuple[Recorded, ...] = ()
    replays: Mapping[str, ReplayKind] = {}
    questions: tuple[SavedQuestion, ...] = ()
    exports: Mapping[str, ExportCommand] = {}

    def __post_init__(self) -> None:
        """Raises `BadSetting` for an actor with reminders whose state cannot remember them, for one that lives on
        or has facts and is in no store, for requests with whole numbers that have no bounds (`server/wire/bounds.py`),
        for methods that are called from other nodes and not marked so, and for a session's actor that lacks a method
        of `SessionActor`."""
        for cls in self.actors:
            check_reminders(cls)
            check_facts(cls)
            if cls.lives_on and cls.durability == "volatile":
                raise BadSetting("app", f"{cls.__name__} lives on, and nothing of a volatile actor is left to live on")
        for message in self.requests:
            for field in unbounded(message):
                raise BadSetting("app", f"{field} has no bounds within signed 64 bits, as a request's numbers need")
        for route in self.routes.values():
            if isinstance(route, Route):
                check_remote(route.actor, route.method.__name__)
        if self.standing is not None:
            check_remote(self.standing.actor, self.standing.method.__name__)
        if self.session_actor is not None:
            check_session_actor(self.session_actor)
        if self.presence is not None:
            check_presence(self.presence)

    def actor(self, kind: str) -> type[Actor[Any]] | None:
        """The actor class of `kind`."""
        return next((cls for cls in self.actors if cls.kind == kind), None)
