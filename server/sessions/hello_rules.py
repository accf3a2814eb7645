"""The answer to a hello, decided from facts. Pure: one row an outcome, the first that holds.

    hello -> token -> redirect? -> resume? -> the player's actor says yes -> welcome

A player's session belongs on the node that owns the slot of the player's actor; a hello elsewhere is answered with a
redirect, unless the client cannot follow one (then it is served here and every call is forwarded) or no owner is
known. A node that leaves takes no more in.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from server.actors.devices import OCCUPIED, REPLACED
from server.errors import BadInput, NotFound, Rejected
from server.wire.messages import CloseCode

Home = Literal["here", "elsewhere", "silent"]
"""The place where the session belongs: here, or at another node, or at another node that does not answer."""

Decision = Literal[
    "stopping", "wait for home", "redirect", "leaving", "seek", "replaced", "moving", "resume", "full", "open"
]


class Facts(NamedTuple):
    """Facts that are known when a hello with a good token is answered.

    `over`: the connection or the gateway is closed. `follows`: the client follows redirects. `may_wait`: the hello
    has not waited its whole time for the view to know who serves its player. `leaving`: this node is. `to_seek`:
    the hello names a session that is not here, was not sought, and can be. `overtaken`: the player's session here is
    of a later hello, which this one must not undo: it had to wait, and its client may have connected again since.
    `moving`: the session to resume is on its way to another node. `resumable`: it is here, in the connection's
    format, and has every push that the client has not. `room`: a session can be added, or a detached one ended."""

    over: bool = False
    home: Home = "here"
    follows: bool = True
    may_wait: bool = True
    leaving: bool = False
    to_seek: bool = False
    overtaken: bool = False
    moving: bool = False
    resumable: bool = False
    room: bool = True


ROWS: Final[tuple[tuple[Callable[[Facts], bool], Decision], ...]] = (
    (lambda it: it.over, "stopping"),
    (lambda it: it.home == "silent" and it.follows and it.may_wait, "wait for home"),
    (lambda it: it.home != "here" and it.follows, "redirect"),
    (lambda it: it.home != "here" and it.leaving, "leaving"),
    (lambda it: it.to_seek, "seek"),
    (lambda it: it.overtaken, "replaced"),
    (lambda it: it.moving, "moving"),
    (lambda it: it.resumable, "resume"),
    (lambda it: not it.room, "full"),
    (lambda it: True, "open"),
)


REFUSALS: Final = (BadInput, NotFound, Rejected)
"""Errors by which a player's actor refuses a session for good."""
_CODES: Final = {REPLACED: CloseCode.REPLACED, OCCUPIED: CloseCode.OCCUPIED}


def refusal_code(error: BaseException) -> int:
    """The close code of a session that its actor refuses by `error`."""
    return _CODES.get(error.code, CloseCode.BAD_TOKEN) if isinstance(error, Rejected) else CloseCode.BAD_TOKEN


def decide(facts: Facts) -> Decision:
    """The answer to a hello: that of the first row that holds."""
    return next(decision for holds, decision in ROWS if holds(facts))
