"""`garrison node`: one node of a cluster, until SIGTERM or Ctrl-C."""

import asyncio
import os
import sys
from typing import Annotated

import uvloop
from cyclopts import App, Parameter

from server.cli.common import Config, Set, read_settings
from server.settings import Settings

EXAMPLES = """
Examples:

- `garrison node` with the settings file of this directory
- `garrison node --config node-2.toml --seeds 10.0.0.1:7370`
- `garrison node --app clan:App` runs another game than the one that comes along
- `garrison node --name edge-3 --gateway-port 7450 --set store.flush_interval_s=0.5`
"""


def node(
    *,
    config: Config = None,
    name: Annotated[str | None, Parameter(help="This node's name, the same after each restart.")] = None,
    gateway_port: Annotated[int | None, Parameter(help="Port for clients.")] = None,
    admin_port: Annotated[int | None, Parameter(help="Port for the dashboard, the API and the metrics.")] = None,
    seeds: Annotated[str | None, Parameter(help="Gossip addresses of other nodes, comma-separated.")] = None,
    app: Annotated[
        str | None, Parameter(help="The application, as package.module:Name; looked for in this directory too.")
    ] = None,
    store: Annotated[str | None, Parameter(help="URL of the store: sqlite:///… or postgresql://…")] = None,
    set_: Set = None,
) -> int:
    """Run one node. Prints one line of JSON once it serves; logs go to standard error.

    Settings come from the file, then from GARRISON_… variables (GARRISON_GATEWAY__PORT=7350), then from flags.
    """
    settings = read_settings(
        config,
        set_,
        {
            "node": name,
            "gateway.port": gateway_port,
            "admin.port": admin_port,
            "gossip.seeds": seeds,
            "app": app,
            "store.url": store,
        },
    )
    if "" not in sys.path:
        sys.path.append(os.getcwd())  # the studio's own game may stand in this directory

    return uvloop.run(_run(settings))


async def _run(settings: Settings) -> int:
    """`run_node`. A task that would not end (its name is in the log) does not hold up the process."""
    from server.main import run_node

    code = await run_node(settings)
    if len(asyncio.all_tasks()) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def register(app: App) -> None:
    app.command(node, name="node", help_epilogue=EXAMPLES)
