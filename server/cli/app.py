"""The command line `garrison`, put together from one module a command.

Commands are found by name, in three lists of `package.module:register`: the operator's (`OPERATORS`), the
laboratory's, where it is installed, and the configured application's (`App.commands`). Only the module of the
command that is asked for is imported, and the application only for a command that the other lists do
not have: `garrison token` need not wait for what reads a database. A node that a program starts does not wait for the
command line itself.
"""

import importlib.util
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from server.cli.config import find_config
from server.cli.node_options import plain_options
from server.drivers import load, load_app
from server.errors import BadInput, BadSetting, GarrisonError
from server.runtime.loading import no_collection
from server.settings import load as load_settings
from server.texts import escaped

if TYPE_CHECKING:
    from cyclopts import App

BAD_USE = 2
INTERRUPTED = 130

OPERATORS: Final[Mapping[str, str]] = {
    "node": "server.cli.node_command:register",
    "migrate": "server.cli.migrate:register",
    "database": "server.cli.database:register",
    "token": "server.cli.token:register",
    "status": "server.cli.status:register",
    "query": "server.cli.query:register",
    "drain": "server.cli.drain:register",
    "upgrade": "server.cli.upgrade:register",
    "forget": "server.cli.forget:register",
    "log": "server.cli.log:register",
    "verify": "server.cli.verify:register",
}
LABORATORY: Final = "server.lab.commands:COMMANDS"


def build(words: Sequence[str]) -> "App":
    """The program with the command that `words` begin with, or with all of them. Raises `BadSetting` where
    the command may be the application's and that cannot be loaded."""
    from cyclopts import App

    from server.cli.common import HELP_COLUMNS, out

    app = App(
        name="garrison",
        help="A clustered presence and session backend for multiplayer games.",
        help_epilogue="Start with `garrison demo`. Every command shows examples with `--help`.",
        help_format="markdown",
        version=_version,
        console=out(HELP_COLUMNS),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    asked = words[0] if words else ""
    known = own_commands()
    if asked not in known:
        try:
            known = known | application_commands(words)
        except GarrisonError as error:
            if asked and not asked.startswith("-"):
                raise
            print(f"without the application's commands: {_one_line(error.message)}", file=sys.stderr)
    for name in [asked] if asked in known else known:
        load(known[name])(app)
    return app


def own_commands() -> dict[str, str]:
    """Commands that there are whatever the application: name to `package.module:register`."""
    installed = importlib.util.find_spec(LABORATORY.partition(":")[0].rpartition(".")[0]) is not None
    return {**OPERATORS, **(load(LABORATORY) if installed else {})}


def application_commands(words: Sequence[str] = ()) -> dict[str, str]:
    """The commands of the application that the settings name, which `words` may tell where to look.
    Raises `BadSetting`."""
    config, flags = None, dict[str, object]()
    for word, following in zip(words, [*words[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        value = value if equals else following
        if option == "--config":
            config = Path(value)
        elif option == "--set" and value.startswith("app="):
            flags["app"] = value.removeprefix("app=").strip()
    found = load_app(load_settings(find_config(config), os.environ, flags)).commands
    if taken := sorted(set(found) & set(own_commands())):
        raise BadSetting("app", f"a command of the application cannot be called {taken[0]}: garrison has one")
    return dict(found)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: the program's) name; its exit code."""
    words = list(arguments if arguments is not None else sys.argv[1:])
    _any_output()
    try:
        code = _run(words)
    except BrokenPipeError:  # `garrison replay latest | head`
        code = 0
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody gets what is buffered
        if not isinstance(error, BrokenPipeError):
            return _fail(f"standard output: {error.strerror or error}")
    return code


class _Errors(io.FileIO):
    """Standard error, which may lose its reader or be full: what a command says there goes nowhere then, and neither
    ends it nor changes its exit code."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(data)


def _any_output() -> None:
    """Let the program write where it is run: also where an output is closed, or has an encoding without the letters
    of some name."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the program runs
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if stream is sys.__stderr__:  # else a test has put it there
                errors = io.BufferedWriter(_Errors(stream.fileno(), "w", closefd=False))
                sys.stderr = io.TextIOWrapper(errors, stream.encoding, "backslashreplace", line_buffering=True)


def _run(words: list[str]) -> int:
    """Run a command; its exit code. Raises `BrokenPipeError`."""
    try:
        result = _called(words)
    except GarrisonError as error:
        return _fail(_one_line(error.message))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(_one_line(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"))
    return result if isinstance(result, int) else 0


def _called(words: list[str]) -> Any:
    """The result of a command. Raises what it raises, and `BadInput` for words that it does not take."""
    if (options := plain_options(words)) is not None:
        with no_collection():
            from server.cli.node import run as run_a_node

        return run_a_node(options)
    from cyclopts import CycloptsError

    try:
        return build(words)(words)
    except CycloptsError as error:
        raise BadInput(f"{_one_line(str(error))} (see `{_help_for(words)}`)") from None


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("garrison-server")
    except PackageNotFoundError:  # run from a tree that nobody installed
        return "not installed"


def _fail(why: str) -> int:
    print(f"garrison: {why}", file=sys.stderr)
    return BAD_USE


def _one_line(text: str) -> str:
    return escaped(" ".join(text.split()))


def _help_for(words: Sequence[str]) -> str:
    command = words[0] if words and not words[0].startswith("-") else ""
    if command in own_commands() or command in application_commands(words):
        return f"garrison {command} --help"
    return "garrison --help"
