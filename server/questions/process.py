"""The query process of a node: answers what the node asks on standard input, one thing after another, until that ends.

    python -m server.questions DIRECTORY

It is a process of its own so that a heavy question cannot hurt a heartbeat: it gets the time that nobody else wants
(nice alone leaves it its slice of some ms once it runs), is the first to be killed where memory runs out, and reads the
node's columns as anybody may, without asking it. It ends with its node, whose end of the pipe closes.

It looks at the row blocks that there are as soon as it knows the node's tables, while the node still looks through
them itself, and every few seconds in which nobody asks. So the first question finds them open and checked; and a block
that the node has let go of is mapped here for no longer than the node counts it (`columns.reader_s`).
"""

import os
import select
import sys
import time
from contextlib import suppress
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from server.columns.layout import Schema
from server.columns.missing import missing_rows
from server.columns.snapshot import read_snapshot
from server.columns.store import boot_id
from server.columns.tables import CALLS
from server.errors import BadInput, Corrupt, GarrisonError, Internal, Overloaded
from server.questions import leaf, wire
from server.questions.partial import NOBODY, Coverage, Merger, Partial, finished
from server.questions.plan import Plan, plan
from server.runtime.process import give_way
from server.wire.codec import UNDECODABLE

MAX_ANSWER_BYTES: Final = wire.MAX_FRAME_BYTES - 1024
LOOK_S: Final = 5.0
"""Seconds between two looks at the row blocks, where no question is in the way."""
_schemas = msgspec.msgpack.Decoder(list[Schema]).decode
_plan = msgspec.msgpack.Decoder(Plan).decode
_partial = msgspec.msgpack.Decoder(Partial).decode


