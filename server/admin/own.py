"""The application's own part of the admin API: its console routes (GET) and its actions (POST)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Final

import msgspec
import structlog
from msgspec import Meta

from server.actors.app import Action, AdminContext, App, ConsoleRoute, Principal
from server.admin.endpoints import AdminRequest, Endpoint, HttpAnswer, get, json_answer, post
from server.errors import BadInput, BadSetting, GarrisonError, NotFound

log = structlog.get_logger(__name__)
MAX_PARAMS: Final = 16
MAX_PARAM_LENGTH: Final = 256
ACTIONS: Final = "actions"


def own_endpoints(app: App, context_of: Callable[[Principal], AdminContext], taken: set[str]) -> list[Endpoint]:
    """Endpoints of what `app` names. Raises `BadSetting` for a path whose first part is one of `taken`, the
    engine's."""
    for path in app.console:
        first = path.partition("/")[0]
        if first in taken | {ACTIONS} or not first.replace("-", "").replace("_", "").isalnum():
            raise BadSetting("app", f"a console route cannot be called {path!r}")
    console = [_console_endpoint(path, route, context_of) for path, route in app.console.items()]
    return [*console, _action_endpoint(app.actions, context_of)]


def _console_endpoint(path: str, route: ConsoleRoute, context_of: Callable[[Principal], AdminContext]) -> Endpoint:
    @get(f"/{path}", description=(route.__doc__ or "").strip(), tags=("application",))
    async def read(request: AdminRequest) -> HttpAnswer:
        params = text_params(request) | dict(request.parts)
        return json_answer(await route(context_of(principal_of(request)), params))

    return read


def _action_endpoint(actions: Mapping[str, Action], context_of: Callable[[Principal], AdminContext]) -> Endpoint:
    @post(f"/{ACTIONS}/{{name}}", tags=("application",))
    async def act(name: Annotated[str, Meta(max_length=64)], request: AdminRequest) -> HttpAnswer:
        """An action of the application: its body and its answer are the application's."""
        action = actions.get(name)
        if action is None:
            raise NotFound(f"no action {name[:100]!r}")
        try:
            body = msgspec.json.decode(await request.body() or b"{}", type=action.body)
        except msgspec.DecodeError as error:
            raise BadInput(f"action {name}: {error}") from None
        with logged(name, request):
            return json_answer(await action.run(context_of(principal_of(request)), body))

    return act


@contextmanager
def logged(action: str, request: AdminRequest) -> Iterator[None]:
    """Write a line of the log for an action: its name, its principal with the address that it came from, and how it
    ended."""
    principal = principal_of(request)
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
            "admin action", action=action, principal=principal.name, role=principal.role, address=request.address,
            ended=ended,
        )  # fmt: skip


def text_params(request: AdminRequest) -> dict[str, str]:
    """The query's parameters. Raises `BadInput` for too many, too long, or one that comes twice."""
    pairs = request.query()
    if len(pairs) > MAX_PARAMS or len(dict(pairs)) < len(pairs):
        raise BadInput(f"a query takes at most {MAX_PARAMS} parameters, each of them once")
    for name, value in pairs:
        if len(name) > MAX_PARAM_LENGTH or len(value) > MAX_PARAM_LENGTH:
            raise BadInput(f"parameter {name[:32]!r} is longer than {MAX_PARAM_LENGTH} characters")
    return dict(pairs)


def principal_of(request: AdminRequest) -> Principal:
    """The principal of a request to a guarded endpoint."""
    assert request.principal is not None, "guarded"
    return request.principal
