"""`garrison node`: one node of a cluster, until SIGTERM or Ctrl-C."""

from typing import Annotated

from cyclopts import App, Parameter

from server.cli.common import Config, Set
from server.cli.node_options import NodeOptions

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
    supervised: Annotated[
        bool,
        Parameter(
            help="Run below a small process that stays while `garrison upgrade` changes the node's; the first process "
            "of a container always does.",
            negative="",
            show_default=False,
        ),
    ] = False,
    set_: Set = None,
    succeed: Annotated[str | None, Parameter(show=False)] = None,
) -> int:
    """Run one node. Prints one line of JSON once it serves; logs go to standard error.

    Settings come from the file, then from GARRISON_… variables (GARRISON_GATEWAY__PORT=7350), then from flags.
    """
    from server.cli.node import run

    return run(
        NodeOptions(config, name, gateway_port, admin_port, seeds, app, store, supervised, tuple(set_ or ()), succeed)
    )


def register(app: App) -> None:
    app.command(node, name="node", help_epilogue=EXAMPLES)
