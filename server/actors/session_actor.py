"""The calls that the engine makes on the session's actor: the application's actor of a player, whose sessions are
bound to it."""

import inspect
from collections.abc import Iterable
from typing import Any, Final, Protocol, runtime_checkable

from server.actors.actor import Actor, Caller
from server.actors.devices import Login
from server.actors.methods import check_remote
from server.errors import BadSetting


class SessionActor(Protocol):
    """The methods of `App.session_actor`, each marked `@remote`. The actor's key is the player's subject;
    `caller.session` says which session it is about."""

    def connected(self, caller: Caller, login: Login) -> Any:
        """Take the session. Called before the client is welcomed (`login.number` is 0), and again where the actor may
        not know it (it has moved, or was loaded anew, or said `UNKNOWN_SESSION`). `Rejected`, `NotFound` or `BadInput`
        refuses the player for good, and ends a session that was there. True: call once more when the session has
        begun, since others end for it then (`server.actors.devices.admit`). Give `login` the default `UNTOLD` where
        nodes of a version without logins may call."""
        ...

    def disconnected(self, caller: Caller, reason: str) -> Any:
        """Take leave of the session; `reason` is a word: `closed`, `expired`, `replaced`, `overflow`, `stopping`,
        `dismissed`. Short breaks of its connection, and its changes of node, are no ends."""
        ...

    def beat(self, caller: Caller, state: str | None) -> Any:
        """Take in a sign of life, with the status that the client wants to take on, if there is one. Of a session that
        is not known: `server.actors.devices.unknown_session`."""
        ...


@runtime_checkable
class RunWatcher(Protocol):
    """A session's actor that wants to know when a run of a node is over that served its sessions: nobody says
    `disconnected` for those."""

    def runs(self) -> Iterable[tuple[str, int]]:
        """The runs that have its sessions: nodes with their incarnations. No turn, and asked of many in a row: it only
        looks."""
        ...

    def run_over(self, node: str, incarnation: int) -> Any:
        """Take leave of the sessions that were at that run. Marked `@remote`."""
        ...


CALLS: Final = {
    name: tuple(inspect.signature(method).parameters)[1:]
    for name, method in vars(SessionActor).items()
    if inspect.isfunction(method) and not name.startswith("_")
}
"""The methods, each with the names of its parameters."""


def check_session_actor(cls: type[Actor[Any]]) -> None:
    """Raises `BadSetting`, naming what is missing, for an actor class that the engine cannot bind sessions to."""
    for name, parameters in CALLS.items():
        wanted = f"{name}({', '.join(parameters)})"
        if not callable(getattr(cls, name, None)):
            raise BadSetting("app", f"{cls.__name__}, the session's actor, has no method {wanted}")
        check_remote(cls, name)
        try:
            inspect.signature(getattr(cls, name)).bind(None, *parameters)
        except TypeError as error:
            raise BadSetting("app", f"{cls.__name__}.{name} is called as {wanted}: {error}") from None
