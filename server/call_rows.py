"""Rows of clients' requests, for a node's columns: each with the time until its answer, above a rate only some."""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from server.errors import GarrisonError, Internal
from server.runtime.clock import Clock
from server.sessions.session import Session
from server.sessions.session_kit import RequestHandler
from server.wire.messages import Request

MOST_WEIGHT: Final = 65_535
Append = Callable[[tuple[Any, ...]], None]


def nowhere(_row: tuple[Any, ...]) -> None:
    """Rows that come before the start or after the end."""


class CallSampler:
    """Rows of clients' requests: each one, or above `per_s` a second a random one of so many.

    A row's weight says how many calls it stands for, so that sums of weights are true on average. The weight follows
    the rate of the second before: in the first second of a burst every call still has its row.
    """

    def __init__(self, per_s: int, clock: Clock, rng: random.Random) -> None:
        self._per_s, self._clock, self._chance = per_s, clock, rng.random
        self.append: Append = nowhere
        self.weight = 1
        self._seen = 0

    def weigh(self) -> None:
        """Take the weight for the next second from what this one has seen."""
        self.weight = min(MOST_WEIGHT, max(1, -(-self._seen // self._per_s)))
        self._seen = 0

    def done(self, method: str, role: str, begun: float, error: BaseException | None) -> None:
        """Note that a request, begun at `begun` on the clock, has its answer, or was refused with `error`."""
        self._seen += 1
        weight = self.weight
        if weight > 1 and self._chance() * weight >= 1.0:
            return
        code = "" if error is None else error.code if isinstance(error, GarrisonError) else "internal"
        us = int(1e6 * (self._clock.now() - begun))
        self.append((self._clock.wall_ms(), method, role, code, us, weight))


class RecordedRequests:
    """Clients' requests, with the time that each takes noted; see `server.sessions.session_kit.RequestHandler`."""

    def __init__(self, requests: RequestHandler[Session], calls: CallSampler, clock: Clock) -> None:
        self._requests, self._calls, self._clock = requests, calls, clock

    def fault(self, error: BaseException) -> Internal:
        """See `Requests.fault`."""
        return self._requests.fault(error)

    def handle(self, session: Session, message: Request) -> Any:
        """The `Reply`, or a future of it. Raises typed errors."""
        begun = self._clock.now()
        method, role = str(message.__struct_config__.tag), session.caller.role
        try:
            answer = self._requests.handle(session, message)
        except Exception as error:
            self._calls.done(method, role, begun, error)
            raise
        if isinstance(answer, asyncio.Future):
            answer.add_done_callback(partial(self._answered, method, role, begun))
        else:
            self._calls.done(method, role, begun, None)
        return answer

    def _answered(self, method: str, role: str, begun: float, answer: "asyncio.Future[Any]") -> None:
        if not answer.cancelled():
            self._calls.done(method, role, begun, answer.exception())
