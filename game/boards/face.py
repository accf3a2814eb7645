"""The face of the leaderboards of a mode: what other actors call on it. `game/boards/actor.py` implements it."""

from msgspec import Struct

from server.actors.actor import Actor, remote


class BoardsState(Struct, frozen=True):
    """Nothing: the boards are in memory only, and the store has what they are made of."""


class BoardsFace(Actor[BoardsState]):
    """To be named in `tell` and `ref`; never activated itself."""

    kind = "boards"
    State = BoardsState

    __slots__ = ()

    @remote
    def changed(self, players: list[str]) -> None:
        """Note that results of `players` have been stored: their rows are read again."""
        raise NotImplementedError

    @remote
    def forget(self, person: str, instead: str) -> None:
        """Show `person` no more, whose rows are erased."""
        raise NotImplementedError
