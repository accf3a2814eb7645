"""The HTTP surface: health, metrics, the JSON API under `/api/v1` and the dashboard's files.

Errors of the API are `{code, message}` with the codes of server/errors.py; a bad parameter is
400 `bad_input`. See security.py for who may ask what.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import structlog
from litestar import Litestar, MediaType, Request, Response, Router, get, post
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import Body, Parameter, PathParameter

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
from server.admin.exports import Exporter, export_handlers
from server.admin.metrics import CONTENT_TYPE, MetricsText
from server.admin.own import logged, own_handlers, text_params
from server.admin.ports import AdminSystem, Draining, Upgrading
from server.admin.questions import QuestionDesk, question_handlers
from server.admin.read_models import ClusterViews
from server.admin.security import AdminToken, authorized
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
_HTTP_CODES = {400: "bad_input", 401: "bad_token", 403: "forbidden", 404: "not_found", 405: "not_found"}

Limit = Annotated[int, Parameter(ge=1, le=500, description="rows of each node, 1 to 500")]
Page = Annotated[int, Parameter(ge=0, le=100_000, description="from 0; the answer's `next` is the next one")]
Subject = Annotated[str, Parameter(max_length=64, description="only sessions of this player, host or service")]
FilePath = Annotated[Path, PathParameter()]
ModelName = Annotated[str, Parameter(pattern=whole(r"[a-z][a-z0-9_]{0,63}"))]


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
) -> Litestar:
    """The ASGI application of one node."""
    more = [*_drain_handlers(system, draining), *_upgrade_handlers(system, upgrading)]
    more += export_handlers(exporter) if exporter is not None else []
    return Litestar(
        route_handlers=[
            *_health_handlers(system.me.node, not_ready, troubles, metrics),
            _api_router(views, token, [*more, *question_handlers(questions)], system.app, context_of),
            *_file_handlers(dashboard, pages, app_name, cluster),
        ],
        exception_handlers={
            GarrisonError: _typed_error,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
        openapi_config=OpenAPIConfig(
            title="Garrison admin API",
            version="1",
            description="Views of a cluster, drain and upgrade of a node. Views gathered from several nodes name "
            "in `missing` those that did not answer in time.",
            path="/api",
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
            components=Components(security_schemes={"adminToken": SecurityScheme(type="http", scheme="bearer")}),
            use_handler_docstrings=True,
        ),
        logging_config=None,
        debug=False,
        request_max_body_size=64 * 1024,
    )


def _health_handlers(
    node: str, not_ready: Callable[[], str], troubles: Callable[[], list[Trouble]], metrics: MetricsText
) -> list[Any]:
    @get("/healthz", sync_to_thread=False, tags=["health"])
    def healthz() -> Health:
        """The process lives and its event loop runs. Needs no token."""
        return Health(node, "alive")

    @get("/readyz", sync_to_thread=False, tags=["health"])
    def readyz() -> Response[Health]:
        """200 while the node serves, with what is wrong nevertheless; 503 with the reason before that, while
        it drains, while it refuses changes, and when its lease has run out. Needs no token."""
        if reason := not_ready():
            return Response(Health(node, "not ready", reason), status_code=503)
        return Response(Health(node, "ready", "; ".join(trouble.text for trouble in troubles())), status_code=200)

    @get("/metrics", sync_to_thread=False, media_type=MediaType.TEXT, tags=["health"])
    def scrape() -> Response[bytes]:
        """The node's counters for Prometheus. Needs no token."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return [healthz, readyz, scrape]


def _api_router(
    views: ClusterViews,
    token: AdminToken,
    more: list[Any],
    app: App,
    context_of: Callable[[Principal], AdminContext],
) -> Router:
    @get("/live")
    async def live() -> Cluster:
        """The cluster now, as the dashboard polls it: as `/cluster`, but it waits less for
        nodes that do not answer and may be 0.2 s old."""
        return await views.live()

    @get("/cluster")
    async def cluster() -> Cluster:
        """Every member with its state, weight, slots, load, loop lag and report."""
        return await views.cluster()

    @get("/cluster/ring", sync_to_thread=False)
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

    @get("/query/{name:str}")
    async def query(name: ModelName, request: Request[Any, Any, Any]) -> Rows:
        """Any read model of the application or node; query parameters are its parameters, as
        text."""
        return await views.rows(name, text_params(request))

    handlers = [live, cluster, ring, history, store, activations, sessions, query, *more]
    taken = {path.strip("/").partition("/")[0] for handler in handlers for path in handler.paths}
    return Router(
        "/api/v1",
        route_handlers=[*handlers, *own_handlers(app, context_of, taken)],
        middleware=[authorized(token)],
        security=[{"adminToken": []}],
        tags=["api"],
        response_headers={"cache-control": "no-store"},
    )


