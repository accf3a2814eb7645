"""Both ports behind proxies: who is believed, over real sockets, TLS, HTTP, and real proxies where there are some."""

import asyncio
import errno
import json
import logging
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import structlog
import websockets

from server.actors.app import Action
from server.sessions.picows_driver import PicowsListener
from tests.support.admin import APP, TOKEN, TestCluster, TestNode
from tests.support.certificates import write_self_signed
from tests.support.gateways import KEY, GatewayNode, SocketClient, gateways
from tests.support.ports import free_ports
from tests.support.prefixes import extension, local, version_1, version_2
from tests.support.program import Running, garrison
from tests.support.waiting import until
from tests.unit.test_http_handshake import head

pytestmark = pytest.mark.loops("uvloop")
LOOPBACK = ["127.0.0.0/8", "::1"]
PREFIXES = {
    "version 1": version_1("192.0.2.7", 5000),
    "version 2": version_2("192.0.2.7", 5000),
    "version 2 with extensions": version_2("192.0.2.7", 5000, extension(0xEA, bytes(900))),
}
WRONG = {
    "version 1": b"PROXY TCP4 192.0.2.7\r\n",
    "version 2": b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c" + bytes(12),
    "no end": b"PROXY UNKNOWN ".ljust(200, b"x"),
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_self_signed(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def one_gateway(
    trusted: list[str], certificate: tuple[str, str] | None = None, **gateway: object
) -> AsyncIterator[GatewayNode]:
    if certificate is not None:
        gateway |= {"tls_certificate": certificate[0], "tls_key": certificate[1]}
    async with gateways(sockets=True, gateway=gateway, proxies={"trusted": trusted}) as world:
        yield world.nodes["node-1"]


def port_of(node: GatewayNode) -> int:
    return int(node.url.rpartition(":")[2])


async def dial(port: int, *said: bytes) -> socket.socket:
    """A connection on which each of `said` was sent, and seen to be sent, for itself."""
    loop, sock = asyncio.get_running_loop(), socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for data in said:
        await loop.sock_sendall(sock, data)
    return sock


async def client_on(sock: socket.socket, cafile: str | None = None, **options: Any) -> SocketClient:
    """A client that has a session, over a connection on which a proxy has said all that it wants to say."""
    context = ssl.create_default_context(cafile=cafile) if cafile else None
    ws = await websockets.connect(
        f"{'wss' if cafile else 'ws'}://localhost", sock=sock, ssl=context, compression=None,
        subprotocols=[websockets.Subprotocol("garrison.v1.msgpack")], **options,
    )  # fmt: skip
    client = SocketClient(ws, "p", "player", "msgpack")
    assert (await client.hello())[0] == "welcome"
    return client


async def all_of(sock: socket.socket) -> bytes:
    """Everything that comes up to the end, also where the end is a reset."""
    loop, found = asyncio.get_running_loop(), b""
    async with asyncio.timeout(30):
        with suppress(ConnectionError):
            while data := await loop.sock_recv(sock, 4096):
                found += data
    sock.close()
    return found


def addresses(node: GatewayNode) -> list[str]:
    return [row["address"] for row in node.gateway.session_rows(0, 10, "")]


def refused(node: GatewayNode) -> int:
    return node.metrics.proxy_prefixes_refused_total


# ---- the port of clients ----


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("what", PREFIXES)
async def test_prefix_of_a_trusted_proxy_names_the_client(
    what: str, secure: bool, certificate: tuple[str, str]
) -> None:
    """D16: before TLS, too. The address is that of the operators' list of sessions."""
    cafile = certificate[0] if secure else None
    async with one_gateway(LOOPBACK, certificate if secure else None) as node:
        client = await client_on(await dial(port_of(node), PREFIXES[what]), cafile)
        assert addresses(node) == ["192.0.2.7:5000"]
        await client.ws.close()
        await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]
        single = [bytes([byte]) for byte in PREFIXES[what][:40]] + [PREFIXES[what][40:]]
        again = await client_on(await dial(port_of(node), *single), cafile)
        assert addresses(node) == ["192.0.2.7:5000"]
        await again.ws.close()
        assert refused(node) == 0


@pytest.mark.parametrize("what", PREFIXES)
async def test_tls_in_the_same_segment_as_the_prefix(what: str, certificate: tuple[str, str]) -> None:
    """No byte of the handshake is lost."""
    async with one_gateway(LOOPBACK, certificate) as node:
        loop, sock, prefix = asyncio.get_running_loop(), await dial(port_of(node)), PREFIXES[what]
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=certificate[0])
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

        async def carried(step: Callable[[], Any]) -> Any:
            """The result of a step of TLS, whose bytes go to and fro meanwhile; the first behind the prefix."""
            nonlocal prefix
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    await loop.sock_sendall(sock, prefix + outgoing.read())
                    prefix = b""
                    incoming.write(await loop.sock_recv(sock, 65536))

        async with asyncio.timeout(30):
            await carried(tls.do_handshake)
            tls.write(head() + b"\r\n\r\n")
            assert (await carried(lambda: tls.read(4096))).startswith(b"HTTP/1.1 101 ")
        sock.close()


