"""`garrison import`: logs of other games as stored matches. Writes to the store; a cluster may run on it, or none."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import msgspec
from cyclopts import App, Parameter, validators
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from game import replay as replays
from game.imports.encode import Origins, whole_log
from game.imports.importing import Figures, FileImport, open_log
from game.imports.storing import PORTABLE, ImportStore, read_portable, store_match, store_portable
from game.match.state import MatchState
from server.cli.common import Config, Json, Set, err, out, print_json, program
from server.cli.config import read_settings
from server.cli.stored import opened_store
from server.errors import BadInput, Corrupt, UnknownRules
from server.eventlog.ports import WholeLog
from server.settings import Settings
from server.texts import escaped

LONG_FILE: Final = 4 * 1024 * 1024
"""Bytes of a file from which on progress is shown."""
KINDS_SHOWN: Final = 8
FAILED: Final = 2

EXAMPLES = """
Examples:

- `garrison import server.log` stores the matches of a log, and says how to replay each
- `garrison import logs/*.log --dry-run` shows what is in them, and stores nothing
- `garrison import L0314000.log --zone Europe/Berlin --counts` of a server of your own, whose matches count for careers
- `garrison import film-chunk --film-version 39` highlights of a Halo Infinite film (needs the extra `halo`)

Formats: JSON Lines as `garrison play` reads them; the HL log standard (Team Fortress 2, CS2, CS:GO, Half-Life);
`games.log` of Quake 3, OpenArena and Urban Terror; Xonotic event logs; film highlights of Halo Infinite. Any may be
gzip. A `.garrison` file (`garrison export`) is checked whole before it is stored. The same file again
stores nothing twice.
"""


class MatchFigures(msgspec.Struct):
    """A match of a file. `outcome`: `stored`, `there` (it was stored before), or `dry` (nothing is stored). `lines`:
    the first and the last one of it; `cut`: the log does not show its end. Wall times are Unix ms."""

    match: str
    outcome: str
    source: str
    map_name: str
    lines: tuple[int, int]
    cut: bool
    events: int
    time_ms: int
    started_wall_ms: int
    team_scores: tuple[int, ...]
    winner: str | None
    players: int


class ImportedFile(msgspec.Struct):
    """A file: its matches and the figures of its lines, or `error`, why it was not read, or not to its end."""

    file: str
    matches: list[MatchFigures] = []
    lines: Figures | None = None
    error: str | None = None


def import_(
    *files: Annotated[Path, Parameter(help="Logs, as they are or gzip.")],
    counts: Annotated[
        bool, Parameter(help="The matches count for careers of players with an id of their platform.")
    ] = False,
    dry_run: Annotated[
        bool, Parameter(help="Read and show all, store nothing.", negative="", show_default=False)
    ] = False,
    zone: Annotated[str, Parameter(help="The time zone of the server's clock, as Europe/Berlin.")] = "UTC",
    film_version: Annotated[
        int | None,
        Parameter(
            help="Major version of a Halo Infinite film; without it, each layout is tried.",
            show_default=False,
            validator=validators.Number(gte=1, lte=1_000),
        ),
    ] = None,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Store the matches in logs of other games."""
    if not files:
        raise BadInput("name at least one file")
    offset_ms = offset_of(zone)
    settings = read_settings(config, set_)
    done = asyncio.run(_import(settings, files, Origins("", counts=counts, offset_ms=offset_ms), film_version, dry_run))
    if json:
        print_json(msgspec.json.encode({"files": done}))
    else:
        for told in done:
            _show(told)
    failed = [told for told in done if told.error is not None]
    if len(failed) == len(files) == 1:
        raise BadInput(f"{failed[0].file}: {failed[0].error}")
    for told in failed:
        err().print(f"garrison: {told.file}: {told.error}", markup=False)
    return FAILED if failed else 0


