"""The face of a standing: what other actors may ask of it. `game/moderation/actor.py` implements it.

A player's standing is mirrored in the player's own state (`game/player/standing.py`), which is asked where that is at
hand; this is for whoever has to do with players, hosts and services alike.
"""

from game.moderation.state import StandingState
from server.actors.actor import Actor, read_only


class StandingFace(Actor[StandingState]):
    """To be named in `ref`; never activated itself."""

    kind = "standing"
    personal = True
    State = StandingState

    __slots__ = ()

    @read_only
    def is_muted(self) -> bool:
        """Tell whether the subject is muted now. Makes no actor."""
        raise NotImplementedError