async def test_proxy_that_speaks_for_itself_or_says_nothing_is_the_peer() -> None:
    async with one_gateway(LOOPBACK) as node:
        for prefix in (local(), b"PROXY UNKNOWN\r\n", b""):
            sock = await dial(port_of(node), prefix)
            here = sock.getsockname()
            client = await client_on(sock)
            assert addresses(node) == [f"127.0.0.1:{here[1]}"]
            await client.ws.close()
            await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("what", WRONG)
async def test_wrong_prefix_closes_with_one_counted_line(what: str, secure: bool, certificate: tuple[str, str]) -> None:
    async with one_gateway(LOOPBACK, certificate if secure else None) as node:
        with structlog.testing.capture_logs() as lines:
            for _ in range(20):
                assert await all_of(await dial(port_of(node), WRONG[what])) == b""
        assert refused(node) == 20
        told = [line for line in lines if line["log_level"] == "warning"]
        assert told and all(line["event"] == "PROXY prefix refused" for line in told) and len(told) <= 3
        assert len(node.listener) == 0  # type: ignore[arg-type]


async def test_prefix_that_does_not_come_is_given_up() -> None:
    async with one_gateway(LOOPBACK, hello_timeout_s=0.3) as node:
        assert await all_of(await dial(port_of(node), PREFIXES["version 2"][:20])) == b""
        assert refused(node) == 1
        assert await all_of(await dial(port_of(node))) == b""
        assert refused(node) == 1


async def test_prefix_of_a_stranger_is_refused() -> None:
    """Also a second one: behind the first, the connection is the client's."""
    for trusted, before in (["10.0.0.0/8"], b""), ([], b""), (LOOPBACK, PREFIXES["version 2"]):
        async with one_gateway(trusted) as node:
            for number, prefix in enumerate(PREFIXES.values(), 1):
                answer = await all_of(await dial(port_of(node), before + prefix + head() + b"\r\n\r\n"))
                assert answer.startswith(b"HTTP/1.1 400 ") and b"proxies.trusted" in answer
                assert refused(node) == number


async def test_prefix_of_a_stranger_is_no_tls(certificate: tuple[str, str]) -> None:
    for trusted in (["10.0.0.0/8"], []):
        async with one_gateway(trusted, certificate) as node:
            assert b"HTTP" not in await all_of(await dial(port_of(node), PREFIXES["version 1"]))
            client = await client_on(await dial(port_of(node)), certificate[0])
            assert addresses(node)[0].startswith("127.0.0.1:")
            await client.ws.close()


HEADERS = {
    "X-Forwarded-For": ({"X-Forwarded-For": "6.6.6.6, 192.0.2.7, 127.0.0.5"}, "192.0.2.7"),
    "Forwarded": ({"Forwarded": 'for="[2001:db8::7]:80";proto=https'}, "[2001:db8::7]:80"),
}


