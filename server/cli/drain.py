"""`garrison drain NODE`: empty one node of a running cluster, so that it can be stopped with nobody
noticing more than latency."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from server.cli.admin_side import BY_SETTINGS, TIMEOUT_S, AdminOptions, NoAnswer, row_of
from server.cli.common import Json, err, goes_on, out, print_json, program, seconds_of
from server.errors import BadToken, Unavailable

POLL_S: Final = 0.25
PATIENCE_S: Final = 10.0
"""A node that does not answer for so long while it drains is given up."""
NOT_DONE: Final = 1
DRAINED: Final = ("node", "incarnation", "done", "moved", "activations_left", "sessions_left")
"""Members of a drain as a node tells it."""

EXAMPLES = """
Examples:

- `garrison drain node-2` and then stop it
- `garrison drain node-2 --wait 15m --json`
- `garrison drain node-2 --url http://127.0.0.1:7361` asks that node where node-2 is
"""


def drain(
    node: str,
    /,
    *,
    wait: Annotated[str, Parameter(help="How long to watch: 90s, 15m. The drain goes on after that.")] = "10m",
    json: Annotated[
        Json, Parameter(help="One JSON document on standard output; `drained` says whether the node is empty now.")
    ] = False,
    admin: AdminOptions = BY_SETTINGS,
    answer_s: Annotated[float, Parameter(show=False)] = TIMEOUT_S,
    patience_s: Annotated[float, Parameter(show=False)] = PATIENCE_S,
) -> int:
    """Hand everything that a node has to the other nodes, and wait until it is empty.

    The node takes no new work and stays a member until it is stopped. Ends with exit code 1 if it
    is not empty in time.
    """
    side, wait_s = admin.side(), seconds_of(wait, "--wait")
    began = time.monotonic()
    row = row_of(side.cluster(), node)
    there = side.at(row)

    def ask(body: object = None) -> dict[str, Any]:
        try:
            answer = there.ask("/api/v1/drain", body=body, has=DRAINED, timeout_s=answer_s)
        except NoAnswer as error:
            why = f"{node} does not answer ({error.why}): is it down? see `{program()} status`"
            raise Unavailable(why) from None
        told: dict[str, Any] = msgspec.json.decode(answer)
        return told

    told = ask({"node": node, "incarnation": row["incarnation"]})
    with goes_on(f"{node} goes on draining; `{program()} drain {node}` tells how far it is"), _progress(node) as show:
        while not told["done"] and time.monotonic() - began < wait_s:
            show(told)
            time.sleep(POLL_S)
            told = _ask_patiently(ask, told, patience_s)
    _report(told, time.monotonic() - began, json)
    return 0 if told["done"] else NOT_DONE


def _ask_patiently(ask: Callable[[], dict[str, Any]], last: dict[str, Any], patience_s: float) -> dict[str, Any]:
    """How far it is now. Raises `Unavailable` if it cannot be said, or is another run by now."""
    patience = time.monotonic() + patience_s
    while True:
        try:
            told = ask()
        except BadToken:
            raise
        except Unavailable as error:
            if time.monotonic() < patience:
                time.sleep(POLL_S)
                continue
            raise Unavailable(f"{last['node']} stopped answering with {_left(last)}: {error.message}") from None
        if told["incarnation"] != last["incarnation"]:
            raise Unavailable(f"{last['node']} has been restarted while it drained")
        return told


def _left(told: dict[str, Any]) -> str:
    return f"{told['activations_left']:,} activations and {told['sessions_left']:,} sessions left"


@contextlib.contextmanager
def _progress(node: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    columns = (TextColumn(f"draining {node}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = err()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        most = 0

        def show(told: dict[str, Any]) -> None:
            nonlocal most
            left = told["activations_left"] + told["sessions_left"]
            most = max(most, left)
            bar.update(task, total=most, completed=most - left, description=_left(told))

        yield show


def _report(told: dict[str, Any], seconds: float, as_json: bool) -> None:
    if as_json:
        line = {
            "node": told["node"],
            "incarnation": told["incarnation"],
            "drained": told["done"],
            "seconds": round(seconds, 3),
            "moved": told["moved"],
            "activations_left": told["activations_left"],
            "sessions_left": told["sessions_left"],
        }
        print_json(msgspec.json.encode(line))
    elif told["done"]:
        out().print(f"{told['node']} is empty after {seconds:.1f} s, {told['moved']:,} activations moved; stop it now")
    else:
        out().print(f"{told['node']} still drains after {seconds:.0f} s, {_left(told)}")


def register(app: App) -> None:
    app.command(drain, name="drain", help_epilogue=EXAMPLES)
