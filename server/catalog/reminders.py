"""Reminders: calls of an actor's own methods that survive its node, at least once each.

    await self.remind(self.expire, due_ms)      in a turn, before it changes state: the store has it
    @reminder                                   at `due_ms` or later, wherever the actor lives then
    def expire(self, due_ms: int) -> None: ...

A reminder is a row of the store, one for each actor and method (as in Orleans: Bernstein et al.,
"Orleans: Distributed Virtual Actors for Programmability and Scalability", 2014; there they are
periodic, here each comes once). Every node looks for due rows now and then and calls the actors
whose slots it owns: `Actor.reminded(name, due_ms)`. Views may differ for a while, and then two nodes
call; nodes die between call and flush. So the row goes only once the effect is stored:

    write-behind   the method's change and `state.reminded[name] = due_ms` are one version. A second
                   call with the same or an earlier due runs nothing; it answers True once that version
                   is in the store. Only a True lets the row be dropped: lost with its node before that,
                   the change is made again, by the row that is still there.
    logged         the answer waits for the events of the turn, as every answer does. An actor that is
                   called again must see from its state that there is nothing left to do.

Setting a reminder again moves it. `remind` never goes back to a due that was handled (it takes the
next millisecond). What this activation set last is in its memory: a call for another due, whose row
was read before that, runs nothing.

A row carries the epoch under which it was set, and the number of that statement among those of its
activation. The store takes a statement only under the epoch of now, and only over a row of an older
one: what a former owner sent, or this one before, and what comes late, moves and forgets nothing that
was set since. (A reminder that was taken back leaves no row. If an earlier statement of the same owner
comes after that, there is one again: a call of this activation runs nothing, and one of a later may come.)
What was delivered is dropped by its own epoch and number. An activation whose statement is refused has
lost its actor, and ends.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin, get_type_hints

import structlog
from msgspec.structs import replace

from server.catalog.retries import Retries
from server.errors import BadSetting, Fenced, GarrisonError, Internal, NotFound
from server.ids import kind_of, parse_actor_id
from server.runtime.backoff import backoff_s
from server.storage.ports import Reminder

if TYPE_CHECKING:
    from server.actors.actor import Actor
    from server.catalog.system import ActorSystem

log = structlog.get_logger(__name__)
M = TypeVar("M", bound=Callable[..., Any])

PAGE: Final = 256
PAGES_A_POLL: Final = 8
UNDER_WAY: Final = 64
"""Deliveries of a node at a time."""
UNKNOWN_KEPT_MS: Final = 24 * 3600 * 1000
"""A reminder for which this program has no method is left alone for so long after its due: in a
rolling upgrade a node of another version may have it."""


def reminder(method: M) -> M:
    """Mark `def method(self, due_ms: int)`: reminders may call it. It may come late, and again
    where its earlier effect was lost; so it looks at the state and the clock."""
    method.reminder = True  # type: ignore[attr-defined]
    return method


def is_reminder(cls: "type[Actor[Any]]", name: str) -> bool:
    """Whether `name` is a method of `cls` that is marked so."""
    return bool(getattr(getattr(cls, name, None), "reminder", False))


def has_reminders(cls: "type[Actor[Any]]") -> bool:
    return any(is_reminder(cls, name) for name in dir(cls))


def check_reminders(cls: "type[Actor[Any]]") -> None:
    """Raises `BadSetting` for an actor class with reminders whose state cannot remember them."""
    name = next((name for name in dir(cls) if is_reminder(cls, name)), None)
    if name is None or cls.durability == "logged":
        return
    if cls.durability == "volatile":
        raise BadSetting("app", f"{cls.__name__}.{name} is a reminder, and a volatile actor can have none")
    kept = get_type_hints(cls.State).get("reminded")
    if get_origin(kept) is not dict or get_args(kept) != (str, int):
        field = "`reminded: dict[str, int] = {}`"
        raise BadSetting("app", f"{cls.__name__}.{name} is a reminder, so {cls.State.__name__} needs a field {field}")


# ---- the actor's side ----


class Reminding:
    """What one activation knows of its reminders. `pending`: the due that it set last and that has
    not come yet, None for one that it took back. `recorded`: the version that recorded the last one
    that came. `number`: of its newest statement; it grows as long as the activation lives, whatever
    the epoch."""

    __slots__ = ("number", "pending", "recorded")

    def __init__(self) -> None:
        self.number = 0
        self.pending: dict[str, int | None] = {}
        self.recorded: dict[str, int] = {}


def _known(actor: "Actor[Any]") -> Reminding:
    known = actor.activation.reminding
    if known is None:
        known = actor.activation.reminding = Reminding()
    return known


async def remind(actor: "Actor[Any]", name: str, due_ms: int) -> None:
    """See `Actor.remind`."""
    _check_turn(actor, name)
    due_ms = max(due_ms, _handled(actor, name) + 1)
    await _write(actor, name, due_ms)


async def unremind(actor: "Actor[Any]", name: str) -> None:
    """See `Actor.unremind`."""
    _check_turn(actor, name)
    await _write(actor, name, None)


def _check_turn(actor: "Actor[Any]", name: str) -> None:
    """Raises `Internal` for what the author of the actor did wrong, `Unavailable` without a lease."""
    if not is_reminder(type(actor), name):
        raise Internal(f"{type(actor).__name__}.{name} is not marked @reminder")
    if actor.state is not actor.activation.boundary:
        raise Internal(f"a turn of {actor.id} sets or takes back a reminder after it changed state")
    actor.activation.host.durability.accept_logged()


async def _write(actor: "Actor[Any]", name: str, due_ms: int | None) -> None:
    """Set reminder `name` to `due_ms`, or take it back (None), in a task of its own: the first step of
    a turn runs in whatever task called it. While the outcome is open, and after a failure, any due may
    be in the store. Raises `Fenced`, and ends the activation, where somebody else has the actor."""
    one, known = actor.activation, _known(actor)
    known.number += 1
    number = known.number
    known.pending.pop(name, None)
    write = one.host.store.unset_reminder if due_ms is None else one.host.store.set_reminder
    statement = write(Reminder(actor.id, name, due_ms or 0, one.epoch, number))
    if not await one.host.supervisor.spawn(statement, f"reminder {actor.id}"):
        one.fenced()
        raise Fenced(f"{one.id} has another owner")
    if known.number == number:  # otherwise another went out meanwhile, and which is the later is not said
        known.pending[name] = due_ms


def _handled(actor: "Actor[Any]", name: str) -> int:
    """The due up to which the state of a write-behind actor has reminder `name` as handled, or 0."""
    return 0 if actor.durability == "logged" else int(actor.state.reminded.get(name, 0))


def deliver(actor: "Actor[Any]", name: str, due_ms: int) -> bool | Awaitable[bool]:
    """See `Actor.reminded`."""
    if not is_reminder(type(actor), name):
        raise NotFound(f"{type(actor).__name__} has no reminder {name[:64]!r}")
    known = actor.activation.reminding
    if known is not None and known.pending.get(name, due_ms) != due_ms:
        return True  # its row was read before that was set, or came late to where none was left
    if _handled(actor, name) >= due_ms:
        return known is None or actor.activation.stored_version >= known.recorded.get(name, 0)
    if known is not None:
        known.pending.pop(name, None)
    result = getattr(actor, name)(due_ms)
    if inspect.isawaitable(result):
        return _awaited(actor, name, due_ms, result)
    return _record(actor, name, due_ms)


async def _awaited(actor: "Actor[Any]", name: str, due_ms: int, result: Awaitable[Any]) -> bool:
    await result
    return _record(actor, name, due_ms)


def _record(actor: "Actor[Any]", name: str, due_ms: int) -> bool:
    """The method has run: note it in the state, as part of the same turn. For a logged actor the
    answer itself waits for what the turn has emitted."""
    actor.activation.host.metrics.reminders_fired_total += 1
    if actor.durability == "logged":
        return True
    actor.state = replace(actor.state, reminded={**actor.state.reminded, name: due_ms})
    _known(actor).recorded[name] = actor.version + 1
    return False


# ---- the node's side ----


class Reminders:
    """Delivers due reminders of this node's slots: a bounded number a poll and at a time."""

    def __init__(self, host: "ActorSystem") -> None:
        self._host = host
        self._under_way: dict[Reminder, None] = {}
        self._room = asyncio.Semaphore(UNDER_WAY)
        self._retries: Retries[Reminder] = Retries(host.rng)
        self._after: Reminder | None = None

    @property
    def wanted(self) -> bool:
        """Whether the application has any."""
        return any(has_reminders(cls) for cls in self._host.app.actors)

    @property
    def busy(self) -> bool:
        """Whether a delivery is under way."""
        return bool(self._under_way)

    async def run(self) -> None:
        """Poll for ever; a store that is away is asked less often."""
        host, interval_s, failures = self._host, self._host.settings.actors.reminder_poll_s, 0
        while True:
            await asyncio.sleep(interval_s + backoff_s(failures, host.rng, interval_s / 4, 10.0))
            try:
                await self.poll()
                failures = 0
            except Exception as error:
                failures += 1
                if failures == 1:
                    known = isinstance(error, GarrisonError)
                    log.warning("cannot look for reminders", why=str(error), exc_info=None if known else error)

    async def poll(self) -> None:
        """Begin to deliver what is due. Continues where the last poll ended, so that what fails again
        and again holds nothing else up. Raises the store's `Unavailable`."""
        host, until_ms = self._host, self._host.clock.wall_ms()
        if host.catalog.closed is not None:
            return
        for _ in range(PAGES_A_POLL):
            page = await host.store.due_reminders(until_ms, PAGE, self._after)
            for one in page:
                self._after = one
                await self._consider(one)
            if len(page) < PAGE:
                self._after = None
                return

    async def _consider(self, one: Reminder) -> None:
        host = self._host
        if host.owner(one.id) != host.me or one in self._under_way:
            return
        if not self._retries.ready(one, host.clock.now()):
            return
        await self._room.acquire()
        self._under_way[one] = None
        host.supervisor.spawn(self._handle(one), f"reminder {one.id}")

    async def _handle(self, one: Reminder) -> None:
        try:
            if await self._deliver(one):
                await self._host.store.drop_reminder(one)
            self._retries.done(one)
        except Exception as error:
            times = self._retries.failed(one, self._host.clock.now())
            if times & (times - 1) == 0:  # the first, second, fourth, eighth … time
                known = isinstance(error, GarrisonError)
                log.warning(
                    "reminder failed", actor=one.id, method=one.name, times=times, why=str(error),
                    exc_info=None if known else error,
                )  # fmt: skip
        finally:
            del self._under_way[one]
            self._room.release()

    async def _deliver(self, one: Reminder) -> bool:
        """Whether the reminder may be dropped."""
        host = self._host
        parse_actor_id(one.id)  # a row may have been made by hand: it fails alone
        cls = host.app.actor(kind_of(one.id))
        if cls is not None and is_reminder(cls, one.name):
            return bool(await host.ask(one.id, "reminded", (one.name, one.due_ms)))
        if host.clock.wall_ms() - one.due_ms < UNKNOWN_KEPT_MS:
            raise NotFound(f"no reminder {one.name} of {kind_of(one.id)} in this version")
        log.error("reminder dropped: there is no such method", actor=one.id, method=one.name, due_ms=one.due_ms)
        return True