@pytest.mark.parametrize("what", HEADERS)
async def test_headers_count_from_trusted_proxies_only(what: str) -> None:
    headers, client_address = HEADERS[what]
    async with one_gateway(LOOPBACK) as node:
        client = await client_on(await dial(port_of(node)), additional_headers=headers)
        assert addresses(node) == [client_address]
        await client.ws.close()
        await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]
        behind = await client_on(await dial(port_of(node), PREFIXES["version 2"]), additional_headers=headers)
        assert addresses(node) == ["192.0.2.7:5000"]  # the client of the prefix says headers of its own
        await behind.ws.close()
        await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]
        chain = version_1("127.0.0.3", 5000)
        second = await client_on(await dial(port_of(node), chain), additional_headers=headers)
        assert addresses(node) == [client_address]  # a proxy behind a proxy
        await second.ws.close()
    async with one_gateway(["10.0.0.0/8"]) as node:
        client = await client_on(await dial(port_of(node)), additional_headers=headers)
        assert addresses(node)[0].startswith("127.0.0.1:")
        await client.ws.close()


SAID = {
    "a country": ([("x-COUNTRY", "de")], "DE"),
    "nobody knows": ([("X-Country", "XX")], "XX"),
    "none": ([], ""),
    "the client's own and the proxy's": ([("X-Country", "FR"), ("X-Country", "DE")], ""),
    "a list": ([("X-Country", "FR, DE")], ""),
    "no country": ([("X-Country", "<b>")], ""),
    "too long": ([("X-Country", "A" * 17)], ""),
}


async def test_country_counts_from_trusted_proxies_only() -> None:
    async def country(node: GatewayNode, said: list[tuple[str, str]], *prefix: bytes) -> str:
        client = await client_on(await dial(port_of(node), *prefix), additional_headers=said)
        (session,) = node.gateway.table.sessions.values()
        await client.ws.close()
        await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]
        return session.country

    async with one_gateway(LOOPBACK, country_header="X-Country") as node:
        begun: list[str] = []
        node.gateway.table.on_add(lambda session: begun.append(session.country))
        for said, expected in SAID.values():
            assert await country(node, said) == begun.pop() == expected
        # A proxy that says who the client is before HTTP does not look into HTTP: the header may be the client's own.
        assert await country(node, [("X-Country", "DE")], PREFIXES["version 2"]) == ""
        assert await country(node, [("X-Country", "DE")], version_1("127.0.0.3", 5000)) == "DE"
    async with one_gateway(["10.0.0.0/8"], country_header="X-Country") as node:
        assert await country(node, [("X-Country", "DE")]) == ""
    async with one_gateway(LOOPBACK) as node:
        assert await country(node, [("X-Country", "DE")]) == ""


@pytest.mark.parametrize("end", ["client closes", "client resets", "node closes"])
async def test_bytes_of_a_session_are_those_of_its_messages(end: str) -> None:
    async with gateways(sockets=True, gateway={"resume_window_s": 0.1}, columns={"enabled": True}) as world:
        node = world.nodes["node-1"]
        counted: list[tuple[int, int]] = []
        node.gateway.table.on_end(lambda session, _phase, _ending: counted.append(session.traffic()))
        client = await client_on(await dial(port_of(node)))
        (session,) = node.gateway.table.sessions.values()
        came, went = session.traffic()
        for number in range(100, 120):
            message = client.pack(["no.such.request", number, "x" * 1_000])
            await client.send_raw(message)
            answer = await client.receive_raw()
            assert client.unpack(answer)[1] == number
            came, went = came + len(message), went + len(answer)
        assert session.traffic() == (came, went) and came > 20_000
        if end == "client closes":
            await client.ws.close(1000, "bye")
            came += 2 + len("bye")
        elif end == "client resets":
            client.ws.transport.abort()
        else:
            session.end("closed", 4000, "away with you")
        await until(lambda: bool(counted))
        assert counted == [(came, went)]
    async with one_gateway([]) as node:  # without columns nobody counts
        client = await client_on(await dial(port_of(node)))
        (session,) = node.gateway.table.sessions.values()
        assert session.traffic() == (0, 0)
        await client.ws.close()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("trusted", [[], LOOPBACK], ids=["no proxies", "proxies"])
