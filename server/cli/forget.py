"""`garrison forget`: give up what a dead run of a node kept in a journal that nobody can read any more.

Works on the store alone, with or without nodes. A run that is over and whose journal is open keeps what it owned until
a node reads the journal. Where that never happens (the machine is gone, the pod's volume with it) an operator
decides: the run's journal counts as closed, and what it owned goes on from what is stored. Whether the node came back
meanwhile is decided by the store, in the one statement that forgets: it names the run and its journal as they were
shown, and does nothing to a journal that was read and closed before.
"""

import asyncio
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from server.cli.common import Config, Json, Set, out, print_json
from server.cli.config import read_settings
from server.cli.stored import opened_store
from server.drivers import load_app
from server.errors import BadInput, NotFound
from server.liveness.ports import Estate, NodeRow
from server.settings import Settings

EXAMPLES = """
Examples:

- `garrison forget` lists the dead runs whose journals are open, and what waits for them
- `garrison forget node-2` shows what would be given up, and asks for `--yes`
- `garrison forget node-2#17 --yes` gives up what one run left
- `garrison forget --nothing --yes` gives up all that nothing waits for: pods that were replaced under other names
"""


class LeftBehind(msgspec.Struct):
    """A dead run whose journal is open. `entities` are those that it still owns, by kind; the changes that its journal
    holds of them are not counted, since it cannot be read from here. `back`: the run of that node that lives now."""

    run: str
    journal: str
    entities: dict[str, int]
    back: str = ""
    forgotten: bool = False


def forget(
    node: Annotated[str, Parameter(help="The node, or one run of it as node#number; without it, all are listed.")] = "",
    *,
    yes: Annotated[
        bool, Parameter(help="Do it: what the journal alone holds is lost.", negative="", show_default=False)
    ] = False,
    nothing: Annotated[
        bool, Parameter(help="Only runs that own nothing any more, of any node.", negative="", show_default=False)
    ] = False,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Give up the journal of a dead node, so that its players are served again as they are stored."""
    settings = read_settings(config, set_)
    found = asyncio.run(_forget(settings, node, yes, nothing))
    if json:
        print_json(msgspec.json.encode(found))
    else:
        for left in found:
            out().print(_line(left), markup=False, soft_wrap=True)
        if not found:
            out().print("no dead run has left an open journal")
    if found and not yes and (node or nothing):
        what = " ".join(["forget", *filter(None, [node, "--nothing" if nothing else ""])])
        raise BadInput(f"{what} gives up what these journals alone hold, for good; say --yes to do it")
    if (node or nothing) and not all(left.forgotten for left in found):
        raise NotFound("a journal was closed meanwhile, so its node has come back: nothing of it was given up")
    return 0


async def _forget(settings: Settings, node: str, yes: bool, nothing: bool) -> list[LeftBehind]:
    kinds = [cls.kind for cls in load_app(settings).actors if cls.durability == "write_behind"]
    async with opened_store(settings) as store:
        estates, living = await store.estates(), await store.living()
        chosen = [estate for estate in estates if not node or node in (estate.owner.node, str(estate.owner))]
        if node and not chosen:
            raise NotFound(_nothing_of(node, living))
        owned = {kind: await store.count_owned(kind) for kind in kinds} if chosen else {}
        found = []
        for estate in chosen:
            entities = {kind: owned[kind][estate.owner] for kind in kinds if estate.owner in owned[kind]}
            if not nothing or not entities:
                found.append(_left(estate, entities, living))
                if yes and (node or nothing):
                    found[-1].forgotten = await store.forget_estate(estate)
        return found


def _left(estate: Estate, entities: dict[str, int], living: list[NodeRow]) -> LeftBehind:
    back = next((f"{row.node}#{row.incarnation}" for row in living if row.node == estate.owner.node), "")
    return LeftBehind(str(estate.owner), estate.journal, entities, back)


def _nothing_of(node: str, living: list[NodeRow]) -> str:
    runs = [f"{row.node}#{row.incarnation}" for row in living if node in (row.node, f"{row.node}#{row.incarnation}")]
    if runs:
        return f"{runs[0]} is not dead in the store: what it has is its own"
    return f"no dead run of {node} has left an open journal: nothing waits for it"


def _line(left: LeftBehind) -> str:
    owns = ", ".join(f"{count} of kind {kind}" for kind, count in left.entities.items() if count) or "nothing"
    done = "was forgotten" if left.forgotten else "is dead"
    back = f" {left.back} is up: where it can read this journal, it does." if left.back and not left.forgotten else ""
    kept = "is left where it is" if left.forgotten else "is open"
    return f"{left.run} {done}; it owns {owns}. Its journal {kept}: {left.journal}.{back}"


def register(app: App) -> None:
    app.command(forget, name="forget", help_epilogue=EXAMPLES)
