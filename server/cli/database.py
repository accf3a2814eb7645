"""`garrison database`: which database this is, and what an operator says of one that is somewhere else than it was."""

import asyncio
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
from cyclopts import App, Parameter

from server.cli.common import Config, Json, Set, err, out, print_json
from server.cli.config import read_settings
from server.cli.stored import check_there
from server.errors import BadInput, BadSetting

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from persistence.identity_changes import ClosedRun
    from server.storage.ports import DatabaseIdentity

T = TypeVar("T")
What = Literal["show", "moved", "copy", "restored"]

EXAMPLES = """
Examples:

- `garrison database` shows the database's name, its place, and whether nodes would start on it
- `garrison database moved --yes` the same database is in another place: a new server, another directory
- `garrison database copy --yes` this is a copy and its original lives on: it gets a name of its own, and the runs of
  the original's nodes are closed in it; their journals are left alone
- `garrison database restored --yes` it came back from a backup: what was issued since then is not issued again
- `garrison database restored --keep-journals --yes` the same, and what the crash journals hold is newer and wanted
"""


def database(
    what: Annotated[What, Parameter(help="show, moved, copy or restored.")] = "show",
    /,
    *,
    yes: Annotated[bool, Parameter(help="Do it: it cannot be undone.", negative="", show_default=False)] = False,
    keep_journals: Annotated[
        bool,
        Parameter(help="With restored: take over what the journals hold.", negative="", show_default=False),
    ] = False,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Show which database this is, or say that it has moved, is a copy, or came back from a backup. Stop its nodes
    before."""
    settings = read_settings(config, set_)
    url = settings.store.url
    check_there(settings)
    if keep_journals and what != "restored":
        raise BadInput("--keep-journals goes with restored")
    if what == "show":
        return _show(url, json)
    if not yes:
        raise BadInput(f"database {what} changes which database this is for all nodes; say --yes to do it")
    from persistence import identity_changes as changes

    closed: list[ClosedRun] = []
    if what == "moved":
        now = _changed(url, changes.moved)
    elif what == "copy":
        now, closed = _changed(url, lambda connection: changes.copied(connection, uuid.uuid4().hex))
    else:
        now, closed = _changed(url, lambda connection: changes.restored(connection, keep_journals))
    if json:
        print_json(msgspec.json.encode({**_row(now), "closed": closed}))
        return 0
    _tell(url, what, now, closed, keep_journals)
    return 0


def _changed(url: str, work: "Callable[[Connection], T]") -> T:
    """`work` in one transaction. Raises `BadSetting` while a node holds a lease."""
    import migrations
    from persistence.engine.urls import FIELD, parse

    needed = migrations.newest()
    if (found := migrations.current(url)) != needed:
        raise BadSetting(FIELD, f"{parse(url).shown} has schema {found}, not {needed}: run `garrison migrate` first")

    def unused(connection: "Connection") -> T:
        if live := migrations.live_nodes(connection):
            raise BadSetting(FIELD, f"{', '.join(live)} runs on {parse(url).shown}: stop every node before this")
        return work(connection)

    return asyncio.run(migrations.run(url, unused))


def _show(url: str, json: bool) -> int:
    import migrations
    from persistence.engine.identity import is_new, is_same
    from persistence.engine.urls import parse
    from persistence.identity_changes import read

    found, here = asyncio.run(migrations.run(url, read))
    fits = is_new(found.place, here) or is_same(found.place, here)
    if json:
        print_json(msgspec.json.encode({**_row(found), "here": here, "fits": fits}))
        return 0
    console = out()
    console.print(f"database {found.uuid}, timeline {found.timeline}, at {parse(url).shown}", markup=False)
    console.print(f"nodes last ran on it at {found.place or 'no place yet'}; it is at {here}", markup=False)
    if not fits:
        console.print("no node starts: say `garrison database moved`, `copy` or `restored`", markup=False)
    return 0


def _row(identity: "DatabaseIdentity") -> dict[str, object]:
    return {"uuid": identity.uuid, "timeline": identity.timeline, "place": identity.place}


def _tell(url: str, what: What, now: "DatabaseIdentity", closed: "list[ClosedRun]", keep_journals: bool) -> None:
    from persistence.engine.urls import parse

    console = err()
    console.print(f"{parse(url).shown} is database {now.uuid}, timeline {now.timeline}, at {now.place}", markup=False)
    whose = "of the original" if what == "copy" else "of the time before"
    for run in closed:
        left = "" if not run.journal else "; its journal is kept" if keep_journals else "; its journal is left alone"
        at = f": {run.journal}" if left else ""
        owned = "1 entity" if run.entities == 1 else f"{run.entities:,} entities"
        console.print(f"run {run.run} {whose} is closed; it owned {owned}{left}{at}", markup=False)


def register(app: App) -> None:
    app.command(database, name="database", help_epilogue=EXAMPLES)
