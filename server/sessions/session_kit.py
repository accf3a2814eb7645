"""The parts that all sessions of a node share, and what a session needs of each.

`S` is the session, `Session` in `session.py`, which is above this file: there `SessionKit` is a kit for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from server.errors import Internal
from server.runtime.metrics import Metrics
from server.sessions.end_reasons import Ending
from server.sessions.session_phases import Phase
from server.sessions.ticks import TickClock
from server.sessions.turnstile import Turnstile
from server.settings import GatewaySettings
from server.wire.codec import Codec, Format
from server.wire.messages import Request

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)


class RequestHandler(Protocol[S_contra]):
    """Answers clients' requests."""

    def handle(self, session: S_contra, message: Request) -> Any:
        """The `Reply`, or a future of it. Raises typed errors."""
        ...

    def fault(self, error: BaseException) -> Internal:
        """Log something untyped that was raised on a session's behalf; the error to answer with."""
        ...


class DistantBeats(Protocol[S_contra]):
    """Takes heartbeats whose actor was not on this node a moment ago."""

    def beat_elsewhere(self, session: S_contra, state: str | None) -> Any:
        """Deliver the heartbeat wherever the actor lives. The result, or a future of it."""
        ...

    def tell_again(self, session: S_contra) -> None:
        """Tell the actor of the session, which it does not know."""
        ...


class Refills(Protocol[S_contra]):
    """Streams that waited for room in an outbox."""

    def refill(self, session: S_contra) -> None:
        """The session's outbox has room again."""
        ...


class LateSessions(Protocol[S_contra]):
    """Latest topics and presence, whose watchers could not be written to."""

    def catch_up(self, session: S_contra) -> None:
        """The session can be written to again."""
        ...


class SessionKeeper(Protocol[S_contra]):
    """Keeps the sessions of a node."""

    def session_detached(self, session: S_contra) -> None:
        """The connection is gone; the session waits for its client."""
        ...

    def session_ended(self, session: S_contra, before: Phase, ending: Ending) -> None:
        """The session is over; `before`: its phase until now."""
        ...


@dataclass(frozen=True, slots=True)
class Kit(Generic[S]):
    """See the module's head. `ack_interval_s`: heartbeats without an id are acknowledged this often. `decoders`: the
    codecs' decoders without their explanations, for the hot path."""

    settings: GatewaySettings
    ticks: TickClock
    metrics: Metrics
    codecs: Mapping[Format, Codec]
    decoders: Mapping[Format, Callable[[bytes], Any]]
    ack_interval_s: float
    turnstile: Turnstile
    requests: RequestHandler[S]
    actors: DistantBeats[S]
    streams: Refills[S]
    latest: LateSessions[S]
    keeper: SessionKeeper[S]
