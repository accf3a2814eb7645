"""Mutants of the rules by which an invisible player is hidden in its match (`game/match/hidden.py`,
`game/player/looks.py`): what is taken out, and the scenario that is to find it (`hidden.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

LOOKS = "game.player.looks:Looks"
HIDDEN = "game.match.hidden:Hidden"


def of(name: str, where: str, old: str, new: str) -> Mutant:
    return Mutant(name, 14, "hidden", ((where, old, new),))


MUTANTS: Final = (
    Mutant(
        "a player's activation forgets what the one before said",
        14,
        "forgotten word",
        ((f"{LOOKS}.begin_looks", "= (place, True)", "= ((), True)"),),
    ),
    of("a match does not hear who is hidden", "game.match.actor:Match.player_hidden", "self.hidden.hear(", "str("),
    of("a match hides who became visible", f"{HIDDEN}.hear", "else self.players - {word.player}", "else self.players"),
    of(
        "a player who comes to a match as an invisible one says nothing",
        f"{LOOKS}.tell_hidden",
        "if again or self._hid != (place, hidden):",
        "if not again and self._hid != (place, hidden):",
    ),
    of(
        "a player who comes again as a visible one says nothing",
        f"{LOOKS}.tell_hidden",
        "and not rules.was_there_before(state)",
        "",
    ),
)
