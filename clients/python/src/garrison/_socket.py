"""WebSockets of the asyncio client: opening one, and reading how one has ended."""

import ssl

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from garrison.errors import BadInput

SUBPROTOCOL = Subprotocol("garrison.v1.msgpack")
FAILURES = (OSError, ValueError, WebSocketException)
"""Errors of an attempt to open a WebSocket; `ValueError` where the url is none."""


def check_url(url: str) -> None:
    """Raises `BadInput` if `url` is no WebSocket address."""
    try:
        parse_uri(url)
    except (ValueError, WebSocketException) as error:
        raise BadInput(f"{url}: {error}") from None


async def open_socket(url: str, max_frame_bytes: int, tls: ssl.SSLContext | None) -> ClientConnection:
    """An open WebSocket that speaks the protocol. Raises one of `FAILURES`; cancelled, it leaves none open."""
    ws = await connect(
        url,
        subprotocols=[SUBPROTOCOL],
        compression=None,
        open_timeout=None,
        close_timeout=1,
        ping_interval=None,
        max_size=max_frame_bytes,
        proxy=None,
        ssl=(tls or True) if url.lower().startswith("wss:") else None,
    )
    if ws.subprotocol != SUBPROTOCOL:
        ws.transport.abort()
        raise ValueError(f"does not speak {SUBPROTOCOL}")
    return ws


def close_code(error: ConnectionClosed) -> int:
    """The code that the server closed with, 1006 where the connection just broke."""
    return error.rcvd.code if error.rcvd is not None else 1006


def close_reason(error: ConnectionClosed) -> str:
    """The words that came with the close code."""
    return error.rcvd.reason if error.rcvd is not None else "connection lost"
