"""`garrison prune`: delete logs of matches that are over, oldest first; `garrison pin` and `unpin`: keep one for good.

Works on the store alone, with or without nodes: what a node has claimed, or claims meanwhile, stays. A batch is a
transaction, so the command may be stopped at any moment and run again. Careers, ratings and leaderboards stay as they
are.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter, validators

from game.commands.stored import find_match
from server.cli.common import Config, Json, Set, err, out, print_json, seconds_of
from server.cli.config import read_settings
from server.cli.stored import opened_store
from server.errors import BadInput, NotFound
from server.eventlog import pruning
from server.eventlog.ports import LogStore
from server.eventlog.retention import RetentionLimits
from server.ids import key_of
from server.settings import RetentionSettings, Settings

DAY_MS: Final = 86_400_000
NAMED: Final = 1_000
"""Matches that are named in a document."""
SHOWN: Final = 10
PAUSE_S: Final = 0.02
"""Pause between batches, in which nodes get at the store."""
UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "kB": 10**3, "MB": 10**6, "GB": 10**9}
EXAMPLES = """
Examples:

- `garrison prune --older-than 90d --dry-run` shows what would go
- `garrison prune --keep 10000` keeps the newest 10,000 matches
- `garrison prune --max-bytes 10GiB --json`
- `garrison prune` goes by the settings `retention`
- `garrison pin MATCH` keeps a match whatever its age
"""


class GoneMatch(msgspec.Struct, frozen=True):
    """A match that goes. Times in Unix ms."""

    match: str
    ended_wall_ms: int
    bytes: int


class Pruned(msgspec.Struct):
    """The answer of the command. `kept`: matches that somebody claimed, pinned or deleted meanwhile; `named` are the
    first of those that went (with `dry_run`: that would)."""

    dry_run: bool
    matches: int = 0
    bytes: int = 0
    kept: int = 0
    named: list[GoneMatch] = []


def prune(
    *,
    older_than: Annotated[str | None, Parameter(help="Matches that ended so long ago: 36h, 90d.")] = None,
    keep: Annotated[
        int | None, Parameter(help="All but so many, the newest.", validator=validators.Number(gte=1))
    ] = None,
    max_bytes: Annotated[str | None, Parameter(help="Down to logs of so many bytes: 500MiB, 10GiB.")] = None,
    dry_run: Annotated[
        bool, Parameter(help="Only show what would be deleted.", negative="", show_default=False)
    ] = False,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Delete the logs of old matches. Without a limit: by the settings `retention`."""
    settings = read_settings(config, set_)
    limits = _limits(settings.retention, older_than, keep, max_bytes)
    told = Pruned(dry_run)
    try:
        with _progress(dry_run) as show:
            asyncio.run(_prune(settings, limits, told, show))
    finally:
        if json:
            print_json(msgspec.json.encode(told))
        else:
            _show(told)
    return 0


async def _prune(settings: Settings, limits: RetentionLimits, told: Pruned, show: Callable[[Pruned], None]) -> None:
    async with opened_store(settings) as store:
        await prune_logs(store, limits, told, show)


async def prune_logs(
    logs: LogStore, limits: RetentionLimits, told: Pruned, show: Callable[[Pruned], None] = lambda _told: None
) -> None:
    """Delete what goes, and count it in `told` after each batch. Raises the store's errors."""
    bound = await pruning.find_bound(logs, "match", limits)
    async for listed in pruning.due(logs, "match", bound):
        done = pruning.Batch(listed, []) if told.dry_run else await pruning.delete(logs, "match", listed)
        told.matches += len(done.deleted)
        told.bytes += done.size
        told.kept += len(done.kept)
        room = NAMED - len(told.named)
        told.named += [GoneMatch(key_of(log.id), log.ended_ms, log.size) for log in done.deleted[:room]]
        show(told)
        if not told.dry_run:
            await asyncio.sleep(PAUSE_S)


def _limits(
    settings: RetentionSettings, older_than: str | None, keep: int | None, max_bytes: str | None
) -> RetentionLimits:
    """The limits that are given, else those of the settings. Raises `BadInput` where there is none."""
    if older_than is None and keep is None and max_bytes is None:
        limits = RetentionLimits(settings.max_age_days * DAY_MS, settings.max_matches, settings.max_bytes)
    else:
        age_ms = 0 if older_than is None else max(1, round(seconds_of(older_than, "--older-than") * 1000))
        limits = RetentionLimits(age_ms, keep or 0, 0 if max_bytes is None else bytes_of(max_bytes, "--max-bytes"))
    if not limits:
        raise BadInput("nothing says how much to keep: give --older-than, --keep or --max-bytes, or set retention")
    return limits


def bytes_of(text: str, flag: str) -> int:
    """`1000000`, `500MiB` or `10GiB`, given with `flag`, as bytes. Raises `BadInput`."""
    number = text.rstrip("KMGTikB")
    try:
        size = int(float(number) * UNITS[text[len(number) :].strip()])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size < 1:
        raise BadInput(f"{flag}: {text!r} is no size; use 500MiB or 10GiB")
    return size


@contextmanager
def _progress(dry_run: bool) -> Iterator[Callable[[Pruned], None]]:
    """A line on a terminal that says how far it is."""
    if not sys.stderr.isatty():
        yield lambda told: None
        return
    with err().status("looking for old matches") as status:
        does = "would delete" if dry_run else "deleted"
        yield lambda told: status.update(f"{does} {told.matches:,} matches, {_size(told.bytes)}")


def _show(told: Pruned) -> None:
    does = "would be deleted" if told.dry_run else "deleted"
    for gone in told.named[:SHOWN] if told.dry_run else []:
        ended = datetime.fromtimestamp(gone.ended_wall_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        out().print(f"{gone.match}  ended {ended}  {_size(gone.bytes)}", markup=False)
    if told.dry_run and told.matches > SHOWN:
        out().print(f"and {told.matches - SHOWN:,} more")
    kept = f"; {told.kept:,} kept, since somebody needs them now" if told.kept else ""
    out().print(f"{told.matches:,} matches {does}, {_size(told.bytes)}{kept}")


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


def pin(match: str, /, *, json: Json = False, config: Config = None, set_: Set = None) -> int:
    """Keep the log of a match for good, whatever `retention` says."""
    return _pin(match, True, json, config, set_)


def unpin(match: str, /, *, json: Json = False, config: Config = None, set_: Set = None) -> int:
    """Let a match go when its time comes."""
    return _pin(match, False, json, config, set_)


def _pin(match: str, pinned: bool, json: bool, config: Any, set_: Any) -> int:
    settings = read_settings(config, set_)
    name = asyncio.run(_set_pinned(settings, match, pinned))
    if json:
        print_json(msgspec.json.encode({"match": name, "pinned": pinned}))
    else:
        out().print(f"{name} is {'pinned' if pinned else 'not pinned any more'}", markup=False)
    return 0


async def _set_pinned(settings: Settings, match: str, pinned: bool) -> str:
    identity = await find_match(settings, match)
    async with opened_store(settings) as store:
        if not await store.pin_log("match", identity, pinned):
            raise NotFound(f"no match {match!r}; `garrison matches` lists them")
    return key_of(identity)


def register(app: App) -> None:
    app.command(prune, name="prune", help_epilogue=EXAMPLES)


def register_pin(app: App) -> None:
    app.command(pin, name="pin")


def register_unpin(app: App) -> None:
    app.command(unpin, name="unpin")
