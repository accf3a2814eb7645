"""`garrison upgrade NODE`: have the program that is installed now succeed the one that a node runs, with its players'
connections, so that nobody notices more than a pause."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from server.cli.admin_side import BY_SETTINGS, TIMEOUT_S, AdminOptions, AdminSide, NoAnswer, row_of
from server.cli.common import Json, err, goes_on, out, print_json, program, seconds_of
from server.errors import BadInput, BadToken, GarrisonError, Unavailable

POLL_S: Final = 0.1
PATIENCE_S: Final = 20.0
"""A node that does not answer for so long is given up: its new process has not come up."""
FAILED: Final = 1
UPGRADED: Final = (
    "incarnation", "generation", "running", "why", "phase", "copied", "total", "pause_ms", "sessions_moved",
    "sessions_going",
)  # fmt: skip
"""Members of an upgrade as a node tells it."""

EXAMPLES = """
Examples:

- `garrison upgrade node-2` after the new version was installed
- `garrison upgrade --all` one node after the other, until one does not come up well
- `garrison upgrade --all --json --url http://127.0.0.1:7361`
"""


class Upgraded(msgspec.Struct):
    """The outcome for a node. `why`: the reason where its process is still the old one, or is gone; empty where it was
    succeeded. The figures are those of `Upgrade` in `server/admin/answers.py`."""

    node: str
    incarnation: int
    upgraded: bool
    generation: int
    seconds: float
    pause_ms: float = 0.0
    sessions_moved: int = 0
    sessions_going: int = 0
    why: str = ""


class Options(msgspec.Struct, frozen=True):
    """The way in which nodes are asked; `wait_s` and `patience_s` bound each."""

    side: AdminSide
    wait_s: float
    answer_s: float
    patience_s: float


def upgrade(
    node: str | None = None,
    /,
    *,
    all_: Annotated[
        bool, Parameter(name="--all", help="Every node of the cluster, one after the other.", negative="")
    ] = False,
    wait: Annotated[str, Parameter(help="How long a node may take: 90s, 5m.")] = "2m",
    json: Annotated[
        Json, Parameter(help="One JSON document on standard output; `upgraded` says whether all was well.")
    ] = False,
    admin: AdminOptions = BY_SETTINGS,
    answer_s: Annotated[float, Parameter(show=False)] = TIMEOUT_S,
    patience_s: Annotated[float, Parameter(show=False)] = PATIENCE_S,
) -> int:
    """Have the program that is installed now succeed the one that a node runs.

    The new process starts beside the old one and takes everything over: players in memory, matches, and clients with
    their connections, which see a short pause. Where that cannot be, nothing happens and the reason is told. Ends with
    exit code 1 if a node was not upgraded.
    """
    if (node is None) != all_:
        raise BadInput("upgrade takes the name of a node, or --all")
    options = Options(admin.side(), seconds_of(wait, "--wait"), answer_s, patience_s)
    rows = _rows(options, node)
    done: list[Upgraded] = []
    for row in rows:
        done.append(_upgrade(options, row))
        if not json:
            _report(done[-1])
        if not done[-1].upgraded:
            break
    good = all(upgraded.upgraded for upgraded in done)
    if json:
        print_json(msgspec.json.encode(_summary(done, len(rows)) if all_ else done[0]))
    elif all_:
        _say_summary(done, len(rows))
    return 0 if good else FAILED


def _rows(options: Options, node: str | None) -> list[dict[str, Any]]:
    """The nodes to upgrade, as a node of the cluster sees them. Raises `NotFound`, `Unavailable`."""
    cluster = options.side.cluster()
    rows: list[dict[str, Any]] = cluster["nodes"]
    if node is None:
        return sorted(rows, key=lambda row: str(row["node"]))
    return [row_of(cluster, node)]


def _upgrade(options: Options, row: dict[str, Any]) -> Upgraded:
    """Have a node succeeded, and watch until its new process serves. Raises `BadToken`."""
    began = time.monotonic()
    node, incarnation = row["node"], row["incarnation"]
    failed = Upgraded(node, incarnation, False, -1, 0.0)
    try:
        there = options.side.at(row)
        with goes_on(f"{node} goes on with its upgrade; see `{program()} status`"), _progress(node) as show:
            told = _watch(options, there, {"node": node, "incarnation": incarnation}, failed, show, began)
    except BadToken:
        raise
    except GarrisonError as error:
        failed.seconds = round(time.monotonic() - began, 3)
        failed.why = error.message.partition(" answered 503: ")[2] or error.message  # the node's own words
        return failed
    return Upgraded(
        node,
        incarnation,
        True,
        told["generation"],
        round(time.monotonic() - began, 3),
        told["pause_ms"],
        told["sessions_moved"],
        told["sessions_going"],
    )


def _watch(
    options: Options,
    there: AdminSide,
    order: dict[str, Any],
    failed: Upgraded,
    show: Callable[[dict[str, Any]], None],
    began: float,
) -> dict[str, Any]:
    """The last word of the old process, or of the new one once it is ready. Raises `Unavailable` with the reason."""

    def ask(path: str, body: object = None) -> Any:
        has = () if path == "/readyz" else UPGRADED
        return msgspec.json.decode(there.ask(path, body=body, has=has, timeout_s=options.answer_s))

    try:
        first = told = ask("/api/v1/upgrade", order)
    except NoAnswer as error:
        why = f"{order['node']} does not answer ({error.why}): is it down? see `{program()} status`"
        raise Unavailable(why) from None
    failed.generation = first["generation"]
    heard = time.monotonic()
    while True:
        if told["incarnation"] != first["incarnation"]:
            raise Unavailable(f"{order['node']} has been restarted: its upgrade ended in a crash")
        failed.generation = told["generation"]
        if told["generation"] > first["generation"]:
            with contextlib.suppress(Unavailable):
                ask("/readyz")
                return dict(told)
        elif not told["running"]:
            raise Unavailable(told["why"] or f"{order['node']} did not begin")
        show(told)
        if time.monotonic() - began > options.wait_s:
            raise Unavailable(f"{order['node']} takes longer than {options.wait_s:.0f} s; it is {told['phase']}")
        time.sleep(POLL_S)
        try:
            told = ask("/api/v1/upgrade")
            heard = time.monotonic()
        except BadToken:
            raise
        except Unavailable as error:  # from the old process to the new one
            if time.monotonic() - heard > options.patience_s:
                raise Unavailable(f"{order['node']} stopped answering while {told['phase']}: {error.message}") from None


@contextlib.contextmanager
def _progress(node: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    columns = (TextColumn(f"upgrading {node}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = err()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def show(told: dict[str, Any]) -> None:
            text = told["phase"] or "waiting for the new process"
            if told["phase"] == "copying":
                text = f"copying {told['copied']:,} of {told['total']:,}"
            bar.update(task, total=told["total"] or None, completed=told["copied"], description=text)

        yield show


def _report(done: Upgraded) -> None:
    if not done.upgraded:
        out().print(f"{done.node} was not upgraded: {done.why}", markup=False)
        return
    going = f", {done.sessions_going:,} told to connect anew" if done.sessions_going else ""
    out().print(
        f"{done.node} is upgraded (process {done.generation} of its run) in {done.seconds:.1f} s: "
        f"a pause of {done.pause_ms:.0f} ms, {done.sessions_moved:,} sessions moved{going}"
    )


def _summary(done: list[Upgraded], nodes: int) -> dict[str, Any]:
    good = [upgraded for upgraded in done if upgraded.upgraded]
    return {
        "upgraded": len(good) == nodes,
        "nodes": nodes,
        "nodes_upgraded": len(good),
        "longest_pause_ms": max((upgraded.pause_ms for upgraded in good), default=0.0),
        "sessions_moved": sum(upgraded.sessions_moved for upgraded in good),
        "sessions_going": sum(upgraded.sessions_going for upgraded in good),
        "each": done,
    }


def _say_summary(done: list[Upgraded], nodes: int) -> None:
    found = _summary(done, nodes)
    text = f"upgraded {found['nodes_upgraded']} of {nodes} nodes, longest pause {found['longest_pause_ms']:.0f} ms, "
    text += f"{found['sessions_moved']:,} sessions moved, {found['sessions_going']:,} told to connect anew"
    if not found["upgraded"] and nodes > len(done):
        text += f"; {nodes - len(done)} were left as they are"
    out().print(text)


def register(app: App) -> None:
    app.command(upgrade, name="upgrade", help_epilogue=EXAMPLES)
