"""Columns of a node that goes on in another process: nothing of the last tick is lost, and nothing is written after."""

import random
from pathlib import Path

import pytest

from server.columns.reader import StoredRowBlock, paths
from server.columns.store import ColumnStore
from server.columns.table import TableLimits
from server.columns.tables import CALLS, TABLES
from server.ids import Incarnation, NodeAddress, NodeId
from server.recording import Recording
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import ColumnSettings
from tests.support.leases import HandClock

LIMITS = TableLimits(max_bytes=2**20, max_age_s=60.0, reader_s=1.0)


def recording_in(directory: Path, generation: int, metrics: Metrics | None = None) -> Recording:
    clock = HandClock()
    store = ColumnStore(directory, TABLES, LIMITS, clock)
    recording = Recording(store, ColumnSettings(), clock, random.Random(1), metrics or Metrics(), Supervisor("test"))
    recording.begin(NodeAddress(NodeId("node-1"), Incarnation(3)), generation)
    return recording


def published(directory: Path) -> int:
    blocks = [StoredRowBlock(path) for path in paths(directory)]
    return sum(block.rows for block in blocks if block.header.schema.table == CALLS.table)


def call(recording: Recording) -> None:
    recording.calls.done("match_join", "player", 99.0, None)


async def test_sealed_it_has_published_everything_and_writes_nothing_more(tmp_path: Path) -> None:
    recording = recording_in(tmp_path, 0)
    for _ in range(3):
        call(recording)
    recording.seal()
    recording.seal()
    assert published(tmp_path) == 3
    call(recording)
    recording._health()
    recording._tick()
    recording._tick()
    recording.close()
    assert published(tmp_path) == 3


async def test_called_off_rows_are_taken_again(tmp_path: Path) -> None:
    recording = recording_in(tmp_path, 0)
    recording.go_on()
    call(recording)
    recording.seal()
    call(recording)
    recording.go_on()
    call(recording)
    recording.close()
    assert published(tmp_path) == 2


@pytest.mark.parametrize("generation", [1, 2])
async def test_heir_counts_the_rows_of_its_predecessor_too(tmp_path: Path, generation: int) -> None:
    before, after = Metrics(), Metrics()
    old = recording_in(tmp_path, generation - 1, before)
    call(old)
    old.seal()
    after.inherit(before.bequeath())
    heir = recording_in(tmp_path, generation, after)
    call(heir)
    call(heir)
    await heir.store.look()
    heir.seal()
    assert published(tmp_path) == 3
    assert after.column_rows_total == 3 and after.column_bytes > before.column_bytes


async def test_closed_it_takes_no_rows_again(tmp_path: Path) -> None:
    recording = recording_in(tmp_path, 0)
    call(recording)
    recording.close()
    recording.close()
    recording.go_on()
    call(recording)
    recording._health()
    recording._tick()
    assert published(tmp_path) == 1 and recording.phase == "closed"
    with pytest.raises(AssertionError, match="closed"):
        recording.begin(NodeAddress(NodeId("node-1"), Incarnation(4)))