def _drain_handlers(system: AdminSystem, draining: Draining | None) -> list[Any]:
    def told() -> Drain:
        if draining is None:
            raise Unavailable("this node cannot be drained from here")
        progress, me = draining.progress(), system.me
        left = progress["activations_left"] + progress["sessions_left"]
        done = progress["state"] == "leaving" and left == 0
        return Drain(node=me.node, incarnation=me.incarnation, done=done, **progress)

    @get("/drain", sync_to_thread=False)
    def progress() -> Drain:
        """How far the node that answers is with its drain."""
        return told()

    @post("/drain", status_code=200)
    async def begin(data: Annotated[DrainOrder, Body()], request: Request[Any, Any, Any]) -> Drain:
        """Drain the node that answers: it takes no more, hands everything to the others and stays
        until it is stopped. The body names it, so that nobody drains another one behind the same
        address (409). Asked again, it only tells how far it is."""
        _check_named(system, data.node, data.incarnation)
        if draining is not None:
            with logged("drain", request):
                await draining.begin()
        return told()

    return [progress, begin]


def _upgrade_handlers(system: AdminSystem, upgrading: Callable[[], Upgrading | None]) -> list[Any]:
    def possible() -> Upgrading:
        found = upgrading()
        if found is None:
            raise Unavailable("this node cannot be upgraded from here")
        return found

    def told() -> Upgrade:
        return Upgrade(node=system.me.node, incarnation=system.me.incarnation, **possible().progress())

    @get("/upgrade", sync_to_thread=False)
    def progress() -> Upgrade:
        """How far the node that answers is with the succession of its process."""
        return told()

    @post("/upgrade", status_code=200)
    async def begin(data: Annotated[UpgradeOrder, Body()], request: Request[Any, Any, Any]) -> Upgrade:
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


def _file_handlers(dashboard: Assets, pages: Assets | None, app_name: str, cluster: bool) -> list[Any]:
    def answer(assets: Assets | None, name: str, request: Request[Any, Any, Any]) -> Response[bytes]:
        asset = assets.get(name) if assets is not None else None
        if asset is None:
            raise NotFound(f"no file {name[:100]!r}")
        headers = {"etag": asset.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == asset.etag:
            return Response(b"", status_code=304, headers=headers, media_type=asset.media_type)
        return Response(asset.body, headers=headers, media_type=asset.media_type)

    @get("/", sync_to_thread=False, include_in_schema=False)
    def index(request: Request[Any, Any, Any]) -> Response[bytes]:
        return answer(dashboard, "index.html", request)

    @get("/static/{name:path}", sync_to_thread=False, include_in_schema=False)
    def static(name: FilePath, request: Request[Any, Any, Any]) -> Response[bytes]:
        return answer(dashboard, name.as_posix().lstrip("/"), request)

    @get("/app/{name:path}", sync_to_thread=False, include_in_schema=False)
    def app_page(name: FilePath, request: Request[Any, Any, Any]) -> Response[bytes]:
        return answer(pages, name.as_posix().lstrip("/"), request)

    @get("/pages.json", sync_to_thread=False, include_in_schema=False)
    def app_pages() -> Pages:
        return Pages(app_name, pages.modules() if pages is not None else [], cluster)

    return [index, static, app_page, app_pages]


def _problem(status: int, problem: Problem) -> Response[Problem]:
    headers: dict[str, str] = {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(problem.retry_after_s)))
    return Response(problem, status_code=status, headers=headers, media_type=MediaType.JSON)


def _typed_error(_: Request[Any, Any, Any], error: GarrisonError) -> Response[Problem]:
    status = next((status for cls, status in _STATUS if isinstance(error, cls)), 500)
    return _problem(status, Problem(error.code, error.message, error.retry_after_s))


def _http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    message = error.detail or "the request cannot be answered"
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        parts = [f"{part.get('key')}: {part.get('message')}" for part in error.extra if isinstance(part, dict)]
        message = "; ".join(parts) or message
    elif error.status_code == 404:
        message = "no such page"
    elif error.status_code == 405:
        message = "this page is not asked that way"
    return _problem(error.status_code, Problem(_HTTP_CODES.get(error.status_code, "bad_input"), message))


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    if isinstance(error, RecursionError):  # a body in hundreds of brackets
        return _problem(400, Problem("bad_input", "the request is nested too deeply"))
    # as text: a renderer that shows local variables would show the request's token
    log.error("admin request failed", path=request.url.path, trace="".join(traceback.format_exception(error)))
    return _problem(500, Problem("internal", "the request failed inside the server; its log has the details"))
