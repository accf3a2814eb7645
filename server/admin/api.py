"""The HTTP surface: health, metrics, the JSON API under `/api/v1` and the dashboard's files.

Errors of the API are `{code, message}` with the codes of server/errors.py; a bad parameter is
400 `bad_input`. See security.py for who may ask what.
"""

import traceback
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import msgspec
import structlog
from msgspec import Meta

from server.actors.app import AdminContext, App, Principal
from server.admin.answers import (
    Activations,
    Cluster,
    Drain,
    DrainOrder,
    Health,
    History,
    Pages,
    Problem,
    Ring,
    Rows,
    Stores,
    Upgrade,
    UpgradeOrder,
)
from server.admin.assets import Assets
from server.admin.endpoints import (
    AdminRequest,
    Endpoint,
    Endpoints,
    HttpAnswer,
    HttpRefused,
    get,
    json_answer,
    post,
)
from server.admin.exports import Exporter, export_endpoints
from server.admin.metrics import CONTENT_TYPE, MetricsText
from server.admin.openapi import described
from server.admin.own import logged, own_endpoints, text_params
from server.admin.ports import AdminSystem, Draining, Upgrading
from server.admin.questions import QuestionDesk, question_endpoints
from server.admin.read_models import ClusterViews
from server.admin.security import AdminToken
from server.errors import (
    BadInput,
    BadToken,
    DeadlineExceeded,
    Forbidden,
    GarrisonError,
    NotFound,
    Overloaded,
    RateLimited,
    Rejected,
    Retryable,
    TokenExpired,
    Unavailable,
)
from server.ids import whole
from server.runtime.troubles import Trouble

log = structlog.get_logger(__name__)

API: Final = "/api/v1"
_STATUS: tuple[tuple[type[GarrisonError], int], ...] = (
    (BadToken, 401),
    (TokenExpired, 401),
    (Forbidden, 403),
    (BadInput, 400),
    (NotFound, 404),
    (Rejected, 409),
    (RateLimited, 429),
    (Overloaded, 503),
    (Retryable, 503),
    (DeadlineExceeded, 504),
)
_HTTP_CODES = {405: "not_found", 413: "bad_input"}

Limit = Annotated[int, Meta(ge=1, le=500, description="rows of each node, 1 to 500")]
Page = Annotated[int, Meta(ge=0, le=100_000, description="from 0; the answer's `next` is the next one")]
Subject = Annotated[str, Meta(max_length=64, description="only sessions of this player, host or service")]
ModelName = Annotated[str, Meta(pattern=whole(r"[a-z][a-z0-9_]{0,63}"))]


def build_app(
    *,
    system: AdminSystem,
    draining: Draining | None,
    views: ClusterViews,
    metrics: MetricsText,
    not_ready: Callable[[], str],
    troubles: Callable[[], list[Trouble]],
    token: AdminToken,
    context_of: Callable[[Principal], AdminContext],
    dashboard: Assets,
    pages: Assets | None,
    app_name: str,
    cluster: bool,
    questions: QuestionDesk | None = None,
    upgrading: Callable[[], Upgrading | None] = lambda: None,
    exporter: Exporter | None = None,
) -> Endpoints:
    """The ASGI application of one node."""
    more = [*_drain_endpoints(system, draining), *_upgrade_endpoints(system, upgrading)]
    more += export_endpoints(exporter) if exporter is not None else []
    endpoints = [
        *_health_endpoints(system.me.node, not_ready, troubles, metrics),
        *_api_endpoints(views, [*more, *question_endpoints(questions)], system.app, context_of),
        *_file_endpoints(dashboard, pages, app_name, cluster),
    ]

    @get("/api/openapi.json", listed=False)
    def description() -> HttpAnswer:
        return json_answer(described(endpoints))

    return Endpoints([*endpoints, description], token.principal, _failed)


def _health_endpoints(
    node: str, not_ready: Callable[[], str], troubles: Callable[[], list[Trouble]], metrics: MetricsText
) -> list[Endpoint]:
    @get("/healthz", tags=("health",))
    def healthz() -> Health:
        """The process lives and its event loop runs. Needs no token."""
        return Health(node, "alive")

    @get("/readyz", tags=("health",), answer=Health)
    def readyz() -> HttpAnswer:
        """200 while the node serves, with what is wrong nevertheless; 503 with the reason before that, while
        it drains, while it refuses changes, and when its lease has run out. Needs no token."""
        if reason := not_ready():
            return json_answer(Health(node, "not ready", reason), 503)
        return json_answer(Health(node, "ready", "; ".join(trouble.text for trouble in troubles())))

    @get("/metrics", tags=("health",))
    def scrape() -> HttpAnswer:
        """The node's counters for Prometheus. Needs no token."""
        return HttpAnswer(metrics.render(), media_type=CONTENT_TYPE)

    return [healthz, readyz, scrape]


