"""Endpoints of the admin API: functions with a method and a path, and the ASGI application that calls them.

    @get("/sessions/{node}")
    async def sessions(node: str, limit: Limit = 100) -> Rows: ...

A function's arguments are parts of the path and parameters of the query, by name, checked by their types; `data` is the
body, decoded as its type, and `request` the request itself. It returns an `HttpAnswer`, or what msgspec encodes as the
JSON of one. A framework would do the same, and be a fifth of what a node imports before it serves.
"""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from server.actors.app import Principal
from server.errors import BadInput, NotFound

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON: Final = "application/json"
MAX_BODY_BYTES: Final = 64 * 1024
_PRIVATE: Final = {"cache-control": "no-store"}
_REST: Final = "{rest}"
"""The last part of a path that takes all that follows it, slashes too."""


class HttpRefused(Exception):
    """A request that HTTP itself has a status for: `status` and `message`, with `headers`."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


class ClientLeft(Exception):
    """The client is gone before its request was whole: nobody is there to be answered."""


class HttpAnswer(msgspec.Struct, frozen=True):
    """An answer: its body whole, or as it comes."""

    body: bytes | AsyncGenerator[bytes, None]
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = {}


class AdminRequest:
    """A request. `parts` are those of its path that the endpoint's names, `principal` the one that its token proves."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope, self._receive = scope, receive
        self.path: str = scope["path"]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.parts: Mapping[str, str] = {}
        self.principal: Principal | None = None

    @property
    def address(self) -> str:
        """The address that it came from; empty where there is none."""
        address, _ = self._scope.get("client") or ("", 0)
        return str(address)

    def query(self) -> list[tuple[str, str]]:
        """The parameters of the query, in order."""
        return parse_qsl(self._scope["query_string"].decode("latin-1"), keep_blank_values=True)

    async def body(self) -> bytes:
        """The whole body. Raises `HttpRefused` for one that is too long, `ClientLeft`."""
        parts, length = list[bytes](), 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientLeft
            parts.append(message.get("body", b""))
            length += len(parts[-1])
            if length > MAX_BODY_BYTES:
                raise HttpRefused(413, f"a body has at most {MAX_BODY_BYTES} bytes")
            if not message.get("more_body", False):
                return b"".join(parts)


class Endpoint(msgspec.Struct, frozen=True):
    """A function that answers `method` at `path`. `params` is a struct of the arguments that are taken from path and
    query, `body` the type of `data`, `answer` what the function says that it returns; None: there is none. Unless it is
    `listed`, the API's description leaves it out; if it is `guarded`, it is called only for a principal."""

    method: Literal["GET", "POST"]
    path: str
    call: Callable[..., Any]
    description: str
    params: type[msgspec.Struct] | None
    body: Any
    answer: Any
    takes_request: bool
    tags: tuple[str, ...] = ()
    listed: bool = True
    guarded: bool = False

    async def answered(self, request: AdminRequest) -> HttpAnswer:
        """The answer to a request. Raises what the function raises, and `BadInput` for what it cannot take."""
        arguments: dict[str, Any] = {}
        if self.params is not None:
            given = _converted({**dict(request.query()), **request.parts}, self.params)
            arguments = {name: getattr(given, name) for name in self.params.__struct_fields__}
        if self.body is not None:
            arguments["data"] = _decoded(await request.body(), self.body)
        if self.takes_request:
            arguments["request"] = request
        found = self.call(**arguments)
        if inspect.isawaitable(found):
            found = await found
        return found if isinstance(found, HttpAnswer) else json_answer(found)


def get(path: str, **more: Any) -> Callable[[Callable[..., Any]], Endpoint]:
    """Make a function the endpoint of GET at `path`. `more`: fields of the endpoint."""
    return lambda function: _endpoint("GET", path, function, more)


def post(path: str, **more: Any) -> Callable[[Callable[..., Any]], Endpoint]:
    """Make a function the endpoint of POST at `path`. `more`: fields of the endpoint."""
    return lambda function: _endpoint("POST", path, function, more)


