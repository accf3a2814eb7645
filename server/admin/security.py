"""The admin token, and what every answer carries against misuse by other pages.

`/api/…` needs `Authorization: Bearer TOKEN` (compared in constant time). Free of the token are
`/healthz`, `/readyz` and `/metrics`, so that load balancers and Prometheus need no secret: they
hold counts and the node's name, never a player, session or match. Also free are the dashboard's
own files, which are the same for everybody. To hide the counts too, bind `admin.host`
to an address that only operators reach (the default is loopback).

A dashboard goes on with another node when its own dies, so the pages of known peers may read
the API (CORS), and the page may connect to the hosts of known peers (CSP); no other origin may.
"""

import hmac
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from server.actors.app import Principal
from server.errors import BadToken
from server.runtime.admin_token import new_admin_token

PREFLIGHT_CACHE_S = 600
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_FIXED = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]


ADMIN: Final = Principal("admin", "admin")
"""The principal of the one admin token."""


class AdminToken:
    """The one secret of the admin API, random unless configured: the principal `ADMIN`."""

    def __init__(self, configured: str | None) -> None:
        self.text = configured or new_admin_token()
        self.generated = not configured
        self._bytes = self.text.encode()

    def principal(self, authorization: str | None) -> Principal:
        """The principal that the header `authorization` proves. Raises `BadToken` unless it is `Bearer` and the
        token."""
        scheme, _, given = (authorization or "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._bytes)
        if scheme.lower() != "bearer" or not right:
            raise BadToken("the admin token is missing or wrong: send Authorization: Bearer TOKEN")
        return ADMIN


def origin_of(url: str) -> str:
    """`scheme://host:port` of an absolute http url; empty if it is none."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.scheme in {"http", "https"} and parts.netloc else ""


def same_place(origin: str) -> list[str]:
    """`origin` and, on loopback, the other names that people type for it."""
    parts = urlsplit(origin)
    host, colon, port = parts.netloc.rpartition(":") if not parts.netloc.endswith("]") else (parts.netloc, "", "")
    if host not in _LOOPBACK:
        return [origin]
    return [f"{parts.scheme}://{name}{colon}{port}" for name in _LOOPBACK]


class KnownOrigins:
    """The origins of this node's peers, present and past. A node that is gone stays known,
    because a page that it served lives on; the oldest is forgotten past `bound`."""

    def __init__(self, bound: int = 256) -> None:
        self._origins: dict[str, bool] = {}
        """True: as it was told; False: another name of that place."""
        self._bound = bound
        self._connectable: list[str] | None = None

    def add(self, urls: Iterable[str]) -> None:
        for url in urls:
            origin = origin_of(url)
            for name in same_place(origin) if origin else ():
                told = self._origins.pop(name, False) or name == origin
                self._origins[name] = told
        while len(self._origins) > self._bound:
            del self._origins[next(iter(self._origins))]
        self._connectable = None

    def __contains__(self, origin: str) -> bool:
        return origin.lower() in self._origins

    def connectable(self) -> list[str]:
        """CSP sources: every known host on any port, so that a node that joins later on a
        known host can be followed too. Host sources of CSP have no IPv6 form: for a node that tells an address of
        IPv6 its whole scheme is taken, or its page could never move on to it."""
        if self._connectable is None:
            self._connectable = self._sources()
        return self._connectable

    def _sources(self) -> list[str]:
        sources: dict[str, None] = {}
        for origin, told in self._origins.items():
            parts = urlsplit(origin)
            if ":" not in (parts.hostname or ""):
                sources[f"{parts.scheme}://{parts.hostname}:*"] = None
            elif told:
                sources[f"{parts.scheme}:"] = None
        return list(sources)


def authorized(token: AdminToken) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware for routes that need `token`: the principal is the request's `auth`. A guard of the framework's would
    have its route's handler copied for each request, which takes longer than the rest of it."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def checked(scope: Scope, receive: Receive, send: Send) -> None:
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            scope["auth"] = token.principal(given.decode("latin-1"))
            await app(scope, receive, send)

        return checked

    return middleware


class Guarded:
    """ASGI wrapper: security headers on every answer, CORS for known peers, preflights."""

    def __init__(self, app: ASGIApp, origins: KnownOrigins) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"])
        origin = given.get(b"origin", b"").decode("latin-1")
        extra = [*_FIXED, (b"content-security-policy", self._policy().encode("latin-1")), (b"vary", b"Origin")]
        if origin in self._origins:
            extra.append((b"access-control-allow-origin", origin.encode("latin-1")))

        if scope["method"] == "OPTIONS" and b"access-control-request-method" in given:
            await _preflight(send, extra, allowed=origin in self._origins)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        await self._app(scope, receive, guarded)

    def _policy(self) -> str:
        connect = " ".join(["'self'", *self._origins.connectable()])
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
            f"connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


async def _preflight(send: Send, headers: list[tuple[bytes, bytes]], *, allowed: bool) -> None:
    if allowed:
        headers = [
            *headers,
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"authorization, content-type"),
            (b"access-control-max-age", str(PREFLIGHT_CACHE_S).encode()),
        ]
    await send({"type": "http.response.start", "status": 204 if allowed else 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
