"""Mutants of retention (`server/eventlog/retention.py`, the deletion of a store): what is taken out, and the scenario
that is to find it (`prunings.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

LOGS: Final = "server.storage.memory_logs:MemoryLogStore"
CLAIMED: Final = (
    "what was claimed since it was listed, and is let go again, is over and told as it was: all that is read under the "
    "newer epoch is in what goes. The epoch keeps a sweep that is late from what came after it looked"
)
SLOT: Final = "who sweeps beside another one reads for nothing: the store decides about each log"


def _mutant(name: str, where: str, old: str, new: str, unseen: str = "") -> Mutant:
    return Mutant(name, 3, "prunings", ((where, old, new),), unseen)


MUTANTS: Final = (
    _mutant("a log of which somebody is to be told is deleted", f"{LOGS}._over",
            "row.open_facts or row.owner is not None", "row.owner is not None"),
    _mutant("a log that a node has is deleted", f"{LOGS}._over",
            "row.open_facts or row.owner is not None", "row.open_facts"),
    _mutant("a log that was woken since it was listed is deleted", f"{LOGS}._delete",
            "now.is_pinned or now.is_open or now.epoch != log.epoch", "now.is_pinned"),
    _mutant("a log that was pinned since it was listed is deleted", f"{LOGS}._delete",
            "now.is_pinned or now.is_open", "now.is_open"),
    Mutant("a pinned log goes when its time comes", 3, "prunings", (
        ("server.eventlog.retention:goes", "and not log.is_pinned ", ""),
        (f"{LOGS}._delete", "now.is_pinned or now.is_open", "now.is_open"),
    )),
    _mutant("a log goes that is not as it was listed", f"{LOGS}._delete", " or now.epoch != log.epoch", "", CLAIMED),
    _mutant("epochs of a deleted name are given out again", "server.storage.memory:MemoryDatabase.next_epoch",
            "(entity.epoch or self.deleted_epoch) + 1", "entity.epoch + 1"),
    _mutant("the last deleted epoch is kept, and not the highest", f"{LOGS}._delete",
            "max(self.database.deleted_epoch, now.epoch)", "now.epoch"),
    _mutant("who has put a log away is never asked for it", "server.catalog.pruning:Pruning._sweep",
            "held if kind in self._wakes else ()", "()"),
    _mutant("every node sweeps", "server.catalog.pruning:Pruning._is_mine",
            'self._current.is_mine(actor_id(kind, "retention"))', "True", SLOT),
)  # fmt: skip
RECORDED: Final = {
    "a log that was pinned since it was listed is deleted": 3,
    "who has put a log away is never asked for it": 7,
}
