"""`garrison export`: stored matches for elsewhere. A match as a `.garrison` file or as a recording; all as Parquet.

Reads the store; no cluster needs to run. Files appear whole, or not at all.
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import App, Parameter

from game import replay as replays
from game.commands.files import written_whole
from game.commands.stored import read_match
from game.match.state import MatchState
from game.modes.registry import version_of
from server.cli.common import Config, Json, Set, out, print_json
from server.cli.config import read_settings
from server.errors import BadInput, Corrupt
from server.eventlog import portable
from server.eventlog.ports import StoredLog
from server.ids import key_of
from server.settings import Settings

SUFFIX: Final = ".garrison"

EXAMPLES = """
Examples:

- `garrison export latest --to latest.garrison` a file that `garrison verify` checks anywhere
- `garrison export ranked-42 --jsonl > ranked-42.jsonl` a recording, as `garrison play` takes it
- `garrison export --parquet matches/` every ended match, for DuckDB, pandas or Spark
"""


def export(
    match: Annotated[str | None, Parameter(help="The match, or `latest`; none with --parquet: all.")] = None,
    *,
    to: Annotated[Path | None, Parameter(help="The file to write: X.garrison, or with --jsonl any.")] = None,
    jsonl: Annotated[
        bool, Parameter(help="As a recording: one JSON object a line.", negative="", show_default=False)
    ] = False,
    parquet: Annotated[
        Path | None, Parameter(help="Write matches, participants and events as Parquet files into this directory.")
    ] = None,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Write stored matches to files."""
    settings = read_settings(config, set_)
    if parquet is not None:
        if match is not None or jsonl or to is not None:
            raise BadInput("--parquet takes every ended match, and its own directory")
        from game.commands.export_parquet import export_all

        return export_all(settings, parquet, json)
    if match is None or (to is None and not jsonl):
        raise BadInput(f"name a match and --to FILE{SUFFIX}, or --jsonl; or --parquet DIR")
    if jsonl:
        return _export_jsonl(settings, match, to, json)
    assert to is not None
    return _export_portable(settings, match, to, json)


def _export_portable(settings: Settings, match: str, to: Path, json: bool) -> int:
    if to.suffix != SUFFIX:
        raise BadInput(f"{to}: a file that holds a match is called X{SUFFIX}")
    identity, log = asyncio.run(read_match(settings, match))
    name = key_of(identity)
    try:
        state = replays.final_state(log)
        with written_whole(to) as stream:
            count = portable.write(stream, header_of(name, state), replays.MATCH, log)
    except Corrupt as error:
        raise Corrupt(f"match {name} does not verify, and is not exported: {error.message}") from None
    _tell(json, match=name, file=str(to), events=log.next_seq - 1, bytes=count, head=log.head.hex())
    return 0


def header_of(name: str, state: MatchState) -> portable.PortableHeader:
    """The header of a match's file."""
    metadata = {
        "mode": state.options.mode,
        "map_name": state.options.map_name,
        "phase": state.phase,
        "created_wall_ms": str(state.created_wall_ms),
        "players": str(len(state.players)),
    }
    return portable.PortableHeader("match", name, version_of(state), metadata)


# ---- recordings -----------------------------------------------------------------------------


def _export_jsonl(settings: Settings, match: str, to: Path | None, json: bool) -> int:
    if to is None and json:
        raise BadInput("--jsonl writes to standard output: --json needs --to FILE")
    identity, log = asyncio.run(read_match(settings, match))
    name = key_of(identity)
    try:
        if to is None:
            for line in recording_lines(log):
                sys.stdout.write(line.decode())
            return 0
        count = 0
        with written_whole(to) as stream:
            for line in recording_lines(log):
                stream.write(line)
                count += 1
    except Corrupt as error:
        raise Corrupt(f"match {name} does not verify: {error.message}") from None
    _tell(json, match=name, file=str(to), lines=count)
    return 0


def recording_lines(log: StoredLog) -> Iterator[bytes]:
    """The lines of a recording: what players did, in order, a line each. A kill of which its victim died is two, as
    where it was recorded; of one's own team it is a death alone. Raises `Corrupt`."""
    for step in replays.steps(log):
        event = step.record.event
        fields = {"time_ms": event.time_ms, **_fields(event)}
        kind = _RECORDED.get(event.__struct_config__.tag)
        if kind is None or fields.get("player") is None:
            continue
        if kind != "kill" or _kills(step.after, event.player) > _kills(step.before, event.player):
            yield _line({**fields, "type": kind})
        victim = fields.get("victim")
        if victim is not None and step.after.players[victim].deaths > step.before.players[victim].deaths:
            yield _line({"time_ms": event.time_ms, "player": victim, "type": "death"})


_RECORDED: Final = {
    "kill": "kill",
    "death": "death",
    "assist": "assist",
    "medal": "medal",
    "objective": "mode",
    "score": "score",
}
"""Types of lines by tag of their event."""


def _kills(state: MatchState, player: str) -> int:
    line = state.players.get(player)
    return 0 if line is None else line.kills


def _fields(event: msgspec.Struct) -> dict[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(event).items() if value is not None}


def _line(fields: dict[str, object]) -> bytes:
    return msgspec.json.encode(fields) + b"\n"


def _tell(json: bool, **figures: object) -> None:
    if json:
        print_json(msgspec.json.encode(figures))
        return
    (_, name), (_, file), *rest = figures.items()
    counts = ", ".join(f"{value:,} {key}" for key, value in rest if isinstance(value, int))
    out().print(f"match {name} is in {file}: {counts}", markup=False)


def register(app: App) -> None:
    app.command(export, name="export", help_epilogue=EXAMPLES)
