"""The storage pipeline of a node: the parts between a turn and the store, built once and in one order.

    lease          the right to acknowledge durable work, for a while
    undertaker     says in the store which other runs are over; goes by the views that `neighbourhood` follows
    retention      what the journal may forget
    write_behind   changed states on their way to the store
    group_commit   event logs on their way to the store
    durability     holds a turn's outputs back until one of the two above, or the journal, has its change
    takeover       what dead nodes acknowledged and did not store
    claimer        activations that are born, in batches, with what `takeover` finds for them

Nodes, tests and benchmarks build the same pipeline. Nothing runs by itself: its owner calls `start` once it
knows the address of its run, and spawns the loops that it wants (`lease.run`, `write_behind.run`, …).
"""

import random
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from server.eventlog.ports import LogStore
from server.ids import NodeAddress
from server.liveness.lease import NodeLease
from server.liveness.neighbourhood import Neighbourhood
from server.liveness.undertaker import Undertaker
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import Settings
from server.storage.claimer import Claimer
from server.storage.durability import JournalFirst, MemoryFirst
from server.storage.group_commit import GroupCommit
from server.storage.journal.ports import Journal
from server.storage.journal.retention import JournalRetention
from server.storage.ports import Store
from server.storage.takeover import Takeover
from server.storage.write_behind import WriteBehind


class StoredKind(Protocol):
    """An actor class, as storage sees it."""

    @property
    def kind(self) -> str: ...

    @property
    def durability(self) -> str:
        """`volatile`, `write_behind` or `logged`."""
        ...

    @property
    def State(self) -> type[msgspec.Struct]: ...


class StoragePipeline:
    """See the module's head. Without a journal, memory is enough to acknowledge a write-behind change."""

    def __init__(
        self,
        *,
        kinds: Iterable[StoredKind],
        settings: Settings,
        store: Store,
        logs: LogStore,
        journal: Journal | None,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        supervisor: Supervisor,
        on_lease_lost: Callable[[], None],
    ) -> None:
        kinds = tuple(kinds)
        logged = {cls.kind for cls in kinds if cls.durability == "logged"}
        states = {cls.kind: cls.State for cls in kinds if cls.durability == "write_behind"}
        self.lease = NodeLease(store, settings.store, clock, metrics, on_lease_lost)
        self.neighbourhood = Neighbourhood(settings.store, clock)
        self.undertaker = Undertaker(
            nodes=store, lease=self.lease, neighbours=self.neighbourhood, journal=journal, settings=settings.store,
            clock=clock, metrics=metrics,
        )  # fmt: skip
        self.retention = JournalRetention(journal, settings.store, clock)
        self.write_behind = WriteBehind(store, settings.store, clock, metrics, rng, self.retention)
        self.group_commit = GroupCommit(logs, settings.store, clock, metrics, rng)
        self.durability = MemoryFirst(self.lease, clock, self.write_behind, self.group_commit)
        if journal is not None:
            self.lease.when_granted(lambda _sent_at: journal.alive_for(self.lease.safe_until - clock.boot()))
            self.durability = JournalFirst(
                self.lease, clock, self.write_behind, self.group_commit, journal, self.retention
            )
        self.takeover = Takeover(
            nodes=store, entities=store, undertaker=self.undertaker, journal=journal, settings=settings.journal,
            state_types=states, clock=clock, metrics=metrics, rng=rng,
        )  # fmt: skip
        self.claimer = Claimer(store, settings.actors, metrics, supervisor, logged.__contains__, self.takeover)

    def start(self, me: NodeAddress, generation: int = 0) -> None:
        """Begin this run, whose address the store has issued: claims name it as the owner. `generation`: of this
        process within it, 0 for the one that registered. Starts no task."""
        self.lease.generation = generation
        self.takeover.start(me)
        self.claimer.start(me, generation)