async def test_health_checks_that_open_and_close_leave_no_trace(
    trusted: list[str], secure: bool, certificate: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """D16: with a FIN and with a reset, with and without a LOCAL prefix."""
    caplog.set_level(logging.INFO)
    loop, faults = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: faults.append(context))
    async with one_gateway(trusted, certificate if secure else None) as node:
        with structlog.testing.capture_logs() as lines:
            for prefix in (b"", local()) if trusted else (b"",):
                for linger in (b"", struct.pack("ii", 1, 0)):
                    sock = await dial(port_of(node), prefix)
                    if linger:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    sock.close()
            client = await client_on(await dial(port_of(node)), certificate[0] if secure else None)
            await client.ws.close()
            await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]
        assert [line for line in lines if line["log_level"] not in ("debug", "info")] == []
        assert node.metrics.bad_frames_total == refused(node) == 0
        assert sum(node.metrics.closes_total.values()) == 1  # that of the client
    assert faults == [] and [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_front_takes_connections_in_again_after_there_was_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """F50's kind: at the descriptor limit it says so, and goes on later."""
    monkeypatch.setattr("server.sessions.front.NO_ROOM_S", 0.05)
    async with one_gateway(LOOPBACK) as node:
        listener = node.listener
        assert isinstance(listener, PicowsListener)
        (front,) = listener._accepting._servers
        real, full = front._sock, True  # type: ignore[union-attr]

        class Full:
            def accept(self) -> Any:
                if full:
                    raise OSError(errno.EMFILE, "Too many open files")
                return real.accept()

            def fileno(self) -> int:
                return real.fileno()

            def close(self) -> None:
                real.close()

        front._sock = Full()  # type: ignore[union-attr,assignment]
        with structlog.testing.capture_logs() as lines:
            sock = await dial(port_of(node), PREFIXES["version 1"])
            await until(lambda: bool(lines))
            assert lines[0]["event"] == "no connection can be taken in"
            full = False
            client = await client_on(sock)
        await client.ws.close()


# ---- the port of operators ----


async def greet(context: Any, body: Any) -> dict[str, str]:
    return {"said": "hello"}


class Greeting(msgspec.Struct):
    pass


@asynccontextmanager
async def one_admin(trusted: list[str], **admin: Any) -> AsyncIterator[TestNode]:
    app = msgspec.structs.replace(APP, actions={"greet": Action(greet, Greeting)})
    async with TestCluster(1, app, proxies={"trusted": trusted}, **admin) as cluster:
        yield cluster.nodes["node-1"]


async def greeted_from(http: httpx.AsyncClient, base: str) -> str:
    """The address with which an action by `http` is logged."""
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "6.6.6.6"}
    with structlog.testing.capture_logs() as lines:
        answer = await http.post(f"{base}/api/v1/actions/greet", json={}, headers=headers)
        assert answer.json() == {"said": "hello"}
    (line,) = [line for line in lines if line["event"] == "admin action"]
    return str(line["address"])


async def acted_as(node: TestNode, prefix: bytes = b"", **headers: str) -> str:
    """The address with which an action is logged."""
    place = urlsplit(node.admin.url)
    lines_of = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    request = (
        f"POST /api/v1/actions/greet HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 2\r\n"
        f"Connection: close\r\n{''.join(lines_of)}\r\n{{}}"
    )
    with structlog.testing.capture_logs() as lines:
        answer = await all_of(await dial(int(place.port or 0), prefix, request.encode()))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
    (line,) = [line for line in lines if line["event"] == "admin action"]
    return str(line["address"])


async def test_operator_behind_a_proxy_is_named_in_the_log() -> None:
    async with one_admin(LOOPBACK) as node:
        for prefix in PREFIXES.values():
            assert await acted_as(node, prefix) == "192.0.2.7"
            assert await acted_as(node, prefix, X_Forwarded_For="6.6.6.6") == "192.0.2.7"
        for prefix in (local(), b"PROXY UNKNOWN\r\n", b""):
            assert await acted_as(node, prefix) == "127.0.0.1"
            assert await acted_as(node, prefix, X_Forwarded_For="6.6.6.6, 192.0.2.7, 127.0.0.5") == "192.0.2.7"
            assert await acted_as(node, prefix, Forwarded='for="[2001:db8::7]"') == "2001:db8::7"
        assert node.system.metrics.proxy_prefixes_refused_total == 0


