"""`garrison migrate`: bring the store's tables to this program's version, or back."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from persistence.engine.urls import parse
from server.cli.common import Config, Set, err
from server.cli.config import read_settings
from server.drivers import load_app, own_history
from server.errors import BadInput, BadSetting

if TYPE_CHECKING:
    from migrations import History

EXAMPLES = """
Examples:

- `garrison migrate` makes the tables, or brings them up to date
- `garrison migrate --set store.url=postgresql://garrison@db/garrison`
- `garrison migrate --app clan:App` makes also the tables that this application brings
- `garrison migrate --down 0001 --yes` goes back to a revision; `base` removes everything
- `garrison migrate --app clan:App --down clans:0001 --yes` goes back to a revision of the application's tables
"""


def migrate(
    *,
    down: Annotated[
        str | None, Parameter(help="Go back to this revision, `base` for none; of the application: NAME:REVISION.")
    ] = None,
    yes: Annotated[
        bool, Parameter(help="Go back although that removes what newer tables hold.", negative="", show_default=False)
    ] = False,
    app: Annotated[str | None, Parameter(help="The application, as package.module:Name.")] = None,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Make or change the tables of the store: the engine's, and those of the application. Repeating it changes
    nothing."""
    settings = read_settings(config, set_, {"app": app})
    own = own_history(load_app(settings))

    from migrations import ENGINE

    histories = [ENGINE] if own is None else [ENGINE, own]
    if down is None:
        for history in histories:
            _up(settings.store.url, history)
        return 0
    wanted, colon, revision = down.rpartition(":")
    chosen = [history for history in histories if history.name == wanted]
    if not chosen:
        raise BadInput(f"--down {down}: no application {wanted!r} with migrations is configured")
    if not colon and revision == "base":
        chosen = histories[::-1]  # the application's first: its tables may refer to the engine's
    if not yes:
        shown = parse(settings.store.url).shown
        raise BadInput(f"--down {down} removes data from {shown} for good; say --yes to do it")
    for history in chosen:
        _down(settings.store.url, history, revision)
    return 0


def _up(url: str, history: "History") -> None:
    from migrations import current, upgrade

    before = current(url, history=history)
    upgrade(url, history=history)
    after = current(url, history=history)
    done = f"is up to date, revision {after}"
    if before is None:
        done = f"has its tables now, revision {after}"
    elif before != after:
        done = f"went from revision {before} to {after}"
    _say(url, history, done)


def _down(url: str, history: "History", revision: str) -> None:
    from migrations import downgrade

    try:
        downgrade(url, revision, history=history)
    except BadSetting as error:
        if error.field != "revision":
            raise
        raise BadInput(f"--down: {error.message.partition(': ')[2]}") from None
    _say(url, history, f"is at revision {revision}")


def _say(url: str, history: "History", what: str) -> None:
    of = f" {history.name}" if history.name else ""
    err().print(f"{parse(url).shown}{of} {what}", markup=False)


def register(app: App) -> None:
    app.command(migrate, name="migrate", help_epilogue=EXAMPLES)
