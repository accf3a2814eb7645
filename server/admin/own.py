"""The application's own part of the admin API: its console routes (GET) and its actions (POST)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final

import msgspec
import structlog
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter

from server.actors.app import Action, AdminContext, App, ConsoleRoute, Principal
from server.errors import BadInput, BadSetting, GarrisonError, NotFound

log = structlog.get_logger(__name__)
AnyRequest = Request[Any, Any, Any]
MAX_PARAMS: Final = 16
MAX_PARAM_LENGTH: Final = 256
ACTIONS: Final = "actions"


def own_handlers(app: App, context_of: Callable[[Principal], AdminContext], taken: set[str]) -> list[HTTPRouteHandler]:
    """Handlers of what `app` names. Raises `BadSetting` for a path whose first part is one of `taken`, the
    engine's."""
    for path in app.console:
        first = path.partition("/")[0]
        if first in taken | {ACTIONS} or not first.replace("-", "").replace("_", "").isalnum():
            raise BadSetting("app", f"a console route cannot be called {path!r}")
    handlers = [_console_handler(path, route, context_of) for path, route in app.console.items()]
    return [*handlers, _action_handler(app.actions, context_of)]


def _console_handler(
    path: str, route: ConsoleRoute, context_of: Callable[[Principal], AdminContext]
) -> HTTPRouteHandler:
    @get(
        f"/{path.replace('}', ':str}')}",
        description=(route.__doc__ or "").strip(),
        operation_id=f"console {path}",
        tags=["application"],
    )
    async def read(request: AnyRequest) -> Response[Any]:
        params = text_params(request) | {name: str(value) for name, value in request.path_params.items()}
        return _json(await route(context_of(request.auth), params))

    return read


def _action_handler(actions: Mapping[str, Action], context_of: Callable[[Principal], AdminContext]) -> HTTPRouteHandler:
    @post(f"/{ACTIONS}/{{name:str}}", status_code=200, tags=["application"])
    async def act(name: Annotated[str, PathParameter(max_length=64)], request: AnyRequest) -> Response[Any]:
        """An action of the application: its body and its answer are the application's."""
        action = actions.get(name)
        if action is None:
            raise NotFound(f"no action {name[:100]!r}")
        try:
            body = msgspec.json.decode(await request.body() or b"{}", type=action.body)
        except msgspec.DecodeError as error:
            raise BadInput(f"action {name}: {error}") from None
        principal: Principal = request.auth
        with logged(name, request):
            return _json(await action.run(context_of(principal), body))

    return act


@contextmanager
def logged(action: str, request: AnyRequest) -> Iterator[None]:
    """Write a line of the log for an action: its name, its principal with the address that it came from, and how it
    ended."""
    principal: Principal = request.auth
    address, _ = request.scope["client"] or ("", 0)
    ended = "cancelled"
    try:
        yield
        ended = "done"
    except GarrisonError as error:
        ended = error.code
        raise
    except Exception as error:
        ended = type(error).__name__
        raise
    finally:
        log.info(
            "admin action", action=action, principal=principal.name, role=principal.role, address=address, ended=ended
        )


def text_params(request: AnyRequest) -> dict[str, str]:
    """The query's parameters. Raises `BadInput` for too many, too long, or one that comes twice."""
    pairs = list(request.query_params.multi_items())
    if len(pairs) > MAX_PARAMS or len(dict(pairs)) < len(pairs):
        raise BadInput(f"a query takes at most {MAX_PARAMS} parameters, each of them once")
    for name, value in pairs:
        if len(name) > MAX_PARAM_LENGTH or len(value) > MAX_PARAM_LENGTH:
            raise BadInput(f"parameter {name[:32]!r} is longer than {MAX_PARAM_LENGTH} characters")
    return dict(pairs)


def _json(answer: Any) -> Response[Any]:
    return Response(msgspec.to_builtins(answer), media_type="application/json")
