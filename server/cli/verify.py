"""`garrison verify`: a log in a `.garrison` file, or every log of the store. Reads only; no cluster needs to run."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter, validators
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from server.actors.actor import LoggedActor
from server.cli.common import Config, Json, Set, err, out, print_json
from server.cli.config import read_settings
from server.cli.log import logged_kind
from server.cli.processes import in_processes
from server.cli.stored import opened_store
from server.drivers import load_app
from server.errors import BadInput, Corrupt, UnknownRules
from server.eventlog import fold, portable
from server.eventlog.fold import LoggedKind
from server.eventlog.ports import StoredLog
from server.ids import ActorId, actor_id
from server.settings import Settings

BAD: Final = 2
"""The exit code where anything does not verify, as of every command that finds bad data."""
PAGE: Final = 500
BATCH: Final = 20
"""Logs that a process verifies before it tells how it went."""
NAMED: Final = 100
"""Bad logs that are named on the terminal; JSON names all."""

EXAMPLES = """
Examples:

- `garrison verify ranked-42.garrison` checks an exported match, anywhere
- `garrison verify --all` recomputes every log of the store, in as many processes as there are cores
- `garrison verify --all --processes 2 --json`
"""


class Checked(msgspec.Struct, frozen=True):
    """A log, as it was found: `why` is the first thing that is not as it should be, empty for a good one. `rules` says
    why its rules are not to be had; then its hash chain alone was checked. `redacted`: how often a person was taken out
    of it, whereupon it was chained anew."""

    log: str
    events: int
    why: str = ""
    rules: str = ""
    redacted: int = 0


def verify(
    file: Annotated[Path | None, Parameter(help="A `.garrison` file.")] = None,
    *,
    all_: Annotated[
        bool, Parameter(name="--all", help="Every log of the store.", negative="", show_default=False)
    ] = False,
    processes: Annotated[
        int | None,
        Parameter(help="Processes at a time; as many as there are cores.", validator=validators.Number(gte=1, lte=256)),
    ] = None,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Check and recompute a log in a file, or all that are stored."""
    settings = read_settings(config, set_)
    if all_ == (file is not None):
        raise BadInput("name a .garrison file, or --all")
    if file is not None:
        return _verify_file(settings, file, json)
    return _verify_all(settings, processes or os.cpu_count() or 1, json)


# ---- a file ---------------------------------------------------------------------------------


def read_file(file: Path) -> portable.PortableLog:
    """The log in a `.garrison` file. Raises `BadInput` where there is none, `Corrupt`."""
    try:
        with file.open("rb") as stream:
            return portable.read(stream)
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}") from None
    except BadInput as error:
        raise BadInput(f"{file}: {error.message}") from None
    except Corrupt as error:
        raise Corrupt(f"{file} does not verify: {error.message}") from None


def _verify_file(settings: Settings, file: Path, json: bool) -> int:
    try:
        found = read_file(file)
    except Corrupt as error:
        if json:
            print_json(msgspec.json.encode({"file": str(file), "verified": False, "why": error.message}))
        raise
    header = found.header
    kind = logged_kind(settings, actor_id(header.kind, header.key))
    checked = check(kind, f"{header.kind}/{header.key}", found.log)
    if json:
        fields = {"file": str(file), "verified": not checked.why, "ended": found.ended, "head": found.log.head.hex()}
        heads = [mark.head.hex() for mark in found.log.redactions]
        print_json(msgspec.json.encode({**fields, **msgspec.structs.asdict(checked), "heads_before": heads}))
    if checked.why:
        raise Corrupt(f"{file} does not verify: {checked.why}")
    if not json:
        how = f"its hash chain is good; {checked.rules}" if checked.rules else "every state recomputed"
        end = ("ended" if found.ended else "not ended") + (", redacted" if checked.redacted else "")
        out().print(f"{file} verifies: {checked.log}, {end}, {checked.events:,} events; {how}", markup=False)
    return 0


