"""The command line `garrison`, put together from one module a command.

Only the module of the command that is asked for is imported: `garrison token` need not wait for
what reads a database.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError

from server.errors import GarrisonError

BAD_USE = 2
INTERRUPTED = 130

COMMANDS: Final = {
    "demo": "server.lab.demo",
    "node": "server.cli.node",
    "migrate": "server.cli.migrate",
    "token": "server.cli.token",
    "play": "game.commands.play",
    "matches": "game.commands.matches",
    "replay": "game.commands.replay",
    "bench": "server.lab.bench",
    "status": "server.cli.status",
    "drain": "server.cli.drain",
    "chaos": "server.lab.chaos",
    "bots": "server.lab.bots",
    "audit": "server.lab.audit",
}


def build(words: Sequence[str]) -> App:
    """The program with the command that `words` begin with, or with all of them."""
    app = App(
        name="garrison",
        help="A clustered presence and session backend for multiplayer games.",
        help_epilogue="Start with `garrison demo`. Every command shows examples with `--help`.",
        help_format="markdown",
        version=_version,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        importlib.import_module(COMMANDS[name]).register(app)
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: the program's) name; its exit code."""
    words = list(arguments if arguments is not None else sys.argv[1:])
    try:
        result = build(words)(words)
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(_one_line(str(error)) + f" (see `{_help_for(words)}`)")
    except GarrisonError as error:
        return _fail(_one_line(error.message))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `garrison replay latest | head`: what is still buffered has no reader
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(_one_line(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"))
    return result if isinstance(result, int) else 0


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
    return " ".join(text.split())


def _help_for(words: Sequence[str]) -> str:
    command = words[0] if words and words[0] in COMMANDS else ""
    return f"garrison {command} --help".replace("  ", " ")