class Answerer:
    """Does what a node asks; `open` has the blocks of its directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open = leaf.OpenBlocks(directory)
        self._scanner = leaf.Scanner()
        self._schemas: dict[str, Schema] = {}
        self._snapshots: dict[str, Schema] = {}
        self._boot_id = boot_id()

    def warm(self) -> None:
        """Make what the first question would wait for."""
        self._scanner.warm()

    def look(self) -> None:
        """Open row blocks that are new, check what is new in others, let go of those that are gone."""
        if not self._schemas:
            return  # without the node's tables every block is one of another program
        with suppress(OSError):  # a question tells of a directory that cannot be read
            self._open.refresh(list(self._schemas.values()))

    def do(self, operation: str, values: list[Any]) -> Any:
        """The answer. Raises typed errors, and for values that are none what Python raises."""
        if operation == "tables":
            self._schemas, self._snapshots = (
                {schema.table: schema for schema in schemas} for schemas in (*map(_schemas, values), [])[:2]
            )
            self.look()
            return None
        if operation == "plan":
            sql, now_ms = values
            return wire.encode(plan(str(sql), {**self._schemas, **self._snapshots}, int(now_ms)))
        if operation == "answer":
            return self._answer(*values)
        question = _plan(values[0])
        if question.table not in self._schemas and question.table not in self._snapshots:
            raise BadInput(f"no table {question.table[:64]!r} here")
        if operation == "scan":
            _, since_ms, until_ms, seconds = values
            if question.table in self._snapshots:
                return wire.encode(self._scan_snapshot(question, time.monotonic() + seconds))
            return wire.encode(self._scan(question, since_ms, until_ms, time.monotonic() + seconds))
        merger = Merger(question)
        for name, data in values[1]:
            try:
                merger.add_checked(_partial(data))
            except (*UNDECODABLE, BadInput):
                # The node is damaged, or of another version: its rows are missing, and those of the others are not.
                trouble = f"the answer of node {str(name)[:100]} made no sense"
                merger.add(Partial([], msgspec.structs.replace(NOBODY, troubles=[trouble])))
        if operation == "merge":
            return wire.encode(merger.result())
        if operation == "finish":
            _, _, nodes, missing = values
            return self._finish(question, merger, nodes, missing)
        raise BadInput(f"no operation {operation[:64]!r}")

    def _answer(self, sql: str, now_ms: int, since_ms: int, until_ms: int, seconds: float, node: str) -> Any:
        question = self.do("plan", [sql, now_ms])
        partials, missing = [], [node]
        try:
            partials, missing = [[node, self.do("scan", [question, since_ms, until_ms, seconds])]], []
        except BadInput:
            raise
        except Exception:
            pass  # a scan may fail by anything: its node is missing then, as it is among others
        return self.do("finish", [question, partials, 1, missing])

    def _scan(self, question: Plan, since_ms: int, until_ms: int, deadline: float) -> Partial:
        troubles = self._open.refresh(list(self._schemas.values()))
        missing = missing_rows(self._directory, question.table)
        found = self._scanner.scan(question, self._open.of(question.table), since_ms, until_ms, deadline)
        said = msgspec.structs.replace(
            NOBODY, troubles=troubles[:4], reloading=int(missing is not None), rows_missing=missing or 0
        )
        return Partial(found.rows, found.coverage.plus(said))

    def _scan_snapshot(self, question: Plan, deadline: float) -> Partial:
        """The partial answer of the newest snapshot, whenever its rows were taken: it has no past."""
        try:
            manifest, blocks = read_snapshot(self._directory, self._snapshots[question.table])
        except (Corrupt, OSError) as error:
            why = f"{question.table}: {getattr(error, 'message', error)}"
            return Partial([], Coverage(1, 1, troubles=[why[:300]]))
        # Its blocks are new each time: their texts are not numbered for the next question, nor kept mapped for it.
        plain = msgspec.structs.replace(question, split=None)
        found = self._scanner.scan(plain, blocks, 0, 0, deadline)
        age_ms = manifest.age_ms(self._boot_id, time.clock_gettime(time.CLOCK_BOOTTIME))
        left_out = Coverage(0, 0, rows_held=manifest.left_out, age_ms=age_ms)
        return Partial(found.rows, found.coverage.plus(left_out))

    def _finish(self, question: Plan, merger: Merger, nodes: int, missing: list[str]) -> bytes:
        merged = merger.result()
        coverage = msgspec.structs.replace(merged.coverage, nodes=nodes, missing=sorted(missing))
        rows = self._scanner.finish(question, finished(question, merged))
        sampled = question.weighted and coverage.stand_for != coverage.rows_scanned
        document = {
            "columns": question.names,
            "rows": rows,
            "coverage": _named(coverage) | {"sampled": sampled},
        }
        return msgspec.json.encode(document, enc_hook=str)


def _named(coverage: Coverage) -> dict[str, Any]:
    return {name: getattr(coverage, name) for name in Coverage.__struct_fields__}


def serve(asked: RawIOBase, answers: BinaryIO, answerer: Answerer, look_s: float = LOOK_S) -> None:
    """Answer frame after frame, until there are no more, and look at the row blocks every `look_s` or once nobody waits
    any more. `asked` has no buffer: what lies in one is no sign that somebody waits."""
    look_at = time.monotonic() + look_s
    while True:
        while not select.select([asked], [], [], max(0.0, look_at - time.monotonic()))[0]:
            answerer.look()
            look_at = time.monotonic() + look_s
        head = _read(asked, wire.LENGTH_BYTES)
        if len(head) < wire.LENGTH_BYTES:
            return
        number, operation, values = wire.read_asked(_read(asked, wire.length_of(head)))
        error: tuple[str, str] | None = None
        value: Any = None
        try:
            value = answerer.do(operation, values)
        except GarrisonError as failure:
            error = (failure.code, failure.message)
        except Exception as failure:
            error = (Internal.code, f"{type(failure).__name__}: {str(failure)[:300]}")
        if isinstance(value, bytes) and len(value) > MAX_ANSWER_BYTES:
            error, value = (Overloaded.code, "the answer is too large: fewer groups, or fewer columns, are less"), None
        answers.write(wire.frame((number, error, value)))
        answers.flush()


def _read(asked: RawIOBase, size: int) -> bytes:
    """The next `size` bytes; fewer where they end before."""
    data = bytearray()
    while len(data) < size and (part := asked.read(size - len(data))):
        data += part
    return bytes(data)


def main() -> int:
    """Serve the node that has started this process, on the idle class. The start itself would take for ever there; the
    engine is made there, as its threads keep the class of their maker."""
    plan(
        f"SELECT count(*) FROM {CALLS.table}", {CALLS.table: CALLS}, 0
    )  # the parser's own start, as long as an engine's
    give_way("1000")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # an engine's prints are no answer
    answerer = Answerer(Path(sys.argv[1]))
    answerer.warm()
    try:
        serve(os.fdopen(0, "rb", buffering=0, closefd=False), answers, answerer)
    except BrokenPipeError:
        os._exit(0)  # nobody reads: the node has ended, or gone on in another process. A return would write once more
    return 0
