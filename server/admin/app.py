"""The admin HTTP server of one node: it runs in the node's own loop, so that what it shows of
the loop is true, and does nothing while nobody asks.

    admin = AdminServer(system, settings, metrics, clock, supervisor, not_ready,
                        sessions=…, observe=…)
    admin.bind()          # holds the port; `admin.url` is known from here on
    await admin.start()
    …
    await admin.stop()

`admin.token.text` is the token, for the start-up line (`admin.token.generated`: nobody chose
it). `admin.view_changed()` is to be called after every change of the node's view.
"""

import asyncio
import contextlib
import errno
import math
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from litestar.types import ASGIApp

from server.admin.api import build_app
from server.admin.assets import Assets
from server.admin.context import NodeContext
from server.admin.exports import Exporter
from server.admin.history import SAMPLE_INTERVAL_S
from server.admin.http import REQUEST_S, BasePath, Bounded, Proxied, protocol_of
from server.admin.metrics import MetricsText
from server.admin.ports import AdminSystem, Draining, Upgrading
from server.admin.questions import QuestionDesk
from server.admin.read_models import ClusterViews, NodeReadModels, Sessions
from server.admin.security import AdminToken, Guarded, KnownOrigins
from server.errors import BadSetting, Unavailable
from server.eventlog.ports import LogReader
from server.runtime.clock import Clock
from server.runtime.listening import is_every, listen, url_host
from server.runtime.metrics import Metrics
from server.runtime.proxies import TrustedProxies
from server.runtime.supervisor import Supervisor
from server.runtime.troubles import Trouble
from server.settings import AdminSettings, Settings
from server.storage.queries import NoStoreQueries, StoreQueries

STATIC = Path(__file__).parent / "static"
BACKLOG = 128
MAX_CONNECTIONS = 256
"""Past it a new connection takes the place of one without a request."""
MAX_REQUESTS = 64
"""Requests at a time; past it only health and metrics are answered."""
MAX_HEADER_BYTES = 16 * 1024
STOP_GRACE_S = 1.0
NO_QUERIES = NoStoreQueries()


def _nothing() -> None:
    """All gauges are always up to date."""


