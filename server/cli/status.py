"""`garrison status`: the cluster as one of its nodes sees it, asked over the admin API."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from server.cli.common import Config, Json, Set, out, print_json
from server.cli.config import read_settings
from server.errors import BadInput, BadToken, NotFound, Unavailable
from server.runtime.listening import dialled_host
from server.settings import Settings, is_url
from server.texts import escaped
from server.wire.codec import UNDECODABLE

TIMEOUT_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
CLUSTER: Final = ("cluster", "node", "nodes", "gone", "missing")
"""Members of the cluster as a node tells it."""


class NoAnswer(Unavailable):
    """Nobody answers at the admin address `base`; `why` in the system's words."""

    def __init__(self, base: str, why: object) -> None:
        super().__init__(f"no node answers at {base} ({why}); is the cluster running?")
        self.why = why


EXAMPLES = """
Examples:

- `garrison status` of the cluster that this directory's settings name
- `garrison status --url http://127.0.0.1:7361 --json`
"""


def status(
    *,
    url: Annotated[str | None, Parameter(help="The admin address of any node.")] = None,
    token: Annotated[str | None, Parameter(help="The admin token; default: that of the settings.")] = None,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Show the nodes of a running cluster."""
    settings = read_settings(config, set_)
    body = ask_admin(settings, "/api/v1/cluster", url=url, token=token, has=CLUSTER)
    if json:
        print_json(body)
        return 0
    cluster = msgspec.json.decode(body)
    out().print(_table(cluster))
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


def admin_base(settings: Settings, url: str | None = None) -> str:
    """The URL of the admin API: `url`, or by the settings. Raises `BadInput` for a `url` that is none."""
    admin = settings.admin
    if url is not None and not is_url(url, "http", "https"):
        raise BadInput("--url takes http://host:port, an admin address")
    return (
        (url or admin.advertise_url or f"http://{dialled_host(admin.host)}:{admin.port}").partition("#")[0].rstrip("/")
    )


def row_of(cluster: dict[str, Any], node: str) -> dict[str, Any]:
    """The row of `node` in the cluster as a node's admin API tells it. Raises `NotFound`, which says if it is gone."""
    for row in cluster["nodes"]:
        if row["node"] == node:
            return dict(row)
    for row in cluster["gone"]:
        if row["node"] == node:
            raise NotFound(f"{node} is gone: {row['how']} {row['ago_s']:.0f} s ago")
    raise NotFound(f"no node {node}; there are {', '.join(row['node'] for row in cluster['nodes'])}")


def admin_url_of(row: dict[str, Any]) -> str:
    """The admin address of a node by its row. Raises `Unavailable` where it has none."""
    if not row["admin_url"]:
        raise Unavailable(f"{row['node']} has no admin address to ask")
    return str(row["admin_url"])


def ask_admin(
    settings: Settings,
    path: str,
    *,
    url: str | None = None,
    token: str | None = None,
    body: object = None,
    has: Collection[str] = (),
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    """The answer to `GET path` on a node's admin API, an object in JSON, or to a POST of `body` as JSON; what answers
    without the members `has` is no node. Raises `NoAnswer`, `Unavailable` where the answer is an error or none of a
    node, `BadToken`, `BadInput` for a bad `url` and for what the API does not take."""
    base = admin_base(settings, url)
    headers = {"authorization": f"Bearer {token or settings.admin.token or ''}"}
    data = None
    if body is not None:
        try:
            data, headers["content-type"] = msgspec.json.encode(body), "application/json"
        except UnicodeEncodeError:
            raise BadInput("what is asked has bytes that are no UTF-8") from None
    try:
        request = urllib.request.Request(base + path, data=data, headers=headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout_s) as answer:
            said: bytes = answer.read(MAX_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise BadToken(f"{base} does not take this admin token; see admin.token in its settings") from None
        if error.code == 400:
            raise BadInput(_problem(error)) from None
        raise Unavailable(f"{base} answered {error.code}: {_problem(error)}") from None
    except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        raise NoAnswer(base, why) from None
    if not _is_object(said, has):
        raise Unavailable(f"{base} does not answer as a node does: is it another server?")
    return said


def _is_object(said: bytes, has: Collection[str]) -> bool:
    try:
        found = msgspec.json.decode(said)
    except UNDECODABLE:
        return False
    return isinstance(found, dict) and all(name in found for name in has)


def _problem(error: urllib.error.HTTPError) -> str:
    """The API's own sentence for an error, or else HTTP's word for it."""
    try:
        return str(msgspec.json.decode(error.read(64 * 1024))["message"])
    except (msgspec.DecodeError, KeyError, TypeError, OSError, http.client.HTTPException):
        return str(error.reason)


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