def _endpoint(
    method: Literal["GET", "POST"], path: str, function: Callable[..., Any], more: Mapping[str, Any]
) -> Endpoint:
    signature = inspect.signature(function)
    parameters = dict(signature.parameters)
    takes_request, data = parameters.pop("request", None) is not None, parameters.pop("data", None)
    fields = [
        (name, each.annotation) if each.default is each.empty else (name, each.annotation, each.default)
        for name, each in parameters.items()
    ]
    plain: dict[str, Any] = {
        "method": method,
        "path": path,
        "call": function,
        "description": inspect.cleandoc(function.__doc__ or ""),
        "params": msgspec.defstruct(f"{function.__name__}_params", fields) if fields else None,
        "body": data.annotation if data is not None else None,
        "answer": None if signature.return_annotation is HttpAnswer else signature.return_annotation,
        "takes_request": takes_request,
    }
    return Endpoint(**{**plain, **more})


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    """An answer of JSON."""
    return HttpAnswer(msgspec.json.encode(value), status, JSON, headers or {})


def _converted(given: Mapping[str, str], params: type[msgspec.Struct]) -> msgspec.Struct:
    try:
        return msgspec.convert(given, params, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(_named(error)) from None


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise BadInput(_named(error)) from None


def _named(error: msgspec.DecodeError) -> str:
    """The words of an error, after the name of the field that it is about."""
    why, at, place = str(error).rpartition(" - at `$.")
    return f"{place.rstrip('`')}: {why}" if at else str(error)


class Endpoints:
    """The ASGI application of `endpoints`. `principal_of` gives the principal that a header `authorization` proves,
    `failed` the answer to a request that an error came of."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        principal_of: Callable[[str | None], Principal],
        failed: Callable[[AdminRequest, Exception], HttpAnswer],
    ) -> None:
        self._principal_of, self._failed = principal_of, failed
        self._exact: dict[str, dict[str, Endpoint]] = {}
        found: dict[tuple[str, ...], dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            parts = tuple(endpoint.path.split("/")[1:])
            if any(_is_open(part) for part in parts):
                found.setdefault(parts, {})[endpoint.method] = endpoint
            else:
                self._exact.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        self._open = sorted(found.items(), key=lambda item: [_is_open(part) for part in item[0]])
        """Paths with open parts, those with more of their beginning given first."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = AdminRequest(scope, receive)
        try:
            answer = await self._answer(request, scope["method"])
        except ClientLeft:
            return
        except Exception as error:
            answer = self._failed(request, error)
        await _send(answer, send)

    async def _answer(self, request: AdminRequest, method: str) -> HttpAnswer:
        methods, request.parts = self._find(request.path)
        if not methods:
            raise NotFound("no such page")
        endpoint = methods.get(method)
        if endpoint is None:
            raise HttpRefused(405, "this page is not asked that way", {"allow": ", ".join(methods)})
        if endpoint.guarded:
            request.principal = self._principal_of(request.headers.get("authorization"))
        answer = await endpoint.answered(request)
        return msgspec.structs.replace(answer, headers={**answer.headers, **_PRIVATE}) if endpoint.guarded else answer

    def _find(self, path: str) -> tuple[Mapping[str, Endpoint], Mapping[str, str]]:
        path = path.rstrip("/") or "/"
        if (methods := self._exact.get(path)) is not None:
            return methods, {}
        asked = path.split("/")[1:]
        for parts, methods in self._open:
            if (found := _matched(parts, asked)) is not None:
                return methods, found
        return {}, {}


def _is_open(part: str) -> bool:
    return part.startswith("{")


def _matched(parts: Sequence[str], asked: Sequence[str]) -> dict[str, str] | None:
    """The open parts of a path by name; None where `asked` is another path."""
    if parts[-1] == _REST and len(asked) >= len(parts):
        asked = [*asked[: len(parts) - 1], "/".join(asked[len(parts) - 1 :])]
    if len(parts) != len(asked):
        return None
    if any(part != word for part, word in zip(parts, asked, strict=True) if not _is_open(part)):
        return None
    return {part.strip("{}"): word for part, word in zip(parts, asked, strict=True) if _is_open(part)}


async def _send(answer: HttpAnswer, send: Send) -> None:
    media_type = answer.media_type
    if media_type.startswith("text/") and "charset" not in media_type:
        media_type += "; charset=utf-8"
    headers = [(b"content-type", media_type.encode("latin-1"))]
    headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    body = answer.body
    if isinstance(body, bytes):
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
        return
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    async with aclosing(body) as parts:
        async for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
