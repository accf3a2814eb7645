"""Actor classes: the part that an application author writes. Start here.

    class Counter(Actor[CounterState]):
        kind = "counter"
        durability = "write_behind"
        State = CounterState              # a frozen msgspec.Struct; its defaults are a new actor

        def add(self, caller: Caller, n: int) -> int:
            self.state = replace(self.state, total=self.state.total + n)
            return self.state.total

Rules of a turn: one method call is one turn and turns of one activation never interleave.
State is immutable and replaced whole, so a change is seen by identity, an exception restores the
last boundary, and a flush sees boundaries only. What leaves the actor (`tell`, `push`, the reply)
leaves after the turn, when its durability mode has the change. An `async def` method may await
*before* it changes state, never after; do not use `asyncio.timeout` in it, calls have deadlines.
Methods marked `@remote`, `@read_only` or `@existing` can be called by others, from any node: annotate
their parameters and result.

An actor moves between nodes while it lives, between two turns. State, version, waiting calls and
timers (with the time that is left, so annotate the parameters of their methods too) go along; what
it keeps in other fields does if `carry` gives it and `arrived` takes it. `activated` runs first on
the new node, as it does after a crash, when there is nothing to carry.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

import msgspec

from server.actors.context import Attached, Context, EventBatch
from server.actors.devices import Login
from server.actors.facts import Fact, FactDone, Stamp, fact, no_facts
from server.actors.guard import TurnedAway
from server.actors.pictures import Look
from server.actors.reminders import reminder
from server.errors import Forbidden, Internal
from server.eventlog.entry import Entry, Record
from server.eventlog.fold import LoggedKind
from server.ids import ActorId, Incarnation, NodeAddress, NodeId, actor_id
from server.wire.messages import CloseCode, Push

S = TypeVar("S", bound=msgspec.Struct)
A = TypeVar("A", bound="Actor[Any]")
P = ParamSpec("P")
R = TypeVar("R")

Durability = Literal["volatile", "write_behind", "written_through", "logged"]
"""How durable a change is before the turn's outputs leave. `volatile`: it is in memory. `write_behind`: in memory, and
in the crash journal where there is one; in the store within the flush interval. `written_through`: in the store.
`logged`: its events are in the store."""
Placement = Literal["hash", "local", "least_loaded"]
Role = Literal["player", "host", "service", "node"]


class Caller(msgspec.Struct, frozen=True, array_like=True):
    """The origin of a call: the authenticated subject of a session, or a node (an actor or the engine)."""

    role: Role
    subject: str
    session: str = ""


ENGINE = Caller("node", "engine")


def remote(method: Callable[P, R]) -> Callable[P, R]:
    """Mark a method that others may call: routes of clients, other actors, the engine, from any node. Annotate
    its parameters and its result: they travel. All other methods are the actor's own, for its turns and
    timers, and answer `NotFound` to anybody else. A method that overrides a marked one is marked."""
    method.remote = True  # type: ignore[attr-defined]
    return method


def read_only(method: Callable[P, R]) -> Callable[P, R]:
    """Mark a method, `remote` too, that changes nothing: it may run while another turn awaits. Called on an actor
    that was never stored it runs on an empty state, and no actor is made."""
    method.read_only = True  # type: ignore[attr-defined]
    return method


def existing(method: Callable[P, R]) -> Callable[P, R]:
    """Mark a method, `remote` too, that is for actors that there are: called on one that was never stored it raises
    `NotFound`, and no actor is made."""
    method.existing = True  # type: ignore[attr-defined]
    return method


def revives(method: Callable[P, R]) -> Callable[P, R]:
    """Mark a method, with `remote`, that names a person anew: it makes a personal actor also where that was erased, and
    from then on everything does. A login is such a method; what others have to say of the person is none."""
    method.revives = 1  # type: ignore[attr-defined]
    return method


def revives_at_once(method: Callable[P, R]) -> Callable[P, R]:
    """The same, also before the time until which an erased person may not come back: it takes the place of whatever
    was the reason for that."""
    method.revives = 2  # type: ignore[attr-defined]
    return method


class Actor(Generic[S]):
    """Base of all actors; see the module's head. Subclasses set the class attributes."""

    kind: ClassVar[str]
    State: ClassVar[type[msgspec.Struct]]
    durability: ClassVar[Durability] = "volatile"
    placement: ClassVar[Placement] = "hash"
    lives_on: ClassVar[bool] = False
    """Whether it is to be in memory even if nobody calls it, for as long as the store says that it
    is not over: slot owners wake it when its node is gone."""

    strays_after_s: ClassVar[float | None] = None
    """Seconds after the death of a node after which the actors of this kind that it left, and whose rows say that
    somebody is here (`here` of their mapping), are woken though nobody calls them: so that `activated` sees that
    nobody is. None: they are left as they are until the next call."""

    personal: ClassVar[bool] = False
    """Whether the key is that of a person, and all that the actor keeps is about it: what an export of the person has,
    and an erasure takes away."""

    __slots__ = ("context", "state")

    state: S
    context: Context

    # ---- hooks ----

    def activated(self) -> None:
        """Called once, as the first turn, with `state` loaded."""

    def deactivating(self) -> None:
        """Called as the last turn, before the final flush."""

    def carry(self) -> Any:
        """Called as the last thing on this node before the actor moves to another: what of its
        own fields goes along (what msgpack can hold). It changes nothing; the actor may stay."""
        return None

    def arrived(self, carried: Any) -> None:
        """Called on the new node after `activated`, with what `carry` gave there; annotate the
        parameter with its type. Timers are those of the old node already."""

    @remote
    def wake(self) -> None:
        """Does nothing but be a turn: called on another node where an activation that lived by
        itself has ended without moving, so that `activated` can set its timers again."""

    def look(self) -> Look:
        """How the actor looks, by its last boundary: asked some time after `show`, when somebody wants to know. It
        changes nothing, and is quick. Where it fails, or a picture is over its bound, the actor looks as before."""
        raise NotImplementedError

    @staticmethod
    def list_order(state: Any) -> Any:
        """The actor's place in the list of its kind that each node keeps for read models, smallest first and then by
        key; None where it is not listed. A kind that does not define it has no list. Asked at the end of each turn
        that changes state, so it is quick."""
        return None

    def may_watch(self, caller: Caller) -> bool:
        """Tell whether `caller` may watch this actor: asked at each `watch`, before anything is streamed to it; for
        a latest topic again before each change of it is sent, for a stream where it has narrowed (see
        `LoggedActor.narrow_watching`). It sees the last boundary and changes nothing."""
        return True

    @read_only
    def admits(self, caller: Caller) -> None:
        """Raises `Forbidden` where `may_watch` refuses `caller`. The engine asks this for each client that is about
        to watch, on the client's behalf; `attach`, which says nothing of clients, is a node's."""
        if not self.may_watch(caller):
            raise Forbidden(f"{self.id} is not for {caller.role} {caller.subject} to watch")

    # ---- facts: see `server/actors/facts.py` ----

    @staticmethod
    @no_facts
    def facts(key: str, state: Any) -> Iterable[Fact]:
        """The facts that are open in a stored `state` of actor `key`. Pure. Called often: give nothing at once where
        there is nothing."""
        return ()

    def open_facts(self, state: Any) -> Iterable[Fact]:
        """The part of `facts` that this activation is to tell; `state` is its last boundary. All of them, unless a
        logged actor, whose state has no room for it, remembers which were told: it may forget that with its node."""
        return type(self).facts(self.key, state)

    def facts_done(self, done: list[FactDone]) -> None:
        """Called as a turn with facts that are over: take them out of the state. A logged actor need not: the engine
        remembers them, and when all are over the row says so."""

    def stamp(self) -> Stamp:
        """The number of what this turn writes: greater than that of any turn before, and never used again."""
        return Stamp(self.context.epoch, self.version + 1)

    # ---- identity and time ----

    @property
    def id(self) -> ActorId:
        return self.context.id

    @property
    def key(self) -> str:
        return self.context.key

    @property
    def node(self) -> NodeId:
        """The name of the node that the actor lives on now."""
        return self.context.node

    @property
    def version(self) -> int:
        """How often the durable state has changed, for ever. In a turn that has just replaced
        `state`, the version that it will get is `version + 1`."""
        return self.context.version

    def is_stored(self, version: int) -> bool:
        """Tell whether the state with `version`, or a newer one, is in the store."""
        return self.context.is_stored(version)

    def now(self) -> float:
        """Seconds, monotonic."""
        return self.context.now()

    def wall_ms(self) -> int:
        """Unix time in milliseconds."""
        return self.context.wall_ms()

    def chance(self, bits: int) -> int:
        """A number of so many bits that nobody can guess."""
        return self.context.chance(bits)

    # ---- outputs ----

    def tell(
        self,
        to: type[A],
        key: str,
        method: Callable[Concatenate[A, P], Any],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Call another actor after this turn, without an answer; at most once."""
        assert not kwargs, "actor methods take positional arguments"
        self.context.tell(actor_id(to.kind, key), method.__name__, args)

    def push(self, subject: str, message: Push) -> None:
        """Send `message` to the sessions of player `subject`, wherever they are, after this turn."""
        self.context.push(subject, message)

    def show(self) -> None:
        """Look as `look` says, from after this turn on, to all who watch the player that this actor is: only the actor
        that sessions are bound to shows itself. Each turn that may have changed how it looks ends with this; where it
        looks the same as before, nobody hears of it. It goes along where the actor moves, and ends with the
        activation."""
        self.context.show()

    def withdraw(self) -> None:
        """Let nobody be here, from after this turn on, until `show`."""
        self.context.withdraw()

    def end_sessions(
        self,
        subject: str,
        reason: str,
        code: int = CloseCode.DISMISSED,
        issued_before_ms: int = 0,
        every_role: bool = False,
    ) -> None:
        """End every session of player `subject` after this turn, wherever it is. Its clients are closed with `code`
        (`CloseCode.DISMISSED`, or one of the application's own: 4100 to 4999) and `reason`, and do not come
        back by themselves. `issued_before_ms`: only sessions whose token was issued before that Unix time; 0: all.
        `every_role`: those of the host and the service of that name too. Raises `Internal` for any other code."""
        if code != CloseCode.DISMISSED and code not in CloseCode.APPLICATION:
            raise Internal(f"close code {code} is not for applications")
        self.context.end_sessions(subject, code, reason[:120], issued_before_ms, every_role)

    def end_session(self, subject: str, login: Login, reason: str) -> None:
        """End one session of player `subject` after this turn: a later login took its place (4004). One that cannot be
        told is refused when it is heard of again."""
        if login.node:
            at = NodeAddress(NodeId(login.node), Incarnation(login.incarnation))
            self.context.end_session(subject, login.session, at, CloseCode.REPLACED, reason[:120])

    def ref(self, to: type[A], key: str) -> "ActorRef[A]":
        """A reference to call another actor by, from within a turn."""
        return ActorRef(to, actor_id(to.kind, key), self.context)

    def after(self, delay_s: float, method: Callable[..., Any], *args: Any) -> None:
        """Run own `method(*args)` as a turn in `delay_s`. One timer a method: setting it again
        moves it. Timers end with the activation: a deadline that clients see belongs into the state, by `wall_ms`,
        and `activated` waits for the rest of it."""
        self.context.set_timer(method.__name__, delay_s, args)

    def cancel(self, method: Callable[..., Any]) -> None:
        self.context.cancel_timer(method.__name__)

    async def query_store(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of the application's store query `name`, as plain dicts: a list or a ranking over many actors,
        as it is *stored*. It comes before the turn changes state. Raises `NotFound` for a name that there is
        not, `BadInput` for parameters that are not the query's, `Unavailable` where the store is not reached."""
        return await self.context.query_store(name, params)

    # ---- reminders ----

    async def remind(self, method: Callable[[int], Any], due_ms: int) -> None:
        """Call own `method(due_ms)`, marked `@reminder`, at Unix time `due_ms` or later, at least
        once, also if this node is gone by then. Set again, it is moved. In the store when this
        returns, so it comes before the turn changes state; if the turn then fails, the reminder
        stays. Raises `Unavailable` (it may be set or not), `Fenced` where the actor has another owner
        (nothing was set, and this activation ends), `Internal` for wrong use."""
        await self.context.remind(method.__name__, due_ms)

    async def unremind(self, method: Callable[[int], Any]) -> None:
        """Take the reminder back, if there is one. Order and errors as with `remind`."""
        await self.context.unremind(method.__name__)

    @remote
    def reminded(self, name: str, due_ms: int) -> bool | Awaitable[bool]:
        """Run reminder `name` that is due: the engine's call, see `server/activations/reminding.py`. True if
        it is done and stored, so that nobody need call again."""
        return self.context.deliver(name, due_ms)

    def release(self) -> None:
        """Ask to be deactivated once idle (for example, a match that is over)."""
        self.context.release()

    def stay(self) -> None:
        """Take `release` back."""
        self.context.stay()


class LoggedActor(Actor[S]):
    """An event-sourced actor: `emit` is the only way its state changes. Answers, pushes and
    the stream of its events leave when the events are durable. Subclasses also set `Event`
    (a tagged union of array structs, each with `time_ms`) and `evolve`."""

    durability: ClassVar[Durability] = "logged"
    Event: ClassVar[Any]

    __slots__ = ()

    @staticmethod
    def evolve(state: Any, record: Record) -> Any:
        """The state after `record`: pure, shared by live play and replay."""
        raise NotImplementedError

    @staticmethod
    def finished(state: Any) -> bool:
        """Whether a log with this state is complete: its end is then sealed with a hash."""
        return False

    @classmethod
    def logged_kind(cls) -> LoggedKind[Any]:
        """This class as the fold of its log needs it: to load, replay or verify one from the store."""
        return LoggedKind(cls.kind, cls.State, cls.Event, cls.evolve, cls.finished)

    @property
    def next_seq(self) -> int:
        """The number that the next event will get."""
        return self.context.log().next_seq

    def stamp(self) -> Stamp:
        """The number of the next event."""
        return Stamp(0, self.next_seq)

    def emit(self, event: Any, command: tuple[str, int] | None = None) -> None:
        """Append `event` (caused by `command`: lineage and number) and evolve the state."""
        self.state = self.context.log().append(type(self), self.state, event, command)

    # ---- watchers of the stream ----

    def guards_watch(self) -> bool:
        """Tell whether `may_watch` can refuse anybody, now or later. Where it cannot, watchers are never asked about
        again. Asked often, so it is quick."""
        return type(self).may_watch is not Actor.may_watch

    def narrow_watching(self) -> None:
        """Have all who watch asked about again, by `may_watch`, before they get anything newer than this turn: called
        in each turn after which it refuses somebody whom it let in."""
        self.context.log().narrow()

    def lags(self, caller: Caller) -> bool:
        """Tell whether `caller` watches with the delay of `delay_watching`. Where the answer becomes another one, the
        turn calls `narrow_watching`, and `guards_watch` is true as long as there is a delay."""
        return False

    def delay_watching(self, delay_s: float) -> None:
        """Let those of whom `lags` is true see events only so long after they were durable; 0: at once, from now on,
        for good. Called in each activation, from `activated` at the latest, before anybody may watch."""
        self.context.log().delay(delay_s)

    @read_only
    def turns_away(self, callers: list[Caller]) -> TurnedAway:
        """Say whom `may_watch` refuses now of those who watch already, and who of them lags: the engine's call."""
        log = self.context.log()
        refused = [place for place, caller in enumerate(callers) if not self.may_watch(caller)]
        late = [] if log.public_seq < 0 else [place for place, caller in enumerate(callers) if self.lags(caller)]
        return TurnedAway(*log.guard, refused, late)

    @read_only
    def public_end(self, caller: Caller) -> int:
        """Say which event is the first that `caller` may not see yet, -1: it may see all: asked for replays."""
        public_seq = self.context.log().public_seq
        return public_seq if public_seq >= 0 and self.lags(caller) else -1

    @read_only
    def read_events(self, from_seq: int) -> Awaitable[EventBatch]:
        """At most 512 durable events from `from_seq`; called by nodes whose sessions watch."""
        return self.context.log().read(from_seq)

    @read_only
    def has_mark(self, seq: int, mark: str) -> Awaitable[bool]:
        """Say whether a client that has event `seq`, with that hash after it, has what this log has."""
        return self.context.log().has_mark(seq, mark)

    @read_only
    def attach(self, node: str, incarnation: int) -> Attached:
        """Stream new events, if there will be any, to that node for the next ten seconds."""
        return self.context.log().attach(NodeAddress(node, incarnation))  # type: ignore[arg-type]

    # Attaching makes the actor: a watcher that comes before the first command must still get event 1.
    attach.makes = True  # type: ignore[attr-defined]
    has_mark.makes = True  # type: ignore[attr-defined]


class ActorRef(Generic[A]):
    """A typed reference: `await ref.ask(Match.join, caller, message)`."""

    __slots__ = ("_context", "cls", "id")

    def __init__(self, cls: type[A], identity: ActorId, context: Context) -> None:
        self.cls, self.id, self._context = cls, identity, context

    @overload
    def ask(
        self, method: Callable[Concatenate[A, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[R]: ...
    @overload
    def ask(self, method: Callable[Concatenate[A, P], R], *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]: ...
    def ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Call and wait for the answer, within the deadline of the turn that asks. Raises what
        the method raises, `CallCycle`, and the errors of `Dispatcher.ask`."""
        assert not kwargs, "actor methods take positional arguments"
        return self._context.ask(self.id, method.__name__, args)


__all__ = [
    "ENGINE",
    "Actor",
    "ActorRef",
    "Attached",
    "Caller",
    "Context",
    "Entry",
    "EventBatch",
    "Fact",
    "FactDone",
    "LoggedActor",
    "Look",
    "Record",
    "Stamp",
    "existing",
    "fact",
    "read_only",
    "reminder",
    "remote",
]
