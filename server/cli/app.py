"""The command line `garrison`, put together from one file a command."""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from server.cli import audit, bots, demo, matches, migrate, node, play, replay, status, token
from server.errors import GarrisonError

BAD_USE = 2
INTERRUPTED = 130

app = App(
    name="garrison",
    help="A clustered presence and session backend for multiplayer games.",
    help_epilogue="Start with `garrison demo`. Every command shows examples with `--help`.",
    help_format="markdown",
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
)
for module in (demo, node, migrate, token, play, matches, replay, status, bots, audit):
    module.register(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: the program's) name; its exit code."""
    try:
        result = app(list(arguments) if arguments is not None else None)
    except CycloptsError as error:
        return _fail(_one_line(str(error)) + f" (see `{_help_for(arguments)}`)")
    except GarrisonError as error:
        return _fail(_one_line(error.message))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        return _fail(_one_line(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"))
    return result if isinstance(result, int) else 0


def _fail(why: str) -> int:
    print(f"garrison: {why}", file=sys.stderr)
    return BAD_USE


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _help_for(arguments: Sequence[str] | None) -> str:
    words = list(arguments if arguments is not None else sys.argv[1:])
    command = words[0] if words and not words[0].startswith("-") and words[0] in app else ""
    return f"garrison {command} --help".replace("  ", " ")
