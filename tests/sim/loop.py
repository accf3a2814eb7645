"""An event loop on virtual time: the ground of the simulation.

`time()` is a number that jumps to the next timer when nothing is ready, so a minute of cluster
life takes as long as its callbacks do. There is no I/O and no thread; whatever asks for one gets
`NotSimulated`. Runs repeat exactly: callbacks run in the order in which they were made ready,
timers of equal time in the order in which they were made, and nothing depends on addresses or
on the hash seed. With `shuffle` the tasks that are ready together are first sorted by creation
and then permuted by the seed (plain callbacks keep their places: asyncio promises their order).

Every callback and task belongs to a `Domain`, a simulated process, by way of its context. A
domain can be paused (its callbacks wait, in order, while the world goes on) and killed (its
callbacks never run again), which is how a whole node is stopped or crashes at any step. A trap
calls back after so many steps of a domain, and `freeze` stops a process in the middle of one.

Two bounds catch what would run for ever: virtual seconds and steps. When nothing is ready, no
timer is set and the main task is not done, that is a `Deadlock`, and the error says where each
task waits.
"""

import asyncio
import contextlib
import contextvars
import functools
import gc
import heapq
import random
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from typing import Any, Generic, Literal, NoReturn, TypeVar

T = TypeVar("T")
MAX_STEPS = 20_000_000
MAX_STEPS_AT_ONCE = 1_000_000


class SimulationError(AssertionError):
    """The simulated run broke a rule of the loop itself."""


class Deadlock(SimulationError):
    """Nothing is ready, no timer is set, and the main task is not done."""


class OutOfBounds(SimulationError):
    """The run took more virtual seconds or more steps than it may."""


class NotSimulated(SimulationError):
    """Real I/O, a thread or a signal was asked for."""


class TasksLeft(SimulationError):
    """The main task ended and other tasks did not."""


class Unhandled(SimulationError):
    """An exception ended up in the loop's exception handler."""


class Killed(BaseException):
    """Unwinds a callback whose process was killed while it was frozen in the middle of it."""


class Trace:
    """A running hash of everything that happened: equal hashes mean equal runs. With `keep`
    the lines are kept as well, to find where two runs part."""

    def __init__(self, keep: bool = False) -> None:
        self._hash = blake2b(digest_size=16)
        self.count = 0
        self.lines: list[str] | None = [] if keep else None

    def step(self, now: float, label: str) -> None:
        """Add a callback of the loop."""
        self.count += 1
        self._hash.update(struct.pack("<d", now))
        self._hash.update(label.encode())
        if self.lines is not None:
            self.lines.append(f"{now:.6f} {label}")

    def note(self, now: float, *parts: object) -> None:
        """Add an event of the world. Parts must print the same in every process."""
        self.step(now, " ".join(map(str, parts)))

    def digest(self) -> str:
        return self._hash.hexdigest()


