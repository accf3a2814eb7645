"""The live instance of an actor: the context of its turns, its timers, its log, and its life.

    loading   made, and not open for calls yet: hooks run, or its parcel waits for the word of another node
    live      turns begin
    closing   its last turn is over and it is being stored and released: calls queue
    halted    about to move: no turn begins, the one under way ends
    frozen    at rest, timers stopped: it moves, or has arrived and waits for the calls passed on to it
    dropped   ended here: calls are sent elsewhere

A deactivation goes live -> closing -> dropped, a migration live -> halted -> frozen -> dropped here, while its
twin there goes loading -> frozen -> live. Where the store fails, closing, halted and frozen go back to live.
`fenced` and `drop` end an activation in any phase.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal

from server.activations.awaiting import fail
from server.activations.event_log import EventLog
from server.activations.open_facts import OpenFacts
from server.activations.ports import ActivationNode, Chain
from server.activations.reminding import Reminding
from server.activations.showing import ShowingTurns
from server.activations.timers import Timers
from server.activations.turns import NEVER, QueuedCall
from server.actors.actor import Actor
from server.actors.facts import tells_facts
from server.actors.latest import LatestSource
from server.errors import DeadlineExceeded, Fenced, GarrisonError, Moved, NotFound, Retryable
from server.ids import ActorId, NodeAddress, NodeId, key_of
from server.runtime.phases import PhaseTable
from server.settings import Settings
from server.wire.messages import Push

Phase = Literal["loading", "live", "closing", "halted", "frozen", "dropped"]
ACTIVATION: Final[PhaseTable[Phase]] = PhaseTable(
    "activation",
    {
        "loading": ("live", "frozen", "dropped"),
        "live": ("closing", "halted", "dropped"),
        "closing": ("live", "dropped"),
        "halted": ("live", "frozen", "dropped"),
        "frozen": ("live", "dropped"),
        "dropped": (),
    },
)
MAX_WAITING: Final = 256
"""Callers that wait until a change is stored; past that the first of them is told that it takes too long."""


class Activation(ShowingTurns):
    """See the module's head; `turns.py` has what every turn does, `showing.py` how it looks to those who watch. It is
    the `Context` of its actor."""

    __slots__ = (
        "_reminding", "_timers", "_until_stored", "all_told", "facts", "had_timers", "phase", "pins", "retiring",
        "tells_facts",
    )  # fmt: skip

    def __init__(
        self, node: ActivationNode, cls: type[Actor[Any]], identity: ActorId, state: Any, version: int
    ) -> None:
        self.phase: Phase = "loading"
        super().__init__(node, cls, identity, state, version)
        self.actor.context = self
        self.pins = 0
        """Sessions that are bound to it: it is not idle while there are any."""
        self.retiring = False
        """True once the actor has asked to end when idle."""
        self.had_timers = False
        """True if it had timers when it was dropped: then somebody should wake the actor elsewhere."""
        self._timers: Timers | None = None
        self._reminding: Reminding | None = None
        self._until_stored: deque[tuple[int, asyncio.Future[None]]] | None = None
        self.tells_facts = tells_facts(cls)
        self.facts: OpenFacts | None = None
        """Its open facts, once it has had some."""
        self.all_told = False
        """True where no fact of it is open: by its row when it was loaded, and as the telling has seen since."""

    def _enter(self, phase: Phase) -> None:
        """Change the phase, and the flags beside it that the hot path reads. Raises `IllegalTransition`."""
        self.phase = ACTIVATION.move(self.id, self.phase, phase)
        self.paused = phase != "live"
        self.dropped = phase == "dropped"

    @property
    def frozen(self) -> bool:
        """At rest on its way to another node, or just arrived: no turn begins, no timer rings."""
        return self.phase == "frozen"

    def begin(self) -> None:
        """Loaded: turns begin."""
        self._enter("live")

    def begin_frozen(self) -> None:
        """Arrived from another node: turns begin, and timers ring, after `thaw`."""
        self._enter("frozen")

    # ---- context: identity and time (`server.actors.context.Context`) ----

    @property
    def key(self) -> str:
        return key_of(self.id)

    @property
    def node(self) -> NodeId:
        return self._node.me.node

    def is_stored(self, version: int) -> bool:
        """Tell whether the state with `version`, or a newer one, is in the store."""
        return self.stored_version >= version

    def now(self) -> float:
        """Seconds, monotonic."""
        return self._node.clock.now()

    def wall_ms(self) -> int:
        """Unix time in milliseconds."""
        return self._node.clock.wall_ms()

    def chance(self, bits: int) -> int:
        """See `Actor.chance`."""
        return self._node.rng.getrandbits(bits)

    # ---- context: outputs and calls ----

    def tell(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> None:
        """Call another actor after this turn, without an answer; at most once."""
        self.outputs.append(partial(self._node.tell, identity, name, args))

    def push(self, subject: str, message: Push) -> None:
        """Send `message` to the sessions of player `subject` after this turn."""
        self.outputs.append(partial(self._node.outlet.push, subject, message))

    def end_sessions(
        self, subject: str, code: int, reason: str, issued_before_ms: int = 0, every_role: bool = False
    ) -> None:
        """End the sessions of player `subject` after this turn."""
        self.outputs.append(
            partial(self._node.outlet.end_sessions, subject, code, reason, issued_before_ms, every_role)
        )

    def end_session(self, subject: str, session: str, at: NodeAddress, code: int, reason: str) -> None:
        """End one session of player `subject` after this turn."""
        self.outputs.append(partial(self._node.outlet.end_session, subject, session, at, code, reason))

    @property
    def settings(self) -> Settings:
        """The settings of the node."""
        return self._node.settings

    def publish_latest(self, source: LatestSource, key: str, value: bytes | None) -> None:
        """Send a difference of the actor's latest topic to all who watch, after this turn."""
        self.outputs.append(partial(self._publish_latest, source, key, value))

    def _publish_latest(self, source: LatestSource, key: str, value: bytes | None) -> None:
        order, watchers = source.publish(self._node.clock.now())
        if watchers:
            self._node.outlet.publish_latest(watchers, self.id, order, key, value)

    def ask(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
        """The answer of another actor, as part of the turn under way. Errors: see `Dispatcher.ask`."""
        return self._node.ask(identity, name, args, caller=self)

    async def query_store(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """See `Actor.query_store`. In a task of its own: the first step of a turn runs in whatever task called it."""
        query = self._node.store_queries.run(name, params)
        rows: list[dict[str, Any]] = await self._node.supervisor.spawn(query, f"query {name} for {self.id}")
        return rows

    def release(self) -> None:
        """Ask to be deactivated once idle."""
        self.retire(True)

    def stay(self) -> None:
        """Take `release` back."""
        self.retire(False)

    def retire(self, retiring: bool) -> None:
        """Ask to be deactivated once idle, or not."""
        if retiring != self.retiring:
            self.retiring = retiring
            self._node.note_retiring(self)

    # ---- context: reminders ----

    def _reminders(self) -> Reminding:
        if self._reminding is None:
            self._reminding = Reminding(self, self._node)
        return self._reminding

    async def remind(self, name: str, due_ms: int) -> None:
        """See `Actor.remind`."""
        await self._reminders().remind(name, due_ms)

    async def unremind(self, name: str) -> None:
        """See `Actor.unremind`."""
        await self._reminders().unremind(name)

    def deliver(self, name: str, due_ms: int) -> bool | Awaitable[bool]:
        """See `Actor.reminded`."""
        return self._reminders().deliver(name, due_ms)

    def pending_reminders(self) -> dict[str, int | None]:
        """For each reminder that this activation has set, the due that has not come yet; None where it was
        taken back."""
        return dict(self._reminding.pending) if self._reminding is not None else {}

    @property
    def reminder_number(self) -> int:
        """The number of the newest statement about its reminders."""
        return self._reminding.number if self._reminding is not None else 0

    def adopt_reminders(self, pending: dict[str, int | None], number: int) -> None:
        """Take over `pending_reminders` and `reminder_number` of the activation that was before this one."""
        if pending or number:
            reminders = self._reminders()
            reminders.pending.update(pending)
            reminders.number = number

    # ---- facts: its own, and those that others tell it ----

    def note_stored(self, version: int) -> None:
        """Note that everything up to `version` is in the store: who waits for that goes on, and what is to be told
        of it may be."""
        self.stored_version = max(self.stored_version, version)
        waiting = self._until_stored
        while waiting and waiting[0][0] <= self.stored_version:
            _, future = waiting.popleft()
            if not future.done():
                future.set_result(None)
        if self.tells_facts and not self.dropped:
            self._node.look_for_facts(self)

    @property
    def telling(self) -> bool:
        """True while a fact of it is open: it does not leave memory by itself."""
        return self.facts is not None and self.facts.busy

    @property
    def has_told_all(self) -> bool:
        """True for a logged actor without an open fact: its state may not say so, and its row will."""
        return self.all_told and self._log is not None

    def when_stored(self, result: Any) -> Any:
        """The result of a call as it may be told to who asks for *stored* effects: itself if all is in the store, a
        future otherwise. It fails with `Moved` where the activation ends before: another one may know nothing of it."""
        if not isinstance(result, asyncio.Future) and (self.stored_version >= self.version or not self.durable):
            return result
        return self._node.supervisor.spawn(self._stored(result), f"stored {self.id}")

    async def _stored(self, result: Any) -> Any:
        answer = await asyncio.shield(result) if isinstance(result, asyncio.Future) else result
        if self.dropped:
            raise Moved()
        if self.stored_version < self.version and self.durable:
            if self._until_stored is None:
                self._until_stored = deque()
            if len(self._until_stored) >= MAX_WAITING:
                fail(self._until_stored.popleft()[1], DeadlineExceeded(f"a change of {self.id} waits for the store"))
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._until_stored.append((self.version, future))
            await future
        return answer

    # ---- the log of a logged actor ----

    def log(self) -> EventLog:
        """Raises `NotFound` for an actor that is not logged, `Moved` once this has ended."""
        if self._log is None:
            raise self._gone() if self.dropped else NotFound(f"{self.kind} is not a logged actor")
        return self._log

    def adopt_log(self, event_log: EventLog) -> None:
        """Take the log that was loaded, or has arrived from another node."""
        assert self.phase == "loading" and self._log is None, f"{self.id} has a log already"
        self._log = event_log

    @property
    def has_log(self) -> bool:
        return self._log is not None

    # ---- timers ----

    def set_timer(self, name: str, delay_s: float, args: tuple[Any, ...]) -> None:
        """Run own method `name(*args)` as a turn in `delay_s`; a timer of that name is moved."""
        if self.dropped:
            return  # a turn that goes on after its activation has ended
        if self._timers is None:
            self._timers = Timers(
                self.fire, self._node.clock, self._node.timer_gate, needs_lease=self.durable, running=not self.frozen
            )
        self._timers.set(name, delay_s, args)

    def cancel_timer(self, name: str) -> None:
        if self._timers is not None:
            self._timers.cancel(name)

    def fire(self, name: str, args: tuple[Any, ...]) -> None:
        """Run the turn of a timer that is due, now or as soon as there can be one."""
        try:
            result = self.call(name, args, (), NEVER)  # however long it waits for its turn
        except GarrisonError as error:
            self._not_fired(name, args, error)
            return
        if isinstance(result, asyncio.Future):
            result.add_done_callback(partial(self._fired, name, args))
        elif self._timers is not None:
            self._timers.went_well(name)

    def _fired(self, name: str, args: tuple[Any, ...], done: "asyncio.Future[Any]") -> None:
        error = done.exception() if not done.cancelled() else None
        if error is not None:
            self._not_fired(name, args, error)
        elif self._timers is not None:
            self._timers.went_well(name)

    def _not_fired(self, name: str, args: tuple[Any, ...], error: BaseException) -> None:
        """Note that a timer's turn failed; where nothing happened the timer is set again, so that what goes
        by timers does not end with one refusal."""
        self._node.timer_failed(self.id, name, error)
        timers = self._timers
        if timers is not None and name not in timers:
            if isinstance(error, Retryable):
                timers.refused(name, args, error)
            else:
                timers.went_well(name)

    @property
    def timers(self) -> int:
        """How many timers are set."""
        return len(self._timers) if self._timers is not None else 0

    def timers_left(self) -> list[tuple[str, float, tuple[Any, ...]]]:
        """Name, seconds until it is due, and arguments, of each timer."""
        return self._timers.left() if self._timers is not None else []

    def replace_timers(self, timers: Iterable[tuple[str, float, tuple[Any, ...]]]) -> None:
        """Set `timers`, and no others."""
        if self._timers is not None:
            self._timers.clear()
        for name, left_s, args in timers:
            self.set_timer(name, left_s, args)

    # ---- moving to another node ----

    def halt(self) -> bool:
        """Begin no turn from here until `thaw` or `drop`; one that is under way goes on. False
        where the activation ends or moves already."""
        if self.phase != "live":
            return False
        self._enter("halted")
        return True

    @property
    def at_rest(self) -> bool:
        """Halted, and neither a turn nor an answer is under way."""
        return self.phase in ("halted", "frozen") and not (self.busy or self._held)

    @property
    def held(self) -> bool:
        """True while answers wait until their changes are durable."""
        return bool(self._held)

    def freeze(self) -> None:
        """Stop the timers too: halted, and at rest."""
        assert self.at_rest, f"{self.id} is frozen while a turn or an answer is under way"
        self._enter("frozen")
        if self._timers is not None:
            self._timers.stop()

    def thaw(self) -> None:
        """Go on living, halted or frozen as it is. Does nothing once it is dropped."""
        if self.dropped:
            return
        self._enter("live")
        if self._timers is not None:
            self._timers.go_on()
        if self._mailbox:
            self._drain()

    def carry(self) -> Any:
        """The answer of the actor's `carry`, between turns. Raises `Internal` where that fails, or changes state."""
        assert not self.busy, f"{self.id} is packed within a turn"
        self.busy = True
        try:
            carried = self.actor.carry()
            if self.actor.state is not self.boundary or self.outputs:
                raise RuntimeError("carry changes or sends something")
        except Exception as error:
            raise self._failed(error) from None
        self.busy = False
        return carried

    def queued(self) -> list[QueuedCall]:
        """The calls in the mailbox, in order."""
        return list(self._mailbox or ())

    def hand_over(self) -> list[QueuedCall]:
        """Take the waiting calls out of the mailbox, in order; they are somebody else's now. Timers that are
        due are forgotten: they have gone to the other node."""
        waiting, self._mailbox = self._mailbox or deque(), None
        for call in waiting:
            if call.is_timer:
                call.future.cancel()
        return [call for call in waiting if not call.is_timer]

    def call_at(
        self, place: int, name: str, args: tuple[Any, ...], chain: Chain, deadline: float
    ) -> "asyncio.Future[Any]":
        """Queue a call at `place` of the mailbox of a frozen activation. Raises as `call`."""
        call = self._queue(self.method(name), args, chain, deadline)
        assert self._mailbox is not None
        self._mailbox.insert(place, self._mailbox.pop())
        return call.future

    # ---- the end ----

    @property
    def copyable(self) -> bool:
        """Live, and no turn, call or answer of it is under way, nor anything of its log: what it is can be copied."""
        under_way = self.busy or self.paused or self._mailbox or self._held
        return not under_way and (self._log is None or not self._log.backlog())

    @property
    def idle(self) -> bool:
        """Nothing under way: may be collected."""
        return not (self.busy or self.pins or self._mailbox or self._held or self.paused)

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
        """Begin no more turns: the last one is over. Calls queue until `drop` sends them elsewhere."""
        if not self.dropped:
            self._enter("closing")

    def cancel_close(self) -> None:
        """Go on living: the flush before closing failed. Does nothing where it has ended."""
        if self.phase != "closing":
            return
        self._enter("live")
        if self._mailbox:
            self._drain()

    def drop(self, error: GarrisonError) -> None:
        """End now: the turn under way and waiting calls get `error`, held answers `Fenced`.
        Idempotent."""
        if self.dropped:
            return
        moved = self.frozen
        self._enter("dropped")
        self._why = error
        self._hide(moved)
        if self._turn is not None and self._turn is not asyncio.current_task():
            self._turn.cancel()
        self.had_timers = bool(self._timers)
        if self._timers is not None:
            self._timers.clear()
        self._timers = None
        for call in self._mailbox or ():
            fail(call.future, error)
        self._mailbox = None
        for _, future in self._until_stored or ():
            fail(future, Moved())
        self._until_stored = None
        for answer in self._held or ():
            fail(answer.future, Fenced(f"{self.id} was lost before the change was durable"))
        self._held = None
        if not self.busy:
            self._let_go()

    def _let_go(self) -> None:
        """Hold nothing any more that holds this: the last turn is over, and memory is to be free at once. (The garbage
        collector may never look at it again, see `garbage.py`.) Who reads the actor still has it."""
        actor = type(self.actor).__new__(type(self.actor))
        actor.state = self.boundary
        self.actor = actor
        self._log = self._reminding = None
        self._why = self._gone()  # the error itself may have been raised since, through frames that hold this
