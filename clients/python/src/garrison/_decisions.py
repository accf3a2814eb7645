"""Decisions of the core: orders to its shell, which has the sockets, the timers and the program's callbacks.

They are to be carried out in their order. Pure.
"""

from dataclasses import dataclass
from typing import Any

from garrison._base import Push
from garrison._subscriptions import Subscription
from garrison.errors import GarrisonError
from garrison.messages import Welcome


@dataclass(frozen=True, slots=True)
class NeedToken:
    """Make a token and give it to `Core.token`, or the error to `Core.no_token`."""


@dataclass(frozen=True, slots=True)
class RenewToken:
    """Make a token, while the connection goes on, and give it to `Core.renew`, or tell `Core.not_renewed`."""

    connection: int


@dataclass(frozen=True, slots=True)
class Open:
    """Open a WebSocket to `url`, then tell `Core.opened` or `Core.failed`. `connection` numbers the
    connections of a client: every event of this one names it, and the core ignores those of others."""

    connection: int
    url: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Break connection `connection`, or the attempt at it, without a word. No event need follow."""

    connection: int


@dataclass(frozen=True, slots=True)
class Part:
    """Close connection `connection` politely: forget frames that are not sent yet, send `last` if there is
    one, close with `code`, and tell `Core.closed` when it is closed."""

    connection: int
    code: int
    last: bytes | None = None


@dataclass(frozen=True, slots=True)
class Up:
    """A session is up. With `recovered` it is the one before, with everything that was missed to come; else what
    the program shows must be read again."""

    welcome: Welcome
    recovered: bool


@dataclass(frozen=True, slots=True)
class Down:
    """The connection of the session is gone; frames that are not sent yet are void."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Request `order` is answered, with `value` or with `error`."""

    order: int
    value: Any
    error: GarrisonError | None


@dataclass(frozen=True, slots=True)
class Deliver:
    """A push for the program."""

    push: Push


@dataclass(frozen=True, slots=True)
class Stir:
    """A subscription has something to read: news, its error or its end."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class Stop:
    """No connection will follow, because of `error`."""

    error: GarrisonError


Decision = NeedToken | RenewToken | Open | Drop | Part | Up | Down | Answer | Deliver | Stir | Stop
