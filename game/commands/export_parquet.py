"""Ended matches as Parquet: `matches`, `participants` and `events`, for tools that read columns.

Of a store of any size there are one match and the rows of a few thousand events in memory. The columns of the three
files are the tables `_SCHEMAS`; every number is computed from the logs themselves.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from game import replay as replays
from game.commands.files import written_whole
from game.match import board, endings
from game.match.state import MatchState
from server.cli.common import err, out, print_json
from server.cli.stored import opened_store
from server.errors import BadInput, Corrupt, GarrisonError
from server.eventlog.ports import StoredLog
from server.ids import ActorId, key_of
from server.settings import Settings

BAD: Final = 2
PAGE: Final = 100
ROWS: Final = 8_192
"""Rows that are written at a time."""
_SECRET: Final = frozenset({"salt", "digest"})
"""Fields of events that stay in the log."""
_OWN_COLUMNS: Final = ("player", "victim", "team", "points", "name")

_SCHEMAS: Final[dict[str, dict[str, str]]] = {
    "matches": {
        "match": "string",
        "mode": "string",
        "map_name": "string",
        "host": "string",
        "end_reason": "string",
        "winner": "string",
        "team_scores": "list<int64>",
        "created_ms": "int64",
        "started_ms": "int64",
        "ended_ms": "int64",
        "length_ms": "int64",
        "players": "int32",
        "events": "int64",
        "head": "string",
    },
    "participants": {
        "match": "string",
        "player": "string",
        "team": "int32",
        "present": "bool",
        "kills": "int32",
        "deaths": "int32",
        "assists": "int32",
        "medals": "int32",
        "objectives": "int32",
        "score": "int32",
        "won": "bool",
    },
    "events": {
        "match": "string",
        "seq": "int64",
        "time_ms": "int64",
        "type": "string",
        "player": "string",
        "victim": "string",
        "team": "int32",
        "points": "int32",
        "name": "string",
        "fields": "string",
    },
}
"""Columns by file. Times `_ms` of matches are Unix time, of events the match clock; `fields` is JSON of what else an
event says, empty for nothing."""


def export_all(settings: Settings, folder: Path, json: bool) -> int:
    """Write the three files into `folder`. Damaged matches are left out and named; the exit code says so."""
    pyarrow = _pyarrow()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}") from None
    with ExitStack() as stack:
        tables = {name: stack.enter_context(_Table(pyarrow, folder, name)) for name in _SCHEMAS}
        left_out = asyncio.run(_fill(settings, tables))
    figures = {name: table.rows for name, table in tables.items()}
    if json:
        print_json(msgspec.json.encode({"directory": str(folder), **figures, "left_out": left_out}))
    else:
        for match, why in left_out.items():
            err().print(f"left out: match {match}: {why}", markup=False)
        counts = ", ".join(f"{count:,} {name}" for name, count in figures.items())
        out().print(f"{folder} has {counts}, in three Parquet files", markup=False)
    return BAD if left_out else 0


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise BadInput("Parquet needs pyarrow: install `garrison-server[parquet]`") from None
    return pyarrow


async def _fill(settings: Settings, tables: "dict[str, _Table]") -> dict[str, str]:
    """Every ended match; the reasons of those that were left out, by match."""
    left_out: dict[str, str] = {}
    async for identity, log in _logs(settings):
        name = key_of(identity)
        if isinstance(log, str):
            left_out[name] = log
            continue
        try:
            state = replays.final_state(log)
            if state.phase == "ended":
                _add(tables, name, log, state)
        except GarrisonError as error:
            left_out[name] = error.message
    return left_out


async def _logs(settings: Settings) -> AsyncIterator[tuple[ActorId, StoredLog | str]]:
    """Every match of the store with its log, or why it cannot be read."""
    after: ActorId | None = None
    async with opened_store(settings) as store:
        while page := await store.list_logs("match", PAGE, after):
            after = page[-1]
            for identity in page:
                try:
                    log = await store.read_log("match", identity)
                except Corrupt as error:
                    yield identity, error.message
                    continue
                if log is not None:
                    yield identity, log


def _add(tables: "dict[str, _Table]", name: str, log: StoredLog, state: MatchState) -> None:
    tables["matches"].add(
        [
            name,
            state.options.mode,
            state.options.map_name,
            state.host,
            state.end_reason,
            state.winner,
            list(state.team_scores),
            state.created_wall_ms,
            state.started_wall_ms or None,
            state.ended_wall_ms,
            state.time_ms,
            len(state.players),
            log.next_seq - 1,
            log.head.hex(),
        ]
    )
    for row in participant_rows(name, state):
        tables["participants"].add(row)
    for row in event_rows(name, log):
        tables["events"].add(row)


def participant_rows(name: str, state: MatchState) -> Iterator[list[Any]]:
    """A row of `participants` for each player. Who won is what careers count: no leaver in a mode that says so."""
    for line in board.lines(state):
        numbers = [line.kills, line.deaths, line.assists, line.medals, line.objectives, line.score]
        yield [name, line.player, line.team, line.present, *numbers, endings.won(state, line.player)]


def event_rows(name: str, log: StoredLog) -> Iterator[list[Any]]:
    """A row of `events` for each event. Raises `Corrupt`."""
    for step in replays.steps(log):
        event = step.record.event
        fields = {key: value for key, value in _plain(event).items() if key not in _SECRET and value is not None}
        time_ms = fields.pop("time_ms")
        if "medal" in fields:
            fields["name"] = fields.pop("medal")
        own = [fields.pop(column, None) for column in _OWN_COLUMNS]
        rest = msgspec.json.encode(fields).decode() if fields else ""
        yield [name, step.record.seq, time_ms, event.__struct_config__.tag, *own, rest]


def _plain(value: Any) -> Any:
    """Structs as dicts by the names of their fields, all the way down."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


class _Table:
    """A Parquet file that is written in batches, and appears once it is whole."""

    def __init__(self, pyarrow: Any, folder: Path, name: str) -> None:
        self._pyarrow, self._path = pyarrow, folder / f"{name}.parquet"
        kinds = {"list<int64>": pyarrow.list_(pyarrow.int64()), "bool": pyarrow.bool_()}
        columns = _SCHEMAS[name].items()
        self._schema = pyarrow.schema(
            [(column, kinds[kind] if kind in kinds else getattr(pyarrow, kind)()) for column, kind in columns]
        )
        self._waiting: list[list[Any]] = []
        self._stack = ExitStack()
        self.rows = 0

    def __enter__(self) -> "_Table":
        stream = self._stack.enter_context(written_whole(self._path))
        writer = self._pyarrow.parquet.ParquetWriter(stream, self._schema, compression="zstd")
        self._writer = self._stack.enter_context(writer)
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self._flush()
        self._stack.__exit__(*error)

    def add(self, row: list[Any]) -> None:
        self._waiting.append(row)
        self.rows += 1
        if len(self._waiting) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            arrays = [
                self._pyarrow.array(column, type=field.type)
                for column, field in zip(zip(*self._waiting, strict=True), self._schema, strict=True)
            ]
            self._writer.write_table(self._pyarrow.Table.from_arrays(arrays, schema=self._schema))
            self._waiting = []
