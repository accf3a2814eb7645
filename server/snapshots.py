"""The snapshots of a node: rows of the actors that live here, taken anew each `period_s` seconds, slice by slice.

All nodes begin theirs when the wall clock has a multiple of `period_s`. So an actor that moves between two nodes is
seen by both, or by neither, only where it moves while they walk, or one of them is late: until the next snapshot.
An activation that is frozen has left or has not begun: on its way it is nobody's, and never of two at a moment.

A walk gives way to the loop after each slice of a quarter of a millisecond, and rests for much longer than that: a
million activations take about a minute, and a twentieth of a core meanwhile.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from server.actors.recorded import RecordedSnapshot
from server.catalog.census import KindCensus
from server.catalog.steps import guarded
from server.catalog.system import ActorSystem
from server.columns.snapshot import SnapshotTable, unlink
from server.columns.store import ColumnStore
from server.ids import ActorId, key_of
from server.runtime.clock import Clock

SLICE: Final = 64
"""Activations that are looked at before the loop gets its turn."""
REST_S: Final = 0.004
_NOT_HERE: Final = ("loading", "frozen")


class Snapshots:
    """See the module's head. Made before the node starts; `run` is a task of the node."""

    def __init__(
        self,
        recorded: Sequence[RecordedSnapshot],
        store: ColumnStore,
        system: ActorSystem,
        clock: Clock,
        period_s: float,
    ) -> None:
        self._store, self._system, self._clock, self._period_s = store, system, clock, period_s
        self._kinds = [(each, system.census(each.actor.kind)) for each in recorded]

    async def run(self) -> None:
        """Take snapshots for ever."""
        while True:
            await asyncio.sleep(self._period_s - self._clock.wall_ms() / 1000 % self._period_s)
            await self.take()

    async def take(self) -> None:
        """Take a snapshot of each kind."""
        for recorded, census in self._kinds:
            table = self._store.snapshots.get(recorded.schema.table)
            if table is not None and table.has_room:
                await guarded(self._take(recorded, census, table))

    async def _take(self, recorded: RecordedSnapshot, census: KindCensus, table: SnapshotTable) -> int:
        """The number of rows that were written."""
        snapshot = table.begin(len(census))
        taken = 0
        for slice_ in census.walk(SLICE):
            if taken:
                await asyncio.sleep(REST_S)
            rows = self._rows(recorded, census, slice_)
            snapshot.add(rows)
            taken += len(rows)
        former = table.publish(snapshot)
        if former:
            await asyncio.to_thread(unlink, former)
        return taken

    def _rows(
        self, recorded: RecordedSnapshot, census: KindCensus, identities: Sequence[ActorId]
    ) -> list[tuple[Any, ...]]:
        rows = []
        now_ms = self._clock.wall_ms()
        for identity in identities:
            activation = self._system.find(identity)
            if activation is None:
                census.remove(identity)
            elif activation.phase not in _NOT_HERE:
                try:
                    values = recorded.row(key_of(identity), activation.actor, activation.boundary, now_ms)
                except Exception as error:
                    self._system.turn_crashed(identity, error)
                    continue
                if values is not None:
                    rows.append((now_ms, *values))
        return rows
