"""Mutants of how leaderboards follow what is stored (`game/boards/actor.py`): what is taken out, and the scenario that
is to find it (`board_plays.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

BOARDS: Final = "game.boards.actor:Boards"
OF: Final = "game.match.results:boards_of"


def _mutant(name: str, where: str, old: str, new: str) -> Mutant:
    return Mutant(name, 8, "boards", ((where, old, new),))


MUTANTS: Final = (
    _mutant("a board that cannot be read counts as read", f"{BOARDS}.read_again",
            "await self._read_players(self.left[-1])\n        self.left.pop()",
            "await self._read_players(self.left.pop())"),
    _mutant("one board of a mode is read again", f"{BOARDS}.read_again",
            "list(self.shelves)", "list(self.shelves)[:1]"),
    _mutant("who was read for a board is read for all", f"{BOARDS}.read_again",
            "if not self.left:\n        self.reading = []", "self.reading = []"),
    _mutant("the boards of a mode do not hear of its results", OF,
            '("all", state.options.mode, group)', '("all", group)'),
    _mutant("boards of ratings hear of no results", OF, '("all", state.options.mode, group)',
            '("all", state.options.mode)'),
    _mutant("an entry stays as it was made first", f"{BOARDS}._read_players",
            "order.set(player, found[player])", "order.points(player) or order.set(player, found[player])"),
)  # fmt: skip
RECORDED: Final = {"the boards of a mode do not hear of its results": 11}