def offset_of(zone: str) -> Callable[[int], int]:
    """A function from a wall time in `zone`, ms as if it were UTC, to what that is ahead of UTC. Raises `BadInput`."""
    if zone.upper() == "UTC":
        return lambda wall_ms: 0
    try:
        info = ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        raise BadInput(f"--zone: no time zone {zone!r}; use a name such as Europe/Berlin") from None

    def offset_ms(wall_ms: int) -> int:
        wall = datetime.fromtimestamp(min(wall_ms, 250_000_000_000_000) // 1_000, UTC).replace(tzinfo=info)
        ahead = wall.utcoffset()
        return 0 if ahead is None else int(ahead.total_seconds()) * 1_000

    return offset_ms


async def _import(
    settings: Settings, files: tuple[Path, ...], origins: Origins, film_version: int | None, dry_run: bool
) -> list[ImportedFile]:
    """Import file by file: one that cannot be read takes no other along. Raises what the store raises, `BadSetting` if
    there is none."""
    done: list[ImportedFile] = []
    async with AsyncExitStack() as stack:
        store = None if dry_run else await stack.enter_async_context(opened_store(settings))
        for file in files:
            done.append(told := ImportedFile(str(file)))
            try:
                await import_file(file, origins, film_version, store, told)
            except (BadInput, Corrupt, UnknownRules) as error:
                told.error = error.message
            except OSError as error:
                told.error = error.strerror or str(error)
    return done


async def import_file(
    file: Path, origins: Origins, film_version: int | None, store: ImportStore | None, told: ImportedFile
) -> None:
    """Store the matches of a file, or, without a store, read them; `told` gets the figures as they come. Raises
    `BadInput`, `OSError`, `Unavailable`."""
    size, written_wall_ms = _size_and_time(file)
    with open_log(file) as stream, _progress(file, size) as progress:
        match_file = read_portable(stream, origins.counts)
        if match_file is not None:
            told.lines = Figures(format="Garrison match")
            outcome = "dry" if store is None else await store_portable(store, match_file)
            told.matches.append(_figures(match_file.name, PORTABLE, match_file.log, outcome))
            return
        found = FileImport(stream, origins._replace(written_wall_ms=written_wall_ms), film_version)
        told.lines = found.told
        for match in found:
            try:
                log = whole_log(match.events)
            except BadInput as error:
                found.told.refused.append(f"lines {match.lines[0]} to {match.lines[1]}: {error.message}")
                continue
            outcome = "dry" if store is None else await store_match(store, match.name, log)
            told.matches.append(_figures(match.name, match.source, log, outcome, match.lines, match.cut))
            progress(found.read_to)


def _size_and_time(file: Path) -> tuple[int, int]:
    """Bytes of a file, and when it was written, Unix ms."""
    found = file.stat()
    return found.st_size, max(0, found.st_mtime_ns // 1_000_000)


def _figures(
    name: str, source: str, log: WholeLog, outcome: str, lines: tuple[int, int] = (0, 0), cut: bool = False
) -> MatchFigures:
    state: MatchState = log.projection
    return MatchFigures(
        name, outcome, source, state.options.map_name, lines, cut, log.last_seq, state.time_ms,
        state.started_wall_ms, state.team_scores, state.winner, len(state.players),
    )  # fmt: skip


@contextmanager
def _progress(file: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, for a long file. Of a packed one it is behind: its size is that of the packed bytes."""
    if size < LONG_FILE or not sys.stderr.isatty():
        yield lambda read_to: None
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=err()) as bar:
        task = bar.add_task(escaped(file.name), total=size)
        yield lambda read_to: bar.update(task, completed=min(read_to, size))


# ---- showing --------------------------------------------------------------------------------


def _show(told: ImportedFile) -> None:
    """A file in words: a line for each match, then what was not understood."""
    lines = told.lines
    if lines is not None:
        count = f", {_counted(lines.lines, 'line')}" if lines.lines else ""
        out().print(f"{escaped(told.file)}: {lines.format}{count}", markup=False)
        for match in told.matches:
            out().print(f"  {_match_line(match)}", markup=False)
        for text in [*_left_out(lines), *([] if told.matches or told.error else ["no match in it"])]:
            out().print(f"  {text}", markup=False)
    stored = [match for match in told.matches if match.outcome != "dry"]
    if stored:
        out().print(f"{program()} replay {stored[-1].match}", markup=False)
        out().print(f"{program()} theatre {stored[-1].match}", markup=False)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _match_line(match: MatchFigures) -> str:
    score = " : ".join(map(str, match.team_scores))
    parts = [
        match.match,
        escaped(match.map_name),
        _counted(match.players, "player"),
        _counted(match.events, "event"),
        replays.clock(match.time_ms)[:-4],
        f"{score}{f' ({match.winner})' if match.winner else ''}".strip(),
        "cut short" if match.cut else "",
        {"there": "stored already", "dry": "not stored"}.get(match.outcome, "stored"),
    ]
    return "  ".join(part for part in parts if part)


def _left_out(lines: Figures) -> Iterator[str]:
    """Lines that were not understood, the most frequent first, and all that was left out."""
    if lines.unknown:
        kinds = sorted(lines.unknown.items(), key=lambda item: (-item[1].count, item[1].first_line))
        told = [f"{escaped(kind)} ({found.count}, first line {found.first_line})" for kind, found in kinds]
        more = f" and {len(told) - KINDS_SHOWN} kinds more" if len(told) > KINDS_SHOWN else ""
        total = sum(found.count for found in lines.unknown.values())
        yield f"not understood: {_counted(total, 'line')}: {', '.join(told[:KINDS_SHOWN])}{more}"
    if lines.warm_ups:
        yield f"{_counted(lines.warm_ups, 'warm-up')} without a match"
    if lines.empty:
        yield f"{lines.empty:,} without an event: no {'match' if lines.empty == 1 else 'matches'}"
    if lines.outside:
        yield f"{_counted(lines.outside, 'event')} outside of any match"
    yield from lines.refused


def register(app: App) -> None:
    app.command(import_, name="import", help_epilogue=EXAMPLES)
