"""The turns of one activation: run inline or as a task, undone when they fail, with a mailbox before and held
answers after them.

A turn runs inline: an idle activation's plain method is simply called, an `async def` method is
started at once and becomes a task only if it really waits. The mutation of a turn is its
replacing of `actor.state`; at the end of the turn that becomes the new *boundary* (what a flush
sees), or, if the turn failed or may not be acknowledged, is undone. Outputs (the result, tells,
pushes) leave after that, in order: at once, or when `released` says that the change is durable
(output commit, as in Elnozahy et al., "A Survey of Rollback-Recovery Protocols", 2002).
"""

import asyncio
import math
import types
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from server.activations.awaiting import copy_into, drive, fail, is_cancelled, wait_for
from server.activations.event_log import EventLog
from server.activations.ports import ActivationNode, Chain
from server.actors.actor import Actor
from server.actors.methods import Method
from server.errors import (
    CallCycle,
    DeadlineExceeded,
    Fenced,
    GarrisonError,
    Internal,
    Moved,
    NotFound,
    Overloaded,
)
from server.ids import ActorId, Epoch

Output = Callable[[], None]
DRAIN_AT_ONCE: Final = 64
"""Queued calls that run one after the other before the loop gets its turn."""
NEVER: Final = math.inf
"""The deadline of a timer's turn, which waits in the mailbox however long it takes."""
_UNSET: Final = (0.0, NEVER)


class QueuedCall:
    """A call in the mailbox."""

    __slots__ = ("args", "chain", "deadline", "future", "method", "since")

    def __init__(self, method: Method, args: tuple[Any, ...], chain: Chain, deadline: float, since: float) -> None:
        self.method, self.args, self.chain, self.deadline, self.since = method, args, chain, deadline, since
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @property
    def is_timer(self) -> bool:
        """True for the turn of a timer that is due; nobody waits for its answer."""
        return self.deadline == NEVER


class HeldAnswer(NamedTuple):
    """The outputs of a finished turn, which wait until the state with `version` is durable."""

    version: int
    future: "asyncio.Future[Any]"
    result: Any
    outputs: list[Output]
    since: float


class _EachTurn:
    """The fields that every turn touches. The slots of a base class lie together, before all others: among
    thousands of activations, none in the processor's cache, a turn waits for fewer of its lines."""

    __slots__ = (
        "_held", "_mailbox", "_methods", "_node", "actor", "boundary", "busy", "chain", "deadline", "dropped",
        "durable", "last_turn", "outputs", "paused",
    )  # fmt: skip


