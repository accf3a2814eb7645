"""The simulated crash journals: the twin in memory, with the wires to a distant one in a process of
their own (what is under way goes on when its sender dies) and a node that can be stopped in the
middle of an append."""

from collections.abc import Callable
from typing import Any

import msgspec

from server.ids import NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.settings import JournalSettings
from server.storage.journal.memory import CLUSTER, MemoryJournal, MemoryJournals, Run
from server.storage.journal.ports import Journaled
from server.storage.journal.record import Part, read_run, run_seed
from tests.sim.loop import Domain, SimLoop


class SimJournal(MemoryJournal):
    """A node's journal. `stops`, if set, is called before an append (False) and after it (True):
    it may freeze the node there."""

    def __init__(
        self,
        journals: MemoryJournals,
        node: NodeId,
        metrics: Metrics,
        settings: JournalSettings,
        loop: SimLoop,
        domain: Domain,
        wires: Domain,
    ) -> None:
        super().__init__(journals, node, metrics, settings)
        self._loop, self._domain, self._wires = loop, domain, wires
        self.stops: Callable[[bool], None] | None = None

    def append(self, entity: Journaled, state: msgspec.Struct) -> bool:
        if self.stops is not None:
            self.stops(False)
        durable = super().append(entity, state)
        if self.stops is not None:
            self.stops(True)
        return durable

    def _send(self, run: Run, entity: Any, version: int, sequence: int, data: bytes) -> None:
        self._wires.run(super()._send, run, entity, version, sequence, data)

    def _answer(self, run: Run) -> None:
        self._domain.run(lambda: self._loop.call_soon(super(SimJournal, self)._answer, run))


def held(journals: MemoryJournals, node: NodeId) -> dict[NodeAddress, dict[str, int]]:
    """The newest version of each entity in the journals of `node`, by run."""
    out: dict[NodeAddress, dict[str, int]] = {}
    for owner, run in journals.runs.items():
        if owner.node == node:
            newest = read_run([Part(str(owner), run.data())], run_seed(CLUSTER, owner), run.truncated).newest
            out[owner] = {id: record.version for id, record in newest.items()}
    return out