class Domain:
    """A simulated process. `context` is what its code runs in; enter it by `run`. `threads`: its threads beside the
    one of its event loop, each with a context of its own; they stop and die with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.threads: list[Domain] = []
        self.state: Literal["running", "paused", "dead"] = "running"
        self.pauses = 0
        self.held: deque[asyncio.Handle] = deque()
        self.trap_in = 0
        """Steps until `trap` is called; 0: none is set."""
        self.trap: Callable[[], None] = lambda: None
        self.context = contextvars.Context()
        self.context.run(DOMAIN.set, self)

    def run(self, call: Callable[..., T], *args: Any) -> T:
        """Call into the domain from outside: tasks and timers made by `call` are its own."""
        return self.context.copy().run(call, *args)

    def __repr__(self) -> str:
        return f"<Domain {self.name} {self.state}>"


DOMAIN: contextvars.ContextVar[Domain | None] = contextvars.ContextVar("simulated_process", default=None)


class SimFuture(asyncio.Future[T], Generic[T]):
    """A future that knows which process made it."""

    domain: Domain | None


class SimTask(asyncio.Task[T], Generic[T]):
    """A task with a number that follows creation and the context that it runs in."""

    number: int
    home: contextvars.Context


class SimLoop(asyncio.BaseEventLoop):
    """The loop; see the module's head. `simulate` makes and runs one."""

    def __init__(
        self,
        seed: int | str = 0,
        *,
        limit_s: float = 3600.0,
        shuffle: bool = False,
        max_steps: int = MAX_STEPS,
        max_steps_at_once: int = MAX_STEPS_AT_ONCE,
        trace: Trace | None = None,
    ) -> None:
        super().__init__()
        self.set_debug(False)
        self.set_exception_handler(self._collect)
        self.trace = trace or Trace()
        self.unhandled: list[str] = []
        self.steps = 0
        self.limit_s = limit_s
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_number = 0
        self._task_number = 0
        self._live: dict[int, SimTask[Any]] = {}
        self._prune_at = 64
        self._shuffle = random.Random(f"{seed}/shuffle") if shuffle else None
        self._max_steps, self._max_at_once = max_steps, max_steps_at_once
        self._at_once = 0
        self._ready: deque[asyncio.Handle] = deque()
        self._batch: deque[asyncio.Handle] = deque()  # what is being run now

    # ---- time and order ----

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        self._check_closed()  # type: ignore[attr-defined]
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_number += 1
        heapq.heappush(self._timers, (when, self._timer_number, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""

    def _run_once(self) -> None:
        if not self._ready and not self._batch and not self._stopping:  # type: ignore[attr-defined]
            self._advance()
        while self._timers and self._timers[0][0] <= self._now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled():
                self._ready.append(timer)
        batch = list(self._ready)
        self._ready.clear()
        if self._shuffle is not None and len(batch) > 1:
            self._permute(batch, self._shuffle)
        running = self._batch
        running.extend(batch)
        timer = batch = None  # an error's frames hold this one, and a handle the future with the error
        while running:
            handle = running.popleft()
            if not handle.cancelled():
                self._step(handle)
            del handle

    def _advance(self) -> None:
        """Jump to the next timer."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise Deadlock(f"nothing can happen any more at {self._now:.3f} s; waiting:\n{self._where()}")
        self._now = max(self._now, self._timers[0][0])
        self._at_once = 0
        if self._now > self.limit_s:
            raise OutOfBounds(f"more than {self.limit_s} virtual seconds; waiting:\n{self._where()}")

    def _step(self, handle: asyncio.Handle) -> None:
        domain: Domain | None = handle._context.get(DOMAIN)  # type: ignore[attr-defined]
        if domain is not None:
            if domain.state != "running":
                if domain.state == "paused":
                    domain.held.append(handle)
                return
            if domain.trap_in:
                domain.trap_in -= 1
                if not domain.trap_in:
                    domain.trap()
                    self._batch.appendleft(handle)
                    return
        self.steps += 1
        self._at_once += 1
        if self.steps > self._max_steps or self._at_once > self._max_at_once:
            raise OutOfBounds(f"{self.steps} steps, {self._at_once} of them at {self._now:.3f} s: {_label(handle)}")
        self.trace.step(self._now, _label(handle))
        handle._run()
        del handle  # see `_run_once`

    @staticmethod
    def _permute(batch: list[asyncio.Handle], rng: random.Random) -> None:
        """Shuffle the task steps among the places that task steps hold in `batch`."""
        places = [place for place, handle in enumerate(batch) if _task_of(handle) is not None]
        steps = sorted((batch[place] for place in places), key=_task_number)
        rng.shuffle(steps)
        for place, handle in zip(places, steps, strict=True):
            batch[place] = handle

    # ---- domains ----

    def pause(self, domain: Domain, *, threads: bool = True) -> None:
        """Stop a process: what becomes ready in it waits. Pauses add up. Without `threads` only its event loop stands
        still, as one that is busy does; `resume` is to be told the same."""
        for thread in domain.threads if threads else ():
            self.pause(thread)
        if domain.state != "dead":
            domain.pauses += 1
            domain.state = "paused"

    def resume(self, domain: Domain, *, threads: bool = True) -> None:
        """Let a paused process go on once every pause has ended: all that waited runs now, in the
        order it became ready."""
        for thread in domain.threads if threads else ():
            self.resume(thread)
        domain.pauses = max(0, domain.pauses - 1)
        if domain.state == "paused" and not domain.pauses:
            domain.state = "running"
            self._ready.extend(domain.held)
            domain.held.clear()

    def freeze(
        self, domain: Domain, seconds: float, until: Callable[[], bool] | None = None, *, threads: bool = True
    ) -> None:
        """Stop the running process here, in the middle of its callback, while the world goes on for
        `seconds`, or until `until()`; without `threads` its threads go on. Raises `Killed` if it is killed
        meanwhile."""
        task = asyncio.current_task(self)
        over = [False]
        self.call_at(self._now + seconds, over.__setitem__, 0, True, context=contextvars.Context())
        self.pause(domain, threads=threads)
        if task is not None:
            asyncio.tasks._leave_task(self, task)
        try:
            while not (over[0] or self._stopping or (until is not None and until())):  # type: ignore[attr-defined]
                self._run_once()
            self.resume(domain, threads=threads)
            while domain.state == "paused" and not self._stopping:  # type: ignore[attr-defined]  # by somebody else
                self._run_once()
        finally:
            if task is not None:
                asyncio.tasks._enter_task(self, task)
        if domain.state == "dead":
            raise Killed

    def kill(self, domain: Domain) -> None:
        """End a process between two steps. Nothing of it runs again; its coroutines are closed
        to free what they hold, and what they do while closing reaches no loop."""
        for thread in domain.threads:
            self.kill(thread)
        domain.state = "dead"
        domain.held.clear()
        for task in self.tasks(domain):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _close(task)
            self._live.pop(task.number, None)

    # ---- futures and tasks ----

    def create_future(self) -> SimFuture[Any]:
        future: SimFuture[Any] = SimFuture(loop=self)
        future.domain = DOMAIN.get()
        return future

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> SimTask[T]:
        self._check_closed()  # type: ignore[attr-defined]
        home = context if context is not None else contextvars.copy_context()
        self._task_number += 1
        task: SimTask[T] = SimTask(coro, loop=self, name=name or f"task-{self._task_number}", context=home)
        task.number, task.home = self._task_number, home
        domain = home.get(DOMAIN)
        if domain is not None and domain.state == "dead":
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coro.close()
            return task
        self._live[task.number] = task
        if len(self._live) > self._prune_at:
            self.forget_done()
            self._prune_at = max(64, 2 * len(self._live))
        return task

    def forget_done(self) -> None:
        """Drop the references to tasks that are done, so that their lost exceptions show."""
        self._live = {number: task for number, task in self._live.items() if not task.done()}

    def tasks(self, domain: Domain | None = None) -> list[SimTask[Any]]:
        """Tasks that are not done, oldest first; all, or those of one process and its threads."""
        of = () if domain is None else (domain, *domain.threads)
        return [
            task for task in self._live.values() if not task.done() and (domain is None or task.home.get(DOMAIN) in of)
        ]

    def _where(self) -> str:
        return "\n".join(f"  {task.get_name()}: {_place(task)}" for task in self.tasks()[:40])

    # ---- what a loop must have ----

    def _collect(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        owner = context.get("future") or context.get("task")
        domain = owner.home.get(DOMAIN) if isinstance(owner, SimTask) else getattr(owner, "domain", None)
        if domain is not None and domain.state == "dead":
            return
        error = context.get("exception")
        if isinstance(error, Killed):
            return
        self.unhandled.append(f"{context.get('message')}: {error!r}")

    def _write_to_self(self) -> None:
        if threading.get_ident() != self._thread_id:  # type: ignore[attr-defined]
            raise NotSimulated("call_soon_threadsafe from another thread")

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # type: ignore[override]
        """There is none."""

    def finish(self) -> None:
        """Close what a failed run left behind, and the loop."""
        for task in self.tasks():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _close(task)
        self._timers.clear()
        self.close()


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refused(self: SimLoop, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotSimulated(f"loop.{name} in a simulated run")

    return refused


_REAL = [
    "run_in_executor",
    "getaddrinfo",
    "getnameinfo",
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "create_datagram_endpoint",
    "connect_accepted_socket",
    "start_tls",
    "sendfile",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "sock_sendfile",
    "add_reader",
    "remove_reader",
    "add_writer",
    "remove_writer",
    "add_signal_handler",
    "remove_signal_handler",
    "connect_read_pipe",
    "connect_write_pipe",
    "subprocess_shell",
    "subprocess_exec",
]
for _name in _REAL:
    setattr(SimLoop, _name, _refuse(_name))


def _task_of(handle: asyncio.Handle) -> SimTask[Any] | None:
    owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return owner if isinstance(owner, SimTask) else None


def _task_number(handle: asyncio.Handle) -> int:
    task = _task_of(handle)
    return task.number if task is not None else 0


def _label(handle: asyncio.Handle) -> str:
    task = _task_of(handle)
    if task is not None:
        return f"t{task.number}"
    callback = handle._callback  # type: ignore[attr-defined]
    while isinstance(callback, functools.partial):
        callback = callback.func
    return str(getattr(callback, "__qualname__", type(callback).__name__))


def _close(task: SimTask[Any]) -> None:
    coro = task.get_coro()
    assert coro is not None
    with contextlib.suppress(BaseException):  # a dying process's clean-up has nobody to tell
        task.home.copy().run(coro.close)


def _place(task: SimTask[Any]) -> str:
    """The place where a task waits: the innermost frame of its chain of coroutines."""
    frame: Any = None
    coro: Any = task.get_coro()
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or frame
        coro = getattr(coro, "cr_await", None)
    if frame is None:
        return "?"
    return f"{frame.f_code.co_qualname} ({frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno})"


class Run(Generic[T]):
    """The outcome of a simulated run: the main coroutine's result, the trace's digest, the steps
    taken and the virtual seconds passed."""

    def __init__(self, result: T, loop: SimLoop) -> None:
        self.result = result
        self.digest = loop.trace.digest()
        self.steps = loop.steps
        self.virtual_s = loop.time()


def simulate(
    seed: int | str,
    main: Callable[[SimLoop], Coroutine[Any, Any, T]],
    limit_s: float = 3600.0,
    *,
    shuffle: bool = False,
    max_steps: int = MAX_STEPS,
    max_steps_at_once: int = MAX_STEPS_AT_ONCE,
    trace: Trace | None = None,
) -> Run[T]:
    """Run `main(loop)` to its end on virtual time.

    Raises what it raises; `Deadlock` and `OutOfBounds` as the loop finds them; `TasksLeft` if
    other tasks are not done when it ends, and `Unhandled` if any exception reached the loop's
    handler, those of futures that nobody awaited included. The collector of garbage is off in
    between: it would run finalizers at a moment that no seed decides."""
    loop = SimLoop(
        seed, limit_s=limit_s, shuffle=shuffle, max_steps=max_steps, max_steps_at_once=max_steps_at_once, trace=trace
    )
    collecting = gc.isenabled()
    frozen = gc.get_freeze_count() > 0  # by whoever has a large heap, as a test run does: it stays so
    gc.collect()
    if not frozen:
        gc.freeze()
    gc.disable()
    unraisable, sys.unraisablehook = sys.unraisablehook, _Unraisable(loop)
    try:
        result = loop.run_until_complete(main(loop))
        if loop.tasks():
            raise TasksLeft(f"tasks left at {loop.time():.3f} s:\n{loop._where()}")
        run = Run(result, loop)
        loop.forget_done()
        gc.collect()
        if loop.unhandled:
            raise Unhandled("\n".join(loop.unhandled))
        return run
    finally:
        loop.finish()
        sys.unraisablehook = unraisable
        if not frozen:
            gc.unfreeze()
        if collecting:
            gc.enable()


class _Unraisable:
    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def __call__(self, args: Any) -> None:
        self._loop.unhandled.append(f"{args.err_msg or 'ignored in'} {args.object!r}: {args.exc_value!r}")
