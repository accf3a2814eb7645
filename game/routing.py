"""Parts of routes that rooms of the game share: who may send a message, and the key of the actor that answers it."""

from typing import Any, Final

from server.actors.actor import Caller, Role

HOSTS: Final[frozenset[Role]] = frozenset({"host", "service"})
PLAYERS: Final[frozenset[Role]] = frozenset({"player"})
SERVICES: Final[frozenset[Role]] = frozenset({"service"})


def of_caller(caller: Caller, _message: Any) -> str:
    """The key of the caller's own actor."""
    return caller.subject


def of_player(_caller: Caller, message: Any) -> str:
    """The key of the player whom the message names."""
    return str(message.player)


def of_match(_caller: Caller, message: Any) -> str:
    """The key of the match that the message names."""
    return str(message.match)
