"""`garrison stats rebuild`: careers, medals and ratings counted anew from the logs of matches.

Reads the store; with `--check` nothing is written, and a cluster may run on it.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import msgspec
from cyclopts import App, Parameter, validators
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from game.careers.recount import Difference
from game.commands.recounting import Recounting, Report
from server.cli.common import Config, Json, Set, err, out, print_json
from server.cli.config import read_settings

DIFFERS: Final = 1
SHOWN: Final = 50
"""Differences on the terminal; JSON has more."""
KINDS: Final = {
    "gone": "without a log, whose rows are summed up as they are",
    "unknown_rules": "by rules that this program does not have, whose rows are summed up as they are",
    "damaged": "with a damaged log (`garrison verify --all` says more), whose rows are summed up as they are",
    "redacted": "of which somebody was erased, whom nothing is due to",
    "disputed": "whose results were counted otherwise by the program that ended them: they stay as their log says",
}

EXAMPLES = """
Examples:

- `garrison stats rebuild --check` compares careers, medals and ratings with the logs; a cluster may run meanwhile
- `garrison stats rebuild` writes what differs anew; stop every node before
- `garrison stats rebuild --check --processes 2 --json`
"""


def rebuild(
    *,
    check: Annotated[
        bool,
        Parameter(help="Compare only, and end with code 1 where anything differs.", negative="", show_default=False),
    ] = False,
    processes: Annotated[
        int | None,
        Parameter(help="Processes at a time; as many as there are cores.", validator=validators.Number(gte=1, lte=256)),
    ] = None,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Count careers, medals and ratings anew from the logs of matches, and write what differs."""
    settings = read_settings(config, set_)
    began, report = time.monotonic(), Report()
    recounting = Recounting(settings, processes or os.cpu_count() or 1, mends=not check)
    with _progress(report) as show:
        recounting.run(report, show)
    seconds = time.monotonic() - began
    if json:
        figures = {"check": check, **msgspec.structs.asdict(report), "seconds": round(seconds, 3)}
        print_json(msgspec.json.encode(figures))
    else:
        _tell(report, check, seconds)
    return DIFFERS if check and report.differences else 0


def _tell(report: Report, check: bool, seconds: float) -> None:
    for each in report.listed[:SHOWN]:
        out().print(_line(each), markup=False)
    if report.differences > SHOWN:
        out().print(f"and {report.differences - SHOWN:,} more", markup=False)
    for kind, found in report.kinds.items():
        named = ", ".join(found.named[:SHOWN])
        out().print(f"{found.count:,} matches {KINDS[kind]}: {named}", markup=False)
    if report.rows_without_logs:
        out().print(
            f"{report.rows_without_logs:,} rows of matches that are gone are summed up as they are", markup=False
        )
    if report.waiting:
        out().print(f"{report.waiting:,} results are not told yet", markup=False)
    count = f"{report.differences:,} difference{'' if report.differences == 1 else 's'}"
    done = count if check else f"{count}, {report.mended:,} rows and sums written"
    counted = f"{report.matches:,} matches, {report.events:,} events and {report.players:,} players"
    out().print(f"{done}; {counted} in {seconds:.1f} s", markup=False)


def _line(each: Difference) -> str:
    where = " ".join(filter(None, (each.mode, each.season)))
    of = f" of match {each.match}" if each.match else ""
    there = "is missing" if each.what == "missing" else f"is {each.stored}"
    if each.field.endswith("row"):
        there = {"missing": "is missing", "groundless": "has no ground", "doubled": "is there twice"}[each.what]
        return f"{each.table}: {each.player}, {where}: {each.field}{of} {there}"
    return f"{each.table}: {each.player}, {where}: {each.field}{of} {there}, counted anew {each.recounted}"


@contextmanager
def _progress(report: Report) -> Iterator[Callable[[], None]]:
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task("counting")

        def show() -> None:
            said = f"{report.matches:,} matches, {report.players:,} players, {report.differences:,} differences"
            bar.update(task, description=f"counting: {said}")

        yield show


def register(app: App) -> None:
    """Add the command."""
    stats = App(name="stats", help="Careers, medals and ratings of the store.", help_format="markdown")
    stats.command(rebuild, name="rebuild", help_epilogue=EXAMPLES)
    app.command(stats)
