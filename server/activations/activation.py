"""One live instance of an actor: its turns, mailbox, timers and held-back outputs.

A turn runs inline: an idle activation's plain method is simply called, an `async def` method is
started at once and becomes a task only if it really waits. The mutation of a turn is its
replacing of `actor.state`; at the end of the turn that becomes the new *boundary* (what a flush
sees), or, if the turn failed or may not be acknowledged, is undone. Outputs (the result, tells,
pushes) leave after that, in order: at once, or when `released` says that the change is durable.

Life: loading (the catalog's) -> live -> closing (no more turns: it is stored) -> dropped, or, on
the way to another node, live -> halted (no turn begins) -> frozen (no timer rings) -> dropped here,
while its twin there is made frozen and thaws. Calls queue meanwhile. `fenced` and `drop` end it
from any state.
"""

import asyncio
import math
import types
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from server.activations.awaiting import copy_into, drive, fail, is_cancelled, wait_for
from server.activations.timers import Timers
from server.actors.actor import Actor
from server.errors import (
    CallCycle,
    DeadlineExceeded,
    Fenced,
    GarrisonError,
    Internal,
    Moved,
    NotFound,
    Overloaded,
    Retryable,
)
from server.ids import ActorId, Epoch, key_of

if TYPE_CHECKING:
    from server.activations.event_log import EventLog
    from server.actors.methods import Method
    from server.catalog.reminders import Reminding
    from server.catalog.system import ActorSystem

Chain = tuple[ActorId, ...]
Output = Callable[[], None]
_DRAIN_AT_ONCE = 64
_NEVER = math.inf
_UNSET = (0.0, _NEVER)


class Waiting:
    """A call in the mailbox."""

    __slots__ = ("args", "chain", "deadline", "future", "method", "since")

    def __init__(self, method: "Method", args: tuple[Any, ...], chain: Chain, deadline: float, since: float) -> None:
        self.method, self.args, self.chain, self.deadline, self.since = method, args, chain, deadline, since
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @property
    def is_timer(self) -> bool:
        """A timer that is due; nobody waits for its answer."""
        return self.deadline == _NEVER


class _EachTurn:
    """What every turn touches. The slots of a base class lie together, before all others: among
    thousands of activations, none in the processor's cache, a turn waits for fewer of its lines."""

    __slots__ = (
        "_held", "_mailbox", "_methods", "actor", "boundary", "busy", "chain", "closing", "deadline", "dropped",
        "durable", "outputs", "used",
    )  # fmt: skip