async def test_operators_port_believes_no_stranger(caplog: pytest.LogCaptureFixture) -> None:
    port = urlsplit
    for trusted in ([], ["10.0.0.0/8"]):
        async with one_admin(trusted) as node:
            assert await acted_as(node, X_Forwarded_For="192.0.2.7", Forwarded="for=192.0.2.7") == "127.0.0.1"
            prefix = PREFIXES["version 1"] + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            answer = await all_of(await dial(int(port(node.admin.url).port or 0), prefix))
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert node.system.metrics.proxy_prefixes_refused_total == 1
    async with one_admin(LOOPBACK) as node:
        for number, wrong in enumerate(WRONG.values(), 1):
            assert await all_of(await dial(int(port(node.admin.url).port or 0), wrong)) == b""
            assert node.system.metrics.proxy_prefixes_refused_total == number
    assert all(record.exc_info is None for record in caplog.records)


# ---- the program ----


async def test_setting_reaches_both_ports_of_a_node(tmp_path: Path) -> None:
    values = {
        "security.signing_key": KEY.decode(),
        "store.url": f"sqlite:///{tmp_path}/x.db",
        "gateway.port": "0",
        "admin.port": "0",
        "admin.token": TOKEN,
        "proxies.trusted": "127.0.0.0/8,::1",
    }
    given = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    assert (await asyncio.to_thread(garrison, "migrate", *given, cwd=tmp_path)).returncode == 0
    with Running("node", *given, cwd=tmp_path) as process:
        assert process.process.stdout is not None
        ready = json.loads(await asyncio.to_thread(process.process.stdout.readline))
        gateway, admin = (urlsplit(ready[name]).port or 0 for name in ("client_url", "admin_url"))
        client = await client_on(await dial(gateway, PREFIXES["version 2"]))
        request = (
            f"GET /api/v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        )
        answer = await all_of(await dial(admin, PREFIXES["version 1"], request.encode()))
        assert b'"address":"192.0.2.7:5000"' in answer, answer
        assert b" 400 " in await all_of(await dial(gateway, PREFIXES["version 2"], PREFIXES["version 2"] + b"\r\n\r\n"))
        await client.ws.close()
        process.process.terminate()
        assert (await asyncio.to_thread(process.end))[0] == 0


# ---- real proxies ----

HAPROXY = """
defaults
  timeout connect 2s
  timeout client 20s
  timeout server 20s
frontend one
  mode tcp
  bind 127.0.0.1:{ports[0]}
  default_backend version1
backend version1
  mode tcp
  server a 127.0.0.1:{gateway} send-proxy source 127.0.0.21
frontend two
  mode tcp
  bind 127.0.0.1:{ports[1]}
  default_backend version2
backend version2
  mode tcp
  server a 127.0.0.1:{gateway} send-proxy-v2 proxy-v2-options unique-id,crc32c check inter 50ms source 127.0.0.21
frontend three
  mode http
  bind 127.0.0.1:{ports[2]}
  default_backend headers
backend headers
  mode http
  option forwardfor
  server a 127.0.0.1:{gateway} source 127.0.0.21
frontend four
  mode http
  bind 127.0.0.1:{ports[3]}
  default_backend operators
backend operators
  mode http
  option forwardfor
  server a 127.0.0.1:{admin} source 127.0.0.21
"""
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  proxy_bind 127.0.0.21; proxy_http_version 1.1;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  server {{
    listen 127.0.0.1:{ports[0]};
    location /game {{
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_pass http://127.0.0.1:{gateway};
    }}
    location /taken/ {{ proxy_pass http://127.0.0.1:{admin}/; }}
    location /kept/ {{ proxy_pass http://127.0.0.1:{admin}; }}
  }}
}}
"""
PROXY_ONLY = ["127.0.0.21"]


def program_or_skip(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """A program that listens on `port`."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                break
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.025)
        yield
    finally:
        process.terminate()
        process.wait(10)


async def session_address(node: GatewayNode, url: str, **options: Any) -> str:
    """The address that operators see of a session by `url`, from 127.0.0.77."""
    ws = await websockets.connect(
        url, subprotocols=[websockets.Subprotocol("garrison.v1.msgpack")], compression=None,
        local_addr=("127.0.0.77", 0), **options,
    )  # fmt: skip
    client = SocketClient(ws, "p", "player", "msgpack")
    assert (await client.hello())[0] == "welcome"
    (address,) = addresses(node)
    await ws.close()
    await until(lambda: len(node.listener) == 0)  # type: ignore[arg-type]
    return address


async def test_haproxy(tmp_path: Path) -> None:
    program = program_or_skip("haproxy")
    invented = {"additional_headers": {"X-Forwarded-For": "6.6.6.6"}}
    async with one_gateway(PROXY_ONLY) as node, one_admin(PROXY_ONLY) as operators:
        ports, config = free_ports(4), tmp_path / "haproxy.cfg"
        admin = urlsplit(operators.admin.url).port
        config.write_text(HAPROXY.format(ports=ports, gateway=port_of(node), admin=admin))
        with running([program, "-f", str(config)], ports[0]):
            for port in ports[:2]:
                address = await session_address(node, f"ws://127.0.0.1:{port}", **invented)
                assert address.startswith("127.0.0.77:") and address != "127.0.0.77:0"
            assert await session_address(node, f"ws://127.0.0.1:{ports[2]}", **invented) == "127.0.0.77"
            async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(local_address="127.0.0.77")) as http:
                assert await greeted_from(http, f"http://127.0.0.1:{ports[3]}") == "127.0.0.77"
        assert refused(node) == node.metrics.bad_frames_total == 0  # also by the health checks


async def test_haproxy_before_tls(tmp_path: Path, certificate: tuple[str, str]) -> None:
    program = program_or_skip("haproxy")
    context = ssl.create_default_context(cafile=certificate[0])
    async with one_gateway(PROXY_ONLY, certificate) as node:
        ports, config = free_ports(4), tmp_path / "haproxy.cfg"
        config.write_text(HAPROXY.format(ports=ports, gateway=port_of(node), admin=1))
        with running([program, "-f", str(config)], ports[0]):
            for port in ports[:2]:
                url = f"wss://127.0.0.1:{port}"
                address = await session_address(node, url, ssl=context, server_hostname="localhost")
                assert address.startswith("127.0.0.77:")
        assert refused(node) == 0


async def test_nginx(tmp_path: Path) -> None:
    """Headers, and an admin port below a path that is taken away or passed on."""
    program = program_or_skip("nginx")
    async with one_gateway(PROXY_ONLY) as node, one_admin(PROXY_ONLY, base_path="/kept") as operators:
        (port,), config = free_ports(1), tmp_path / "nginx.conf"
        admin = urlsplit(operators.admin.url).port
        config.write_text(NGINX.format(ports=[port], gateway=port_of(node), admin=admin, folder=tmp_path))
        with running([program, "-p", str(tmp_path), "-c", str(config), "-e", str(tmp_path / "error.log")], port):
            invented = {"additional_headers": {"X-Forwarded-For": "6.6.6.6"}}
            assert await session_address(node, f"ws://127.0.0.1:{port}/game", **invented) == "127.0.0.77"
            async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(local_address="127.0.0.77")) as http:
                for path in ("taken", "kept"):
                    base = f"http://127.0.0.1:{port}/{path}"
                    assert await greeted_from(http, base) == "127.0.0.77"
                    page = await http.get(f"{base}/")
                    assert page.status_code == 200 and "Garrison" in page.text
                    assert (await http.get(f"{base}/static/js/main.js")).status_code == 200
                slash = await http.get(f"{operators.admin.url}/kept")
                assert (slash.status_code, slash.headers["location"]) == (308, "kept/")
                assert (await http.get(f"{operators.admin.url}/readyz")).status_code == 200
