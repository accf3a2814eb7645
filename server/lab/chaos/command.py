"""`garrison chaos`: real faults against a real cluster, and what clients saw of them.

Nodes are processes on this machine, in network namespaces of their own where that is allowed; bots
play, probes measure, and at the end the store itself is asked whether any entity ever had two
writers and whether anything that was acknowledged is missing.
"""

import asyncio
import json as jsonlib
import random
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter, validators

from server.cli.common import Json, Set, err, out
from server.cli.config import DEMO_CONFIG, check_assignments
from server.cli.local_cluster import alone
from server.errors import BadSetting
from server.lab.live import empty_home

HOME = DEMO_CONFIG.parent.with_name("chaos")

EXAMPLES = """
Examples:

- `garrison chaos` a minute of faults, the figures as a table
- `garrison chaos --seconds 300 --seed 7 --json` the same faults each time; one line of figures at the end
- `garrison chaos --store postgres --journal redis` with servers of its own, from their wheels
- `garrison chaos --count 100 --json` as long as it takes
- `garrison chaos --faults kill,pause --set journal.takeover=lose`
"""


def chaos(
    *,
    seconds: Annotated[
        float, Parameter(help="How long faults strike.", validator=validators.Number(gt=0, lte=86_400))
    ] = 60.0,
    count: Annotated[
        int | None,
        Parameter(help="Instead of a time: how many faults strike.", validator=validators.Number(gte=1)),
    ] = None,
    seed: Annotated[int | None, Parameter(help="Draws the faults; without it, another one each time.")] = None,
    store: Annotated[
        Literal["sqlite", "postgres"],
        Parameter(help="With --set store.url=… a database of its own on that server; else one from its wheel."),
    ] = "sqlite",
    journal: Annotated[
        Literal["none", "local", "redis"],
        Parameter(help="Crash journal of the nodes. redis: with --set journal.redis_url=…, or a server of its own."),
    ] = "local",
    faults: Annotated[
        str,
        Parameter(
            help="Kinds to draw from, comma-separated: kill, pause, stop, rolling, join, store_outage, upgrade, "
            "partition, loss. Default: all that are possible here.",
            show_default=False,
        ),
    ] = "",
    players: Annotated[
        int, Parameter(help="Bot players, eight to a match.", validator=validators.Number(gte=2, lte=20_000))
    ] = 120,
    nodes: Annotated[int, Parameter(help="Nodes.", validator=validators.Number(gte=2, lte=9))] = 3,
    speed: Annotated[
        float, Parameter(help="How many times faster than recorded matches.", validator=validators.Number(gt=0))
    ] = 30.0,
    namespaces: Annotated[
        bool, Parameter(help="Use network namespaces where the system allows them.", show_default=False)
    ] = True,
    home: Annotated[Path, Parameter(help="Where everything is kept; emptied at the start.")] = HOME,
    json: Json = False,
    set_: Set = None,
) -> int:
    """Hurt a real cluster under load and see what its clients lose.

    Exit code 1 if an entity had two writers, if an acknowledged change is missing although a journal was kept, if a
    node ended by itself, if an upgrade that nothing happened to cost a connection, if a stream had a gap, if a player
    is shown a friend as it is not, if a roster, a friendship or a party has halves that do not agree, or if the cluster
    or a client did not recover. Ctrl-C ends the faults, then everything in order; a second Ctrl-C at once.
    """
    from server.lab.chaos.run import Chaos, ChaosOptions, is_good

    assignments = list(set_ or ())
    check_assignments(assignments)
    if _taken(assignments, "journal.mode") is not None:
        raise BadSetting("journal.mode", "say --journal none, local or redis")
    options = ChaosOptions(
        home=home,
        seconds=seconds if count is None else float("inf"),
        count=count,
        players=players,
        nodes=nodes,
        speed=speed,
        store=store,
        store_url=_taken(assignments, "store.url"),
        journal=journal,
        seed=random.SystemRandom().randrange(1_000_000) if seed is None else seed,
        faults=_words(faults),
        network=namespaces,
        assignments=tuple(assignments),
    )
    run = Chaos(options, err())
    run.check()
    with alone(home):
        empty_home(home)
        figures = asyncio.run(run.run())
    if figures is None:
        return 130
    if json:
        print(jsonlib.dumps(figures), flush=True)
    else:
        for name, value in figures.items():
            out().print(f"{name.replace('_', ' '):>28}  {_shown(value)}")
    return 0 if is_good(figures) else 1


def _taken(assignments: list[str], field: str) -> str | None:
    """The value of `field`, which is then not among them any more."""
    found = [text for text in assignments if text.partition("=")[0].strip() == field]
    for text in found:
        assignments.remove(text)
    return found[-1].partition("=")[2].strip() if found else None


def _words(faults: str) -> tuple[str, ...]:
    """The kinds of faults that are named. Raises `BadSetting` where there is text and no kind in it."""
    words = tuple(word.strip() for word in faults.split(",") if word.strip())
    if faults and not words:
        raise BadSetting("faults", f"{faults!r} names none; leave it out for all")
    return words


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items() if not isinstance(inner, dict))
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def register(app: App) -> None:
    app.command(chaos, name="chaos", help_epilogue=EXAMPLES)