class _Server(uvicorn.Server):
    """uvicorn inside somebody else's program: it leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AdminServer:
    """See the module's head. `not_ready` gives "" while the node serves, else the reason it
    does not; `sessions` gives rows of this node's sessions (None: the node has no gateway);
    `observe` brings gauges that are not kept up to date up to date before they are read; `draining`
    is how operators empty the node (None: they cannot); `gossip` gives its gossip's `host:port`;
    `store_queries` run the application's named queries; `troubles` are the things that are wrong for the node;
    `logs` has what is stored of logged actors (None: nothing is); `cluster`: there is one, and not only
    its store; `questions` answers those over columns (None: the node keeps none); `upgrading` gives how
    operators have another process succeed this one (None: they cannot)."""

    def __init__(
        self,
        system: AdminSystem,
        settings: Settings,
        metrics: Metrics,
        clock: Clock,
        supervisor: Supervisor,
        not_ready: Callable[[], str],
        sessions: Sessions | None = None,
        observe: Callable[[], None] = _nothing,
        draining: Draining | None = None,
        gossip: Callable[[], str] = lambda: "",
        store_queries: StoreQueries = NO_QUERIES,
        troubles: Callable[[], list[Trouble]] = list,
        logs: LogReader | None = None,
        cluster: bool = True,
        max_connections: int = MAX_CONNECTIONS,
        request_s: float = REQUEST_S,
        questions: QuestionDesk | None = None,
        upgrading: Callable[[], Upgrading | None] = lambda: None,
    ) -> None:
        """Raises `BadSetting` if the application's folder of pages cannot be read, or a console route of its
        has the name of one of the engine's, or `admin.advertise_url` is nobody's address."""
        if settings.admin.advertise_url and is_every(urlsplit(settings.admin.advertise_url).hostname or ""):
            raise BadSetting("admin.advertise_url", "names every interface, which is nobody's address")
        self._system, self._settings, self._supervisor = system, settings.admin, supervisor
        self._max_connections, self._request_s = max_connections, request_s
        self._proxies, self._metrics = TrustedProxies(settings.proxies.trusted), metrics
        self.token = AdminToken(settings.admin.token)
        self.origins = KnownOrigins()
        self.own = NodeReadModels(
            system,
            settings,
            metrics,
            clock,
            not_ready,
            sessions,
            observe,
            gossip,
            troubles,
        )
        self.views = ClusterViews(system, settings, clock, self.own)
        pages, kept = system.app.pages, dict[str, Any]()
        self.asgi = Guarded(
            build_app(
                system=system,
                draining=draining,
                views=self.views,
                metrics=MetricsText(metrics, system.me.node, observe),
                not_ready=not_ready,
                troubles=troubles,
                token=self.token,
                context_of=lambda principal: NodeContext(principal, system, store_queries, logs, kept, clock),
                dashboard=Assets(STATIC, "admin"),
                pages=Assets(Path(pages), "app") if pages is not None else None,
                app_name=system.app.name,
                cluster=cluster,
                questions=questions,
                upgrading=upgrading,
                exporter=Exporter(system.app, settings) if system.app.exports else None,
            ),
            self.origins,
        )
        self._sockets: list[socket.socket] = []
        self._server: _Server | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self.url = settings.admin.advertise_url or ""

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets that it listens on."""
        return self._sockets

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on these, which listen already, instead of taking the port; before `bind`."""
        assert not self._sockets, "adopt before bind"
        self._sockets = list(sockets)

    def bind(self) -> str:
        """Take the port and return `url`. Raises `Unavailable` naming host:port if it is taken
        or cannot be had."""
        self._sockets = self._sockets or _listen(self._settings)
        if not self._settings.advertise_url:
            self.url = f"http://{_told_host(self._settings.host)}:{self._sockets[0].getsockname()[1]}"
        return self.url

    async def start(self) -> None:
        """Serve until `stop`. Raises as `bind`."""
        self.bind()
        self.view_changed()
        config = uvicorn.Config(
            Proxied(self._below(Bounded(self.asgi, MAX_REQUESTS)), self._proxies),
            http=protocol_of(self._max_connections, self._request_s, self._proxies, self._metrics),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=math.ceil(self._settings.keep_alive_s),
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        self._server = _Server(config)
        self._tasks = [
            self._supervisor.spawn(self._server.serve(sockets=self._sockets), "admin-http"),
            self._supervisor.every(SAMPLE_INTERVAL_S, self._tick, "admin-history"),
        ]

    def _below(self, app: ASGIApp) -> ASGIApp:
        return BasePath(app, self._settings.base_path) if self._settings.base_path else app

    async def stop(self) -> None:
        """Finish the answers under way, for at most `STOP_GRACE_S`, and give the port back."""
        if self._server is not None:
            self._server.should_exit = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE_S):
                    await asyncio.wait(self._tasks[:1])
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks, self._server = [], None
        for taken in self._sockets:
            taken.close()
        self._sockets = []

    def view_changed(self) -> None:
        """Note who is here and who went: for the list of lost nodes, and for whose pages may
        read this node's API."""
        self.views.departures.follow()
        self.origins.add([self.url, *(member.admin_url for member in self._system.view.members.values())])

    def _tick(self) -> None:
        self.own.sample()
        self.view_changed()


def _listen(settings: AdminSettings) -> list[socket.socket]:
    """Listening sockets at the configured place. Raises `Unavailable` in one line."""
    try:
        return listen(settings.host, settings.port, BACKLOG)
    except OSError as error:
        why = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise Unavailable(f"setting admin.port: cannot listen on {settings.host}:{settings.port}: {why}") from None


def _told_host(host: str) -> str:
    """The host name that peers and people are told for a listening address."""
    if is_every(host):
        return socket.gethostname()
    return url_host(host)
