"""One connection: open the WebSocket, say hello, follow redirects, and classify what fails."""

import asyncio
import ssl

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from garrison._frames import read, unpack
from garrison.errors import BadFrame, BadInput, BadToken, SessionClosed, TokenExpired, Unavailable, from_wire
from garrison.messages import CLOSE_CODES, Failed, Redirect, Welcome
from garrison.options import Options

SUBPROTOCOL = Subprotocol("garrison.v1.msgpack")


class Link:
    """An open WebSocket after its welcome."""

    __slots__ = ("hops", "last_heard", "opened_at", "url", "welcome", "ws")

    def __init__(self, ws: ClientConnection, url: str, welcome: Welcome, hops: int) -> None:
        self.ws = ws
        self.url = url
        self.welcome = welcome
        self.hops = hops
        self.opened_at = self.last_heard = asyncio.get_running_loop().time()


def check_url(url: str) -> None:
    """Raises `BadInput` if `url` is no WebSocket address."""
    try:
        parse_uri(url)
    except (ValueError, WebSocketException) as error:
        raise BadInput(f"{url}: {error}") from None


def shows_token(url: str, to: str) -> bool:
    """Would going on from `url` to `to` show the token to who listens on the way?"""
    return url.lower().startswith("wss:") and not to.lower().startswith("wss:")


async def open_link(url: str, hello: bytes, options: Options, tls: ssl.SSLContext | None) -> Link:
    """A welcomed connection to `url` or to where it redirects. Raises `Unavailable` where nobody
    or nobody sensible is there, else the error that answers the hello or that its close means."""
    for hops in range(options.max_redirects + 1):
        answer = await _try(url, hello, options, tls, hops)
        if isinstance(answer, Link):
            return answer
        if isinstance(answer, Failed):
            raise from_wire(answer.code, answer.message, answer.retry_after_ms)
        if shows_token(url, answer.url):
            raise Unavailable(f"{url} redirects to {answer.url}, which is not encrypted")
        url = answer.url
    raise Unavailable(f"redirected more than {options.max_redirects} times")


async def _try(
    url: str, hello: bytes, options: Options, tls: ssl.SSLContext | None, hops: int
) -> Link | Redirect | Failed:
    ws: ClientConnection | None = None
    welcomed = False
    try:
        async with asyncio.timeout(options.open_timeout_s):
            ws = await _open(url, options, tls)
            await ws.send(hello)
            answer = read(unpack(await ws.recv()))
        if isinstance(answer, Welcome):
            welcomed = True
            return Link(ws, url, answer, hops)
        if isinstance(answer, Redirect | Failed):
            return answer
        raise BadFrame("another message in answer to hello")
    except TimeoutError:
        raise Unavailable(f"{url}: no welcome within {options.open_timeout_s:g} s") from None
    except ConnectionClosed as error:
        raise close_error(close_code(error), close_reason(error)) from None
    except (OSError, ValueError, WebSocketException, BadFrame) as error:  # ValueError: the url is none
        raise Unavailable(f"{url}: {error}") from None
    finally:
        if ws is not None and not welcomed:
            ws.transport.abort()


async def _open(url: str, options: Options, tls: ssl.SSLContext | None) -> ClientConnection:
    ws = await connect(
        url,
        subprotocols=[SUBPROTOCOL],
        compression=None,
        open_timeout=None,
        close_timeout=1,
        ping_interval=None,
        max_size=options.max_frame_bytes,
        proxy=None,
        ssl=(tls or True) if url.lower().startswith("wss:") else None,
    )
    if ws.subprotocol != SUBPROTOCOL:
        ws.transport.abort()
        raise Unavailable(f"{url} does not speak {SUBPROTOCOL}")
    return ws


def close_code(error: ConnectionClosed) -> int:
    """The code that the server closed with, 1006 where the connection just broke."""
    return error.rcvd.code if error.rcvd is not None else 1006


def close_reason(error: ConnectionClosed) -> str:
    """The words that came with the close code."""
    return error.rcvd.reason if error.rcvd is not None else "connection lost"


def close_error(code: int, reason: str) -> Unavailable | BadToken | TokenExpired | SessionClosed:
    """What a close means for going on: `Unavailable` says try again."""
    info = CLOSE_CODES.get(code)
    text = f"closed with {code}" + (f" ({info.name})" if info else "") + (f": {reason}" if reason else "")
    if info is None or info.retry not in ("no", "new_token"):
        return Unavailable(text)
    if info.retry == "new_token":
        return TokenExpired(text)
    return BadToken(text) if info.name == "bad_token" else SessionClosed(text, close_code=code)
