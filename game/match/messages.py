"""Messages of a match beside those of `game/messages.py`: of other actors, to it."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from game.messages import CommandId, Key, Lineage, Team

MAX_PARTY: Final = 100
"""Members of a party that comes to a match."""


class AdmitParty(msgspec.Struct, tag="match.admit_party", array_like=True, frozen=True):
    """Take all `players` of `party` in, or none. `number` rises with each coming of the party, so that one that is
    said late is known; `lineage` and `command` are those of the client that asked for it. `team` None: those who are
    new go to the smallest team, together."""

    party: Key
    number: Annotated[int, Meta(ge=0, le=2**62)]
    players: Annotated[list[Key], Meta(min_length=1, max_length=MAX_PARTY)]
    lineage: Lineage
    command: CommandId
    team: Team | None = None
