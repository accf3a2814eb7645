"""The game's kinds with tables of their own; `game.app.App` names them."""

from collections.abc import Mapping as Map
from typing import Final

from persistence.engine.mapping import Mapping
from persistence.game.friends import FRIENDS
from persistence.game.match import MatchMapping
from persistence.game.moderation import StandingMapping
from persistence.game.party import PartyMapping
from persistence.game.player import PlayerMapping

MAPPINGS: Final[Map[str, Mapping]] = {
    "player": PlayerMapping(),
    "match": MatchMapping(),
    "party": PartyMapping(),
    "standing": StandingMapping(),
    "friends": FRIENDS,
}
