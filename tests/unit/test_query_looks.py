"""Looks of the query process at the row blocks of its node: when it opens them, and when it lets go of them."""

import fcntl
import io
import os
import sys
import termios
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest

from server.columns.layout import Writer
from server.columns.reader import StoredRowBlock
from server.columns.table import Table, TableLimits
from server.columns.tables import CALLS
from server.questions import wire
from tests.support.session_parts import ManualClock

pytest.importorskip("duckdb")
pytest.importorskip("pyarrow")

from server.questions.partial import Partial
from server.questions.process import Answerer, serve

NOW = 1_764_000_000_000
TABLES: list[Any] = [wire.encode([CALLS]), wire.encode([])]
PLAN: list[Any] = ["SELECT count(*) FROM calls", NOW]


@pytest.fixture
def block(tmp_path: Path) -> Path:
    """A block with a hundred calls, alone in its directory."""
    directory = tmp_path / "n"
    directory.mkdir()
    table = Table(directory, CALLS, Writer("n", 1), TableLimits(2**24, 1e9, 1.0), ManualClock())
    for number in range(100):
        table.append((NOW + number, "presence.beat", "player", "", number, 1))
    table.close()
    [path] = directory.iterdir()
    return path


def mapped(path: Path) -> bool:
    """Whether this process has a file mapped, unlinked or not."""
    return str(path) in Path("/proc/self/maps").read_text()


def test_blocks_are_open_and_checked_before_the_first_question(block: Path) -> None:
    data = bytearray(block.read_bytes())
    at = StoredRowBlock(block).shape.columns[2] + 20
    data[at : at + 2] = b"\xff\xff"  # a text of a role, which no question here names
    (block.parent / "calls.9.0.0.block").write_bytes(data)
    answerer = Answerer(block.parent)
    answerer.look()
    assert not mapped(block), "nobody has said which tables there are"
    answerer.do("tables", TABLES)
    assert mapped(block)
    partial = msgspec.msgpack.decode(answerer.do("scan", [answerer.do("plan", PLAN), 0, 0, 5.0]), type=Partial)
    assert partial.coverage.rows_scanned == partial.coverage.rows_held == 100
    assert partial.coverage.troubles == ["calls.9.0.0.block column role names texts that are not there"]


def test_question_tells_of_a_directory_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "n").touch()
    answerer = Answerer(tmp_path / "n")
    answerer.do("tables", TABLES)
    plan = answerer.do("plan", PLAN)
    with pytest.raises(NotADirectoryError):
        answerer.do("scan", [plan, 0, 0, 5.0])


def unread(pipe: int) -> int:
    """Bytes that wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


class WatchedAnswerer(Answerer):
    """Tells what it has done, and after each of its looks how many blocks it has."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.done: SimpleQueue[str] = SimpleQueue()
        self.found: SimpleQueue[int] = SimpleQueue()

    def do(self, operation: str, values: list[Any]) -> Any:
        value = super().do(operation, values)
        self.done.put(operation)
        return value

    def look(self) -> None:
        super().look()
        self.found.put(len(self._open.of(CALLS.table)))


def test_block_that_has_gone_is_not_kept_mapped_where_nobody_asks(block: Path) -> None:
    answerer = WatchedAnswerer(block.parent)
    asked, asking = os.pipe()
    with open(asked, "rb", buffering=0) as reading:
        serving = threading.Thread(target=serve, args=(reading, io.BytesIO(), answerer, 0.001))
        serving.start()
        try:
            tables = wire.frame((1, "tables", TABLES))
            os.write(asking, tables[:3])
            while serving.is_alive() and unread(asked):
                pass  # it comes in two pieces, and the second one with another frame
            os.write(asking, tables[3:] + wire.frame((2, "plan", PLAN)))
            assert [answerer.done.get(timeout=30) for _ in range(2)] == ["tables", "plan"]
            assert mapped(block)
            block.unlink()
            answerer.found = SimpleQueue()  # those before the tables found nothing either
            while answerer.found.get(timeout=30):
                pass
            assert not mapped(block)
        finally:
            os.close(asking)
            serving.join(30)
    assert not serving.is_alive()
