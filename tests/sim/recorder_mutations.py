"""Mutants of the notes of who records a log's events (`persistence/engine/recorders.py`), and the scenario that is to
find each: storms, in which matches change nodes in every way."""

from typing import Final

from tests.sim.mutations import Mutant

LOG: Final = "server.activations.event_log:EventLog"
LOGS: Final = "server.storage.memory_logs:MemoryLogStore"

MUTANTS: Final = (
    Mutant("only the first event of a log says who records it", 7, "storm", (
        (f"{LOG}._next_append", "if self._recorder_due", "if self._recorder_due and entries[0].seq == 1"),
    )),
    Mutant("events are noted from the last one of the append on", 7, "storm", (
        (f"{LOGS}._append", "append.first_seq: append.recorder", "append.last_seq: append.recorder"),
    )),
)  # fmt: skip
RECORDED: Final[dict[str, int]] = {}
