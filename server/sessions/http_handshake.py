"""The opening handshake of a WebSocket, as text (RFC 6455, 4.2). Pure.

Headers of lists are read as lists of tokens in any case: browsers send `Connection: keep-alive, Upgrade`. What is
refused is answered in HTTP with a line for people, since a client sees no close code before the connection is open.
"""

import base64
import binascii
import re
from http import HTTPStatus
from typing import Final

import msgspec

from server.runtime.proxies import Via
from server.wire.codec import SUBPROTOCOLS, Format

MAX_HEAD_BYTES: Final = 16 * 1024
"""Request line and headers, their line ends included."""
MAX_HEADERS: Final = 128
VERSION: Final = "13"
END: Final = b"\r\n\r\n"

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_IN_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_VERSION_1: Final = re.compile(rb"HTTP/1\.[1-9]")
_COUNTRY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,15}")
"""`DE`, `US-CA`, and the `XX` and `T1` of those who do not know."""
_Headers = dict[str, list[str]]


class Handshake(msgspec.Struct, frozen=True):
    """A handshake that can be accepted. `subprotocol` is the first of those offered that is known; `via` is what
    proxies say in it, `country` what the header says that was asked for, whoever wrote it."""

    key: str
    subprotocol: str
    format: Format
    via: Via = Via()
    country: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """The HTTP answer to a handshake that is not accepted; `why` is for people."""

    status: HTTPStatus
    why: str
    headers: tuple[str, ...] = ()

    def render(self) -> bytes:
        """The whole answer. It ends the connection."""
        body = f"{self.why}\n".encode()
        upgrade = "Upgrade, " if self.status == HTTPStatus.UPGRADE_REQUIRED else ""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            *self.headers,
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            f"Connection: {upgrade}close",
        ]
        return "\r\n".join(lines).encode() + END + body


TOO_LONG: Final = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"The request's headers are too large: {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers are taken (cookies count).",
)
TOO_SLOW: Final = Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time.")
PREFIXED: Final = Refusal(
    HTTPStatus.BAD_REQUEST, "A PROXY prefix is taken from trusted proxies only: see the setting proxies.trusted."
)
FULL: Final = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "No room for another connection; try another node.")
CROWDED: Final = Refusal(HTTPStatus.TOO_MANY_REQUESTS, "Your address has too many connections; close some of them.")
_KNOWN: Final = ", ".join(SUBPROTOCOLS)
_PLAIN: Final = Refusal(
    HTTPStatus.UPGRADE_REQUIRED,
    f"This is a Garrison gateway. Connect with a WebSocket and offer a subprotocol: {_KNOWN}.",
    ("Upgrade: websocket", f"Sec-WebSocket-Version: {VERSION}"),
)


def judge(head: bytes, country_header: str = "") -> Handshake | Refusal:
    """The decision on a request head, given up to its empty line and without it. `country_header`: the name, in small
    letters, of the header with the client's country; empty: none is looked for."""
    lines = head.split(b"\r\n")
    if (bad := _bad_request_line(lines[0])) is not None:
        return bad
    if len(lines) - 1 > MAX_HEADERS:
        return TOO_LONG
    headers = _headers(lines[1:])
    if isinstance(headers, Refusal):
        return headers
    if headers.get("transfer-encoding") or any(length.strip("0") for length in headers.get("content-length", ())):
        return _bad("A handshake has no body.")
    if "websocket" not in _tokens(headers, "upgrade"):
        return _PLAIN
    if "upgrade" not in _tokens(headers, "connection"):
        return _bad(
            "The header 'Connection' must name 'Upgrade'. Proxies take it away unless they are told to keep it."
        )
    if headers.get("sec-websocket-version") != [VERSION]:
        return Refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            f"Version {VERSION} of the WebSocket protocol is spoken here, and no other.",
            ("Upgrade: websocket", f"Sec-WebSocket-Version: {VERSION}"),
        )
    keys = headers.get("sec-websocket-key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        return _bad("One header 'Sec-WebSocket-Key' is needed, with 16 bytes in base64.")
    for name in _listed(headers, "sec-websocket-protocol"):
        format = SUBPROTOCOLS.get(name)
        if format is not None:
            return Handshake(keys[0], name, format, _via(headers), _country(headers, country_header))
    return _bad(f"This is a Garrison gateway. Connect with a WebSocket and offer a subprotocol: {_KNOWN}.")


def _bad(why: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, why)


def _bad_request_line(line: bytes) -> Refusal | None:
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[1] or not parts[2].startswith(b"HTTP/") or not _TOKEN.fullmatch(parts[0]):
        return _bad("This is no HTTP request.")
    if not _VERSION_1.fullmatch(parts[2]):
        return Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 is spoken here.")
    if parts[0] != b"GET":
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "A handshake is a GET.", ("Allow: GET",))
    return None


def _headers(lines: list[bytes]) -> _Headers | Refusal:
    """All values of each header by its name in small letters."""
    headers: _Headers = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not _TOKEN.fullmatch(name) or _BAD_IN_VALUE.search(value):
            return _bad("A header of this request cannot be read.")
        headers.setdefault(name.decode("ascii").lower(), []).append(value.decode("latin-1"))
    return headers


def _listed(headers: _Headers, name: str) -> list[str]:
    """The members of a header that is a list, perhaps spread over several lines."""
    return [
        part for value in headers.get(name, ()) for part in (piece.strip(" \t") for piece in value.split(",")) if part
    ]


def _via(headers: _Headers) -> Via:
    names = ("forwarded", "x-forwarded-for", "x-forwarded-proto")
    return Via(*(headers.get(name, ()) for name in names))


def _country(headers: _Headers, name: str) -> str:
    """The one value of header `name` in capitals; empty where there are several, or one that names no country."""
    values = headers.get(name, ())
    return values[0].upper() if len(values) == 1 and _COUNTRY.fullmatch(values[0]) else ""


def _tokens(headers: _Headers, name: str) -> set[str]:
    return {token.lower() for token in _listed(headers, name)}


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
