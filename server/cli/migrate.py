"""`garrison migrate`: bring the store's tables to this program's version, or back."""

from typing import Annotated

from cyclopts import App, Parameter

from server.cli.common import Config, Set, err, read_settings
from server.errors import BadInput, BadSetting

EXAMPLES = """
Examples:

- `garrison migrate` makes the tables, or brings them up to date
- `garrison migrate --set store.url=postgresql://garrison@db/garrison`
- `garrison migrate --down 0001 --yes` goes back to a revision; `base` removes everything
"""


def migrate(
    *,
    down: Annotated[str | None, Parameter(help="Go back to this revision, `base` for none.")] = None,
    yes: Annotated[
        bool, Parameter(help="Go back although that removes what newer tables hold.", negative="", show_default=False)
    ] = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Make or change the tables of the store. Repeating it changes nothing."""
    url = read_settings(config, set_).store.url

    from migrations import current, downgrade, upgrade
    from persistence.engine.urls import parse

    shown = parse(url).shown
    if down is None:
        before = current(url)
        upgrade(url)
        after = current(url)
        done = f"is up to date, revision {after}"
        if before is None:
            done = f"has its tables now, revision {after}"
        elif before != after:
            done = f"went from revision {before} to {after}"
        err().print(f"{shown} {done}", markup=False)
    else:
        if not yes:
            raise BadInput(f"--down {down} removes data from {shown} for good; say --yes to do it")
        try:
            downgrade(url, down)
        except BadSetting as error:
            if error.field != "revision":
                raise
            raise BadInput(f"--down: {error.message.partition(': ')[2]}") from None
        err().print(f"{shown} is at revision {down}", markup=False)
    return 0


def register(app: App) -> None:
    app.command(migrate, name="migrate", help_epilogue=EXAMPLES)
