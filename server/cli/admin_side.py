"""The admin side of a running cluster as commands ask it: the options that say where it is, and requests by its API."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from server.cli.common import Config, Set
from server.cli.config import read_settings
from server.errors import BadInput, BadToken, NotFound, Unavailable
from server.runtime.listening import dialled_host
from server.settings import Settings, is_url
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


class AdminSide(msgspec.Struct, frozen=True):
    """The admin API at the address `base`, asked with an operator's `token`."""

    base: str
    token: str

    @classmethod
    def of(cls, settings: Settings, url: str | None = None, token: str | None = None) -> "AdminSide":
        """The admin side at `url`, or by the settings. Raises `BadInput` for a `url` that is none."""
        return cls(admin_base(settings, url), token or settings.admin.token or "")

    def at(self, row: dict[str, Any]) -> "AdminSide":
        """The admin side of one node, by its row in the cluster. Raises `Unavailable` where it has no admin address."""
        if not row["admin_url"]:
            raise Unavailable(f"{row['node']} has no admin address to ask")
        return AdminSide(_bare(row["admin_url"]), self.token)

    def cluster(self) -> dict[str, Any]:
        """The cluster as the node there sees it. Raises as `ask`."""
        found: dict[str, Any] = msgspec.json.decode(self.ask("/api/v1/cluster", has=CLUSTER))
        return found

    def ask(self, path: str, *, body: object = None, has: Collection[str] = (), timeout_s: float = TIMEOUT_S) -> bytes:
        """The answer to `GET path`, an object in JSON, or to a POST of `body` as JSON; what answers without the members
        `has` is no node. Raises `NoAnswer`, `Unavailable` where the answer is an error or none of a node, `BadToken`,
        and `BadInput` for what the API does not take."""
        headers, data = {"authorization": f"Bearer {self.token}"}, None
        if body is not None:
            try:
                data, headers["content-type"] = msgspec.json.encode(body), "application/json"
            except UnicodeEncodeError:
                raise BadInput("what is asked has bytes that are no UTF-8") from None
        try:
            request = urllib.request.Request(self.base + path, data=data, headers=headers)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=timeout_s) as answer:
                said: bytes = answer.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            if error.code == 401:
                raise BadToken(f"{self.base} does not take this admin token; see admin.token in its settings") from None
            if error.code == 400:
                raise BadInput(_problem(error)) from None
            raise Unavailable(f"{self.base} answered {error.code}: {_problem(error)}") from None
        except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            raise NoAnswer(self.base, why) from None
        if not _is_object(said, has):
            raise Unavailable(f"{self.base} does not answer as a node does: is it another server?")
        return said


@Parameter(name="*")
@dataclass(frozen=True)
class AdminOptions:
    """The options of a command that asks a running cluster."""

    url: Annotated[str | None, Parameter(help="The admin address of any node.")] = None
    token: Annotated[str | None, Parameter(help="The admin token; default: that of the settings.")] = None
    config: Config = None
    set_: Set = None

    def settings(self) -> Settings:
        """The settings of the command. Raises `BadSetting`."""
        return read_settings(self.config, self.set_)

    def side(self) -> AdminSide:
        """The admin side to ask. Raises `BadSetting`, `BadInput`."""
        return AdminSide.of(self.settings(), self.url, self.token)


BY_SETTINGS: Final = AdminOptions()
"""The default of such a command's options: the cluster that the settings name."""


def admin_base(settings: Settings, url: str | None = None) -> str:
    """The URL of the admin API: `url`, or by the settings. Raises `BadInput` for a `url` that is none."""
    if url is not None and not is_url(url, "http", "https"):
        raise BadInput("--url takes http://host:port, an admin address")
    admin = settings.admin
    return _bare(url or admin.advertise_url or f"http://{dialled_host(admin.host)}:{admin.port}")


def _bare(url: str) -> str:
    """A URL to which a path can be added."""
    return url.partition("#")[0].rstrip("/")


def row_of(cluster: dict[str, Any], node: str) -> dict[str, Any]:
    """The row of `node` in the cluster as a node's admin API tells it. Raises `NotFound`, which says if it is gone."""
    for row in cluster["nodes"]:
        if row["node"] == node:
            return dict(row)
    for row in cluster["gone"]:
        if row["node"] == node:
            raise NotFound(f"{node} is gone: {row['how']} {row['ago_s']:.0f} s ago")
    raise NotFound(f"no node {node}; there are {', '.join(row['node'] for row in cluster['nodes'])}")


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
