"""`garrison migrate`: bring the store's tables to this program's version, or back."""

from typing import Annotated

from cyclopts import App, Parameter

from server.cli.common import Config, Set, err, read_settings

EXAMPLES = """
Examples:

- `garrison migrate` makes the tables, or brings them up to date
- `garrison migrate --set store.url=postgresql://garrison@db/garrison`
- `garrison migrate --down 0001` goes back to a revision; `base` removes everything
"""


def migrate(
    *,
    down: Annotated[str | None, Parameter(help="Go back to this revision, `base` for none.")] = None,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Make or change the tables of the store. Repeating it changes nothing."""
    url = read_settings(config, set_).store.url

    from migrations import downgrade, upgrade
    from persistence.engine.urls import parse

    shown = parse(url).shown
    if down is None:
        upgrade(url)
        err().print(f"{shown} is up to date", markup=False)
    else:
        downgrade(url, down)
        err().print(f"{shown} is at revision {down}", markup=False)
    return 0


def register(app: App) -> None:
    app.command(migrate, name="migrate", help_epilogue=EXAMPLES)
