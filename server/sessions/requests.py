"""Clients' requests: for each message type, the call that answers it."""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from server.actors.actor import Role
from server.actors.app import App, QueryRoute, Route, StoreRoute
from server.errors import BadInput, Forbidden, Internal, RateLimited, Rejected, UnknownType
from server.ids import actor_id
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.guesses import GuessLimits
from server.sessions.ports import QueriedActors
from server.sessions.session import Session
from server.sessions.ticks import TickClock
from server.sessions.watching import charge
from server.storage.queries import StoreQueries
from server.wire.messages import Hello, Reply, Request

log = structlog.get_logger(__name__)

Handle = Callable[[Session, Any], Any]
"""`handle(session, message)`: the `Reply`, or a future of it. Raises typed errors."""


class Requests:
    """The application's routes, and what the engine adds to them."""

    def __init__(
        self,
        app: App,
        actors: QueriedActors,
        store_queries: StoreQueries,
        supervisor: Supervisor,
        metrics: Metrics,
        ticks: TickClock,
        guesses: GuessLimits | None = None,
    ) -> None:
        self._actors, self._store_queries, self._ticks = actors, store_queries, ticks
        self._merged: dict[str, tuple[list[Any], list[Any]]] = {}
        """The newest rows of each query, and the merged ones for all who share them."""
        self._supervisor, self._metrics = supervisor, metrics
        self._guesses = guesses if guesses is not None else GuessLimits()
        self._handlers: dict[type[Request], Handle] = {}
        for message, route in app.routes.items():
            self.add(message, self._route(route) if isinstance(route, Route) else self._read_route(route))

    def add(self, message: type[Request], handle: Handle) -> None:
        """Let `handle` answer messages of this type, unless the application answers them itself."""
        self._handlers.setdefault(message, handle)

    def handle(self, session: Session, message: Request) -> Any:
        """The `Reply`, or a future of it. Raises typed errors."""
        handler = self._handlers.get(message.__class__)
        if handler is None:
            if message.__class__ is Hello:
                raise BadInput("hello is only a connection's first message")
            raise UnknownType(f"nothing handles {message.__class__.__name__}")
        return handler(session, message)

    def fault(self, error: BaseException) -> Internal:
        """Log and count something untyped that was raised on a session's behalf, a fault of ours; the error to
        answer with."""
        self._metrics.task_crashes_total += 1
        log.error("request failed", exc_info=error)
        return Internal(type(error).__name__)

    def _route(self, route: Route) -> Handle:
        kind, name, key, roles = route.actor.kind, route.method.__name__, route.key, route.roles
        ask_now = self._actors.ask_now
        guesses = route.guesses

        def handle(session: Session, message: Any) -> Any:
            caller = session.caller
            _allow(caller.role, roles, message)
            return ask_now(actor_id(kind, key(caller, message)), name, (caller, message))

        return handle if not guesses else partial(self._guess, handle, guesses)

    def _guess(self, handle: Handle, wrong: frozenset[str], session: Session, message: Any) -> Any:
        """Answer a message that may be a guess. Raises `RateLimited`, with the time after which its address may
        guess again."""
        remote, now = session.remote, self._ticks.now()
        wait_s = self._guesses.wait_s(remote, now)
        if wait_s:
            self._metrics.rate_limited_total += 1
            raise RateLimited("too many wrong guesses from this address", retry_after_s=math.ceil(wait_s * 1000) / 1000)

        def answered(error: BaseException | None) -> None:
            if isinstance(error, Rejected) and error.code in wrong:
                self._guesses.wrong(remote, now)

        try:
            answer = handle(session, message)
        except Rejected as error:
            answered(error)
            raise
        if isinstance(answer, asyncio.Future):
            answer.add_done_callback(lambda future: answered(None if future.cancelled() else future.exception()))
        return answer

    def _read_route(self, route: QueryRoute | StoreRoute) -> Handle:
        def handle(session: Session, message: Any) -> Any:
            _allow(session.caller.role, route.roles, message)
            if route.cost is not None:
                charge(session, route.cost(message), self._ticks, self._metrics)
            answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            params = route.params(session.caller, message)
            self._supervisor.spawn(self._read(route, message, params, answer), f"query {route.query}")
            return answer

        return handle

    async def _read(
        self, route: QueryRoute | StoreRoute, message: Any, params: dict[str, Any], answer: "asyncio.Future[Reply]"
    ) -> None:
        try:
            if isinstance(route, StoreRoute):
                reply = route.answer(message, await self._store_queries.run(route.query, params))
            else:
                result = await self._actors.query(route.query, params)
                reply = route.answer(message, self._rows(route, result.rows), result.missing)
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(reply)

    def _rows(self, route: QueryRoute, rows: list[Any]) -> list[Any]:
        """The rows for the route's answer, merged: where many share `rows`, they share these too."""
        if route.merge is None:
            return rows
        newest = self._merged.get(route.query)
        if newest is None or newest[0] is not rows:
            newest = self._merged[route.query] = (rows, route.merge(rows))
        return newest[1]


def _allow(role: Role, roles: frozenset[Role], message: Request) -> None:
    if role not in roles:
        raise Forbidden(f"a {role} may not send {message.__struct_config__.tag}")
