"""Rules that streams, latest topics and presence share: when a session may watch, and who is asked."""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from server.actors.actor import Actor
from server.errors import Forbidden, GarrisonError, RateLimited, Rejected, Unavailable
from server.ids import ActorId
from server.runtime.metrics import Metrics
from server.sessions.ports import ClientCalls
from server.sessions.session import Session
from server.sessions.ticks import TickClock
from server.sessions.time_limits import MOVING_RETRY_S

T = TypeVar("T")
CODES: Final = {
    "too_many_subscriptions": "the session watches as many topics as it may",
    "history_changed": "events that the client has are not those of the log any more: a backup was restored",
    "too_many_watched": "the session would watch more players than it may",
    "too_many_replays": "the session has as many replays open as it may",
    "past_limit": "so much of a log cannot be seen yet: it has not happened, or is not public",
}
"""Codes with which watching is refused, and their meanings."""


def is_moving() -> Unavailable:
    """The answer to a client whose session is just being moved."""
    return Unavailable("this session is moving to another node", retry_after_s=MOVING_RETRY_S)


def check_still(session: Session) -> None:
    """Raises `Unavailable` while the session's subscriptions are on their way elsewhere."""
    if session.moving:
        raise is_moving()


def too_many(session: Session, most: int) -> Rejected | None:
    """The reason why the session cannot watch another topic; None if it can."""
    if len(session.topics or ()) + len(session.latest or ()) < most:
        return None
    return Rejected("too_many_subscriptions", f"at most {most}")


def charge(session: Session, cost: int, ticks: TickClock, metrics: Metrics) -> None:
    """Let a message count for `cost` messages of its session's rate. Raises `RateLimited`, with the time after which
    it finds room."""
    wait_s = session.bucket.charge(cost - 1, ticks.now()) if cost > 1 else 0.0
    if wait_s:
        metrics.rate_limited_total += 1
        wait_ms = math.ceil(round(wait_s * 1000, 6))
        raise RateLimited("over the rate: this weighs more than one message", retry_after_s=wait_ms / 1000)


def is_guarded(cls: type[Actor[Any]]) -> bool:
    """Whether actors of this class say who may watch them."""
    return cls.may_watch is not Actor.may_watch


def ask_leave(actors: ClientCalls, cls: type[Actor[Any]], identity: ActorId, session: Session) -> Any:
    """Ask the actor whether the session's client may watch it. None, or a future of it; raises, or the future does,
    `Forbidden`. An actor whose class says nothing of it is not asked: that would be one more round trip."""
    if not is_guarded(cls):
        return None
    return actors.ask_now(identity, "admits", (session.caller,))


def refusal(topic: ActorId, session: Session) -> Forbidden:
    """The answer to a client that may not watch."""
    return Forbidden(f"{topic} is not for {session.caller.role} {session.caller.subject} to watch")


def after(first: Any, then: "Callable[[], T | asyncio.Future[T]]") -> "T | asyncio.Future[T]":
    """`then()`, at once or when `first` is there. Raises, or its future does, the errors of either."""
    if not isinstance(first, asyncio.Future):
        return then()
    answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    first.add_done_callback(partial(_go_on, then, answer))
    return answer


def _go_on(then: "Callable[[], T | asyncio.Future[T]]", answer: "asyncio.Future[T]", first: Any) -> None:
    if answer.done():
        return
    error = GarrisonError("cancelled") if first.cancelled() else first.exception()
    result: Any = None
    if error is None:
        try:
            result = then()
        except Exception as raised:
            error = raised
    if error is not None:
        answer.set_exception(error)
    elif isinstance(result, asyncio.Future):
        result.add_done_callback(partial(_copy, answer))
    else:
        answer.set_result(result)


def _copy(answer: "asyncio.Future[T]", result: "asyncio.Future[T]") -> None:
    if answer.done():
        return
    error = GarrisonError("cancelled") if result.cancelled() else result.exception()
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result.result())