class Activation(_EachTurn):
    """See the module's head. `version` counts changes of the durable state for ever."""

    __slots__ = (
        "_log", "_timers", "_turn", "_why", "dirty", "epoch", "frozen", "had_timers", "host", "id", "key", "kind",
        "pins", "reminding", "retiring", "seen", "stored_version", "version",
    )  # fmt: skip

    def __init__(self, host: "ActorSystem", cls: type[Actor[Any]], identity: ActorId, state: Any, version: int) -> None:
        self.host = host
        self.id = identity
        self.kind = cls.kind
        self.key = key_of(identity)
        self.durable = cls.durability != "volatile"
        self.epoch = Epoch(0)
        self.version = self.stored_version = version
        self.boundary = state
        self.actor = actor = cls.__new__(cls)
        actor.activation = self
        actor.state = state
        self.busy = False
        self.chain: Chain = ()
        self.deadline = 0.0
        self.outputs: list[Output] = []
        self.pins = 0
        self.used = 0
        """Turns so far."""
        self.seen = -1
        """`used` when the collector last passed."""
        self.dirty = False
        self.retiring = False
        self.dropped = False
        self.had_timers = False
        self.reminding: Reminding | None = None
        self.closing = False
        self.frozen = False
        self._methods = host.methods(cls)
        self._mailbox: deque[Waiting] | None = None
        self._held: deque[tuple[int, asyncio.Future[Any], Any, list[Output], float]] | None = None
        """Version, answer's future, answer, other outputs, since when."""
        self._timers: Timers | None = None
        self._log: EventLog | None = None
        self._turn: asyncio.Task[None] | None = None
        """The turn under way, where it waits."""
        self._why: GarrisonError | None = None
        """Why it was dropped."""

    # ---- turns ----

    def call(self, name: str, args: tuple[Any, ...], chain: Chain = (), deadline: float = 0.0) -> Any:
        """Run `name(*args)` as a turn: its result, or a future of it where the turn waits, has
        to queue, or its outputs are held back. Raises what the method raises, `NotFound`,
        `Overloaded`, `CallCycle`, `Moved` (no longer here), `Unavailable`."""
        # The hot path of everything: each line here is paid by every turn of the cluster. So a
        # deadline of 0.0 is only made out (`_usual`) where the call waits, and the usual numbers of
        # arguments are written out: `f(*args)` costs more than twice `f(a, b)`. Likewise calling
        # a slot, `method.function(...)`, costs more than calling the local that it was read into.
        try:
            method = self._methods[name]
        except KeyError:
            method = self.method(name)
        if self.busy or self._mailbox or self.closing:
            return self._enqueue(method, args, chain, deadline)
        self.busy = True
        self.used += 1
        self.chain = chain
        self.deadline = deadline
        actor, function, count = self.actor, method.function, len(args)
        try:
            if count == 2:
                result = function(actor, args[0], args[1])
            elif count == 1:
                result = function(actor, args[0])
            else:
                result = function(actor, *args)
        except BaseException as error:
            raise self._failed(error) from None
        if not method.plain and (result.__class__ is types.CoroutineType or isinstance(result, asyncio.Future)):
            return self._start(result) if not method.aside else self._aside(result)
        self.busy = False
        state = actor.state
        if state is not self.boundary and not (self.durable or self.dropped):
            self.version += 1  # all that `_finish` would do here
            self.boundary = state
        if state is not self.boundary or self.outputs or self._held:
            result = self._finish(result)
        if self._mailbox:
            self._drain()
        return result

    def _start(self, work: Any) -> Any:
        """Step a coroutine once; only if it really waits does it become a task."""
        if isinstance(work, asyncio.Future):
            work = wait_for(work)
        if self.deadline in _UNSET:
            self.deadline = self._usual()
        try:
            yielded = work.send(None)
        except StopIteration as stop:
            self.busy = False
            result = self._finish(stop.value)
            if self._mailbox:
                self._drain()
            return result
        except BaseException as error:
            raise self._failed(error) from None
        future = asyncio.get_running_loop().create_future()
        self._turn = self.host.supervisor.spawn(self._run(work, yielded, future), f"turn {self.id}")
        self._turn.add_done_callback(partial(self._never_ran, work, future))
        return future

    def _never_ran(self, work: Coroutine[Any, Any, Any], future: "asyncio.Future[Any]", task: object) -> None:
        """A task that is cancelled before its first step runs nothing of its own."""
        if self._turn is task:
            self._turn = None
            work.close()
            fail(future, self._failed(self._why or Moved()))
            if self._mailbox:
                self._drain()

    async def _run(self, work: Coroutine[Any, Any, Any], yielded: Any, future: "asyncio.Future[Any]") -> None:
        try:
            async with asyncio.timeout_at(self._loop_deadline()):
                result = await drive(work, yielded)
            self.busy = False
            copy_into(self._finish(result), future)
        except TimeoutError:
            fail(future, self._failed(DeadlineExceeded(f"turn on {self.id}")))
        except asyncio.CancelledError:
            if is_cancelled():
                fail(future, self._failed(self._why or Moved()))
                raise
            fail(future, self._failed(Internal("what the turn waited for was cancelled")))
        except BaseException as error:
            fail(future, self._failed(error))
        finally:
            if self._turn is asyncio.current_task():
                self._turn = None
            if self._mailbox and not self.busy:
                self._drain()

    def _aside(self, work: Any) -> "asyncio.Task[Any]":
        """The awaitable of a read-only plain method: it is no part of a turn and holds nobody up."""
        self.busy = False
        if self.actor.state is not self.boundary or self.outputs:
            raise self._failed(Internal(f"a method of {self.kind} is marked read-only and is not"))
        return self.host.supervisor.spawn(self._wait_aside(work, self.deadline), f"read {self.id}")

    async def _wait_aside(self, work: Any, deadline: float) -> Any:
        if deadline in _UNSET:
            deadline = self._usual()
        try:
            async with asyncio.timeout(max(0.0, deadline - self.host.clock.now())):
                return await work
        except TimeoutError:
            raise DeadlineExceeded(f"read of {self.id}") from None
        except GarrisonError:
            raise
        except Exception as error:
            self.host.turn_crashed(self.id, error)
            raise Internal(f"{type(error).__name__} in {self.kind}") from None

    def _usual(self) -> float:
        """The deadline, from now, of a call that came without one."""
        return self.host.clock.now() + self.host.settings.actors.call_timeout_s

    def _loop_deadline(self) -> float:
        return asyncio.get_running_loop().time() + max(0.0, self.deadline - self.host.clock.now())

    def _failed(self, error: BaseException) -> BaseException:
        """The turn raised: restore the boundary; only typed errors leave."""
        self._undo()
        self.busy = False
        if isinstance(error, GarrisonError) or not isinstance(error, Exception):
            return error
        self.host.turn_crashed(self.id, error)
        return Internal(f"{type(error).__name__} in {self.kind}")

    def _undo(self) -> None:
        self.actor.state = self.boundary
        self.outputs = []
        if self._log is not None:
            self._log.rollback()

    def _finish(self, result: Any) -> Any:
        """The turn's end: new boundary, then outputs now or when they are durable."""
        outputs = self.outputs
        if outputs:
            self.outputs = []
        held = bool(self._held)
        state = self.actor.state
        if state is not self.boundary:
            if self.dropped:
                self._undo()
                raise Fenced(f"{self.id} was lost during the turn")
            if self.durable:
                try:
                    if self._log is not None:
                        self._log.admit(state)
                        self.host.durability.accept_logged()
                        self._room()
                        held = True
                    elif not self.host.durability.accept(self, state):
                        held = True
                except GarrisonError:
                    self._undo()
                    raise
            self.version += 1
            self.boundary = state
            if self._log is not None:
                self._log.boundary()
        elif held:
            self._room()
        if held:
            return self._hold(result, outputs)
        if outputs:
            self._leave(outputs)
        return result

    def _room(self) -> None:
        """Raises `Overloaded` while too many answers wait for the store."""
        if self._held and len(self._held) >= self.host.settings.actors.mailbox_max_calls:
            self.host.metrics.mailbox_refused_total += 1
            raise Overloaded(f"too many answers of {self.id} wait for the store")

    def _leave(self, outputs: list[Output]) -> None:
        """The turn stands: one output that fails may hinder neither the others nor the answer."""
        for output in outputs:
            try:
                output()
            except Exception as error:
                self.host.turn_crashed(self.id, error)

    def _hold(self, result: Any, outputs: list[Output]) -> "asyncio.Future[Any]":
        if self._held is None:
            self._held = deque()
        future = asyncio.get_running_loop().create_future()
        self._held.append((self.version, future, result, outputs, self.host.clock.now()))
        return future

    def released(self, version: int) -> None:
        """Everything up to `version` is durable: its outputs leave, in order."""
        held = self._held
        while held and held[0][0] <= version:
            _, future, result, outputs, _ = held.popleft()
            if not future.done():
                future.set_result(result)
            self._leave(outputs)

    def overdue(self) -> None:
        """The store is away: whoever has waited past the usual deadline is told so. Their turns
        stand, and the outputs leave once they are durable."""
        oldest = self.host.clock.now() - self.host.settings.actors.call_timeout_s
        for _, future, _, _, since in self._held or ():
            if since <= oldest:
                fail(future, DeadlineExceeded(f"a change of {self.id} waits for the store"))

    # ---- mailbox ----

    def _enqueue(self, method: "Method", args: tuple[Any, ...], chain: Chain, deadline: float) -> Any:
        if self.dropped:
            raise self._gone()
        if self.busy and self.id in chain:
            path = " -> ".join([*chain[chain.index(self.id) :], self.id])
            raise CallCycle(f"the call chain comes back to an actor that it holds: {path}")
        if self.busy and method.read_only and (method.plain or method.aside) and not self.closing:
            return self._read_beside(method, args, deadline)
        return self._waiting(method, args, chain, deadline).future

    def _waiting(self, method: "Method", args: tuple[Any, ...], chain: Chain, deadline: float) -> Waiting:
        """A call in the mailbox, at its end."""
        if self.dropped:
            raise self._gone()
        if self._mailbox is None:
            self._mailbox = deque()
        if len(self._mailbox) >= self.host.settings.actors.mailbox_max_calls:
            self.host.metrics.mailbox_refused_total += 1
            raise Overloaded(f"the mailbox of {self.id} is full")
        call = Waiting(method, args, chain, deadline or self._usual(), self.host.clock.now())
        self._mailbox.append(call)
        return call

    def _gone(self) -> Moved:
        """Why nothing is done here any more: elsewhere, if it is known where."""
        return Moved(self._why.address if isinstance(self._why, Moved) else "")

    def _read_beside(self, method: "Method", args: tuple[Any, ...], deadline: float) -> Any:
        """A read-only method while another turn awaits: it sees the last boundary."""
        actor, outputs, current = self.actor, self.outputs, self.actor.state
        log_end = self._log.next_seq if self._log is not None else 0
        actor.state, self.outputs = self.boundary, []
        try:
            result = method.function(actor, *args)
            if actor.state is not self.boundary or self.outputs:
                if self._log is not None:
                    self._log.rollback_to(log_end)
                raise Internal(f"{self.kind}.{method.name} is marked read-only and is not")
        except GarrisonError:
            raise
        except Exception as error:
            self.host.turn_crashed(self.id, error)
            raise Internal(f"{type(error).__name__} in {self.kind}") from None
        finally:
            actor.state, self.outputs = current, outputs
        if method.aside and (asyncio.iscoroutine(result) or isinstance(result, asyncio.Future)):
            return self.host.supervisor.spawn(self._wait_aside(result, deadline), f"read {self.id}")
        if self._held:
            self._room()
            return self._hold(result, [])
        return result

    def _drain(self) -> None:
        """Run what waits, oldest first; yield to the loop after a while."""
        for _ in range(_DRAIN_AT_ONCE):
            if self.busy or self.closing or not self._mailbox:
                return
            call = self._mailbox.popleft()
            if call.future.done():
                continue
            now = self.host.clock.now()
            self.host.metrics.mailbox_wait_seconds.observe(now - call.since)
            if now >= call.deadline:
                call.future.set_exception(DeadlineExceeded(f"waited in the mailbox of {self.id}"))
                continue
            waiting, self._mailbox = self._mailbox, None
            try:
                copy_into(self.call(call.method.name, call.args, call.chain, call.deadline), call.future)
            except BaseException as error:
                fail(call.future, error)
            finally:
                self._rejoin(waiting)
        asyncio.get_running_loop().call_soon(self._drain)

    def _rejoin(self, waiting: deque[Waiting]) -> None:
        """Put back what waited before the turn that has just run, ahead of what came with it."""
        waiting.extend(self._mailbox or ())
        self._mailbox = waiting or None
        if self.dropped:
            self._mailbox = None
            for call in waiting:
                fail(call.future, self._gone())

    # ---- timers ----

    def set_timer(self, name: str, delay_s: float, args: tuple[Any, ...]) -> None:
        if self.dropped:
            return  # a turn that goes on after its activation has ended
        if self._timers is None:
            self._timers = Timers(self.fire, self.host.clock, running=not self.frozen)
        self._timers.set(name, delay_s, args)

    def cancel_timer(self, name: str) -> None:
        if self._timers is not None:
            self._timers.cancel(name)

    def fire(self, name: str, args: tuple[Any, ...]) -> None:
        """A timer is due: its turn, now or as soon as there can be one."""
        try:
            result = self.call(name, args, (), _NEVER)  # however long it waits for its turn
        except GarrisonError as error:
            self._not_fired(name, args, error)
            return
        if isinstance(result, asyncio.Future):
            result.add_done_callback(partial(self._fired, name, args))

    def _fired(self, name: str, args: tuple[Any, ...], done: "asyncio.Future[Any]") -> None:
        error = done.exception() if not done.cancelled() else None
        if error is not None:
            self._not_fired(name, args, error)

    def _not_fired(self, name: str, args: tuple[Any, ...], error: BaseException) -> None:
        """A timer's turn failed; where nothing happened it comes again, so that what goes by
        timers does not end with one refusal."""
        self.host.timer_failed(self.id, name, error)
        if isinstance(error, Retryable) and not self.dropped and name not in (self._timers or ()):
            self.set_timer(name, error.retry_after_s or Retryable.default_retry_s, args)

    @property
    def timers(self) -> int:
        return len(self._timers) if self._timers is not None else 0

    def timers_left(self) -> list[tuple[str, float, tuple[Any, ...]]]:
        """Name, seconds until it is due, and arguments, of each timer."""
        return self._timers.left() if self._timers is not None else []

    def replace_timers(self, timers: Iterable[tuple[str, float, tuple[Any, ...]]]) -> None:
        """These, and no others."""
        if self._timers is not None:
            self._timers.clear()
        for name, left_s, args in timers:
            self.set_timer(name, left_s, args)

    # ---- the log of a logged actor ----

    def log(self) -> "EventLog":
        if self._log is None:
            raise NotFound(f"{self.kind} is not a logged actor")
        return self._log

    def adopt_log(self, event_log: "EventLog") -> None:
        self._log = event_log

    @property
    def has_log(self) -> bool:
        return self._log is not None

    def method(self, name: str) -> "Method":
        """Raises `NotFound`."""
        method = self._methods.get(name)
        if method is None:
            raise NotFound(f"{self.kind} has no method {name[:64]!r}")
        return method

    # ---- moving to another node ----

    def halt(self) -> bool:
        """No turn begins from here until `thaw` or `drop`; one that is under way goes on. False
        where it ends or moves already."""
        if self.closing:
            return False
        self.closing = True
        return True

    @property
    def at_rest(self) -> bool:
        """Halted, and neither a turn nor an answer is under way."""
        return not (self.busy or self._held or self.dropped)

    @property
    def held(self) -> bool:
        """Answers wait until their changes are durable."""
        return bool(self._held)

    def freeze(self) -> None:
        """Halted and at rest: timers stop too."""
        self.frozen = True
        if self._timers is not None:
            self._timers.stop()

    def thaw(self) -> None:
        """Go on living, halted or frozen as it is."""
        if self.dropped:
            return
        self.frozen = False
        if self._timers is not None:
            self._timers.go_on()
        self.cancel_close()

    def carry(self) -> Any:
        """What the actor's `carry` gives. Raises `Internal` where that fails, or changes state."""
        self.busy = True
        try:
            carried = self.actor.carry()
            if self.actor.state is not self.boundary or self.outputs:
                raise RuntimeError("carry changes or sends something")
        except Exception as error:
            raise self._failed(error) from None
        self.busy = False
        return carried

    def queued(self) -> list[Waiting]:
        """What waits in the mailbox, in order."""
        return list(self._mailbox or ())

    def hand_over(self) -> list[Waiting]:
        """The waiting calls, in order; they are somebody else's now. Timers that are due are
        forgotten: they have gone to the other node."""
        waiting, self._mailbox = self._mailbox or deque(), None
        for call in waiting:
            if call.is_timer:
                call.future.cancel()
        return [call for call in waiting if not call.is_timer]

    def call_at(
        self, place: int, name: str, args: tuple[Any, ...], chain: Chain, deadline: float
    ) -> "asyncio.Future[Any]":
        """Queue a call at `place` of the mailbox of a frozen activation. Raises as `call`."""
        call = self._waiting(self.method(name), args, chain, deadline)
        assert self._mailbox is not None
        self._mailbox.insert(place, self._mailbox.pop())
        return call.future

    # ---- the end ----

    @property
    def idle(self) -> bool:
        """Nothing under way: may be collected."""
        return not (self.busy or self.pins or self._mailbox or self._held or self.closing)

    def hook(self, function: Callable[[Any], None]) -> None:
        """Run one of the actor's own hooks as a turn of an idle activation."""
        self.busy = True
        try:
            function(self.actor)
        except Exception as error:
            raise self._failed(error) from None
        self.busy = False
        self._finish(None)

    def begin_close(self) -> None:
        """No more turns from here; calls queue until `drop` sends them elsewhere."""
        self.closing = True

    def cancel_close(self) -> None:
        """The flush before closing failed: go on living."""
        if self.dropped:
            return
        self.closing = False
        if self._mailbox:
            self._drain()

    def fenced(self) -> None:
        """The store has another owner for this: drop dead, and count what was promised."""
        lost = self.version - self.stored_version if self.durable else 0
        self.host.lost(self, lost)

    def drop(self, error: GarrisonError) -> None:
        """End now: the turn under way and waiting calls get `error`, held answers `Fenced`.
        Idempotent."""
        if self.dropped:
            return
        self.dropped = self.closing = True
        self._why = error
        if self._turn is not None and self._turn is not asyncio.current_task():
            self._turn.cancel()
        self.had_timers = bool(self._timers)
        if self._timers is not None:
            self._timers.clear()
        self._timers = None
        for call in self._mailbox or ():
            fail(call.future, error)
        self._mailbox = None
        for _, future, _, _, _ in self._held or ():
            fail(future, Fenced(f"{self.id} was lost before the change was durable"))
        self._held = None
