"""`garrison status`: the cluster as one of its nodes sees it, asked over the admin API."""

import time
from typing import Any

import msgspec
from cyclopts import App
from rich.table import Table
from rich.text import Text

from server.cli.admin_side import BY_SETTINGS, CLUSTER, AdminOptions
from server.cli.common import Json, out, print_json
from server.cli.tables import print_table
from server.texts import escaped

EXAMPLES = """
Examples:

- `garrison status` of the cluster that this directory's settings name
- `garrison status --url http://127.0.0.1:7361 --json`
"""


def status(*, json: Json = False, admin: AdminOptions = BY_SETTINGS) -> int:
    """Show the nodes of a running cluster."""
    body = admin.side().ask("/api/v1/cluster", has=CLUSTER)
    if json:
        print_json(body)
        return 0
    cluster = msgspec.json.decode(body)
    print_table(_table(cluster), out())
    for gone in cluster["gone"]:
        out().print(f"{gone['node']} {gone['how']} {gone['ago_s']:.0f} s ago")
    for node in cluster["nodes"]:
        if node["report"] and node["report"]["not_ready"]:
            out().print(f"{node['node']} is not ready: {node['report']['not_ready']}", markup=False)
        for trouble in (node["report"] or {}).get("troubles", ()):
            since = time.strftime("%H:%M:%S", time.gmtime(trouble["since_ms"] / 1000))
            out().print(f"{node['node']}, since {since} UTC: {trouble['text']}", markup=False)
    if cluster["missing"]:
        out().print(f"no answer from {', '.join(cluster['missing'])}")
    return 0


def _table(cluster: dict[str, Any]) -> Table:
    table = Table(title=f"{cluster['cluster']}, as {cluster['node']} sees it", title_justify="left")
    texts, numbers = ("clients", "gossip"), ("slots", "sessions", "activations", "dirty", "dirty age", "loop lag")
    for name in ("node", "state", *numbers, *texts):
        table.add_column(name, justify="right" if name in numbers else "left")
    for node in cluster["nodes"]:
        report = node["report"]
        state = node["state"] + (", suspected" if node["suspect"] else "")
        told = ["?"] * 4
        if report is not None:
            told = [str(report[name]) for name in ("sessions", "activations", "dirty")]
            told.append(f"{report['dirty_age_s']:.1f} s")
        table.add_row(
            f"{node['node']}#{node['incarnation']}" + (f".{it}" if (it := node.get("generation", 0)) else ""),
            state,
            f"{node['slots']:,}",
            *told,
            f"{node['lag_ms']:.0f} ms",
            Text(escaped(node["client_url"])),
            Text((report or {}).get("gossip", "")),
        )
    return table


def register(app: App) -> None:
    app.command(status, name="status", help_epilogue=EXAMPLES)
