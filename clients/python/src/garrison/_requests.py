"""Requests on their way to their answers.

They wait in a heap ordered by age, are sent within a window of `Options.max_in_flight`, and go back into the heap
when they may be repeated: commands by their number, others only when the caller says so. A request keeps its
packed frame, so that each try sends the same, but for the id: every try has an id of its own, so that a late
answer to an earlier try is not taken for the answer to this one. Pure.
"""

import heapq
from collections.abc import Callable
from typing import Any

from garrison._base import Command, Reply, Request
from garrison._frames import pack_around_id, with_id
from garrison._retry import Chance, repeatable, retry_wait_s
from garrison._stats import Stats
from garrison._timers import Timers
from garrison.errors import ConnectionLost, DeadlineExceeded, GarrisonError, Overloaded, from_wire
from garrison.messages import Failed
from garrison.options import Options


class Call:
    """A request until it is answered. `parts`: its frame before and after the id. `done` hears of the answer
    once, with a reply or an error. `number`: the id of the try under way, 0 while none is."""

    __slots__ = ("attempt", "done", "name", "number", "order", "parts", "retry", "settled", "timeout_s")

    def __init__(
        self, name: str, parts: tuple[bytes, bytes], order: int, retry: bool, timeout_s: float, done: "Done"
    ) -> None:
        self.name = name
        self.parts = parts
        self.order = order
        self.retry = retry
        self.timeout_s = timeout_s
        self.done = done
        self.attempt = 0
        self.number = 0
        self.settled = False

    def __lt__(self, other: "Call") -> bool:
        return self.order < other.order


Done = Callable[[Call, Reply | None, GarrisonError | None, float], None]


class Requests:
    """All calls of a client. `send` takes frames, `take_id` gives request ids. `flowing`: whether requests may be
    sent now, which is so while a session is up and not moving."""

    def __init__(
        self,
        options: Options,
        stats: Stats,
        timers: Timers,
        chance: Chance,
        send: Callable[[bytes], None],
        take_id: Callable[[], int],
    ) -> None:
        self.flowing = False
        self._options = options
        self._stats = stats
        self._timers = timers
        self._chance = chance
        self._send = send
        self._take_id = take_id
        self._orders = 0
        self._calls: dict[int, Call] = {}
        self._ready: list[Call] = []
        self._in_flight: dict[int, Call] = {}

    @property
    def in_flight(self) -> int:
        """Requests sent and not answered yet."""
        return len(self._in_flight)

    def submit(
        self,
        message: Request[Any],
        now: float,
        done: Done,
        *,
        timeout_s: float | None = None,
        retry: bool | None = None,
    ) -> Call:
        """Queue `message` and send as the window allows. Raises `Overloaded` where too many wait, `BadInput` for what
        cannot be sent; then nothing is queued."""
        options = self._options
        if len(self._calls) >= options.max_queued:
            raise Overloaded(f"{options.max_queued} requests wait already")
        parts = pack_around_id(message)
        is_command = isinstance(message, Command)
        if timeout_s is None:
            timeout_s = options.command_timeout_s if is_command else options.request_timeout_s
        self._orders += 1
        call = Call(
            type(message).__name__, parts, self._orders, is_command if retry is None else retry, timeout_s, done
        )
        self._calls[call.order] = call
        self._timers.at(now + timeout_s, "deadline", call)
        if len(self._ready) > 2 * options.max_queued:  # many were given up while nothing was sent
            self._ready = sorted(waiting for waiting in self._ready if not waiting.settled)
        heapq.heappush(self._ready, call)
        self.pump()
        return call

    def cancel(self, order: int) -> None:
        """Forget a request: its answer, should one come, is of no interest."""
        call = self._calls.get(order)
        if call is not None:
            self._close(call)
            self.pump()

    def answer(self, reply: Reply, now: float) -> bool:
        """Take a reply. False if it answers nothing that waits here."""
        call = self._in_flight.pop(reply.id, None)
        if call is None:
            return False
        call.number = 0
        if not isinstance(reply, Failed):
            self._settle(call, reply, None, now)
        else:
            error = from_wire(reply.code, reply.message, reply.retry_after_ms)
            if call.retry and repeatable(error):
                self._retry_later(call, error, now)
            else:
                self._settle(call, None, error, now)
        self.pump()
        return True

    def lose(self, now: float) -> None:
        """The connection is gone: calls that may be repeated wait for the next one, the others fail."""
        self.flowing = False
        in_flight, self._in_flight = self._in_flight, {}
        for call in in_flight.values():
            call.number = 0
            if call.retry:
                self._stats.retries += 1
                heapq.heappush(self._ready, call)
            else:
                self._settle(call, None, ConnectionLost("the connection broke before the answer"), now)

    def fail_all(self, error: GarrisonError, now: float) -> None:
        """Nothing more will be answered."""
        self.flowing = False
        for call in list(self._calls.values()):
            self._settle(call, None, error, now)

    def pump(self) -> None:
        """Send the oldest calls that wait, as far as the window allows."""
        while self._ready and self.flowing and len(self._in_flight) < self._options.max_in_flight:
            call = heapq.heappop(self._ready)
            if call.settled:
                continue
            call.number = self._take_id()
            self._in_flight[call.number] = call
            self._stats.requests_sent += 1
            self._send(with_id(call.parts, call.number))

    # ---- timers -------------------------------------------------------------------------------

    def expire(self, call: Call, now: float) -> None:
        """The time of `call` is over."""
        if not call.settled:
            error = DeadlineExceeded(f"{call.name}: no answer within {call.timeout_s:g} s")
            self._settle(call, None, error, now)
            self.pump()

    def again(self, call: Call) -> None:
        """The wait of `call` before its next try is over."""
        if not call.settled:
            heapq.heappush(self._ready, call)
            self.pump()

    def _retry_later(self, call: Call, error: GarrisonError, now: float) -> None:
        options = self._options
        wait_s = retry_wait_s(error, call.attempt, self._chance, options.backoff_base_s, options.backoff_cap_s)
        call.attempt += 1
        self._stats.retries += 1
        self._timers.at(now + wait_s, "retry", call)

    def _settle(self, call: Call, reply: Reply | None, error: GarrisonError | None, now: float) -> None:
        self._close(call)
        call.done(call, reply, error, now)

    def _close(self, call: Call) -> None:
        """Take `call` off the books. In the heap it stays until it is popped or swept out."""
        call.settled = True
        self._calls.pop(call.order, None)
        if call.number:
            self._in_flight.pop(call.number, None)
            call.number = 0
