"""The game's mappings, for the composition root."""

from collections.abc import Mapping as Map

import msgspec

from persistence.engine.mapping import Mapping
from persistence.game.match import MatchMapping
from persistence.game.player import PlayerMapping


def mappings_for(state_types: Map[str, type[msgspec.Struct]]) -> dict[str, Mapping]:
    """The mappings of those kinds whose state is the one mapped; another application may well
    have a `player` of its own, which then goes to the generic table."""
    known: dict[str, Mapping] = {"player": PlayerMapping(), "match": MatchMapping()}
    return {kind: mapping for kind, mapping in known.items() if state_types.get(kind) is mapping.state_type}
