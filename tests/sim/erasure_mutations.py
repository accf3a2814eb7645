"""Mutants of the erasure of people: what is taken out, and the scenario that is to find it (`erasures.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

MEMORY = "server.storage.memory:MemoryStore"
RECORDED: Final = {
    "an erased list of friends goes on telling": 2,
    "an erasure that nothing has looked after ends at once": 4,
    "a ban that is ordered while a kept one runs is refused": 2,
    "anything that names the erased anew ends the ban that is kept": 2,
}
"""The first seed that finds it, where that is not 1."""
MUTANTS: Final = (
    Mutant(
        "a word of before makes the erased again",
        11,
        "erasures",
        ((f"{MEMORY}._revives", "return stone.barred == 0", "return True"),),
    ),
    Mutant(
        "an epoch is given out again to who comes after the erased",
        3,
        "erasures",
        ((f"{MEMORY}._claim", "floor = 0 if stone is None else stone.epoch + 1", "floor = 0"),),
    ),
    Mutant(
        "an erased list of friends goes on telling",
        11,
        "erasures",
        (("game.friends.actor:Friends.erase", "self.state = rules.erased(self.state)", "pass"),),
    ),
    Mutant(
        "an erasure that nothing has looked after ends at once",
        11,
        "erasures",
        (
            ("game.people.erasing:Erasure.run_pass", "if told.waiting:", "if False:"),
            (
                "game.people.erasing:Erasure.run_pass",
                "if await self._redact(wall_ms) or await self._verify():",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "a ban that is ordered while a kept one runs is refused",
        11,
        "erasures",
        ((f"{MEMORY}._revives", "claim.revive == 2 or ", ""),),
    ),
    Mutant(
        "anything that names the erased anew ends the ban that is kept",
        11,
        "erasures",
        ((f"{MEMORY}._revives", "(claim.revive == 1 and in_time)", "claim.revive == 1"),),
    ),
)
