"""Players of a match whom only its host and its participants see: those who chose to be invisible. Pure.

The player's word is the truth: its actor tells the match of each change, tells it again when the match asks who has a
place (it does where it has lost its memory), and once a minute. So a word that is lost is made good within a minute.
The log of a match names everybody who plays, and so does its stream: who may watch that sees them.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from game.match.state import MatchState
from server.actors.facts import Stamp


class HiddenWord(msgspec.Struct, array_like=True, frozen=True):
    """The newest word of a player: `number` rises with each of them."""

    player: str
    number: Stamp
    hidden: bool


NOBODY: Final[frozenset[str]] = frozenset()


class Hidden:
    """See the module's head. `players` are those who are hidden from others."""

    __slots__ = ("_words", "players")

    def __init__(self, words: Iterable[HiddenWord] = ()) -> None:
        self._words = {word.player: word for word in words}
        self.players = frozenset(word.player for word in self._words.values() if word.hidden)

    def hear(self, state: MatchState, word: HiddenWord) -> None:
        """Take a word; nothing for one that is older than the newest, and for a player who never had a place."""
        before = self._words.get(word.player)
        if word.player in state.players and (before is None or word.number >= before.number):
            self._words[word.player] = word
            self.players = self.players | {word.player} if word.hidden else self.players - {word.player}

    def words(self) -> list[HiddenWord]:
        """All that was heard, for a match that moves."""
        return list(self._words.values())

    def of(self, state: MatchState, player: str | None, host: str) -> frozenset[str]:
        """The players who are hidden from `player` (None: somebody else), whose name as a host would be `host`."""
        line = state.players.get(player) if player is not None and self.players else None
        return NOBODY if host == state.host or (line is not None and line.present) else self.players


def among(state: MatchState, hidden: frozenset[str]) -> frozenset[str]:
    """The players of `hidden` who are in `state`, which may be one of before they came."""
    return frozenset(player for player in hidden if player in state.players) if hidden else hidden


def present(state: MatchState, hidden: frozenset[str]) -> int:
    """The number of players who are in the match now, as others may know it."""
    return state.players.present - sum(state.players[player].present for player in among(state, hidden))
