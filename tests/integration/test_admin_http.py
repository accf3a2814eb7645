"""The admin port against connections that say nothing, too little, or what is no HTTP."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from server.admin.app import AdminServer
from server.admin.http import Bounded
from tests.support.admin import TOKEN, TestCluster, TestNode
from tests.support.virtual_time import LoopClock

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def one_node(bounds: dict[str, float] | None = None, **admin: object) -> AsyncIterator[TestNode]:
    async with TestCluster(1, bounds=bounds, **admin) as cluster:
        yield cluster.nodes["node-1"]


async def dial(node: TestNode) -> Streams:
    place = urlsplit(node.admin.url)
    return await asyncio.open_connection(place.hostname, place.port)


async def status(streams: Streams, request: bytes) -> int:
    reader, writer = streams
    writer.write(request)
    async with asyncio.timeout(30):
        line = await reader.readuntil(b"\r\n")
        return int(line.split()[1])


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


async def ended(streams: Streams) -> bool:
    async with asyncio.timeout(30):
        try:
            while await streams[0].read(4_096):
                pass
        except ConnectionError:
            pass
    return True


async def test_silent_connections_give_way() -> None:
    """F50: health, readiness and metrics are answered while they are held."""
    async with one_node({"max_connections": 8}) as node:
        silent = [await dial(node) for _ in range(30)]
        for path in ("/healthz", "/readyz", "/metrics"):
            assert await status(await dial(node), get(path)) == 200
        assert await ended(silent[0])
        assert len(node.admin._server.server_state.connections) <= 8  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "said", [b"", b"GET /healthz HT", b"POST /api/v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"]
)
async def test_a_request_that_does_not_come_is_given_up(said: bytes) -> None:
    """F50."""
    async with one_node({"request_s": 0.1}) as node:
        streams = await dial(node)
        streams[1].write(said)
        assert await ended(streams)
        again = await dial(node)
        assert await status(again, get("/healthz")) == 200
        again[1].write(b"GET")
        assert await ended(again)


async def test_an_idle_connection_is_kept_as_long_as_is_set() -> None:
    """F38: longer than a whole request may take."""
    async with one_node({"request_s": 0.1}, keep_alive_s=1.0) as node:
        streams = await dial(node)
        assert await status(streams, get("/healthz")) == 200
        await asyncio.sleep(0.4)

        streams[1].write(get("/readyz"))
        assert b"HTTP/1.1 200" in await asyncio.wait_for(streams[0].readuntil(b"HTTP/1.1 200"), 30)
        assert await ended(streams)


BROKEN = {
    "bad chunk": get("/healthz", "Transfer-Encoding: chunked") + b"zz\r\n",
    "bad chunk with a token": get("/api/v1/cluster", "Transfer-Encoding: chunked", f"Authorization: Bearer {TOKEN}")
    + b"zz\r\n",
    "no http": b"\x16\x03\x01\r\n\r\n",
}


@pytest.mark.parametrize("what", BROKEN)
async def test_requests_that_are_no_http_get_400_and_a_line_a_second_at_most(
    what: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """F53."""
    caplog.set_level(logging.DEBUG)
    async with one_node() as node:
        for _ in range(20):
            streams = await dial(node)
            assert await status(streams, BROKEN[what]) == 400
            assert await ended(streams)
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) <= 3
    assert all(record.exc_info is None for record in lines)
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


async def test_a_body_in_thousands_of_brackets_is_a_400(capfd: pytest.CaptureFixture[str]) -> None:
    """F53: without a trace in the log."""
    async with one_node() as node:
        body = b"[" * 30_000
        head = f"POST /api/v1/drain HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        assert await status(await dial(node), head.encode() + body) == 400
        assert "Traceback" not in "".join(capfd.readouterr())


async def test_health_is_answered_past_the_bound_of_requests() -> None:
    """F50."""
    gate, answered = asyncio.Event(), list[int]()

    async def slow(scope: object, receive: object, send: object) -> None:
        await gate.wait()
        answered.append(200)

    async def send(message: dict[str, object]) -> None:
        if "status" in message:
            answered.append(int(str(message["status"])))

    bounded = Bounded(slow, 2)  # type: ignore[arg-type]
    paths = ["/api/v1/live", "/api/v1/live", "/api/v1/live", "/healthz"]
    tasks = [asyncio.create_task(bounded({"path": path}, None, send)) for path in paths]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert answered == [503]
    gate.set()
    await asyncio.gather(*tasks)
    assert answered == [503, 200, 200, 200]


async def test_an_heir_listens_on_the_sockets_of_its_predecessor() -> None:
    """Whoever connects between the two waits in the backlog, and is answered by the heir."""
    async with TestCluster(2) as cluster:
        before, heir = cluster.nodes["node-1"].admin, _admin_of(cluster.nodes["node-2"])
        url = before.url
        handed = [socket.socket(fileno=os.dup(sock.fileno())) for sock in before.sockets]
        await before.stop()
        between = await asyncio.open_connection(*handed[0].getsockname())
        heir.adopt(handed)
        assert heir.bind() == url and heir.sockets == handed
        await heir.start()
        assert await status(between, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") == 200
        await heir.stop()


def _admin_of(node: TestNode) -> AdminServer:
    """Another server of the node, not bound yet."""
    metrics = node.system.metrics
    return AdminServer(node.system, node.settings, metrics, LoopClock(), node.supervisor, lambda: "")