def _api_endpoints(
    views: ClusterViews, more: list[Endpoint], app: App, context_of: Callable[[Principal], AdminContext]
) -> list[Endpoint]:
    """Endpoints that a token is needed for."""

    @get("/live")
    async def live() -> Cluster:
        """The cluster now, as the dashboard polls it: as `/cluster`, but it waits less for
        nodes that do not answer and may be 0.2 s old."""
        return await views.live()

    @get("/cluster")
    async def cluster() -> Cluster:
        """Every member with its state, weight, slots, load, loop lag and report."""
        return await views.cluster()

    @get("/cluster/ring")
    def ring() -> Ring:
        """The owners of all slots, in the view of the node that answers."""
        return views.ring()

    @get("/history")
    async def history() -> History:
        """The last five minutes of every node, one sample a second."""
        return await views.history()

    @get("/store")
    async def store() -> Stores:
        """Write-behind, log commits and lease renewals of every node."""
        return await views.store()

    @get("/activations")
    async def activations() -> Activations:
        """Actors in memory, by node and kind."""
        return await views.activations()

    @get("/sessions")
    async def sessions(limit: Limit = 100, page: Page = 0, subject: Subject = "") -> Rows:
        """Client sessions, a page at a time."""
        return await views.sessions(page, limit, subject)

    @get("/query/{name}")
    async def query(name: ModelName, request: AdminRequest) -> Rows:
        """Any read model of the application or node; query parameters are its parameters, as
        text."""
        return await views.rows(name, text_params(request))

    engine = [live, cluster, ring, history, store, activations, sessions, query, *more]
    taken = {endpoint.path.split("/")[1] for endpoint in engine}
    return [
        msgspec.structs.replace(endpoint, path=f"{API}{endpoint.path}", tags=("api", *endpoint.tags), guarded=True)
        for endpoint in (*engine, *own_endpoints(app, context_of, taken))
    ]


def _drain_endpoints(system: AdminSystem, draining: Draining | None) -> list[Endpoint]:
    def told() -> Drain:
        if draining is None:
            raise Unavailable("this node cannot be drained from here")
        progress, me = draining.progress(), system.me
        left = progress["activations_left"] + progress["sessions_left"]
        done = progress["state"] == "leaving" and left == 0
        return Drain(node=me.node, incarnation=me.incarnation, done=done, **progress)

    @get("/drain")
    def progress() -> Drain:
        """How far the node that answers is with its drain."""
        return told()

    @post("/drain")
    async def begin(data: DrainOrder, request: AdminRequest) -> Drain:
        """Drain the node that answers: it takes no more, hands everything to the others and stays
        until it is stopped. The body names it, so that nobody drains another one behind the same
        address (409). Asked again, it only tells how far it is."""
        _check_named(system, data.node, data.incarnation)
        if draining is not None:
            with logged("drain", request):
                await draining.begin()
        return told()

    return [progress, begin]


def _upgrade_endpoints(system: AdminSystem, upgrading: Callable[[], Upgrading | None]) -> list[Endpoint]:
    def possible() -> Upgrading:
        found = upgrading()
        if found is None:
            raise Unavailable("this node cannot be upgraded from here")
        return found

    def told() -> Upgrade:
        return Upgrade(node=system.me.node, incarnation=system.me.incarnation, **possible().progress())

    @get("/upgrade")
    def progress() -> Upgrade:
        """How far the node that answers is with the succession of its process."""
        return told()

    @post("/upgrade")
    async def begin(data: UpgradeOrder, request: AdminRequest) -> Upgrade:
        """Start the program that is installed now beside the node that answers, and have it take over everything, with
        clients' connections. The body names the node, so that nobody upgrades another one behind the same address
        (409). 503 with the reason where it cannot begin; asked again while it goes on, it only tells how far it is."""
        _check_named(system, data.node, data.incarnation)
        with logged("upgrade", request):
            possible().begin()
        return told()

    return [progress, begin]


def _check_named(system: AdminSystem, node: str, incarnation: int) -> None:
    """Raises `Rejected` where an order is meant for another node, or another run of this one."""
    me = system.me
    if node != me.node or incarnation not in (0, me.incarnation):
        raise Rejected("another_node", f"this is {me.node} (run {me.incarnation})")


def _file_endpoints(dashboard: Assets, pages: Assets | None, app_name: str, cluster: bool) -> list[Endpoint]:
    def answer(assets: Assets | None, name: str, request: AdminRequest) -> HttpAnswer:
        asset = assets.get(name) if assets is not None else None
        if asset is None:
            raise NotFound(f"no file {name[:100]!r}")
        headers = {"etag": asset.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == asset.etag:
            return HttpAnswer(b"", 304, asset.media_type, headers)
        return HttpAnswer(asset.body, 200, asset.media_type, headers)

    @get("/", listed=False)
    def index(request: AdminRequest) -> HttpAnswer:
        return answer(dashboard, "index.html", request)

    @get("/static/{rest}", listed=False)
    def static(rest: str, request: AdminRequest) -> HttpAnswer:
        return answer(dashboard, rest, request)

    @get("/app/{rest}", listed=False)
    def app_page(rest: str, request: AdminRequest) -> HttpAnswer:
        return answer(pages, rest, request)

    @get("/pages.json", listed=False)
    def app_pages() -> Pages:
        return Pages(app_name, pages.modules() if pages is not None else [], cluster)

    return [index, static, app_page, app_pages]


def _problem(status: int, problem: Problem, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    more = dict(headers or {})
    if status == 401:
        more["www-authenticate"] = "Bearer"
    if problem.retry_after_s is not None:
        more["retry-after"] = str(max(1, round(problem.retry_after_s)))
    return json_answer(problem, status, more)


def _failed(request: AdminRequest, error: Exception) -> HttpAnswer:
    """The answer to a request that an error came of."""
    if isinstance(error, GarrisonError):
        status = next((status for cls, status in _STATUS if isinstance(error, cls)), 500)
        return _problem(status, Problem(error.code, error.message, error.retry_after_s))
    if isinstance(error, HttpRefused):
        return _problem(error.status, Problem(_HTTP_CODES[error.status], error.message), error.headers)
    if isinstance(error, RecursionError):  # a body in hundreds of brackets
        return _problem(400, Problem("bad_input", "the request is nested too deeply"))
    # as text: a renderer that shows local variables would show the request's token
    log.error("admin request failed", path=request.path, trace="".join(traceback.format_exception(error)))
    return _problem(500, Problem("internal", "the request failed inside the server; its log has the details"))
