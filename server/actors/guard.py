"""The guard of what clients watch: the moment as of which an actor says whom it lets in. Pure."""

from typing import Final

import msgspec

Guard = tuple[int, int]
"""The newest moment after which somebody who watched a logged actor may watch no more, as (epoch, number): it only
rises. What was said of watchers before it is of no use any more."""
OPEN: Final[Guard] = (0, 0)
"""The guard of an actor that everybody may watch for good."""


class TurnedAway(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `turns_away`: it is as of all differences up to this order, or as of this guard. `refused` are
    places in the list of those who were asked about, `late` of those of them who see what is public only."""

    epoch: int
    n: int
    refused: list[int]
    late: list[int] = []
