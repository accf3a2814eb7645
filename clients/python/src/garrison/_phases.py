"""Phases of the client and of a subscription, each a table of legal transitions.

A phase changes only through `move`, so that a fault shows where it happens and not three events later. Pure.
"""

from collections.abc import Mapping
from typing import Final, Literal, TypeVar

P = TypeVar("P", bound=str)

ClientPhase = Literal["idle", "token", "opening", "greeting", "up", "moving", "parting", "broken", "waiting", "over"]
CLIENT: Final[Mapping[ClientPhase, tuple[ClientPhase, ...]]] = {
    "idle": ("token", "over"),
    "token": ("opening", "waiting", "over"),
    "opening": ("greeting", "waiting", "over"),
    "greeting": ("up", "opening", "waiting", "over"),
    "up": ("moving", "broken", "waiting", "over"),
    "moving": ("parting", "broken", "waiting", "over"),
    "parting": ("broken", "waiting", "over"),
    "broken": ("waiting", "over"),
    "waiting": ("token", "over"),
    "over": (),
}
"""The client's life:

- `idle`: not started;
- `token`: a token is being made for the next connection;
- `opening`: a WebSocket is being opened;
- `greeting`: hello is said, its answer to come (a redirect leads back to `opening`);
- `up`: a session is served by this connection;
- `moving`: the server has said `going`; the client waits for the answers to its requests;
- `parting`: the client has said 1001 and reads until the server says it too;
- `broken`: the server sent something unreadable; the client has said 1002 and reads nothing more;
- `waiting`: a pause before the next connection;
- `over`: no connection will follow.
"""

SubscriptionPhase = Literal["asking", "live", "paused", "failed", "closed"]
SUBSCRIPTION: Final[Mapping[SubscriptionPhase, tuple[SubscriptionPhase, ...]]] = {
    "asking": ("live", "paused", "failed", "closed"),
    "live": ("asking", "paused", "failed", "closed"),
    "paused": ("asking", "failed", "closed"),
    "failed": ("closed",),
    "closed": (),
}
"""A subscription's life:

- `asking`: a request for it is under way or due;
- `live`: the server has answered it; news come;
- `paused`: a stream's buffer is full and the subscription given up until half of it is read;
- `failed`: the server refused it for good, or the client is over;
- `closed`: the program has left it.
"""


class IllegalTransition(RuntimeError):
    """A fault of the SDK: a phase was to be entered that does not follow on the present one."""


def move(table: Mapping[P, tuple[P, ...]], before: P, after: P) -> P:
    """Return `after`. Raises `IllegalTransition` where the table does not have it behind `before`."""
    if after not in table[before]:
        raise IllegalTransition(f"{before} -> {after}")
    return after
