"""Mutants of a run that goes on in another process: generations in the store, what is surrendered, and the proof of a
death by a journal's lock. The scenario that is to find them is `heirs.py`."""

from typing import Final

from tests.sim.mutations import LEASE, STORE, Mutant

JOURNAL: Final = "server.storage.journal.memory:MemoryJournal"
ONE_STEP: Final = "a lease that is surrendered sends none, and one that is late only prolongs what nobody answers by"


def _mutant(name: str, where: str, old: str, new: str, unseen: str = "") -> Mutant:
    return Mutant(name, 1, "heirs", ((where, old, new),), unseen)


MUTANTS: Final = (
    _mutant("a predecessor says goodbye for its heir", f"{STORE}.retire_node",
            " and run.generation == generation", ""),
    _mutant("a predecessor releases what its heir owns", f"{STORE}.release",
            " or self.database.is_succeeded(entity.owner, generation)", ""),
    _mutant("a predecessor gives away what its heir owns", f"{STORE}._migrate",
            "held = held and not self.database.is_succeeded(entity.owner, generation)", "pass"),
    _mutant("a proof of death buries whoever is in the journal's place", f"{STORE}.bury",
            "journal not in (None, run.journal)", "False"),
    _mutant("an heir takes over a run that is dead", f"{STORE}.succeed_node",
            "run is None or run.state != \"up\"", "run is None"),
    _mutant("an heir's repeated statement is another process's", f"{STORE}.succeed_node",
            "run.generation != generation - 1 and not repeated", "run.generation != generation - 1"),
    _mutant("an heir's statement leaves the generation as it is", f"{STORE}.succeed_node",
            "run.generation, run.heir, run.journal = generation, heir, journal",
            "run.heir, run.journal = heir, journal"),
    _mutant("an heir's statement leaves the journal's place as it is", f"{STORE}.succeed_node",
            "run.generation, run.heir, run.journal = generation, heir, journal",
            "run.generation, run.heir = generation, heir"),
    _mutant("an heir does not hold its predecessor's lock", f"{JOURNAL}.is_dead",
            " and run.holder is None", ""),
    _mutant("a surrendered lease holds on", f"{LEASE}.surrender", 'self.safe_until = float("-inf")', "pass"),
    Mutant("a grant revives a surrendered lease", 1, "heirs", (
        (f"{LEASE}.granted", "if self.surrendered:", "if False:"),
        (f"{LEASE}._may_ask", " or self.surrendered", ""),
        ("tests.sim.store:NodeStore._ask", "if self._surrendered:", "if False:"),
        (f"{STORE}.renew_lease", "is_up(me, generation)", "is_up(me)"),
    )),
    _mutant("renewals do not say the generation", f"{STORE}.renew_lease",
            "is_up(me, generation)", "is_up(me)", ONE_STEP),
    _mutant("a surrendered store sends on", "tests.sim.store:NodeStore._ask", "if self._surrendered:", "if False:"),
)  # fmt: skip
RECORDED: Final[dict[str, int]] = {}
