"""The dashboard over a store alone: no node runs, nothing is claimed, nothing is written.

    async with viewer(settings, port=0) as (url, token): ...     `url` serves the pages and the API until the end

It is the admin server of a node over a system that has no member and no actor, so that pages about what is stored work
as they do in a cluster, and the others are left out.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from server.errors import Unavailable
from server.ids import ActorId, Incarnation, NodeAddress, NodeId
from server.settings import Settings

if TYPE_CHECKING:
    from server.actors.app import App
    from server.cluster.view import View

NAME: Final = NodeId("the store")


class NoAnswers(msgspec.Struct, frozen=True):
    """Rows of no node."""

    rows: list[Any] = []
    missing: list[str] = []


class StoreSystem:
    """`server.admin.ports.AdminSystem` where no node runs."""

    def __init__(self, app: "App", view: "View") -> None:
        self.me, self.app, self.view = NodeAddress(NAME, Incarnation(0)), app, view

    async def query(self, name: str, params: dict[str, Any], timeout_s: float | None = None) -> NoAnswers:
        return NoAnswers()

    async def ask(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        raise Unavailable("no node runs here: this is a view of the store")

    async def pin_log(self, identity: ActorId, pinned: bool) -> bool:
        raise Unavailable("this is a view of the store: `garrison pin` and `unpin` change it")

    def add_query(self, name: str, fn: Callable[[Mapping[str, Any]], list[Any]]) -> None:
        """Nobody asks."""

    def counts(self) -> Mapping[str, int]:
        return {}


@asynccontextmanager
async def viewer(settings: Settings, port: int = 0) -> AsyncIterator[tuple[str, str]]:
    """Serve the pages on loopback, at a `port` (0: any that is free); its URL, and a token of its own. Raises
    `BadSetting`, `Unavailable`."""
    from server.admin.app import AdminServer
    from server.cli.stored import opened_store
    from server.cluster.view import View
    from server.drivers import build_store_queries, load_app
    from server.runtime.clock import SystemClock
    from server.runtime.metrics import Metrics
    from server.runtime.supervisor import Supervisor

    app, supervisor = load_app(settings), Supervisor(NAME)
    own = replace(settings, admin=replace(type(settings.admin)(), host="127.0.0.1", port=port))
    async with opened_store(settings) as store:
        queries = build_store_queries(settings, app)
        system = StoreSystem(app, View(()))
        admin = AdminServer(
            system, own, Metrics(), SystemClock(), supervisor, lambda: "", store_queries=queries, logs=store,
            cluster=False,
        )  # fmt: skip
        try:
            await admin.start()
            yield admin.url, admin.token.text
        finally:
            await admin.stop()
            await supervisor.stop()
            await queries.close()
