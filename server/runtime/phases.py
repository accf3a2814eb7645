"""Phases: the life of an entity as a table of legal transitions.

    DOOR: Final = PhaseTable("door", {"open": ("shut",), "shut": ("open", "locked"), "locked": ()})
    self.phase = DOOR.move(self.name, self.phase, "shut")

A transition that the table does not have raises `IllegalTransition` with the entity's recent story. A table
keeps the newest transitions of all its entities in one ring, so that an entity pays for its phase only and
not for a history; the story is looked for only when something is wrong. The checks are always on: the table
of a finite state machine, as in dask's `worker_state_machine`. Pure.
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Final, Generic, TypeVar

P = TypeVar("P", bound=str)

REMEMBERED: Final = 1024
"""Transitions that a table remembers, over all its entities."""
TOLD: Final = 12
"""Transitions of one entity that an error tells at most."""


class IllegalTransition(RuntimeError):
    """A fault of this program: an entity was about to enter a phase that does not follow on its present one."""


class PhaseTable(Generic[P]):
    """The legal transitions of one kind of entity: for each phase, the phases that may follow it."""

    __slots__ = ("_following", "_recent", "refused", "what")

    def __init__(self, what: str, following: Mapping[P, Collection[P]], remembered: int = REMEMBERED) -> None:
        unknown = {after for afters in following.values() for after in afters} - set(following)
        assert not unknown, f"phases without a row: {sorted(unknown)}"
        self.what = what
        self._following: dict[P, frozenset[P]] = {phase: frozenset(afters) for phase, afters in following.items()}
        self._recent: deque[tuple[str, P, P]] = deque(maxlen=remembered)
        self.refused: deque[str] = deque(maxlen=TOLD)
        """The newest illegal transitions: for tests and simulations, where a handler may swallow the error."""

    @property
    def phases(self) -> tuple[P, ...]:
        """The phases, in the order of the table."""
        return tuple(self._following)

    def may(self, before: P, after: P) -> bool:
        """Tell whether `after` may follow `before`."""
        return after in self._following[before]

    def ends(self, phase: P) -> bool:
        """Tell whether nothing follows `phase`."""
        return not self._following[phase]

    def move(self, entity: str, before: P, after: P) -> P:
        """Return `after`, noted as `entity`'s new phase. Raises `IllegalTransition`."""
        if after not in self._following[before]:
            told = f"{self.what} {entity}: {before} -> {after}; its story: {self.story(entity)}"
            self.refused.append(told)
            raise IllegalTransition(told)
        self._recent.append((entity, before, after))
        return after

    def story(self, entity: str) -> str:
        """The newest transitions of `entity` that are remembered, oldest first: `a -> b -> c`."""
        steps = [(before, after) for name, before, after in self._recent if name == entity][-TOLD:]
        if not steps:
            return "nothing remembered"
        return " -> ".join([steps[0][0], *(after for _, after in steps)])