def check(kind: LoggedKind[Any], name: str, log: StoredLog) -> Checked:
    """All of a log that can be checked here."""
    events, redacted = log.next_seq - 1, len(log.redactions)
    try:
        fold.verify(kind, log)
    except UnknownRules as error:
        try:
            fold.chain(log)
        except Corrupt as broken:
            return Checked(name, events, why=broken.message)
        return Checked(name, events, rules=error.message, redacted=redacted)
    except Corrupt as error:
        return Checked(name, events, why=error.message)
    return Checked(name, events, redacted=redacted)


# ---- every log ------------------------------------------------------------------------------


def _verify_all(settings: Settings, processes: int, json: bool) -> int:
    began = time.monotonic()
    kinds = [cls.kind for cls in load_app(settings).actors if issubclass(cls, LoggedActor)]
    logs = events = redacted = 0
    bad: list[Checked] = []
    unknown: list[Checked] = []
    with _progress() as show:
        for found in _checked(settings, kinds, processes):
            logs += len(found)
            events += sum(checked.events for checked in found)
            redacted += sum(checked.redacted > 0 for checked in found)
            bad += [checked for checked in found if checked.why]
            unknown += [checked for checked in found if checked.rules]
            show(logs, events, len(bad))
    seconds = time.monotonic() - began
    bad.sort(key=lambda checked: checked.log)
    if json:
        figures = {"logs": logs, "events": events, "bad": bad, "unknown_rules": unknown, "processes": processes}
        figures["redacted"] = redacted
        print_json(msgspec.json.encode({**figures, "seconds": round(seconds, 3)}))
    else:
        for checked in bad[:NAMED]:
            out().print(f"{checked.log} does not verify: {checked.why}", markup=False)
        if len(bad) > NAMED:
            out().print(f"and {len(bad) - NAMED:,} more")
        rest = f", {len(unknown):,} of them by their hash chain alone" if unknown else ""
        rest += f", {redacted:,} of them redacted" if redacted else ""
        good = f"{logs - len(bad):,} of {logs:,} logs verify{rest}"
        out().print(f"{good}; {events:,} events in {seconds:.1f} s, {events / max(seconds, 1e-3):,.0f} a second")
    return BAD if bad else 0


def _checked(settings: Settings, kinds: Sequence[str], processes: int) -> Iterator[list[Checked]]:
    """The logs of the store in batches, as they are done; at most a few batches are under way."""
    return in_processes(processes, PAGE // BATCH, _check_batch, _jobs(settings, kinds))


def _jobs(settings: Settings, kinds: Sequence[str]) -> Iterator[tuple[Settings, str, list[ActorId]]]:
    """Batches of the names of all logs, as `_check_batch` takes them."""
    for kind in kinds:
        after: ActorId | None = None
        while page := asyncio.run(_page(settings, kind, after)):
            after = page[-1]
            for first in range(0, len(page), BATCH):
                yield settings, kind, page[first : first + BATCH]


async def _page(settings: Settings, kind: str, after: ActorId | None) -> list[ActorId]:
    async with opened_store(settings) as store:
        return await store.list_logs(kind, PAGE, after)


def _check_batch(settings: Settings, kind_name: str, ids: list[ActorId]) -> list[Checked]:
    """The work of another process. An error of the store itself goes up, and ends the command."""
    return asyncio.run(_check_logs(settings, kind_name, ids))


async def _check_logs(settings: Settings, kind_name: str, ids: list[ActorId]) -> list[Checked]:
    found: list[Checked] = []
    async with opened_store(settings) as store:
        for identity in ids:
            kind = logged_kind(settings, identity)
            try:
                log = await store.read_log(kind_name, identity)
            except Corrupt as error:
                found.append(Checked(identity, 0, why=error.message))
                continue
            if log is not None:  # pruned meanwhile where it is None
                found.append(check(kind, identity, log))
    return found


@contextmanager
def _progress() -> "Iterator[Any]":
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task("verifying")

        def show(logs: int, events: int, bad: int) -> None:
            bar.update(task, description=f"verifying: {logs:,} logs, {events:,} events, {bad:,} bad")

        yield show


def register(app: App) -> None:
    """Add the command."""
    app.command(verify, name="verify", help_epilogue=EXAMPLES)