class Turns(_EachTurn):
    """See the module's head. `version` counts changes of the durable state for ever."""

    __slots__ = (
        "_log",
        "_turn",
        "_why",
        "dirty",
        "epoch",
        "id",
        "kind",
        "stored_version",
        "through",
        "version",
    )

    def __init__(
        self, node: ActivationNode, cls: type[Actor[Any]], identity: ActorId, state: Any, version: int
    ) -> None:
        self._node = node
        self.id = identity
        self.kind = cls.kind
        self.durable = cls.durability != "volatile"
        self.through = cls.durability == "written_through"
        """Its outputs wait until the store has the change."""
        self.epoch = Epoch(0)
        self.version = self.stored_version = version
        self.dirty = False
        """True while a change is not in the store: the mark of the write-behind."""
        self.boundary = state
        self.actor: Actor[Any] = cls.__new__(cls)
        self.actor.state = state
        self.busy = False
        """True while a turn is under way."""
        self.paused = True
        """No turn begins now: calls queue. See `Activation.phase`, which says why."""
        self.dropped = False
        self.chain: Chain = ()
        self.deadline = 0.0
        self.outputs: list[Output] = []
        self.last_turn = node.turn_number
        """The number of its newest turn among all of the node, or of the node's newest one at its birth."""
        self._methods: Mapping[str, Method] = node.methods(cls)
        self._mailbox: deque[QueuedCall] | None = None
        self._held: deque[HeldAnswer] | None = None
        self._log: EventLog | None = None
        self._turn: asyncio.Task[None] | None = None
        """The turn under way, where it waits."""
        self._why: GarrisonError | None = None
        """The reason why the activation was dropped."""

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
            method = self.timer_method(name) if deadline == NEVER else self.method(name)
        if self.busy or self._mailbox or self.paused:
            return self._enqueue(method, args, chain, deadline)
        self.busy = True
        node = self._node
        self.last_turn = node.turn_number = node.turn_number + 1
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
            self.version += 1  # `_finish` would do no more here
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
        self._turn = self._node.supervisor.spawn(self._run(work, yielded, future), f"turn {self.id}")
        self._turn.add_done_callback(partial(self._never_ran, work, future))
        return future

    def _never_ran(self, work: Coroutine[Any, Any, Any], future: "asyncio.Future[Any]", task: object) -> None:
        """End a turn whose task was cancelled before its first step, and so runs nothing of its own."""
        if self._turn is task:
            self._turn = None
            work.close()
            fail(future, self._failed(self._why or Moved()))
            if self._mailbox:
                self._drain()
            if self.dropped:
                self._let_go()

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
            if self.dropped and not self.busy:
                self._let_go()
            del future  # an error that it holds was raised through this frame

    def _let_go(self) -> None:
        """Called once no turn is under way, where the activation has ended."""

    def _aside(self, work: Any) -> "asyncio.Task[Any]":
        """The awaitable of a read-only plain method: it is no part of a turn and holds nobody up."""
        self.busy = False
        if self.actor.state is not self.boundary or self.outputs:
            raise self._failed(Internal(f"a method of {self.kind} is marked read-only and is not"))
        return self._node.supervisor.spawn(self._wait_aside(work, self.deadline), f"read {self.id}")

    async def _wait_aside(self, work: Any, deadline: float) -> Any:
        if deadline in _UNSET:
            deadline = self._usual()
        try:
            async with asyncio.timeout(max(0.0, deadline - self._node.clock.now())):
                return await work
        except TimeoutError:
            raise DeadlineExceeded(f"read of {self.id}") from None
        except GarrisonError:
            raise
        except Exception as error:
            self._node.turn_crashed(self.id, error)
            raise Internal(f"{type(error).__name__} in {self.kind}") from None

    def _usual(self) -> float:
        """The deadline, from now, of a call that came without one."""
        return self._node.clock.now() + self._node.settings.actors.call_timeout_s

    def _loop_deadline(self) -> float:
        return asyncio.get_running_loop().time() + max(0.0, self.deadline - self._node.clock.now())

    def _failed(self, error: BaseException) -> BaseException:
        """Undo a turn that raised. Returns the error for its caller: only typed ones leave."""
        self._undo()
        self.busy = False
        if isinstance(error, GarrisonError) or not isinstance(error, Exception):
            return error
        self._node.turn_crashed(self.id, error)
        return Internal(f"{type(error).__name__} in {self.kind}")

    def _undo(self) -> None:
        self.actor.state = self.boundary
        self.outputs = []
        if self._log is not None:
            self._log.rollback()

    def _finish(self, result: Any) -> Any:
        """End the turn: the new boundary, then its outputs, now or when they are durable. Raises `Fenced`,
        `Overloaded`, and what the durability raises; the turn is undone then."""
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
                        self._room()
                        self._log.end_turn(state, self.version + 1)
                        held = True
                    elif self.through:
                        self._room()
                        self._node.durability.accept_through(self)
                        held = True
                    elif not self._node.durability.accept(self, state):
                        held = True
                except GarrisonError:
                    self._undo()
                    raise
            self.version += 1
            self.boundary = state
        elif held:
            self._room()
        if held:
            return self._hold(result, outputs or [])  # a list of its own: `self.outputs` is of the turns to come
        if outputs:
            self._leave(outputs)
        return result

    def _room(self) -> None:
        """Raises `Overloaded` while too many answers wait for the store."""
        if self._held and len(self._held) >= self._node.settings.actors.mailbox_max_calls:
            self._node.metrics.mailbox_refused_total += 1
            raise Overloaded(f"too many answers of {self.id} wait for the store")

    def _leave(self, outputs: list[Output]) -> None:
        """Send the outputs of a turn that stands: one that fails may hinder neither the others nor the answer."""
        for output in outputs:
            try:
                output()
            except Exception as error:
                self._node.turn_crashed(self.id, error)

    def _hold(self, result: Any, outputs: list[Output]) -> "asyncio.Future[Any]":
        if self._held is None:
            self._held = deque()
        future = asyncio.get_running_loop().create_future()
        self._held.append(HeldAnswer(self.version, future, result, outputs, self._node.clock.now()))
        return future

    def released(self, version: int) -> None:
        """Let the outputs of turns up to `version` leave, in order: their changes are durable."""
        held = self._held
        while held and held[0].version <= version:
            answer = held.popleft()
            if not answer.future.done():
                answer.future.set_result(answer.result)
            self._leave(answer.outputs)

    def overdue(self) -> None:
        """Fail the answers that have waited past the usual deadline: the store is away. Their turns
        stand, and the outputs leave once they are durable."""
        oldest = self._node.clock.now() - self._node.settings.actors.call_timeout_s
        for answer in self._held or ():
            if answer.since <= oldest:
                fail(answer.future, DeadlineExceeded(f"a change of {self.id} waits for the store"))

    # ---- mailbox ----

    def _enqueue(self, method: Method, args: tuple[Any, ...], chain: Chain, deadline: float) -> Any:
        if self.dropped:
            raise self._gone()
        if self.busy and self.id in chain:
            path = " -> ".join([*chain[chain.index(self.id) :], self.id])
            raise CallCycle(f"the call chain comes back to an actor that it holds: {path}")
        if self.busy and method.read_only and (method.plain or method.aside) and not self.paused:
            return self._read_beside(method, args, deadline)
        return self._queue(method, args, chain, deadline).future

    def _queue(self, method: Method, args: tuple[Any, ...], chain: Chain, deadline: float) -> QueuedCall:
        """Put a call at the end of the mailbox. Raises `Moved`, `Overloaded`."""
        if self.dropped:
            raise self._gone()
        if self._mailbox is None:
            self._mailbox = deque()
        if len(self._mailbox) >= self._node.settings.actors.mailbox_max_calls:
            self._node.metrics.mailbox_refused_total += 1
            raise Overloaded(f"the mailbox of {self.id} is full")
        call = QueuedCall(method, args, chain, deadline or self._usual(), self._node.clock.now())
        self._mailbox.append(call)
        return call

    def _gone(self) -> Moved:
        """The error of a call that comes after the end: it names the new place, if that is known."""
        return Moved(self._why.address if isinstance(self._why, Moved) else "")

    def _read_beside(self, method: Method, args: tuple[Any, ...], deadline: float) -> Any:
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
            self._node.turn_crashed(self.id, error)
            raise Internal(f"{type(error).__name__} in {self.kind}") from None
        finally:
            actor.state, self.outputs = current, outputs
        if method.aside and (asyncio.iscoroutine(result) or isinstance(result, asyncio.Future)):
            return self._node.supervisor.spawn(self._wait_aside(result, deadline), f"read {self.id}")
        if self._held:
            self._room()
            return self._hold(result, [])
        return result

    def _drain(self) -> None:
        """Run queued calls, oldest first; yield to the loop after a while."""
        for _ in range(DRAIN_AT_ONCE):
            if self.busy or self.paused or not self._mailbox:
                return
            call = self._mailbox.popleft()
            if call.future.done():
                continue
            now = self._node.clock.now()
            self._node.metrics.mailbox_wait_seconds.observe(now - call.since)
            if now >= call.deadline:
                call.future.set_exception(DeadlineExceeded(f"waited in the mailbox of {self.id}"))
                continue
            # `call` queues behind a mailbox that is not empty: the rest is hidden while its head runs.
            rest, self._mailbox = self._mailbox, None
            try:
                copy_into(self.call(call.method.name, call.args, call.chain, call.deadline), call.future)
            except BaseException as error:
                fail(call.future, error)
            finally:
                self._rejoin(rest)
        asyncio.get_running_loop().call_soon(self._drain)

    def _rejoin(self, rest: deque[QueuedCall]) -> None:
        """Put back the calls that waited while the head of the mailbox ran, ahead of those that came meanwhile."""
        rest.extend(self._mailbox or ())
        self._mailbox = rest or None
        if self.dropped:
            self._mailbox = None
            for call in rest:
                fail(call.future, self._gone())

    def method(self, name: str) -> Method:
        """The method that others may call under `name`. Raises `NotFound`."""
        method = self._methods.get(name)
        if method is None:
            raise NotFound(f"{self.kind} has no method {name[:64]!r}")
        return method

    def timer_method(self, name: str) -> Method:
        """The method that a timer may run under `name`: any of the actor's own. Raises `NotFound`."""
        method = self._node.timer_methods(type(self.actor)).get(name)
        if method is None:
            raise NotFound(f"{self.kind} has no method {name[:64]!r}")
        return method

    # ---- the store ----

    @property
    def unstored_changes(self) -> int:
        """Changes that were told and are not in the store yet. The oldest held answer is the first change of which
        nobody has heard: none of a log or of what is written through was told before it was stored."""
        if not self.durable:
            return 0
        told = self._held[0].version - 1 if self._held else self.version
        return max(0, told - self.stored_version)

    def note_stored(self, version: int) -> None:
        """Note that everything up to `version` is in the store."""
        self.stored_version = max(self.stored_version, version)

    def committed(self, version: int) -> None:
        """Note that everything up to `version` is in the store: answers that wait for it leave."""
        self.note_stored(version)
        self.released(version)

    def fenced(self) -> None:
        """Drop dead and count what was promised: the store has another owner for this."""
        self._node.lost(self, self.unstored_changes)
