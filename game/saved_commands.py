"""Commands that took effect on an actor that is stored write-behind, by client lineage, so that repeating one repeats
its answer. Pure. Bounded: the newest commands of each lineage, the newest lineages, and of some before these how far
they had come, so that an old command is told from a new one.
"""

from typing import Final

import msgspec

from server.errors import OutcomeUnknown

MAX_COMMANDS: Final = 16
"""Commands that are remembered of one lineage."""
MAX_LINEAGES: Final = 8
"""Lineages whose answers are remembered; past that, those of the one whose last change is oldest are forgotten."""
MAX_FORGOTTEN: Final = 56
"""Lineages of which is only remembered how far they had come."""


class SavedCommand(msgspec.Struct, array_like=True, frozen=True):
    """A command that took effect, and the entity's version that holds it."""

    command: int
    version: int


class SavedCommands(msgspec.Struct, array_like=True, frozen=True):
    """The newest commands of one client lineage, rising. A number at or below `floor` that is
    not in `recent` is too old to tell whether it took effect."""

    floor: int = 0
    recent: tuple[SavedCommand, ...] = ()


def answer_to(answered: dict[str, SavedCommands], lineage: str, command: int) -> int | None:
    """The version that `command` of `lineage` made; None if it is new. Raises `OutcomeUnknown`
    where that is no longer known."""
    saved = answered.get(lineage)
    if saved is None:
        return None
    for answer in saved.recent:
        if answer.command == command:
            return answer.version
    if command <= saved.floor:
        raise OutcomeUnknown(f"command {command} is older than the last {MAX_COMMANDS} of this client")
    return None


def remember(
    answered: dict[str, SavedCommands], lineage: str, command: int, version: int, lineages: int = MAX_LINEAGES
) -> dict[str, SavedCommands]:
    """`answered` with a command that took effect; of at most so many `lineages` answers are known after it."""
    before = answered.get(lineage, SavedCommands())
    recent = tuple(sorted((*before.recent, SavedCommand(command, version)), key=lambda saved: saved.command))
    floor = before.floor
    if len(recent) > MAX_COMMANDS:
        floor, recent = max(floor, recent[0].command), recent[1:]
    after = {**answered, lineage: SavedCommands(floor, recent)}
    known = {name: saved.recent for name, saved in after.items() if saved.recent}
    if len(known) > lineages:
        oldest = min(known, key=lambda name: max(saved.version for saved in known[name]))
        del after[oldest]
        after[oldest] = SavedCommands(known[oldest][-1].command)  # at the end: the first one is the longest forgotten
        forgotten = [name for name, saved in after.items() if not saved.recent]
        for name in forgotten[:-MAX_FORGOTTEN]:
            del after[name]
    return after
