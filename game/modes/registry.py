"""The modes that this program has, each with all its versions. A match's log is read by the very version that it began
with; a log of another one says so (`UnknownRules`) and is read by none."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import UNSET

from game.match.state import MatchState
from game.modes import (
    capture_the_flag,
    custom,
    free_for_all,
    king_of_the_hill,
    objective,
    oddball,
    recorded,
    slayer,
)
from game.modes.mode import ModeRules
from server.errors import UnknownRules

FIRST_VERSION: Final = 1
"""The version of matches whose log says none: it is of a time when there was one."""


class Modes:
    """Modes by name and version. Built once, when the program loads its application, and then only read."""

    def __init__(self, *modes: Sequence[ModeRules]) -> None:
        self._rules: dict[tuple[str, int], ModeRules] = {}
        self._newest: dict[str, ModeRules] = {}
        self.first: dict[str, ModeRules] = {}
        """Rules of `FIRST_VERSION`, by name."""
        for versions in modes:
            self.add(versions)

    def add(self, versions: Iterable[ModeRules]) -> None:
        """Take in a mode: all its versions, in place of those of its name that there were."""
        for rules in versions:
            self._rules[rules.name, rules.version] = rules
            if rules.version == FIRST_VERSION:
                self.first[rules.name] = rules
            if rules.version >= self._newest.get(rules.name, rules).version:
                self._newest[rules.name] = rules

    def remove(self, name: str) -> None:
        """Take a mode out, with all its versions."""
        self._newest.pop(name, None)
        self.first.pop(name, None)
        self._rules = {key: rules for key, rules in self._rules.items() if key[0] != name}

    def newest(self, name: str) -> ModeRules | None:
        """The rules that a new match of this mode gets; None where there is no such mode."""
        return self._newest.get(name)

    def find(self, name: str, version: int) -> ModeRules:
        """The rules of a match. Raises `UnknownRules` where this program does not have them."""
        rules = self._rules.get((name, version))
        if rules is None:
            raise UnknownRules(f"played by rules {version} of mode {name}, which this program does not have")
        return rules

    def names(self) -> list[str]:
        return sorted(self._newest)


BUILT_IN: Final = (
    slayer.VERSIONS,
    capture_the_flag.VERSIONS,
    oddball.VERSIONS,
    king_of_the_hill.VERSIONS,
    free_for_all.VERSIONS,
    custom.VERSIONS,
    objective.VERSIONS,
    recorded.VERSIONS,
)
MODES: Final = Modes(*BUILT_IN)
"""The modes of this process: a studio's own are added when the application is loaded (`game/modes/loading.py`)."""


def version_of(state: MatchState) -> int:
    """The version of the rules that a match is played by."""
    return FIRST_VERSION if state.rules is UNSET else state.rules


def mode_of(state: MatchState) -> ModeRules:
    """The rules that a match is played by. Raises `UnknownRules`. Asked for each kill, so that it looks first where
    nearly all are."""
    if state.rules is UNSET and (rules := MODES.first.get(state.options.mode)) is not None:
        return rules
    return MODES.find(state.options.mode, version_of(state))
